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

In one dimension: v is evaluated at position t - max(0, n + 1) in the step that draws t. Since every
node is evaluated exactly once per position, drawing all positions costs the operations of one
parallel forward. The dual of `due` is `until`: the last reader of v at i is evaluated before more
than ``key(anchor(i)) + until(v)`` is drawn, so what a cache holds is the interval between the two.

Compare Halide's split of algorithm and schedule (Ragan-Kelley et al. 2013): the parallel forward
is the schedule "all positions at once", the sampler "key order outermost".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import inf

from arspec.graph import ALL, Bound, Graph
from arspec.moves import ANY, Move, Resolved, Rows, Taps, Vector, Window, phases, resolve
from arspec.nearest import Key, Nearest, Objective

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


def level_of(key: Key) -> int:
    """The last component that is finite."""
    return (key.index(inf) if inf in key else len(key)) - 1


def slab(key: Key, level: int) -> Key:
    """The end of the slab of that level that a key is in."""
    return key[: level + 1] + (inf,) * (len(key) - level - 1)


def schedule(graph: Graph) -> Schedule:
    """The schedule of a term that is proven causal; ValueError if it is not."""
    resolved = resolve(graph)
    inputs, arriving = _arriving(resolved)
    channels = graph.channels > 1
    run = Nearest(Objective(arriving, resolved.order, channels), graph.target)
    planner = _Planner(run, inputs)
    planner.plan()
    entries = sorted(planner.entries(), key=lambda e: (e.order, e.node, e.phase))
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


# ------------------------------------------------------------------------ conditions that arrive


def _arriving(resolved: Resolved) -> tuple[frozenset[int], Resolved]:
    """The inputs that come while drawing, as if each were computed from what is drawn by then."""
    graph = resolved.graph
    moves, reads = list(resolved.moves), list(resolved.reads)
    inputs = {graph.target}
    for node, bound in graph.bounds.items():
        window = None if node == graph.target else _arrival(resolved, node, bound)
        if window is not None:
            inputs.add(node)
            source, reader = graph.nodes[graph.target], graph.nodes[node]
            groups = resolved.groups(graph.target), resolved.groups(node)
            moves.append(Move((window,), source.strides, reader.strides, *groups))
            reads[node] = [(graph.target, len(moves) - 1)]
    return frozenset(inputs), replace(resolved, moves=moves, reads=reads)


def _arrival(resolved: Resolved, node: int, bound: Bound) -> Window | None:
    """What of the target is drawn when a condition is known; None where it is given at the start.

    That is where all of it is known, and where what is known is not relative to its own position.
    """
    order, strides = resolved.order, resolved.graph.nodes[node].strides
    everywhere = (ANY,) * len(strides)
    backwards = any(row[k] < 0 for row in order for k, s in enumerate(strides) if not s)
    if bound.ahead is None or backwards:
        return None
    if bound.ahead:
        first = resolved.graph.nodes[resolved.graph.target].strides[0]
        if order[0][0] <= 0 or any(order[0][1:]) or not strides[0]:
            return None
        return Window((Taps(-inf, -bound.ahead * first - 1), *everywhere[1:]), ALL)
    return Window(everywhere, ALL, (0,) * (len(order) - 1) + (0 if bound.strict else -1,))


# ---------------------------------------------------------------------------------- moments


Place = tuple[int, int]
"""A node and one of its cells: a phase and a channel group."""


