"""Small changes to a Python file, each one an edit of a few characters: what `mutants.py` draws from.

Every kind of change is a function from a node of the syntax tree to (old text, new text) spans. What is never changed:
docstrings, annotations, text of messages, what stands for a type checker only, and `zip(strict=...)`, which asserts.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

Edit = tuple[int, int, str]
"""Characters from, to, and what takes their place."""


@dataclass(frozen=True)
class Change:
    """One small change.

    Attributes:
        file: relative to the checkout.
        line: of the change, from 1.
        kind: of change: `compare`, `drop`, ...
        before, after: the changed lines in full, without the space around them.
        start, end, text: the edit.
        statement: the first line of the statement that is changed: who runs it runs the change.
        names: of the constants and functions that a statement outside of functions defines; empty in functions.
        guard: whether it weakens what refuses input (`if ...: raise`, a check that is called) or keeps files safe.
        place: how many equal changes of equal lines come before it in this file.
    """

    file: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    end: int
    text: str
    statement: int
    names: tuple[str, ...] = ()
    guard: bool = False
    place: int = 0

    @property
    def key(self) -> str:
        """The same for as long as the line is, wherever it moves."""
        parts = (self.file, self.kind, self.before, self.after, str(self.place))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def apply(self, source: str) -> str | None:
        """The file with the change; None where it is no program any more, or the same one."""
        changed = source[: self.start] + self.text + source[self.end :]
        try:
            return None if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)) else changed
        except SyntaxError:
            return None


class Source:
    """A file, its tree, and where the nodes stand in its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self._lines = text.splitlines()

    def at(self, line: int, column: int) -> int:
        """The character at a line and a column of bytes, as `ast` counts."""
        return self.starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """From the first character of a node to behind its last."""
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def replaced(self, node: ast.AST, text: str) -> Edit:
        """The edit that puts a text in the place of a node."""
        return (*self.span(node), text)


# ---- kinds of changes

_FLIPS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: (r"not\s+in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}  # fmt: skip

_SIGNS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.LShift: ("<<", ">>"),
}  # fmt: skip

_EITHER_WAY = ("min", "max")
_FOR_PEOPLE = (None, "strict", "encoding", "thread_name_prefix")
"""Arguments without which a program does the same where the tests run (`encoding` is UTF-8 there), or that assert."""

_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}


def _between(source: Source, left: ast.AST, right: ast.AST, pattern: str, text: str) -> Iterator[Edit]:
    start, end = source.span(left)[1], source.span(right)[0]
    if found := re.search(pattern, source.text[start:end]):
        yield start + found.start(), start + found.end(), text


def _compare(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Compare):
        for left, sign, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            pattern, text = _FLIPS[type(sign)]
            yield from _between(source, left, right, pattern, text)


def _sign(source: Source, node: ast.AST) -> Iterator[Edit]:
    """Of numbers and sets; a sign between types, or in a path, only breaks."""
    if not isinstance(node, ast.BinOp) or _TYPES.fullmatch(source.of(node)) or _PATHS.search(source.of(node)):
        return
    if type(node.op) in _SIGNS and not _is_text(node.left) and not _is_text(node.right):
        sign, text = _SIGNS[type(node.op)]
        yield from _between(source, node.left, node.right, re.escape(sign), text)


