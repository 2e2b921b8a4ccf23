"""Shifts in equations and in `of`."""

from __future__ import annotations

from collections.abc import Sequence

from arspec.values import Features, Grid


def shift_module(
    grid: Grid,
    moves: Sequence[tuple[str, int]],
    other: bool = False,
    features: Features | None = None,
) -> str:
    """The text that builds y[i] = x[i - by]; `other`: it is given what stands outside."""
    axes = [name for name, _ in grid]
    by = [sum(n for name, n in moves if name == axis) for axis in axes]
    ordered = features is not None and features.runs is not None  # the channel is a loop, too
    if len(axes) == 1 and not ordered:
        return f"Shift{'Or' if other else ''}({by[0]})"
    return f"GridShift{'Or' if other else ''}({', '.join(map(str, by))})"


def add_up(moves: Sequence[tuple[str, int]]) -> bool:
    """Whether shifts one after another are one: what leaves the grid never comes back."""
    return all(a[0] != b[0] or a[1] * b[1] > 0 for a in moves for b in moves)
