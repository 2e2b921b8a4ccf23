"""Pooling: several positions become one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches_clocks import PoolCache
from .caches_grids import PoolCrossCache
from .caches_so_far import SoFarCache
from .state import Offset, State


def blocks(x: Tensor, axis: int, rate: int, outside: float) -> Tensor:
    """Along `axis` (the batch is 0) n positions become n / rate, rounded up, times rate."""
    missing = -x.shape[axis] % rate
    x = F.pad(x, [0, 0] * (x.dim() - 1 - axis) + [0, missing], value=outside)
    return x.reshape(*x.shape[:axis], -1, rate, *x.shape[axis + 1 :])


def mean_pool(x: Tensor, *rates: int) -> Tensor:
    """Output i is the mean of x[rate * i .. rate * i + rate - 1], with zeros beyond the end."""
    for axis, rate in enumerate(rates, start=1):
        x = blocks(x, axis, rate, 0.0).mean(axis + 1)
    return x


def max_pool(x: Tensor, *rates: int) -> Tensor:
    """Output i is the maximum of x[rate * i .. rate * i + rate - 1], as far as there is x."""
    for axis, rate in enumerate(rates, start=1):
        x = blocks(x, axis, rate, -torch.inf).amax(axis + 1)
    return x


class MeanPool(nn.Module):
    """`mean_pool` of what is drawn."""

    _place: str = ""
    outside = 0.0

    def __init__(self, *rates: int) -> None:
        super().__init__()
        self.rates = rates

    def reduce(self, x: Tensor, axis: int) -> Tensor:
        return x.mean(axis)

    def whole(self, x: Tensor) -> Tensor:
        return mean_pool(x, *self.rates)

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return PoolCache(source, output, self)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        return self.whole(x)


class MaxPool(MeanPool):
    """`max_pool` of what is drawn."""

    outside = -torch.inf

    def reduce(self, x: Tensor, axis: int) -> Tensor:
        return x.amax(axis)

    def whole(self, x: Tensor) -> Tensor:
        return max_pool(x, *self.rates)


class GridMeanPool(MeanPool):
    """The same on a grid."""

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return PoolCrossCache(source, output, self)


class GridMaxPool(MaxPool):
    """The same on a grid."""

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return PoolCrossCache(source, output, self)


def mean_so_far(x: Tensor) -> Tensor:
    """(B, *axes, C): at each position the mean over it and those before it in raster order."""
    flat = x.flatten(1, -2)
    count = torch.arange(1, flat.shape[1] + 1, device=x.device).unsqueeze(-1)
    return (flat.cumsum(1) / count).view_as(x)


def max_so_far(x: Tensor) -> Tensor:
    """(B, *axes, C): at each position the maximum over it and those before it in raster order."""
    return x.flatten(1, -2).cummax(1).values.view_as(x)


class MeanSoFar(nn.Module):
    """`mean_so_far` of what is drawn."""

    _place: str = ""

    def empty(self, x: Tensor) -> Tensor:
        """What nothing gives: (B, 1, C)."""
        return torch.zeros_like(x[:, :1])

    def total(self, x: Tensor) -> Tensor:
        """(B, n, C): what is kept of the positions up to each."""
        return x.cumsum(1)

    def value(self, total: Tensor, count: Tensor) -> Tensor:
        """The output, given how many positions there are up to each."""
        return total / count

    def whole(self, x: Tensor) -> Tensor:
        return mean_so_far(x)

    def cache(self, source: Offset, output: Offset) -> SoFarCache:
        """What a sampler keeps of x."""
        return SoFarCache(source, output, self)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        return self.whole(x)


class MaxSoFar(MeanSoFar):
    """`max_so_far` of what is drawn."""

    def empty(self, x: Tensor) -> Tensor:
        return torch.full_like(x[:, :1], -torch.inf)

    def total(self, x: Tensor) -> Tensor:
        return x.cummax(1).values

    def value(self, total: Tensor, count: Tensor) -> Tensor:
        return total

    def whole(self, x: Tensor) -> Tensor:
        return max_so_far(x)
