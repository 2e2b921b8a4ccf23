"""The proof against brute force, and against models whose verdicts and numbers are known."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from math import inf
from random import Random

import pytest
from brute_force import BruteForce, Place
from random_graphs import Builder, random_graph

from arspec.blindspots import reached
from arspec.causality import Proof, TermProof, diagnostics, prove
from arspec.graph import (
    ALL,
    BEFORE,
    EVERYWHERE,
    PAST,
    PRESENT,
    SAME,
    UPTO,
    Bound,
    Box,
    Graph,
    Stencil,
    Sweep,
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
        head, unpack, resolved = self.graph.head, self.run.objective.unpack, self.run.resolved
        far = BruteForce(
            self.graph, {1: (160,), 2: (36, 36), 3: (48, 48, 48)}[len(self.graph.axes)]
        )
        cells = self.run.cells(head)
        for cell, place in enumerate(self.central(far, head) if cells else ()):
            value = cells[cell]
            if value is None:
                continue
            path, start = self.run.witness(head, cell)
            if any(self.bounded(link) for link, _ in path):
                continue
            assert unpack(path[-1][1] if path else start) == unpack(value)
            frontier = {place}
            for link, after in reversed(path):
                weight, total = unpack(link.weight), unpack(after)
                known = total.index(inf) if inf in total and link.loop is None else len(total)
                exact = resolved.moves[resolved.reads[link.reader][link.read][1]].exact
                if not known or (inf in weight and exact is not None):
                    frontier = (
                        set()
                    )  # ahead without bound, or only from the end of a row to the next:
                    continue  # any reader will do
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

    def bounded(self, link: Link) -> bool:
        """Whether a read is a sweep along mixed axes and over phases, where nearest is a bound."""
        move = self.run.resolved.moves[self.run.resolved.reads[link.reader][link.read][1]]
        periods = {self.run.period(link.reader), self.run.period(link.source)}
        capped = any(window.cap is not None for window in move.windows)
        return capped and periods | {move.source} != {move.reader}

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
    check_extent(proof, found)
    middle = tuple(n // 2 if k else n - 1 for k, n in enumerate(size))
    counts = [
        brute.unread(read, middle, group)
        for (_, position, group), read in reads.items()
        if position == middle
    ]
    assert proof.blind_spots == max(counts)
    assert not proof.computable or brute.computable()


def check_extent(proof: TermProof, found: Comparison) -> None:
    """A small receptive field is attained, far from borders."""
    graph, n = found.graph, len(found.graph.axes)
    places = list(found.central(BruteForce(graph, FAR[n]), graph.head))
    if n == 3 or len(places) > 4 or not found.run.cells(graph.head):
        return
    read = [reached(graph, position, group, FAR[n]) for _, position, group in places]
    for k, limit in enumerate(proof.receptive_field.values()):
        if limit is not None and limit < 10:
            spans = [[p[k] for p in positions] for positions in read if positions]
            assert max(max(span) - min(span) + 1 for span in spans) == limit


FAR = {1: (160,), 2: (36, 36), 3: (16, 16, 16)}
CASES = 1200


@pytest.mark.parametrize("block", range(20))
def test_random_graphs(block: int) -> None:
    for seed in range(block * CASES // 20, (block + 1) * CASES // 20):
        check(seed)


@pytest.mark.parametrize("seed", [11083, 110824, 111111])
def test_strides_that_need_a_large_grid(seed: int) -> None:
    """What they read of nodes with strides up to 9 is attained far from borders alone."""
    check(seed)


@pytest.mark.fuzz
@pytest.mark.parametrize("block", range(100, 1100))
def test_many_random_graphs(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        check(seed)


# ----------------------------------------------------------------------- receptive fields, in print


def stack(build: Builder, kernel: int, dilations: list[int], first: int = 1) -> Graph:
    """Causal convolutions behind one of `first` taps that ends at t-1."""
    x = build.add((build.target, build.conv(((-first, -1),))))
    for d in dilations:
        conv = build.conv(((-(kernel - 1) * d, 0),), step=d)
        x = build.add((x, conv), (x, build.at()))
    return build.graph(x)


WAVENET = [2**i for i in range(10)]


@pytest.mark.parametrize(
    ("kernel", "dilations", "first", "extent"),
    [
        (2, WAVENET, 1, 1024),
        (2, WAVENET * 3, 1, 3070),
        (2, WAVENET, 2, 1025),
        (2, WAVENET * 3, 2, 3071),
        (3, [2**i for i in range(6)] * 4, 1, 505),
        (3, [2**i for i in range(3) for _ in "ab"], 1, 29),
        (5, [2**i for i in range(4) for _ in "ab"], 1, 121),
    ],
    ids=[
        "wavenet 1",
        "wavenet 3",
        "conv 2",
        "conv 2, 3",
        "wavenet_vocoder",
        "tcn char",
        "tcn music",
    ],
)
def test_published_receptive_fields(
    kernel: int, dilations: list[int], first: int, extent: int
) -> None:
    proof = prove(stack(Builder(1), kernel, dilations, first))
    assert proof.receptive_field == {"time": extent}
    assert proof.nearest == (-1,)
    assert proof.causal


def test_receptive_field_of_sweeps_and_scans() -> None:
    def extent(*reads: tuple[int, object]) -> int | None:
        build = Builder(1)
        x = build.add((0, build.at(-1)))
        return prove(build.graph(build.add((x, reads[0]), *reads[1:]))).receptive_field["time"]

    assert extent(Sweep((True,), PRESENT, window=7)) == 7
    assert extent(Sweep((True,), PAST, window=7)) == 7
    assert extent(Sweep((True,), PRESENT)) is None
    assert extent(Sweep((True,), PRESENT, window=7, every=3)) is None
    assert extent(Builder(1).at(), (2, Builder(1).at(-1))) is None


def test_receptive_field_of_one_axis_of_two() -> None:
    build = Builder(2)
    x = build.add((0, build.conv(((-2, -1), (-3, 3)))))
    proof = prove(build.graph(build.add((x, Sweep((False, True), EVERYWHERE)))))
    assert proof.receptive_field == {"row": 2, "col": None}
    assert proof.nearest == (-1, inf)
    assert proof.causal


def test_positions_of_a_variable_with_a_finer_network() -> None:
    """The network works at twice the variable's rate: extents still count its own positions."""
    build = Builder(1, stride=2)
    up = build.add((0, Stencil((Box((-3,), (-1,), (1,)),), (1,), (2,))), strides=(1,))
    fine = build.add((up, build.conv(((-2, 0),))))
    head = build.add((fine, Stencil(build.at().boxes, (2,), (1,))), strides=(2,))
    proof = prove(build.graph(head))
    assert (proof.nearest, proof.receptive_field) == ((-1,), {"time": 4})


