"""A reference executor: runs a schedule on numbers, one place at a time, out of its caches alone.

What each place reads comes from `brute_force`, that is from the definitions. Numbers are made up:
every read has random weights, by tap or, for a sweep, by pair of positions. Whatever is read before
it is evaluated, or after the schedule has dropped it, raises.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from math import inf, tanh
from random import Random

from brute_force import BruteForce, Place

from arspec.graph import Graph, Stencil
from arspec.schedule import Entry, Key, Schedule


@lru_cache(maxsize=1 << 16)
def number(*kind: object) -> float:
    """A made-up number, the same for equal arguments."""
    return Random(repr(kind)).uniform(-1, 1)


class Values:
    """One numeric realisation of a graph on a grid."""

    def __init__(self, graph: Graph, size: tuple[int, ...]) -> None:
        self.graph, self.brute = graph, BruteForce(graph, size)

    def evaluate(self, place: Place, value: Callable[[Place], float]) -> float:
        """One place, from those that it reads."""
        node, position, group = place
        total = number(node, *self.own(place))
        for read, source in self.brute.reads(place):
            theirs = self.brute.anchor(source[0], source[1])
            mine = self.brute.anchor(node, position)
            offset = tuple(a - b for a, b in zip(theirs, mine, strict=True))
            stencil = isinstance(self.graph.nodes[node].reads[read].reach, Stencil)
            where = offset if stencil else (position, source[1])
            total += number(node, read, where, group, source[2]) * value(source)
        return tanh(total)

    def own(self, place: Place) -> tuple[object, ...]:
        """A condition differs from place to place, anything else by its weights alone."""
        return () if self.graph.nodes[place[0]].reads else (place,)

    def draw(self, place: Place, parameter: float) -> float:
        """x at a place, from its distribution's parameter and from noise."""
        return tanh(parameter + 2 * number("noise", place))

    def parameter(self, place: Place) -> Place:
        """Where the parameter of a place of the target is found."""
        _, position, group = place
        grouped = self.graph.nodes[self.graph.head].grouped
        return self.graph.head, position, group if grouped else 0

    def forward(self, sample: dict[Place, float]) -> dict[Place, float]:
        """All places at once, given the finished sample."""
        nodes = range(len(self.graph.nodes))
        places = [p for n in nodes if n != self.graph.target for p in self.brute.places(n)]
        reads = {p: {source for _, source in self.brute.reads(p)} - sample.keys() for p in places}
        readers: dict[Place, list[Place]] = {p: [] for p in places}
        for place, sources in reads.items():
            for source in sources:
                readers[source].append(place)
        values, ready = dict(sample), [p for p in places if not reads[p]]
        while ready:
            place = ready.pop()
            values[place] = self.evaluate(place, values.__getitem__)
            for reader in readers[place]:
                reads[reader].discard(place)
                if not reads[reader]:
                    ready.append(reader)
        return values


