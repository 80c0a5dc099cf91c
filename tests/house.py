"""Reads the project's own source for tests/test_house.py: modules, what they import, their functions and comments.

Every rule is a function from a ``Source`` to the violations in it, so that each can be shown a planted one.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("meshnode", "simulations", "tests")
TEXT = ("*.py", "*.md", "*.toml", "*.cddl", "*.mjs", "*.js", "*.json", "*.service", "*.socket", "*.conf", "*.lock")
SKIPPED = {"node_modules", "__pycache__", "build", "dist", "data", "vectors"}
"""Not ours, or not text: installed packages, what builds leave, collected alerts, generated vectors."""


@dataclass(frozen=True)
class Source:
    """One Python file. ``path`` is relative to the project, with slashes."""

    path: str
    text: str

    @property
    def module(self) -> str:
        """Dotted name: ``meshnode.core.ids``; a package is named without its ``__init__``."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    def at(self, line: int, what: str) -> str:
        return f"{self.path}:{line}: {what}"

    def comments(self, about: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """(line, comment) where the pattern is found. Files without it are not taken apart, which is slow."""
        if not about.search(self.text):
            return
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT and about.search(token.string):
                yield token.start[0], token.string

    @cached_property
    def functions(self) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """With the names of what they stand in: ``Class.method``, ``outer.inner``. Inner ones come after outer ones."""
        return list(_functions(self.tree, ""))

    def function_at(self, line: int) -> str:
        """The name of the innermost function that has this line; empty at the top."""
        around = [name for name, function in self.functions if function.lineno <= line <= (function.end_lineno or 0)]
        return around[-1] if around else ""


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}".lstrip(".")
            if not isinstance(child, ast.ClassDef):
                yield name, child
        yield from _functions(child, name)


def sources(*folders: str) -> list[Source]:
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def texts() -> Iterator[tuple[str, str]]:
    """(path, content) of everything people read: code, documents, settings, units."""
    for pattern in TEXT:
        for path in sorted(ROOT.rglob(pattern)):
            inside = path.relative_to(ROOT)
            if not any(part in SKIPPED or part.startswith(".") for part in inside.parts):
                yield inside.as_posix(), path.read_text(encoding="utf-8", errors="replace")
    for name in ("Makefile", ".ci/run"):
        if (ROOT / name).exists():
            yield name, (ROOT / name).read_text(encoding="utf-8")


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, also of those inside functions. Names that are modules are resolved."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}" if _is_module(f"{base}.{alias.name}") else base


def _is_module(dotted: str) -> bool:
    path = ROOT / dotted.replace(".", "/")
    return not dotted.startswith(".") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def is_under(module: str, roots: tuple[str, ...] | frozenset[str]) -> bool:
    return any(module == root or module.startswith(root + ".") for root in roots)


# --- rules ------------------------------------------------------------------------------------------------------------

SILENCER = re.compile(r"#\s*(?:ruff:\s*)?noqa\b|#\s*type:\s*ignore\b")
REASONED = re.compile(
    # What is silenced, then " - reason" or "(reason)"; the same for the type checker.
    r"#\s*(?:ruff:\s*)?noqa:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*\s+[-(#].*\w{3,}"
    r"|#\s*type:\s*ignore\[[a-z-]+(?:,\s*[a-z-]+)*\]\s+[-(#].*\w{3,}"
)
LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def silencers_without_reason(source: Source) -> Iterator[str]:
    for line, comment in source.comments(SILENCER):
        if not REASONED.search(comment):
            yield source.at(line, comment)


def unfinished(source: Source) -> Iterator[str]:
    for line, comment in source.comments(LATER):
        yield source.at(line, comment)
    for node in source.nodes:
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
            yield source.at(node.lineno, "raises NotImplementedError")


def long_files(source: Source, lines_max: int) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > lines_max:
        yield f"{source.path}: {lines} lines"


def long_functions(source: Source, lines_max: int) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > lines_max:
                yield source.at(node.lineno, f"{node.name} has {lines} lines")


def broad_handlers(source: Source) -> Iterator[tuple[str, str]]:
    """(function, violation) of every handler that may swallow what it does not know.

    A handler whose last statement is a bare ``raise`` only cleans up, and passes.
    """
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                what = ast.unparse(node.type) if node.type else "everything"
                yield source.function_at(node.lineno), source.at(node.lineno, f"catches {what}")
        elif isinstance(node, ast.Call) and _last_name(node.func) == "suppress" and any(map(_is_broad, node.args)):
            yield source.function_at(node.lineno), source.at(node.lineno, "suppresses everything")


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_broad(element) for element in caught.elts)
    return caught is None or _last_name(caught) in ("Exception", "BaseException")


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def calls(source: Source, *names: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every use of these dotted names, called or passed on; and of their import by name."""
    last_names = {name.rpartition(".")[2] for name in names}
    if not any(name in source.text for name in last_names):
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node.attr in last_names and ast.unparse(node) in names:
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in names:
                    yield node.lineno, f"{node.module}.{alias.name}"


def foreign_to_the_core(source: Source, stdlib_allowed: frozenset[str]) -> Iterator[str]:
    """Everything in which a room of the core could wait, ask the world, or be different from one run to the next."""
    for line, module in imports(source):
        top = module.split(".")[0]
        if top not in ("meshnode", "cbor2", "nacl", "cryptography") and module not in stdlib_allowed:
            yield source.at(line, f"imports {module}")
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Global):
            yield source.at(getattr(node, "lineno", 0), f"{type(node).__name__} in the core")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            impure = called in ("open", "print", "input", "hash", "id", "breakpoint", "exec", "eval")
            drawn = called.startswith("random.") or called.endswith((".generate", ".urandom", ".randombytes"))
            timed = called.startswith("datetime.") and called != "datetime.fromisoformat"
            if impure or drawn or timed:
                yield source.at(node.lineno, f"calls {called}()")
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if (text.startswith("sys.") and text != "sys.intern") or (
                text.startswith("random.") and text != "random.Random"
            ):
                yield source.at(node.lineno, f"uses {text}")