def test_nothing_is_read() -> None:
    build = Builder(1)
    h = build.node("h", (1,))
    proof = prove(build.graph(build.add((h, build.at()))))
    assert (proof.nearest, proof.receptive_field, proof.blind_spots) == (None, {"time": 0}, 0)
    assert proof.causal


# ------------------------------------------------------------------------------ leaks from the wild


def leaks_of(graph: Graph) -> list[tuple[str, tuple[float, ...], int, int]]:
    """Input, offset, and the line and column at which it enters: a node's number and its read's."""
    return [(k.input, k.offset, k.entering.line, k.entering.column) for k in prove(graph).leaks]


def test_wavenet_with_same_padding() -> None:
    """ibab/tensorflow-wavenet, pull request 88: kernel 2 and SAME padding read t+1."""
    build = Builder(1)
    x = build.add((0, build.at(-1)))
    for d in (1, 2, 4):
        gate = build.add((x, build.conv(((-d, 0),), step=d)))
        dense = build.add((gate, build.conv(((0, 1),))), name="dense")
        x = build.add((x, build.at()), (dense, build.at()))
    graph = build.graph(x)
    assert leaks_of(graph) == [("x", (2,), 4, 1)]  # the first `dense`: -1 becomes 0
    assert [step.name for step in prove(graph).leaks[0].path][-2:] == [
        "dense",
        graph.nodes[-1].name,
    ]
    (found,) = diagnostics(prove(graph))
    assert found.message == f"`{graph.nodes[-1].name}` at t depends on `x` at t+2"
    assert found.label == "reads t .. t+1"
    assert found.span is not None
    assert found.notes[0].startswith("path: x -> n1 -> ")


