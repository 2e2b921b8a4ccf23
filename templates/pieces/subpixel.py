"""Layers where the channels of a position are drawn one after another (red, green, blue).

`inputs` and `outputs` are layouts: the channel group of each feature, e.g. [0, 0, 1, 1, 2].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches2d import FeatureCache, WindowCache, runs_of
from .conv1d import CausalConv1d, convolve1d
from .conv2d import MaskedConv2d
from .conv3d import MaskedConv3d
from .initialise import fan_in_uniform_
from .state import Offset, State


class ChannelSlices:
    """Takes the features of the channel `by` from the one drawn; `layout`: the channel of each."""

    def __init__(self, layout: Sequence[int]) -> None:
        self.layout = layout

    def __call__(self, x: Tensor, past: State | None, by: int = 0) -> Tensor:
        if past is None or past.filling:
            return x
        runs = runs_of(self.layout, (past.at[-1] + by) % (past.shape[-1] or 1))
        return torch.cat([x.narrow(-1, first, n) for first, n in [(0, 0), *runs]], dim=-1)


def seen(inputs: Sequence[int], outputs: Sequence[int], own: bool) -> Tensor:
    """(outputs, inputs): of its position an output sees the groups < its own, and, if `own`, it."""
    return torch.tensor(inputs) < torch.tensor(outputs)[:, None] + own


class SubpixelLinear(nn.Module):
    """Linear map on (..., inputs): feature o sees the features of groups <= its own (mask B)."""

    mask: Tensor
    _place: str = ""
    own = True  # whether a group sees itself

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        mask = seen(inputs, outputs, self.own)
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.empty(len(outputs), len(inputs)))
        self.bias = nn.Parameter(torch.empty(len(outputs))) if bias else None
        fan_in_uniform_(self.weight, self.bias, mask.sum(1))

    def cache(self, source: Offset, output: Offset) -> FeatureCache:
        """What a sampler keeps of x."""
        weight = self.weight * self.mask
        return FeatureCache(source, output, weight, self.bias, self.inputs, self.outputs)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        # Later channels of this position are not drawn yet: their weights are masked.
        return F.linear(x, self.weight * self.mask, self.bias)


class StrictSubpixelLinear(SubpixelLinear):
    """Linear map on (..., inputs): feature o sees the features of groups < its own (mask A)."""

    own = False


class SubpixelConv1d(CausalConv1d):
    """Causal convolution on (B, T, inputs) whose taps at t itself are masked by channel groups.

    At t an output sees the groups < its own, and, if `own`, itself. Earlier positions: all.
    """

    mask: Tensor
    own = True

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: int,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(len(inputs), len(outputs), kernel, dilation, bias)
        self.inputs, self.outputs = inputs, outputs
        present = seen(inputs, outputs, self.own)
        mask = torch.ones(len(outputs), len(inputs), kernel, dtype=torch.bool)
        mask[:, :, -1] = present  # the last tap is t itself
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, mask.flatten(1).sum(1))

    def window(self, x: Tensor) -> Tensor:
        """Outputs with their whole left context in x: (B, reach + n, inputs) -> (B, n, outputs)."""
        return convolve1d(x, self.weight * self.mask, self.bias, self.dilation)

    def cache(self, source: Offset, output: Offset) -> WindowCache:  # type: ignore[override]
        """What a sampler keeps of x."""
        spans, weight = [(-self.reach, 0)], self.weight * self.mask
        layouts = self.inputs, self.outputs
        return WindowCache(source, output, spans, weight, self.bias, (self.dilation,), *layouts)


class SubpixelConv1dA(SubpixelConv1d):
    """Output t sees x[< t] and, at t, the channel groups < its own (mask A)."""

    own = False


class SubpixelConv1dB(SubpixelConv1d):
    """Output t sees x[< t] and, at t, the channel groups <= its own (mask B)."""


class SubpixelConv2d(MaskedConv2d):
    """Masked convolution on (B, H, W, inputs) whose centre tap is masked by channel groups.

    There an output sees the groups < its own, and, if `own`, itself. Earlier pixels: all.
    """

    own = True

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(len(inputs), len(outputs), kernel, 0, dilation, bias)
        self.inputs, self.outputs = inputs, outputs
        present = seen(inputs, outputs, self.own)
        mask = self.mask.repeat(len(outputs), len(inputs), 1, 1)
        mask[:, :, -1, kernel[1] // 2] = present  # the centre tap is (r, c) itself
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, mask.flatten(1).sum(1))

    def cache(self, source: Offset, output: Offset) -> WindowCache:
        """What a sampler keeps of x."""
        spans, weight = (self.rows, self.cols), self.weight * self.mask
        layouts = self.inputs, self.outputs
        return WindowCache(source, output, spans, weight, self.bias, self.dilation, *layouts)


class SubpixelConv2dA(SubpixelConv2d):
    """Output (r, c) sees the pixels before it and, at (r, c), the channel groups < its own."""

    own = False


class SubpixelConv2dB(SubpixelConv2d):
    """Output (r, c) sees the pixels before it and, at (r, c), the channel groups <= its own."""


class SubpixelConv3d(MaskedConv3d):
    """Masked convolution on (B, D, H, W, inputs) whose centre tap is masked by channel groups.

    There an output sees the groups < its own, and, if `own`, itself. Earlier pixels: all.
    """

    own = True

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: tuple[int, int, int],
        dilation: int | tuple[int, int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(len(inputs), len(outputs), kernel, 0, dilation, bias)
        self.inputs, self.outputs = inputs, outputs
        present = seen(inputs, outputs, self.own)
        mask = self.mask.repeat(len(outputs), len(inputs), 1, 1, 1)
        mask[:, :, -1, kernel[1] // 2, kernel[2] // 2] = present  # the centre tap is (f, r, c)
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, mask.flatten(1).sum(1))

    def cache(self, source: Offset, output: Offset) -> WindowCache:
        """What a sampler keeps of x."""
        layouts = self.inputs, self.outputs
        weight, dilation = self.live(), self.dilation
        return WindowCache(source, output, self.spans, weight, self.bias, dilation, *layouts)


class SubpixelConv3dA(SubpixelConv3d):
    """Output (f, r, c) sees the pixels before it and, there, the channel groups < its own."""

    own = False


class SubpixelConv3dB(SubpixelConv3d):
    """Output (f, r, c) sees the pixels before it and, there, the channel groups <= its own."""
