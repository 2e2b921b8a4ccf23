"""What layers keep that lead from one clock to another, on a grid."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .caches2d import GridCache, Span
from .state import Offset, State
from .windows import zeros_around


class CrossCache(GridCache):
    """The inputs at one clock that outputs at another still read, zeros around them.

    `kept` is relative to the slab that is open at the clock of the inputs, as in `GridCache`.
    `rows`: the first and the last slab that any step reads; `margins`: positions around the others.
    """

    def __init__(self, source: Offset, output: Offset, rows: Span, margins: list[Span]) -> None:
        super().__init__(source, output, [(0,) * (len(margins) + 1)])
        self.low = min(self.low, rows[0]) - 1  # behind a prompt the tick to come counts already
        self.slabs = max(source[0], rows[1]) - self.low + 1
        self.margins = [(0, 0), *margins]

    def put(self, x: Tensor, home: Any) -> None:
        """The newest input, if this step brings one."""
        if home.ticking:
            self.keep(x, home)

    def slab_of(self, number: int, home: State) -> int:
        """Where a slab of the inputs lies in `kept`."""
        slab: int = number - home.at[0] - self.low
        return slab


class WindowCrossCache(CrossCache):
    """For a window that moves on by `stride`: output i reads x[stride * i + low .. + high]."""

    def __init__(self, source: Offset, output: Offset, spans: list[Span], stride: Offset) -> None:
        wrapped = len(output) > 1 and min(output[1:]) < 0  # to the last of the slab before
        first = stride[0] * (output[0] - wrapped)
        rows = first + spans[0][0] - stride[0] + 1, first + spans[0][1] + stride[0] * (1 + wrapped)
        super().__init__(source, output, rows, [(max(-a, 0), max(b, 0)) for a, b in spans[1:]])
        self.spans, self.stride = spans, stride

    def read(self, home: Any, state: State) -> Tensor:  # type: ignore[override]
        """What the newest outputs read: (B, *axes, C)."""
        kept, (low, high) = self.prepare(home), self.spans[0]
        first = self.stride[0] * state.to(self.output)[0] + low
        kept = kept.narrow(1, self.slab_of(first, home), self.count(first, high - low + 1, home))
        for axis, (low, high) in enumerate(self.spans[1:], start=1):
            before, step = self.margins[axis][0], self.stride[axis]
            if axis < len(self.output):
                span = torch.arange(low, high + 1, device=kept.device) + before
                index = state.on(axis, self.output).tensor * step + span
                kept = self.known(kept.index_select(axis + 1, index), axis, index - before, home)
            else:
                kept = kept.narrow(axis + 1, before + low, self.width(axis, home))
        return kept

    def known(self, x: Tensor, axis: int, place: Tensor, home: State) -> Tensor:
        """What stands at places along an axis, some of which may be outside."""
        return x

    def count(self, first: int, size: int, home: State) -> int:
        """How many slabs are read from `first` on."""
        return size

    def width(self, axis: int, home: State) -> int:
        """How many positions all outputs along an axis read."""
        low, high = self.spans[axis]
        length, step = home.shape[axis] or 1, self.stride[axis]
        width: int = (length - 1) // step * step + high - low + 1
        return width


class StrideCrossCache(WindowCrossCache):
    """The same for a convolution."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output, layer.spans, layer.stride)
        self.layer = layer

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        self.put(x, home)
        y: Tensor = self.layer.window(self.read(home, state))
        return y


