"""Expressions: the text of an equation, a window or a number -> a small syntax tree.

    a or b        loosest
    a ++ b        features side by side
    low..high     a range; either end may be left out
    a + b, a - b
    a * b, a / b
    -a
    a ** b        groups to the right
    tanh(a), x(row - 1)(col + 1)    tightest: a function, shifts along axes

There are no commas and no brackets, so YAML's flow style never needs quotation marks.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from arspec.diagnostics import Span, SpecError, error, nearest_name

# fmt: off
FUNCTIONS = frozenset([
    "relu", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh", "elu", "concat_elu", "softplus",
    "exp", "log", "sqrt", "sum", "last", "mean", "reversed", "doubling", "sinusoidal",
])
# fmt: on

MAX_LENGTH = 2000
MAX_TOKENS = 500
MAX_DEPTH = 50
MAX_INTEGER = 10**15


# -------------------------------------------------------------------------------------------- tree
# Spans take no part in comparisons: two expressions are equal if they say the same.


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, not negative."""

    value: int | float
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """``a``, or ``halved.u`` as ("halved", "u")."""

    parts: tuple[str, ...]
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument; `function` is in FUNCTIONS."""

    function: str
    argument: Expr
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Shift:
    """``of(axis + by)``: `of` (a Name or a Shift) at another position, `by` steps along `axis`.

    The sign is part of `by`: in ``x(row - 1)`` it is -1, in ``x(row)`` 0.
    """

    of: Expr
    axis: str
    by: Expr
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """``-operand``; `operator` is "-"."""

    operator: str
    operand: Expr
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """`operator` is one of ``or ++ + - * / **``."""

    operator: str
    left: Expr
    right: Expr
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Range:
    """``low..high``, both ends included; None where an end is left out (never both)."""

    low: Expr | None
    high: Expr | None
    span: Span = field(default=Span(), compare=False)


Expr = Number | Name | Call | Shift | Unary | Binary | Range


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside, from left to right."""
    match expr:
        case Call(argument=inner) | Unary(operand=inner):
            return (inner,)
        case Shift(of=first, by=second) | Binary(left=first, right=second):
            return (first, second)
        case Range(low, high):
            return tuple(end for end in (low, high) if end is not None)
    return ()


def names(expr: Expr) -> Iterator[Name]:
    """Every name read in `expr`, from left to right; the axis of a shift is none."""
    if isinstance(expr, Name):
        yield expr
    for inner in children(expr):
        yield from names(inner)


# ------------------------------------------------------------------------------------------ tokens


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "number", "name", "end", or the operator itself
    text: str
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.text)


_TOKEN = re.compile(
    r"""
    (?P<blank>[ \t\n]+)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<operator>\+\+|\.\.|\*\*|[-+*()]|/(?!/))
  | (?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
    """,
    re.VERBOSE,
)

# what must not follow a number at once: 2x, 1_000, 1.2.3
_NUMBER_TAIL = re.compile(r"[A-Za-z0-9_]+|(?:\.[0-9]+)+")

_NO_CONDITIONS = "there are no conditions; a mask or `or` (a value for outside the grid) may do"
_NO_BRACKETS = "there are no brackets: one step back is `x(time - 1)`"
_INSTEAD = {  # what people write -> what to write here; longer ones first
    "...": "a range has two dots: `0..3`",
    "//": "division is `a / b`",
    "==": _NO_CONDITIONS,
    "!=": _NO_CONDITIONS,
    "<=": _NO_CONDITIONS,
    ">=": _NO_CONDITIONS,
    "&&": _NO_CONDITIONS,
    "||": "`or` gives the value for outside the grid: `x(time - 1) or y`",
    ",": "there are no commas: a function has one argument, a range is `1..512`",
    "[": _NO_BRACKETS,
    "]": _NO_BRACKETS,
    "{": "inside an expression, write parentheses",
    "}": "inside an expression, write parentheses",
    "<": _NO_CONDITIONS,
    ">": _NO_CONDITIONS,
    "=": "a line is `name: expression`",
    "?": _NO_CONDITIONS,
    ":": "a range is `a..b`",
    "%": "there is no remainder; every k-th position is a matter of `dilation` or `stride`",
    "@": "there is no matrix product; `{linear: width, of: x}` multiplies by a learned matrix",
    "^": "a power is `a ** b`",
    "'": "there are no texts in expressions",
    '"': "there are no texts in expressions",
    "#": "a comment in YAML needs a blank before `#`",
    ".": "a dot looks inside by name, as in `layers.skip`; a number begins with a digit",
}
_KEYWORDS_INSTEAD = {
    "if": _NO_CONDITIONS,
    "else": _NO_CONDITIONS,
    "and": _NO_CONDITIONS,
    "not": _NO_CONDITIONS,
    "for": "what repeats is written with `repeat`",
}


