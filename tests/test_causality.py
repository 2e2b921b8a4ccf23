"""The proof against brute force, and against models whose verdicts and numbers are known."""

from __future__ import annotations

from itertools import product
from math import inf
from random import Random

import pytest
from brute_force import BruteForce, Place
from random_graphs import AXES, random_graph

from arspec.blindspots import reached
from arspec.causality import prove
from arspec.graph import (
    Graph,
)
from arspec.moves import phases, resolve
from arspec.nearest import Nearest, Objective

# ------------------------------------------------------------------------------- against brute force


class Comparison:
    """One graph, one input, proven and by brute force."""

    def __init__(self, graph: Graph, size: tuple[int, ...], start: int) -> None:
        resolved = resolve(graph)
        self.graph, self.start = graph, start
        self.channel = graph.channels > 1 and start == graph.target
        self.run = Nearest(Objective(resolved, resolved.order, self.channel), start)
        self.brute = BruteForce(graph, size)
        self.whole = 0 if graph.nodes[start].grouped else graph.channels - 1

    def cell(self, place: Place) -> int:
        node, position, group = place
        counts = phases(self.run.period(node), self.graph.nodes[node].strides)
        index = 0
        for i, count in zip(position, counts, strict=True):
            index = index * count + i % count
        return index * len(self.brute.groups(node)) + group

    def ahead(self, source: Place, reader: Place) -> tuple[int, ...]:
        theirs, mine = (
            self.brute.key(self.brute.anchor(node, position))
            for node, position, _ in (source, reader)
        )
        offset = tuple(a - b for a, b in zip(theirs, mine, strict=True))
        return (*offset, source[2] - reader[2]) if self.channel else offset

    def check_sound(self) -> None:
        """No place depends on anything farther ahead than its node's nearest."""
        known = {}
        for place, bits in self.brute.dependencies(self.start).items():
            cells = self.run.cells(place[0])
            value = cells[self.cell(place)] if cells else None
            assert value is not None or not bits, place
            if bits:
                node, position, group = self.brute.latest(bits)
                if value not in known:
                    known[value] = self.run.objective.unpack(value)
                latest = (node, position, self.whole or group)
                assert self.ahead(latest, place) <= known[value], (place, latest)

    def check_attained(self) -> None:
        """Each of the head's values is attained, far from borders, by the reads on its witness."""
        head = self.graph.head
        counts = phases(self.run.period(head), self.graph.nodes[head].strides)
        far = BruteForce(self.graph, {1: (160,), 2: (36, 36), 3: (16, 16, 16)}[len(counts)])
        places = product(product(*map(range, counts)), far.groups(head))
        for cell, ((phase, group), value) in enumerate(
            zip(places, self.run.cells(head) or [None] * 0, strict=False)
        ):
            if value is None:
                continue
            path, total = self.run.witness(head, cell)
            sums = [total, *(t for _, t in path)]
            assert self.run.objective.unpack(sums[-1]) == self.run.objective.unpack(value)
            middle = tuple(
                n // (2 * s * c) * c + p
                for n, s, c, p in zip(
                    far.extent, self.graph.nodes[head].strides, counts, phase, strict=True
                )
            )
            frontier = {(head, middle, group)}
            for link, after in reversed(path):
                weight, total = (
                    self.run.objective.unpack(link.weight),
                    self.run.objective.unpack(after),
                )
                known = total.index(inf) if inf in total and link.loop is None else len(total)
                frontier = set(Random(0).sample(sorted(frontier), min(len(frontier), 60)))
                frontier = {
                    source
                    for place in frontier
                    for number, source in far.reads(place)
                    if number == link.read
                    and source[0] == link.source
                    and self.ahead(source, place)[:known] == weight[:known]
                }
                assert frontier, (cell, link)
            loops = [k for k, (link, _) in enumerate(path) if link.loop is not None]
            for k in loops:  # once round the cycle leads ahead
                assert _gain(self, path, k) > (0,) * len(weight)


def _gain(found: Comparison, path, closing: int) -> tuple[float, ...]:
    node, first = path[closing][0].reader, closing
    while path[first][0].source != node:
        first -= 1
    gains = [found.run.objective.unpack(link.weight) for link, _ in path[first : closing + 1]]
    return tuple(map(sum, zip(*gains, strict=True)))


def check(seed: int) -> None:
    graph, size = random_graph(seed)
    proof = prove(graph)
    inputs = [graph.target, *(i for i in graph.bounds if i != graph.target)]
    compared = {i: Comparison(graph, size, i) for i in inputs}
    for comparison in compared.values():
        comparison.check_sound()
        if all(graph.nodes[comparison.start].strides):  # else offsets are nominal
            comparison.check_attained()
    brute = compared[graph.target].brute
    deps = brute.dependencies(graph.target)
    heads = [place for place in deps if place[0] == graph.head]
    for place in heads:
        read = brute.members(deps[place])
        for k, axis in enumerate(AXES[len(size)]):
            span = [p[k] for p, _ in read]
            limit = proof.receptive_field[axis]
            assert not span or limit is None or max(span) - min(span) < limit
        if hash((seed, place[1:])) % len(heads) < 4:
            found = reached(graph, place[1], place[2], size)
            assert found == {p + ((g,) if graph.channels > 1 else ()) for p, g in read}, place
    if proof.computable:
        assert brute.computable()
    for leak in proof.leaks:
        assert leak.path[-1].offset == leak.offset


CASES = 2000


@pytest.mark.parametrize("block", range(20))
def test_random_graphs(block: int) -> None:
    for seed in range(block * CASES // 20, (block + 1) * CASES // 20):
        check(seed)


@pytest.mark.fuzz
@pytest.mark.parametrize("block", range(100, 1100))
def test_many_random_graphs(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        check(seed)
