"""Values that depend on their own earlier ones, one position after another."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .state import Cache, Offset, State

Outside = Tensor | float | None


class Earlier:
    """What was computed at the positions before. `widths`: the features of each value."""

    def __init__(self, widths: Sequence[int], like: Tensor) -> None:
        self.zeros = [like.new_zeros(len(like), 1, width) for width in widths]
        self.values: list[list[Tensor]] = [[] for _ in widths]

    def __call__(self, k: int, by: int, outside: Outside = None) -> Tensor:
        """The k-th value `by` positions before, (B, 1, C), `outside` or zeros if there is none."""
        values, zeros = self.values[k], self.zeros[k]
        if by <= len(values):
            return values[-by]
        return zeros if outside is None else zeros + outside


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


class Recursion(nn.Module):
    """Values (B, T, C), `widths` features each, of which position t needs those before t.

    It is given a function for one position: `at(earlier, *inputs)` makes the values there from the
    inputs there, where `earlier(k, by)` is the k-th value `by` <= `depth` positions before.
    """

    _place: str = ""

    def __init__(self, widths: Sequence[int], depth: int = 1) -> None:
        super().__init__()
        self.widths, self.depth = widths, depth

    def cache(self, source: Offset, output: Offset) -> EarlierCache:
        """What a sampler keeps of the values."""
        return EarlierCache(source, output, self.widths, self.depth)

    def forward(
        self, at: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, past: State | None = None
    ) -> tuple[Tensor, ...]:
        if past is not None and not past.filling:
            cache = past.caches[self._place]
            values = at(cache, *inputs)
            cache.push(values, past)  # type: ignore[attr-defined]
            return values
        earlier = Earlier(self.widths, inputs[0])
        for t in range(inputs[0].shape[1]):
            values = at(earlier, *(x[:, t : t + 1] for x in inputs))
            for before, value in zip(earlier.values, values, strict=True):
                before.append(value)
        pairs = zip(earlier.zeros, earlier.values, strict=True)
        every = tuple(torch.cat([zeros[:, :0], *values], dim=1) for zeros, values in pairs)
        if past is not None:
            past.caches[self._place].fill(torch.cat(every, dim=-1), past)
        return every
