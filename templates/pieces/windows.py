"""The offsets that a window on a grid holds."""

import itertools

from .state import Offset

Taps = tuple[int, int] | tuple[int, int, int]
"""Offsets along one axis: first, last and, unless it is 1, the step between them."""


def box(*spans: Taps) -> list[Offset]:
    """All offsets of a window, in raster order, from those on every axis."""
    return list(itertools.product(*(range(t[0], t[1] + 1, *t[2:]) for t in spans)))
