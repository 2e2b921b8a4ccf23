"""What recurrences keep between steps: of their input what they still read, and their states.

All that moves are tensors that are updated in place, and none of what is done with them depends on
the position: it is itself a tensor where it is needed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .caches1d import newest
from .state import Cache, Offset, State


def moved(x: Tensor, offset: Offset, first: int = 1) -> Tensor:
    """y[p] = x[p + offset] on the axes from dimension `first` on, zeros from outside."""
    pads, index = [0, 0], [slice(None)] * x.dim()
    for axis, d in reversed(list(enumerate(offset, start=first))):
        length = x.shape[axis]
        before, after = min(max(-d, 0), length), min(max(d, 0), length)
        pads += [before, after]
        index[axis] = slice(after, length - before)
    return F.pad(x[tuple(index)], pads) if any(offset) else x


class StateCache(Cache):
    """For a recurrence that is evaluated slab by slab of the first axis, along time a position.

    `inputs`: the slabs of x that are read later, (B, slabs, *inner axes, inputs); `states`: the
    latest states, (B, slabs, *inner axes, parts * width).
    """

    moving = ("inputs", "states")

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output)
        self.layer = layer
        # How many slabs before the newest each tap reads.
        self.ages = [source[0] - output[0] - d[0] for d in layer.reads]
        self.back = [-d[0] for d in layer.state]
        self.inputs = self.states = torch.empty(0)
        self.front: Any = None  # where some states of a slab come from others of it

    def join(self, state: State) -> None:
        layer, inner = self.layer, [n or 1 for n in state.shape[1 : len(self.layer.order)]]
        self.front = layer.fronts((1, *inner)) if 0 in self.back else None
        like: Tensor = layer.weight_state.detach()
        self.inputs = like.new_zeros(state.batch, max(self.ages), *inner, layer.inputs)
        self.states = like.new_zeros(state.batch, max(self.back), *inner, layer.parts * layer.width)

    def step(self, x: Tensor, given: Tensor | None, state: State) -> Tensor:
        """The newest outputs from the newest input, both (B, 1, *inner axes, features)."""
        layer, slabs = self.layer, torch.cat((self.inputs, newest(x, self, state)), dim=1)
        end = slabs.shape[1]
        taps = [
            moved(slabs[:, end - age - 1 : end - age], d[1:], 2)
            for age, d in zip(self.ages, layer.reads, strict=True)
        ]
        earlier = [self.earlier(back, d) for back, d in zip(self.back, layer.state, strict=True)]
        inputs = layer.project(torch.cat(taps, dim=-1), given)
        new: Tensor
        if self.front is None:
            new = layer.advance(inputs, earlier)
        else:
            new = layer.scan(inputs, self.front, earlier)
        self.inputs.copy_(slabs[:, 1:])
        if state.at[0] + self.output[0] >= 0:  # before the first position stand zeros
            self.states.copy_(torch.cat((self.states[:, 1:], new), dim=1))
        return new[..., : layer.width]

    def earlier(self, back: int, offset: Offset) -> Tensor | None:
        """The states at an offset, None where they are in the slab itself."""
        start = self.states.shape[1] - back
        return moved(self.states[:, start : start + 1], offset[1:], 2) if back else None

    def fill_all(self, x: Tensor, states: Tensor, state: State) -> None:
        """While a prompt is evaluated: x and the states at every position."""
        # The next slab, where one is open already the one behind.
        at = state.at[0] + any(state.at[1:])
        for kept, values, offset in (
            (self.inputs, x, self.source[0]),
            (self.states, states, self.output[0]),
        ):
            first = at + offset - kept.shape[1]
            low, high = max(first, 0), min(at + offset, values.shape[1])
            kept.zero_()
            if low < high:
                kept[:, low - first : high - first] = values[:, low:high]


class PixelStateCache(Cache):
    """For a recurrence on a grid that is evaluated position by position.

    `number`: of the next input in the order of drawing; `output_number`: of the next output.
    """

    moving = ("number", "output_number", "inputs", "states")

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output)
        self.layer = layer
        self.number = self.output_number = self.inputs = self.states = torch.empty(0)
        self.read: Any = None  # where x lies in `inputs`
        self.own: Any = None  # where states lie in `states`

    def join(self, state: State) -> None:
        layer, shape = self.layer, tuple(n or 1 for n in state.shape[: len(self.layer.order)])
        like: Tensor = layer.weight_state.detach()
        self.read = Board(shape, layer.reads, like.device)
        self.own = Board(shape, layer.state, like.device)
        self.inputs = like.new_zeros(state.batch, self.read.count, layer.inputs)
        self.states = like.new_zeros(state.batch, self.own.count, layer.parts * layer.width)
        self.number = torch.zeros(1, dtype=torch.long, device=like.device)
        self.output_number = self.number.clone()
        self.place(state)

    def place(self, state: State) -> None:
        """The numbers at the position drawn next."""
        number = 0
        for k, length in zip(state.at, self.own.shape, strict=False):
            number = number * length + k
        self.number.fill_(number + self.source[-1])
        self.output_number.fill_(number + self.output[-1])

    def step(self, x: Tensor, given: Tensor | None, state: State) -> Tensor:
        """The newest output from the newest input, both (B, 1, ..., features)."""
        layer, one = self.layer, x.shape[:-1]
        if state.at[0] < 0:  # before the first position only slabs are evaluated
            return x.new_zeros(*one, layer.width)
        self.read.put(self.inputs, x.flatten(1, -2), self.number)
        taps = self.read.get(self.inputs, self.output_number)
        inputs = layer.project(taps.reshape(*one, -1), given)
        earlier = self.own.get(self.states, self.output_number)
        new: Tensor = layer.advance(inputs, [s.view(*one, -1) for s in earlier.unbind(1)])
        self.own.put(self.states, new.flatten(1, -2), self.output_number)
        self.number.add_(1)
        self.output_number.add_(1)
        return new[..., : layer.width]

    def fill_all(self, x: Tensor, states: Tensor, state: State) -> None:
        """While a prompt is evaluated: x and the states at every position."""
        self.read.fill(self.inputs, x, state.at[0])
        self.own.fill(self.states, states, state.at[0])
        self.place(state)


class Board:
    """Where the latest slabs of a grid lie in (B, count, C), put and read position by position.

    A slab of cells has margins, which stay zero, and slab number r lies at r % slabs.
    """

    def __init__(self, shape: Offset, offsets: Any, device: torch.device) -> None:
        self.shape = shape
        self.slabs = 2 + max(0, *(-d[0] for d in offsets))
        self.margins = [
            (max(0, *(-d[k] for d in offsets)), max(0, *(d[k] for d in offsets)))
            for k in range(1, len(shape))
        ]
        self.sizes = [
            self.slabs,
            *(n + sum(m) for n, m in zip(shape[1:], self.margins, strict=True)),
        ]

        def strides(sizes: Any) -> Tensor:
            found = [1]
            for size in reversed(sizes[1:]):
                found.insert(0, found[0] * size)
            return torch.tensor(found, device=device)

        self.of_numbers, self.of_cells = strides(shape), strides(self.sizes)
        self.lengths = torch.tensor([1 << 40, *shape[1:]], device=device)
        self.first = torch.tensor([0, *(m[0] for m in self.margins)], device=device)
        self.wrap = torch.tensor([self.slabs, *([1 << 40] * (len(shape) - 1))], device=device)
        self.offsets = torch.tensor(offsets, device=device)
        self.count = self.slabs
        for size in self.sizes[1:]:
            self.count *= size

    def cells(self, number: Tensor, offsets: Tensor) -> Tensor:
        """Where the positions at offsets from the one of that number lie."""
        place = torch.div(number, self.of_numbers, rounding_mode="floor") % self.lengths
        return ((place + offsets + self.first) % self.wrap * self.of_cells).sum(1)

    def put(self, kept: Tensor, x: Tensor, number: Tensor) -> None:
        """x (B, 1, C) at a position; before the first one stand zeros."""
        cell = self.cells(number, torch.zeros_like(self.offsets[:1]))
        kept.index_copy_(1, cell, x.where(number >= 0, 0))

    def get(self, kept: Tensor, number: Tensor) -> Tensor:
        """What stands at each offset from a position: (B, offsets, C)."""
        return kept.index_select(1, self.cells(number, self.offsets))

    def fill(self, kept: Tensor, x: Tensor, slab: int) -> None:
        """Keep of x (B, *axes, C) the slabs up to that one."""
        kept.zero_()
        inner = kept.view(len(kept), *self.sizes, -1)
        for k, (n, (before, _)) in enumerate(zip(self.shape[1:], self.margins, strict=True)):
            inner = inner.narrow(k + 2, before, n)
        for number in range(max(slab - self.slabs + 1, 0), min(slab + 1, x.shape[1])):
            inner[:, number % self.slabs] = x[:, number]