# ------------------------------------------------------------------------------------------ parser

_LEVELS = {"or": 1, "++": 2, "..": 3, "+": 4, "-": 4, "*": 5, "/": 5, "**": 7}
_RANGE, _SUM, _UNARY, _POWER, _TIGHTEST = 3, 4, 6, 7, 8
_STARTS = ("number", "name", "(", "-", "+")


def parse(text: str, origin: Span) -> Expr:
    """The syntax tree of `text`, whose first character stands at `origin`.

    Every node's span counts from there; where `origin` says that the place is shorter than the
    text (a text folded over several lines), spans stay inside it. Raises SpecError.
    """
    return _Parser(text, origin).whole()


class _Parser:
    def __init__(self, text: str, origin: Span) -> None:
        self.text = text
        self.origin = origin
        if len(text) > MAX_LENGTH:
            self.fail("AR402", 0, len(text), limit=MAX_LENGTH, what="characters")
        self.tokens = list(self.tokenize())
        if len(self.tokens) > MAX_TOKENS:
            self.fail("AR402", 0, len(text), limit=MAX_TOKENS, what="names, numbers and signs")
        self.at = 0
        self.depth = 0

    # Places and errors

    def span(self, start: int, stop: int) -> Span:
        room = 1 + (self.origin.length if self.origin.length > 1 else len(self.text))
        start = min(start, room - 1)
        length = max(min(stop, room) - start, 1)
        return Span(self.origin.line, self.origin.column + start, length)

    def since(self, start: int) -> Span:
        return self.span(start, self.tokens[self.at - 1].stop)

    def fail(
        self, code: str, start: int, stop: int, cure: str | None = None, **fields: Any
    ) -> NoReturn:
        raise SpecError([error(code, self.span(start, stop), help=cure, **fields)])

    def unexpected(self, expected: str) -> NoReturn:
        token = self.tokens[self.at]
        found = "the end" if token.kind == "end" else f"`{token.text}`"
        self.fail("AR405", token.start, token.stop, expected=expected, found=found)

    # Tokens

    def tokenize(self) -> Iterator[_Token]:
        at = 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None or (found["operator"] == ".." and self.text.startswith("...", at)):
                self.foreign(at)
            kind = str(found.lastgroup)
            if kind == "operator" or found[0] == "or":
                kind = found[0]
            if kind == "name":
                self.refuse_keywords(found)
            if kind == "number":
                self.refuse_number(found)
            if kind != "blank":
                yield _Token(kind, found[0], at)
            at = found.end()
        yield _Token("end", "", at)

    def foreign(self, at: int) -> NoReturn:
        signs = (sign for sign in _INSTEAD if self.text.startswith(sign, at))
        sign = next(signs, self.text[at])
        cure = _INSTEAD.get(sign)
        if cure is None and sign.isalpha():
            cure = "names consist of the letters a-z and A-Z, digits and `_`"
        self.fail("AR403", at, at + len(sign), cure, found=sign)

    def refuse_keywords(self, found: re.Match[str]) -> None:
        for part in found[0].split("."):
            if keyword.iskeyword(part):
                cure = _KEYWORDS_INSTEAD.get(part, f"write e.g. `{part}_`")
                self.fail("AR404", found.start(), found.end(), cure, name=part)

    def refuse_number(self, found: re.Match[str]) -> None:
        rest = _NUMBER_TAIL.match(self.text, found.end())
        if rest and rest[0].startswith("_"):
            self.fail("AR403", rest.start(), rest.end(), cure="digits have no `_`", found=rest[0])
        if rest and rest[0].startswith("."):
            all_of_it = found[0] + rest[0]
            self.fail("AR403", found.start(), rest.end(), "a number has one dot", found=all_of_it)
        if rest:
            cure = f"a product is `{found[0]} * {rest[0]}`, and a name begins with a letter"
            self.fail("AR403", found.start(), rest.end(), cure, found=found[0] + rest[0])
        if len(found[0]) > 40 or float(found[0]) > 1e300 or _whole(found[0]) > MAX_INTEGER:
            self.fail("AR412", found.start(), found.end(), expression=found[0])

    def take(self, kind: str) -> bool:
        """Whether the next token is of that kind; if so, it is consumed."""
        if self.tokens[self.at].kind != kind:
            return False
        self.at += 1
        return True

    # Grammar

    def whole(self) -> Expr:
        if self.tokens[0].kind == "end":
            self.fail("AR401", 0, len(self.text))
        expr = self.expression(0)
        if self.tokens[self.at].kind != "end":
            self.unexpected("an operator")
        if _deeper_than(MAX_DEPTH, expr):
            self.too_deep(expr.span.column - self.origin.column)
        return expr

    def too_deep(self, start: int) -> NoReturn:
        cure = "give its parts names, one line each"
        what = "levels of operators and parentheses"
        self.fail("AR402", start, len(self.text), cure, limit=MAX_DEPTH, what=what)

    def expression(self, level: int) -> Expr:
        """The longest expression whose operators all bind tighter than `level`."""
        start = self.tokens[self.at].start
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.too_deep(start)
        if self.tokens[self.at].kind == ".." and level < _RANGE:
            left: Expr = self.range(None, start)
        else:
            left = self.operand()
        while _LEVELS.get(operator := self.tokens[self.at].kind, 0) > level:
            if operator == "..":
                left = self.range(left, start)
                continue
            self.at += 1
            # what groups to the right reads its own level again
            inner = _UNARY - 1 if operator == "**" else _LEVELS[operator]
            right = self.expression(inner)
            left = Binary(operator, left, right, self.since(start))
        self.depth -= 1
        return left

    def range(self, low: Expr | None, start: int) -> Range:
        if isinstance(low, Range):
            self.unexpected("the end of the range")
        self.at += 1
        high = None
        if self.tokens[self.at].kind in _STARTS:
            at = self.tokens[self.at]
            high = self.expression(_RANGE)
            if isinstance(high, Range):
                self.fail("AR405", at.start, at.stop, expected="a number", found="another range")
        elif low is None:
            self.unexpected("a number")
        return Range(low, high, self.since(start))

    def operand(self) -> Expr:
        token = self.tokens[self.at]
        if self.take("-"):
            operand = self.expression(_UNARY - 1)
            return Unary("-", operand, self.since(token.start))
        if self.take("+"):  # `-1..+1` says it nicely
            return self.expression(_UNARY - 1)
        if self.take("("):
            expr = self.expression(0)
            self.close()
            return self.not_applied(expr, token)
        if self.take("number"):
            value = float(token.text) if re.search("[.eE]", token.text) else int(token.text)
            return self.not_applied(Number(value, self.since(token.start)), token)
        if self.take("name"):
            return self.applied(token)
        self.unexpected("a name, a number or `(`")

    def close(self) -> None:
        if not self.take(")"):
            self.unexpected("`)`")

    def not_applied(self, expr: Expr, token: _Token) -> Expr:
        if self.tokens[self.at].kind == "(":
            stop = self.tokens[self.at].stop
            cure = "a product is `a * b`; what is shifted needs a name: give it a line of its own"
            self.fail("AR407", token.start, stop, cure)
        return expr

    def applied(self, token: _Token) -> Expr:
        """A name with what follows it in parentheses."""
        if token.text in FUNCTIONS and self.take("("):
            argument = self.expression(0)
            self.close()
            return self.not_applied(Call(token.text, argument, self.since(token.start)), token)
        expr: Expr = Name(tuple(token.text.split(".")), self.since(token.start))
        while self.take("("):
            axis, by = self.shift(token)
            expr = Shift(expr, axis, by, self.since(token.start))
        return expr

    def shift(self, token: _Token) -> tuple[str, Expr]:
        """What stands after ``x(``: an axis, and the steps along it."""
        axis = self.tokens[self.at]
        meant = nearest_name(token.text, FUNCTIONS)
        if not self.take("name") or "." in axis.text or axis.text in FUNCTIONS:
            self.unknown_function(token, meant)
        by: Expr = Number(0, self.span(axis.start, axis.stop))
        if self.tokens[self.at].kind in ("+", "-"):
            by = self.expression(_SUM - 1)
        elif meant:  # x(axis) moves nothing: more likely a function with a typing error
            self.unknown_function(token, meant)
        if not self.take(")"):
            if self.tokens[self.at].kind in ("end", "number", "name"):
                self.close()
            self.unknown_function(token, meant)
        return axis.text, by

    def unknown_function(self, token: _Token, meant: str | None) -> NoReturn:
        cure = f"did you mean `{meant}`?" if meant else f"a shift is e.g. `{token.text}(time - 1)`"
        self.fail("AR406", token.start, token.stop, cure, name=token.text)


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _deeper_than(limit: int, expr: Expr) -> bool:
    """Whether the tree is deeper than `limit`; asked level by level, without recursion."""
    level = [expr]
    for _ in range(limit):
        level = [inner for node in level for inner in children(node)]
    return bool(level)


