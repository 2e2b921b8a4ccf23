"""A reach, taken apart: every reach is a union of windows, products of one-dimensional reads.

A `Window` is a product over the axes of `Taps`; offsets are the anchor of what is read minus the
anchor of the reader, on the finest grid. Since the set is a product, its largest element in any
linear order is found axis by axis, whatever the number of taps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import gcd, inf, lcm, prod

from arspec.graph import ALL, BEFORE, EVERYWHERE, PRESENT, SAME, Graph, Reach, Stencil, Sweep

Vector = tuple[int, ...]
Rows = tuple[Vector, ...]

HERE, FLOOR, BELOW, ABOVE = "here", "floor", "below", "above"
"""Where taps are counted from: the reader's anchor, or the source's position that is the latest at
or before it, the latest strictly before it, the first strictly after it."""


@dataclass(frozen=True, slots=True)
class Taps:
    """The offsets read along one axis: base + lo, base + lo + step, ..., base + hi.

    Only those count that meet a position of the source (a transposed convolution misses some).
    Either end may be infinite; both: every position of the axis.
    """

    lo: float
    hi: float
    step: int = 1
    base: str = HERE

    @property
    def everything(self) -> bool:
        return self.lo == -inf and self.hi == inf

    def meets(self, anchor: int, stride: int, period: int) -> list[tuple[int, float, float]]:
        """What a reader at `anchor` reads of a source of that stride: (residue, lowest, highest).

        One entry per residue of the source's anchor modulo `period`, a multiple of its stride.
        """
        if stride == 0:
            return [(0, 0, 0)]
        if self.everything:
            return [(residue, -inf, inf) for residue in range(0, period, stride)]
        base = _base(self.base, anchor, stride)
        cycle = period // gcd(self.step, period)
        found: list[
            tuple[int, float, float]
        ] = []  # an offset, and its residue's lowest and highest
        if self.lo == -inf:
            firsts = [base + int(self.hi) - t * self.step for t in range(cycle)]
            found = [(first, -inf, first) for first in firsts]
        elif self.hi == inf:
            firsts = [base + int(self.lo) + t * self.step for t in range(cycle)]
            found = [(first, first, inf) for first in firsts]
        else:
            count = int(self.hi - self.lo) // max(self.step, 1) + 1
            for t in range(min(count, cycle)):
                first = base + int(self.lo) + t * self.step
                again = (count - 1 - t) // cycle * cycle * self.step
                found.append((first, first, first + again))
        return [
            ((anchor + offset) % period, lowest, highest)
            for offset, lowest, highest in found
            if (anchor + offset) % stride == 0
        ]


def _base(base: str, anchor: int, stride: int) -> int:
    if base == FLOOR:
        return -(anchor % stride)
    if base == BELOW:
        return -((anchor - 1) % stride) - 1
    if base == ABOVE:
        return stride - anchor % stride
    return 0


STAY = Taps(0, 0)
STAY_FLOOR = Taps(0, 0, base=FLOOR)
ANY = Taps(-inf, inf)
EARLIER = {1: Taps(-inf, 0, base=BELOW), -1: Taps(0, inf, base=ABOVE)}
"""Everything strictly before the reader on an axis that the order runs along upwards, downwards."""


@dataclass(frozen=True, slots=True)
class Window:
    """A product of taps, one per axis. `groups` as in `graph.Box`.

    `cap`: a bound on the key of the offset, where the product holds more than what is read.
    """

    taps: tuple[Taps, ...]
    groups: str
    cap: Vector | None = None


@dataclass(frozen=True, eq=False)
class Move:
    """A reach between two kinds of nodes, as windows.

    `exact` is the sweep itself where its windows are a superset of what it reads on a finite grid.
    """

    windows: tuple[Window, ...]
    source: Vector
    reader: Vector
    source_groups: int
    reader_groups: int
    exact: Sweep | None = None

    def groups_read(self, rule: str, group: int) -> range:
        """The source's channel groups that the reader's `group` reads."""
        if self.source_groups == 1 or self.reader_groups == 1 or rule == ALL:
            return range(self.source_groups)
        if rule == SAME:
            return range(group, group + 1)
        return range(group) if rule == BEFORE else range(group + 1)


def move_of(
    reach: Reach,
    source: Vector,
    reader: Vector,
    order: Rows,
    source_groups: int = 1,
    reader_groups: int = 1,
) -> Move:
    """The windows of `reach` from a node of strides `source` to one of strides `reader`.

    A sweep's `window` and `every` count positions one after the other. Where there is no such
    sequence (two grids, equal keys, a key that mixes the axes swept) they are taken as absent,
    which reads more, never less.

    `order` maps an anchor to its key, one row per component of the key.
    """
    exact = None
    if isinstance(reach, Stencil):
        windows = tuple(_stencil(reach, source, reader))
    else:
        swept = [k for k, along in enumerate(reach.along) if along and source[k]]
        scan = _scan_order(order, swept)
        if scan is None or scan[1] or any(source[k] != reader[k] for k in swept):
            reach = replace(reach, window=None, every=None)  # nothing to count along
        if source_groups == 1 or reader_groups == 1:
            reach = replace(reach, groups=ALL)
        skewed = scan is None and reach.until != EVERYWHERE
        windows = tuple(
            _skewed_sweep(reach, source, reader, order, swept)
            if skewed
            else _sweep(reach, source, swept, scan or ([], swept))
        )
        counted = reach.window is not None or reach.every is not None
        if skewed or (counted and len(swept) > 1 and reach.until != EVERYWHERE):
            exact = reach
    return Move(windows, source, reader, source_groups, reader_groups, exact)


def _stencil(reach: Stencil, source: Sequence[int], reader: Sequence[int]) -> Iterable[Window]:
    for box in reach.boxes:
        taps = []
        for k, (lo, hi, step) in enumerate(zip(box.lo, box.hi, box.step, strict=True)):
            last = lo + (hi - lo) // step * step
            if reach.transposed:
                unit = reader[k]
                taps.append(Taps(-unit * last, -unit * lo, unit * step))
            else:
                unit, base = source[k], FLOOR if reach.up[k] > 1 else HERE
                taps.append(Taps(unit * lo, unit * last, unit * step, base))
        yield Window(tuple(taps), box.groups)


def _sweep(
    reach: Sweep,
    source: Sequence[int],
    swept: Sequence[int],
    scan: tuple[list[tuple[int, int]], list[int]],
) -> Iterable[Window]:
    """A sweep along axes that the order runs along one after the other."""
    ordered, tied = scan
    fixed = [STAY if k in swept else STAY_FLOOR for k in range(len(source))]
    if reach.until == EVERYWHERE:
        yield from _ties(fixed, swept, reach.groups)
        return
    if reach.until == PRESENT:
        yield from _ties(fixed, tied, reach.groups)
    for j, (axis, sign) in enumerate(ordered):
        taps = list(fixed)
        for later in [k for k, _ in ordered[j + 1 :]] + tied:
            taps[later] = ANY
        last = j == len(ordered) - 1 and not tied
        for earlier in _earlier(reach, source[axis], sign, last):
            taps[axis] = earlier
            yield Window(tuple(taps), ALL)


def _ties(fixed: Sequence[Taps], free: Sequence[int], groups: str) -> Iterable[Window]:
    """Everything along the axes `free`; `groups` holds for the reader's own position only."""
    everywhere = [ANY if k in free else taps for k, taps in enumerate(fixed)]
    if groups == ALL:
        yield Window(tuple(everywhere), ALL)
        return
    yield Window(tuple(fixed), groups)
    for axis in free:
        for side in EARLIER.values():
            yield Window(tuple(side if k == axis else t for k, t in enumerate(everywhere)), ALL)


