"""Diagnostics: spans, codes, message texts and their rendering, all in one room.

A stage never words an error itself: it says `error("AR104", span, key=...)`, and the text comes
from `MESSAGES` below, the only place where message texts live; docs/errors.md is `errors_page()`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NoReturn


@dataclass(frozen=True, slots=True)
class Span:
    """A place in the user's text. Lines and columns count from 1; `length` in characters."""

    line: int = 1
    column: int = 1
    length: int = 1


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `label` stands beside the mark of `span`; `extra` are further labelled spans.

    Each of `notes` prints as a line ``= ...`` (begin it with its name: ``path: a -> b``), `help`
    as the last one. Without a span there is no frame.
    """

    code: str
    severity: str
    message: str
    span: Span | None = None
    label: str = ""
    extra: tuple[tuple[Span, str], ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What a code means. `text` is a format string; `example` a few lines of YAML that cause it."""

    title: str
    text: str
    cause: str
    cure: str
    example: str = ""


class SpecError(Exception):
    """The spec is wrong. `str()` of it is the rendered report.

    A stage that knows neither file nor text leaves them out; whoever does raises
    ``SpecError(found.diagnostics, filename, text) from None``.
    """

    def __init__(
        self, diagnostics: Iterable[Diagnostic], filename: str = "<spec>", text: str = ""
    ) -> None:
        self.diagnostics = tuple(diagnostics)
        self.filename = filename
        self.text = text
        super().__init__(self.diagnostics, filename, text)

    def __str__(self) -> str:
        return render(self.diagnostics, self.filename, self.text)


def error(
    code: str,
    span: Span | None,
    *,
    label: str = "",
    extra: Iterable[tuple[Span, str]] = (),
    notes: Iterable[str] = (),
    help: str | None = None,
    **fields: Any,
) -> Diagnostic:
    """The diagnostic `code` at `span`; `fields` fill its text. KeyError on an unknown code."""
    message = MESSAGES[code].text.format(**{k: shorten(str(v)) for k, v in fields.items()})
    return Diagnostic(code, "error", message, span, label, tuple(extra), tuple(notes), help)


def refuse(
    code: str,
    span: Span | None,
    *,
    notes: Iterable[str] = (),
    help: str | None = None,
    **fields: Any,
) -> NoReturn:
    """Raise SpecError with this one error."""
    raise SpecError([error(code, span, notes=notes, help=help, **fields)])


def note(code: str, span: Span | None, **fields: Any) -> Diagnostic:
    """Like `error`, but nothing is wrong: it is something that the user should know."""
    return replace(error(code, span, **fields), severity="note")


def shorten(text: str, limit: int = 80) -> str:
    """`text`, its middle left out where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    kept = limit - 3
    return text[: kept - kept // 3] + "..." + text[len(text) - kept // 3 :]


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, letter case aside; None if none is near.

    Near is one edit per three characters: insert, delete, replace or swap neighbours (Damerau 1964,
    in the restricted form). Of equally near names the alphabetically first wins.
    """
    if len(name) > 60:
        return None
    allowed = 1 if len(name) == 2 else len(name) // 3
    sized = (k for k in known if abs(len(k) - len(name)) <= allowed)
    distance, best = min(((_edits(name.lower(), k.lower()), k) for k in sized), default=(99, ""))
    return best if distance <= allowed else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The help that proposes the nearest known name, if there is one."""
    near = nearest_name(name, known)
    return f"did you mean `{near}`?" if near else None


def _edits(a: str, b: str) -> int:
    two_above: list[int] = []
    above = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        row = [i]
        for j in range(1, len(b) + 1):
            best = min(above[j - 1] + (a[i - 1] != b[j - 1]), above[j] + 1, row[j - 1] + 1)
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 1] + b[j - 2]:
                best = min(best, two_above[j - 2] + 1)
            row.append(best)
        two_above, above = above, row
    return above[-1]


# --------------------------------------------------------------------------------------- rendering

SHOWN = 20  # diagnostics in one report
WINDOW = 96  # characters shown of a long line

Paint = Callable[[str, str], str]

_COLOURS = {"error": "1;31", "note": "1;36", "frame": "1;34", "message": "1"}


def lines_of(text: str) -> list[str]:
    """The lines that spans count: no byte order mark; LF, CRLF and CR end a line, nothing else."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def printable(text: str) -> str:
    """`text` with everything that could steer a terminal written as an escape."""
    return "".join(_shown(c) for c in text)


