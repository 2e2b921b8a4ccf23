"""Layers where the channels of a position are drawn one after another (red, green, blue).

`inputs` and `outputs` are layouts: the channel group of each feature, e.g. [0, 0, 1, 1, 2].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv1d import CausalConv1d, convolve1d
from .conv2d import MaskedConv2d
from .initialise import fan_in_uniform_


def channel_groups(features: int, channels: int) -> list[int]:
    """The group of each feature: contiguous, as equal as possible, larger groups first."""
    size, larger = divmod(features, channels)
    return [group for group in range(channels) for _ in range(size + (group < larger))]


class SubpixelLinear(nn.Module):
    """Linear map on (..., inputs): feature o sees the features of groups <= its own (mask B)."""

    mask: Tensor

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        mask = torch.tensor(inputs) <= torch.tensor(outputs)[:, None]
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.empty(len(outputs), len(inputs)))
        self.bias = nn.Parameter(torch.empty(len(outputs))) if bias else None
        fan_in_uniform_(self.weight, self.bias, mask.sum(1))

    def forward(self, x: Tensor) -> Tensor:
        # Later channels of this position are not drawn yet: their weights are masked.
        return F.linear(x, self.weight * self.mask, self.bias)


class StrictSubpixelLinear(SubpixelLinear):
    """Linear map on (..., inputs): feature o sees the features of groups < its own (mask A)."""

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        mask = torch.tensor(inputs) < torch.tensor(outputs)[:, None]
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, mask.sum(1))


class SubpixelConv1d(CausalConv1d):
    """Causal convolution on (B, T, inputs) whose taps at t itself are masked by channel groups.

    `present` (outputs, inputs): which features each output sees at t. Earlier positions: all.
    """

    mask: Tensor

    def __init__(self, present: Tensor, kernel: int, dilation: int, bias: bool) -> None:
        outputs, inputs = present.shape
        super().__init__(inputs, outputs, kernel, dilation, bias)
        mask = torch.ones(outputs, inputs, kernel, dtype=torch.bool)
        mask[:, :, -1] = present  # the last tap is t itself
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, mask.flatten(1).sum(1))

    def window(self, x: Tensor) -> Tensor:
        """Outputs with their whole left context in x: (B, reach + n, inputs) -> (B, n, outputs)."""
        return convolve1d(x, self.weight * self.mask, self.bias, self.dilation)


class SubpixelConv1dA(SubpixelConv1d):
    """Output t sees x[< t] and, at t, the channel groups < its own (mask A)."""

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: int,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        present = torch.tensor(inputs) < torch.tensor(outputs)[:, None]
        super().__init__(present, kernel, dilation, bias)


class SubpixelConv1dB(SubpixelConv1d):
    """Output t sees x[< t] and, at t, the channel groups <= its own (mask B)."""

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: int,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        present = torch.tensor(inputs) <= torch.tensor(outputs)[:, None]
        super().__init__(present, kernel, dilation, bias)


class SubpixelConv2d(MaskedConv2d):
    """Masked convolution on (B, H, W, inputs) whose centre tap is masked by channel groups.

    `present` (outputs, inputs): which features each output sees at (r, c). Earlier pixels: all.
    """

    def __init__(
        self,
        present: Tensor,
        kernel: tuple[int, int],
        dilation: int | tuple[int, int],
        bias: bool,
    ) -> None:
        outputs, inputs = present.shape
        super().__init__(inputs, outputs, kernel, 0, dilation, bias)
        mask = self.mask.repeat(outputs, inputs, 1, 1)
        mask[:, :, -1, kernel[1] // 2] = present  # the centre tap is (r, c) itself
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, mask.flatten(1).sum(1))


class SubpixelConv2dA(SubpixelConv2d):
    """Output (r, c) sees the pixels before it and, at (r, c), the channel groups < its own."""

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        present = torch.tensor(inputs) < torch.tensor(outputs)[:, None]
        super().__init__(present, kernel, dilation, bias)


class SubpixelConv2dB(SubpixelConv2d):
    """Output (r, c) sees the pixels before it and, at (r, c), the channel groups <= its own."""

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        kernel: tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        present = torch.tensor(inputs) <= torch.tensor(outputs)[:, None]
        super().__init__(present, kernel, dilation, bias)