_TYPES = re.compile(
    r"(?:(?:\w+\.)*(?:[A-Z]\w*|str|int|float|bool|bytes|bytearray|memoryview|list|tuple|dict|set|None)[\s|]*)+"
)
_PATHS = re.compile(r"(?i)\b\w*(path|folder|root|tmp|cache|output|parent|mount|top)\b\s*/|/\s*f?[\"']|Path\(.*/")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _logic(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield from _between(source, node.values[0], node.values[1], old, new)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield source.replaced(node, f"({source.of(node.operand)})")


def _number(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield source.replaced(node, str(not node.value))
    elif isinstance(node.value, int):
        yield source.replaced(node, str(node.value + 1))
        if node.value > 0:
            yield source.replaced(node, str(node.value - 1))
    elif isinstance(node.value, float):
        yield source.replaced(node, repr(node.value * 2 or 1.0))


def _word(source: Source, node: ast.AST) -> Iterator[Edit]:
    """Text that a program compares with or looks up; messages are for people."""
    inside: list[ast.AST] = []
    if isinstance(node, ast.Compare):
        inside = [node.left, *node.comparators]
    elif isinstance(node, ast.Subscript):
        inside = [node.slice]
    for part in inside:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield source.replaced(part, repr(part.value + "x"))


def _condition(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.If | ast.IfExp):
        yield source.replaced(node.test, "True")
        yield source.replaced(node.test, "False")
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield source.replaced(test, "True")


def _drop(source: Source, node: ast.AST) -> Iterator[Edit]:
    effects = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom)
    if isinstance(node, ast.Raise | ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, effects[:2])
    ):
        yield source.replaced(node, "pass")
    if isinstance(node, ast.Continue | ast.Break):
        yield source.replaced(node, "pass")
    if isinstance(node, ast.Return) and node.value is None:
        yield source.replaced(node, "pass")
    if isinstance(node, ast.With) and all(item.optional_vars is None for item in node.items):
        yield source.span(node.items[0].context_expr)[0], source.span(node.items[-1].context_expr)[1], _NOTHING


_NOTHING = "__import__('contextlib').nullcontext()"


def _call(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Call):
        return
    plain = [arg for arg in node.args if not isinstance(arg, ast.Starred)]
    if len(plain) >= 2 and source.of(node.func) not in _EITHER_WAY and source.of(plain[0]) != source.of(plain[1]):
        start, end = source.span(plain[0])[0], source.span(plain[1])[1]
        between = source.text[source.span(plain[0])[1] : source.span(plain[1])[0]]
        yield start, end, f"{source.of(plain[1])}{between}{source.of(plain[0])}"
    for keyword in node.keywords:
        if keyword.arg not in _FOR_PEOPLE and not isinstance(keyword.value, ast.JoinedStr):
            start, end = source.span(keyword)
            rest = re.match(r"\s*,\s*", source.text[end:])
            yield start, end + (rest.end() if rest else 0), ""
    if isinstance(node.func, ast.Name) and node.func.id in _TWINS:
        yield source.replaced(node.func, _TWINS[node.func.id])


_DEFAULTS = {"bool": "False", "int": "0", "float": "0.0", "str": "''", "bytes": "b''", "list": "[]", "tuple": "()"}
_DEFAULTS |= {"dict": "{}", "set": "set()", "Path": "Path()", "Mapping": "{}", "Sequence": "[]"}


def _answer(source: Source, node: ast.AST) -> Iterator[Edit]:
    """Of a function: every `return` but those in functions within it."""
    if not isinstance(node, ast.FunctionDef) or node.returns is None:
        return
    written = source.of(node.returns).strip("\"'")
    name = re.split(r"\W", written, maxsplit=1)[0]
    texts = [_DEFAULTS[name]] if name in _DEFAULTS else []
    texts += ["True"] if name == "bool" else []
    texts += ["None"] if re.search(r"\|\s*None$", written) else []
    for found in _own(node):
        if isinstance(found, ast.Return) and found.value is not None:
            yield from (source.replaced(found.value, text) for text in texts)


def _own(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own(child)


def _handler(source: Source, node: ast.AST) -> Iterator[Edit]:
    """One kind of error less that is caught."""
    if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Tuple):
        for place in (0, len(node.type.elts) - 1):
            rest = [source.of(kind) for index, kind in enumerate(node.type.elts) if index != place]
            yield source.replaced(node.type, f"({', '.join(rest)},)")


KINDS: dict[str, Callable[[Source, ast.AST], Iterator[Edit]]] = {
    "compare": _compare,
    "sign": _sign,
    "logic": _logic,
    "number": _number,
    "word": _word,
    "condition": _condition,
    "drop": _drop,
    "call": _call,
    "answer": _answer,
    "handler": _handler,
}
"""Kind of change -> the edits that it makes of a node."""