def render(diagnostics: Iterable[Diagnostic], filename: str, text: str, color: bool = False) -> str:
    """The report: one frame per diagnostic, in rustc's form, without a final line break.

    `text` is the whole source; "" if there is none, as for a spec given as a dict: then no frames.
    """
    found = tuple(diagnostics)
    lines = lines_of(text) if text else []
    paint = _coloured if color else _plain
    blocks = [_block(d, filename, lines, paint) for d in found[:SHOWN]]
    if len(found) > SHOWN:
        blocks.append(f"... and {len(found) - SHOWN} more")
    return "\n\n".join(blocks)


def _plain(role: str, text: str) -> str:
    return text


def _coloured(role: str, text: str) -> str:
    return f"\033[{_COLOURS[role]}m{text}\033[0m" if text else ""


@dataclass(frozen=True, slots=True)
class _Mark:
    span: Span
    label: str
    sign: str  # what underlines it: ^ for the place itself, - for the others


def _block(found: Diagnostic, filename: str, lines: list[str], paint: Paint) -> str:
    out = [
        paint(found.severity, f"{found.severity}[{found.code}]")
        + paint("message", f": {printable(found.message)}")
    ]
    marks: dict[int, list[_Mark]] = {}
    if found.span is not None:
        marks[found.span.line] = [_Mark(found.span, found.label, "^")]
    for span, label in found.extra:
        marks.setdefault(span.line, []).append(_Mark(span, label, "-"))
    numbers = sorted(n for n in marks if 1 <= n <= len(lines))
    pad = " " * len(str(numbers[-1] if numbers else 1))
    bar = paint("frame", f"{pad} |")

    if found.span is not None and lines:
        place = f"{printable(filename)}:{found.span.line}:{found.span.column}"
        out.append(paint("frame", f"{pad}--> ") + place)
    if numbers:
        out.append(bar)
        for last, number in zip([numbers[0] - 1, *numbers], numbers, strict=False):
            if number == last + 2:
                out += _source(last + 1, lines[last], [], len(pad), paint)
            elif number > last + 2:
                out.append(paint("frame", "..."))
            out += _source(number, lines[number - 1], marks[number], len(pad), paint)
        if found.notes or found.help:
            out.append(bar)
    remarks = [*found.notes, f"help: {found.help}"] if found.help else found.notes
    out += [paint("frame", f"{pad} = ") + printable(remark) for remark in remarks]
    return "\n".join(out)


def _source(number: int, line: str, marks: list[_Mark], width: int, paint: Paint) -> list[str]:
    """A line of the user's text and, under it, one row for each mark."""
    first = _window_start(line, marks)
    shown = line[first : first + WINDOW]
    before = "..." if first else ""
    after = "..." if first + len(shown) < len(line) else ""
    row = before + printable(shown).rstrip() + after
    out = [paint("frame", f"{number:>{width}} |") + (f" {row}" if row else "")]
    for mark in marks:
        # a mark may stand just behind the line ("something is missing here"), no farther
        start = min(max(mark.span.column - 1 - first, 0), len(shown))
        stop = min(max(mark.span.column - 1 - first + mark.span.length, start), len(shown))
        indent = " " * (len(before) + _width(shown[:start]))
        sign = mark.sign * max(_width(shown[start:stop]), 1)
        label = f" {printable(mark.label)}" if mark.label else ""
        role = "error" if mark.sign == "^" else "frame"
        bar = paint("frame", " " * width + " |")
        out.append(f"{bar} {indent}{paint(role, sign + label)}")
    return out


