"""Random small graphs over all kinds of reads, from a seed."""

from __future__ import annotations

from random import Random

from arspec.diagnostics import Span
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
    Node,
    Reach,
    Read,
    Stencil,
    Sweep,
)

AXES = {1: ("time",), 2: ("row", "col"), 3: ("frame", "row", "col")}
ORDERS = {
    1: [((1,),), ((-1,),), ((2,),)],
    2: [
        ((1, 0), (0, 1)),
        ((0, 1), (1, 0)),
        ((1, 0), (0, -1)),
        ((1, 1),),
        ((2, 1), (0, 1)),
        ((1, 0),),
        ((1, 2), (1, 0)),
    ],
    3: [
        ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((1, 1, 0), (0, 1, 0), (0, 0, 1)),
        ((0, 0, 1), (1, 1, 0)),
    ],
}


class Builder:
    """Grows a graph node by node."""

    def __init__(
        self,
        n: int,
        channels: int = 1,
        order: tuple[tuple[int, ...], ...] | None = None,
        stride: int = 1,
    ) -> None:
        self.n, self.channels = n, channels
        self.order = order or ORDERS[n][0]
        self.unit = (stride,) * n
        self.nodes: list[Node] = []
        self.bounds: dict[int, Bound] = {}
        self.live: list[int] = [0]  # what depends on the target
        self.target = self.node("x", self.unit, channels > 1)

    def node(
        self, name: str, strides: tuple[int, ...], grouped: bool = False, *reads: tuple[int, Reach]
    ) -> int:
        i = len(self.nodes)
        edges = tuple(Read(s, reach, Span(i + 1, k + 1)) for k, (s, reach) in enumerate(reads))
        self.nodes.append(Node(name, Span(i + 1), strides, grouped, edges))
        if any(source in self.live for source, _ in reads):
            self.live.append(i)
        return i

    def add(
        self,
        *reads: tuple[int, Reach],
        strides: tuple[int, ...] | None = None,
        grouped: bool | None = None,
        name: str = "",
    ) -> int:
        """A node that reads as said; strides and groups as its first source's unless given."""
        first = self.nodes[reads[0][0]]
        return self.node(
            name or f"n{len(self.nodes)}",
            first.strides if strides is None else strides,
            first.grouped if grouped is None else grouped,
            *reads,
        )

    def graph(self, head: int) -> Graph:
        bounds = {self.target: Bound(0, True), **self.bounds}
        return Graph(
            "x",
            AXES[self.n],
            self.order,
            self.channels,
            tuple(self.nodes),
            self.target,
            head,
            bounds,
        )

    # --------------------------------------------------------------------------------- reaches

    def conv(
        self, *windows: tuple[tuple[int, int], ...], step: int = 1, groups: str = ALL
    ) -> Stencil:
        """A window (lo, hi) per axis; several are united."""
        ones = (1,) * self.n
        boxes = tuple(
            Box(tuple(lo for lo, _ in w), tuple(hi for _, hi in w), (step,) * self.n, groups)
            for w in windows
        )
        return Stencil(boxes, ones, ones)

    def at(self, *offset: int, groups: str = SAME) -> Stencil:
        """One tap."""
        return self.conv(tuple((d, d) for d in offset or (0,) * self.n), groups=groups)


def random_graph(seed: int) -> tuple[Graph, tuple[int, ...]]:
    """A graph, and the size of a grid on which brute force takes a few milliseconds."""
    rng = Random(seed)
    n = rng.choice((1, 1, 2, 2, 2, 3))
    channels = rng.choice((1, 1, 2, 3)) if n < 3 else rng.choice((1, 1, 1, 2))
    order = rng.choice(ORDERS[n]) if rng.random() < 0.25 else ORDERS[n][0]
    stride = rng.choice((1, 1, 1, 2)) if n < 3 else 1
    build = Builder(n, channels, order, stride)
    if rng.random() < 0.3:
        _condition(rng, build)
    for _ in range(rng.randint(1, {1: 7, 2: 5, 3: 4}[n])):
        _grow(rng, build)
    head = _head(rng, build)
    size = {1: (20,), 2: (6, 6), 3: (4, 4, 4)}[n]
    return build.graph(head), size


def _condition(rng: Random, build: Builder) -> None:
    slower = rng.choice((1, 1, 2))
    lacking = [rng.random() < 0.15 for _ in range(build.n)]
    strides = tuple(0 if lack else s * slower for s, lack in zip(build.unit, lacking, strict=True))
    node = build.node("h", strides)
    if strides[0]:
        ahead = rng.choice((None, 0, 0, 0, 1, 2))
        build.bounds[node] = Bound(ahead, ahead == 0 and rng.random() < 0.5)