def _earlier(reach: Sweep, stride: int, sign: int, last: bool) -> Iterable[Taps]:
    """What comes before the reader on the axis; window and every restrict the last axis only."""
    if reach.window is None and reach.every is None:
        yield EARLIER[sign]
        return
    latest = (reach.window or 0) - (reach.until == PRESENT)
    if not last:
        if latest > 0 or reach.every is not None:
            yield EARLIER[sign]
        return
    if latest > 0:
        near, far = -sign * stride, -sign * stride * latest
        yield Taps(min(near, far), max(near, far), stride)
    if reach.every is not None:
        step = stride * reach.every
        yield Taps(-inf, -step, step) if sign > 0 else Taps(step, inf, step)


def _skewed_sweep(
    reach: Sweep, source: Sequence[int], reader: Sequence[int], order: Rows, swept: Sequence[int]
) -> Iterable[Window]:
    """A sweep whose axes the order mixes: everything along them, with a bound on the key.

    The bound is exact, on an unbounded grid and for one phase: it is the largest negative element
    of the lattice of keys.
    """
    fixed = [STAY if k in swept else STAY_FLOOR for k in range(len(source))]
    if reach.until == PRESENT:
        yield Window(tuple(fixed), reach.groups)
    steps = [[row[k] * gcd(source[k], reader[k]) for row in order] for k in swept]
    pivot, ties = _last_pivot(steps)
    cap = tuple(0 for _ in order) if ties and reach.until == PRESENT else tuple(-x for x in pivot)
    yield Window(tuple(ANY if k in swept else taps for k, taps in enumerate(fixed)), ALL, cap)


