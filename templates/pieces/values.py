"""Learned numbers, and parameters of distributions that a model writes out itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .functions import GridShift, Shift
from .state import State


class Bounded(nn.Module):
    """Learned numbers between `low` and `high`, either of them None: () -> (width,).

    Above a bound by softplus, between two by a sigmoid; they start at `init`.
    """

    def __init__(self, width: int, low: float | None, high: float | None, init: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        start = torch.full((width,), init, dtype=torch.float64)
        if low is not None and high is not None:
            start = torch.logit((start - low) / (high - low), eps=1e-6)
        else:
            distance = (start - low if low is not None else (high or 0) - start).clamp(min=1e-6)
            start = distance + torch.log(-torch.expm1(-distance))  # inverse of softplus
        self.weight = nn.Parameter(start.to(torch.get_default_dtype()))

    def forward(self) -> Tensor:
        if self.low is not None and self.high is not None:
            return self.low + (self.high - self.low) * torch.sigmoid(self.weight)
        if self.low is not None:
            return self.low + F.softplus(self.weight)
        assert self.high is not None
        return self.high - F.softplus(self.weight)


class ShiftOr(Shift):
    """y[t] = x[t - by] along time, (B, T, C), and `outside`[t] where t - by is not on the grid."""

    def forward(self, x: Tensor, outside: Tensor, past: State | None = None) -> Tensor:  # type: ignore[override]
        if past is None or past.filling:
            if past is not None:
                past.caches[self._place].fill(x, past)
            return shift_or(x, 1, self.by, outside)
        cache = past.caches[self._place]
        y = cache.run(x, past)
        inside = past.on(0, cache.output).tensor >= self.by
        return torch.where(inside[:, None], y, outside)


class GridShiftOr(GridShift):
    """y[i] = x[i - by] on a grid, and `outside`[i] where i - by is not on it."""

    def forward(self, x: Tensor, outside: Tensor, past: State | None = None) -> Tensor:  # type: ignore[override]
        axis = next(k for k, by in enumerate(self.by) if by)
        if past is None or past.filling:
            if past is not None:
                past.caches[self._place].fill(x, past)
            return shift_or(x, axis + 1, self.by[axis], outside)
        cache = past.caches[self._place]
        y = cache.run(x, past)
        length = past.shape[axis] or 1 << 62  # an open end
        if axis < len(cache.output):
            place = past.on(axis, cache.output).tensor - self.by[axis]
        else:
            place = torch.arange(length, device=x.device) - self.by[axis]
        inside = ((place >= 0) & (place < length)).view(-1, *[1] * (y.dim() - 2 - axis))
        return torch.where(inside, y, outside)


def shift_or(x: Tensor, axis: int, by: int, outside: Tensor) -> Tensor:
    """y[i] = x[i - by] along dimension `axis`, and `outside`[i] where i - by is not on the grid."""
    length = x.shape[axis]
    place = torch.arange(length, device=x.device) - by
    inside = ((place >= 0) & (place < length)).view(-1, *[1] * (x.dim() - 1 - axis))
    moved = x.index_select(axis, place.clamp(0, length - 1))
    return torch.where(inside, moved, outside)


def gaussian_parameters(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Means and log scales side by side: (..., 2 * features), at every position of x."""
    return torch.cat((mean.expand_as(x), scale.log().expand_as(x)), dim=-1)


def student_t_parameters(x: Tensor, mean: Tensor, scale: Tensor, df: Tensor) -> Tensor:
    """Means, log scales and log degrees of freedom: (..., 3 * features), at every position of x."""
    parts = (mean, scale.log(), df.log())
    return torch.cat([part.expand_as(x) for part in parts], dim=-1)
