"""Functions without parameters."""

import torch
from torch import Tensor
from torch.nn import functional as F


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


def repeat(x: Tensor, rate: int, length: int, axis: int, name: str = "input") -> Tensor:
    """From a slower clock: y[i] = x[i // rate] for i < length along dimension `axis`."""
    frames = x.shape[axis]
    if frames * rate < length:
        raise ValueError(
            f"{name}: {frames} frames cover {frames * rate} of {length} positions at {rate} each"
        )
    return x.repeat_interleave(rate, dim=axis).narrow(axis, 0, length)


def scale_levels(x: Tensor, levels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integers 0 .. levels - 1 to evenly spaced numbers in [-1, 1]."""
    return (2 * x.to(dtype) - (levels - 1)) / (levels - 1)
