"""YAML text -> a bounded tree in which every key and value knows its place.

YAML is read by events and with the scalars of YAML 1.2's core schema (``1e-4`` is a number, ``no``
a text). Everything that copies, hides or types text is refused: anchors, merge keys, tags,
directives, further documents, duplicate keys. Hostile text costs at most a fraction of a second:
bytes, depth and the number of values are bounded while the events come, so that a parser never
gets to build what is too deep for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import yaml

from arspec.diagnostics import Diagnostic, Span, SpecError, error, lines_of

MAX_BYTES = 1_000_000
MAX_DEPTH = 60
MAX_VALUES = 50_000
MAX_INTEGER = 10**15
MAX_ERRORS = 20

Plain = None | bool | int | float | str


@dataclass(frozen=True)
class Scalar:
    """A single value. `text` is what the user wrote, without quotation marks ("" if nothing).

    `span` begins at the quotation mark, if there is one; where nothing is written, it is the key's.
    """

    value: Plain
    text: str
    span: Span = field(default=Span(), compare=False)
    quoted: bool = False

    @property
    def inner(self) -> Span:
        """The place of `text`'s first character: the origin for what is parsed inside it."""
        if not self.quoted:
            return self.span
        return Span(self.span.line, self.span.column + 1, max(self.span.length - 2, 1))


@dataclass(frozen=True)
class Mapping:
    """Keys and values in the order written; keys are texts, each once."""

    items: tuple[tuple[Scalar, Tree], ...]
    span: Span = field(default=Span(), compare=False)

    @cached_property
    def _entries(self) -> dict[str, tuple[Scalar, Tree]]:
        return {key.text: (key, value) for key, value in self.items}

    def get(self, key: str) -> Tree | None:
        """The value of `key`, or None."""
        entry = self._entries.get(key)
        return entry[1] if entry else None

    def key(self, key: str) -> Scalar | None:
        """The key's own node, or None."""
        entry = self._entries.get(key)
        return entry[0] if entry else None


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple[Tree, ...]
    span: Span = field(default=Span(), compare=False)


Tree = Scalar | Mapping | Sequence
Path = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""


def decode(data: bytes, filename: str = "<spec>") -> str:
    """The text of a file's bytes. Raises SpecError if it is too large or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise SpecError([error("AR002", None, limit=f"{MAX_BYTES:,}")], filename)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as found:
        before = data[: found.start].decode("utf-8")
        line = lines_of(before)
        bad = error(
            "AR001",
            Span(len(line), len(line[-1]) + 1),
            byte=f"0x{data[found.start]:02x}",
            offset=found.start,
            help="save the file as UTF-8",
        )
        raise SpecError([bad], filename, data.decode("utf-8", errors="replace")) from None


def load(text: str, filename: str = "<spec>") -> Tree:
    """The tree of a spec's text. Raises SpecError with every error found, and nothing else."""
    # a text may have fewer characters than bytes, never more: so the first test is free
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SpecError([error("AR002", None, limit=f"{MAX_BYTES:,}")], filename)
    lines = lines_of(text)
    errors = list(islice(_forbidden_text(lines), MAX_ERRORS))
    if not errors:
        reader = _Reader(lines)
        tree = reader.document()
        errors = reader.errors
    if errors:
        raise SpecError(errors, filename, text)
    return tree


# ------------------------------------------------------------------------------- before the parser

_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)


def _forbidden_text(lines: Items[str]) -> Iterator[Diagnostic]:
    for number, line in enumerate(lines, 1):
        for found in _FORBIDDEN.finditer(line):
            yield error("AR003", Span(number, found.start() + 1), character=_code_point(found[0]))
            break  # one per line tells enough
        if line.startswith("%"):
            yield error("AR015", Span(number, 1, len(line)), help="a comment begins with `#`")


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


# ------------------------------------------------------------------------------------------ events


class _Stop(Exception):
    """Reading on makes no sense; the reason is in the reader's errors."""


