"""Values that depend on their own earlier ones, one position after another."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .caches_recursion import EarlierCache, Outside, StagedCache
from .state import Offset, State


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


class StagedEarlier(Earlier):
    """The same, and what was computed at the position `t` itself."""

    t = 0

    def __call__(self, k: int, by: int, outside: Outside = None) -> Tensor:
        zeros = self.zeros[k]
        if by <= self.t:
            return self.values[k][self.t - by]
        return zeros if outside is None else zeros + outside


class StagedRecursion(Recursion):
    """A recursion whose values at one position are not all known at the same time.

    `stages`: place -> the values that a step evaluates there, 0 the position drawn, -1 the one
    before. Each has a function and inputs of its own: `at` and `inputs`.
    """

    def __init__(
        self, widths: Sequence[int], stages: Mapping[int, Sequence[int]], depth: int = 1
    ) -> None:
        super().__init__(widths, depth)
        self.stages = stages

    def cache(self, source: Offset, output: Offset) -> StagedCache:  # type: ignore[override]
        """What a sampler keeps of the values."""
        return StagedCache(source, output, self.widths, self.stages, self.depth)

    def forward(  # type: ignore[override]
        self,
        at: Sequence[Callable[..., tuple[Tensor, ...]]],
        *inputs: Sequence[Tensor],
        past: State | None = None,
    ) -> tuple[Tensor, ...]:
        if past is not None and not past.filling:
            cache: Any = past.caches[self._place]
            found: tuple[Tensor, ...] = cache.step(at, inputs, past)
            return found
        like = next(x for xs in inputs for x in xs)
        earlier = StagedEarlier(self.widths, like)
        for t in range(like.shape[1]):
            earlier.t = t
            for stage, function, xs in zip(self.stages.values(), at, inputs, strict=True):
                values = function(earlier, *(x[:, t : t + 1] for x in xs))
                for k, value in zip(stage, values, strict=True):
                    earlier.values[k].append(value)
        pairs = zip(earlier.zeros, earlier.values, strict=True)
        every = tuple(torch.cat([zeros[:, :0], *values], dim=1) for zeros, values in pairs)
        if past is not None:
            past.caches[self._place].fill(torch.cat(every, dim=-1), past)
        return every
