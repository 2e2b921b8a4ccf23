"""Conditions that arrive with the steps of a sampler, not whole with its start."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

from torch import Tensor

from .state import Offset, State


class Arrival:
    """A condition that arrives: what `start` was given of it, `given`, and its `newest` value.

    `offset`: where that stands from the position drawn; with k + 1 components it comes with every
    round of loop k. `canvas`, (B, [C,] *axes) of zeros, is of its size; `axis`: its first axis.
    """

    def __init__(
        self, name: str, given: Tensor | None, offset: Offset, canvas: Tensor, axis: int
    ) -> None:
        self.name, self.offset, self.axis = name, offset, axis
        # Always the same tensor, (B, [C,] 1, *inner axes): steps read it.
        self.newest = canvas[(slice(None),) * axis + (slice(0, 1),) * len(offset)].clone()
        given = canvas.narrow(axis, 0, 0) if given is None else given.to(canvas)
        if axis == 2 and canvas.shape[1] == 1 and given.dim() == canvas.dim() - 1:
            given = given.unsqueeze(1)
        if given.shape[:1] == (1,):
            given = given.expand(len(canvas), *given.shape[1:])
        wanted = (len(canvas), *canvas.shape[1:axis], -1, *canvas.shape[axis + 1 :])
        alike = [a in (b, -1) for a, b in zip(wanted, given.shape, strict=False)]
        if given.dim() != canvas.dim() or not all(alike):
            raise ValueError(f"`{name}` is {tuple(given.shape)}, not {wanted}, -1 being any length")
        self.given = given

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what a step is given: that of `newest` without the axes of its loops."""
        return (*self.newest.shape[: self.axis], *self.newest.shape[self.axis + len(self.offset) :])

    def index(self, place: Offset) -> tuple[slice, ...]:
        """Where the value of a place stands in the condition."""
        return (*[slice(None)] * self.axis, *(slice(k, k + 1) for k in place))

    def value(
        self, place: Offset, moves: bool, value: Tensor | None, at: Offset, first: bool
    ) -> Tensor | None:
        """The value at a place on the grid: `start` was given it, or else the step that draws `at`.

        None if no loop `moves` on, so that the newest stays. Of the `first` step a value that is
        known already is ignored.
        """
        known = place[0] < self.given.shape[self.axis]
        if known or not moves:
            if value is not None and not first:
                raise ValueError(f"`{self.name}` at {said(place)} was given already")
            return self.given[self.index(place)] if moves else None
        if value is None:
            raise ValueError(
                f"`{self.name}` at {said(place)} is needed to draw {said(at)}: "
                f"give it to `step`, or all of it to `start`"
            )
        one = self.shape[1:2] == (1,) and self.axis == 2
        if value.shape != self.shape and not (
            one and value.shape == self.shape[:1] + self.shape[2:]
        ):
            raise ValueError(
                f"`{self.name}` at {said(place)} is {tuple(value.shape)}, not {self.shape}"
            )
        return value.reshape(self.newest.shape)

    def require(self, count: int, at: Offset) -> None:
        """Before the step that draws `at`, `count` places on the first axis have to be known."""
        known = self.given.shape[self.axis]
        if known < count:
            raise ValueError(
                f"of `{self.name}`, {known} positions are given; before {said(at)} is drawn, "
                f"`start` needs the first {count}"
            )

    def clone(self) -> Arrival:
        """The same with a newest value of its own."""
        other = copy.copy(self)
        other.newest = self.newest.clone()
        return other


def said(place: Offset) -> str:
    """A position in words."""
    return f"position {place[0] if len(place) == 1 else place}"


class ArrivingState(State):
    """A state whose steps are given the newest values of some conditions."""

    given: dict[str, Tensor | None]
    brought: Mapping[str, Tensor | None] = {}  # by the step that is to begin
    arrivals: tuple[Arrival, ...] = ()

    def expect(self, name: str, offset: Offset, canvas: Tensor, axis: int) -> None:
        """A condition that arrives, as far as it is known before `at`; zeros stand for the rest."""
        arrival = Arrival(name, self.given.pop(name), offset, canvas, axis)
        place, depth = self.to(offset), len(offset)
        inner = [length or 1 for length in self.shape[1:depth]]
        count = sum(k * math.prod(inner[i:]) for i, k in enumerate(place))
        count += any(self.at[depth:])  # amid a slab its own value is there
        flat = canvas.flatten(axis, axis + depth - 1)
        count = min(max(count, 0), flat.shape[axis])
        arrival.require(-(-count // math.prod(inner)), self.at)
        known = arrival.given.flatten(axis, axis + depth - 1)
        flat.narrow(axis, 0, count).copy_(known.narrow(axis, 0, count))
        self.arrivals += (arrival,)
        self.conditions[name] = canvas

    def begin(self) -> None:
        """Before a step, which is told what was `brought`."""
        values, self.brought = self.brought, {}
        first, new = self.prev is not None, []
        for arrival in self.arrivals:
            place = self.to(arrival.offset)
            if self.inside(place):
                moves = first or not any(self.at[len(place) :])
                value = values.get(arrival.name)
                new.append((arrival, arrival.value(place, moves, value, self.at, first)))
        super().begin()
        for arrival, value in new:
            if value is not None:
                arrival.newest.copy_(value)
        self.conditions = self.conditions | {a.name: a.newest for a in self.arrivals}

    def clone(self) -> ArrivingState:
        """A state that moves on its own."""
        other = super().clone()
        assert isinstance(other, ArrivingState)
        other.arrivals = tuple(arrival.clone() for arrival in self.arrivals)
        other.conditions = self.conditions | {a.name: a.newest for a in other.arrivals}
        return other
