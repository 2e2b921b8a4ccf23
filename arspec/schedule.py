"""When every node is evaluated while a sample is drawn, and what has to be kept for later.

A key offset `due` says it all: v at position i is evaluated as soon as every x[q] with
``key(q) <= key(anchor(i)) + due(v)`` is drawn. Legal is any assignment with

    nearest(v) <= due(v),    due(v) + key(offset) <= due(w) wherever w reads v,    due(head) < 0,

so `nearest` is the eager end of the choice and the readers are the lazy one. Components that are
infinite wait for a whole slab: in raster order (3, inf) is due when row 3 below its own is
complete, for all columns of the row at once. Chosen is, from the head backwards,

1. the coarsest level, that is the fewest finite components, whose moment precedes every reader's;
2. as early as `nearest` allows, but not before the opening of the node's own slab, unless a reader
   needs it sooner.

In one dimension: in the step that draws t, v is evaluated at position t - max(0, nearest(v) + 1),
unless a reader looks ahead of it. Since every node is evaluated exactly once per position, drawing
all positions costs the operations of one parallel forward.

The dual of `due` is `until`: the last reader of v at i is evaluated before more than
``key(anchor(i)) + until(v)`` is drawn, so what a cache holds is the interval between the two.

Compare Halide's split of algorithm and schedule (Ragan-Kelley et al. 2013): the parallel forward
is the schedule "all positions at once", the sampler "key order outermost".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf

from arspec.graph import Graph
from arspec.moves import Rows, Vector, phases, resolve
from arspec.nearest import Key, Nearest, Objective
from arspec.schedule_moments import Planner, arriving, level_of, slab

ONCE = -1
"""The level of what does not depend on anything drawn."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The positions i of a node with ``i % period == phase``, and when they are evaluated.

    `period` and `phase` are in the node's own positions, one component per axis and, where the
    node has channel groups, a last one for the group. `due`: a key offset, see above; its channel
    component, where channels are drawn one after another, is relative to the group. None: once,
    before anything is drawn. `order`: entries due at the same moment go in ascending `order`; those
    with equal ones form a recursion, and their positions follow its own reads.
    """

    node: int
    period: Vector
    phase: Vector
    due: Key | None
    order: int

    @property
    def level(self) -> int:
        """How many components of the key have to be reached, less one; `ONCE` without any."""
        return ONCE if self.due is None else level_of(self.due)

    def holds(self, position: Sequence[int]) -> bool:
        """Whether a position, its group last, is one of this entry's."""
        return all(i % n == r for i, n, r in zip(position, self.period, self.phase, strict=True))


@dataclass(frozen=True, slots=True)
class Kept:
    """How far back one read needs a source, as `Cache.depth`."""

    reader: int
    read: int
    depth: Key


@dataclass(frozen=True, slots=True)
class Cache:
    """What is kept of a node from one moment to a later one, for all its readers together.

    `until`: v at i is kept until every x[q] with ``key(q) <= key(anchor(i)) + until`` is drawn and
    what is due then is evaluated. `depth` per component of the key, which are the axes in raster
    order: how many of the node's positions are kept beside those being evaluated, 0 for none, inf
    for all there are; a slab in progress counts. `reads`: who needs it later than at once.
    """

    source: int
    until: Key
    depth: Key
    reads: tuple[Kept, ...]