# ---- of a whole file


def changes(root: Path, path: Path) -> list[Change]:
    """All small changes of a file in the order of their lines; of some, `apply` finds that they are none."""
    source = Source(path.read_text(encoding="utf-8"))
    found: list[Change] = []
    seen: dict[tuple[str, str, str], int] = {}
    for node, statement, names in _walk(source.tree):
        for kind, edits in KINDS.items():
            for start, end, text in edits(source, node):
                change = _change(source, path.relative_to(root).as_posix(), kind, (start, end, text), statement, names)
                same = (kind, change.before, change.after)
                place = seen[same] = seen.get(same, -1) + 1
                found.append(replace(change, place=place))
    return sorted(found, key=lambda change: (change.line, change.start))


def _change(source: Source, file: str, kind: str, edit: Edit, statement: ast.stmt, names: tuple[str, ...]) -> Change:
    start, end, text = edit
    line, last = (source.text.count("\n", 0, place) + 1 for place in (start, end))
    first, behind = source.starts[line - 1], source.starts[last]
    after = source.text[first:start] + text + source.text[end:behind]
    before = _plain(source.text[first:behind])
    guard = _refuses(statement) or bool(_GUARDS.search(before))
    return Change(file, line, kind, before, _plain(after), start, end, text, statement.lineno, names, guard)


_GUARDS = re.compile(
    r"sync\(|\b_?(check|refuse|require)_\w*\(|\bappend\(path|\.replace\(path\)|replac(e|ing)_(file|folder)\("
)


def _refuses(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise) or (
        isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Raise) and not statement.orelse
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt, tuple[str, ...]]]:
    """(node, the statement it is in, names of an import-time statement) of what may be changed."""
    for statement in tree.body:
        yield from _statement(statement, (), False)


def _statement(
    statement: ast.stmt, outer: tuple[str, ...], in_function: bool
) -> Iterator[tuple[ast.AST, ast.stmt, tuple[str, ...]]]:
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Assert) or _is_for_types(statement):
        return
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):  # a docstring, or `...`
        return
    names = () if in_function else (*outer, *_defined(statement))
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        own = (*outer, statement.name)
        defaults = [*statement.args.defaults, *filter(None, statement.args.kw_defaults), *statement.decorator_list]
        for expression in defaults:
            yield from _nodes(expression, statement, () if in_function else own)
        yield statement, statement, ()
        for child in statement.body:
            yield from _statement(child, own, True)
        return
    if isinstance(statement, ast.ClassDef):
        if not any("Protocol" in ast.dump(base) for base in statement.bases):
            for child in statement.body:
                yield from _statement(child, (*outer, statement.name), in_function)
        return
    yield statement, statement, names
    for child in ast.iter_child_nodes(statement):
        if child is getattr(statement, "annotation", None):
            continue
        if isinstance(child, ast.stmt):
            yield from _statement(child, outer, in_function)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            yield child, statement, names
            for inner in child.body:
                yield from _statement(inner, outer, in_function)
        elif isinstance(child, ast.withitem):
            yield from _nodes(child.context_expr, statement, names)
        elif isinstance(child, ast.expr):
            yield from _nodes(child, statement, names)


def _defined(statement: ast.stmt) -> tuple[str, ...]:
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return tuple(
        node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)
    ) or ("",)


def _is_for_types(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"


def _nodes(
    expression: ast.AST, statement: ast.stmt, names: tuple[str, ...]
) -> Iterator[tuple[ast.AST, ast.stmt, tuple[str, ...]]]:
    """The parts of an expression but the text of messages: in f-strings, and in what is raised."""
    if isinstance(expression, ast.JoinedStr) or (isinstance(statement, ast.Raise) and isinstance(expression, ast.Call)):
        return
    if isinstance(expression, ast.keyword) and expression.arg == "strict":
        return
    yield expression, statement, names
    for child in ast.iter_child_nodes(expression):
        yield from _nodes(child, statement, names)
