"""What recurrences keep between steps: of their input what they still read, and their states.

All that moves are tensors that are updated in place, and none of what is done with them depends on
the position: it is itself a tensor where it is needed.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .caches1d import newest
from .caches2d import channel_groups, runs_of
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
        at = state.at[0] + state.within(1)
        for kept, values, offset in (
            (self.inputs, x, self.source[0]),
            (self.states, states, self.output[0]),
        ):
            first = at + offset - kept.shape[1]
            low, high = max(first, 0), min(at + offset, values.shape[1])
            kept.zero_()
            if low < high:
                kept[:, low - first : high - first] = values[:, low:high]


class BoardStateCache(Cache):
    """For a recurrence that is evaluated in parts of a slab, or whose input comes in parts.

    `inputs` and `states` hold the latest slabs of x and of the states, as a `Board` lays them out.
    """

    moving = ("inputs", "states")

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output)
        self.layer = layer
        self.inputs = self.states = torch.empty(0)
        self.read: Any = None  # where x lies in `inputs`
        self.own: Any = None  # where states lie in `states`
        # The states at these offsets are computed together with those that need them.
        self.inside = [not any(d[: len(output)]) for d in layer.state]
        self.front: Any = None  # in what order

    def join(self, state: State) -> None:
        layer = self.layer
        like: Tensor = layer.weight_state.detach()
        self.read = Board(state, self.source, self.output, layer.reads, like.device)
        self.own = Board(state, self.output, self.output, layer.state, like.device)
        self.inputs = like.new_zeros(state.batch, self.read.count, layer.inputs)
        self.states = like.new_zeros(state.batch, self.own.count, layer.parts * layer.width)
        self.front = layer.fronts(self.own.part) if any(self.inside) else None

    def keep(self, x: Tensor, state: State) -> None:
        """A new input, where it comes in parts; it is the first step of a slab that brings one."""
        if not (state.filling or state.within(len(self.source))):
            self.read.put(self.inputs, x, state, self.layout)

    def step(self, x: Tensor, given: Tensor | None, state: State) -> Tensor:
        """The newest outputs from the newest input, (B, *axes, features)."""
        layer = self.layer
        if len(self.source) <= len(self.output):
            self.keep(x, state)
        if len(self.output) > 1 and state.at[0] < 0:  # before the first only slabs are evaluated
            return x.new_zeros(len(x), *self.own.part, layer.width)
        taps = torch.cat(self.read.get(self.inputs, state), dim=-1)
        earlier, inputs = self.own.get(self.states, state), layer.project(taps, given)
        new: Tensor
        if self.front is None:
            new = layer.advance(inputs, earlier)
        else:
            known = zip(self.inside, earlier, strict=True)
            new = layer.scan(inputs, self.front, [None if own else s for own, s in known])
        self.own.put(self.states, new, state)
        return new[..., : layer.width]

    def fill_all(self, x: Tensor, states: Tensor, state: State) -> None:
        """While a prompt is evaluated: x and the states at every position."""
        self.read.fill(self.inputs, x, state)
        self.own.fill(self.states, states, state)


class SubpixelStateCache(BoardStateCache):
    """The same channel by channel: a step computes the part of a state that is its channel's."""

    def __init__(self, source: Offset, output: Offset, layer: Any) -> None:
        super().__init__(source, output, layer)
        self.outputs = layer.layouts[1]
        self.groups: list[Any] = []  # the weights of each channel

    def join(self, state: State) -> None:
        super().join(state)
        layer = self.layer
        weights = layer.input_weight(), layer.weight_state, layer.bias
        for channel in range(state.shape[-1] or 1):
            gates = [k for k, c in enumerate(self.outputs * layer.gates) if c == channel]
            rows = [None if weight is None else weight[gates].detach() for weight in weights]
            self.groups.append((*rows, runs_of(self.outputs * layer.parts, channel)))

    def step(self, x: Tensor, given: Tensor | None, state: State) -> Tensor:
        layer = self.layer
        weight, weight_state, bias, runs = self.groups[state.to(self.output)[-1]]
        if len(self.source) <= len(self.output):
            self.keep(x, state)
        inputs = F.linear(torch.cat(self.read.get(self.inputs, state), dim=-1), weight, bias)
        inputs = inputs if given is None else inputs + given
        earlier = self.own.get(self.states, state)
        states = torch.cat([s[..., : layer.width] for s in earlier], dim=-1)
        nearest = earlier[layer.nearest]
        kept = [nearest[..., first : first + n] for first, n in [(0, 0), *runs]]
        new: Tensor
        new = layer.update(inputs, F.linear(states, weight_state), torch.cat(kept, dim=-1))
        self.own.put(self.states, new, state, self.outputs * layer.parts)
        return new.chunk(layer.parts, dim=-1)[0]


