"""What windows on a grid keep between steps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .state import Cache, Offset, State
from .windows import box

Span = tuple[int, int]
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def channel_groups(features: int, channels: int) -> list[int]:
    """The group of each feature: contiguous, as equal as possible, larger groups first."""
    size, larger = divmod(features, channels)
    return [group for group in range(channels) for _ in range(size + (group < larger))]


def runs_of(layout: Sequence[int], channel: int) -> list[tuple[int, int]]:
    """Where the features of a channel are: (first, count) of each run of them."""
    own = {feature for feature, group in enumerate(layout) if group == channel}
    first = sorted(k for k in own if k - 1 not in own)
    last = sorted(k for k in own if k + 1 not in own)
    return [(a, b - a + 1) for a, b in zip(first, last, strict=True)]


class GridCache(Cache):
    """The part of a layer's input that its window still reads, zeros around it.

    `taps`: what an output reads, `spans`: first and last tap per axis. `kept` is (B, slabs, *axes
    with margins, C), where slabs are the positions on the first axis from `low` on, relative to the
    one that is open.
    """

    moving = ("kept",)
    slides = True

    def __init__(
        self,
        source: Offset,
        output: Offset,
        taps: Sequence[Offset],
        features: int = 0,
        layout: Sequence[int] = (),
    ) -> None:
        super().__init__(source, output)
        self.taps, self.features = taps, features
        self.spans = [(min(ks), max(ks)) for ks in zip(*taps, strict=True)]
        # An offset behind on an inner axis can lead to slabs before.
        behind = [o[0] + min(0, *o[1:], 0) for o in (source, output)]
        self.low = min(behind[0], behind[1] + self.spans[0][0])
        self.slabs = max(source[0], output[0] + self.spans[0][1]) - self.low + 1
        self.margins = [(max(-low, 0), max(high, 0)) for low, high in self.spans]
        self.layout = layout  # the channel of each feature
        self.kept = torch.empty(0)
        self.whole: Tensor | None = None
        self.slab: int | None = None  # the one that was open last

    def sizes(self, state: State) -> list[int]:
        """The sizes of `kept` between batch and features."""
        inner = zip(state.lengths[1:], self.margins[1:], strict=True)
        return [self.slabs, *((length or 0) + sum(margin) for length, margin in inner)]

    def prepare(self, state: State) -> Tensor:
        if not self.kept.numel():
            self.kept = state.like.new_zeros(state.batch, *self.sizes(state), self.features)
        return self.kept

    def begin(self, state: State) -> None:
        if self.slab is not None and self.slab < state.at[0] and self.kept.numel():
            self.kept[:, :-1] = self.kept[:, 1:].clone()
            self.kept[:, -1] = 0
        self.slab = state.at[0]

    def cells(self, state: State, offset: Offset, taps: Sequence[Offset]) -> Tensor:
        """The numbers of cells of `kept`, all but batch and features as one, around a position."""
        sizes = self.sizes(state)
        steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        borders = [-state.at[0] - self.low, *(before for before, _ in self.margins[1:])]
        place = state.to(offset)[: len(sizes)]
        # The first axis is kept relative to the open slab, the others by their position.
        fixed = [place[0], *(k - at for k, at in zip(place[1:], state.at[1:], strict=False))]

        def compute() -> Tensor:
            numbers = [
                sum((f + b + k) * s for f, b, k, s in zip(fixed, borders, tap, steps, strict=True))
                for tap in taps
            ]
            found = torch.tensor(numbers, device=self.kept.device)
            for axis in range(1, len(sizes)):
                found = found + state.position[axis] * steps[axis]
            return found

        geometry = self.low, *sizes, *borders[1:]
        return state.once((offset, tuple(taps), geometry), compute)

    def part(self, state: State, offset: Offset, spans: Sequence[Span]) -> Tensor:
        """A whole slab, or part of it, in `kept`, with the neighbours that a window reads."""
        kept, place = self.prepare(state), state.to(offset)
        for axis, (low, high) in enumerate(spans):
            before = self.margins[axis][0]
            if axis == 0:
                kept = kept.narrow(1, place[0] + low - state.at[0] - self.low, 1 + high - low)
            elif axis < len(offset):
                index = state.on(axis, offset).tensor + before
                span = torch.arange(low, high + 1, device=kept.device)
                kept = kept.index_select(axis + 1, index + span)
            else:
                size = (state.shape[axis] or 0) + high - low
                kept = kept.narrow(axis + 1, before + low, size)
        return kept

    def keep(self, x: Tensor, state: State) -> None:
        """A new input: (B, 1, ..., C) at `source`. A slab comes in the first step of its own."""
        if state.filling:
            self.fill(x, state)
            return
        axes = len(self.spans)
        channels = (state.shape[-1] or 1) if len(self.source) > axes else 1
        self.features = self.features or len(self.layout) or x.shape[-1] * channels
        place = state.to(self.source)
        if state.within(len(self.source)) or not state.inside(place):
            return
        kept = self.prepare(state)
        x = x.to(kept.dtype)
        if len(self.source) < axes and len(self.source) > 1:  # of three axes
            slab = kept.select(1, place[0] - state.at[0] - self.low)
            slab = slab.narrow(2, self.margins[2][0], x.shape[3])
            slab.index_copy_(1, state.on(1, self.source).tensor + self.margins[1][0], x[:, 0])
        elif len(self.source) < axes:
            self.part(state, self.source, [(0, 0)] * axes).copy_(x)
        else:
            cell, first = self.cells(state, self.source, [(0,) * axes]), 0
            flat, x = kept.flatten(1, -2), x.flatten(1, -2)
            layout = self.layout or channel_groups(self.features, channels)
            runs = runs_of(layout, place[-1]) if channels > 1 else [(0, self.features)]
            for start, count in runs:
                flat.narrow(2, start, count).index_copy_(1, cell, x.narrow(2, first, count))
                first += count

    def fill(self, x: Tensor, state: State) -> None:
        self.whole, self.features = x, x.shape[-1]

    def ready(self, state: State) -> None:
        if self.whole is None:
            return
        self.prepare(state).zero_()
        self.slab = state.at[0]
        for slab in range(self.slabs):
            row = state.at[0] + self.low + slab
            if 0 <= row < self.whole.shape[1]:
                part = self.kept.narrow(1, slab, 1)
                for axis, (before, _) in enumerate(self.margins[1:], start=1):
                    part = part.narrow(axis + 1, before, state.shape[axis] or 0)
                part.copy_(self.whole[:, row : row + 1])
        self.whole = None

    @property
    def single(self) -> bool:
        """Whether an output is a single position."""
        return len(self.output) >= len(self.spans)

    def read(self, state: State) -> Tensor:
        """What a single output reads: (B, taps, C)."""
        cells = self.cells(state, self.output, self.taps)
        return self.prepare(state).flatten(1, -2).index_select(1, cells)

    def window(self, state: State) -> Tensor:
        """What the newest outputs read: (B, taps + n - 1 on every axis, C)."""
        return self.part(state, self.output, self.spans)


class ShiftCache(GridCache):
    """The inputs that a shift on a grid still reads."""

    def run(self, x: Tensor, state: State) -> Tensor:
        self.keep(x, state)
        if not self.single:
            return self.window(state)
        y = self.read(state).view(state.batch, *[1] * len(self.spans), -1)
        if len(self.output) > len(self.spans):  # the features of one channel
            layout = self.layout or channel_groups(self.features, state.shape[-1] or 1)
            runs = runs_of(layout, state.to(self.output)[-1])
            y = torch.cat([y.narrow(-1, first, n) for first, n in [(0, 0), *runs]], dim=-1)
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
        taps = box(*((low, high, by) for (low, high), by in zip(spans, dilation, strict=True)))
        single = len(output) >= len(spans)
        matrix = weight.flatten(2).permute(2, 1, 0)  # by taps and inputs
        live = matrix.flatten(1).ne(0).any(1).tolist()
        if single and any(live):  # taps that a mask hides are not read
            taps, matrix = [tap for tap, on in zip(taps, live, strict=True) if on], matrix[live]
        super().__init__(source, output, taps, weight.shape[1], layout)
        self.weight, self.bias, self.dilation = weight, bias, dilation
        # One position is one product with its window, features last.
        self.matrix = matrix.flatten(0, 1).contiguous()
        self.offset = weight.new_zeros(weight.shape[0]) if bias is None else bias
        self.groups: list[tuple[Tensor, Tensor]] = []  # the same for the outputs of each channel
        if len(output) > len(spans):
            for channel in range(max(outputs) + 1):
                rows = [i for i, c in enumerate(outputs) if c == channel]
                self.groups.append((self.matrix[:, rows].contiguous(), self.offset[rows]))

    def run(self, x: Tensor, state: State) -> Tensor:
        self.keep(x, state)
        if not self.single:
            window, convolve = self.window(state).movedim(-1, 1), CONVOLUTIONS[len(self.spans)]
            y = convolve(window, self.weight, self.bias, dilation=self.dilation)
            return y.movedim(1, -1)
        channel = state.to(self.output)[-1]  # in an order of channels
        matrix, bias = self.groups[channel] if self.groups else (self.matrix, self.offset)
        y = torch.addmm(bias, self.read(state).flatten(1), matrix)
        return y.view(len(y), *[1] * len(self.spans), -1)


class FeatureCache(Cache):
    """The features so far of the output's position; the weight's rows per channel."""

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
        self.groups: list[tuple[Tensor, Tensor, list[tuple[int, int]]]] = []
        for channel in range(max(max(outputs), max(inputs)) + 1):
            rows = [i for i, c in enumerate(outputs) if c == channel]
            matrix = weight[rows].t().contiguous()
            self.groups.append((matrix, bias[rows], runs_of(inputs, channel)))

    def run(self, x: Tensor, state: State) -> Tensor:
        if not self.kept.numel():
            self.kept = x.new_zeros(*x.shape[:-1], len(self.inputs))
        place, output, first = state.to(self.source), state.to(self.output), 0
        if place[:-1] == output[:-1]:
            for start, count in self.groups[place[-1]][2]:
                self.kept[..., start : start + count] = x[..., first : first + count]
                first += count
        weight, bias, _ = self.groups[output[-1]]
        y = torch.addmm(bias, self.kept.flatten(0, -2), weight)
        return y.view(*self.kept.shape[:-1], -1)

    def fill(self, x: Tensor, state: State) -> None:
        index = [slice(k, k + 1) for k in state.to(self.output)[:-1]]
        if 0 <= index[0].start < x.shape[1]:
            self.kept = x[:, *index].clone()
