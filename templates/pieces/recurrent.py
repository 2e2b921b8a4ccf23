"""Recurrences: the state at a position comes from the states at others, zeros outside the grid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches_recurrent import BoardStateCache, StateCache, SubpixelStateCache, moved
from .initialise import fan_in_uniform_
from .state import Cache, Offset, State
from .subpixel import seen


class Recurrence(nn.Module):
    """What `Lstm` and `Gru` share: (B, *axes, inputs) -> (B, *axes, width).

    Position p sees x[p + d], d in `reads` (by default its own), and the states at p + d, d in
    `state`. Where there are several, what is carried on unchanged is the state nearest to p, the
    last of those on a par. Positions are computed by increasing `order` . p, on a par at once.
    """

    _place: str = ""
    gates = 1
    parts = 1  # how many vectors of `width` a state is, the output first

    def __init__(
        self,
        inputs: int,
        width: int,
        state: Sequence[Offset] = ((-1,),),
        order: Offset = (1,),
        reads: Sequence[Offset] = (),
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.inputs, self.width, self.state, self.order = inputs, width, list(state), order
        self.reads = list(reads) or [(0,) * len(order)]
        self.nearest = min(
            range(len(state)), key=lambda k: (sum(map(abs, state[k])), [-d for d in state[k]])
        )
        outputs = self.gates * width
        self.weight_input = nn.Parameter(torch.empty(outputs, len(self.reads) * inputs))
        self.weight_state = nn.Parameter(torch.empty(outputs, len(state) * width))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        fan_in_uniform_(self.weight_input, self.bias, width)  # as nn.LSTM and nn.GRU do
        fan_in_uniform_(self.weight_state, None, width)

    def update(self, inputs: Tensor, states: Tensor, kept: Tensor) -> Tensor:
        """A new state (..., parts * width), or some of its features.

        `inputs` and `states`: (..., gates * width), what either contributes to the gates; `kept`:
        the nearest state.
        """
        raise NotImplementedError

    def kernel(self, x: Tensor) -> Tensor:
        """PyTorch's own loop along one axis: (N, T, inputs) -> (N, T, width)."""
        raise NotImplementedError

    def kernel_weights(self) -> list[Tensor]:
        """As that loop takes them: its second bias is zero."""
        biases = [] if self.bias is None else [self.bias, torch.zeros_like(self.bias)]
        return [self.input_weight(), self.weight_state, *biases]

    def input_weight(self) -> Tensor:
        """(gates * width, taps * inputs)."""
        return self.weight_input

    def project(self, taps: Tensor, given: Tensor | None) -> Tensor:
        """What the input contributes to the gates: of all taps, side by side."""
        gates = F.linear(taps, self.input_weight(), self.bias)
        return gates if given is None else gates + given

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> Tensor:
        """The states at some positions, from those at each offset."""
        h = torch.cat([s[..., : self.width] for s in states], dim=-1)
        return self.update(inputs, F.linear(h, self.weight_state), states[self.nearest])

    def scan(
        self,
        inputs: Tensor,
        front: "Fronts | None" = None,
        known: Sequence[Tensor | None] = (),
    ) -> Tensor:
        """All states, one front of positions after another: (B, *axes, parts * width).

        `known`: for each offset the states there of all positions, if they are there already.
        """
        shape = inputs.shape[1:-1]
        front = front or self.fronts(shape)
        there = [None if s is None else front.split(s) for s in known or [None] * len(self.state)]
        kept: list[Tensor] = []  # of each front: its states, and zeros behind
        for level, part in enumerate(front.split(inputs)):
            outside = part.new_zeros(*part.shape[:2], self.parts * self.width)
            states = []
            for (back, index), parts in zip(front.sources, there, strict=True):
                if parts is not None:
                    states.append(parts[level])
                elif level < back:
                    states.append(outside)
                else:
                    states.append(kept[level - back].index_select(1, index[level]))
            kept.append(F.pad(self.advance(part, states), (0, 0, 0, 1)))
        every = torch.cat([states[:, :-1] for states in kept], dim=1)
        return every.index_select(1, front.rank).view(len(every), *shape, -1)

    def fronts(self, shape: Sequence[int]) -> "Fronts":
        """What is computed at once, on a grid of that shape."""
        return Fronts(shape, self.state, self.order, self.weight_state.device)

    def along(self) -> int | None:
        """The only axis along which states are passed on, each to its neighbour."""
        axes = [axis for axis, d in enumerate(self.state[0]) if d]
        alone = len(self.state) == 1 and len(axes) == 1 and abs(self.state[0][axes[0]]) == 1
        return axes[0] if alone else None

    def whole(self, taps: Tensor, axis: int) -> Tensor:
        """The outputs at all positions, along one axis by PyTorch's own loop."""
        backwards = self.state[0][axis] > 0
        rows = taps.movedim(axis + 1, -2)
        x = rows.reshape(-1, *rows.shape[-2:])
        y = self.kernel(x.flip(1)).flip(1) if backwards else self.kernel(x)
        return y.view(*rows.shape[:-1], self.width).movedim(-2, axis + 1)

    def cache(self, source: Offset, output: Offset) -> Cache:
        """What a sampler keeps of x and of the states."""
        kind = StateCache if len(source) == len(output) == 1 else BoardStateCache
        return kind(source, output, self)

    def forward(self, x: Tensor, given: Tensor | None = None, past: State | None = None) -> Tensor:
        if past is not None and not past.filling:
            y: Tensor = past.caches[self._place].step(x, given, past)  # type: ignore[attr-defined]
            return y
        # Position p sees x[p + d] and the state at p + d, for d in `reads` and in `state`.
        taps = torch.cat([moved(x, d) for d in self.reads], dim=-1)
        axis = self.along()
        if past is None and given is None and axis is not None:
            return self.whole(taps, axis)
        states = self.scan(self.project(taps, given))
        if past is not None:
            past.caches[self._place].fill_all(x, states, past)  # type: ignore[attr-defined]
        return states[..., : self.width]


