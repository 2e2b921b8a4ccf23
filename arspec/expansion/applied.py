"""Blocks as they were used: their values can be looked into and copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from arspec.diagnostics import nearest_name, refuse
from arspec.expressions import Name
from arspec.names import local
from arspec.scope import Scope
from arspec.values import (
    Extent,
    Features,
    Group,
    Num,
    Ref,
    Series,
    Value,
    Window,
)


@dataclass(frozen=True)
class Applied:
    """A block as it was used: its lines can be looked into, its expansion copied.

    `moves` map the node ids of the first expansion to those of this copy.
    """

    block: str
    values: Mapping[str, Value]
    output: Value
    widths: Mapping[str, str]
    moves: tuple[Callable[[int], int], ...] = ()

    def member(self, name: str) -> Value:
        return self._outside(self.values[name])

    @property
    def result(self) -> Value:
        return self._outside(self.output)

    def _outside(self, value: Value) -> Value:
        """A value of the block as its user sees it: this copy's nodes, the user's sizes."""
        for move in self.moves:
            value = moved(value, move)
        outside: Value = lifted(value, self.widths)
        return outside


@dataclass(frozen=True)
class Stack:
    """The value of a `use` line: the blocks that it applied, and the outputs of the last."""

    applied: tuple[Applied, ...]
    output: Value
    line: str
    repeated: bool

    def inside(self, part: str, name: Name, scope: Scope) -> Value:
        """`layers.skip`: the line or parameter of that name in every repetition."""
        first = self.applied[0]
        if part not in first.values:
            near = nearest_name(part, first.values)
            hint = f"did you mean `{near}`?" if near else f"it has {', '.join(first.values)}"
            refuse("AR105", name.span, name=".".join(name.parts), help=hint)
        scope.shared.used_lines.add((first.block, part))
        members = [one.member(part) for one in self.applied]
        if not all(isinstance(member, Ref) for member in members):
            refuse(
                "AR114",
                name.span,
                what=f"`{'.'.join(name.parts)}` is not one node",
                help="look at a line that is a single node",
            )
        scope.shared.exports.setdefault(first.block, set()).add(part)
        why = f"`{'.'.join(name.parts)}` in the emitted code"
        code = scope.made_name(local(f"{self.line}_{part}"), name.span, why)
        if self.repeated:
            return Series(tuple(members), code)  # type: ignore[arg-type]
        return members[0].named(code)  # type: ignore[union-attr]


def outputs_of(value: Any) -> Any:
    """The outputs, where a value is a line that uses a block; else the value itself."""
    return value.output if isinstance(value, Stack) else value


def refs(values: Iterable[Value]) -> Iterable[Ref]:
    for value in values:
        if isinstance(value, Ref):
            yield value
        elif isinstance(value, Group | Series):
            yield from refs(value.members)
        elif isinstance(value, Stack):
            yield from refs([value.output])


def moved(value: Any, move: Callable[[int], int]) -> Any:
    if isinstance(value, Ref):
        return replace(value, node=move(value.node))
    if isinstance(value, Group):
        return Group(tuple(moved(m, move) for m in value.members))
    if isinstance(value, Series):
        return Series(tuple(moved(m, move) for m in value.members), value.code)
    if isinstance(value, Stack):
        applied = tuple(replace(a, moves=(*a.moves, move)) for a in value.applied)
        return replace(value, applied=applied, output=moved(value.output, move))
    return value


def lifted(value: Any, widths: Mapping[str, str]) -> Any:
    """A value with the texts of its sizes as the user of the block would write them."""
    if isinstance(value, Ref):
        f = value.info.features
        text_, groups = f.text, f.layout
        hole = text_.removeprefix("{").removesuffix("}")
        if hole in widths:
            text_ = widths[hole]
        elif not text_.replace(" ", "").isupper() and not text_.isdigit():
            text_ = str(f.width)
        if f.runs is not None and (text_ != f.text or "{" in groups):
            groups = widths.get(groups.removeprefix("{").removesuffix("}"), "") or layout(f, text_)
        if (text_, groups) == (f.text, f.layout):
            return value
        return replace(
            value, info=replace(value.info, features=replace(f, text=text_, layout=groups))
        )
    if isinstance(value, Group):
        return Group(tuple(lifted(m, widths) for m in value.members))
    return value


def layout(f: Features, text_: str) -> str:
    """The layout of channel groups as text, in terms of the width's text where it is regular."""
    assert f.runs is not None
    channels = max(group for group, _ in f.runs) + 1
    if Features.grouped(Num(f.width, text_), channels).runs == f.runs:
        return f"channel_groups({text_}, {channels})"
    return "(" + " + ".join(f"[{group}] * {count}" for group, count in f.runs) + ")"


def literal(window: Window) -> Window:
    """The same window with its numbers written out: names of the user mean nothing inside."""

    def plain(extent: Extent) -> Extent:
        if isinstance(extent, tuple):
            return (
                Num(extent[0].value, str(extent[0].value)),
                Num(extent[1].value, str(extent[1].value)),
            )
        return Num(extent.value, str(extent.value))

    return Window(tuple({axis: plain(e) for axis, e in box.items()} for box in window.boxes))


def kind(value: Value, globals_: int) -> object:
    """What of an argument decides the expansion of a block: not which node, but which kind."""
    if isinstance(value, Ref):
        info = value.info
        runs, width = info.features.runs, info.features.width
        return (
            "node",
            info.grid,
            width,
            runs,
            info.due,
            info.batched,
            value.node if value.node < globals_ else -1,
        )
    if isinstance(value, Group | Series):
        return tuple(kind(member, globals_) for member in value.members)
    if isinstance(value, Num):
        return ("number", value.value)
    if isinstance(value, Window):
        return repr(literal(value))
    return repr(value)