# -------------------------------------------------------------------------------------------- text


def text(expr: Expr) -> str:
    """The canonical text of an expression; parsing it again gives an equal expression."""
    return _text(expr)[0]


def _text(expr: Expr) -> tuple[str, int]:
    """The text, and how tightly its outermost operator binds."""
    match expr:
        case Number(value):
            return str(value), _TIGHTEST if value >= 0 else _UNARY
        case Name(parts):
            return ".".join(parts), _TIGHTEST
        case Call(function, argument):
            return f"{function}({text(argument)})", _TIGHTEST
        case Shift(of, axis, by):
            return f"{text(of)}({axis}{_signed(by)})", _TIGHTEST
        case Unary(operator, operand):
            return operator + _within(_UNARY, operand), _UNARY
        case Binary("**", left, right):
            return f"{_within(_TIGHTEST, left)} ** {_within(_UNARY, right)}", _POWER
        case Binary(operator, left, right):
            level = _LEVELS[operator]
            return f"{_within(level, left)} {operator} {_within(level + 1, right)}", level
        case Range(low, high):
            ends = [_within(_SUM, end) if end is not None else "" for end in (low, high)]
            return "..".join(ends), _RANGE


def _within(level: int, expr: Expr) -> str:
    """The text as an operand: in parentheses if it binds looser than `level`."""
    inner, own = _text(expr)
    return inner if own >= level else f"({inner})"


