"""Drawing SVG by hand: a few shapes, with everything that comes from outside escaped.

Colours are classes of the page's style sheet, so that one drawing serves a light screen, a dark one and paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def number(value: float) -> str:
    """A tenth of a pixel is enough, and short."""
    return f"{value:.1f}".removesuffix(".0")


class Drawing:
    def __init__(self, width: float, height: float, label: str, kind: str = "", *, is_as_drawn: bool = False) -> None:
        """``label`` says what is to be seen, for whoever does not see it. Without ``is_as_drawn`` it takes the width
        that the page has."""
        self._is_as_drawn = is_as_drawn
        self.width = width
        self.height = height
        self._label = label
        self._kind = kind
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "") -> None:
        anchored = f' text-anchor="{anchor}"' if anchor else ""
        self._parts.append(f"<text{_class(kind)}{anchored}{_at(x=x, y=y)}>{escape(text)}</text>")

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "", name: str = "") -> None:
        self._parts.append(f"<line{_name(name)}{_class(kind)}{_at(x1=x1, y1=y1, x2=x2, y2=y2)}/>")

    def rect(self, x: float, y: float, width: float, height: float, kind: str, title: str = "") -> None:
        self._parts.append(_titled("rect", f"{_class(kind)}{_at(x=x, y=y, width=width, height=height)}", title))

    def circle(self, x: float, y: float, radius: float, kind: str, title: str = "", name: str = "") -> None:
        self._parts.append(_titled("circle", f"{_name(name)}{_class(kind)}{_at(cx=x, cy=y, r=radius)}", title))

    def path(self, data: str, kind: str, title: str = "") -> None:
        if data:
            self._parts.append(_titled("path", f'{_class(kind)} d="{data}"', title))

    def runs(self, y: float, spans: Iterable[tuple[float, float]], kind: str, width: float) -> None:
        """Pieces of one thick line, from and to: thousands of them in few bytes."""
        data = "".join(f"M{number(x1)} {number(y)}H{number(x2)}" for x1, x2 in spans)
        if data:
            self._parts.append(f'<path{_class(kind)} stroke-width="{number(width)}" d="{data}"/>')

    def __str__(self) -> str:
        size = f'viewBox="0 0 {number(self.width)} {number(self.height)}"'
        own = f' width="{number(self.width)}"' if self._is_as_drawn else ""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}{own}{_class(self._kind)} role="img"'
        return f'{head} aria-label="{escape(self._label)}">\n' + "\n".join(self._parts) + "\n</svg>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _name(name: str) -> str:
    return f' id="{name}"' if name else ""


def _at(**numbers: float) -> str:
    return "".join(f' {key}="{number(value)}"' for key, value in numbers.items())


def _titled(kind: str, attributes: str, title: str) -> str:
    return f"<{kind}{attributes}><title>{escape(title)}</title></{kind}>" if title else f"<{kind}{attributes}/>"