def _grow(rng: Random, build: Builder) -> None:
    source = rng.choice(build.live[-3:])
    if rng.random() < 0.1:
        source = rng.randrange(len(build.nodes))
    strides = build.nodes[source].strides
    grouped = build.channels > 1 and rng.random() < 0.7
    kind = rng.choice(
        (
            "conv",
            "conv",
            "conv",
            "down",
            "up",
            "transposed",
            "sweep",
            "sweep",
            "scan",
            "pair",
            "pool",
        )
    )
    groups = lambda: rng.choice((SAME, UPTO, UPTO, BEFORE, ALL))  # noqa: E731
    if kind == "down" and max(strides) < 4:
        down = tuple(rng.choice((1, 2, 2, 3)) if s else 1 for s in strides)
        reach: Reach = Stencil(_boxes(rng, build.n, groups()), down, (1,) * build.n)
        build.add(
            (source, reach),
            strides=tuple(s * r for s, r in zip(strides, down, strict=True)),
            grouped=grouped,
        )
    elif kind in ("up", "transposed"):
        up = tuple(rng.choice([r for r in (1, 2, 3, 4) if s % r == 0]) if s else 1 for s in strides)
        boxes = _boxes(rng, build.n, groups())
        reach = Stencil(boxes, (1,) * build.n, up, kind == "transposed")
        build.add(
            (source, reach),
            strides=tuple(s // r for s, r in zip(strides, up, strict=True)),
            grouped=grouped,
        )
    elif kind == "sweep":
        theirs = strides if rng.random() < 0.7 else build.unit
        build.add((source, _sweep(rng, build.n, groups())), strides=theirs, grouped=grouped)
    elif kind == "pool":
        gone = tuple(rng.random() < 0.5 for _ in strides)
        left = tuple(0 if g else s for s, g in zip(strides, gone, strict=True))
        pooled = build.add((source, Sweep(gone, EVERYWHERE)), strides=left, grouped=grouped)
        if rng.random() < 0.7:
            build.add((pooled, build.at(groups=groups())), strides=strides, grouped=grouped)
    elif kind == "scan":
        me = len(build.nodes)
        state = [(me, _state(rng, build.n, groups())) for _ in range(rng.choice((1, 1, 2)))]
        build.add((source, _stencil(rng, build.n, groups())), *state, grouped=grouped)
    elif kind == "pair":
        me = len(build.nodes)
        back = _state(rng, build.n, groups())
        build.add((source, _stencil(rng, build.n, groups())), (me + 1, back), grouped=grouped)
        build.add((me, _stencil(rng, build.n, groups())), grouped=grouped)
    else:
        reads: list[tuple[int, Reach]] = [(source, _stencil(rng, build.n, groups()))]
        for other in range(len(build.nodes)):
            theirs = build.nodes[other].strides
            if (
                all(t in (0, s) for t, s in zip(theirs, strides, strict=True))
                and rng.random() < 0.3
            ):
                reads.append((other, _stencil(rng, build.n, groups())))
        build.add(*reads, grouped=grouped)


def _head(rng: Random, build: Builder) -> int:
    """Bring the last nodes to the target's grid."""
    reads: list[tuple[int, Reach]] = []
    ones = (1,) * build.n
    for source in sorted({build.live[-1], rng.randrange(len(build.nodes))}):
        strides = build.nodes[source].strides
        up = tuple(max(1, s // u) for s, u in zip(strides, build.unit, strict=True))
        down = tuple(u // s if s and u > s else 1 for s, u in zip(strides, build.unit, strict=True))
        if any(
            s and u * max(1, s // u) != s * (u // s if u > s else 1)
            for s, u in zip(strides, build.unit, strict=True)
        ):
            continue
        shift = 0 if rng.random() < 0.5 else -1
        corner = tuple(shift if k == build.n - 1 else 0 for k in range(build.n))
        box = Box(corner, corner, ones, rng.choice((SAME, BEFORE)))
        reads.append((source, Stencil((box,), down, up)))
    reads = reads or [(build.target, build.at(*(-1,) * build.n))]
    return build.add(*reads, strides=build.unit, grouped=build.channels > 1 and rng.random() < 0.85)


def _boxes(rng: Random, n: int, groups: str) -> tuple[Box, ...]:
    boxes = []
    for _ in range(rng.choice((1, 1, 2))):
        lo = tuple(rng.randint(-2, 0) for _ in range(n))
        hi = tuple(max(low, rng.choice((-1, 0, 0, 0, 1))) for low in lo)
        step = tuple(rng.choice((1, 1, 2)) for _ in range(n))
        boxes.append(Box(lo, hi, step, groups))
    return tuple(boxes)


def _stencil(rng: Random, n: int, groups: str) -> Stencil:
    """Often causal: the present row up to the present, and rows above."""
    ones = (1,) * n
    if rng.random() < 0.4:
        return Stencil(_boxes(rng, n, groups), ones, ones)
    if n == 1 or rng.random() < 0.3:
        zero = (0,) * n
        return Stencil((Box((-rng.randint(0, 2),) * n, zero, ones, groups),), ones, ones)
    above = Box((-1,) + (-1,) * (n - 1), (-1,) + (1,) * (n - 1), ones, ALL)
    here = Box((0,) * (n - 1) + (-1,), (0,) * n, ones, groups)
    return Stencil((above, here), ones, ones)


def _state(rng: Random, n: int, groups: str) -> Stencil:
    """Where a recursion's own state comes from: mostly earlier, sometimes anywhere."""
    ones = (1,) * n
    taps = []
    for _ in range(rng.choice((1, 1, 2))):
        if rng.random() < 0.75:
            axis = rng.randrange(n)
            tap = tuple(
                0 if k < axis else -1 if k == axis else rng.randint(-1, 1) for k in range(n)
            )
        else:
            tap = tuple(rng.randint(-1, 1) for _ in range(n))
        taps.append(Box(tap, tap, ones, groups))
    return Stencil(tuple(taps), ones, ones)


def _sweep(rng: Random, n: int, groups: str) -> Sweep:
    along = tuple(rng.random() < 0.6 for _ in range(n))
    until = rng.choice((PRESENT, PRESENT, PAST, PAST, EVERYWHERE))
    window = rng.choice((None, None, None, 1, 2, 3))
    every = rng.choice((None, None, None, 1, 2, 3))
    return Sweep(along, until, window, every, groups)