class Executor:
    """Draws a sample as scheduled. Afterwards:

    `sample` and `values` hold all that was computed, `kept` the most places of each node that were
    kept from one moment to the next, `taps` and `pairs` count what stencils and sweeps did.
    """

    def __init__(self, schedule: Schedule, numbers: Values) -> None:
        self.schedule, self.numbers = schedule, numbers
        self.graph, self.brute = numbers.graph, numbers.brute
        self.target, self.head = self.graph.target, self.graph.head
        self.sample: dict[Place, float] = {}
        self.values: dict[Place, float] = {}
        self.held: dict[Place, float] = {}
        self.kept: Counter[int] = Counter()
        self.taps: Counter[int] = Counter()
        self.pairs: Counter[int] = Counter()
        self.caches = {cache.source: cache for cache in schedule.caches}
        drawn = {self.key(place) for place in self.brute.places(self.target)}
        self.keys = sorted(drawn)
        self.due: dict[int, list[tuple[Entry, Place]]] = {}
        self.dropped: dict[int, list[Place]] = {}
        for node in {entry.node for entry in schedule.entries}:
            for place in self.brute.places(node):
                self._plan(place)

    def key(self, place: Place) -> tuple[int, ...]:
        node, position, group = place
        grouped = self.graph.nodes[node].grouped
        return self.schedule.key(node, (*position, group) if grouped else position)

    def _plan(self, place: Place) -> None:
        node, position, group = place
        at = (*position, group) if self.graph.nodes[node].grouped else position
        found = [entry for entry in self.schedule.entries_of(node) if entry.holds(at)]
        assert len(found) < 2, place
        for entry in found:
            first = -1 if entry.due is None else self.moment(place, entry.due)
            self.due.setdefault(first, []).append((entry, place))
            cache = self.caches.get(node)
            last = first if cache is None else max(first, self.moment(place, cache.until))
            self.dropped.setdefault(last, []).append(place)

    def moment(self, place: Place, due: Key) -> int:
        """The number of the first key that is drawn after all those up to `due` from a place."""
        return bisect_right(self.keys, tuple(map(sum, zip(self.key(place), due, strict=True))))

    def run(self) -> None:
        drawn: dict[tuple[int, ...], list[Place]] = {}
        for place in self.brute.places(self.target):
            drawn.setdefault(self.key(place), []).append(place)
        self._moment(-1)
        for moment, key in enumerate(self.keys):
            self._moment(moment)
            for place in drawn[key]:
                parameter = self.read(self.numbers.parameter(place))
                self.sample[place] = self.numbers.draw(place, parameter)
            self._drop(moment)
        assert self.sample.keys() == set(self.brute.places(self.target))

    def _moment(self, moment: int) -> None:
        due = sorted(self.due.get(moment, ()), key=lambda d: d[0].order)
        by_order: dict[int, list[Place]] = {}
        for entry, place in due:
            by_order.setdefault(entry.order, []).append(place)
        for places in by_order.values():
            self._evaluate(places)
        if moment < 0:
            self._drop(moment)

    def _evaluate(self, places: list[Place]) -> None:
        """Those due together: independent of each other, or a recursion by its own reads."""
        waiting = set(places)
        recursive = self._recursive(places)
        while waiting:
            ready = [p for p in places if p in waiting]
            if recursive:
                ready = [p for p in ready if not any(s in waiting for _, s in self.reads(p))]
            assert ready, places
            for place in ready:
                self._compute(place)
                waiting.discard(place)

    def reads(self, place: Place) -> tuple[tuple[int, Place], ...]:
        return () if place[0] in self.schedule.inputs else self.brute.reads(place)

    def _recursive(self, places: list[Place]) -> bool:
        nodes = {node for node, _, _ in places}
        return any(read.source in nodes for n in nodes for read in self.graph.nodes[n].reads)

    def _compute(self, place: Place) -> None:
        node = place[0]
        assert place not in self.values, ("twice", place)
        if node == self.target:
            self.values[place] = self.held[place] = self.sample[place]
            return
        self.values[place] = self.held[place] = self.numbers.evaluate(place, self.read)
        for read in self.graph.nodes[node].reads:
            if isinstance(read.reach, Stencil):
                self.taps[node] += sum(
                    len(list(product(*map(range, box.lo, (hi + 1 for hi in box.hi), box.step))))
                    for box in read.reach.boxes
                )
            else:
                _, found = self.brute._sweep(node, read.source, read.reach, place[1])
                self.pairs[node] += len(found)

    def read(self, place: Place) -> float:
        assert place in self.held, ("not kept" if place in self.values else "too early", place)
        return self.held[place]

    def _drop(self, moment: int) -> None:
        for place in self.dropped.get(moment, ()):
            del self.held[place]
        for node, count in Counter(node for node, _, _ in self.held).items():
            self.kept[node] = max(self.kept[node], count)


__all__ = ["Executor", "Values", "inf"]