def _scan_order(
    order: Rows, swept: Sequence[int]
) -> tuple[list[tuple[int, int]], list[int]] | None:
    """(axis, direction) in the order's own sequence, and the axes along which all keys are equal.

    None if a component of the key mixes two of them.
    """
    left, ordered = list(swept), []
    for row in order:
        moving = [k for k in left if row[k]]
        if len(moving) > 1:
            return None
        for k in moving:
            ordered.append((k, 1 if row[k] > 0 else -1))
            left.remove(k)
    return ordered, left


def _last_pivot(columns: list[list[int]]) -> tuple[list[int], bool]:
    """The last pivot of the columns' Hermite normal form, and whether some column became zero."""
    pivot: list[int] = []
    for row in range(len(columns[0])):
        while len(active := [c for c in columns if c[row]]) > 1:
            smallest = min(active, key=lambda c: abs(c[row]))
            for column in active:
                if column is not smallest:
                    times = column[row] // smallest[row]
                    column[:] = [x - times * y for x, y in zip(column, smallest, strict=True)]
        if active:
            pivot = active[0] if active[0][row] > 0 else [-x for x in active[0]]
            columns = [c for c in columns if c is not active[0]]
    return pivot, bool(columns)


@dataclass(frozen=True)
class Resolved:
    """A graph whose reads are moves: what all propagations share.

    `reads` per node: (source, index of the move). `order`: maps an anchor to `unit` times its key.
    `components`: in topological order; None if no read closes a cycle.
    """

    graph: Graph
    order: Rows
    unit: int
    moves: list[Move]
    reads: list[list[tuple[int, int]]]
    components: list[list[int]] | None

    def groups(self, node: int) -> int:
        """The number of channel groups of a node."""
        return self.graph.channels if self.graph.nodes[node].grouped else 1

    def recursive(self, members: Sequence[int]) -> bool:
        """Whether a component is one node that reads itself, or several."""
        return len(members) > 1 or any(source == members[0] for source, _ in self.reads[members[0]])

    def widen(self, node: int, periods: Callable[[int], Vector | None]) -> Vector:
        """The period of a node, in anchors, from those of its sources; None: not live, no matter.

        It is 1 position until something that is read has another grid.
        """
        period = list(self.graph.nodes[node].strides)
        for source, m in self.reads[node]:
            for k, p in enumerate(periods(source) or ()):
                if p and not all(window.taps[k].everything for window in self.moves[m].windows):
                    period[k] = lcm(period[k], p)
        return tuple(period)

    def size(self, node: int, period: Vector) -> int:
        """The number of cells of a node: its phases times its channel groups."""
        return prod(phases(period, self.graph.nodes[node].strides)) * self.groups(node)


def phases(period: Vector, strides: Vector) -> list[int]:
    """How many phases per axis."""
    return [p // s if s else 1 for p, s in zip(period, strides, strict=True)]


def resolve(graph: Graph) -> Resolved:
    """Take every reach apart, once for each kind of nodes that it connects."""
    strides = graph.nodes[graph.target].strides
    unit = lcm(*(s for s in strides if s))
    order = tuple(
        tuple(entry * unit // s if s else 0 for entry, s in zip(row, strides, strict=True))
        for row in graph.order
    )
    moves: list[Move] = []
    known: dict[tuple[object, ...], int] = {}
    numbers: dict[int, int] = {}  # of a reach, by identity; equal ones share theirs
    distinct: dict[Reach, int] = {}
    reads: list[list[tuple[int, int]]] = []
    cyclic = False
    nodes, channels = graph.nodes, graph.channels
    for i, node in enumerate(nodes):
        resolved = []
        for read in node.reads:
            source, reach = nodes[read.source], read.reach
            number = numbers.get(id(reach))
            if number is None:
                number = numbers[id(reach)] = distinct.setdefault(reach, len(distinct))
            kind = (number, source.strides, node.strides, source.grouped, node.grouped)
            move = known.get(kind)
            if move is None:
                move = known[kind] = len(moves)
                sizes = (channels if source.grouped else 1, channels if node.grouped else 1)
                moves.append(move_of(reach, source.strides, node.strides, order, *sizes))
            resolved.append((read.source, move))
            cyclic |= read.source >= i
        reads.append(resolved)
    return Resolved(graph, order, unit, moves, reads, _components(graph) if cyclic else None)


def _components(graph: Graph) -> list[list[int]]:
    """The strongly connected components, in topological order."""
    import networkx  # here, because importing it costs 0.2 s and a graph without cycles needs none

    condensed = networkx.condensation(networkx.DiGraph(graph.to_networkx()))
    return [sorted(condensed.nodes[c]["members"]) for c in networkx.topological_sort(condensed)]
