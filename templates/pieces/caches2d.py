"""What windows on a grid keep between steps."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .state import Cache, Offset, State

Span = tuple[int, int]


def channel_groups(features: int, channels: int) -> list[int]:
    """The group of each feature: contiguous, as equal as possible, larger groups first."""
    size, larger = divmod(features, channels)
    return [group for group in range(channels) for _ in range(size + (group < larger))]


class GridCache(Cache):
    """The part of a layer's input that its window still reads, zeros around it.

    `spans`: first and last tap per axis. `kept` is (B, slabs, *axes with margins, C), where slabs
    are the positions on the first axis from `low` on, relative to the one that is open.
    """

    moving = ("kept",)

    def __init__(
        self,
        source: Offset,
        output: Offset,
        spans: Sequence[Span],
        features: int = 0,
        layout: Sequence[int] = (),
    ) -> None:
        super().__init__(source, output)
        self.spans, self.features = tuple(spans), features
        # An offset behind on an inner axis can lead to the slab before.
        behind = [o[0] - (len(o) > 1 and min(o[1:]) < 0) for o in (source, output)]
        self.low = min(behind[0], behind[1] + spans[0][0])
        self.slabs = max(source[0], output[0] + spans[0][1]) - self.low + 1
        self.margins = [(max(-low, 0), max(high, 0)) for low, high in self.spans]
        self.layout = layout  # the channel of each feature
        self.groups_of: list[Tensor] = []  # the features of each channel
        self.kept = torch.empty(0)
        self.whole: Tensor | None = None
        self.slab: int | None = None  # the one that was open last

    def prepare(self, state: State) -> Tensor:
        if not self.kept.numel():
            inner = zip(state.shape[1:], self.margins[1:], strict=False)
            sizes = [(length or 0) + sum(margin) for length, margin in inner]
            self.kept = state.like.new_zeros(state.batch, self.slabs, *sizes, self.features)
        return self.kept

    def begin(self, state: State) -> None:
        if self.slab is not None and self.slab < state.at[0] and self.kept.numel():
            self.kept[:, :-1] = self.kept[:, 1:].clone()
            self.kept[:, -1] = 0
        self.slab = state.at[0]

    def part(self, state: State, place: Offset, spans: Sequence[Span]) -> Tensor:
        """A position, or all of its slab, in `kept`, with the neighbours that a window reads."""
        kept = self.prepare(state)
        for axis, (low, high) in enumerate(spans):
            at = place[axis] if axis < len(place) else 0
            size = 1 if axis < len(place) else state.shape[axis] or 0
            start = self.margins[axis][0] if axis else -state.at[0] - self.low
            kept = kept.narrow(axis + 1, start + at + low, size + high - low)
        return kept

    def keep(self, x: Tensor, state: State) -> None:
        """A new input: (B, 1, ..., C) at `source`."""
        if state.filling:
            self.fill(x, state)
            return
        by_channel = len(self.source) > len(self.spans)
        self.features = self.features or x.shape[-1] * (state.shape[-1] or 1 if by_channel else 1)
        place = state.to(self.source)
        if not state.inside(place):
            return
        kept = self.part(state, place, ((0, 0),) * len(self.spans))
        if by_channel:
            if not self.groups_of:
                layout = self.layout or channel_groups(self.features, state.shape[-1] or 1)
                self.groups_of = [
                    torch.tensor([i for i, c in enumerate(layout) if c == channel])
                    for channel in range(state.shape[-1] or 1)
                ]
            kept[..., self.groups_of[place[-1]]] = x
        else:
            kept.copy_(x)

    def fill(self, x: Tensor, state: State) -> None:
        self.whole, self.features = x, x.shape[-1]

    def ready(self, state: State) -> None:
        if self.whole is None:
            return
        self.prepare(state).zero_()
        self.slab = state.at[0]
        for row in range(state.at[0] + self.low, state.at[0] + self.low + self.slabs):
            if 0 <= row < self.whole.shape[1]:
                slab = self.part(state, (row,), ((0, 0),) * len(self.spans))
                slab.copy_(self.whole[:, row : row + 1])
        self.whole = None

    def window(self, state: State) -> Tensor:
        """All that the newest output reads: (B, taps + n - 1 on every axis, C)."""
        return self.part(state, state.to(self.output), self.spans)

    @property
    def single(self) -> bool:
        """Whether an output is a single position."""
        return len(self.output) >= len(self.spans)


class ShiftCache(GridCache):
    """The inputs that a shift on a grid still reads."""

    def run(self, x: Tensor, state: State) -> Tensor:
        self.keep(x, state)
        y = self.window(state)
        if len(self.output) > len(self.spans):  # the features of one channel
            size = self.features // (state.shape[-1] or 1)
            y = y.narrow(-1, state.to(self.output)[-1] * size, size)
        return y


class WindowCache(GridCache):
    """The inputs that a convolution on a grid still reads, and its weight as a matrix."""

    def __init__(
        self,
        source: Offset,
        output: Offset,
        spans: Sequence[Span],
        weight: Tensor,
        bias: Tensor | None,
        dilation: tuple[int, ...],
        layout: Sequence[int] = (),
        outputs: Sequence[int] = (),
    ) -> None:
        super().__init__(source, output, spans, weight.shape[1], layout)
        self.weight, self.bias, self.dilation = weight, bias, dilation
        # One position is one product with its window, features last.
        self.matrix = weight.movedim((1, 0), (-2, -1)).flatten(0, -2).contiguous()
        self.offset = weight.new_zeros(weight.shape[0]) if bias is None else bias
        self.groups: list[tuple[Tensor, Tensor]] = []  # the same for the outputs of each channel
        if len(output) > len(spans):
            for channel in range(max(outputs) + 1):
                rows = torch.tensor([i for i, c in enumerate(outputs) if c == channel])
                rows = rows.to(weight.device)
                self.groups.append((self.matrix[:, rows].contiguous(), self.offset[rows]))

    def run(self, x: Tensor, state: State) -> Tensor:
        self.keep(x, state)
        window = self.window(state)
        if not self.single:
            convolve = F.conv2d if self.weight.dim() == 4 else F.conv3d
            y = convolve(window.movedim(-1, 1), self.weight, self.bias, dilation=self.dilation)
            return y.movedim(1, -1)
        matrix, bias = self.matrix, self.offset
        if self.groups:
            matrix, bias = self.groups[state.at[-1]]
        if max(self.dilation) > 1:
            steps = (slice(None, None, step) for step in self.dilation)
            window = window[(slice(None), *steps)]
        y = torch.addmm(bias, window.flatten(1), matrix)
        return y.view(len(y), *[1] * len(self.spans), -1)


class FeatureCache(Cache):
    """The features of this position whose channels are drawn; the weight's rows per channel."""

    moving = ("kept",)

    def __init__(
        self,
        source: Offset,
        output: Offset,
        weight: Tensor,
        bias: Tensor | None,
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        super().__init__(source, output)
        self.inputs, self.kept = inputs, torch.empty(0)
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
        self.groups: list[tuple[Tensor, Tensor, list[int]]] = []
        for channel in range(max(max(outputs), max(inputs)) + 1):
            rows = [i for i, c in enumerate(outputs) if c == channel]
            own = [i for i, c in enumerate(inputs) if c == channel]
            self.groups.append((weight[rows].t().contiguous(), bias[rows], own))

    def run(self, x: Tensor, state: State) -> Tensor:
        if not self.kept.numel():
            self.kept = x.new_zeros(*x.shape[:-1], len(self.inputs))
        place = state.to(self.source)
        if place[:-1] == state.at[:-1]:
            self.kept[..., self.groups[place[-1]][2]] = x
        weight, bias, _ = self.groups[state.at[-1]]
        y = torch.addmm(bias, self.kept.flatten(0, -2), weight)
        return y.view(*self.kept.shape[:-1], -1)

    def fill(self, x: Tensor, state: State) -> None:
        index = [slice(None), *(slice(k, k + 1) for k in state.at[:-1])]
        if state.at[0] < x.shape[1]:
            self.kept = x[tuple(index)].clone()
