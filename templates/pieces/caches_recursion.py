"""What a recursion by equation keeps between steps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from .state import Cache, Offset, State

Outside = Tensor | float | None


class EarlierCache(Cache):
    """The same in a step: `kept` are the latest values side by side, `number` how many there were.

    All that moves are tensors that are updated in place.
    """

    moving = ("kept", "number")

    def __init__(self, source: Offset, output: Offset, widths: Sequence[int], depth: int) -> None:
        super().__init__(source, output)
        self.widths, self.depth = list(widths), depth
        self.kept = self.number = torch.empty(0)

    def join(self, state: State) -> None:
        self.kept = state.like.new_zeros(state.batch, self.depth, sum(self.widths))
        self.number = torch.zeros(1, dtype=torch.long, device=state.like.device)

    def __call__(self, k: int, by: int, outside: Outside = None) -> Tensor:
        slot, first = self.depth - by, sum(self.widths[:k])
        value = self.kept[:, slot : slot + 1, first : first + self.widths[k]]
        return value if outside is None else torch.where(self.number >= by, value, outside)

    def push(self, values: Sequence[Tensor], state: State) -> None:
        """Keep those of a position."""
        if state.at[0] + self.output[0] >= 0:
            newest = torch.cat(list(values), dim=-1)
            self.kept.copy_(torch.cat((self.kept[:, 1:], newest), dim=1))
            self.number.add_(1)

    def fill(self, x: Tensor, state: State) -> None:
        end = min(max(state.at[0] + self.output[0], 0), x.shape[1])
        latest = x[:, max(end - self.depth, 0) : end]
        self.kept.zero_()
        self.kept[:, self.depth - latest.shape[1] :] = latest
        self.number.fill_(end)


class StagedCache(Cache):
    """The same where a step evaluates values at several places: the latest of each, side by side.

    `kept` is (B, positions, features); its last column holds the newest value of each.
    """

    moving = ("kept",)

    def __init__(
        self,
        source: Offset,
        output: Offset,
        widths: Sequence[int],
        stages: Mapping[int, Sequence[int]],
        depth: int,
    ) -> None:
        super().__init__(source, output)
        self.widths, self.stages = list(widths), stages
        self.size = depth + output[0] - source[0]
        self.places = {k: place for place, stage in stages.items() for k in stage}
        self.kept = torch.empty(0)

    def join(self, state: State) -> None:
        self.kept = state.like.new_zeros(state.batch, self.size, sum(self.widths))

    def of(self, k: int) -> Tensor:
        """The latest of the k-th value."""
        return self.kept.narrow(2, sum(self.widths[:k]), self.widths[k])

    def step(
        self,
        at: Sequence[Callable[..., tuple[Tensor, ...]]],
        inputs: Sequence[Sequence[Tensor]],
        state: State,
    ) -> tuple[Tensor, ...]:
        """Every value at its place: those farther behind first, later ones need them."""
        found: dict[int, Tensor] = {}
        stages = list(zip(self.stages.items(), at, inputs, strict=True))
        for (place, stage), function, xs in reversed(stages):
            values = function(partial(self.earlier, state, place), *xs)
            for k, value in zip(stage, values, strict=True):
                found[k], kept = value, self.of(k)
                if state.at[0] + place >= 0:  # before the first position stand zeros
                    kept.copy_(torch.cat((kept[:, 1:], value), dim=1))
        return tuple(found[k] for k in range(len(self.widths)))

    def earlier(self, state: State, place: int, k: int, by: int, outside: Outside = None) -> Tensor:
        """The k-th value `by` positions before `place`."""
        own = self.places[k]
        newest = own if own < place else own - 1  # that of this step is there already, or not
        slot = self.size - 1 - (newest - (place - by))
        value = self.of(k)[:, slot : slot + 1]
        if outside is None:
            return value
        return torch.where(state.on(0, (place,)).tensor >= by, value, outside)

    def fill(self, x: Tensor, state: State) -> None:
        self.kept.zero_()
        for k, values in enumerate(torch.split(x, self.widths, dim=-1)):
            end = min(max(state.at[0] + self.places[k], 0), x.shape[1])
            latest = values[:, max(end - self.size, 0) : end]
            self.of(k)[:, self.size - latest.shape[1] :] = latest
