"""Numbers, variables and orders: what a spec declares before any line is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arspec.diagnostics import (
    Diagnostic,
    Span,
    SpecError,
    did_you_mean,
    error,
    nearest_name,
    refuse,
)
from arspec.equations import number_text
from arspec.expansion import Builder
from arspec.expressions import Binary, Expr, Name, Range, evaluate, names, parse
from arspec.frame import Frame
from arspec.names import constant
from arspec.scope import Scope, Shared
from arspec.source import Path, Scalar, locate
from arspec.spec import Spec, Variable
from arspec.values import Grid, Num

MAX_COUNT = 10_000_000


@dataclass(frozen=True)
class Declared:
    """A variable with its numbers worked out.

    `known`: "all", "present", "past", "+n", or None where nothing is to be said.
    """

    name: str
    kind: str
    count: Num
    channels: int
    grid: Grid
    codec: str | None
    end: int | str | None
    known: str | None

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(axis for axis, _ in self.grid)


class Declarations:
    """Works out what is declared; `numbers` are the params, `constants` their emitted names."""

    def __init__(self, spec: Spec, settings: dict[str, Any]):
        self.spec, self.settings = spec, settings
        self.used: set[str] = set()
        self.used_lines: set[tuple[str, str]] = set()
        self.numbers: dict[str, Any] = {}
        self.constants: dict[str, Num] = {}

    def _params(self) -> None:
        raw = dict(self.spec.params)
        for name, value in self.settings.items():
            if name not in raw:
                near = nearest_name(name, raw)
                hint = (
                    f"did you mean `{near}`?"
                    if near
                    else (f"the params are {', '.join(raw)}" if raw else "the spec has no `params`")
                )
                refuse("AR122", None, name=name, help=hint)
            raw[name] = value
        written = {name: self._param(name, value) for name, value in raw.items()}
        errors: list[Diagnostic] = []
        for name in written:
            try:
                self._resolve(name, written, [])
            except SpecError as found:
                errors += found.diagnostics
        if errors:
            raise SpecError(dict.fromkeys(errors))

    def _param(self, name: str, value: Any) -> Any:
        """A number, a parsed expression, or the raw mapping of a window."""
        path: Path = ("params", name)
        if isinstance(value, str) and name in self.settings:
            return self._setting(name, value)
        if isinstance(value, str):
            return parse(value, self._origin(path, name))
        if isinstance(value, bool) or value is None or isinstance(value, list):
            expected = "a number, an expression or a window"
            refuse("AR103", self.spec.span(path), key=name, expected=expected)
        return value

    def _setting(self, name: str, value: str) -> Any:
        """What was set from outside: it has no place in the user's text."""
        try:
            expr = parse(value, Span())
            unknown = [n for n in names(expr) if n.parts[0] not in self.spec.params]
        except SpecError as found:
            refuse("AR124", None, name=name, value=value, why=found.diagnostics[0].message)
        if unknown:
            known = did_you_mean(unknown[0].parts[0], self.spec.params)
            why = f"unknown name `{unknown[0].parts[0]}`"
            refuse("AR124", None, name=name, value=value, why=why, help=known)
        return expr

    def _origin(self, path: Path, name: str) -> Any:
        node = locate(self.spec.tree, path)
        return node.inner if isinstance(node, Scalar) else node.span

    def _resolve(self, name: str, written: dict[str, Any], active: list[str]) -> None:
        if name in self.numbers:
            return
        path: Path = ("params", name)
        if name in active and name in self.settings:
            why = "it needs itself"
            refuse("AR124", None, name=name, value=self.settings[name], why=why)
        if name in active:
            cycle = " -> ".join([*active[active.index(name) :], name])
            refuse("AR110", self.spec.span(path), cycle=cycle)
        value = written[name]
        const = constant(name)
        if isinstance(value, int | float):
            if isinstance(value, int) and abs(value) > 10**15:
                refuse("AR412", self.spec.span(path), expression=name)
            self.numbers[name] = Num(value, const)
            self.constants[const] = Num(value, repr(value))
            return
        if isinstance(value, dict):
            self._window_param(name, value, written, [*active, name])
            return
        for other in names(value):
            if other.parts[0] not in written:
                near = nearest_name(other.parts[0], written)
                hint = f"did you mean `{near}`?" if near else None
                refuse("AR105", other.span, name=other.parts[0], help=hint)
            self.used.add(other.parts[0])
            self._resolve(other.parts[0], written, [*active, name])
        scope = self._scope()
        if isinstance(value, Range):
            self._window_param(name, self.spec.params.get(name), written, [*active, name])
            return
        try:
            result = evaluate(value, lambda n: scope.number_named(n).value)
        except SpecError as found:
            if name not in self.settings:
                raise
            why = found.diagnostics[0].message
            refuse("AR124", None, name=name, value=self.settings[name], why=why)
        self.numbers[name] = Num(result, const)
        self.constants[const] = Num(result, number_text(value, scope))

    def _window_param(
        self, name: str, value: Any, written: dict[str, Any], active: list[str]
    ) -> None:
        mapping = value if isinstance(value, dict) else {}
        for axis, raw in mapping.items():
            if isinstance(raw, str):
                for other in names(parse(raw, self._origin(("params", name, axis), name))):
                    if other.parts[0] in written:
                        self.used.add(other.parts[0])
                        self._resolve(other.parts[0], written, active)
        builder = self._bare()
        self.numbers[name] = builder.window(value, ("params", name), self._scope())

    def _bare(self) -> Builder:
        """A builder without variables: for what is written in `params`."""
        return Builder(
            self.spec, Frame((), ()), self.numbers, {}, "", (self.used, self.used_lines), {}
        )

    def _scope(self) -> Scope:
        return Scope(Shared(self.numbers, {}, {}, set(), set()), "params")

    def _count(self, raw: Any, path: Path) -> Num:
        builder = self._bare()
        scope = Scope(Shared(self.numbers, {}, {}, self.used, set()), "variables")
        count = builder.number(raw, path, scope)
        if not isinstance(count.value, int) or not 1 <= count.value <= MAX_COUNT:
            refuse(
                "AR312",
                self.spec.span(path),
                setting=path[-1],
                value=count.value,
                need=f"a whole number, 1 to {MAX_COUNT:,}",
            )
        return count

    def _variable(self, variable: Variable) -> Declared:
        model, path = variable.model, ("variables", variable.name)
        count = self._count(getattr(model, variable.kind), (*path, variable.kind))
        if variable.kind != "features" and count.value < 2:
            refuse(
                "AR312",
                self.spec.span((*path, variable.kind)),
                setting=variable.kind,
                value=count.value,
                need=">= 2",
            )
        channels = 1
        if model.channels is not None:
            channels = int(self._count(model.channels, (*path, "channels")).value)
            if variable.kind == "features":
                refuse(
                    "AR118",
                    self.spec.key_span((*path, "channels")),
                    name=variable.name,
                    why="`features: n` already is n channels drawn together",
                )
        grid = []
        for i, raw in enumerate(model.axes):
            grid.append(self._axis(raw, (*path, "axes", i), variable.name))
        axes = [axis for axis, _ in grid]
        if len(set(axes)) != len(axes):
            refuse(
                "AR118",
                self.spec.span((*path, "axes")),
                name=variable.name,
                why="an axis is named twice",
            )
        if model.codec == "mu_law" and variable.kind == "features":
            refuse(
                "AR118",
                self.spec.span((*path, "codec")),
                name=variable.name,
                why="`mu_law` gives classes or levels, not features",
            )
        if model.codec == "bytes" and (variable.kind != "classes" or count.value < 256):
            refuse(
                "AR118",
                self.spec.span((*path, "codec")),
                name=variable.name,
                why="`bytes` needs `classes: 256` or more",
            )
        end: int | str | None = None
        if model.end is not None:
            end = "decision"
            if model.end != "decision":
                end = int(self._end(model.end, (*path, "end"), int(count.value), variable))
        return Declared(
            variable.name,
            variable.kind,
            count,
            channels,
            tuple(grid),
            model.codec,
            end,
            self._known_word(model.known, (*path, "known")),
        )

    def _end(self, raw: Any, path: Path, count: int, variable: Variable) -> int:
        value = (
            self._bare()
            .number(raw, path, Scope(Shared(self.numbers, {}, {}, self.used, set()), "variables"))
            .value
        )
        if variable.kind != "classes" or not isinstance(value, int) or not 0 <= value < count:
            refuse(
                "AR312",
                self.spec.span(path),
                setting="end",
                value=value,
                need=f"`decision`, or a class below {count}",
            )
        return value

    def _axis(self, raw: str, path: Path, name: str) -> tuple[str, int]:
        """`time`, or `time / 256`: a slower clock."""
        builder = self._bare()
        expr = builder.expression(raw, path)
        axis: Expr = expr
        stride = 1
        if isinstance(expr, Binary) and expr.operator == "/":
            axis = expr.left
            scope = Scope(Shared(self.numbers, {}, {}, self.used, set()), "variables")
            value = evaluate(expr.right, lambda n: scope.number_named(n).value)
            if not isinstance(value, int) or not 1 <= value <= 1_000_000:
                refuse(
                    "AR312",
                    expr.right.span,
                    setting=raw,
                    value=value,
                    need="a whole number of positions, at least 1",
                )
            stride = value
        if not isinstance(axis, Name) or len(axis.parts) != 1:
            refuse(
                "AR118",
                self.spec.span(path),
                name=name,
                why=f"`{raw}` is not an axis",
                help="`time`, or `time / 256` for a slower clock",
            )
        if axis.parts[0] in self.spec.variables or axis.parts[0] in self.spec.params:
            refuse(
                "AR107",
                self.spec.span(path),
                name=axis.parts[0],
                other="a param or a variable",
            )
        if axis.parts[0] == "channel":
            refuse(
                "AR106",
                self.spec.span(path),
                name="channel",
                why="it is the axis of `channels: n`",
            )
        return axis.parts[0], stride

    def _known_word(self, raw: Any, path: Path) -> str | None:
        if raw is None:
            return None
        if raw in ("all", "present", "past"):
            return str(raw)
        text = str(raw).strip().removeprefix("+")
        if not text.isdigit() or int(text) > MAX_COUNT:
            refuse(
                "AR103",
                self.spec.span(path),
                key="known",
                expected="`all`, `present`, `past` or `+n`",
            )
        return f"+{int(text)}"

    def _known(self, variables: dict[str, Declared], generated: tuple[str, ...]) -> None:
        """Every condition on the drawn variable's axis says what is known of it."""
        errors = []
        drawn_axes = {
            axis for name in generated if name in variables for axis in variables[name].axes
        }
        for v in variables.values():
            shared = [axis for axis in v.axes if axis in drawn_axes]
            if v.name in generated:
                if v.known is not None:
                    errors.append(
                        error(
                            "AR118",
                            self.spec.key_span(("variables", v.name, "known")),
                            name=v.name,
                            why="`known` is for what is given, and this is drawn",
                        )
                    )
            elif shared and v.known is None:
                errors.append(
                    error(
                        "AR113",
                        self.spec.variables[v.name].span,
                        name=v.name,
                        axis=shared[0],
                        help="`known: all` (whole from the start), `present` (up to the "
                        "position drawn), `past` (before it) or `+24` (24 positions ahead)",
                    )
                )
        if errors:
            raise SpecError(errors)

    def _frame(self, target: Declared) -> tuple[Frame, bool]:
        """The order of a variable; whether its channels are delayed against each other."""
        raster = tuple(
            tuple(int(i == j) for j in range(len(target.axes))) for i in range(len(target.axes))
        )
        if target.name not in self.spec.orders:
            return Frame(target.axes, raster, 1, target.axes), False
        listed, path = self.spec.orders[target.name]
        rows, channels, delayed = [], 1, False
        for i, raw in enumerate(listed):
            at = (*path, i)
            if not isinstance(raw, str):
                refuse("AR120", self.spec.span(at), what=f"`{raw}` is not an axis")
            weights = self._sum(self._bare().expression(raw, at), target, at)
            if "channel" in weights:
                if target.channels == 1:
                    refuse("AR120", self.spec.span(at), what=f"`{target.name}` has no channels")
                if len(weights) == 1:
                    if i != len(listed) - 1:
                        refuse("AR120", self.spec.span(at), what="`channel` is not last")
                    channels = target.channels
                    continue
                if len(weights) > 2:
                    refuse(
                        "AR120",
                        self.spec.span(at),
                        what="`channel` stands in a sum with more than one axis",
                    )
                delayed = True
                del weights["channel"]
            rows.append(tuple(weights.get(axis, 0) for axis in target.axes))
        if len(set(rows)) < len(rows):
            refuse("AR120", self.spec.span(path), what="an axis stands there twice")
        missing = [a for j, a in enumerate(target.axes) if not any(row[j] for row in rows)]
        if missing:
            refuse(
                "AR120",
                self.spec.span(path),
                what=f"`{missing[0]}` is missing from the order",
            )
        axes, order = target.axes, tuple(rows)
        if all(sum(row) == 1 for row in rows):  # one axis after another: loops in that order
            axes, order = tuple(target.axes[row.index(1)] for row in rows), raster
        return Frame(axes, order, channels, target.axes), delayed

    def _sum(self, expr: Expr, target: Declared, path: Path) -> dict[str, int]:
        if isinstance(expr, Name) and len(expr.parts) == 1:
            axis = expr.parts[0]
            if axis != "channel" and axis not in target.axes:
                near = nearest_name(axis, [*target.axes, "channel"])
                hint = f"did you mean `{near}`?" if near else None
                refuse(
                    "AR120",
                    expr.span,
                    help=hint,
                    what=f"`{axis}` is not an axis of `{target.name}`",
                )
            return {axis: 1}
        if isinstance(expr, Binary) and expr.operator == "+":
            left = self._sum(expr.left, target, path)
            for axis, weight in self._sum(expr.right, target, path).items():
                left[axis] = left.get(axis, 0) + weight
            return left
        refuse(
            "AR120",
            self.spec.span(path),
            what="an order is a list of axes or of sums of axes",
        )