class Fronts:
    """The positions of a grid by increasing `order` . p: those on a par are computed at once."""

    def __init__(
        self, shape: Sequence[int], state: Sequence[Offset], order: Offset, device: torch.device
    ) -> None:
        sizes = torch.tensor(shape)
        strides = torch.tensor([sizes[k + 1 :].prod() for k in range(len(shape))])
        numbers = torch.arange(int(sizes.prod()))
        places = numbers[:, None] // strides % sizes  # of each its place
        level = places @ torch.tensor(order)
        level = level - level.min() if len(level) else level
        first = torch.argsort(level, stable=True)
        counts = torch.bincount(level)
        starts = counts.cumsum(0) - counts
        rank = torch.empty_like(first)  # where each position comes among all
        rank[first] = numbers
        self.sizes = counts.tolist()
        self.order, self.rank = first.to(device), rank.to(device)
        # By offset: how many fronts back, and for each front where in that one.
        self.sources: list[tuple[int, Sequence[Tensor]]] = []
        for offset in state:
            back = -sum(a * b for a, b in zip(order, offset, strict=True))
            at = places[first] + torch.tensor(offset)
            inside = ((at >= 0) & (at < sizes)).all(1)
            source = (level[first] - back).clamp(min=0)
            index = rank[(at * strides).sum(1).where(inside, 0)] - starts[source]
            # Behind the last of a front stand zeros, for what is outside.
            index = index.where(inside, counts[source]).to(device)
            self.sources.append((back, torch.split(index, self.sizes)))

    def split(self, x: Tensor) -> Sequence[Tensor]:
        """(B, *axes, C), front by front: (B, positions, C) each."""
        return torch.split(x.flatten(1, -2).index_select(1, self.order), self.sizes, dim=1)


