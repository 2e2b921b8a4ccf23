"""What a schedule costs on a grid of a certain shape: evaluations, operations, memory. Exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

from arspec.graph import EVERYWHERE, PRESENT, Box, Read, Stencil, Sweep
from arspec.moves import Vector, _scan_order
from arspec.nearest import Key
from arspec.schedule import ONCE, Entry, Schedule

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.int64]]


BEYOND = 1 << 40  # more than any component of a key


@dataclass(frozen=True)
class Operations:
    """Multiply-adds for drawing every position of a shape once, batch 1.

    A node costs its `operations` per evaluated position, or its `width` per tap where it has none,
    and twice its `width` for each position that a sweep reads (score and value of an attention);
    `parallel` counts a sweep as dense, as a masked product over all positions is.
    """

    sampler: int
    parallel: int

    @property
    def ratio(self) -> float:
        """Those of the sampler over those of one parallel forward."""
        return self.sampler / self.parallel if self.parallel else 1.0


def ratio(schedule: Schedule, shape: Sequence[int]) -> float:
    """Operations for drawing all positions of a shape over those of one parallel forward."""
    return operations(schedule, shape).ratio


def operations(schedule: Schedule, shape: Sequence[int]) -> Operations:
    """See `Operations`; `shape` is in the variable's own positions, channels excluded."""
    grid, nodes = Grid(schedule, shape), schedule.graph.nodes
    sampler = parallel = 0.0
    for node in {entry.node for entry in schedule.entries} - schedule.inputs:
        groups = schedule.graph.channels if nodes[node].grouped else 1  # each has its share
        done = sum(grid.evaluations(e) for e in schedule.entries_of(node))
        cost = fixed_cost(schedule, node)
        sampler += done * cost / groups
        parallel += grid.positions(node) * cost
        for read in nodes[node].reads:
            if isinstance(read.reach, Sweep):
                pairs, dense = grid.pairs(node, read, schedule.entries_of(node))
                sampler += 2 * nodes[node].width * pairs / groups
                parallel += 2 * nodes[node].width * dense
    return Operations(round(sampler), round(parallel))


def fixed_cost(schedule: Schedule, node: int) -> int:
    """Multiply-adds per evaluated position, sweeps excluded."""
    it = schedule.graph.nodes[node]
    stencils = [read.reach for read in it.reads if isinstance(read.reach, Stencil)]
    return it.operations or it.width * sum(taps(box) for reach in stencils for box in reach.boxes)