def test_the_last_rise_is_marked() -> None:
    build = Builder(1)
    x = build.add((0, build.at(-1)))
    for offset in (2, -3, 4, 1):
        x = build.add((x, build.at(offset)))
    proof = prove(build.graph(x))
    assert leaks_of(build.graph(x)) == [("x", (3,), 5, 1)]
    assert [step.offset[0] for step in proof.leaks[0].path] == [0, -1, 1, -2, 2, 3]


def diagonal_bilstm(shifted: bool) -> Graph:
    build = Builder(2)
    x = build.add((0, build.conv(((0, 0), (-1, -1)))))
    left = build.add((x, build.at()), (2, build.at(-1, 0)), (2, build.at(0, -1)), name="left")
    right = build.add((x, build.at()), (3, build.at(-1, 0)), (3, build.at(0, 1)), name="right")
    down = build.at(-1, 0) if shifted else build.at()
    return build.graph(build.add((left, build.at()), (right, down), name="both"))


def test_diagonal_bilstm() -> None:
    """carpedm20/pixel-rnn-tensorflow, issue 16: the right stream has to be shifted by a row."""
    proof = prove(diagonal_bilstm(True))
    assert proof.causal
    assert proof.nearest == (0, -1)
    assert proof.receptive_field == {"row": None, "col": None}
    proof = prove(diagonal_bilstm(False))
    assert proof.computable
    assert proof.nearest == (0, inf)
    (leak,) = proof.leaks
    assert [step.name for step in leak.path] == ["x", "n1", "right", "right", "both"]
    assert [step.offset for step in leak.path] == [(0, 0), (0, -1), (0, -1), (0, inf), (0, inf)]
    assert (leak.entering.line, leak.entering.column) == (4, 3)
    (found,) = diagnostics(proof)
    assert found.message == "`both` at (row, col) depends on `x` at (row, any later col)"


def test_vertical_stack_that_keeps_its_row() -> None:
    """phlippe/uvadlc_notebooks, issue 47: with an edge from the horizontal stack it leaks."""

    def model(keeps_row: bool, back: bool) -> Graph:
        build = Builder(2)
        lowest = 0 if keeps_row else -1
        v = build.add((0, build.conv(((-1, -1), (-1, 1)))))
        h = build.add((0, build.at(0, -1)), (v, build.at()))
        for _ in range(2):
            reads = [(v, build.conv(((-1, lowest), (-1, 1))))]
            if back:
                reads.append((h, build.conv(((-1, lowest), (-1, 1)))))
            v = build.add(*reads)
            h = build.add((h, build.at()), (v, build.at()))
        return build.graph(h)

    assert prove(model(False, True)).causal
    assert prove(model(True, False)).causal
    assert not prove(model(True, True)).causal


def test_frames_read_with_same_padding() -> None:
    """keras-io, issue 1003: a 3x3x3 convolution after causal layers reads frame t+1."""
    build = Builder(3)
    x = build.add((0, build.at(-1, 0, 0)))
    x = build.add((x, build.conv(((0, 0), (-1, 1), (-1, 1)))), (2, build.at(-1, 0, 0)))
    same = build.graph(build.add((x, build.conv(((-1, 1),) * 3))))
    assert leaks_of(same) == [("x", (0, 2, 2), 4, 1)]
    assert prove(same).leaks[0].path[2].offset == (-1, 1, 1)
    build.nodes.pop()
    assert prove(build.graph(build.add((x, build.conv(((-1, 0), (-1, 1), (-1, 1))))))).causal


@pytest.mark.parametrize("n", [1, 2, 3])
def test_normalisation_over_positions(n: int) -> None:
    """espnet, issue 5900: all convolutions causal, but the statistics are taken over time."""
    build = Builder(n)
    x = build.add((0, build.at(*(0,) * (n - 1), -1)))
    norm = build.add((x, build.at()), (x, Sweep((True,) * n, EVERYWHERE)))
    (leak,) = prove(build.graph(norm)).leaks
    assert leak.offset == (inf,) * n
    assert leak.entering.column == 2


