"""Equations: an expression over names becomes a value, with what it reads and its Python text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NoReturn

from arspec.diagnostics import Span, did_you_mean, refuse
from arspec.expressions import (
    Binary,
    Call,
    Expr,
    Name,
    Number,
    Range,
    Shift,
    Unary,
    evaluate,
    text,
)
from arspec.frame import Frame
from arspec.graph import ALWAYS, OUTSIDE, SAME, Reach
from arspec.layers.shifts import shift_module
from arspec.marks import KEEPS, SHIFT, first
from arspec.values import (
    KNOWN,
    AxisName,
    Features,
    Grid,
    Group,
    Info,
    Num,
    Numbers,
    Ref,
    Series,
    Value,
    is_atom,
    merge_runs,
    tuple_text,
)

if TYPE_CHECKING:
    from arspec.scope import Scope

FUNCTION_CODE = {
    "relu": "torch.relu({})",
    "tanh": "torch.tanh({})",
    "sigmoid": "torch.sigmoid({})",
    "exp": "torch.exp({})",
    "log": "torch.log({})",
    "sqrt": "torch.sqrt({})",
    "silu": "F.silu({})",
    "gelu": "F.gelu({})",
    "gelu_tanh": 'F.gelu({}, approximate="tanh")',
    "elu": "F.elu({})",
    "softplus": "F.softplus({})",
    "concat_elu": "concat_elu({})",
}
"""Pointwise functions: what they are in the emitted file."""

FUNCTION_MODULE = {
    "relu": "nn.ReLU()",
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
    "silu": "nn.SiLU()",
    "gelu": "nn.GELU()",
    "gelu_tanh": 'nn.GELU(approximate="tanh")',
    "elu": "nn.ELU()",
    "softplus": "nn.Softplus()",
}
"""The same as modules, for chains."""

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = 1, 2, 3, 4, 5
_WIDTH = "\x00width\x00"  # stands in code for a width that the context decides
ATTRIBUTE = "\x00line\x00"  # stands in code for the attribute of the line it is part of


@dataclass(frozen=True)
class Reading:
    """A node in an equation, with its shifts; `depends`: see `graph`."""

    ref: Ref
    offsets: tuple[tuple[str, int], ...] = ()
    depends: str = ALWAYS


@dataclass(frozen=True)
class Term:
    """A value under construction: not yet a node, but all that one would need.

    `features` is None while the context decides the width (a table of positions).
    """

    reads: tuple[Reading, ...]
    grid: Grid
    features: Features | None
    due: int
    code: str
    level: int = _ATOM
    batched: bool = True
    symbols: Num | None = None
    raw: str = ""
    delays: tuple[tuple[str, int], ...] = ()
    modules: tuple[tuple[str, str], ...] = ()  # (suffix of the attribute, construct)

    def at(self, level: int) -> str:
        """The code as an operand that must bind at least as tightly as `level`."""
        return self.code if self.level >= level else f"({self.code})"


def term_of(ref: Ref) -> Term:
    info = ref.info
    return Term(
        reads=(Reading(ref),),
        grid=info.grid,
        features=info.features,
        due=info.due,
        code=ref.code,
        batched=info.batched,
        symbols=info.symbols,
        raw=ref.raw,
        delays=ref.delays,
    )


def number_text(expr: Expr, scope: Scope) -> str:
    """Python text of a numeric expression: names as they stand in the emitted file."""
    match expr:
        case Number(value):
            return str(value)
        case Name():
            return scope.number_named(expr).text
        case Unary(_, operand):
            inner = number_text(operand, scope)
            return f"-{inner}" if is_atom(inner) else f"-({inner})"
        case Call(function, argument):
            return f"math.{function}({number_text(argument, scope)})"
        case Binary(operator, left, right):
            a, b = number_text(left, scope), number_text(right, scope)
            if operator in ("*", "/", "**"):
                a = (
                    a
                    if is_atom(a) and operator != "**"
                    else f"({a})"
                    if not a.isidentifier()
                    else a
                )
                b = b if is_atom(b) and " " not in b else f"({b})"
            elif operator == "-":
                b = b if is_atom(b) else f"({b})"
            if operator == "/" and isinstance(number(expr, scope), int):
                operator = "//"
            return f"{a} {operator} {b}"
    raise AssertionError(expr)


def number(expr: Expr, scope: Scope) -> int | float:
    return evaluate(expr, lambda name: scope.number_named(name).value)


class Evaluator:
    """Evaluates expressions in one scope."""

    def __init__(self, scope: Scope, frame: Frame, axis_order: Sequence[str]):
        self.scope, self.frame, self.axis_order = scope, frame, axis_order

    def value(self, expr: Expr) -> Value | Term:
        """The value of an expression: a number, a list, a node, or a term to be made one."""
        match expr:
            case Number(value):
                return Num(value, str(value))
            case Name():
                return self.scope.lookup(expr)
            case Shift():
                return self._shift(expr)
            case Call():
                return self._call(expr)
            case Unary(_, operand):
                inner = self.value(operand)
                if isinstance(inner, Num):
                    return self._number(expr)
                term = self.term(inner, operand)
                changed = {"level": _UNARY, "symbols": None, "raw": ""}
                return replace(term, code=f"-{term.at(_UNARY)}", **changed)  # type: ignore[arg-type]
            case Binary("or", left, right):
                return self._first(left, right)
            case Binary("++", left, right):
                return self._concatenation(expr, left, right)
            case Binary():
                return self._binary(expr)
            case Range():
                self._fail(expr, "a span belongs into a window or a schedule")
        raise AssertionError(expr)

    def term(self, value: Value | Term, expr: Expr) -> Term:
        """A value as an operand of an equation over nodes."""
        value = getattr(value, "output", value)  # the outputs of a line that uses a block
        if isinstance(value, Term):
            return value
        if isinstance(value, Ref):
            return term_of(value)
        if isinstance(value, Num):
            level = _ATOM if value.text.replace(".", "").isalnum() else _SUM
            one = Features(1, "1")
            return Term((), (), one, KNOWN, value.text, level, batched=False)
        if isinstance(value, Group):
            self._fail(expr, f"`{text(expr)}` is {len(value.members)} nodes, not one")
        if isinstance(value, Series | Numbers):
            self._fail(
                expr,
                f"`{text(expr)}` is a list, one per repetition",
                "take `sum`, `mean` or `last` of it",
            )
        if isinstance(value, AxisName):
            self._fail(
                expr,
                f"`{value.name}` is an axis, not a node",
                f"`sinusoidal({value.name})`, or `{{embed: width, of: {value.name}, size: n}}`",
            )
        self._fail(expr, f"`{text(expr)}` is not a node")

    def _number(self, expr: Expr) -> Num:
        return Num(number(expr, self.scope), number_text(expr, self.scope))

    def _shift(self, expr: Shift) -> Term:
        """A shift; a shift of a shift is one by their sum, so what leaves the grid comes back."""
        chain: list[Shift] = []
        source: Expr = expr
        while isinstance(source, Shift):
            chain.insert(0, source)
            source = source.of
        term = self.term(self.value(source), source)
        axes = [axis for axis, _ in term.grid]
        total: dict[str, int] = {}
        for one in chain:
            by = number(one.by, self.scope)
            if not isinstance(by, int):
                self._fail(one, f"a shift by {by} positions", "shift by a whole number")
            if one.axis in axes:
                total[one.axis] = total.get(one.axis, 0) + by
            elif not self.scope.guessing:
                refuse(
                    "AR308",
                    one.span,
                    axis=one.axis,
                    name=text(one.of),
                    axes=", ".join(axes) or "no axis",
                    help=did_you_mean(one.axis, axes),
                )
        offsets = tuple((axis, by) for axis, by in total.items() if by)
        return self._moved(term, offsets) if offsets else term

    def _moved(self, term: Term, offsets: tuple[tuple[str, int], ...]) -> Term:
        """The term at other positions: `offsets` along axes, each named once."""
        delays = tuple((axis, -by) for axis, by in offsets)
        if term.batched:
            code = f"self.{ATTRIBUTE}_{SHIFT}({term.code}{KEEPS})"
            made = shift_module(term.grid, delays, features=term.features)
            modules = ((SHIFT, made), *term.modules)
        else:  # a table of positions has no batch axis
            axes = [axis for axis, _ in term.grid]
            code, modules = term.code, term.modules
            for axis, by in delays:
                code = f"shift({code}, {axes.index(axis)}, {by})"
        return replace(
            term,
            reads=tuple(replace(r, offsets=(*r.offsets, *offsets)) for r in term.reads),
            level=_ATOM,
            delays=(*term.delays, *delays),
            code=code,
            modules=modules,
        )

    def _call(self, expr: Call) -> Value | Term:
        name = expr.function
        if name == "doubling":
            return self._doubling(expr)
        value = self.value(expr.argument)
        if name == "sinusoidal":
            if not isinstance(value, AxisName):
                self._fail(expr, "`sinusoidal` takes an axis", "such as `sinusoidal(time)`")
            return self._sinusoidal(value)
        if name in ("sum", "mean", "last", "reversed"):
            return self._over_list(expr, name, value)
        if isinstance(value, Num):
            if name in ("exp", "log", "sqrt"):
                return self._number(expr)
            self._fail(expr, f"`{name}` of a number")
        term = self.term(value, expr.argument)
        features = term.features
        if name == "concat_elu" and features is not None:
            features = features.times(2)
        code = FUNCTION_CODE[name].format(term.code)
        changed = {"code": code, "level": _ATOM, "symbols": None, "raw": ""}
        return replace(term, features=features, **changed)  # type: ignore[arg-type]

    def _doubling(self, expr: Call) -> Numbers:
        span = expr.argument
        if not isinstance(span, Range) or span.low is None or span.high is None:
            self._fail(expr, "`doubling` takes a span", "such as `doubling(1..512)`")
        low, high = number(span.low, self.scope), number(span.high, self.scope)
        if not (isinstance(low, int) and isinstance(high, int) and 0 < low <= high):
            self._fail(expr, f"doubling from {low} to {high}", "two whole numbers, rising from 1")
        members = []
        while low <= high:
            members.append(Num(low, str(low)))
            low *= 2
        return Numbers(tuple(members), tuple_text([m.text for m in members]))

    def _sinusoidal(self, axis: AxisName) -> Term:
        length = self.scope.length_code(axis.name)
        own = "positions" if len(self.frame.axes) == 1 else f"{axis.name}_positions"
        module = (own, f"SinusoidalPositions({_WIDTH})")
        code = f"self.{ATTRIBUTE}_{own}({length}{first(axis.name)})"
        return Term((), ((axis.name, 1),), None, KNOWN, code, batched=False, modules=(module,))

    def _over_list(self, expr: Call, name: str, value: Value | Term) -> Value | Term:
        if isinstance(value, Numbers) and name == "reversed":
            return Numbers(value.members[::-1], f"{value.text}[::-1]")
        if not isinstance(value, Series):
            self._fail(
                expr,
                f"`{name}` takes the list of a repeated block's lines",
                "such as `sum(layers.skip)`; `{pool: all}` reads all positions of a node",
            )
        if name == "reversed":
            return Series(value.members[::-1], f"{value.code}[::-1]")
        if name == "last":
            return value.members[-1].named(f"{value.code}[-1]")
        terms = [term_of(member) for member in value.members]
        first = terms[0]
        for term in terms[1:]:
            if term.grid != first.grid:
                self._clocks(expr, first, term)
            if term.features != first.features and _width(term) != _width(first):
                self._widths(expr, first, term)
        # the tail division keeps the code of a mean readable
        code = f"sum({value.code})" + (f" / len({value.code})" if name == "mean" else "")
        return Term(
            reads=tuple(Reading(member) for member in value.members),
            grid=first.grid,
            features=first.features,
            due=max(term.due for term in terms),
            code=code,
            level=_ATOM if name == "sum" else _PRODUCT,
        )

    def _first(self, left: Expr, right: Expr) -> Term:
        """``x(time - 1) or y``: y where the shift reaches outside the grid."""
        if not isinstance(left, Shift) or isinstance(left.of, Shift):
            self._fail(left, "`or` follows a shift along one axis", "`x(time - 1) or y`")
        shifted, other = self.term(self.value(left), left), self.term(self.value(right), right)
        outside = replace(
            other, reads=tuple(replace(read, depends=OUTSIDE) for read in other.reads)
        )
        joined = self._joined(left, [shifted, outside])
        kept = self.term(self.value(left.of), left.of)
        axes = [axis for axis, _ in shifted.grid]
        place = axes.index(left.axis) + 1 if left.axis in axes else 1
        by = -int(number(left.by, self.scope))
        instead = self._aligned(other, joined.grid)
        if not kept.batched:
            code = f"shift_or({kept.code}, {place}, {by}, {instead})"
            return replace(joined, code=code, level=_ATOM)
        code = f"self.{ATTRIBUTE}_{SHIFT}({kept.code}, {instead}{KEEPS})"
        made = shift_module(shifted.grid, [(left.axis, by)], True, kept.features)
        modules = ((SHIFT, made), *kept.modules, *other.modules)
        return replace(joined, code=code, level=_ATOM, modules=modules)

    def _concatenation(self, expr: Expr, left: Expr, right: Expr) -> Term:
        terms = [self.term(self.value(part), part) for part in (left, right)]
        grid = self._grid(expr, terms)
        parts = []
        for term, part in zip(terms, (left, right), strict=True):
            if term.features is None:
                self._fail(
                    part,
                    "the width of a table of positions is not known here",
                    "add it to a node instead",
                )
            parts.append(term.features)
        grouped = any(f.runs is not None for f in parts)
        runs = None
        layout = ""
        if grouped:
            runs = merge_runs(tuple(run for f in parts for run in f.runs or ((0, f.width),)))
            layout = " + ".join(
                f.layout if f.runs is not None else f"[0] * {f.text}" for f in parts
            )
            layout = f"({layout})"
        features = Features(
            sum(f.width for f in parts), " + ".join(f.text for f in parts), runs, layout
        )
        if isinstance(right_number := self._number_term(right), Num):  # features of a constant
            ones = f"F.pad({terms[0].code}, (0, 1), value={float(right_number.value)})"
            changed = {"level": _ATOM, "symbols": None, "raw": "", "delays": ()}
            return replace(terms[0], features=features, code=ones, **changed)  # type: ignore[arg-type]
        codes = ", ".join(self._aligned(term, grid) for term in terms)
        same = all(term.grid == grid and term.batched for term in terms)
        code = f"torch.cat(({codes}), dim=-1)" if same else f"concatenate({codes})"
        return Term(
            tuple(read for term in terms for read in term.reads),
            grid,
            features,
            max(term.due for term in terms),
            code,
            _ATOM,
            batched=any(term.batched for term in terms),
            modules=tuple(module for term in terms for module in term.modules),
        )

    def _number_term(self, expr: Expr) -> object:
        return self.value(expr) if isinstance(expr, Number | Name) else None

    def _binary(self, expr: Binary) -> Num | Term:
        left, right = self.value(expr.left), self.value(expr.right)
        if isinstance(left, Num) and isinstance(right, Num):
            return self._number(expr)
        if expr.operator == "/" and isinstance(right, Num) and right.value == 0:
            refuse("AR411", expr.span, expression=text(expr))
        terms = [self.term(left, expr.left), self.term(right, expr.right)]
        joined = self._joined(expr, terms)
        level = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "**": _POWER}[expr.operator]
        a, b = (replace(term, code=self._aligned(term, joined.grid)) for term in terms)
        lower, upper = (level + 1, level) if expr.operator == "**" else (level, level + 1)
        code = f"{a.at(lower)} {expr.operator} {b.at(upper)}"
        return replace(joined, code=code, level=level)

    # how operands meet

    def _joined(self, expr: Expr, terms: list[Term]) -> Term:
        grid, features = self._grid(expr, terms), self._features(expr, terms)
        modules = tuple(module for term in terms for module in term.modules)
        if features is not None:
            modules = tuple((name, make.replace(_WIDTH, features.text)) for name, make in modules)
        return Term(
            reads=tuple(read for term in terms for read in term.reads),
            grid=grid,
            features=features,
            due=max(term.due for term in terms),
            code="",
            batched=any(term.batched for term in terms),
            modules=modules,
        )

    def _grid(self, expr: Expr, terms: list[Term]) -> Grid:
        strides: dict[str, int | Fraction] = {}
        for term in terms:
            for axis, stride in term.grid:
                if strides.setdefault(axis, stride) != stride:
                    self._clocks(expr, *terms)
        return tuple((axis, strides[axis]) for axis in self.axis_order if axis in strides)

    def _features(self, expr: Expr, terms: list[Term]) -> Features | None:
        known = [term.features for term in terms if term.features is not None]
        wide = [f for f in known if f.width != 1]
        if len(known) < len(terms) and not wide:
            return None  # a number times a table of positions: still for the context to decide
        if not wide:
            return next((f for f in known if f.runs is not None), known[0])
        for other in wide[1:]:
            if other.width != wide[0].width:
                self._widths(expr, *terms)
        grouped = [f for f in wide if f.runs is not None]
        for other in grouped[1:]:
            if other.runs != grouped[0].runs:
                refuse("AR309", expr.span, what=text(expr))
        # prefer the text that does not depend on who uses the block
        return min(grouped or wide, key=lambda f: ("{" in f.text, len(f.text)))

    def _aligned(self, term: Term, grid: Grid) -> str:
        """The term's code with an axis of length 1 for each axis that only its partner has."""
        own = {axis for axis, _ in term.grid}
        axes = [axis for axis, _ in grid]
        if not own and not term.batched:
            return term.code
        if not term.batched:
            axes = axes[min(i for i, axis in enumerate(axes) if axis in own) :]
        index = ([":"] if term.batched else []) + [":" if a in own else "None" for a in axes]
        while index and index[-1] == ":":
            index.pop()
        return f"{term.at(_ATOM)}[{', '.join(index)}]" if index else term.code

    # errors

    def _fail(self, expr: Expr, what: str, help: str | None = None) -> NoReturn:
        refuse("AR114", expr.span, what=what, help=help)

    def _widths(self, expr: Expr, *terms: Term) -> NoReturn:
        a, b = [_width(term) for term in terms if _width(term) not in (None, 1)][:2]
        refuse("AR301", expr.span, what=text(expr), left=a, right=b)

    def _clocks(self, expr: Expr, *terms: Term) -> NoReturn:
        clocks = [_clock(term.grid) for term in terms][:2]
        refuse(
            "AR302",
            expr.span,
            what=text(expr),
            left=clocks[0],
            right=clocks[-1],
            help="`given` repeats a slower clock; `{up: r}` does it on a line of its own",
        )