class _Planner:
    """Chooses `due` for every cell that the head depends on, from the head backwards."""

    def __init__(self, run: Nearest, inputs: frozenset[int]) -> None:
        self.run, self.inputs = run, inputs
        self.resolved, self.graph = run.resolved, run.resolved.graph
        self.unpack = run.objective.unpack
        nodes = range(len(self.graph.nodes))
        self.components = self.resolved.components or [[node] for node in nodes]
        self.nearest = [self._nearest(node) for node in nodes]
        self.due: dict[Place, Key | None] = {}
        self._demands: dict[Place, set[tuple[Key, Key]]] = {}
        self._edges: dict[object, list[list[tuple[int, Key]]]] = {}

    def _nearest(self, node: int) -> list[Key | None]:
        cells = self.run.cells(node)
        count = self.resolved.size(node, self.run.period(node))
        return [None if c is None else self.unpack(c) for c in cells or [None] * count]

    def reads(self, node: int, cell: int) -> Iterator[tuple[int, int, Key | None]]:
        """(source, its cell, farthest key offset) for all that a cell reads.

        The offset is None where nothing drawn is read; what is of a slower clock may then be
        another cell than is said.
        """
        if node in self.inputs:
            return
        for source, m in self.resolved.reads[node]:
            if self.run.values[source] is None:
                for inner in range(len(self.nearest[source])):
                    yield source, inner, None
                continue
            for inner, offset in self._pairs(m, self.run.period(source), self.run.period(node))[
                cell
            ]:
                yield source, inner, offset

    def _pairs(self, m: int, source: Vector, reader: Vector) -> list[list[tuple[int, Key]]]:
        kind = (m, source, reader)
        if kind not in self._edges:
            edges = self.run.objective.edges(m, source, reader)
            self._edges[kind] = [[(i, self.unpack(w)) for i, w in pairs] for pairs in edges]
        return self._edges[kind]

    def plan(self) -> None:
        digits = self.run.objective.digits
        before = (0,) * (digits - 1) + (-1,)  # everything earlier than the position itself
        here = (0,) * digits
        for cell in range(len(self.nearest[self.graph.head])):
            self._demands[self.graph.head, cell] = {(before, here)}
        for members in reversed(self.components):
            self._settle(members)

    def _settle(self, members: Sequence[int]) -> None:
        """Choose for one node, or for all of a recursion together."""
        inside = set(members)
        known = self._demands
        alive = [(i, c) for i in members for c in range(len(self.nearest[i])) if (i, c) in known]
        inner: list[tuple[Place, Place, Key]] = []  # reader, source, offset
        for place in alive:  # grows on the way
            for source, cell, offset in self.reads(*place):
                if source in inside:
                    if (source, cell) not in known:
                        known[source, cell] = set()
                        alive.append((source, cell))
                    if offset is not None and self.nearest[source][cell] is not None:
                        inner.append((place, (source, cell), offset))
        eager = self._coarsen(alive, inner)
        self._delay(alive, inner, eager)
        self._align(alive)
        for place in alive:
            due = self.due[place]
            for source, cell, offset in self.reads(*place):
                if source not in inside:
                    demands = known.setdefault((source, cell), set())
                    if due is not None and offset is not None:
                        demands.add((due, offset))

    def _coarsen(
        self, alive: Sequence[Place], inner: Sequence[tuple[Place, Place, Key]]
    ) -> dict[Place, Key]:
        """The earliest moments, each at the coarsest level that all readers can wait for."""
        eager = {}
        for place in alive:
            nearest = self.nearest[place[0]][place[1]]
            if nearest is None:
                continue
            if place[0] in self.inputs:
                eager[place] = nearest
                continue
            demands = self._demands[place]
            level = max((_coarsest(nearest, o, due) for due, o in demands), default=0)
            eager[place] = slab(nearest, level)
        changed = bool(inner)
        while changed:
            changed = False
            for reader, source, offset in inner:
                nearest = self.nearest[source[0]][source[1]]
                assert nearest is not None
                level = _coarsest(nearest, offset, eager[reader])
                if level > level_of(eager[source]):
                    finer = slab(nearest, level)
                    changed |= finer != eager[source]
                    eager[source] = finer
        return eager

    def _delay(
        self,
        alive: Sequence[Place],
        inner: Sequence[tuple[Place, Place, Key]],
        eager: dict[Place, Key],
    ) -> None:
        """Not before the own slab opens, unless a reader needs it sooner."""
        for place in alive:
            due: Key | None = eager.get(place)
            if due is not None and place[0] not in self.inputs:
                level = level_of(due)
                opening = (0,) * level + (-1,) + (inf,) * (len(due) - level - 1)
                due = max(due, opening)
                for demand, offset in self._demands[place]:
                    due = min(due, _latest(demand, offset, level))
            self.due[place] = due
        changed = bool(inner)
        while changed:
            changed = False
            for reader, source, offset in inner:
                theirs, own = self.due[reader], self.due[source]
                assert theirs is not None  # since both depend on what is drawn
                assert own is not None
                sooner = _latest(theirs, offset, level_of(eager[source]))
                if sooner < own:
                    self.due[source], changed = sooner, True

    def _align(self, alive: Sequence[Place]) -> None:
        """The first channel opens when its position does: say it as the other channels do."""
        last = self.run.objective.digits - 1
        for node, cell in alive:
            due, groups = self.due[node, cell], self.resolved.groups(node)
            if due is not None and groups > 1 and cell % groups == 0 and level_of(due) == last - 1:
                others = [self.due.get((node, cell + g)) for g in range(1, groups)]
                if any(other is not None and level_of(other) == last for other in others):
                    self.due[node, cell] = (*due[: last - 1], due[last - 1] + 1, -1)

    def entries(self) -> Iterator[Entry]:
        """Per live node as few as tell its cells apart."""
        for order, members in enumerate(self.components):
            for node in members:
                yield from self._node_entries(node, order)

    def _node_entries(self, node: int, order: int) -> Iterator[Entry]:
        strides = self.graph.nodes[node].strides
        counts = phases(self.run.period(node), strides)
        if self.graph.nodes[node].grouped:
            counts.append(self.resolved.groups(node))
        missing = object()
        cells = list(product(*map(range, counts)))
        values = {at: self.due.get((node, cell), missing) for cell, at in enumerate(cells)}
        period = _shortest_period(counts, values)
        for phase in product(*map(range, period)):
            due = values[phase]
            if due is not missing:
                yield Entry(node, period, phase, due, order)  # type: ignore[arg-type]


def _coarsest(nearest: Key, offset: Key, due: Key) -> int:
    """The coarsest level at which the offset leads no farther than `due`."""
    total = tuple(a + b for a, b in zip(nearest, offset, strict=True))
    for level in range(len(total)):
        if slab(total, level) <= due:
            return min(level, level_of(nearest))
    raise ValueError("the graph is not causal")


def _latest(due: Key, offset: Key, level: int) -> Key:
    """The latest moment of that level from which `offset` leads no farther than `due`."""
    free, end = level_of(offset) + 1, level_of(due) + 1
    count = min(free, end)
    latest = [d - o for d, o in zip(due[:count], offset, strict=False)]
    if free < end or level + 1 < count:  # the slab it falls in is not complete by then
        del latest[level + 1 :]
        latest[-1] -= 1
    return (*latest, *(inf,) * (len(due) - len(latest)))


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


def _caches(planner: _Planner) -> Iterator[Cache]:
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

    def __init__(self, planner: _Planner) -> None:
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


def _scales(planner: _Planner, node: int) -> Key:
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
