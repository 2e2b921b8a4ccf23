"""What a name of a spec can stand for, while the spec is expanded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from arspec.expansion.applied import Stack

Stride = int | Fraction
Grid = tuple[tuple[str, Stride], ...]
"""A node's axes with the stride of each on the clock that the variables' axes are written in."""

KNOWN, PRESENT, DERIVED, DRAWN = 0, 1, 2, 3
"""How much of the future a node carries, and so which mask a window on it gets by default:
nothing (no mask), up to the present (B), computed from what is being drawn (B), or the drawn
variable itself or an equation of it (A)."""


@dataclass(frozen=True, slots=True)
class Num:
    """A number and the Python text that computes it in the emitted file."""

    value: int | float
    text: str


def channel_runs(width: int, channels: int) -> tuple[tuple[int, int], ...]:
    """Split `width` features into `channels` contiguous groups, as equal as possible."""
    small, extra = divmod(width, channels)
    return tuple((c, small + (c < extra)) for c in range(channels))


def layout_text(runs: Sequence[tuple[int, int]], channels: int) -> str:
    """The channel of each feature as Python text."""
    width = sum(count for _, count in runs)
    for count in range(1, width + 1):
        one = channel_runs(width // count, channels)
        if width % count == 0 and merge_runs(one * count) == tuple(runs):
            one_text = f"channel_groups({width // count}, {channels})"
            return one_text if count == 1 else f"{one_text} * {count}"
    return " + ".join(f"[{channel}] * {count}" for channel, count in runs)


@dataclass(frozen=True, slots=True)
class Features:
    """The width of a node; `runs` are its channel groups as (group, count), None without any."""

    width: int
    text: str
    runs: tuple[tuple[int, int], ...] | None = None
    layout: str = ""

    @staticmethod
    def plain(number: Num) -> Features:
        return Features(int(number.value), number.text)

    @staticmethod
    def grouped(number: Num, channels: int) -> Features:
        width = int(number.value)
        layout = f"channel_groups({number.text}, {channels})"
        return Features(width, number.text, channel_runs(width, channels), layout)

    def times(self, count: int) -> Features:
        """The features `count` times over, as a split by commas or `concat_elu` needs them."""
        if count == 1:
            return self
        runs = None if self.runs is None else merge_runs(self.runs * count)
        layout = f"{self.layout} * {count}" if self.runs is not None else ""
        return Features(self.width * count, product_text(count, self.text), runs, layout)


def merge_runs(runs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for group, count in runs:
        if merged and merged[-1][0] == group:
            merged[-1] = (group, merged[-1][1] + count)
        elif count:
            merged.append((group, count))
    return tuple(merged)


def product_text(count: int, text: str) -> str:
    if text.isdigit():
        return str(count * int(text))
    return f"{count} * {text}" if is_atom(text) else f"{count} * ({text})"


def tuple_text(items: Sequence[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def is_atom(text: str) -> bool:
    """Whether `text` needs no parentheses as a factor: a name, a number or a product."""
    return not any(sign in text for sign in (" + ", " - ", " / ", " // "))


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of a node's value without computing it."""

    grid: Grid
    features: Features
    due: int = KNOWN
    symbols: Num | None = None  # the variable's classes, while it is still symbols
    batched: bool = True  # learned numbers and position tables have no batch axis
    operations: int = 0  # multiply-adds by weights per position, as `graph.Node.operations`


@dataclass(frozen=True, slots=True)
class Ref:
    """A node of the graph as one body sees it: `code` is its Python name there.

    `raw` is the code of the integers themselves where the node is still symbols, `delays` the
    shifts (axis, by) that were applied to them.
    """

    node: int
    info: Info
    code: str
    raw: str = ""
    delays: tuple[tuple[str, int], ...] = ()

    def named(self, code: str) -> Ref:
        return replace(self, code=code)


@dataclass(frozen=True, slots=True)
class Group:
    """Several values side by side: the outputs of a block, the names of a comma key, a list."""

    members: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One value per repetition: ``layers.skip``."""

    members: tuple[Ref, ...]
    code: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """A list of numbers: a schedule."""

    members: tuple[Num, ...]
    text: str


Extent = Num | tuple[Num, Num]
"""Of a window along one axis: a size, or the literal offsets first..last."""


@dataclass(frozen=True, slots=True)
class Window:
    """A union of boxes; each gives an extent per axis. A box for None holds on every axis."""

    boxes: tuple[dict[str | None, Extent], ...]

    @property
    def literal(self) -> bool:
        return any(isinstance(extent, tuple) for box in self.boxes for extent in box.values())


@dataclass(frozen=True, slots=True)
class AxisName:
    """An axis used as a value: positions to embed or to feed to `sinusoidal`."""

    name: str


Value = Union["Num", "Numbers", "Ref", "Group", "Series", "Window", "AxisName", "Stack"]