def _window_start(line: str, marks: list[_Mark]) -> int:
    """Where the shown part of a long line begins: a little before its first mark."""
    if len(line) <= WINDOW or not marks:
        return 0
    leftmost = min(mark.span.column - 1 for mark in marks)
    return max(0, min(leftmost - WINDOW // 4, len(line) - WINDOW))


def _shown(character: str) -> str:
    """One character as it is printed: a tab is four blanks, what cannot be seen an escape."""
    if character == "\t":
        return "    "
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def _width(text: str) -> int:
    """The columns that `text` takes in a terminal, once printed."""
    return sum(_columns(c) for c in printable(text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


# ---------------------------------------------------------------------------------------- messages

SECTIONS = {
    "AR0": "YAML and text",
    "AR1": "Structure of a spec",
    "AR2": "Causality",
    "AR3": "Shapes, clocks and masks",
    "AR4": "Expressions and numbers",
    "AR5": "Building",
    "AR6": "Files and usage",
    "AR9": "Notes",
}

MESSAGES: dict[str, Message] = {
    # AR0xx: YAML and text ------------------------------------------------------------------------
    "AR001": Message(
        "not UTF-8",
        "the spec is not UTF-8 text: byte {byte} at offset {offset}",
        "The file holds bytes that are not UTF-8: another encoding, or not a text file at all.",
        "Save the file as UTF-8.",
    ),
    "AR002": Message(
        "spec too large",
        "the spec is larger than {limit} bytes",
        "No model needs a spec of that size; probably it is the wrong file.",
        "Give the path of a spec. What repeats is written once, with `repeat`.",
    ),
    "AR003": Message(
        "character not allowed",
        "character {character} is not allowed in a spec",
        "Control characters, byte order marks in the middle of a text, line separators other than "
        "LF and CRLF, and marks that change the direction of writing can make a text read "
        "differently from what it says.",
        "Remove the character.",
    ),
    "AR004": Message(
        "not valid YAML",
        "not valid YAML: {problem}",
        "The text does not follow YAML's grammar at this place.",
        "Follow the help. The usual reasons: a tab in the indentation, no blank after a colon, a "
        "bracket or quotation mark that is not closed, `[ ]` inside an expression.",
        "network:\n  out: {of: x[time - 1]}",
    ),
    "AR005": Message(
        "empty spec",
        "the spec is empty",
        "There is nothing in the file but blanks and comments.",
        "Write a spec, or start from a shipped one: `arspec list` names them.",
    ),
    "AR006": Message(
        "several documents",
        "a second document begins here",
        "`---` begins another YAML document; a spec is one document.",
        "Keep one spec in one file.",
    ),
    "AR007": Message(
        "duplicate key",
        "key `{key}` is written twice",
        "YAML would silently keep only one of them. One name is one node.",
        "Rename or remove one of the two.",
        "network:\n  out: {conv: 2}\n  out: {linear: 8}",
    ),
    "AR008": Message(
        "key is not a name",
        "a key must be a name, not {kind}",
        "Keys are names. YAML reads this one as something else: a number, a truth value, nothing, "
        "or a list.",
        "Give it a name that begins with a letter.",
        "params: {3: 64}",
    ),
    "AR009": Message(
        "YAML tag",
        "tags such as `{tag}` are not allowed",
        "A YAML tag changes what a value is. A spec is plain text, numbers, lists and mappings.",
        "Remove the tag; a text that begins with `!` needs quotation marks.",
    ),
    "AR010": Message(
        "YAML anchor or alias",
        "anchors and aliases such as `{name}` are not allowed",
        "YAML's `&` and `*` copy parts of a text unseen.",
        "Write what repeats as a block under `blocks` and apply it with `use`; write a product "
        "as `a * b`, beginning with its first factor.",
    ),
    "AR011": Message(
        "YAML merge key",
        "the merge key `<<` is not allowed",
        "`<<` copies the keys of another mapping unseen.",
        "Write the keys out, or put what is common under `defaults` or in a block.",
    ),
    "AR012": Message(
        "nested too deep",
        "nested deeper than {limit} levels",
        "Lists and mappings stand inside each other deeper than any model needs.",
        "Name the inner parts: one line, one node; what repeats is a block.",
    ),
    "AR013": Message(
        "too many values",
        "the spec has more than {limit} values",
        "No model needs a spec of that size.",
        "Write what repeats once, with `repeat`.",
    ),
    "AR014": Message(
        "number too large",
        "number `{number}` is too large",
        "A whole number may have at most 15 digits, any other must be below 1e308.",
        "Write the number that is meant; a text of digits needs quotation marks.",
    ),
    "AR015": Message(
        "YAML directive",
        "a line must not begin with `%`",
        "`%` begins a directive to the YAML reader; a spec has none.",
        "Remove the line; a comment begins with `#`.",
    ),
    "AR016": Message(
        "cut at a comma",
        "`{cut}` is cut at its comma",
        "Between `{ }` or `[ ]`, YAML takes a comma as the end of an entry, also inside "
        "parentheses. Therefore no expression has a comma.",
        "A function has one argument: a range is `doubling(1..512)`. The signature of a block "
        "stands on a line of its own, outside `{ }`.",
        "stack: {use: layer, repeat: {dilation: doubling(1, 512)}}",
    ),
    "AR017": Message(
        "no blank after a colon",
        "`{key}` has no blank after its colon",
        "YAML separates key and value by a colon and a blank; without it, all is one key.",
        "Write `{key: value}`, with a blank.",
        "out: {conv: {time:0..1}}",
    ),
    "AR018": Message(
        "value of an unsupported type",
        "a spec cannot hold a value of type `{type}`",
        "A spec given as a Python object consists of dict, list, str, int, float, bool and None; "
        "numbers are finite.",
        "Convert the value.",
    ),
    # AR1xx: structure of a spec -------------------------------------------------------------------
    "AR101": Message(
        "unknown key",
        "unknown key `{key}`",
        "The language has no such key at this place: a slip, or a key of another op.",
        "Take the name that the help suggests, or drop the key.",
        "network:\n  stem: {conv: 2, dilatoin: 4}",
    ),
    "AR102": Message(
        "missing key",
        "`{key}` is missing",
        "Something that must be said is not.",
        "Add the key.",
    ),
    "AR103": Message(
        "wrong type",
        "`{key}` should be {expected}",
        "The value is of another kind than the key takes.",
        "Write a value of the kind that the message names.",
        "network:\n  stem: {linear: [64]}",
    ),
    "AR104": Message(
        "not a line",
        "{what}",
        "The value of a line is a mapping with exactly one op key, a list (a chain), or a text "
        "(an equation).",
        "Give the line one op, or split it into several lines.",
        "network:\n  stem: {conv: 2, linear: 64}",
    ),
    "AR105": Message(
        "unknown name",
        "unknown name `{name}`",
        "No line above, no parameter of the block, no param, variable or axis has that name.",
        "Correct the name. A block sees the network's lines only through its parameters.",
        "network:\n  out: tanh(fliter)",
    ),
    "AR106": Message(
        "name not allowed",
        "`{name}` cannot be a name here: {why}",
        "Names become attributes of a Python class, and some are taken.",
        "Choose another name.",
        "network:\n  train: {linear: 64}",
    ),
    "AR107": Message(
        "name taken",
        "`{name}` is already the name of {other}",
        "A name means one thing: it never hides another.",
        "Rename one of the two.",
    ),
    "AR108": Message(
        "line that nobody reads",
        "nobody reads `{name}`",
        "The line is computed for nothing: no other line reads it, and it is not the output.",
        "Read it, or drop it.",
    ),
    "AR109": Message(
        "malformed signature",
        "`{key}` is not a block's signature",
        "A block is declared with its parameters.",
        "Write `layer(x, dilation=1)`.",
        "blocks:\n  layer(x y):\n    out: x",
    ),
    "AR110": Message(
        "cycle",
        "it needs itself: {cycle}",
        "A block that applies itself, or params that are defined by each other, have no end.",
        "Break the cycle.",
    ),
    "AR111": Message(
        "wrong arguments",
        "block `{block}` {what}",
        "What a `use` line passes does not fit the block's signature.",
        "Pass what the signature names.",
    ),
    "AR112": Message(
        "condition never used",
        "variable `{name}` is never read",
        "It is declared, and neither generated nor read by any line that is used.",
        "Read it, or drop its declaration.",
    ),
    "AR113": Message(
        "knowledge not stated",
        "`{name}` shares the axis `{axis}` with the generated variable: when is it known",
        "A condition on the clock of what is drawn can leak the future as the target can; only you "
        "know how much of it exists when a position is drawn.",
        "Add `known: all`, `present`, `past` or `+n` to the variable.",
        "variables:\n  audio: {classes: 256, axes: [time]}\n"
        "  mel: {features: 80, axes: [time / 256]}",
    ),
    "AR114": Message(
        "wrong kind of value",
        "{what}",
        "A node, a number, a list and an axis are different things.",
        "Write a value of the kind that is needed here.",
    ),
    "AR115": Message(
        "not a schedule",
        "wrong lists in `repeat`: {what}",
        "What changes with a repetition is a list, and all lists are equally long.",
        "Write `repeat: {dilation: doubling(1..512)}`.",
    ),
    "AR116": Message(
        "too much",
        "{what}: the limit is {limit}",
        "Bounds keep a slip of the pen from filling the memory.",
        "Write a smaller model.",
        "network:\n  layers: {use: layer, repeat: 1000000}",
    ),
    "AR117": Message(
        "never used",
        "{what} `{name}` is never used",
        "It is declared and nothing refers to it.",
        "Use it, or drop it.",
    ),
    "AR118": Message(
        "wrong variable",
        "variable `{name}`: {why}",
        "The declaration of a variable contradicts itself.",
        "Correct the declaration.",
        "variables:\n  x: {classes: 4, levels: 4, axes: [time]}",
    ),
    "AR119": Message(
        "cannot be generated",
        "`{name}` cannot be generated: {why}",
        "Only a variable with axes is drawn position by position.",
        "Give it axes, or generate another one.",
    ),
    "AR120": Message(
        "wrong order",
        "wrong order: {what}",
        "An order lists every axis of the variable, each alone or in a sum, `channel` last.",
        "Write for example `order: [row, col, channel]`.",
    ),
    "AR121": Message(
        "wrong head",
        "`{name}` cannot be the head here",
        "There is no such distribution, or it does not fit the kind of the variable.",
        "Choose a head for the variable's kind: symbols, levels or features.",
    ),
    "AR122": Message(
        "unknown parameter",
        "the spec has no parameter `{name}`",
        "What is set from outside must be one of `params`.",
        "Correct the name, or add it to `params`.",
    ),
    "AR123": Message(
        "cannot be taken apart",
        "{names} names for {parts} values",
        "A key with commas takes a value apart: an op's output, or the outputs of a block.",
        "Write as many names as there are values.",
    ),
    "AR124": Message(
        "value from outside",
        "`{name}={value}` cannot be set: {why}",
        "What is set from outside is a number, an expression over params, or a span.",
        "Write for example `--set depth=6` or `--set inner=4*d`.",
    ),
    # AR2xx: causality -----------------------------------------------------------------------------
    "AR201": Message(
        "reads the future",
        "`{head}` at {here} depends on `{variable}` at {there}",
        "What is drawn at a position must depend on earlier positions only; along this path "
        "it depends on its own value or on later ones. The mark shows the read at which the "
        "path gets ahead for the last time.",
        "Narrow the window so that it ends at the present, shift one of the lines on the path "
        "back by a position, or let the op read the past only.",
    ),
    "AR202": Message(
        "reads a condition before it is known",
        "`{head}` at {here} depends on `{variable}` at {there}, but it is known {known}",
        "The condition shares an axis with what is generated, and its declaration says up to "
        "where it is known when a position is drawn. Along this path more of it is read.",
        "Narrow the window or shift the condition back, or declare `known: all` if it really "
        "is known in advance.",
    ),
    "AR203": Message(
        "recursion that cannot be computed",
        "`{name}` cannot be computed: {why}",
        "A recursion has to lead back in some order of computation: it may come from earlier "
        "positions, or from one side, but not from its own position nor from both sides.",
        "Shift the name where it is used: `x(time - 1)` is its value one position earlier.",
    ),
    # AR3xx: shapes, clocks and masks --------------------------------------------------------------
    "AR301": Message(
        "widths do not meet",
        "widths do not meet in {what}: {left} and {right}",
        "Nodes that are combined have equally many features, or one.",
        "Project one of them with `{linear: width}`.",
    ),
    "AR302": Message(
        "clocks do not meet",
        "clocks do not meet in {what}: {left} and {right}",
        "Nodes that are combined live on the same grid.",
        "Repeat the slower one with `{up: rate}`, or pass it with `given`.",
    ),
    "AR303": Message(
        "even window",
        "a centred window cannot have an even size: {size}",
        "A window is centred on its position, in one dimension without a mask, in several always; "
        "an even one has no centre.",
        "Write an odd size, or the span itself, such as `-1..2`.",
    ),
    "AR304": Message(
        "mask that leaves nothing",
        "mask {mask} leaves nothing of the window",
        "Every position of the window lies in the future.",
        "Widen the window, or write the span that you mean.",
    ),
    "AR305": Message(
        "condition on a faster clock",
        "`{name}` has a faster clock than the line that it is given to",
        "`given` repeats a slower clock; it does not choose among the values of a faster one.",
        "Pool or stride the condition down to the line's clock first.",
    ),
    "AR306": Message(
        "repetitions differ",
        "repetition {index} of `{name}` would get other masks than the one before it",
        "The first repetition reads the variable itself (mask A), later ones read features "
        "(mask B).",
        "Write the first repetition out as a line of its own.",
    ),
    "AR307": Message(
        "not symbols",
        "`embed` needs symbols",
        "Only a variable with `classes` is embedded; features are projected.",
        "Use `{linear: width}`.",
    ),
    "AR308": Message(
        "no such axis",
        "`{name}` has no axis for {axis} (it has {axes})",
        "A window, a shift or a rate names an axis that its input does not have.",
        "Name one of the input's axes.",
    ),
    "AR309": Message(
        "channel groups do not meet",
        "features of different channel groups meet in {what}",
        "Where channels are drawn in order, features belong to channels; adding a feature of red "
        "to one of blue would mix them.",
        "Project one side with `{linear: width}` first.",
    ),
    "AR310": Message(
        "not divisible",
        "{width} features cannot be divided into {parts} equal parts",
        "Heads and groups share the features equally.",
        "Choose a width that is a multiple of their number.",
    ),
    "AR312": Message(
        "value out of range",
        "`{setting}` is {value}: it should be {need}",
        "The setting only takes values in a certain range.",
        "Choose a value in that range.",
    ),
    "AR313": Message(
        "setting without effect",
        "`{setting}` has no effect on this `{op}`",
        "The op takes the setting, but not in the form that it has here: a mask beside `over`, a "
        "bias of an RMS norm, a mask on an unordered `linear`.",
        "Drop the setting.",
    ),
    # AR4xx: expressions and numbers --------------------------------------------------------------
    "AR401": Message(
        "empty expression",
        "an expression is missing",
        "There is no text where a name, a number or an expression should stand.",
        "Write an expression, e.g. `tanh(filter) * sigmoid(gate)`.",
    ),
    "AR402": Message(
        "expression too long",
        "an expression may have at most {limit} {what}",
        "The expression is longer, or nested deeper, than anyone can read.",
        "Split it: give its parts names, one line each.",
    ),
    "AR403": Message(
        "not part of an expression",
        "`{found}` is not part of an expression",
        "Expressions consist of names, numbers, `+ - * / **`, `++` (stack features), `or`, `a..b` "
        "(a range), functions of one argument and shifts such as `x(time - 1)`. They have no "
        "commas, brackets, comparisons or conditions.",
        "Follow the help.",
        "network:\n  out: x ^ 2",
    ),
    "AR404": Message(
        "Python keyword",
        "`{name}` is a Python keyword, not a name",
        "Names become attributes of the emitted Python module.",
        "Choose another name, e.g. with `_` appended.",
    ),
    "AR405": Message(
        "malformed expression",
        "expected {expected}, found {found}",
        "The expression stops making sense at this place.",
        "Check for a missing operator, a missing operand or a parenthesis that is not closed.",
        "network:\n  out: (a + b",
    ),
    "AR406": Message(
        "unknown function",
        "unknown function `{name}`",
        "A name followed by parentheses is a function, or shifts along an axis, as in "
        "`x(time - 1)`. This is neither.",
        "Functions: relu tanh sigmoid silu gelu gelu_tanh elu concat_elu softplus exp log sqrt sum "
        "last mean reversed doubling sinusoidal.",
        "network:\n  out: tanhh(x)",
    ),
    "AR407": Message(
        "only names are shifted",
        "only a name can be followed by `(`",
        "`(` after a name shifts it along an axis, or calls a function; after anything else it "
        "means nothing.",
        "Give the part a line of its own and shift its name; write a product with `*`.",
        "network:\n  out: (a + b)(time - 1)",
    ),
    "AR410": Message(
        "not a number",
        "{what} is not a number",
        "A number is needed here: digits, parameters, `+ - * / **` and exp, log, sqrt.",
        "Use only these.",
    ),
    "AR411": Message(
        "division by zero",
        "`{expression}` divides by zero",
        "The divisor is zero with these parameters.",
        "Change the parameters or the expression.",
    ),
    "AR412": Message(
        "number out of range",
        "`{expression}` is too large",
        "Whole numbers are limited to 1e15, others to 1e308.",
        "Change the parameters or the expression.",
    ),
    "AR413": Message(
        "number undefined",
        "`{expression}` has no value: {reason}",
        "The operation is not defined for real numbers at this place.",
        "Change the parameters or the expression.",
    ),
    # AR5xx: building ------------------------------------------------------------------------------
    "AR501": Message(
        "no code yet",
        "{what} cannot be compiled yet",
        "The language has it and the proof covers it, but this version has no code for it.",
        "`arspec check-causality` works; for code, write the model without it.",
    ),
    # AR6xx: files and usage ----------------------------------------------------------------------
    "AR601": Message(
        "unknown spec",
        "there is no shipped spec called `{name}`",
        "A SPEC without a YAML suffix and without a directory is the name of a shipped spec, "
        "unless a file of that name exists here.",
        "`arspec list` names the shipped specs; a file of yours is given by its path.",
    ),
    "AR602": Message(
        "spec cannot be read",
        "cannot read `{name}`: {reason}",
        "The operating system does not give out the contents of the file.",
        "Check the path and the permissions.",
    ),
    "AR603": Message(
        "file not generated by arspec",
        "`{name}` was not generated by arspec, and is not overwritten",
        "The file to be written already exists, and arspec did not write it: it holds somebody's "
        "work.",
        "Write to another file with `-o FILE`. `--force` replaces it; its contents are then lost.",
    ),
    "AR604": Message(
        "file edited by hand",
        "`{name}` was edited since it was generated, and is not overwritten",
        "The text of the file no longer has the hash that stands in its header.",
        "Write to another file with `-o FILE` and compare the two, or move the change into the "
        "spec. `--force` replaces the file; the edits are then lost.",
    ),
    "AR605": Message(
        "file cannot be written",
        "cannot write `{name}`: {reason}",
        "The operating system does not let the file be written. Nothing was changed.",
        "Check that the directory exists and may be written to, or choose another with `-o FILE`.",
    ),
    "AR606": Message(
        "weights cannot be read",
        "cannot read weights from `{name}`: {reason}",
        "Weights are safetensors files. This is none, or one that was cut off, or the operating "
        "system does not give it out.",
        "Check the path, or write the file again: `arspec.save`, `safetensors.torch.save_file`.",
    ),
    "AR607": Message(
        "weights and spec do not fit",
        "the weights in `{name}` do not fit `{spec}`: `{first}` {what}",
        "Names and shapes of the weights must be those of the model. This is the first that is "
        "not.",
        "Set the parameters of the spec, with `--set`, as they were when the weights were saved; "
        "or give the weights file as SPEC if `arspec.save` wrote it.",
    ),
    "AR608": Message(
        "no spec in a weights file",
        "`{name}` holds weights, but no spec",
        "A weights file can stand alone if `arspec.save` wrote it, which stores the spec inside.",
        "`arspec sample SPEC --weights FILE` takes any safetensors file with the right names.",
    ),
    "AR609": Message(
        "stored spec changed",
        "the spec that is stored in `{name}` cannot be trusted: {reason}",
        "The file was changed after `arspec.save` wrote it, or a later version of the language "
        "reads the spec in another way.",
        "Take the original file, or give the spec itself: `arspec sample SPEC --weights FILE`.",
    ),
    "AR610": Message(
        "model without its spec",
        "this `{type}` was not built by arspec, and has no spec to save",
        "`arspec.save` takes a model from `arspec.build` or `arspec.load`, not a wrapper around "
        "one, nor a module imported from a generated file.",
        "Save the model inside the wrapper (`model.module`); or write `model.state_dict()` with "
        "`safetensors.torch.save_file` and sample with `arspec sample SPEC --weights FILE`.",
    ),
    "AR611": Message(
        "weights that are no numbers",
        "`{tensor}` in `{name}` is not finite: it holds infinities or not-a-number",
        "The training that made the weights diverged. Whatever is drawn from them means nothing.",
        "Take an earlier checkpoint.",
    ),
    "AR612": Message(
        "input cannot be read",
        "cannot read `{name}` for {option}: {reason}",
        "A prompt, mask or condition comes from a `.npy` file, or from one that suits the "
        "variable: `.png` for images, `.wav` for audio with `codec: mu_law`, any file for text "
        "with `codec: bytes`.",
        "Check the path and the kind of file.",
    ),
    "AR613": Message(
        "input does not fit",
        "{option} does not fit `{variable}`: {reason}",
        "The size, the kind or the values are not those that the spec declares for the variable.",
        "`arspec show SPEC` and the spec's `variables` say what is expected.",
    ),
    "AR614": Message(
        "condition missing",
        "the model needs the condition `{name}`: {what}",
        "The spec declares a variable that is not generated: every sample is drawn given its "
        "value.",
        "Give it: `--given NAME=VALUE`, or `--given NAME=FILE`.",
    ),
    "AR615": Message(
        "unknown condition",
        "`{name}` is no condition of the model",
        "`--given` names a variable of the spec that is not generated.",
        "The help names the conditions, if there are any.",
    ),
    "AR616": Message(
        "shape unknown or impossible",
        "cannot draw `{variable}`: {reason}",
        "How many positions are drawn is given by `--shape`, or follows from a mask, from a "
        "condition on the same axis or from a table of positions. A prompt is shorter.",
        "Say `--shape 16000` for one axis, `--shape 28x28` for two.",
    ),
    "AR617": Message(
        "option without effect",
        "{option} has no effect here: {reason}",
        "The option is for other models or for other formats.",
        "Leave it out.",
    ),
    "AR618": Message(
        "format does not suit",
        "cannot write `{variable}` as {format}: {reason}",
        "PNG holds images (two axes; levels, or classes with two values; one channel or three), "
        "WAV sound (one axis), text a variable with `codec: bytes`. `.npy` holds anything.",
        "Name OUT with another suffix, or give `--format npy`.",
    ),
    "AR619": Message(
        "sampling failed",
        "sampling failed: {reason}",
        "PyTorch stopped while the samples were drawn; nothing was written.",
        "Out of memory: fewer samples (`-n`) or a smaller `--shape`. `ARSPEC_DEBUG=1` shows where.",
    ),
    "AR620": Message(
        "device not available",
        "cannot use the device `{name}`: {reason}",
        "PyTorch does not find it on this machine, or was installed without support for it.",
        "`--device cpu` always works.",
    ),
    "AR621": Message(
        "output is an input",
        "`{name}` is an input of this command, and is not overwritten",
        "The samples would take the place of the spec, the weights, the prompt, the mask or a "
        "condition.",
        "Write to another file with `-o FILE`.",
    ),
    # AR9xx: notes ---------------------------------------------------------------------------------
    "AR901": Message(
        "reaches no head",
        "{names} {verb} no head",
        "It is computed, and its weights exist, but the output does not depend on it: the last "
        "layer's residual in WaveNet, the last vertical gate in Gated PixelCNN.",
        "Nothing to do if the paper has it so.",
    ),
    "AR902": Message(
        "mask stricter than needed",
        "mask {mask} cuts positions that could be read: {offsets}",
        "The input is already delayed, so that the proof would allow what the mask hides.",
        "Write the window literally, as the help shows, if you want to read them.",
    ),
    "AR903": Message(
        "random parameters",
        "the parameters of `{name}` are random: nothing was learned, and the samples show it",
        "`arspec sample` was given a spec without weights.",
        "`--weights FILE`, or a file that `arspec.save` wrote instead of SPEC.",
    ),
    "AR904": Message(
        "weights of another spec",
        "the weights in `{name}` were saved for another spec than this `{spec}`; they fit it",
        "The file holds a spec with another hash. Names and shapes of the weights are the same, "
        "but what is computed with them may differ: an activation, a dilation, a mask.",
        "Give the weights file as SPEC to use the spec that is stored in it.",
    ),
}


def errors_page() -> str:
    """docs/errors.md: each code with title, message, cause, cure and perhaps an example."""
    out = [
        "# Errors",
        "",
        "Every message of arspec begins with its code. This page is generated from the messages.",
    ]
    for prefix, section in SECTIONS.items():
        codes = sorted(code for code in MESSAGES if code.startswith(prefix))
        if codes:
            out += ["", f"## {section}"]
        for code in codes:
            m = MESSAGES[code]
            out += ["", f"### {code}: {m.title}", "", f"> {m.text}"]
            out += ["", f"**Cause.** {m.cause}", "", f"**Cure.** {m.cure}"]
            if m.example:
                out += ["", "```yaml", m.example, "```"]
    return "\n".join(out) + "\n"