class _Reader:
    """Builds the tree from the parser's events, collecting errors on the way."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.errors: list[Diagnostic] = []
        self.values = 0
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.events: Iterator[Any] = yaml.parse("\n".join(lines), Loader=loader)

    def document(self) -> Tree:
        tree: Tree = Scalar(None, "")
        try:
            self.next()  # the start of the stream
            start = self.next()
            if isinstance(start, yaml.DocumentStartEvent):
                tree = self.tree(self.next(), depth=0)
                self.next()  # the end of the document
                follows = self.next()
                if not isinstance(follows, yaml.StreamEndEvent):
                    self.report("AR006", self.span(follows))
            if isinstance(tree, Scalar) and not self.errors:
                if tree.value is None:
                    self.report("AR005", None)
                self.refuse_tight_colon(tree)
        except _Stop:
            pass
        return tree

    def next(self) -> Any:
        """The next event; the parser works no farther than that."""
        try:
            return next(self.events)
        except yaml.MarkedYAMLError as found:
            if "nesting depth" in (found.problem or ""):  # a bound of the parser's own
                place = _place(found.problem_mark, self.lines)
                self.report("AR012", place, limit=MAX_DEPTH)
            else:
                self.errors.append(_syntax_error(found, self.lines))
        except yaml.YAMLError as found:
            self.report("AR004", None, problem=str(found).splitlines()[0])
        raise _Stop

    def report(self, code: str, span: Span | None, **options: Any) -> None:
        self.errors.append(error(code, span, **options))
        if len(self.errors) >= MAX_ERRORS:
            raise _Stop

    def tree(self, event: Any, depth: int, missing: Span | None = None) -> Tree:
        """The tree that begins with `event`; `missing` is its place if nothing is written there."""
        self.values += 1
        if self.values > MAX_VALUES:
            self.report("AR013", self.span(event), limit=f"{MAX_VALUES:,}")
            raise _Stop
        if depth > MAX_DEPTH:
            self.report("AR012", self.span(event), limit=MAX_DEPTH)
            raise _Stop
        self.refuse_properties(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(event, depth)
        return self.scalar(event, missing)

    def refuse_properties(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            cure = "an expression begins with a name or a number; what repeats is a block"
            self.report("AR010", self.span(event), name=f"*{event.anchor}", help=cure)
            return
        if event.anchor is not None:
            cure = "what repeats is a block: name it under `blocks`, apply it with `use`"
            self.report("AR010", self.span(event), name=f"&{event.anchor}", help=cure)
        if event.tag is not None:
            cure = "remove the tag; a text that begins with `!` needs quotation marks"
            self.report("AR009", self.span(event), tag=event.tag, help=cure)

    def scalar(self, event: Any, missing: Span | None) -> Scalar:
        if isinstance(event, yaml.AliasEvent):
            return Scalar(None, "", self.span(event))
        text: str = event.value
        quoted = bool(event.style)
        written = quoted or event.start_mark.index != event.end_mark.index
        span = self.span(event) if written or missing is None else missing
        if not written and missing is None and span.column > 1:  # behind the dash of an empty item
            span = replace(span, column=span.column - 1)
        if hidden := _FORBIDDEN.search(text):  # written as an escape: "\0"
            self.report("AR003", span, character=_code_point(hidden[0]))
        value = text if quoted else resolve(text)
        if _too_large(value):
            self.report("AR014", span, number=text)
        return Scalar(value, text, span, quoted)

    def sequence(self, event: Any, depth: int) -> Sequence:
        items: list[Tree] = []
        call = _CutCall(self) if event.flow_style else None
        while not isinstance(inner := self.next(), yaml.SequenceEndEvent):
            items.append(self.tree(inner, depth + 1))
            if call:
                call.see(items[-1])
        return Sequence(tuple(items), self.first_line(event, inner, items))

    def mapping(self, event: Any, depth: int) -> Mapping:
        items: dict[str, tuple[Scalar, Tree]] = {}
        nodes: list[Tree] = []
        call = _CutCall(self) if event.flow_style else None
        while not isinstance(inner := self.next(), yaml.MappingEndEvent):
            key = self.tree(inner, depth + 1)
            cut = call.see(key) if call else False
            name = None if cut else self.key(key, items)
            value = self.tree(self.next(), depth + 1, missing=key.span)
            cut = call.see(value) if call else False
            nodes += [key, value]
            if name is None:
                continue
            items[name.text] = (name, value)
            if call and not cut and value == Scalar(None, ""):
                self.refuse_tight_colon(name)
        return Mapping(tuple(items.values()), self.first_line(event, inner, nodes))

    def key(self, key: Tree, earlier: dict[str, tuple[Scalar, Tree]]) -> Scalar | None:
        """`key` as a name that is not among the earlier ones; else None, and an error."""
        if not isinstance(key, Scalar) or not isinstance(key.value, str) or not key.text:
            self.report("AR008", key.span, kind=_kind(key), help="a name begins with a letter")
            return None
        if key.text == "<<" and not key.quoted:
            self.report("AR011", key.span, help="write the keys out, or use `defaults` or a block")
            return None
        if key.text in earlier:
            first = earlier[key.text][0].span
            self.report(
                "AR007",
                key.span,
                key=key.text,
                label="again here",
                extra=[(first, "first here")],
            )
            return None
        return key

    def refuse_tight_colon(self, lone: Scalar) -> None:
        """`lone` has no value: perhaps because ``key:value`` is written without a blank."""
        if not lone.quoted and re.match(r"[^\s:]+:[^\s:]", lone.text):
            blank = lone.text.replace(":", ": ", 1)
            self.report("AR017", lone.span, key=lone.text, help=f"write `{blank}`")

    def span(self, event: Any) -> Span:
        """The first line of what the event covers."""
        start, end = event.start_mark, event.end_mark
        stop = end.column
        if end.line != start.line:
            stop = len(self.lines[start.line].rstrip())
        return Span(start.line + 1, start.column + 1, max(stop - start.column, 1))

    def first_line(self, start: Any, end: Any, nodes: Items[Tree]) -> Span:
        """The span of a list or mapping: from its start to the end of what stands on that line."""
        opening = self.span(start)
        stops = [opening.column + opening.length]
        stops += [n.span.column + n.span.length for n in nodes if n.span.line == opening.line]
        if start.flow_style and end.end_mark.line + 1 == opening.line:
            stops.append(end.end_mark.column + 1)
        return Span(opening.line, opening.column, max(stops) - opening.column)


class _CutCall:
    """Finds the pieces of ``f(a, b)``, which flow style has cut at the comma."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.pieces: list[Scalar] = []
        self.errors_before = 0

    def see(self, node: Tree) -> bool:
        """Takes the next scalar; whether it ends a call that an earlier one began."""
        if not isinstance(node, Scalar) or node.quoted or not node.text:
            return False
        balance = node.text.count("(") - node.text.count(")")
        if balance > 0:
            self.pieces = [node]
            self.errors_before = len(self.reader.errors)
        elif self.pieces and len(self.pieces) < 10:
            self.pieces.append(node)
        if balance >= 0 or len(self.pieces) < 2:
            return False
        first, *_, last = self.pieces
        del self.reader.errors[self.errors_before :]  # about the pieces, taken for keys
        self.reader.report(
            "AR016",
            first.span,
            label="begins here",
            extra=[(last.span, "and goes on here")],
            cut=", ".join(piece.text for piece in self.pieces),
            help="no commas in expressions: a range is `1..512`, as in `doubling(1..512)`",
        )
        self.pieces = []
        return True


