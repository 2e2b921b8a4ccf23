"""What a recursion by equation keeps between steps."""

from collections.abc import Sequence

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