def _signed(by: Expr) -> str:
    if by == Number(0):
        return ""
    steps = _within(_SUM, by)
    return f" - {steps[1:]}" if steps.startswith("-") else f" + {steps}"


# ------------------------------------------------------------------------------------------- value


def evaluate(expr: Expr, lookup: Callable[[Name], int | float]) -> int | float:
    """The number that `expr` stands for, `lookup` giving the value of each name.

    Whole numbers stay whole (a quotient if it comes out even) and are at most 1e15 in magnitude;
    others are finite. Raises SpecError, in time independent of the size of the numbers.
    """
    match expr:
        case Number(value):
            return _checked(value, expr)
        case Name():
            return _checked(lookup(expr), expr)
        case Unary("-", operand):
            return -evaluate(operand, lookup)
        case Call("exp" | "log" | "sqrt" as function, argument):
            return _function(function, evaluate(argument, lookup), expr)
        case Binary("+" | "-" | "*" | "/" | "**" as operator, left, right):
            return _binary(operator, evaluate(left, lookup), evaluate(right, lookup), expr)
    raise SpecError([error("AR410", expr.span, what=f"`{text(expr)}`")])


def _binary(operator: str, a: int | float, b: int | float, expr: Expr) -> int | float:
    try:
        match operator:
            case "+":
                return _checked(a + b, expr)
            case "-":
                return _checked(a - b, expr)
            case "*":
                return _checked(a * b, expr)
            case "/":
                whole = isinstance(a, int) and isinstance(b, int) and a % b == 0
                return _checked(a // b if whole else a / b, expr)
        return _checked(_power(a, b, expr), expr)
    except ZeroDivisionError:
        raise SpecError([error("AR411", expr.span, expression=text(expr))]) from None
    except OverflowError:
        raise SpecError([error("AR412", expr.span, expression=text(expr))]) from None


def _power(a: int | float, b: int | float, expr: Expr) -> int | float:
    if a < 0 and b != int(b):
        raise _undefined(expr, "a fractional power of a negative number")
    if isinstance(a, int) and isinstance(b, int) and b >= 0:
        if abs(a) > 1 and b > MAX_INTEGER.bit_length():
            raise OverflowError
        return int(a**b)
    return float(a**b)


def _function(function: str, x: int | float, expr: Expr) -> float:
    try:
        return float(_checked(getattr(math, function)(x), expr))
    except ValueError:
        raise _undefined(expr, f"the argument is {x}") from None
    except OverflowError:
        raise SpecError([error("AR412", expr.span, expression=text(expr))]) from None


def _undefined(expr: Expr, reason: str) -> SpecError:
    return SpecError([error("AR413", expr.span, expression=text(expr), reason=reason)])


def _checked(value: int | float, expr: Expr) -> int | float:
    if value != value:
        raise _undefined(expr, "not a number")
    if abs(value) > MAX_INTEGER if isinstance(value, int) else math.isinf(value):
        raise SpecError([error("AR412", expr.span, expression=text(expr))])
    return value
