"""What layers along one axis keep between steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .state import Cache, Offset, State


def newest(x: Tensor, cache: Cache, state: State) -> Tensor:
    """The newest input of a layer, zeros where it would stand before the first position."""
    return x if state.inside(state.to(cache.source)) else torch.zeros_like(x)


def known(cache: Cache, state: State) -> int:
    """How many positions a prompt brings a layer: the next step that calls it brings one more."""
    place = state.at[0] + cache.source[0] + state.within(len(cache.source))
    return max(place, 0)


class TapCache(Cache):
    """The inputs that a convolution along time still reads: of each its latest positions.

    The taps on earlier positions are known before a step: `TapRing` computes what they contribute,
    `earlier`, for many layers at once. Only the tap on the newest input, `now`, is left.
    """

    def __init__(
        self,
        source: Offset,
        output: Offset,
        weight: Tensor,
        bias: Tensor | None,
        taps: Sequence[int],
    ) -> None:
        super().__init__(source, output)
        outputs, inputs, _ = weight.shape
        # The age of tap k: how many positions before the newest input it reads.
        ages = [source[0] - output[0] - tap for tap in taps]
        self.now = weight[:, :, ages.index(0)].t().contiguous() if 0 in ages else None
        self.ages = [age for age in ages if age]
        self.size = max(self.ages, default=0)
        kept = [k for k, age in enumerate(ages) if age]
        # All earlier taps side by side, as rows.
        self.past = weight[:, :, kept].permute(2, 1, 0).reshape(len(kept) * inputs, outputs)
        self.bias = weight.new_zeros(outputs) if bias is None else bias
        self.inputs = inputs
        self.earlier = self.none = self.bias[None]  # what the earlier taps contribute
        self.newest: Tensor | None = None
        self.filled = 0  # where the latest inputs of a prompt start

    def join(self, state: State) -> None:
        if not self.size:
            return
        for ring in state.rings:
            if ring.fits(self):
                ring.caches.append(self)
                return
        ring = TapRing()
        ring.caches.append(self)
        state.rings.append(ring)

    def run(self, x: Tensor, state: State) -> Tensor:
        self.newest = x = newest(x, self, state)
        if self.now is None:
            return self.earlier.unsqueeze(1).expand(len(x), 1, -1)
        return torch.addmm(self.earlier, x.flatten(0, 1), self.now).unsqueeze(1)

    def fill(self, x: Tensor, state: State) -> None:
        end = known(self, state)
        first = max(end - self.size, 0)
        self.filled, self.newest = first, x[:, first:end]


class TapRing:
    """The earlier inputs of all convolutions of one shape, in one ring buffer.

    Reading them is one gather, and one batched product gives what they contribute.
    """

    def __init__(self) -> None:
        self.caches: list[Any] = []

    def fits(self, cache: TapCache) -> bool:
        """Whether a convolution has the shape of the others."""
        other = self.caches[0]
        same: bool = cache.past.shape == other.past.shape and cache.inputs == other.inputs
        return same

    def build(self, state: State) -> None:
        """Once all are here."""
        caches, like = self.caches, self.caches[0].past
        sizes = torch.tensor([c.size for c in caches], device=like.device)
        self.size, self.base = sizes, sizes.cumsum(0) - sizes
        self.lag = torch.tensor([c.source[0] for c in caches], device=like.device)
        self.age = torch.tensor([c.ages for c in caches], device=like.device)
        self.weight = torch.stack([c.past for c in caches])
        self.bias = torch.stack([c.bias for c in caches])[:, None]
        self.ring = like.new_zeros(int(sizes.sum()), state.batch, caches[0].inputs)

    def read(self, state: State) -> None:
        """What the earlier taps contribute to the step at a position."""
        newest = state.position[0] + self.lag
        slots = (newest[:, None] - self.age) % self.size[:, None] + self.base[:, None]
        taps = self.ring.index_select(0, slots.flatten())
        taps = taps.view(*slots.shape, *taps.shape[1:])
        taps = taps.transpose(1, 2).flatten(2)  # by layer: (B, taps * inputs)
        products = torch.baddbmm(self.bias, taps, self.weight).unbind()
        for cache, earlier in zip(self.caches, products, strict=True):
            cache.earlier = earlier

    def write(self, state: State) -> None:
        """Keep the newest input of every layer."""
        slots = (state.position[0] + self.lag) % self.size + self.base
        inputs = torch.stack([c.newest for c in self.caches if c.newest is not None])
        self.ring.index_copy_(0, slots, inputs.squeeze(2).to(self.ring.dtype))
        for cache in self.caches:  # of this step alone
            cache.newest, cache.earlier = None, cache.none

    def fill(self) -> None:
        """Keep the latest inputs of a prompt."""
        for i, cache in enumerate(self.caches):
            if cache.newest is not None:
                place = torch.arange(cache.newest.shape[1], device=self.ring.device) + cache.filled
                self.ring[self.base[i] + place % cache.size] = cache.newest.transpose(0, 1)
                cache.newest = None

    def clone(self, caches: list[TapCache]) -> TapRing:
        """The same for the copies of its caches."""
        other = TapRing.__new__(TapRing)
        other.__dict__.update(self.__dict__, caches=caches, ring=self.ring.clone())
        return other


class DelayCache(Cache):
    """The latest `age` inputs of a shift along time."""

    moving = ("kept",)

    def __init__(self, source: Offset, output: Offset, by: int) -> None:
        super().__init__(source, output)
        self.age = source[0] - output[0] + by
        self.kept = torch.empty(0)

    def run(self, x: Tensor, state: State) -> Tensor:
        x = newest(x, self, state)
        if not self.age:
            return x
        slot = state.on(0, self.source).tensor % self.age
        if not self.kept.numel():
            self.kept = x.new_zeros(len(x), self.age, x.shape[-1])
        earlier = self.kept.index_select(1, slot)
        self.kept.index_copy_(1, slot, x)
        return earlier

    def fill(self, x: Tensor, state: State) -> None:
        end = known(self, state)
        first = max(end - self.age, 0)
        latest = x[:, first:end]
        if self.age:
            self.kept = x.new_zeros(len(x), self.age, x.shape[-1])
            place = torch.arange(latest.shape[1], device=x.device) + first
            self.kept[:, place % self.age] = latest