def taps(box: Box) -> int:
    """The number of taps of a box."""
    ends = zip(box.lo, box.hi, box.step, strict=True)
    return prod((hi - lo) // step + 1 for lo, hi, step in ends)


class Grid:
    """The moments of a schedule on a grid: moment k is just before the k-th key is drawn."""

    def __init__(self, schedule: Schedule, shape: Sequence[int]) -> None:
        import numpy as np  # here: 0.1 s that a proof does not need

        self.np, self.schedule, graph = np, schedule, schedule.graph
        strides = graph.nodes[graph.target].strides
        self.extent = [n * max(s, 1) for n, s in zip(shape, strides, strict=True)]
        self._anchors: dict[Vector, Array] = {}
        self._moments: dict[object, Array] = {}
        keys = self._keys(strides)
        self.low, self.high = keys.min(axis=0) - 1, keys.max(axis=0) + 1
        if schedule.channels:
            self.low, self.high = np.append(self.low, -1), np.append(self.high, graph.channels)
            groups = np.tile(np.arange(graph.channels), len(keys))
            keys = np.column_stack([np.repeat(keys, graph.channels, axis=0), groups])
        self.drawn = np.unique(self._pack(keys))
        self.last = len(self.drawn)

    def anchors(self, strides: Vector) -> Array:
        """All anchors of a grid, in row-major order, one per row."""
        if strides not in self._anchors:
            ends = zip(self.extent, strides, strict=True)
            ranges = [self.np.arange(0, n, s) if s else self.np.zeros(1, int) for n, s in ends]
            mesh = self.np.meshgrid(*ranges, indexing="ij")
            self._anchors[strides] = self.np.stack(mesh, axis=-1).reshape(-1, len(strides))
        return self._anchors[strides]

    def _keys(self, strides: Vector) -> Array:
        keys: Array = self.anchors(strides) @ self.np.array(self.schedule.order).T
        return keys

    def _pack(self, keys: Array) -> Array:
        """One integer per key, in the same order; what is off the grid is moved to its rim."""
        packed = self.np.zeros(len(keys), dtype=self.np.int64)
        for k, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            column = self.np.clip(keys[:, k], low, high)
            packed = packed * (high - low + 1) + (column - low)
        return packed

    def positions(self, node: int) -> int:
        """How many positions a node has, channel groups apart."""
        return len(self.anchors(self.schedule.graph.nodes[node].strides))

    def selected(self, entry: Entry) -> Array:
        """Which of the node's anchors are an entry's, groups apart."""
        strides = self.schedule.graph.nodes[entry.node].strides
        chosen = self.np.ones(len(self.anchors(strides)), dtype=bool)
        for k, stride in enumerate(strides):
            if stride and entry.period[k] > 1:
                index = self.anchors(strides)[:, k] // stride
                chosen &= index % entry.period[k] == entry.phase[k]
        return chosen

    def groups(self, entry: Entry) -> range:
        """The channel groups of an entry."""
        node = self.schedule.graph.nodes[entry.node]
        if not node.grouped:
            return range(1)
        return range(entry.phase[-1], self.schedule.graph.channels, entry.period[-1])

    def moments(self, entry: Entry, group: int, due: Key | None) -> Array:
        """When `due` has passed, for all anchors of the node; `last` means never, -1 at once."""
        node = self.schedule.graph.nodes[entry.node]
        kind = (node.strides, group, due)
        if kind not in self._moments:
            keys = self._keys(node.strides)
            if due is None:
                self._moments[kind] = self.np.full(len(keys), ONCE)
                return self._moments[kind]
            if self.schedule.channels:
                keys = self.np.column_stack([keys, self.np.full(len(keys), group)])
            keys = keys + self.np.array([BEYOND if d == inf else int(d) for d in due])
            found = self.np.searchsorted(self.drawn, self._pack(keys), side="right")
            self._moments[kind] = found
        return self._moments[kind]

    def evaluations(self, entry: Entry) -> int:
        """How often an entry is evaluated, positions times groups."""
        chosen = self.selected(entry)
        moments = [self.moments(entry, group, entry.due) for group in self.groups(entry)]
        return sum(int((chosen & (at < self.last)).sum()) for at in moments)

    def kept(self, source: int, until: Key) -> int:
        """The most positions of a node, groups apart, that are kept from a moment to the next."""
        changes = self.np.zeros(self.last + 2, dtype=int)
        for entry in self.schedule.entries_of(source):
            chosen = self.selected(entry)
            for group in self.groups(entry):
                first = self.moments(entry, group, entry.due)[chosen]
                last = self.moments(entry, group, until)[chosen]
                stays = last > first
                self.np.add.at(changes, first[stays] + 1, 1)
                self.np.add.at(changes, last[stays] + 1, -1)
        return int(self.np.cumsum(changes)[:-1].max(initial=0))

    def pairs(self, node: int, read: Read, entries: Sequence[Entry]) -> tuple[int, int]:
        """How many positions a sweep reads when evaluated as scheduled, and if it were dense."""
        assert isinstance(read.reach, Sweep)
        reads, dense = self._swept(node, read.source, read.reach)
        done = 0
        for entry in entries:
            chosen = self.selected(entry)
            for group in self.groups(entry):
                at = self.moments(entry, group, entry.due)
                done += int(reads[chosen & (at < self.last)].sum())
        return done, int(dense.sum())

    def _swept(self, node: int, source: int, sweep: Sweep) -> tuple[Array, Array]:
        """For each anchor of the reader: how many positions it reads, and those of its fibre."""
        np = self.np
        mine = self.schedule.graph.nodes[node].strides
        theirs = self.schedule.graph.nodes[source].strides
        swept = [bool(a and s) for a, s in zip(sweep.along, theirs, strict=True)]
        here = self.anchors(mine).copy()
        for k, (taken, stride) in enumerate(zip(swept, theirs, strict=True)):
            if not taken:
                here[:, k] = here[:, k] // stride * stride if stride else 0
        order, there = np.array(self.schedule.order).T, self.anchors(theirs)
        fixed = np.array([0 if s else 1 for s in swept])
        place = np.array([prod(self.extent[k + 1 :]) for k in range(len(swept))])
        key_of = np.concatenate([here @ order, there @ order])
        low, size = key_of.min(axis=0), key_of.max(axis=0) - key_of.min(axis=0) + 3

        def number(anchors: Array) -> tuple[Array, Array]:
            fibre = (anchors * fixed) @ place
            packed = fibre
            for k, keys in enumerate((anchors @ order).T):
                packed = packed * size[k] + (keys - low[k] + 1)
            return packed, fibre * prod(int(n) for n in size)

        listed, ids = number(there)
        listed, ids = np.sort(listed), np.sort(ids)
        at, fibre = number(here)
        start = np.searchsorted(listed, fibre, side="left")
        dense = np.searchsorted(ids, fibre, side="right") - start
        if sweep.until == EVERYWHERE:
            return dense, dense
        rank = np.searchsorted(listed, at, side="left") - start
        until = "right" if sweep.until == PRESENT else "left"
        count = np.searchsorted(listed, at, side=until) - start
        same = all(mine[k] == theirs[k] for k, s in enumerate(swept) if s)
        scan = _scan_order(self.schedule.order, [k for k, taken in enumerate(swept) if taken])
        if same and scan is not None and not scan[1] and (sweep.window or sweep.every):
            window = np.minimum(sweep.window or 0, count)
            if sweep.every is not None:
                past = rank - (count - window) + 1  # from here on back, outside the window
                first = np.maximum(-(-past // sweep.every), int(sweep.until != PRESENT))
                window = window + np.maximum(rank // sweep.every - first + 1, 0)
            count = window
        return count, dense
