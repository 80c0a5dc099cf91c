"""Which reason codes the program can say, read from its source.

A code is found in two ways, and what either finds must be documented:

* **by place**: the text in the code position of an error class, of a record that carries a code, or of a helper that
  passes its parameter on to one of these. A name is followed to what is assigned to it in the function or the module.
* **by form**: any other text of the form ``two-words``, unless ``NOT_CODES`` says what it is instead.

What the place does not give away (a code put together at run time) stands in ``PUT_TOGETHER``, by hand.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "meshnode"

CARRIERS = {
    "MeshnodeError": 0,
    "Report": 0,
    "Trouble": 0,
    "Ended": 0,
    "DialFailed": 1,
    "report": 0,
    "tell": 0,
    "say": 0,
    "error": 0,
    "count_refusal": 0,
}
"""Callable -> position of the code among its arguments. Subclasses of the errors, and private helpers that pass their
own parameter on, are found by themselves."""

TABLES = {
    "transport/base.py": ("CODES",),
    "discovery/settings.py": ("CODES",),
    "core/groups.py": ("_REASONS",),
    "api/problems.py": ("PROBLEMS",),
    "storage/faults.py": ("_ACTIONS",),
}
"""Dictionaries whose keys are codes."""

PUT_TOGETHER = {
    "VOID_CODES[flags]": ("not-entitled", "names-unseen"),
    "f'{what}-malformed'": ("package-malformed", "body-malformed"),
    "f'unknown-{what.split()[0]}'": ("unknown-incident", "unknown-object", "unknown-attachment"),
    "f'{code}-over'": ("transport-failed-over", "certificate-expired-over", "certificate-not-yet-valid-over"),
}
"""Code expression -> what it can be. A code of the other end, with ``peer-`` in front, needs no row of its own."""

FOLLOWED_BY_HAND = {"code", "self.code", "self._too_large_code"}
"""Code expressions whose values have another way into this list: fields of records that are made by CARRIERS."""

NOT_CODES = {
    "add-to",  # names of commands
    "remove-from",
    "cut-off",  # states of a peer
    "never-reached",
    "man-hunt",  # kinds of incident and collections, outside the schema
    "public-protection",
    "cbrn-e",
    "cap-infos",
    "mdns-stopped",  # how a session ends that was told to stop; nobody reports it
    "latin-1",  # encodings
    "utf-8",
}
"""Text that looks like a code and is none."""

NOT_CODE_PREFIXES = ("mn-", "x-")
"""Domain tags of hashes; free names of fields."""

NOT_CODE_NAMES = ("_NAMESPACE", "_TAG")
"""Endings of constants that are rows of the store, and domain tags of signatures."""

NO_CODES_IN = {"core/schema_fields.py"}
"""The values that fields of incidents take."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef

_FORM = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")


@dataclass
class Said:
    """Code -> where it is said, and what could not be read."""

    places: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    unread: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    """All texts of the form of a code."""


def said_codes() -> Said:
    modules = [_Module(path) for path in sorted(SOURCE.rglob("*.py"))]
    carriers = CARRIERS | dict.fromkeys(_error_classes(modules), 0)
    said = Said()
    for module in modules:
        module.collect_by_place(said, carriers)
        if module.name not in NO_CODES_IN:
            for line, text in module.texts():
                said.texts.add(text)
                if not text.startswith(NOT_CODE_PREFIXES):
                    said.places[text].add(f"{module.name}:{line}")
    for text in NOT_CODES & said.places.keys():
        del said.places[text]
    return said


def _error_classes(modules: list[_Module]) -> set[str]:
    known = {"MeshnodeError"}
    classes = [node for module in modules for node, _ in module.nodes if isinstance(node, ast.ClassDef)]
    for _ in range(4):  # generations of subclasses
        known |= {node.name for node in classes if any(isinstance(b, ast.Name) and b.id in known for b in node.bases)}
    return known


