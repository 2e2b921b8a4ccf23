"""Pooling: several positions become one."""

import torch
from torch import Tensor
from torch.nn import functional as F


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


def mean_so_far(x: Tensor) -> Tensor:
    """(B, *axes, C): at each position the mean over it and those before it in raster order."""
    flat = x.flatten(1, -2)
    count = torch.arange(1, flat.shape[1] + 1, device=x.device).unsqueeze(-1)
    return (flat.cumsum(1) / count).view_as(x)


def max_so_far(x: Tensor) -> Tensor:
    """(B, *axes, C): at each position the maximum over it and those before it in raster order."""
    return x.flatten(1, -2).cummax(1).values.view_as(x)
