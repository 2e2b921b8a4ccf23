"""What a summary of all positions so far keeps between steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .state import Cache, Offset, State


class SoFarCache(Cache):
    """The summary of the positions before, (B, 1, C), and their number."""

    moving = ("kept", "number")

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output)
        self.layer = layer
        self.kept = self.number = torch.empty(0)

    def begin_with(self, x: Tensor) -> None:
        """Nothing so far."""
        self.kept = self.layer.empty(x)
        self.number = torch.zeros(1, 1, dtype=x.dtype, device=x.device)

    def run(self, x: Tensor, state: State) -> Tensor:
        if not state.inside(state.to(self.source)):
            return torch.zeros_like(x)
        flat = x.flatten(1, -2)
        if not self.kept.numel():
            self.begin_with(flat)
        total = self.layer.total(torch.cat((self.kept, flat), dim=1))[:, 1:]
        count = self.number + torch.arange(1, total.shape[1] + 1, device=x.device)[:, None]
        value: Tensor = self.layer.value(total, count)
        self.kept.copy_(total[:, -1:])
        self.number.add_(total.shape[1])
        return value.view_as(x)

    def fill(self, x: Tensor, state: State) -> None:
        level = len(self.source)
        inner = [n or 1 for n in state.lengths[1:]]
        place = list(state.to(self.source))[: len(inner) + 1]
        if state.within(level):  # within a slab that was open already
            place[level - 1] += 1
        place[level:] = [0] * (len(place) - level)
        known = sum(k * math.prod(inner[axis:]) for axis, k in enumerate(place))
        flat = x.flatten(1, -2)[:, : max(known, 0)]
        self.begin_with(x.flatten(1, -2))
        if flat.shape[1]:
            self.kept = self.layer.total(flat)[:, -1:].clone()
            self.number += flat.shape[1]