def test_layer_norm_across_subpixels() -> None:
    build = Builder(2, 3)
    earlier = build.conv(((-1, -1), (-1, 1)), ((0, 0), (-1, -1)), groups=ALL)
    first = Stencil(earlier.boxes + build.at(groups=BEFORE).boxes, (1, 1), (1, 1))
    x = build.add((0, first))
    fine = build.add((x, build.at(groups=SAME)))
    assert prove(build.graph(fine)).nearest == (0, 0, -1)
    norm = build.add((x, build.at(groups=ALL)))
    head = build.add((norm, build.at(groups=SAME)))
    proof = prove(build.graph(head))
    assert proof.nearest == (0, 0, 1)  # red sees what blue sees: green
    (found,) = diagnostics(proof)
    assert "at (row, col, channel) depends on `x` at (row, col, channel + 1)" in found.message


def test_whole_pixels_hold_all_their_channels() -> None:
    """Of a target without channel groups, what is read at a pixel includes its last channel."""
    build = Builder(1, channels=3)
    build.nodes.clear()
    build.node("x", (1,), grouped=False)
    assert prove(build.graph(build.add((0, build.at()), grouped=True))).nearest == (0, 2)
    build.nodes.pop()
    assert prove(build.graph(build.add((0, build.at(-1)), grouped=True))).causal


def test_down_and_up_need_a_delay() -> None:
    """Hourglass models: a coarse step covers the position it is given to."""

    def model(delay: int, shift: int = 0) -> Graph:
        build = Builder(1)
        pool = Stencil((Box((0,), (1,), (1,)),), (2,), (1,))
        coarse = build.add((0, pool), strides=(2,))
        late = build.add((coarse, build.at(delay)))
        up = build.add((late, Stencil(build.at().boxes, (1,), (2,))), strides=(1,))
        return build.graph(build.add((up, build.at(shift))))

    assert prove(model(0)).nearest == (1,)
    assert prove(model(0, -1)).nearest == (0,)
    assert prove(model(-1)).nearest == (-1,)
    assert prove(model(-1)).causal
    assert prove(model(-1)).receptive_field == {"time": 2}


def test_block_mean_of_keys() -> None:
    """nanochat, pull request 844: a 64-token mean given back to its own block."""
    build = Builder(1)
    x = build.add((0, build.at(-1)))
    mean = build.add((x, Stencil((Box((0,), (63,), (1,)),), (64,), (1,))), strides=(64,))
    back = build.add((mean, Stencil(build.at().boxes, (1,), (64,))), strides=(1,))
    assert leaks_of(build.graph(back)) == [("x", (62,), 3, 1)]


def test_transposed_convolution() -> None:
    def model(lo: int, hi: int) -> tuple[float, ...] | None:
        build = Builder(1)
        down = build.add((0, Stencil((Box((-2,), (-1,), (1,)),), (2,), (1,))), strides=(2,))
        deconv = Stencil((Box((lo,), (hi,), (1,)),), (1,), (2,), transposed=True)
        return prove(build.graph(build.add((down, deconv), strides=(1,)))).nearest

    assert model(0, 1) == (-1,)
    assert model(-1, 1) == (0,)
    assert model(1, 2) == (-2,)


def test_pixelcnn_plus_plus_shape() -> None:
    """Three scales with strides of 2: doubted in two issue threads, and fine."""
    build = Builder(2)
    ones, two = (1, 1), (2, 2)
    u = build.add((0, build.conv(((-1, -1), (-1, 1)))))
    levels = [u]
    for _ in range(2):
        reach = Stencil((Box((-1, -1), (0, 1), ones),), two, ones)
        u = build.add((u, reach), strides=tuple(2 * s for s in build.nodes[u].strides))
        levels.append(u)
    for skip in levels[-2::-1]:
        # rows i of the coarse grid end at 2i: the finer row 2i+1 may see them, row 2i as well
        reach = Stencil((Box((0, -1), (1, 1), ones),), ones, two, transposed=True)
        u = build.add((u, reach), (skip, build.at()), strides=build.nodes[skip].strides)
        u = build.add((u, build.conv(((-1, 0), (-1, 1)))))
    proof = prove(build.graph(u))
    assert proof.causal
    assert proof.nearest is not None
    assert proof.nearest[0] == -1


def test_rates_without_a_common_factor() -> None:
    """Down and up by 2 and by 3: six phases, each with its own nearest."""
    build = Builder(1)
    ups = []
    for rate in (2, 3):
        pool = Stencil((Box((0,), (rate - 1,), (1,)),), (rate,), (1,))
        low = build.add((0, pool), strides=(rate,))
        ups.append(build.add((low, Stencil(build.at().boxes, (1,), (rate,))), strides=(1,)))
    graph = build.graph(build.add(*((up, build.at()) for up in ups)))
    run = Comparison(graph, (18,), 0).run
    assert run.cells(graph.head) == [2, 1, 1, 2, 1, 0]
    Comparison(graph, (18,), 0).check_sound()


