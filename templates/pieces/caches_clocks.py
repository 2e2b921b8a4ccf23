"""What layers keep that lead from one clock to another, along time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .caches1d import known
from .caches_boxes import Matrices
from .state import Cache, Offset, State


class RingCache(Cache):
    """The latest `size` inputs along time, number i at slot i % size: (B, size, C).

    Positions before the first hold zeros.
    """

    moving = ("ring",)
    outside = 0.0  # what stands behind the last position

    def __init__(self, source: Offset, output: Offset, size: int) -> None:
        super().__init__(source, output)
        self.size, self.ring = size, torch.empty(0)

    def put(self, x: Tensor, home: State) -> None:
        """The newest input, at the clock of the inputs."""
        if not self.ring.numel():
            self.ring = x.new_zeros(len(x), self.size, x.shape[-1])
        if not home.inside(home.to(self.source)):
            x = torch.full_like(x, self.outside if home.at[0] + self.source[0] > 0 else 0)
        slot = home.on(0, self.source).tensor % self.size
        self.ring.index_copy_(1, slot, x.to(self.ring.dtype))

    def keep(self, x: Tensor, state: State) -> None:
        if state.filling:
            self.fill(x, state)
        else:
            self.put(x, state)

    def fill(self, x: Tensor, state: State) -> None:
        self.ring = x.new_zeros(len(x), self.size, x.shape[-1])
        slots, latest = self.latest(x, state)
        self.ring[:, slots] = latest

    def latest(self, x: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The slots that are filled behind a prompt x, and with what."""
        end = known(self, state)
        first = max(end - self.size, 0)
        x = x[:, first:end]
        behind = x.new_full((len(x), end - first - x.shape[1], x.shape[2]), self.outside)
        slots = torch.arange(first, end, device=x.device) % self.size
        return slots, torch.cat([x, behind], 1)


class StrideCache(RingCache):
    """For a window that moves on by `stride`: output i reads x[stride * i + tap]."""

    def __init__(self, source: Offset, output: Offset, taps: Sequence[int], stride: int) -> None:
        super().__init__(source, output, source[0] - stride * output[0] - min(taps) + 1)
        self.taps, self.stride = torch.tensor(taps), stride

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        """What the newest output reads, (B, taps, C): asked for at the clock of the outputs."""
        self.put(x, home)
        self.taps = self.taps.to(x.device)
        first = state.on(0, self.output).tensor * self.stride
        return self.ring.index_select(1, (first + self.taps) % self.size)


class RepeatCache(RingCache):
    """For a repetition: output i reads x[i // rate]."""

    def __init__(self, source: Offset, output: Offset, rate: int) -> None:
        wrapped = -sum(min(k, 0) for k in output[1:])  # so many rounds before at most
        super().__init__(source, output, source[0] - output[0] // rate + 2 + wrapped)
        self.rate = rate

    def between(self, x: Tensor, home: Any, state: State) -> Tensor:
        """The newest output, (B, 1, C): asked for at the clock of the outputs."""
        if home.ticking:
            self.put(x, home)
        number = state.on(0, self.output).tensor // self.rate
        return self.ring.index_select(1, number % self.size)


class StridedTapCache(StrideCache):
    """The same for a convolution, with its weight as a matrix per group."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output, [tap for (tap,) in layer.taps], layer.stride[0])
        self.weights = Matrices(layer)

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        return self.weights.product(super().between(x, home, state))


class PoolCache(StrideCache):
    """The same for a pool: `reduce` is what it does with the positions, along axis 1."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output, range(layer.rates[0]), layer.rates[0])
        self.layer, self.outside = layer, layer.outside

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        pooled: Tensor = self.layer.reduce(super().between(x, home, state), 1)
        return pooled.unsqueeze(1)


class SpreadCache(RingCache):
    """For a transposed convolution: what each of the latest inputs gives to each of its outputs.

    An input is multiplied once, when its clock ticks: `ring` holds the products, (B, size *
    kernel + 1, outputs), the last of them zero. Output i is a sum of some of them.
    """

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        (low, high), stride = layer.spans[0], layer.stride[0]
        size = source[0] + (high - output[0]) // stride + 3
        super().__init__(source, output, size)
        self.stride, self.kernel, self.low = stride, high - low + 1, low
        self.matrix = layer.weight.permute(1, 2, 0).flatten(1)  # inputs by kernel * outputs
        none = layer.weight.new_zeros(len(layer.weight))
        self.bias: Tensor = none if layer.bias is None else layer.bias
        # By phase of the output the taps that it reads; `kernel` where there are no more of them.
        taps = [[d for d in range(low, high + 1) if (p - d) % stride == 0] for p in range(stride)]
        most = max(map(len, taps))
        padded = [[d - low for d in ds] + [self.kernel] * (most - len(ds)) for ds in taps]
        self.taps = torch.tensor(padded, device=layer.weight.device)

    def products(self, x: Tensor) -> Tensor:
        """(B, n, inputs) -> (B, n, kernel, outputs)"""
        return torch.matmul(x, self.matrix).view(*x.shape[:-1], self.kernel, len(self.bias))

    @property
    def slots(self) -> Tensor:
        """`ring` without its last, (B, size, kernel, outputs)."""
        return self.ring[:, :-1].view(len(self.ring), self.size, self.kernel, -1)

    def prepare(self, x: Tensor) -> None:
        self.ring = x.new_zeros(len(x), self.size * self.kernel + 1, len(self.bias))

    def put(self, x: Tensor, home: State) -> None:
        if not self.ring.numel():
            self.prepare(x)
        made = self.products(x if home.inside(home.to(self.source)) else torch.zeros_like(x))
        slot = home.on(0, self.source).tensor % self.size
        self.slots.index_copy_(1, slot, made.to(self.ring.dtype))

    def fill(self, x: Tensor, state: State) -> None:
        self.prepare(x)
        slots, latest = self.latest(x, state)
        self.slots[:, slots] = self.products(latest)

    def between(self, x: Tensor, home: Any, state: State) -> Tensor:
        """The newest output, (B, 1, outputs): asked for at the clock of the outputs."""
        if home.ticking:
            self.put(x, home)
        place = state.on(0, self.output).tensor
        taps = self.taps.index_select(0, place % self.stride).squeeze(0)
        number = torch.div(place - taps - self.low, self.stride, rounding_mode="floor")
        slot = number % self.size * self.kernel + taps
        none = self.size * self.kernel
        terms = self.ring.index_select(1, torch.where(taps < self.kernel, slot, none))
        return self.bias + terms.sum(1, keepdim=True)
