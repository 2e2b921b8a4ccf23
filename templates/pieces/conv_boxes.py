"""Convolutions over any set of taps, with strides and with groups of features; and back."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches_boxes import BoxCache
from .caches_clocks import SpreadCache, StridedTapCache
from .caches_grids import SpreadCrossCache, StrideCrossCache
from .initialise import fan_in_uniform_
from .state import Offset, State
from .windows import Taps, box, zeros_around


def taps_of(boxes: Sequence[Sequence[Taps]]) -> list[tuple[int, ...]]:
    """All taps of a union of boxes, in raster order."""
    return sorted({tap for spans in boxes for tap in box(*spans)})


class BoxConv(nn.Module):
    """Convolution over a union of boxes of taps on (B, *axes, inputs), one to three axes.

    Output i sees x[stride * i + tap] for every tap, zeros outside; an axis of n positions has
    n / stride outputs, rounded up. Features are divided into `groups` that do not mix. `weight`
    holds the taps in raster order.
    """

    places: Tensor
    _place: str = ""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        boxes: Sequence[Sequence[Taps]],
        stride: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.taps = taps_of(boxes)
        along = list(zip(*self.taps, strict=True))  # the offsets on each axis
        self.stride = stride if isinstance(stride, tuple) else (stride,) * len(along)
        self.groups = groups
        # The kernel that holds all boxes: its spans, steps and size, and where the taps lie in it.
        self.spans = [(min(offsets), max(offsets)) for offsets in along]
        self.dilation = [math.gcd(*(o - min(offsets) for o in offsets)) or 1 for offsets in along]
        ends = zip(self.spans, self.dilation, strict=True)
        self.kernel = [(high - low) // step + 1 for (low, high), step in ends]
        index = torch.tensor(self.taps) - torch.tensor([low for low, _ in self.spans])
        index = index // torch.tensor(self.dilation)
        cells = [math.prod(self.kernel[axis + 1 :]) for axis in range(len(along))]
        places = (index * torch.tensor(cells)).sum(1)
        self.register_buffer("places", places, persistent=False)
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, len(self.taps)))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        fan_in_uniform_(self.weight, self.bias, self.weight[0].numel())

    def window(self, x: Tensor) -> Tensor:
        """The outputs whose whole window is in x."""
        kernel = self.weight.new_zeros(*self.weight.shape[:2], math.prod(self.kernel))
        kernel = kernel.index_copy(2, self.places, self.weight)
        kernel = kernel.reshape(*kernel.shape[:2], *self.kernel)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel) - 1]
        y = convolve(
            x.movedim(-1, 1), kernel, self.bias, self.stride, 0, self.dilation, self.groups
        )
        return y.movedim(1, -1)

    def cache(self, source: Offset, output: Offset) -> BoxCache:
        """What a sampler keeps of x."""
        return BoxCache(source, output, self)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        ends = zip(self.spans, x.shape[1:], self.stride, strict=False)
        # Zeros outside, so that output i sees x[stride * i + tap].
        ranges = [(low, (n - 1) // stride * stride + high) for (low, high), n, stride in ends]
        return self.window(zeros_around(x, ranges))


class StridedConv(BoxConv):
    """The same on what is drawn, at a slower clock than that."""

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return StridedTapCache(source, output, self)


class GridStridedConv(BoxConv):
    """The same on a grid."""

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return StrideCrossCache(source, output, self)


class TransposedConv(nn.Module):
    """Transposed convolution on (B, *axes, inputs), one to three axes; `spans` inclusive.

    Output i sees x[(i - d) / stride], for d in the span where that is whole, zeros outside.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        spans: Sequence[tuple[int, int]],
        stride: int | tuple[int, ...] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.spans = spans
        self.stride = stride if isinstance(stride, tuple) else (stride,) * len(spans)
        kernel = [last - first + 1 for first, last in spans]
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        seen = [-(-size // stride) for size, stride in zip(kernel, self.stride, strict=True)]
        fan_in_uniform_(self.weight, self.bias, inputs * math.prod(seen))

    def forward(self, x: Tensor, *lengths: int) -> Tensor:
        """As many outputs as `lengths` says per axis."""
        for frames, stride, length in zip(x.shape[1:], self.stride, lengths, strict=False):
            if frames * stride < length:
                covered = f"{frames * stride} of {length} positions at {stride} each"
                raise ValueError(f"{frames} frames cover {covered}")
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(lengths) - 1]
        # x[q] reaches the outputs stride * q + d; the first of these is that of d = first.
        y = convolve(x.movedim(-1, 1), self.weight.transpose(0, 1), None, self.stride)
        ends = zip(self.spans, lengths, strict=True)
        y = zeros_around(y.movedim(1, -1), [(-first, n - 1 - first) for (first, _), n in ends])
        return y if self.bias is None else y + self.bias


class SpreadingConv(TransposedConv):
    """The same on what is drawn, at a faster clock than that."""

    _place: str = ""

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return SpreadCache(source, output, self)

    def forward(self, x: Tensor, *lengths: int, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x, *lengths)
        return super().forward(x, *lengths)


class GridSpreadingConv(SpreadingConv):
    """The same on a grid."""

    def cache(self, source: Offset, output: Offset) -> Any:
        """What a sampler keeps of x."""
        return SpreadCrossCache(source, output, self)
