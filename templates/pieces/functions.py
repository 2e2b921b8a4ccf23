"""Functions without parameters."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches1d import DelayCache
from .caches2d import ShiftCache
from .caches_clocks import RepeatCache
from .caches_grids import RepeatCrossCache
from .state import Offset, Place, State


def concat_elu(x: Tensor) -> Tensor:
    """(..., C) -> (..., 2C): elu of x and of -x (Salimans et al. 2017, PixelCNN++)."""
    return F.elu(torch.cat([x, -x], dim=-1))


def shift(x: Tensor, axis: int, by: int) -> Tensor:
    """y[i] = x[i - by] along dimension `axis` (the batch is 0), zeros from outside.

    Later for by > 0: then output i sees x[< i].
    """
    length = x.shape[axis]
    before, after = min(max(by, 0), length), min(max(-by, 0), length)
    kept = x.narrow(axis, after, length - before - after)
    return F.pad(kept, [0, 0] * (x.dim() - 1 - axis) + [before, after])


class Shift(nn.Module):
    """y[t] = x[t - by] along time, (B, T, C); zeros from outside. Later for by > 0."""

    _place: str = ""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def cache(self, source: Offset, output: Offset) -> DelayCache:
        """What a sampler keeps of x."""
        return DelayCache(source, output, self.by)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        return shift(x, 1, self.by)  # output t sees x[t - by]


class GridShift(nn.Module):
    """y[i] = x[i - by] on a grid, (B, *axes, C), `by` per axis; zeros from outside."""

    _place: str = ""

    def __init__(self, *by: int) -> None:
        super().__init__()
        self.by = by

    def cache(self, source: Offset, output: Offset) -> ShiftCache:
        """What a sampler keeps of x."""
        return ShiftCache(source, output, [tuple(-by for by in self.by)])

    def whole(self, x: Tensor) -> Tensor:
        """All positions at once."""
        for axis, by in enumerate(self.by, start=1):
            x = shift(x, axis, by) if by else x
        return x

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        return self.whole(x)  # output i sees x[i - by]


def repeat(
    x: Tensor, rate: int, length: int, axis: int, name: str = "input", first: int | Place = 0
) -> Tensor:
    """From a slower clock: x[i // rate] for `length` positions i from `first` on, along `axis`."""
    frames, end = x.shape[axis], length
    if isinstance(first, int):
        if frames * rate >= end:
            return x.repeat_interleave(rate, dim=axis).narrow(axis, 0, length)
    elif first.before(frames * rate):
        return x.index_select(axis, first.tensor // rate)
    else:
        end = first.number + 1
    raise ValueError(
        f"{name}: {frames} frames cover {frames * rate} of {end} positions at {rate} each"
    )


def held(
    x: Tensor, rate: int, length: int, axis: int, name: str = "input", past: State | None = None
) -> Tensor:
    """The same of what is drawn: in a step its newest value is the one that is repeated."""
    if past is None or past.filling:
        return repeat(x, rate, length, axis, name)
    return x


class Repeated1d(nn.Module):
    """The same of what is drawn, where its newest value is not yet the one that is repeated."""

    _place: str = ""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate = rate

    def cache(self, source: Offset, output: Offset) -> RepeatCache:
        """What a sampler keeps of x."""
        return RepeatCache(source, output, self.rate)

    def forward(self, x: Tensor, length: int, past: State | None = None) -> Tensor:
        """(B, T, C) -> (B, length, C)"""
        if past is not None:
            return past.run(self, x, length)
        return repeat(x, self.rate, length, 1)


class Repeated(nn.Module):
    """The same of what is drawn position by position on a grid: x[i // rate] on all axes."""

    _place: str = ""

    def __init__(self, *rates: int) -> None:
        super().__init__()
        self.rates = rates

    def cache(self, source: Offset, output: Offset) -> RepeatCrossCache:
        """What a sampler keeps of x."""
        return RepeatCrossCache(source, output, self)

    def forward(self, x: Tensor, *lengths: int, past: State | None = None) -> Tensor:
        """As many outputs as `lengths` says per axis."""
        if past is not None:
            return past.run(self, x, *lengths)
        for axis, (rate, length) in enumerate(zip(self.rates, lengths, strict=True), start=1):
            x = repeat(x, rate, length, axis)
        return x


def scale_levels(x: Tensor, levels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integers 0 .. levels - 1 to evenly spaced numbers in [-1, 1]."""
    return (2 * x.to(dtype) - (levels - 1)) / (levels - 1)


def summed(layers: Sequence[Any], inputs: Sequence[Tensor], past: State | None = None) -> Tensor:
    """The sum of layer(x) over pairs of a layer and an input, each (..., C)."""
    if past is None or past.filling:
        return sum_of([layer(x) for layer, x in zip(layers, inputs, strict=True)])
    weight, bias = past.once(layers[0]._place, lambda: side_by_side(layers), past.weights)
    # In a step: one product with the weights side by side.
    return F.linear(torch.cat(list(inputs), dim=-1), weight, bias)


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Their sum."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def side_by_side(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """The weights of linear maps as one, (outputs, all inputs), and the sum of their biases."""
    weight = torch.cat([layer.weight for layer in layers], dim=1)
    return weight, sum_of([weight.new_zeros(()), *(x.bias for x in layers if x.bias is not None)])
