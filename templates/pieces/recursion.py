"""Values that depend on their own earlier ones, one position after another."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Earlier:
    """What was computed at the positions before. `widths`: the features of each value."""

    def __init__(self, widths: Sequence[int], like: Tensor) -> None:
        self.zeros = [like.new_zeros(len(like), 1, width) for width in widths]
        self.values: list[list[Tensor]] = [[] for _ in widths]

    def __call__(self, k: int, by: int, outside: Tensor | float | None = None) -> Tensor:
        """The k-th value `by` positions before, (B, 1, C): `outside`, or zeros, before the first."""
        values, zeros = self.values[k], self.zeros[k]
        if by <= len(values):
            return values[-by]
        return zeros if outside is None else zeros + outside


def recursion(
    at: Callable[..., tuple[Tensor, ...]], widths: Sequence[int], *inputs: Tensor
) -> tuple[Tensor, ...]:
    """The values at every position, each (B, T, C), from inputs (B, T, ...).

    `at(earlier, *inputs)` computes those of one position, (B, 1, C) each.
    """
    earlier = Earlier(widths, inputs[0])
    for t in range(inputs[0].shape[1]):
        values = at(earlier, *(x[:, t : t + 1] for x in inputs))
        for before, value in zip(earlier.values, values, strict=True):
            before.append(value)
    return tuple(
        torch.cat([zeros[:, :0], *values], dim=1)
        for zeros, values in zip(earlier.zeros, earlier.values, strict=True)
    )