@dataclass(frozen=True)
class Schedule:
    """The derived sampler of one term, as a value.

    `levels`: the nested loops of the sampler by name, the outermost first; an entry's `level`
    indexes it. `order` maps an anchor to its key, in units of `unit` per step of the variable;
    `channels`: the key has a last component, the channel. `inputs`: the variable, and conditions
    that arrive while it is drawn, have entries that say when they are there. `entries` are sorted
    by `Entry.order`, i.e. topologically.
    """

    graph: Graph
    levels: tuple[str, ...]
    order: Rows
    unit: int
    channels: bool
    inputs: frozenset[int]
    entries: tuple[Entry, ...]
    caches: tuple[Cache, ...]

    def level_name(self, level: int) -> str:
        """`once`, or the loop's."""
        return "once" if level == ONCE else self.levels[level]

    def entries_of(self, node: int) -> tuple[Entry, ...]:
        """The entries of one node, none if it is dead."""
        return self._by_node.get(node, ())

    @cached_property
    def _by_node(self) -> dict[int, tuple[Entry, ...]]:
        found: dict[int, tuple[Entry, ...]] = {}
        for entry in self.entries:
            found[entry.node] = (*found.get(entry.node, ()), entry)
        return found

    def key(self, node: int, position: Sequence[int]) -> Vector:
        """The key of a position of a node; with channels, its group is the last component."""
        strides = self.graph.nodes[node].strides
        anchor = [i * s for i, s in zip(position, strides, strict=False)]
        key = tuple(sum(m * a for m, a in zip(row, anchor, strict=True)) for row in self.order)
        group = position[len(strides)] if len(position) > len(strides) else 0
        return (*key, group) if self.channels else key


def schedule(graph: Graph, uniform: bool = False, fine: frozenset[int] = frozenset()) -> Schedule:
    """The schedule of a term that is proven causal; ValueError if it is not.

    `uniform`: all positions of a node are due alike, whatever their phase; ValueError if no such
    schedule is found. `fine`: nodes that belong to as fine a loop as they can.
    """
    resolved = resolve(graph)
    inputs, extended = arriving(resolved)
    channels = graph.channels > 1
    run = Nearest(Objective(extended, resolved.order, channels), graph.target)
    planner = Planner(run, inputs, uniform, fine)
    planner.plan()
    entries = sorted(_entries(planner), key=lambda e: (e.order, e.node, e.phase))
    return Schedule(
        graph,
        _level_names(graph),
        resolved.order,
        resolved.unit,
        channels,
        inputs,
        tuple(entries),
        tuple(_caches(planner)),
    )


def _level_names(graph: Graph) -> tuple[str, ...]:
    n = len(graph.order)
    names = list(graph.axes[: n - 1] if graph.raster else [f"step {k + 1}" for k in range(n - 1)])
    names.append("position" if graph.raster else "step")
    return (*names, "channel") if graph.channels > 1 else tuple(names)


# ---------------------------------------------------------------------------------- entries


def _entries(planner: Planner) -> Iterator[Entry]:
    """Per live node as few as tell its cells apart."""
    for order, members in enumerate(planner.components):
        for node in members:
            yield from _node_entries(planner, node, order)


def _node_entries(planner: Planner, node: int, order: int) -> Iterator[Entry]:
    strides = planner.graph.nodes[node].strides
    counts = phases(planner.run.period(node), strides)
    if planner.graph.nodes[node].grouped:
        counts.append(planner.resolved.groups(node))
    missing = object()
    cells = list(product(*map(range, counts)))
    values = {at: planner.due.get((node, cell), missing) for cell, at in enumerate(cells)}
    period = _shortest_period(counts, values)
    for phase in product(*map(range, period)):
        due = values[phase]
        if due is not missing:
            yield Entry(node, period, phase, due, order)  # type: ignore[arg-type]


def _shortest_period(counts: Sequence[int], values: dict[Vector, object]) -> Vector:
    period = list(counts)
    for axis, count in enumerate(counts):
        for size in range(1, count):
            if count % size == 0 and all(
                value == values[(*at[:axis], at[axis] % size, *at[axis + 1 :])]
                for at, value in values.items()
            ):
                period[axis] = size
                break
    return tuple(period)


# ----------------------------------------------------------------------------------- caches


