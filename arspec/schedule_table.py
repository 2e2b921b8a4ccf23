"""The rows of `arspec show --schedule`: every line with when it is evaluated and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from re import sub

from arspec.nearest import Key
from arspec.schedule import ONCE, Entry, Schedule
from arspec.schedule_counts import Grid, fixed_cost, operations

SHAPE = {1: (1024,), 2: (32, 32), 3: (8, 32, 32)}
"""The shape that totals are given for, by number of axes, if none is asked for."""


@dataclass(frozen=True)
class Row:
    """One node, or the same node of all repetitions of a block.

    `kept`: how deep its cache is; `numbers`: positions times features in it, all repetitions, each
    value once and no longer than it is needed; `operations`: multiply-adds per evaluated position,
    sweeps excluded, one repetition.
    """

    name: str
    when: str
    kept: str
    numbers: int
    operations: int


@dataclass(frozen=True)
class Totals:
    """For one shape and batch 1: numbers to keep, multiply-adds per position drawn, and the ratio.

    `numbers` is what no sampler in this order can do without. A state of the emitted one holds more
    of them, up to about twice as many: zeros around a grid, keys beside values, a whole row of what
    is read at one place at a time.
    """

    shape: tuple[int, ...]
    numbers: int
    per_position: float
    ratio: float


def rows(schedule: Schedule, shape: Sequence[int] = ()) -> tuple[list[Row], Totals]:
    """The live nodes in the order of their evaluation; sizes are those on a grid of `shape`."""
    shape = tuple(shape) or SHAPE.get(len(schedule.graph.axes), (8,) * len(schedule.graph.axes))
    grid, nodes = Grid(schedule, shape), schedule.graph.nodes
    caches = {cache.source: cache for cache in schedule.caches}
    found: dict[tuple[str, str], list[tuple[Key, int, int]]] = {}
    for node in dict.fromkeys(entry.node for entry in schedule.entries):
        name = sub(r"\.\d+(?=\.)", ".*", nodes[node].name)
        entries = schedule.entries_of(node)
        when = "; ".join(dict.fromkeys(_when(schedule, entry) for entry in entries))
        depth: Key = (0.0,)
        numbers = 0
        if node in caches:
            groups = schedule.graph.channels if nodes[node].grouped else 1
            depth = caches[node].depth
            numbers = grid.kept(node, caches[node].until) * nodes[node].width // groups
        cost = 0 if node in schedule.inputs or not nodes[node].reads else fixed_cost(schedule, node)
        found.setdefault((name, when), []).append((depth, numbers, cost))
    table = [
        Row(
            name if len(same) == 1 else f"{name} x {len(same)}",
            when,
            _kept(schedule, [depth for depth, _, _ in same]),
            sum(numbers for _, numbers, _ in same),
            max(cost for _, _, cost in same),
        )
        for (name, when), same in found.items()
    ]
    count = operations(schedule, shape)
    drawn = grid.positions(schedule.graph.target)
    numbers = sum(row.numbers for row in table)
    return table, Totals(shape, numbers, count.sampler / drawn, count.ratio)


def _when(schedule: Schedule, entry: Entry) -> str:
    """`once`, or `position t - 1`: the loop, and which position is due when its slab opens."""
    if entry.node == schedule.graph.target:
        return "drawn"
    if entry.level == ONCE or entry.due is None:
        return "once"
    level, due = entry.level, entry.due
    name = schedule.level_name(level)
    every = entry.period[level] if level < len(entry.period) else 1
    phase = f" {entry.phase[level]} mod {every}" if every > 1 else ""
    stride = schedule.graph.nodes[entry.node].strides[level] if level < len(schedule.order) else 1
    own = schedule.unit if level < len(schedule.order) else 1
    slower = f", every {stride // own}" if stride > own else ""
    lags = [-(int(d) // own) for d in due[:level]] + [-(int(due[level]) // own) - 1]
    names = [schedule.level_name(k) for k in range(level + 1)]
    lag = ", ".join(
        f"{n} {lag:+d}" if len(lags) > 1 else f"{lag:+d}"
        for n, lag in zip(names, lags, strict=True)
        if lag
    )
    return f"per {name}{phase}{slower}{f' ({lag})' if lag else ''}"


def _kept(schedule: Schedule, depths: Sequence[Key]) -> str:
    """The depth of a cache, or the range of those of all repetitions."""
    shallow, deep = min(depths), max(depths)
    texts = list(dict.fromkeys(_depth(schedule, depth) for depth in (shallow, deep)))
    return " .. ".join(text or "0" for text in texts) if len(texts) > 1 else texts[0]


def _depth(schedule: Schedule, depth: Key) -> str:
    level = next((k for k, count in enumerate(depth) if count), None)
    if level is None:
        return ""
    if depth[level] == inf:
        return "all" if level == 0 else f"all of the {schedule.level_name(level - 1)}"
    name = schedule.level_name(level)
    return f"{int(depth[level]):,} {name}{'s' if depth[level] > 1 else ''}"
