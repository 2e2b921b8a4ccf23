"""Convolutions along one axis."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches1d import TapCache
from .initialise import fan_in_uniform_
from .state import Offset, State


def convolve1d(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Convolution without padding: (B, T, inputs) -> (B, T - (kernel - 1) * dilation, outputs).

    One matrix product over the concatenated taps: with features last, F.conv1d is slower.
    """
    kernel = weight.shape[-1]
    length = x.shape[1] - (kernel - 1) * dilation
    taps = [x[:, k * dilation : k * dilation + length] for k in range(kernel)]
    return F.linear(torch.cat(taps, dim=-1), weight.transpose(1, 2).flatten(1), bias)


class CausalConv1d(nn.Module):
    """Dilated causal convolution on (B, T, inputs) (van den Oord et al. 2016, WaveNet).

    Output t sees x[t - (kernel - 1) * dilation], ..., x[t - dilation], x[t].
    """

    _place: str = ""
    last = 0  # the offset of the last tap

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.reach = (kernel - 1) * dilation
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        fan_in_uniform_(self.weight, self.bias, inputs * kernel)

    def window(self, x: Tensor) -> Tensor:
        """Outputs with their whole left context in x: (B, reach + n, inputs) -> (B, n, outputs)."""
        return convolve1d(x, self.weight, self.bias, self.dilation)

    def cache(self, source: Offset, output: Offset) -> TapCache:
        """What a sampler keeps of x."""
        taps = range(self.last - self.reach, self.last + 1, self.dilation)
        return TapCache(source, output, self.weight, self.bias, taps)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        # Left context (kernel - 1) * dilation: output t sees x[<= t].
        return self.window(F.pad(x, (0, 0, self.reach, 0)))


class StrictlyCausalConv1d(CausalConv1d):
    """Causal convolution of the past alone (mask A): output t sees x[t - 1 - k * dilation].

    The last input of a `window` is the position before its last output.
    """

    last = -1

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        # One more zero on the left, the newest input dropped: output t sees x[<= t - 1].
        return self.window(F.pad(x, (0, 0, self.reach + 1, 0))[:, :-1])


class WindowConv1d(nn.Module):
    """Convolution over a literal window: output t sees x[t + k * dilation], first <= k <= last."""

    _place: str = ""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        first: int,
        last: int,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.first, self.last, self.dilation = first * dilation, last * dilation, dilation
        self.weight = nn.Parameter(torch.empty(outputs, inputs, last - first + 1))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        fan_in_uniform_(self.weight, self.bias, inputs * (last - first + 1))

    def window(self, x: Tensor) -> Tensor:
        """Without padding: (B, (last - first) * dilation + n, inputs) -> (B, n, outputs)."""
        return convolve1d(x, self.weight, self.bias, self.dilation)

    def cache(self, source: Offset, output: Offset) -> TapCache:
        """What a sampler keeps of x."""
        taps = range(self.first, self.last + 1, self.dilation)
        return TapCache(source, output, self.weight, self.bias, taps)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        # Zeros outside, so that output t sees x[t + first .. t + last].
        x = F.pad(x, (0, 0, max(-self.first, 0), max(self.last, 0)))
        return self.window(x[:, max(self.first, 0) : x.shape[1] - max(-self.last, 0)])
