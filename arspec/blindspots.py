"""Exact propagation on a bounded grid: which positions of the target the head really reads.

A set of positions is one integer, a bit per anchor of the finest grid in row-major order; a node
with channel groups has one such field per group. Coarser nodes use the bits of their anchors, so
that every read is a few shifts, whatever the rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import gcd, inf, prod

from arspec.fibres import Fibre
from arspec.graph import PAST, PRESENT, Graph, Sweep
from arspec.moves import (
    ABOVE,
    BELOW,
    FLOOR,
    HERE,
    STAY_FLOOR,
    Move,
    Resolved,
    Taps,
    Vector,
    move_of,
    resolve,
)

SIZE = 64
"""Positions per axis on which blind spots are counted."""

LARGEST = 1 << 25
"""Anchors of the largest grid on which they are."""


class Frame:
    """A grid of anchors, and shifts of sets of them; what leaves the grid is gone."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.inner = [prod(shape[k + 1 :]) for k in range(len(shape))]
        self.full = (1 << prod(shape)) - 1
        self._masks: dict[tuple[int, int, int, int], int] = {}

    def bit(self, anchors: Sequence[int]) -> int:
        """The set of one anchor."""
        return 1 << sum(a * i for a, i in zip(anchors, self.inner, strict=True))

    def anchors(self, bits: int) -> Iterator[Vector]:
        """The members of a set."""
        while bits:
            flat = (bits & -bits).bit_length() - 1
            bits &= bits - 1
            yield tuple(flat // i % n for i, n in zip(self.inner, self.shape, strict=True))

    def slab(self, axis: int, start: int, stop: int, step: int = 1) -> int:
        """All anchors whose component on `axis` is in ``range(start, stop, step)``."""
        kind = (axis, start, stop, step)
        if kind not in self._masks:
            inner = self.inner[axis]
            row = self._repeat((1 << inner) - 1, inner * step, len(range(start, stop, step)))
            block = inner * self.shape[axis]
            self._masks[kind] = self._repeat(row << inner * start, block, prod(self.shape[:axis]))
        return self._masks[kind]

    @staticmethod
    def _repeat(bits: int, distance: int, times: int) -> int:
        out, done = (bits, 1) if times > 0 else (0, 1)
        while done < times:
            more = min(done, times - done)
            out |= out << more * distance
            done += more
        return out

    def shift(self, bits: int, axis: int, distance: int) -> int:
        """Every anchor moved along `axis`."""
        size, inner = self.shape[axis], self.inner[axis]
        if not distance:
            return bits
        if abs(distance) >= size:
            return 0
        if distance > 0:
            return (bits & self.slab(axis, 0, size - distance)) << distance * inner
        return (bits & self.slab(axis, -distance, size)) >> -distance * inner

    def spread(self, bits: int, axis: int, count: int, step: int) -> int:
        """The union of the shifts by 0, step, 2 step, ..., `count` of them."""
        count, done = min(count, self.shape[axis] // max(abs(step), 1) + 1), 1
        while done < count:
            more = min(done, count - done)
            bits |= self.shift(bits, axis, more * step)
            done += more
        return bits

    def read(self, bits: int, axis: int, taps: Taps, source: int, reader: int) -> int:
        """What readers at `bits` read along one axis, of a source of that stride."""
        size = self.shape[axis]
        if source == 0 or taps.everything:
            first = self.spread(bits, axis, size, -1) & self.slab(axis, 0, 1)
            return self.spread(first, axis, size, source) if source else first
        unit = gcd(source, reader)
        if taps.base == FLOOR:
            bits = self.spread(bits, axis, source // unit, -unit)
        elif taps.base == BELOW:
            bits = self.spread(self.shift(bits, axis, -unit), axis, source // unit, -unit)
        elif taps.base == ABOVE:
            bits = self.spread(self.shift(bits, axis, unit), axis, source // unit, unit)
        on_grid = self.slab(axis, 0, size, source)
        if taps.base != HERE:
            bits &= on_grid
        out = 0
        for first, count, step in _outwards(taps, size):
            out |= self.spread(self.shift(bits, axis, first), axis, count, step)
        return out & on_grid


def _outwards(taps: Taps, size: int) -> Iterator[tuple[int, int, int]]:
    """Taps as runs (first, count, step), outwards from zero: what leaves the grid is lost."""
    step = max(taps.step, 1)
    if taps.lo == -inf:
        yield int(taps.hi), size, -step
        return
    lo = int(taps.lo)
    count = size if taps.hi == inf else int(taps.hi - taps.lo) // step + 1
    below = min(count, max(0, -(lo // step)))
    if below:
        yield lo + (below - 1) * step, below, -step
    if below < count:
        yield lo + below * step, count - below, step


class Reader:
    """Follows reads backwards from sets of readers, on one frame."""

    def __init__(self, resolved: Resolved, frame: Frame) -> None:
        self.resolved, self.frame = resolved, frame
        self.width = prod(frame.shape)
        self._known: dict[tuple[int, int], int] = {}
        self._fibres: dict[tuple[int, ...], Fibre] = {}

    def reached(self, start: int, group: int) -> list[int]:
        """What the head's `group` at the anchors `start` reads, per group of the target."""
        graph, reads = self.resolved.graph, self.resolved.reads
        once = self.resolved.components is None  # else images are many, and none comes back
        have = [0] * len(graph.nodes)
        fresh = [0] * len(graph.nodes)
        have[graph.head] = fresh[graph.head] = start << group * self.width
        at, known = graph.head, self._known
        while at >= 0:
            bits, fresh[at] = fresh[at], 0
            after = at - 1
            if bits:
                for source, m in reads[at]:
                    image = known.get((m, bits))
                    if image is None:
                        image = self.image(self.resolved.moves[m], bits)
                        if once:
                            known[m, bits] = image
                    new = image & ~have[source]
                    if new:
                        have[source] |= new
                        fresh[source] |= new
                        after = max(after, source)
            at = after
        return self._fields(have[graph.target], self.resolved.groups(graph.target))

    def _fields(self, bits: int, groups: int) -> list[int]:
        if groups == 1:
            return [bits]
        return [bits >> g * self.width & self.frame.full for g in range(groups)]

    def image(self, move: Move, bits: int) -> int:
        """What readers at `bits` read through a move, all groups in one integer."""
        fields = self._fields(bits, move.reader_groups)
        if move.exact is not None:
            return self._swept(move, move.exact, fields)
        out = 0
        for window in move.windows:
            wanted = [0] * move.source_groups
            for group, field in enumerate(fields):
                for g in move.groups_read(window.groups, group):
                    wanted[g] |= field
            images: dict[int, int] = {}
            for g, field in enumerate(wanted):
                if field not in images:
                    images[field] = self._read(move, window.taps, field)
                out |= images[field] << g * self.width
        return out

    def _read(self, move: Move, taps: Iterable[Taps], bits: int) -> int:
        for axis, along in enumerate(taps):
            bits = self.frame.read(bits, axis, along, move.source[axis], move.reader[axis])
        return bits

    # ---------------------------------------------------------- sweeps whose windows say too much

    def _swept(self, move: Move, sweep: Sweep, fields: list[int]) -> int:
        """A sweep in the order of generation, fibre by fibre: what it can reach from one reader."""
        frame, out = self.frame, [0] * move.source_groups
        swept = [bool(along and s) for along, s in zip(sweep.along, move.source, strict=True)]
        fibre = self._fibre(move, swept)
        shape = on_grid = frame.full
        for axis, (taken, stride) in enumerate(zip(swept, move.source, strict=True)):
            size = frame.shape[axis]
            unit = gcd(stride, move.reader[axis]) if taken else size
            shape &= frame.slab(axis, 0, size, unit)
            on_grid &= frame.slab(axis, 0, size, stride or size)
        for group, field in enumerate(fields):
            for axis, taken in enumerate(swept):
                if not taken:
                    strides = move.source[axis], move.reader[axis]
                    field = frame.read(field, axis, STAY_FLOOR, *strides)
            own = others = 0
            while field:
                first = next(frame.anchors(field))
                base = frame.bit([0 if s else a for a, s in zip(first, swept, strict=True)])
                base = base.bit_length() - 1
                mine, theirs = fibre.read(field >> base & shape, sweep)
                own |= mine << base
                others |= theirs << base
                field &= ~(shape << base)
            for g in range(move.source_groups):
                out[g] |= others & on_grid
            for g in move.groups_read(sweep.groups, group):
                out[g] |= own & on_grid
        return sum(bits << g * self.width for g, bits in enumerate(out))

    def _fibre(self, move: Move, swept: Sequence[bool]) -> Fibre:
        """The positions along the axes swept, of the reader's grid or the source's."""
        kind = (*swept, *move.source, *move.reader)
        if kind not in self._fibres:
            order, frame = self.resolved.order, self.frame
            base = 2 + 2 * sum(
                abs(m) * n for row in order for m, n in zip(row, frame.shape, strict=True)
            )
            places = [(0, 0)]  # the key as one integer, the number of the bit
            for axis, (taken, size) in enumerate(zip(swept, frame.shape, strict=True)):
                column = 0
                for row in order:
                    column = column * base + row[axis]
                unit = gcd(move.source[axis], move.reader[axis]) if taken else size
                along = [(a * column, a * frame.inner[axis]) for a in range(0, size, unit)]
                places = [(key + k, flat + f) for key, flat in places for k, f in along]
            places.sort()
            self._fibres[kind] = Fibre([key for key, _ in places], [flat for _, flat in places])
        return self._fibres[kind]


def reached(
    graph: Graph, position: Sequence[int], channel: int = 0, size: Sequence[int] = ()
) -> set[Vector]:
    """The target's positions that the head at `position` reads, on a grid of `size` positions.

    Positions are the target's own; with channels drawn one after another the head is that of
    `channel`, and a last component says which sub-pixel is read. `size`: `SIZE` per axis if empty.
    """
    resolved = resolve(graph)
    strides = graph.nodes[graph.target].strides
    frame = Frame(
        [n * max(s, 1) for n, s in zip(size or [SIZE] * len(strides), strides, strict=True)]
    )
    start = frame.bit(
        [i * s for i, s in zip(position, graph.nodes[graph.head].strides, strict=True)]
    )
    fields = Reader(resolved, frame).reached(start, channel)
    return {
        tuple(a // s if s else 0 for a, s in zip(anchors, strides, strict=True))
        + ((group,) if graph.channels > 1 else ())
        for group, field in enumerate(fields)
        for anchors in frame.anchors(field)
    }


def blind_spots(resolved: Resolved) -> int | None:
    """How many earlier positions inside the window of p the head at p does not read.

    p is in the last place of the first axis and in the middle of every other one, on a grid of
    `SIZE` positions per axis. The window: on the first axis from the farthest position read up to
    p; on every other axis as far to either side as the nearer of the farthest positions read on
    its two sides. Sub-pixels where channels are drawn one after another; then the worst channel's
    number. None if the grid is too large.
    """
    graph = resolved.graph
    strides = [max(s, 1) for s in graph.nodes[graph.target].strides]
    shape = [SIZE * s for s in strides]
    if prod(shape) > LARGEST:
        return None
    frame = Frame(shape)
    reader = Reader(resolved, frame)
    here = [(SIZE // 2 if k else SIZE - 1) * s for k, s in enumerate(strides)]
    bit = frame.bit(here)
    before, same = _earlier(reader, bit)
    worst = 0
    for channel in range(resolved.groups(graph.head)):
        fields = reader.reached(bit, channel)
        seen = 0
        for field in fields:
            seen |= field
        if seen:
            window = _window(frame, seen, here, strides)
            unread = 0
            for group, field in enumerate(fields):
                earlier = before | (same if group < channel else 0)
                unread += (earlier & window & ~field).bit_count()
            worst = max(worst, unread)
    return worst


def _earlier(reader: Reader, bit: int) -> tuple[int, int]:
    """The target's positions drawn before the one given, and those drawn in the same step."""
    graph = reader.resolved.graph
    strides = graph.nodes[graph.target].strides
    every = (True,) * len(strides)

    def read(until: str) -> int:
        move = move_of(Sweep(every, until), strides, strides, reader.resolved.order)
        return reader.image(move, bit)

    before = read(PAST)
    return before, read(PRESENT) & ~before


def _window(frame: Frame, seen: int, here: Sequence[int], strides: Sequence[int]) -> int:
    window = frame.full
    for axis, (place, stride) in enumerate(zip(here, strides, strict=True)):
        size = frame.shape[axis]
        read = [a for a in range(0, size, stride) if seen & frame.slab(axis, a, a + 1)]
        left, right = max(0, place - read[0]), max(0, read[-1] - place)
        reach = (left, 0) if axis == 0 else (min(left, right),) * 2
        window &= frame.slab(axis, place - reach[0], place + reach[1] + 1)
    return window