def _kind(tree: Tree) -> str:
    match tree:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=bool()):
            return f"the truth value `{tree.text}`"
        case Scalar(value=int() | float()):
            return f"the number `{tree.text}`"
    return "nothing"


# ----------------------------------------------------------------------------------- syntax errors

# words of the parser, the character at which it stopped ("": any) -> what to do; the first counts
_HELP = (
    ("cannot start any token", "\t", "indent with blanks; YAML allows no tabs there"),
    ("cannot start any token", "", "put the text between quotation marks"),
    ("mapping values", "", "one `key: value` a line, aligned; quote a text that has a colon"),
    ("escape character", "", "between double quotation marks, a backslash is written `\\\\`"),
    ("quoted scalar", "", "close the quotation mark"),
    ("flow mapping", "[", "expressions have no brackets: one step back is `x(time - 1)`"),
    ("flow mapping", "", "close the `{`, and separate entries by commas"),
    ("flow sequence", "[", "expressions have no brackets: one step back is `x(time - 1)`"),
    ("flow sequence", "", "close the `[`, and separate entries by commas"),
    ("node content", "", "a value is missing here, or a bracket has no partner"),
    ("simple key", "", "write `key: value`, with a blank after the colon"),
    ("block mapping", "", "lines of one body begin in the same column, each as `name: value`"),
    ("block collection", "", "entries of one list begin in the same column, each with `- `"),
    ("block sequence", "", "entries of one list begin in the same column, each with `- `"),
    ("alias", "", "an expression begins with a name or a number, not with `*`"),
    ("anchor", "", "anchors (`&`) are not part of the language"),
)
_REST = "nothing may follow a closing quotation mark or bracket; write one expression, unquoted"


def _syntax_error(found: yaml.MarkedYAMLError, lines: list[str]) -> Diagnostic:
    words = f"{found.context or ''} {found.problem or ''}"
    marks = [found.problem_mark, found.context_mark]
    if "simple key" in words:  # the parser notices it only on the next line
        marks = [found.context_mark]
    span, *context = [_place(mark, lines) for mark in marks if mark is not None]
    before, at = lines[span.line - 1][: span.column - 1], lines[span.line - 1][span.column - 1 :]
    cure = next((h for said, first, h in _HELP if said in words and at.startswith(first)), None)
    if "block mapping" in words and before.strip():
        cure = _REST
    extra = [(place, "begins here") for place in context if place != span]
    return error("AR004", span, extra=extra, help=cure, problem=found.problem or found.context)


