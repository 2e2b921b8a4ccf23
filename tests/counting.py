"""Multiply-adds that a computation really does, as `arspec verify` counts them.

The counting itself is tested on products by hand, in `tests/test_verify.py` and in
`tests/test_operations.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from stepwise import Case

from arspec.verify_operations import Operations


@dataclass
class Count:
    """Multiply-adds: `weights` of all matrix products and convolutions, `attention` of the rest."""

    weights: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.attention


@contextmanager
def counted() -> Iterator[Count]:
    """Counts what is done inside; the numbers are there when it is left."""
    count = Count()
    with torch.no_grad(), Operations() as found:
        yield count
    count.weights, count.attention = found.products.count, found.attention


@cache
def both(this: Case) -> tuple[Count, Count]:
    """Of drawing every position, and of one parallel forward."""
    with counted() as drawn:
        for _ in this.stepped():
            pass
    with counted() as forward:
        this.parallel()
    return drawn, forward
