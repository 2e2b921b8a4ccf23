"""What attention keeps between steps."""

import torch
from torch import Tensor, nn

from .state import Cache, Offset, State


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
    def of(cls, layer: nn.Module, state: State) -> "KeyCache":
        """What is kept for a layer."""
        cache = state.caches[str(layer._place)]
        assert isinstance(cache, cls)
        return cache

    def start(self, state: State) -> int:
        """The number of the newest position, in the order of drawing."""
        return self.number(state, state.to(self.source))

    def number(self, state: State, position: Offset) -> int:
        """The number of a position, or of the first of its slab, in the order of drawing."""
        number = 0
        for axis, length in enumerate(state.shape):
            number = number * (length or 1) + (position[axis] if axis < len(position) else 0)
        return number

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

    def extend(self, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Keys and values up to the newest, given those of the newest positions."""
        start = self.start(state)
        if start < 0:
            return k, v
        end = start + k.shape[2]
        if self.latest and len(self.source) < len(state.shape):
            return self.slide(k, v)
        self.room(k, state, end)
        slot = start % self.latest if self.latest else start
        self.keys[:, :, slot : slot + k.shape[2]] = k
        self.values[:, :, slot : slot + k.shape[2]] = v
        end = min(end, self.latest or end)
        return self.keys[:, :, :end], self.values[:, :, :end]

    def slide(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The same for a slab of positions with a window: the last `window - 1` stay in order."""
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
        if any(state.at[len(self.source) :]):  # within a slab that was open already
            place = state.to(self.source)
            end = self.number(state, (*place[:-1], place[-1] + 1))
        end = min(end, k.shape[2])
        if end <= 0:
            return
        self.queries = q[:, :, end - 1 : end]
        if self.latest and len(self.source) < len(state.shape):
            self.slide(k[:, :, :end], v[:, :, :end])
            return
        self.room(k, state, end)
        begin = max(end - self.latest, 0) if self.latest else 0
        slots = torch.arange(begin, end, device=k.device) % self.keys.shape[2]
        self.keys[:, :, slots] = k[:, :, begin:end]
        self.values[:, :, slots] = v[:, :, begin:end]
