"""The graph while it grows: nodes, their facts, and what every body sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Any

from arspec.diagnostics import Span, refuse
from arspec.expressions import Expr
from arspec.frame import Frame
from arspec.graph import Bound, Graph, Node, Read
from arspec.names import local
from arspec.scope import Shared
from arspec.source import Path
from arspec.spec import Spec
from arspec.values import (
    Grid,
    Info,
    Num,
    Ref,
)

MAX_NODES = 400_000
Draft = tuple[str, Span, Grid, bool, tuple[Read, ...]]


@dataclass(frozen=True)
class Cut:
    """The earliest `offset` of a window over node `source` that an inferred mask hides."""

    source: int
    offset: tuple[int, ...]
    mask: str
    span: Span


@dataclass
class Growing:
    """Grows the graph of one term. The layers of expansion build on it, one file each."""

    spec: Spec
    frame: Frame
    numbers: Mapping[str, Num]
    inputs: Mapping[str, Info]
    variable: str
    used: tuple[set[str], set[tuple[str, str]]]
    axis_owner: Mapping[str, str]
    drafts: list[Draft] = field(default_factory=list)
    infos: dict[int, Info] = field(default_factory=dict)
    templates: dict[Any, Any] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)  # greatest lengths of axes
    tables: dict[int, int] = field(default_factory=dict)  # embeddings that can be shared
    held: set[int] = field(default_factory=set)  # nodes that only stood in for later lines
    expressions: dict[Path, Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        variables = {}
        for name, info in self.inputs.items():
            span = self.spec.variables[name].span
            node = self.node(name, span, info, ())
            code = f"{local(name)}_one_hot" if info.symbols else local(name)
            variables[name] = Ref(node, info, code, local(name) if info.symbols else "")
        self.shared = Shared(
            self.numbers,
            variables,
            self.axis_owner,
            self.used[0],
            self.used[1],
            target=local(self.variable),
        )
        self.order = [axis for info in self.inputs.values() for axis, _ in info.grid]
        self.order = list(dict.fromkeys(self.order))
        self.globals = len(self.drafts)
        self.expressions.update(self.spec.expressions)

    def node(self, name: str, span: Span, info: Info, reads: Iterable[Read]) -> int:
        if len(self.drafts) >= MAX_NODES:
            refuse("AR116", span, what="the model", limit=f"{MAX_NODES:,} nodes")
        self.drafts.append((name, span, info.grid, info.features.runs is not None, tuple(reads)))
        self.infos[len(self.drafts) - 1] = info
        return len(self.drafts) - 1

    def graph(self, bounds: Mapping[str, Bound]) -> Graph:
        """The finished graph: strides as whole numbers on the finest grid."""
        names = list(self.inputs)
        finest = 1
        grids = {draft[2] for draft in self.drafts}
        for grid in grids:
            for _, stride in grid:
                finest = lcm(finest, Fraction(stride).denominator)
        strides = {
            grid: tuple(int(dict(grid).get(axis, 0) * finest) for axis in self.frame.axes)
            for grid in grids
        }
        nodes = tuple(
            Node(name, span, strides[grid], grouped, reads, info.features.width, info.operations)
            for (name, span, grid, grouped, reads), info in zip(
                self.drafts, (self.infos[i] for i in range(len(self.drafts))), strict=True
            )
        )
        return Graph(
            variable=self.variable,
            axes=self.frame.axes,
            order=self.frame.order,
            channels=self.frame.channels,
            nodes=nodes,
            target=names.index(self.variable),
            head=len(nodes) - 1,
            bounds={names.index(name): bound for name, bound in bounds.items()},
        )