# ------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("bound", "window", "leaks"),
    [
        (Bound(None), (-2, 2), False),
        (Bound(0), (-2, 0), False),
        (Bound(0), (-1, 1), True),
        (Bound(0, strict=True), (-2, 0), True),
        (Bound(0, strict=True), (-2, -1), False),
        (Bound(24), (0, 24), False),
        (Bound(24), (0, 25), True),
    ],
)
def test_conditions(bound: Bound, window: tuple[int, int], leaks: bool) -> None:
    build = Builder(1, stride=2)
    h = build.node("humidity", build.unit)
    build.bounds[h] = bound
    read = build.add((h, build.conv((window,))))
    proof = prove(build.graph(build.add((read, build.at()), (0, build.at(-1)))))
    assert proof.causal is not leaks
    assert [leak.condition for leak in proof.leaks] == [True] * leaks
    if leaks:
        (found,) = diagnostics(proof)
        (leak,) = proof.leaks
        assert found.code == "AR202"
        assert leak.offset == (window[1],)
        assert (leak.entering.line, leak.entering.column) == (3, 1)


def test_condition_is_known_a_whole_position_at_a_time() -> None:
    build = Builder(1, channels=3)
    h = build.node("h", (1,))
    build.bounds[h] = Bound(0, strict=True)
    head = build.add((0, build.at(-1)), (h, build.at()), grouped=True)
    assert not prove(build.graph(head)).causal
    build.bounds[h] = Bound(0)
    assert prove(build.graph(head)).causal


def test_slower_condition() -> None:
    build = Builder(1)
    mel = build.node("mel", (4,))
    build.bounds[mel] = Bound(0)

    def model(lookahead: int) -> bool:
        up = Stencil((Box((-1,), (lookahead,), (1,)),), (1,), (4,))
        return prove(build.graph(build.add((mel, up), (0, build.at(-1)), strides=(1,)))).causal

    assert model(0)
    assert not model(1)


# ------------------------------------------------------------------------------------- recursions


def recursion(n: int, *states: tuple[int, ...]) -> Graph:
    build = Builder(n)
    shift = build.at(*(0,) * (n - 1), -1)
    return build.graph(build.add((0, shift), *((1, build.at(*s)) for s in states), name="h"))


@pytest.mark.parametrize(
    ("states", "computable", "nearest"),
    [
        ([(0, -1)], True, (0, -1)),
        ([(-1, -1), (-1, 0), (-1, 1)], True, (0, -1)),
        ([(-1, 0), (0, 1)], True, (0, inf)),
        ([(1, 0)], True, (inf, inf)),
        ([(0, 0)], False, (0, -1)),
        ([(0, -1), (0, 1)], False, (0, inf)),
        ([(-1, 2), (1, -1)], True, (inf, inf)),
        ([(-1, 1), (1, -1)], False, (inf, inf)),
        ([(1, -2), (-1, 1)], True, (inf, inf)),
        ([(1, -2), (-1, 3)], True, (inf, inf)),
        ([(1, -2), (-1, 2)], False, (inf, inf)),
        ([(1, 1), (-1, 0), (0, -1)], False, (inf, inf)),
    ],
)
def test_computability(
    states: list[tuple[int, ...]], computable: bool, nearest: tuple[float, ...]
) -> None:
    graph = recursion(2, *states)
    proof = prove(graph)
    assert (proof.computable, proof.nearest) == (computable, nearest)
    assert BruteForce(graph, (8, 8)).computable() == computable
    if not computable:
        assert not proof.causal
        assert {"AR203"} <= {found.code for found in diagnostics(proof)}


def test_recursion_over_several_lines() -> None:
    """a reads b one step back, b reads a: fine; without the step it cannot be computed."""

    def model(back: int) -> Graph:
        build = Builder(1)
        a = build.add((0, build.at(-1)), (2, build.at(back)), name="a")
        return build.graph(build.add((a, build.at()), name="b"))

    proof = prove(model(-1))
    assert proof.causal
    assert proof.receptive_field == {"time": None}
    proof = prove(model(0))
    assert proof.uncomputable is not None
    assert {step.name for step in proof.uncomputable.cycle} == {"a", "b"}
    (found,) = diagnostics(proof)
    assert found.message.endswith("cannot be computed: at t it depends on itself at t")


