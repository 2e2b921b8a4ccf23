"""What is measured: a compiled model with random parameters, and inputs for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arspec.graph import Graph
from arspec.measure import SEEDS, randomise

if TYPE_CHECKING:
    from arspec.causality import TermProof
    from arspec.compiler import Analysis
    from arspec.model import Declared

Place = tuple[int, ...]
"""A position on the finest grid: one entry per axis of the generated variable, then the channel
where channels are drawn one after another."""

BATCH = 2
EXACT = 1e-9
"""Differences up to here are rounding, in float64; relative to the largest number."""
MANY = 3_000_000
"""Parameters from which on one redraw of them has to do."""


@dataclass(frozen=True, slots=True)
class Check:
    """One measurement: what was measured, whether it agrees, and with which numbers.

    `figure` is what `tolerance` was the greatest permitted value of, where it was a number.
    """

    name: str
    passed: bool
    detail: str
    figure: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A variable as a tensor (batch, [channels,] *axes).

    `kind` is "classes", "levels" or "features", `count` how many; `grid` holds (axis, stride);
    `channels` is the length of the channel dimension, None without one; `ordered` tells whether
    the channels are drawn one after another, and so are positions of their own.
    """

    name: str
    kind: str
    count: int
    grid: tuple[tuple[str, int], ...]
    channels: int | None
    ordered: bool = False

    @property
    def joint(self) -> bool:
        return self.channels is not None and not self.ordered

    @property
    def classes(self) -> int | None:
        return None if self.kind == "features" else self.count

    def shape(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Of its axes alone, when the finest grid has these lengths (an axis of its own: 3)."""
        return tuple(math.ceil(Fraction(lengths.get(axis, 3), step)) for axis, step in self.grid)

    def example(self, lengths: Mapping[str, int], generator: torch.Generator) -> Tensor:
        channels = () if self.channels is None else (self.channels,)
        shape = (BATCH, *channels, *self.shape(lengths))
        if self.classes is None:
            return torch.randn(shape, generator=generator, dtype=torch.float64)
        return torch.randint(self.classes, shape, generator=generator)

    def places(self, lengths: Mapping[str, int], axes: tuple[str, ...]) -> list[Place]:
        """Where each position of the tensor is anchored, in the order of its dimensions."""
        strides = dict(self.grid)
        groups: Iterable[int | None] = range(self.channels or 1) if self.ordered else (None,)
        found = []
        own_places = product(*(range(n) for n in self.shape(lengths)))
        for group, place in product(groups, own_places):
            own = dict(zip(strides, place, strict=True))
            anchor = tuple(own.get(axis, 0) * strides.get(axis, 1) for axis in axes)
            found.append(anchor if group is None else (*anchor, group))
        return found


@dataclass(frozen=True)
class Trial:
    """A compiled model, in float64 and with every parameter drawn at random, and its proof."""

    model: Any  # an nn.Module with the calls of every compiled model
    graph: Graph
    proof: TermProof
    target: Field
    conditions: tuple[Field, ...]
    limits: Mapping[str, int]  # the greatest lengths of axes, where there are such
    dims: tuple[int, ...]  # where the axes, as they are drawn, stand in tensors of the target

    def redraw(self, seed: int) -> None:
        """Draw every parameter anew."""
        randomise(self.model, seed)

    def inputs(self, lengths: Mapping[str, int], seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        x = self.target.example(lengths, generator)
        return x, {field.name: field.example(lengths, generator) for field in self.conditions}

    def key(self, reader: Place, read: Place) -> Place:
        """key(read) - key(reader), the channel last where both have one."""
        n = len(self.graph.axes)
        offset = [q - p for p, q in zip(reader[:n], read[:n], strict=True)]
        key = tuple(
            sum(m * o for m, o in zip(row, offset, strict=True)) for row in self.graph.order
        )
        return key + tuple(q - p for p, q in zip(reader[n:], read[n:], strict=False))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the redraws of all parameters that are affordable."""
        return SEEDS if self.parameters < MANY else SEEDS[:1]

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def within(name: str, figure: float, tolerance: float, what: str) -> Check:
    """A check that a figure does not exceed its tolerance."""
    detail = f"{figure:.1e} of at most {tolerance:.0e}: {what}"
    return Check(name, figure <= tolerance, detail, figure, tolerance)


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest finite number expected.

    What is infinite or not a number on one side only is infinitely far away.
    """
    same = (found == expected) | (found.isnan() & expected.isnan())
    finite = expected[expected.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    apart = torch.where(same, 0.0, (found - expected).abs()).nan_to_num(
        nan=math.inf, posinf=math.inf
    )
    return float(apart.max()) / (scale or 1.0) if apart.numel() else 0.0


def make_trial(analysis: Analysis) -> Trial:
    """Compile what was analysed, leaking or not; float64, every parameter drawn at random."""
    from arspec import compiler
    from arspec.builder import load

    model, term = analysis.model, analysis.model.terms[-1]
    module = load(compiler.emit(analysis), analysis.spec.name).double().eval()
    randomise(module, SEEDS[0])
    target = _field(model.variables[term.variable], ordered=term.frame.channels > 1)
    conditions = tuple(
        _field(variable) for name, variable in model.variables.items() if name != term.variable
    )
    proof = analysis.proof.terms[-1]
    return Trial(module, term.graph, proof, target, conditions, term.limits, term.frame.dims)


def _field(declared: Declared, ordered: bool = False) -> Field:
    count, channels = int(declared.count.value), declared.channels
    if declared.kind == "features":
        channels = count
    grid = tuple((axis, int(stride)) for axis, stride in declared.grid)
    apart = channels > 1 or declared.kind == "features"
    return Field(declared.name, declared.kind, count, grid, channels if apart else None, ordered)
