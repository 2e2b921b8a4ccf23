"""What attention keeps between steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .state import Cache, Offset, State

BLOCK = 64  # a step meets whole blocks of keys, those to come masked


class KeyCache(Cache):
    """Keys and values of earlier positions, in the order of drawing: (B, heads, positions, size).

    `window`: only that many latest ones are kept. Their order does not matter to attention.
    """

    moving: tuple[str, ...] = ("keys", "values")

    def __init__(self, source: Offset, output: Offset, window: int | None = None) -> None:
        super().__init__(source, output)
        self.latest = window
        self.keys = self.values = torch.empty(0)
        self.queries: Tensor | None = None  # the newest, where its output comes a position later

    @classmethod
    def of(cls, layer: nn.Module, state: State) -> KeyCache:
        """What is kept for a layer."""
        cache = state.caches[str(layer._place)]
        assert isinstance(cache, cls)
        return cache

    def join(self, state: State) -> None:
        if not self.latest:
            state.phases["keys", self.source] = self.size

    def number(self, state: State, position: Offset) -> int:
        """The number of a position, or of the first of its slab, in the order of drawing."""
        number = 0
        for axis, length in enumerate(state.lengths):
            number = number * (length or 1) + (position[axis] if axis < len(position) else 0)
        return number

    def start(self, state: State) -> int:
        """The number of the newest position, in the order of drawing."""
        return self.number(state, state.to(self.source))

    def newest(self, state: State) -> Tensor:
        """The same as a tensor, (1,)."""

        def compute() -> Tensor:
            number = state.on(0, self.source).tensor
            for axis, length in enumerate(state.lengths[1:], start=1):
                number = number * (length or 1) + state.on(axis, self.source).tensor
            return number

        return state.once(("number", self.source), compute)

    def single(self, state: State) -> bool:
        """Whether a step brings one position, not a slab."""
        return len(self.source) >= len(state.lengths)

    def size(self, state: State, before: int = 0) -> int:
        """How many keys a step meets, those of `before` last positions never."""
        if self.latest:
            return self.latest
        size = (self.start(state) // BLOCK + 1) * BLOCK
        if not state.lengths[0]:
            return size
        behind = self.number(state, state.at) - self.start(state) if self.single(state) else 0
        whole = self.number(state, (state.lengths[0],)) - max(before, behind)
        return whole if state.compiles else min(size, whole)

    def room(self, like: Tensor, state: State, end: int) -> None:
        """Make room for positions below `end`."""
        size = self.latest or end
        if not self.latest and self.keys.numel():
            size = self.keys.shape[2] if end <= self.keys.shape[2] else 2 * end
        elif not self.latest and state.shape[0]:
            size = max(end, self.number(state, (state.shape[0],)))
        if not self.keys.numel() or size > self.keys.shape[2]:
            keys, values = self.keys, self.values
            self.keys = like.new_zeros(*like.shape[:2], size, like.shape[-1])
            self.values = torch.zeros_like(self.keys)
            if keys.numel():
                self.keys[:, :, : keys.shape[2]] = keys
                self.values[:, :, : values.shape[2]] = values

    def put(
        self, layer: Any, k: Tensor, v: Tensor, state: State, before: int = 0
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values and what is added to their scores, given those of the newest position.

        The query is that of `before` positions earlier.
        """
        if self.start(state) < 0:
            return k, v, None
        size, newest = self.size(state, before), self.newest(state)
        self.room(k, state, max(size, self.start(state) + 1))
        slot = newest % self.latest if self.latest else newest
        self.keys.index_copy_(2, slot, k)
        self.values.index_copy_(2, slot, v)

        def added() -> Tensor:
            age = newest - torch.arange(size, device=k.device)
            if self.latest:  # slots come round again; those older than the first are empty
                age = age % size
                age = torch.where(age > newest, -1, age)
            bias: Tensor = layer.bias_of(age - before)
            return bias

        key = ("scores", type(layer), layer.heads, self.source, self.latest, before)
        return self.keys[:, :, :size], self.values[:, :, :size], state.once(key, added)

    def extend(self, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Keys and values up to the newest, given those of the newest slab."""
        start = self.start(state)
        if start < 0:
            return k, v
        if self.latest:
            return self.slide(k, v)
        end = start + k.shape[2]
        self.room(k, state, end)
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        return self.keys[:, :, :end], self.values[:, :, :end]

    def slide(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The same with a window: the last `window - 1` stay in order."""
        if self.keys.numel():
            k = torch.cat([self.keys, k], dim=2)
            v = torch.cat([self.values, v], dim=2)
        size = min((self.latest or 1) - 1, k.shape[2])
        self.keys = k[:, :, k.shape[2] - size :]
        self.values = v[:, :, v.shape[2] - size :]
        return k, v

    def keep_all(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> None:
        """Those of a whole prompt."""
        end = self.start(state)
        if state.within(len(self.source)):  # within a slab that was open already
            place = state.to(self.source)
            end = self.number(state, (*place[:-1], place[-1] + 1))
        end = min(end, k.shape[2])
        if end <= 0:
            return
        self.queries = q[:, :, end - 1 : end].clone()
        if self.latest and not self.single(state):
            self.slide(k[:, :, :end], v[:, :, :end])
            return
        self.room(k, state, end)
        begin = max(end - self.latest, 0) if self.latest else 0
        slots = torch.arange(begin, end, device=k.device) % self.keys.shape[2]
        self.keys[:, :, slots] = k[:, :, begin:end]
        self.values[:, :, slots] = v[:, :, begin:end]
