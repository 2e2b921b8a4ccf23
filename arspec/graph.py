"""The dependency graph: nodes, what each reads, and where it lives.

This is the whole intermediate representation that the proof, the receptive field and (later) the
schedule work on. It knows no layer: an op is only its *reach*, the set of positions of its input
that one output position reads.

Conventions
-----------
`axes` are those of the generated variable, channel excluded, e.g. ``("row", "col")``. Every tuple
of offsets, strides or rates below has one entry per axis, in that order. A node's position ``i`` on
an axis is anchored at ``stride * i`` on the finest grid; stride 0 says that the node has no such
axis (a class label, a source sentence). Where channels are drawn one after another, a node either
carries *channel groups* (``grouped``: one slice of its features per channel) or it is anchored at
channel 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arspec.diagnostics import Span

if TYPE_CHECKING:
    import networkx

SAME, UPTO, BEFORE, ALL = "same", "upto", "before", "all"
"""Which channel groups of a grouped input group ``c`` reads: c, <= c, < c, or every one.

A node without groups reads every group of a grouped input (ALL); a grouped node reads an
ungrouped one whole, whatever is written here.
"""

PRESENT, PAST, EVERYWHERE = "present", "past", "everywhere"

ALWAYS, ONE, OUTSIDE = "always", "one", "outside"
"""On which of the positions that it reads a value depends: on each, on one of them for each feature
(a maximum), or on them only where another read leaves the grid (the right side of `or`)."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of taps: on axis k the offsets ``lo[k], lo[k] + step[k], ..., hi[k]``."""

    lo: tuple[int, ...]
    hi: tuple[int, ...]
    step: tuple[int, ...]
    groups: str = SAME


@dataclass(frozen=True, slots=True)
class Stencil:
    """A finite window: output ``i`` reads, for every tap d of its boxes and on every axis,

    - ``down * i + d``     where ``up`` is 1 (``down`` > 1: strided convolution, pooling),
    - ``i // up + d``      where ``up`` > 1 (repetition, a slower clock),
    - ``(i - d) / up``     where ``transposed``, and only where that is whole (deconvolution).
    """

    boxes: tuple[Box, ...]
    down: tuple[int, ...]
    up: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """A prefix or a whole: output ``i`` reads every q that differs from it only along `along`.

    `until` PRESENT keeps key(q) <= key(i), PAST key(q) < key(i), EVERYWHERE all of them.
    `window`: only the latest n of those in key order; `every`: only each k-th, counted back from i
    (both: the union of the n latest and of each k-th). `groups` as in `Box`, for q = i; every
    other position is read with all its groups.
    """

    along: tuple[bool, ...]
    until: str
    window: int | None = None
    every: int | None = None
    groups: str = ALL


Reach = Stencil | Sweep


@dataclass(frozen=True, slots=True)
class Read:
    """One edge: the reading node's input slot. Two slots on one source are two edges.

    `depends` makes no difference to a proof, which covers every input, but to a measurement.
    """

    source: int
    reach: Reach
    span: Span
    depends: str = ALWAYS


@dataclass(frozen=True, slots=True)
class Node:
    """One named value of the model. `name` is its path in the spec, e.g. ``layers.3.gate``.

    `width`: features per position. `operations`: multiply-adds by weights per evaluated position,
    what a sweep does with each position that it reads excluded.
    """

    name: str
    span: Span
    strides: tuple[int, ...]
    grouped: bool = False
    reads: tuple[Read, ...] = ()
    width: int = 1
    operations: int = 0


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of an input when position t is drawn: offsets up to `ahead` on the first axis.

    `ahead` 0 is "present", None "everything"; `strict` excludes key offset 0 itself ("past",
    and the generated variable).
    """

    ahead: int | None
    strict: bool = False


@dataclass(frozen=True)
class Graph:
    """One term p(target | ...) of the model.

    `order`: rows of the integer matrix M; positions are drawn in lexicographic order of M p, then
    by channel. `nodes` are topologically sorted but for reads that close a cycle (recursions).
    `bounds` holds the inputs whose knowledge is limited: the target, and conditions on its clock.
    """

    variable: str
    axes: tuple[str, ...]
    order: tuple[tuple[int, ...], ...]
    channels: int
    nodes: tuple[Node, ...]
    target: int
    head: int
    bounds: dict[int, Bound] = field(default_factory=dict)

    @property
    def raster(self) -> bool:
        """Whether the order is that of the axes as written."""
        n = len(self.axes)
        return self.order == tuple(tuple(int(i == j) for j in range(n)) for i in range(n))

    def to_networkx(self) -> networkx.MultiDiGraph[int]:
        """The same graph for networkx: nodes are indices, each read is an edge with its `Read`."""
        import networkx  # here: importing it costs 0.2 s, which a graph without cycles can save

        view: networkx.MultiDiGraph[int] = networkx.MultiDiGraph()
        view.add_nodes_from((i, {"node": node}) for i, node in enumerate(self.nodes))
        for i, node in enumerate(self.nodes):
            view.add_edges_from((read.source, i, {"read": read}) for read in node.reads)
        return view
