"""Convolutions over rows and columns."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches2d import WindowCache
from .initialise import fan_in_uniform_
from .state import Offset, State


class WindowConv2d(nn.Module):
    """Convolution over a literal window on (B, H, W, inputs), its spans inclusive.

    Output (r, c) sees x[r + i * dilation, c + j * dilation], i in `rows` and j in `cols`.
    """

    _place: str = ""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rows: tuple[int, int],
        cols: tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        down, right = dilation if isinstance(dilation, tuple) else (dilation, dilation)
        self.dilation = down, right
        self.rows = rows[0] * down, rows[1] * down
        self.cols = cols[0] * right, cols[1] * right
        kernel = rows[1] - rows[0] + 1, cols[1] - cols[0] + 1
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        fan_in_uniform_(self.weight, self.bias, inputs * kernel[0] * kernel[1])

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Without padding. Features last is torch's channels_last memory format: no copy."""
        y = F.conv2d(x.movedim(-1, 1), weight, self.bias, dilation=self.dilation)
        return y.movedim(1, -1)

    def window(self, x: Tensor) -> Tensor:
        """The outputs whose whole window is in x, which is larger by the extent of the spans."""
        return self.convolve(x, self.weight)

    def cache(self, source: Offset, output: Offset) -> WindowCache:
        """What a sampler keeps of x."""
        spans = self.rows, self.cols
        return WindowCache(source, output, spans, self.weight, self.bias, self.dilation)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        (top, bottom), (left, right) = self.rows, self.cols
        # Zeros outside, so that output (r, c) sees rows r + top .. r + bottom, columns c + left ..
        # c + right; what lies beyond the last tap is cut.
        x = F.pad(x, (0, 0, max(-left, 0), max(right, 0), max(-top, 0), max(bottom, 0)))
        x = x[:, max(top, 0) : x.shape[1] - max(-bottom, 0)]
        return self.window(x[:, :, max(left, 0) : x.shape[2] - max(-right, 0)])


class MaskedConv2d(WindowConv2d):
    """Masked convolution over a centred window of odd size (van den Oord et al. 2016, PixelRNN).

    Output (r, c) sees the rows above in the window and, in row r, the columns <= c + `last`. The
    weight has no taps below the present row, nor, in a window of one row, beyond `last`.
    """

    mask: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        last: int,
        dilation: int | tuple[int, int],
        bias: bool,
    ) -> None:
        above, side = kernel[0] // 2, kernel[1] // 2
        right = side if above else last  # columns right of c are read only in the rows above
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0 or side + right < 0:
            raise ValueError(f"a masked window of {kernel[0]}x{kernel[1]} is even or reads nothing")
        super().__init__(inputs, outputs, (-above, 0), (-side, right), dilation, bias)
        mask = torch.ones(above + 1, side + 1 + right, dtype=torch.bool)
        mask[-1, side + 1 + last :] = False  # row r: nothing to the right of c + last
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, inputs * mask.sum())

    def window(self, x: Tensor) -> Tensor:
        """The outputs whose whole window is in x; masked taps read nothing."""
        return self.convolve(x, self.weight * self.mask)

    def cache(self, source: Offset, output: Offset) -> WindowCache:
        """What a sampler keeps of x."""
        spans, weight = (self.rows, self.cols), self.weight * self.mask
        return WindowCache(source, output, spans, weight, self.bias, self.dilation)


class MaskedConv2dA(MaskedConv2d):
    """Mask A: output (r, c) sees the rows above and, in row r, the columns < c."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel, -1, dilation, bias)


class MaskedConv2dB(MaskedConv2d):
    """Mask B: output (r, c) sees the rows above and, in row r, the columns <= c."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel, 0, dilation, bias)