class _Module:
    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(SOURCE).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        self.nodes = list(_walk(tree, None))
        """Each with the innermost function around it."""
        self._constants = _assigned(tree.body)
        self._calls = [(node, function) for node, function in self.nodes if isinstance(node, ast.Call)]

    def texts(self) -> Iterator[tuple[int, str]]:
        """Texts of the form of a code that are no prose, no name of a thread or a row, no member of an Enum."""
        other = {id(node.value) for node, _ in self.nodes if isinstance(node, ast.Expr)}
        for node, _ in self.nodes:
            if isinstance(node, ast.keyword) and node.arg == "name":  # of a thread
                other.add(id(node.value))
            elif isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Enum") for base in node.bases):
                other |= {id(inner) for inner in ast.walk(node)}
        for name, values in self._constants.items():
            if name.endswith(NOT_CODE_NAMES):
                other |= {id(value) for value in values}
        for node, _ in self.nodes:
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and _FORM.fullmatch(value) and id(node) not in other:
                yield node.lineno, value

    def collect_by_place(self, said: Said, carriers: dict[str, int]) -> None:
        carriers = carriers | self._helpers(carriers)
        carriers |= self._helpers(carriers)  # helpers of helpers
        for code, function in self._codes(carriers):
            self._take(code, function, said)
        for table in TABLES.get(self.name, ()):
            for value in self._constants.get(table, ()):
                for key in value.keys if isinstance(value, ast.Dict) else ():
                    if isinstance(key, ast.Constant) and key.value:
                        said.places[key.value].add(f"{self.name}:{key.lineno}")

    def _codes(self, carriers: dict[str, int]) -> Iterator[tuple[ast.expr, _Function | None]]:
        for call, function in self._calls:
            position = carriers.get(_callee(call))
            # With one argument, `report` and its like take a record that was made elsewhere.
            if position is not None and len(call.args) > max(position, _callee(call).islower()):
                yield call.args[position], function

    def _helpers(self, carriers: dict[str, int]) -> dict[str, int]:
        """Functions of this module that hand a parameter on as a code."""
        found = {}
        for code, function in self._codes(carriers):
            if isinstance(code, ast.Name) and function is not None and code.id in _parameters(function):
                names = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
                found[function.name] = names.index(code.id)
        return found

    def _take(self, code: ast.expr, function: _Function | None, said: Said) -> None:
        text = ast.unparse(code)
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            said.places[code.value].add(f"{self.name}:{code.lineno}")
        elif text in PUT_TOGETHER:
            for one in PUT_TOGETHER[text]:
                said.places[one].add(f"{self.name}:{code.lineno}")
        elif isinstance(code, ast.IfExp):
            self._take(code.body, function, said)
            self._take(code.orelse, function, said)
        elif isinstance(code, ast.Call) and _callee(code) == "get" and len(code.args) == 2:
            self._take(code.args[1], function, said)  # the table itself is read by form
        elif isinstance(code, ast.Attribute) and code.attr == "code":
            return  # of an error that was made elsewhere
        elif isinstance(code, ast.Name) and function is not None and code.id in _parameters(function):
            return  # of a helper; its callers are read
        elif isinstance(code, ast.Name) and (values := self._values(code.id, function)):
            for value in values:
                self._take(value, function, said)
        elif text not in FOLLOWED_BY_HAND and not isinstance(code, ast.Call):
            said.unread.append(f"{self.name}:{code.lineno}: {text}")

    def _values(self, name: str, function: _Function | None) -> list[ast.expr]:
        local = _assigned(ast.walk(function)) if function is not None else {}
        return local.get(name) or self._constants.get(name) or []


def _walk(node: ast.AST, function: _Function | None) -> Iterator[tuple[ast.AST, _Function | None]]:
    yield node, function
    inside = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, inside)


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = defaultdict(list)
    for node in nodes:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id].append(node.value)
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for one, value in zip(target.elts, node.value.elts, strict=True):
                    if isinstance(one, ast.Name):
                        found[one.id].append(value)
    return dict(found)


def _parameters(function: _Function) -> set[str]:
    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


def _callee(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""