class PoolCrossCache(WindowCrossCache):
    """The same for a pool, which leaves out what is behind the last position."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output, [(0, rate - 1) for rate in layer.rates], layer.rates)
        self.layer = layer

    def count(self, first: int, size: int, home: State) -> int:
        length = home.shape[0]
        return size if length is None else max(min(size, length - first), 1)

    def known(self, x: Tensor, axis: int, place: Tensor, home: State) -> Tensor:
        inside = (place < (home.shape[axis] or 1)).view(-1, *[1] * (x.dim() - axis - 2))
        return x.where(inside, self.layer.outside)

    def width(self, axis: int, home: State) -> int:
        return home.shape[axis] or 1

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        self.put(x, home)
        y: Tensor = self.layer.whole(self.read(home, state))
        return y


class SpreadCrossCache(CrossCache):
    """For a transposed convolution: output i reads x[(i - d) / stride] where that is whole."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        stride, spans = layer.stride, layer.spans
        reads = [
            ((-high) // step, (-1 - low) // step + 1)
            for step, (low, high) in zip(stride, spans, strict=True)
        ]
        first = (
            (output[0] - spans[0][1]) // stride[0] - 1,
            (output[0] - spans[0][0]) // stride[0] + 1,
        )
        super().__init__(source, output, first, [(max(-a, 0), max(b, 0)) for a, b in reads[1:]])
        self.layer, self.stride = layer, stride
        none = layer.weight.new_zeros(len(layer.weight))
        self.bias: Tensor = none if layer.bias is None else layer.bias
        self.matrices: dict[Any, Tensor] = {}

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        self.put(x, home)
        kept, place = self.prepare(home), state.to(self.output)
        phases = [
            [d for d in range(low, high + 1) if (place[axis] - d) % self.stride[axis] == 0]
            for axis, (low, high) in enumerate(self.layer.spans[: len(place)])
        ]
        reads = [self.lying(axis, taps, home, state) for axis, taps in enumerate(phases)]
        if len(place) < len(self.stride):
            return self.slab_from(kept, phases, reads, home, state)
        for axis, index in enumerate(reads, start=1):
            kept = kept.index_select(axis, index)
        y = torch.addmm(self.bias, kept.flatten(1), self.matrix(phases))
        return y.view(len(y), *[1] * len(place), -1)

    def lying(self, axis: int, taps: list[int], home: State, state: State) -> Tensor:
        """Where the inputs of taps lie in `kept` along an axis."""
        if not axis:
            row, device = state.to(self.output)[0], self.bias.device
            slabs = [self.slab_of((row - d) // self.stride[0], home) for d in taps]
            return torch.tensor(slabs, dtype=torch.long, device=device)
        number = state.on(axis, self.output).tensor
        number = number - torch.tensor(taps, dtype=torch.long, device=number.device)
        index = torch.div(number, self.stride[axis], rounding_mode="floor")
        lying: Tensor = index + self.margins[axis][0]
        return lying

    def matrix(self, phases: list[list[int]]) -> Tensor:
        """The weight of those taps: (taps * inputs, outputs)."""
        key = tuple(map(tuple, phases))
        if key not in self.matrices:
            weight = self.layer.weight
            for axis, (taps, (low, _)) in enumerate(zip(phases, self.layer.spans, strict=True)):
                index = torch.tensor(
                    [d - low for d in taps], dtype=torch.long, device=weight.device
                )
                weight = weight.index_select(axis + 2, index)
            self.matrices[key] = weight.flatten(2).permute(2, 1, 0).flatten(0, 1)
        return self.matrices[key]

    def slab_from(
        self, kept: Tensor, phases: list[list[int]], reads: list[Tensor], home: State, state: State
    ) -> Tensor:
        """All outputs of a slab: a convolution along the axes inside for every tap outside."""
        weight, spans, outer = self.layer.weight.transpose(0, 1), self.layer.spans, len(phases)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(spans) - 1]
        inner = [n or 1 for n in state.shape[outer : len(spans)]]
        ends = zip(spans[outer:], inner, strict=True)
        ranges = [(0, 0)] * outer + [(-low, length - 1 - low) for (low, _), length in ends]
        for axis, (before, _) in list(enumerate(self.margins))[outer:]:
            kept = kept.narrow(axis + 1, before, home.shape[axis] or 1)
        total = self.bias.expand(len(kept), *[1] * outer, *inner, -1).clone()
        for taps in itertools.product(*(range(len(phase)) for phase in phases)):
            slab, part = kept, weight
            for axis, k in enumerate(taps):
                slab = slab.index_select(axis + 1, reads[axis][k : k + 1])
                part = part.narrow(axis + 2, phases[axis][k] - spans[axis][0], 1)
            steps = (*[1] * outer, *self.stride[outer:])
            y = convolve(slab.movedim(-1, 1), part, None, steps).movedim(1, -1)
            total = total + zeros_around(y, ranges)
        return total


class RepeatCrossCache(CrossCache):
    """For a repetition: output i reads x[i // rate]."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        first = output[0] // layer.rates[0]
        back = max(1, -sum(min(k, 0) for k in output[1:]))  # to the rounds before
        rows = first - back, first + 1
        super().__init__(source, output, rows, [(0, 0)] * (len(layer.rates) - 1))
        self.rates = layer.rates

    def between(self, x: Tensor, home: State, state: State) -> Tensor:
        self.put(x, home)
        kept = self.prepare(home)
        row = state.to(self.output)[0] // self.rates[0]
        kept = kept.narrow(1, self.slab_of(row, home), 1)
        for axis, rate in enumerate(self.rates[1:], start=1):
            places = torch.arange(state.shape[axis] or 1, device=kept.device)  # of a whole slab
            if axis < len(self.output):
                places = state.on(axis, self.output).tensor
            kept = kept.index_select(axis + 1, places // rate)
        return kept
