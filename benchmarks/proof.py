"""How long a proof takes: against the number of layers, the receptive field, and the rates.

python benchmarks/proof.py
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from arspec.causality import TermProof, prove
from arspec.diagnostics import Span
from arspec.graph import ALL, BEFORE, SAME, UPTO, Box, Graph, Node, Reach, Read, Stencil

SPAN = Span()


class Nodes:
    """Grows a graph with axes of its own."""

    def __init__(self, axes: tuple[str, ...], channels: int = 1) -> None:
        self.axes, self.channels, self.ones = axes, channels, (1,) * len(axes)
        self.nodes: list[Node] = []
        self.add("x", self.ones)

    def add(self, name: str, strides: tuple[int, ...], *reads: tuple[int, Reach]) -> int:
        edges = tuple(Read(source, reach, SPAN) for source, reach in reads)
        self.nodes.append(Node(name, SPAN, strides, self.channels > 1, edges))
        return len(self.nodes) - 1

    def window(self, *boxes: tuple[tuple[int, ...], tuple[int, ...]], step: int = 1) -> Stencil:
        steps = (step,) * len(self.axes)
        return Stencil(tuple(Box(lo, hi, steps, ALL) for lo, hi in boxes), self.ones, self.ones)

    def point(self, groups: str = SAME) -> Stencil:
        zero = (0,) * len(self.axes)
        return Stencil((Box(zero, zero, self.ones, groups),), self.ones, self.ones)

    def graph(self, head: int) -> Graph:
        order = tuple(
            tuple(int(i == j) for j in range(len(self.axes))) for i in range(len(self.axes))
        )
        return Graph("x", self.axes, order, self.channels, tuple(self.nodes), 0, head)


def wavenet(layers: int, largest: int = 512) -> Graph:
    """Eight nodes per layer: two convolutions, two gates, product, skip, dense, residual."""
    build = Nodes(("time",))
    one, point = build.ones, build.point()
    cycle = largest.bit_length()
    convs = [build.window(((-(1 << k),), (0,)), step=1 << k) for k in range(cycle)]
    x = build.add("stem", one, (0, build.window(((-1,), (-1,)))))
    skips = []
    for layer in range(layers):
        halves = [build.add(name, one, (x, convs[layer % cycle])) for name in ("filter", "gate")]
        tanh, sigmoid = (build.add("", one, (half, point)) for half in halves)
        z = build.add("z", one, (tanh, point), (sigmoid, point))
        skips.append(build.add("skip", one, (z, point)))
        dense = build.add("dense", one, (z, point))
        x = build.add("out", one, (x, point), (dense, point))
    return build.graph(build.add("skips", one, *((skip, point) for skip in skips)))


def hourglass(rate: int) -> Graph:
    """Thirty convolutions behind a pool by `rate`, a delay and a repetition, on both axes."""
    build = Nodes(("row", "col"))
    one, coarse, zero = build.ones, (rate, rate), (0, 0)
    x = build.add("stem", one, (0, build.window(((-1, -1), (-1, 1)), ((0, -1), (0, -1)))))
    pool = Stencil((Box(zero, (rate - 1, rate - 1), one, ALL),), coarse, one)
    low = build.add("pool", coarse, (x, pool))
    late = build.add("late", coarse, (low, build.window(((-1, 0), (-1, 0)))))
    up = build.add("up", one, (late, Stencil((Box(zero, zero, one, ALL),), one, coarse)))
    conv = build.window(((-1, -1), (-1, 1)), ((0, -1), (0, 0)))
    for _ in range(30):
        up = build.add("conv", one, (up, conv), (x, build.point()))
    return build.graph(up)


def gated_pixelcnn(layers: int) -> Graph:
    """RGB, sub-pixel by sub-pixel, eight nodes per layer."""
    build = Nodes(("row", "col"), channels=3)
    one, point, mixed = build.ones, build.point(), build.point(UPTO)
    rows, left = build.window(((-1, -1), (0, 1))), build.window(((0, -1), (0, -1)))
    behind = Stencil(left.boxes + mixed.boxes, one, one)
    v = build.add("v", one, (0, build.window(((-1, -1), (-1, 1)))))
    first = Stencil(left.boxes + build.point(BEFORE).boxes, one, one)
    h = build.add("h", one, (0, first), (v, point))
    for _ in range(layers):
        vertical = build.add("vertical", one, (v, rows))
        gates = [build.add("", one, (vertical, mixed)) for _ in "ab"]
        side = build.add("side", one, (vertical, mixed))
        horizontal = build.add("horizontal", one, (h, behind), (side, point))
        gated = build.add("gated", one, (horizontal, mixed))
        out = build.add("out", one, (gated, mixed))
        v = build.add("v", one, *((gate, point) for gate in gates))
        h = build.add("h", one, (h, point), (out, point))
    return build.graph(h)


def measure(graph: Graph) -> tuple[float, TermProof]:
    """The best of three, in seconds, and the proof."""
    best = float("inf")
    for _ in range(3):
        gc.collect()
        started = time.process_time()
        proof = prove(graph)
        best = min(best, time.process_time() - started)
    return best, proof


def table(title: str, cases: list[tuple[str, Callable[[], Graph]]]) -> None:
    print(f"\n{title:<34} {'nodes':>8} {'ms':>10}  receptive field, nearest, blind spots")
    for name, make in cases:
        graph = make()
        seconds, proof = measure(graph)
        assert proof.causal
        extents = " x ".join(str(n) for n in proof.receptive_field.values())
        found = f"{extents}, {proof.nearest}, {proof.blind_spots}"
        print(f"{name:<34} {len(graph.nodes):>8} {seconds * 1e3:>10.2f}  {found}")


def main() -> None:
    table(
        "WaveNet, by layers",
        [(f"{n:,} layers", lambda n=n: wavenet(n)) for n in (10, 100, 1_000, 10_000)],
    )
    table(
        "WaveNet of 100 layers, by dilation",
        [(f"up to 2^{k}", lambda k=k: wavenet(100, 1 << k)) for k in (0, 5, 10, 15, 20)],
    )
    table(
        "hourglass on two axes, by rate",
        [(f"rate {r}", lambda r=r: hourglass(r)) for r in (1, 2, 4, 8, 16, 32, 64)],
    )
    table(
        "Gated PixelCNN, RGB, by layers",
        [(f"{n} layers", lambda n=n: gated_pixelcnn(n)) for n in (5, 20, 80)],
    )


if __name__ == "__main__":
    main()