def test_recursion_through_attention() -> None:
    def model(n: int, until: str) -> Graph:
        build = Builder(n)
        first = (0, build.at(*(0,) * (n - 1), -1))
        return build.graph(build.add(first, (1, Sweep((True,) * n, until))))

    for n in (1, 2):
        assert prove(model(n, PAST)).causal
        assert not prove(model(n, PRESENT)).computable
        assert not prove(model(n, EVERYWHERE)).computable


@pytest.mark.parametrize(
    ("state", "computable"),
    [((0, 1), True), ((1, 3), False), ((1, 0), False), ((-1, 3), True), ((2, 1), False)],
)
def test_recursion_through_a_row(state: tuple[int, int], computable: bool) -> None:
    """The state comes from a prefix of the row above, and from one more place."""
    build = Builder(2)
    above = build.at(-1, 0)
    first = (0, build.at(0, -1))
    build.add(first, (2, above), (1, build.at(*state)))
    graph = build.graph(build.add((1, Sweep((False, True), PRESENT))))
    assert prove(graph).computable == computable
    assert BruteForce(graph, (9, 9)).computable() == computable


def test_recursion_through_channels() -> None:
    """The state of a sub-pixel comes from the sub-pixels before: no cycle at all."""
    build = Builder(1, channels=3)
    h = build.add((0, build.at(-1, groups=ALL)), (1, build.at(groups=BEFORE)))
    assert prove(build.graph(h)).causal
    build.nodes.pop()
    build.add((0, build.at(-1, groups=ALL)), (1, build.at(groups=UPTO)))
    assert not prove(build.graph(1)).computable


# ------------------------------------------------------------------------------------ other orders


def test_delay_pattern() -> None:
    """Codebook k at time t is drawn at step t + k, and what is drawn together cannot be read."""
    build = Builder(2, order=((1, 1),))
    same_step = build.graph(build.add((0, build.at(1, -1))))
    assert prove(same_step).nearest == (0,)
    assert not prove(same_step).causal
    (found,) = diagnostics(prove(same_step))
    assert found.message == "`n1` at step depends on `x` at step"
    before = build.graph(build.add((0, build.at(1, -2))))
    assert prove(before).nearest == (-1,)
    assert prove(before).causal
    past = build.graph(build.add((0, Sweep((True, True), PAST))))
    assert prove(past).nearest == (-1,)


def test_attention_within_a_step() -> None:
    """Other positions of the same step are read with all their channels, so with later ones."""
    build = Builder(2, channels=2, order=((1, 1),))
    graph = build.graph(build.add((0, Sweep((True, True), PRESENT, groups=BEFORE))))
    assert prove(graph).nearest == (0, 1)
    Comparison(graph, (4, 4), 0).check_sound()
    assert prove(build.graph(build.add((0, Sweep((True, False), PRESENT, groups=BEFORE))))).causal


@pytest.mark.parametrize("order", [((1, 1),), ((2, 1), (0, 1))], ids=["ties", "none"])
def test_own_channels_under_attention(order: tuple[tuple[int, ...], ...]) -> None:
    """Whatever the order, of its own position a sub-pixel reads the channels before."""
    build = Builder(2, channels=2, order=order)
    graph = build.graph(build.add((0, Sweep((True, True), PRESENT, groups=BEFORE))))
    found = reached(graph, (1, 1), 1, (3, 3))
    assert (1, 1, 0) in found
    assert (1, 1, 1) not in found


def test_skewed_attention_on_a_coarser_grid() -> None:
    """Two of three axes are swept, in an order that mixes them; the third is coarser."""
    build = Builder(3, order=((1, 1, 0), (0, 1, 0), (0, 0, 1)))
    pool = Stencil((Box((0, 0, 0), (0, 0, 1), (1, 1, 1)),), (1, 1, 2), (1, 1, 1))
    low = build.add((0, pool), strides=(1, 1, 2))
    attend = Sweep((True, True, False), PAST)
    graph = build.graph(build.add((low, attend), strides=(1, 1, 1)))
    found = Comparison(graph, (4, 4, 4), 0)
    found.check_sound()
    found.check_attained()
    for place, bits in found.depends.items():
        if place[0] == graph.head:
            read = {position for position, _ in found.brute.members(bits)}
            assert reached(graph, place[1], 0, (4, 4, 4)) == read


