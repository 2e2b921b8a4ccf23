"""The offsets that a window on a grid holds, and what it reads beyond the grid."""

import itertools
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from .state import Offset

Taps = tuple[int, int] | tuple[int, int, int]
"""Offsets along one axis: first, last and, unless it is 1, the step between them."""


def box(*spans: Taps) -> list[Offset]:
    """All offsets of a window, in raster order, from those on every axis."""
    return list(itertools.product(*(range(t[0], t[1] + 1, *t[2:]) for t in spans)))


def zeros_around(x: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """x[low .. high] along every axis of (B, *axes, C), with zeros where there is no x."""
    ends = list(zip(ranges, x.shape[1:], strict=False))
    sides = [(max(-low, 0), max(high + 1 - length, 0)) for (low, high), length in ends]
    x = F.pad(x, [0, 0, *itertools.chain(*reversed(sides))])
    for axis, (low, high) in enumerate(ranges, start=1):
        x = x.narrow(axis, max(low, 0), high - low + 1)
    return x