class Board:
    """Where the latest slabs of a grid lie in (B, count, C), put and read part by part.

    What is put stands at `source`, what reads it, at `offsets` from its own position, at `output`.
    A slab of cells has margins, which stay zero, and slab number r lies at r % slabs.
    """

    def __init__(
        self, state: State, source: Offset, output: Offset, offsets: Any, device: torch.device
    ) -> None:
        self.source, self.output = source, output
        self.shape = shape = tuple(n or 1 for n in state.shape[: len(offsets[0])])
        behind, ahead = max(0, *(-d[0] for d in offsets)), max(0, source[0] - output[0])
        self.slabs = 2 + behind + ahead
        self.margins = [
            (max(0, *(-d[k] for d in offsets)), max(0, *(d[k] for d in offsets)))
            for k in range(1, len(shape))
        ]
        margins = [sum(margin) for margin in self.margins]
        self.sizes = [self.slabs, *(n + m for n, m in zip(shape[1:], margins, strict=True))]
        self.count = math.prod(self.sizes)

        def strides(sizes: Any) -> list[int]:
            return [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]

        def part(place: Offset) -> tuple[list[int], Tensor]:
            """The shape of what stands at a place, and the positions in it."""
            inner = [n if k >= len(place) else 1 for k, n in enumerate(shape)]
            return inner, torch.tensor(list(itertools.product(*map(range, inner))), device=device)

        self.steps = strides(shape)  # between the numbers of neighbours on each axis
        self.of_numbers = torch.tensor(self.steps, device=device)
        self.of_cells = torch.tensor(strides(self.sizes), device=device)
        self.lengths = torch.tensor([1 << 40, *shape[1:]], device=device)
        self.first = torch.tensor([0, *(m[0] for m in self.margins)], device=device)
        self.wrap = torch.tensor([self.slabs, *([1 << 40] * (len(shape) - 1))], device=device)
        _, self.putting = part(source)
        self.part, positions = part(output)
        self.taps = len(offsets)
        self.reading = (torch.tensor(offsets, device=device)[:, None] + positions).flatten(0, 1)

    def number(self, state: State, offset: Offset) -> Tensor:
        """The number of a position in the order of drawing, or of the first of its slab, (1,)."""
        axes = min(len(offset), len(self.shape))
        by = sum(o * step for o, step in zip(offset[:axes], self.steps, strict=False))
        if len(offset) > axes:  # a channel of the position before
            by -= state.at[-1] + offset[-1] < 0

        def compute() -> Tensor:
            here = state.position[:axes] * self.of_numbers[:axes]
            return here.sum(0, keepdim=True) + by

        return state.once(("number", axes, by), compute)

    def cells(self, number: Tensor, offsets: Tensor) -> Tensor:
        """Where the positions at offsets from the one of that number lie."""
        place = torch.div(number, self.of_numbers, rounding_mode="floor") % self.lengths
        return ((place + offsets + self.first) % self.wrap * self.of_cells).sum(1)

    def put(self, kept: Tensor, x: Tensor, state: State, layout: Sequence[int] = ()) -> None:
        """The newest x, (B, *axes, C): a slab, a position, or what a channel has of one.

        `layout`: the channel of each feature. Before the first position stand zeros, and behind
        the last slab.
        """
        cells = self.cells(self.number(state, self.source), self.putting)
        place, x = state.to(self.source), x.flatten(1, -2).to(kept.dtype)
        x = x if state.inside(place) else torch.zeros_like(x)
        runs, first = [(0, kept.shape[-1])], 0
        if len(self.source) > len(self.shape):
            layout = layout or channel_groups(kept.shape[-1], state.shape[-1] or 1)
            runs = runs_of(layout, place[-1])
        for start, count in runs:
            part = kept.narrow(2, start, count)
            part.index_copy_(1, cells, x.narrow(2, first, count))
            first += count

    def get(self, kept: Tensor, state: State) -> list[Tensor]:
        """What stands at each offset from the output: (B, *axes, C)."""
        cells = self.cells(self.number(state, self.output), self.reading)
        found = kept.index_select(1, cells)
        return list(found.view(len(kept), self.taps, *self.part, -1).unbind(1))

    def fill(self, kept: Tensor, x: Tensor, state: State) -> None:
        """Keep of x (B, *axes, C) the latest slabs."""
        kept.zero_()
        inner, last = kept.view(len(kept), *self.sizes, -1), state.at[0] + max(self.source[0], 0)
        for k, (n, (before, _)) in enumerate(zip(self.shape[1:], self.margins, strict=True)):
            inner = inner.narrow(k + 2, before, n)
        for number in range(max(last - self.slabs + 1, 0), min(last + 1, x.shape[1])):
            inner[:, number % self.slabs] = x[:, number]
