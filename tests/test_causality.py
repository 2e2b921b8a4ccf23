"""The proof against brute force, and against models whose verdicts and numbers are known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import inf
from random import Random

import pytest
from brute_force import BruteForce, Place
from random_graphs import random_graph

from arspec.blindspots import reached
from arspec.causality import prove
from arspec.graph import (
    Graph,
)
from arspec.moves import phases, resolve
from arspec.nearest import Nearest, Objective
from arspec.recursion import Link

# ------------------------------------------------------------------------------ against brute force


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
        self.depends = self.brute.dependencies(self.start)
        for place, bits in self.depends.items():
            cells = self.run.cells(place[0])
            value = cells[self.cell(place)] if cells else None
            assert value is not None or not bits, place
            if bits:
                node, position, group = self.brute.latest(bits)
                if value not in known:
                    known[value] = self.run.objective.unpack(value)
                latest = (node, position, self.whole or group)
                assert self.ahead(latest, place) <= known[value], (place, latest)

    def central(self, far: BruteForce, node: int) -> Iterator[Place]:
        """A place in the middle of the grid for each cell of a node."""
        strides = self.graph.nodes[node].strides
        counts = phases(self.run.period(node), strides)
        for phase in product(*map(range, counts)):
            sizes = zip(far.extent, strides, counts, phase, strict=True)
            position = tuple(n // (2 * s * c) * c + p if s else 0 for n, s, c, p in sizes)
            for group in far.groups(node):
                yield node, position, group

    def check_attained(self) -> None:
        """Each of the head's values is attained, far from borders, by the reads on its witness."""
        head, unpack = self.graph.head, self.run.objective.unpack
        far = BruteForce(
            self.graph, {1: (160,), 2: (36, 36), 3: (16, 16, 16)}[len(self.graph.axes)]
        )
        cells = self.run.cells(head)
        for cell, place in enumerate(self.central(far, head) if cells else ()):
            value = cells[cell]
            if value is None:
                continue
            path, start = self.run.witness(head, cell)
            assert unpack(path[-1][1] if path else start) == unpack(value)
            frontier = {place}
            for link, after in reversed(path):
                weight, total = unpack(link.weight), unpack(after)
                known = total.index(inf) if inf in total and link.loop is None else len(total)
                if not known:
                    frontier = set()
                    continue  # ahead without bound: any reader will do
                frontier = frontier or set(self.central(far, link.reader))
                frontier = set(Random(0).sample(sorted(frontier), min(len(frontier), 30)))
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
                assert self.gain(path, k) > (0,) * len(weight)

    def gain(self, path: list[tuple[Link, int]], closing: int) -> tuple[float, ...]:
        node, first = path[closing][0].reader, closing
        while path[first][0].source != node:
            first -= 1
        gains = [self.run.objective.unpack(link.weight) for link, _ in path[first : closing + 1]]
        return tuple(map(sum, zip(*gains, strict=True)))


def check(seed: int) -> None:
    graph, size = random_graph(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arspec.blindspots.SIZE", size[0])
        proof = prove(graph)
    for start in {graph.target, *graph.bounds}:
        comparison = Comparison(graph, size, start)
        comparison.check_sound()
        if all(graph.nodes[start].strides):  # else offsets are nominal
            comparison.check_attained()
        if start == graph.target:
            check_reached(proof, comparison, size, seed)


def check_reached(proof: TermProof, found: Comparison, size: tuple[int, ...], seed: int) -> None:
    """Receptive field, blind spots, and the very positions read from a few places."""
    graph, brute = found.graph, found.brute
    reads = {at: brute.members(bits) for at, bits in found.depends.items() if at[0] == graph.head}
    for read in reads.values():
        for k, limit in enumerate(proof.receptive_field.values()):
            places = [position[k] for position, _ in read]
            assert not places or limit is None or max(places) - min(places) < limit
    for place in Random(seed).sample(sorted(reads), 3):
        expected = {p + ((g,) if graph.channels > 1 else ()) for p, g in reads[place]}
        assert reached(graph, place[1], place[2], size) == expected, place
    middle = tuple(n // 2 if k else n - 1 for k, n in enumerate(size))
    counts = [
        brute.unread(read, middle, group)
        for (_, position, group), read in reads.items()
        if position == middle
    ]
    assert proof.blind_spots == max(counts)
    assert not proof.computable or brute.computable()


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