def _place(mark: Any, lines: list[str]) -> Span:
    """A mark of the parser; one that lies behind the text is moved to its last line."""
    row = min(mark.line, len(lines) - 1)
    column = mark.column
    if row != mark.line or (row == len(lines) - 1 and not lines[row]):
        row = max((i for i, line in enumerate(lines) if line.strip()), default=0)
        column = len(lines[row])
    return Span(row + 1, min(column, len(lines[row])) + 1)


# ----------------------------------------------------------------------------------------- scalars

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Plain] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def resolve(text: str) -> Plain:
    """The value of an unquoted scalar by YAML 1.2's core schema, section 10.3.2.

    Infinities and not-a-number stay text: no number of a spec is one. An integer too long to be
    allowed is returned as infinity.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 40:
            return math.inf
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _too_large(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) > MAX_INTEGER
    return isinstance(value, float) and not math.isfinite(value)


# ---------------------------------------------------------------------------- to and from Python


def plain(tree: Tree) -> Any:
    """The tree as dict, list and scalars."""
    match tree:
        case Scalar():
            return tree.value
        case Sequence():
            return [plain(item) for item in tree.items]
        case Mapping():
            return {key.text: plain(value) for key, value in tree.items}


def from_plain(value: object) -> Tree:
    """The tree of a spec given as dict, list (or tuple) and scalars, within the bounds of `load`.

    It has no text, so its spans are empty. Raises SpecError naming the path; a cycle shows as too
    much depth.
    """
    return _Converter().tree(value, ())


class _Converter:
    def __init__(self) -> None:
        self.values = 0

    def tree(self, value: object, path: tuple[str, ...]) -> Tree:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.failure("AR013", path, limit=f"{MAX_VALUES:,}")
        if len(path) > MAX_DEPTH:
            raise self.failure("AR012", path, limit=MAX_DEPTH)
        if isinstance(value, dict):
            items = ((self.key(k, path), self.tree(v, (*path, str(k)))) for k, v in value.items())
            return Mapping(tuple(items))
        if isinstance(value, list | tuple):
            inner = enumerate(value)
            return Sequence(tuple(self.tree(v, (*path, str(i))) for i, v in inner))
        return self.scalar(value, path)

    def key(self, key: object, path: tuple[str, ...]) -> Scalar:
        if not isinstance(key, str) or not key:
            raise self.failure("AR008", path, kind="empty" if key == "" else type(key).__name__)
        found = self.scalar(key, path)
        return Scalar(found.text, found.text)

    def scalar(self, value: object, path: tuple[str, ...]) -> Scalar:
        match value:
            case None:
                return Scalar(None, "null")
            case bool():
                return Scalar(value, "true" if value else "false")
            case int() | float() if _too_large(value):
                raise self.failure(
                    "AR014", path, number=repr(value) if isinstance(value, float) else "..."
                )
            case int():
                return Scalar(int(value), str(int(value)))
            case float():
                return Scalar(float(value), repr(float(value)))
            case str():
                if found := _FORBIDDEN.search(value):
                    raise self.failure("AR003", path, character=_code_point(found[0]))
                return Scalar(str(value), str(value))
        raise self.failure("AR018", path, type=type(value).__name__)

    def failure(self, code: str, path: tuple[str, ...], **fields: Any) -> SpecError:
        place = " -> ".join(path[:6]) + (" -> ..." if len(path) > 6 else "")
        return SpecError([error(code, None, notes=[f"at: {place}"] if path else [], **fields)])


# ----------------------------------------------------------------------------------------- walking


def locate(tree: Tree, path: Items[str | int]) -> Tree:
    """The node at a path of keys and indices, as far as the path exists."""
    for step in path:
        match tree:
            case Mapping():
                inner = tree.get(str(step))
            case Sequence() if isinstance(step, int) and 0 <= step < len(tree.items):
                inner = tree.items[step]
            case _:
                inner = None
        if inner is None:
            break
        tree = inner
    return tree


def locate_key(tree: Tree, path: Items[str | int]) -> Scalar | None:
    """The node of the key that a path ends with, or None if it is no key of the tree."""
    if not path:
        return None
    for step in path[:-1]:
        inner = locate(tree, [step])
        if inner is tree:
            return None
        tree = inner
    return tree.key(str(path[-1])) if isinstance(tree, Mapping) else None
