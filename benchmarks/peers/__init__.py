"""The libraries that arspec's sampler is compared with, one file each.

Each file has functions that take a compiled model and give a `Peer`: the library's own module of
the same architecture, holding the compiled model's weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Peer:
    """A library's sampler, ready to draw."""

    name: str
    module: nn.Module
    logits: Callable[[Tensor], Tensor]  # of x, as the compiled model's; the last ones of them
    draw: Callable[[int, int], object]  # (batch, positions): draws
    lacks: frozenset[str] = frozenset()  # parameters of the compiled model that it does not have
    masked: int = 0  # weights that it holds and masks, and the compiled model does not hold
    sampled: int | None = None  # draws only that many positions of each, all of which cost the same