class Lstm(Recurrence):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates: Gers et al. 2000).

    i, f, g, o = W x + U h' + b, as nn.LSTM orders them; c = sigmoid(f) c' + sigmoid(i) tanh(g);
    h = sigmoid(o) tanh(c). From the nearest state comes c', from all of them h'.
    """

    gates = 4
    parts = 2

    def update(self, inputs: Tensor, states: Tensor, kept: Tensor) -> Tensor:
        i, f, g, o = (inputs + states).chunk(4, dim=-1)
        _, before = kept.chunk(2, dim=-1)
        c = torch.sigmoid(f) * before + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat((torch.sigmoid(o) * torch.tanh(c), c), dim=-1)

    def kernel(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(1, len(x), self.width)
        weights, biased = self.kernel_weights(), self.bias is not None
        return torch.lstm(x, (zeros, zeros), weights, biased, 1, 0.0, True, False, True)[0]


class Gru(Recurrence):
    """Gated recurrent unit (Cho et al. 2014, version 1: the reset gate multiplies U h').

    r, z, n = W x + b, as nn.GRU orders them; r, z = sigmoid(r + U_r h'), sigmoid(z + U_z h');
    h = (1 - z) tanh(n + r (U_n h')) + z h''. From all states comes h', from the nearest h''.
    """

    gates = 3

    def update(self, inputs: Tensor, states: Tensor, kept: Tensor) -> Tensor:
        width = kept.shape[-1]
        size = [2 * width, width]
        gates, n = torch.split(inputs, size, dim=-1)
        of_gates, of_n = torch.split(states, size, dim=-1)
        r, z = torch.sigmoid(gates + of_gates).chunk(2, dim=-1)
        return torch.lerp(torch.tanh(n + r * of_n), kept, z)

    def kernel(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(1, len(x), self.width)
        weights, biased = self.kernel_weights(), self.bias is not None
        return torch.gru(x, zeros, weights, biased, 1, 0.0, True, False, True)[0]


class SubpixelRecurrence(Recurrence):
    """Where the channels of a position are drawn one after another: its own tap is masked.

    `inputs` and `outputs` are layouts, the channel of each feature: at p itself a feature sees
    those of channels up to its own, elsewhere all (van den Oord et al. 2016, PixelRNN).
    """

    mask: Tensor
    own = True  # whether a channel sees itself

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        state: Sequence[Offset] = ((-1,),),
        order: Offset = (1,),
        reads: Sequence[Offset] = (),
        bias: bool = True,
    ) -> None:
        super().__init__(len(inputs), len(outputs), state, order, reads, bias)
        self.layouts = list(inputs), list(outputs)
        present = seen(inputs, outputs, self.own)
        taps = [torch.ones_like(present) if any(d) else present for d in self.reads]
        mask = torch.cat(taps, dim=1).repeat(self.gates, 1)
        self.register_buffer("mask", mask, persistent=False)

    def input_weight(self) -> Tensor:
        return self.weight_input * self.mask

    def cache(self, source: Offset, output: Offset) -> Cache:
        """What a sampler keeps of x and of the states."""
        cache = super().cache(source, output)
        if len(output) > len(self.order):
            cache = SubpixelStateCache(source, output, self)
        cache.layout = self.layouts[0]
        return cache


class SubpixelLstm(SubpixelRecurrence, Lstm):
    """`Lstm` where a feature sees the channels up to its own (mask B)."""


class StrictSubpixelLstm(SubpixelRecurrence, Lstm):
    """`Lstm` where a feature sees the channels before its own (mask A)."""

    own = False


class SubpixelGru(SubpixelRecurrence, Gru):
    """`Gru` where a feature sees the channels up to its own (mask B)."""


class StrictSubpixelGru(SubpixelRecurrence, Gru):
    """`Gru` where a feature sees the channels before its own (mask A)."""

    own = False
