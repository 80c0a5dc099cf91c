"""Collects cases. Whoever adds one says whether it is taken or with which code it is refused; the rest is computed."""

from __future__ import annotations

from typing import Any

from vector_case import Case
from vector_checks import outcome

from meshnode.core import codec


class Book:
    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}

    def takes(
        self,
        kind: str,
        name: str,
        about: str,
        cddl: tuple[str, str] | None = None,
        matches: bool = True,
        **given: Any,
    ) -> None:
        """``cddl``: the rule of wire.cddl, and the field of the input that it describes."""
        result = outcome(kind, given)
        if "ok" not in result:
            raise AssertionError(f"{kind}/{name} is refused: {result['refusal']}")
        self._add(Case(kind, name, about, given, result, _described(cddl, matches)))

    def refuses(
        self,
        kind: str,
        code: str,
        name: str,
        about: str,
        cddl: tuple[str, str] | None = None,
        matches: bool = False,
        **given: Any,
    ) -> None:
        """``matches``: wire.cddl takes the bytes all the same, because what is wrong is not a matter of form."""
        result = outcome(kind, given)
        if result != {"refusal": code}:
            raise AssertionError(f"{kind}/{name}: {result} where {code} was expected")
        self._add(Case(kind, name, about, given, result, _described(cddl, matches)))

    def _add(self, case: Case) -> None:
        if case.path in self.cases:
            raise AssertionError(f"two cases are called {case.path}")
        self.cases[case.path] = case


def _described(cddl: tuple[str, str] | None, matches: bool) -> dict[str, Any] | None:
    return None if cddl is None else {"rule": cddl[0], "of": cddl[1], "matches": matches}


def cbor(value: Any) -> str:
    """Hexadecimal canonical bytes."""
    return codec.encode(value).hex()