def _width(term: Term) -> int | None:
    return term.features.width if term.features else None


def _clock(grid: Grid) -> str:
    parts = [axis if stride == 1 else f"{axis} / {stride}" for axis, stride in grid]
    return f"[{', '.join(parts)}]"


def shift_reason(term: Term) -> str:
    """In words, what the shifts of an equation are for."""
    moved = {(axis, by) for read in term.reads for axis, by in read.offsets}
    reasons = [
        f"shifted: output i sees {axis} <= i - {-by}" if by < 0 else f"reads {axis} i + {by}: ahead"
        for axis, by in sorted(moved)
    ]
    return "; ".join(reasons)


def reach_of(frame: Frame, offsets: tuple[tuple[str, int], ...]) -> Reach:
    """The reach of a shift: offsets on several axes add up."""
    total: dict[str, int] = {}
    for axis, by in offsets:
        total[axis] = total.get(axis, 0) + by
    taps = {a: (by, by, 1) for a, by in total.items() if a in frame.axes and by}
    return frame.stencil([taps], SAME) if taps else frame.point()


def info_of(term: Term, span: Span) -> Info:
    if term.features is None:
        refuse(
            "AR114",
            span,
            what="a table of positions alone has no width",
            help="add it to a node: `x + sinusoidal(time)`",
        )
    due = term.due
    return Info(term.grid, term.features, due, term.symbols, term.batched)
