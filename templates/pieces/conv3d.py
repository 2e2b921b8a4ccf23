"""Convolutions over frames, rows and columns."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches2d import WindowCache
from .initialise import fan_in_uniform_
from .state import Offset, State
from .windows import zeros_around


class WindowConv3d(nn.Module):
    """Convolution over a literal window on (B, D, H, W, inputs), its spans inclusive.

    Output (f, r, c) sees x[f + i * dilation, r + j * dilation, c + k * dilation], i in `frames`,
    j in `rows` and k in `cols`.
    """

    _place: str = ""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        frames: tuple[int, int],
        rows: tuple[int, int],
        cols: tuple[int, int],
        dilation: int | tuple[int, int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.dilation = dilation if isinstance(dilation, tuple) else (dilation,) * 3
        spans = frames, rows, cols
        kernel = [last - first + 1 for first, last in spans]
        self.spans = [
            (first * step, last * step)
            for (first, last), step in zip(spans, self.dilation, strict=True)
        ]
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        fan_in_uniform_(self.weight, self.bias, self.weight[0].numel())

    def live(self) -> Tensor:
        """The weight of the taps that are read."""
        return self.weight

    def window(self, x: Tensor) -> Tensor:
        """The outputs whose whole window is in x, which is larger by the extent of the spans."""
        y = F.conv3d(x.movedim(-1, 1), self.live(), self.bias, dilation=self.dilation)
        return y.movedim(1, -1)

    def cache(self, source: Offset, output: Offset) -> WindowCache:
        """What a sampler keeps of x."""
        return WindowCache(source, output, self.spans, self.live(), self.bias, self.dilation)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None:
            return past.run(self, x)
        ends = zip(self.spans, x.shape[1:], strict=False)
        # Zeros outside, so that output i sees x[i + first .. i + last] on every axis.
        return self.window(zeros_around(x, [(low, n - 1 + high) for (low, high), n in ends]))


class MaskedConv3d(WindowConv3d):
    """Masked convolution over a centred window of odd size: PixelCNN's, with frames before.

    Output (f, r, c) sees the frames before in the window; in frame f the rows above; in row r the
    columns <= c + `last`. The weight has no taps beyond the present frame, nor, in a window of one
    frame, below the present row, nor, in one of one row, beyond `last`.
    """

    mask: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int],
        last: int,
        dilation: int | tuple[int, int, int],
        bias: bool,
    ) -> None:
        before, above, side = (size // 2 for size in kernel)
        # Rows below and columns to the right are read only where there are earlier ones.
        below, right = above if before else 0, side if before or above else last
        if any(size % 2 == 0 for size in kernel) or side + right < 0:
            raise ValueError(f"a masked window of {kernel} is even or reads nothing")
        spans = (-before, 0), (-above, below), (-side, right)
        super().__init__(inputs, outputs, *spans, dilation, bias)
        mask = torch.ones(self.weight.shape[2:], dtype=torch.bool)
        mask[-1, above + 1 :] = False  # frame f: no row below r
        mask[-1, above, side + 1 + last :] = False  # row r: nothing to the right of c + last
        self.register_buffer("mask", mask, persistent=False)
        fan_in_uniform_(self.weight, self.bias, inputs * mask.sum())

    def live(self) -> Tensor:
        """The weight; masked taps read nothing."""
        return self.weight * self.mask


class MaskedConv3dA(MaskedConv3d):
    """Mask A: output (f, r, c) sees earlier frames, the rows above and the columns < c."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int],
        dilation: int | tuple[int, int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel, -1, dilation, bias)


class MaskedConv3dB(MaskedConv3d):
    """Mask B: output (f, r, c) sees earlier frames, the rows above and the columns <= c."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int],
        dilation: int | tuple[int, int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel, 0, dilation, bias)
