"""Sampling without a schedule: everything is evaluated anew at each position."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor

Index = tuple[int | slice, ...]


class Replay:
    """The state of such a sampler: x as far as it is known, and where each step stands in it.

    `number` is that of the position drawn next; the `x_prev` of the first step is ignored.
    """

    def __init__(
        self,
        x: Tensor,
        places: Sequence[Index],
        conditions: dict[str, Tensor],
        ordered: bool = False,
    ) -> None:
        self.x, self.places, self.conditions, self.ordered = x, places, conditions, ordered
        self.number, self.fresh = 0, True

    def clone(self) -> Replay:
        """A state that moves on its own."""
        other = copy.copy(self)
        other.x = self.x.clone()
        return other

    @property
    def at(self) -> tuple[int, ...]:
        """The position drawn next; a channel that is drawn on its own comes last."""
        return self.place(self.number)

    def place(self, number: int) -> tuple[int, ...]:
        """The position of that number."""
        place = tuple(k for k in self.places[number] if isinstance(k, int))
        return (*place[1:], place[0]) if self.ordered else place

    def put(self, x_prev: Tensor | None) -> None:
        """What was drawn at the position before."""
        if not self.fresh:
            if x_prev is None:
                raise ValueError("`x_prev` is what was drawn at the position before; it is missing")
            self.x[self.places[self.number - 1]] = x_prev.to(self.x)
        self.fresh = False