def _caches(planner: Planner) -> Iterator[Cache]:
    """For every source, from when it is due to its last reader's moment."""
    graph, run, due = planner.graph, planner.run, planner.due
    farthest = _Farthest(planner)
    first: dict[int, Key] = {}  # of what is computed while drawing
    once = {node for (node, _), moment in due.items() if moment is None}
    for (node, _), moment in due.items():
        if moment is not None and node not in once:
            first[node] = min(first.get(node, moment), moment)
    lasts: dict[int, dict[tuple[int, int], Key]] = {}
    for (reader, cell), moment in due.items():
        if moment is None or reader in planner.inputs:
            continue
        for number, (source, m) in enumerate(run.resolved.reads[reader]):
            last = lasts.setdefault(source, {})
            back = farthest.back(source, m, reader, cell)
            if back is not None:
                until = tuple(a + b for a, b in zip(moment, back, strict=True))
                last[reader, number] = max(last.get((reader, number), until), until)
    digits = run.objective.digits
    shared = 0 if graph.nodes[graph.head].grouped else graph.channels - 1  # it serves all channels
    lasts.setdefault(graph.head, {})[-1, -1] = (0,) * (digits - 1) + (shared - 1,)
    for source, reads in sorted(lasts.items()):
        if not reads:
            continue
        scale = _scales(planner, source)
        start = first.get(source)

        def depth(until: Key, start: Key | None = start, scale: Key = scale) -> Key:
            return (inf,) * digits if start is None else _depth(start, until, scale)

        until = max(reads.values())
        if any(depth(until)):
            needed = tuple(Kept(*at, depth(last)) for at, last in reads.items() if any(depth(last)))
            yield Cache(source, until, depth(until), needed)


class _Farthest:
    """How far back in key order a reader's cell reads."""

    def __init__(self, planner: Planner) -> None:
        self.planner, resolved = planner, planner.resolved
        self.channels = planner.run.objective.channel
        rows = tuple(tuple(-entry for entry in row) for row in resolved.order)
        self.objective = Objective(resolved, rows)
        self._known: dict[object, list[Key | None]] = {}

    def back(self, source: int, m: int, reader: int, cell: int) -> Key | None:
        """The largest of key(reader) - key(source); infinite for what is there from the start."""
        run = self.planner.run
        if run.values[source] is None:
            return (inf,) * run.objective.digits
        kind = (m, run.period(source), run.period(reader))
        if kind not in self._known:
            self._known[kind] = [
                max((self._offset(m, cell, inner, w) for inner, w in pairs), default=None)
                for cell, pairs in enumerate(self.objective.edges(*kind))
            ]
        return self._known[kind][cell]

    def _offset(self, m: int, cell: int, inner: int, weight: int) -> Key:
        key = self.objective.unpack(weight)
        move = self.planner.resolved.moves[m]
        for k, (theirs, mine) in enumerate(zip(move.source, move.reader, strict=True)):
            if mine and not theirs:  # one position serves the reader's whole axis
                lead = next((r for r, row in enumerate(self.objective.rows) if row[k]), len(key))
                key = slab(key, lead - 1)
        ahead = cell % move.reader_groups - inner % move.source_groups
        return (*key, inf if inf in key else ahead) if self.channels else key


def _scales(planner: Planner, node: int) -> Key:
    """The distance between neighbours along each component of the key."""
    resolved, strides = planner.resolved, planner.graph.nodes[node].strides
    scales = []
    for row in resolved.order:
        moving = [abs(m) * s for m, s in zip(row, strides, strict=True) if m and s]
        scales.append(float(moving[0] if len(moving) == 1 else resolved.unit))
    return (*scales, 1.0) if planner.run.objective.channel else tuple(scales)


def _depth(due: Key, until: Key, scale: Key) -> Key:
    for k, (start, end) in enumerate(zip(due, until, strict=True)):
        if start != end:
            beside = level_of(due) > k  # a slab in progress is kept for later, too
            count = -((start - end) // scale[k]) + beside if end < inf else inf
            return (0,) * k + (count,) + (inf,) * (len(due) - k - 1)
    return (0,) * len(due)