def test_recursion_with_phases() -> None:
    """The state goes down and up by 2; a step further up, by 3: the phases are those of both."""
    build = Builder(1)
    build.add((0, build.at(-1)), (2, Stencil(build.at(-2).boxes, (1,), (2,))), name="fine")
    pool = Stencil((Box((0,), (1,), (1,)),), (2,), (1,))
    build.add((1, pool), strides=(2,), name="coarse")
    low = build.add((1, Stencil((Box((0,), (2,), (1,)),), (3,), (1,))), strides=(3,))
    up = build.add((low, Stencil(build.at().boxes, (1,), (3,))), (1, build.at()), strides=(1,))
    graph = build.graph(up)
    Comparison(graph, (24,), 0).check_sound()
    assert prove(graph).computable
    assert prove(graph).nearest == (1,)


def test_column_by_column() -> None:
    build = Builder(2, order=((0, 1), (1, 0)))
    assert prove(build.graph(build.add((0, build.at(5, -1))))).nearest == (-1, 5)
    assert not prove(build.graph(build.add((0, build.at(-1, 1))))).causal
    assert prove(build.graph(build.add((0, Sweep((True, True), PAST))))).nearest == (0, -1)


# -------------------------------------------------------------------------------------- the report


def test_json() -> None:
    proof = Proof("bilstm", (prove(diagonal_bilstm(False)),))
    found = json.loads(json.dumps(proof.to_json(), allow_nan=False))
    assert found["name"] == "bilstm"
    assert found["causal"] is False
    assert found["nearest"] == [0, None]
    assert found["receptive_field"] == {"row": None, "col": None}
    (leak,) = found["leaks"]
    assert (leak["offset"], leak["variable"]) == ([0, None], "x")
    assert (leak["line"], leak["column"]) == (4, 3)
    assert leak["path"][1] == ["n1", 2, 1, [0, -1]]
    assert "terms" not in found
    both = Proof("two", (*proof.terms, prove(diagonal_bilstm(True)))).to_json()
    assert both["nearest"] == [0, -1]
    assert both["causal"] is False
    assert len(both["leaks"]) == 1
    assert [term["causal"] for term in both["terms"]] == [False, True]


def test_leak_that_was_never_below_enters_at_its_first_read() -> None:
    build = Builder(1)
    x = build.add((0, build.at()), name="embedded")
    x = build.add((x, Sweep((True,), PRESENT)), name="attention")
    graph = build.graph(build.add((x, build.at()), name="logits"))
    assert leaks_of(graph) == [("x", (0,), 2, 1)]
    (found,) = diagnostics(prove(graph))
    assert found.message == "`logits` at t depends on `x` at t"
    assert found.notes == ("path: x -> embedded -> attention -> logits",)


def test_one_leak_per_read() -> None:
    build = Builder(2, channels=3)
    both = build.add((0, build.at(-1, 2)), (0, build.at(0, 1, groups=ALL)))
    assert leaks_of(build.graph(both)) == [("x", (0, 1, 2), 2, 2)]


def test_no_heavy_imports() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); from arspec.causality import prove;"
        "from random_graphs import Builder; b = Builder(1);"
        "assert prove(b.graph(b.add((0, b.at(-1))))).causal;"
        "assert not {'torch', 'numpy', 'networkx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ten_thousand_layers() -> None:
    build = Builder(1)
    dilated = [build.conv(((-(2**k), 0),), step=2**k) for k in range(10)]
    point = build.at()
    x = build.add((0, build.at(-1)))
    skips = []
    for layer in range(2000):
        filter_ = build.add((x, dilated[layer % 10]))
        gate = build.add((x, dilated[layer % 10]))
        z = build.add((filter_, point), (gate, point))
        skips.append(build.add((z, point)))
        x = build.add((z, point), (x, point))
    graph = build.graph(build.add(*((s, point) for s in skips)))
    started = time.process_time()
    proof = prove(graph)
    assert time.process_time() - started < 0.5
    assert proof.receptive_field == {"time": 1 + 200 * 1023}
