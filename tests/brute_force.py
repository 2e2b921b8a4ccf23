"""What each position of each node depends on, by the definitions alone, on a small grid.

Independent of arspec's own algebra: every read is enumerated position by position, and positions
outside the grid do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product
from math import lcm
from operator import or_

from arspec.graph import ALL, BEFORE, EVERYWHERE, PRESENT, SAME, UPTO, Graph, Stencil, Sweep

Place = tuple[int, tuple[int, ...], int]
"""A node, a position on its own grid, a channel group."""


class BruteForce:
    def __init__(self, graph: Graph, size: tuple[int, ...]) -> None:
        self.graph = graph
        self.strides = graph.nodes[graph.target].strides
        self.unit = lcm(*(s for s in self.strides if s))
        self.extent = tuple(n * max(s, 1) for n, s in zip(size, self.strides, strict=True))
        self._keys: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.fibres: dict[object, tuple[list[object], list[tuple[int, ...]]]] = {}
        self._anchors: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}
        self._known: dict[Place, tuple[tuple[int, Place], ...]] = {}

    def reads(self, place: Place) -> tuple[tuple[int, Place], ...]:
        """What a place reads: (number of the read, place)."""
        if place not in self._known:
            self._known[place] = tuple(self._reads(*place))
        return self._known[place]

    def groups(self, node: int) -> range:
        return range(self.graph.channels if self.graph.nodes[node].grouped else 1)

    def grid(self, node: int) -> list[tuple[int, ...]]:
        strides = self.graph.nodes[node].strides
        return list(
            product(
                *(range(-(-n // s) if s else 1) for n, s in zip(self.extent, strides, strict=True))
            )
        )

    def places(self, node: int) -> Iterator[Place]:
        for position in self.grid(node):
            for group in self.groups(node):
                yield node, position, group

    def anchor(self, node: int, position: tuple[int, ...]) -> tuple[int, ...]:
        at = (node, position)
        if at not in self._anchors:
            strides = self.graph.nodes[node].strides
            self._anchors[at] = tuple(i * s for i, s in zip(position, strides, strict=True))
        return self._anchors[at]

    def key(self, anchor: tuple[int, ...]) -> tuple[int, ...]:
        """The order's key, times `unit`: a position between the target's has its share."""
        if anchor not in self._keys:
            own = [
                a * self.unit // s if s else 0 for a, s in zip(anchor, self.strides, strict=True)
            ]
            self._keys[anchor] = tuple(
                sum(m * x for m, x in zip(row, own, strict=True)) for row in self.graph.order
            )
        return self._keys[anchor]

    def _reads(
        self, node: int, position: tuple[int, ...], group: int
    ) -> Iterator[tuple[int, Place]]:
        for number, read in enumerate(self.graph.nodes[node].reads):
            source, reach = read.source, read.reach
            if isinstance(reach, Stencil):
                for box in reach.boxes:
                    for at in self._stencil(node, source, reach, box, position):
                        for g in self._groups(node, source, box.groups, group):
                            yield number, (source, at, g)
            else:
                own, chosen = self._sweep(node, source, reach, position)
                for at in chosen:
                    for g in self._groups(node, source, reach.groups if at == own else ALL, group):
                        yield number, (source, at, g)

    def _groups(self, node: int, source: int, rule: str, group: int) -> range:
        count = len(self.groups(source))
        if not self.graph.nodes[node].grouped or count == 1:
            return range(count)
        return {
            SAME: range(group, group + 1),
            UPTO: range(group + 1),
            BEFORE: range(group),
            ALL: range(count),
        }[rule]

    def _stencil(self, node, source, reach, box, position):
        strides = self.graph.nodes[source].strides
        per_axis = []
        for k, i in enumerate(position):
            taps = range(box.lo[k], box.hi[k] + 1, box.step[k])
            if not strides[k]:
                found = {0}
            elif reach.transposed:
                found = {(i - d) // reach.up[k] for d in taps if (i - d) % reach.up[k] == 0}
            elif reach.up[k] > 1:
                found = {i // reach.up[k] + d for d in taps}
            else:
                found = {reach.down[k] * i + d for d in taps}
            inside = [
                j for j in found if j >= 0 and (j * strides[k] < self.extent[k] or not strides[k])
            ]
            per_axis.append(inside)
        return product(*per_axis)

    def _sweep(self, node, source, reach: Sweep, position):
        """The reader's own place among the source's positions, and the positions read."""
        strides = self.graph.nodes[source].strides
        here = self.anchor(node, position)
        swept = [k for k, along in enumerate(reach.along) if along and strides[k]]
        fixed = {k: here[k] // s if s else 0 for k, s in enumerate(strides) if k not in swept}
        here = tuple(fixed[k] * strides[k] if k in fixed else a for k, a in enumerate(here))
        own = tuple(
            a // s if s and a % s == 0 else 0 if not s else -1
            for a, s in zip(here, strides, strict=True)
        )
        place = (source, tuple(fixed.items()))
        if place not in self.fibres:
            inside = [q for q in self.grid(source) if all(q[k] == j for k, j in fixed.items())]
            keyed = sorted((self.key(self.anchor(source, q)), q) for q in inside)
            self.fibres[place] = [key for key, _ in keyed], [q for _, q in keyed]
        keys, fibre = self.fibres[place]
        if reach.until == EVERYWHERE:
            return own, fibre
        mine = self.key(here)
        allowed = [
            rank
            for rank, key in enumerate(keys)
            if key < mine or (key == mine and reach.until == PRESENT)
        ]
        window, every = reach.window, reach.every
        theirs = self.graph.nodes[node].strides
        if any(strides[k] != theirs[k] for k in swept) or not self._sequence(swept):
            window = every = None
        if window is None and every is None:
            return own, [fibre[rank] for rank in allowed]
        chosen = set(allowed[-window:]) if window is not None else set()
        if every is not None:
            start = fibre.index(own)
            chosen |= {rank for rank in allowed if rank <= start and (start - rank) % every == 0}
        return own, [fibre[rank] for rank in chosen]

    def _sequence(self, swept: list[int]) -> bool:
        """Whether the order runs along the axes swept one after the other, without equal keys."""
        left = set(swept)
        for row in self.graph.order:
            moving = {k for k in left if row[k]}
            if len(moving) > 1:
                return False
            left -= moving
        return not left

    # ------------------------------------------------------------------------------------ results

    def dependencies(self, start: int) -> dict[Place, int]:
        """For every place the set of places of node `start` that it depends on, as bits."""
        inputs = sorted(
            self.places(start), key=lambda p: (self.key(self.anchor(start, p[1])), p[2], p)
        )
        self.numbers = {place: k for k, place in enumerate(inputs)}  # the last bit is the latest
        places = [place for node in range(len(self.graph.nodes)) for place in self.places(node)]
        sets = {place: 1 << self.numbers[place] if place in self.numbers else 0 for place in places}
        reads = [(place, [read for _, read in self.reads(place)]) for place in places]
        changed = True
        while changed:
            changed = False
            for place, read in reads:
                union = reduce(or_, map(sets.__getitem__, read), sets[place])
                if union != sets[place]:
                    sets[place], changed = union, True
        return sets

    def latest(self, bits: int) -> Place:
        """The member that comes last in the order."""
        return list(self.numbers)[bits.bit_length() - 1]

    def members(self, bits: int) -> list[tuple[tuple[int, ...], int]]:
        return [(p, g) for (_, p, g), k in self.numbers.items() if bits >> k & 1]

    def unread(
        self, read: list[tuple[tuple[int, ...], int]], here: tuple[int, ...], channel: int
    ) -> int:
        """The blind spots of one place: earlier than it, inside its window, and not read."""
        if not read:
            return 0
        target = self.graph.target
        back = max(0, *(here[0] - p[0] for p, _ in read))
        sides = [
            min(max(0, *(a - p[k] for p, _ in read)), max(0, *(p[k] - a for p, _ in read)))
            for k, a in enumerate(here)
            if k
        ]
        mine = (*self.key(self.anchor(target, here)), channel)
        return sum(
            (*self.key(self.anchor(target, p)), g) < mine
            and 0 <= here[0] - p[0] <= back
            and all(abs(p[k + 1] - here[k + 1]) <= side for k, side in enumerate(sides))
            and (p, g) not in read
            for _, p, g in self.places(target)
        )

    def computable(self) -> bool:
        """Whether the places can be computed one after the other."""
        places = [place for node in range(len(self.graph.nodes)) for place in self.places(node)]
        waiting = {place: len(self.reads(place)) for place in places}
        readers: dict[Place, list[Place]] = {place: [] for place in places}
        for place in places:
            for _, read in self.reads(place):
                readers[read].append(place)
        ready = [place for place, count in waiting.items() if not count]
        done = 0
        while ready:
            done += 1
            for reader in readers[ready.pop()]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)
        return done == len(places)
