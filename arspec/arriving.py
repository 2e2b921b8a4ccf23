"""Conditions that arrive while the variable is drawn, and what a step is given of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arspec.model import Declared, Model, TermModel
from arspec.names import local
from arspec.values import Grid, tuple_text

Offset = tuple[int, ...]


def arriving(model: Model, term: TermModel) -> dict[str, Offset]:
    """By condition: where the value that a step is given stands, from the position that it draws.

    An offset of k + 1 components belongs to loop k of the sampler: with every round of it comes a
    whole slab of the axes inside. All others are given whole from the start: those whose clock or
    axes are not the first ones drawn, and those known up to a place amid a slab.
    """
    target, turned = model.variables[term.variable], term.frame.turned
    drawn = turned(target.grid)
    found = {
        name: _offset(v, drawn)
        for name, v in model.variables.items()
        if name in model.conditions and turned(v.grid) == v.grid
    }
    if not term.graph.raster:  # there are no slabs then
        axes = len(target.grid)
        found = {k: o for k, o in found.items() if o and len(o) == axes and max(o) <= 0}
    return {name: offset for name, offset in found.items() if offset}


def _offset(v: Declared, drawn: Grid) -> Offset | None:
    axes = len(v.grid)
    if v.known in (None, "all") or v.grid != drawn[:axes]:
        return None
    assert v.known is not None
    if v.known == "present":
        return (0,) * axes
    if v.known == "past":
        return (*(0,) * (axes - 1), -1) if axes == len(drawn) else None
    return (int(v.known[1:]),)


@dataclass(frozen=True)
class Arriving:
    """A condition that arrives, as the template prints it.

    `stands`: what a step brings of it, and its shape, in words; `offset` as above; `sizes`: of all
    of it between batch and axes, then how many of the axes it has; `axis`: the dimension of the
    first; `floats`: whether it holds real numbers.
    """

    name: str
    stands: str
    offset: str
    sizes: str
    axes: int
    axis: int
    floats: bool


def arrivals(model: Model, offsets: Mapping[str, Offset]) -> list[Arriving]:
    """The same in the words of the emitted file."""
    result = []
    for name, offset in offsets.items():
        v = model.variables[name]
        floats = v.kind == "features"
        count = int(v.count.value) if floats else v.channels
        several = floats or count > 1
        sizes = f"{count}, " if several else ""
        inner = [axis for axis, _ in v.grid[len(offset) :]]
        shape = ", ".join(["B", *([str(count)] if several else []), *inner])
        place = " at the position drawn" if not any(offset) else " at the position before"
        if offset[0] > 0:
            ahead = f"{v.axes[0]} + {offset[0]}"
            place = f" at {ahead}" if len(v.grid) == 1 else f", all of it at {ahead}"
        stands = f"`{local(name)}`{place}, ({shape})"
        result.append(
            Arriving(
                local(name), stands, tuple_text([str(k) for k in offset]), sizes, len(v.grid),
                2 if several else 1, floats,
            )
        )  # fmt: skip
    return result
