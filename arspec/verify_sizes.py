"""On which grids a model is measured: large enough to show all there is to see, and affordable."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from torch import Tensor

from arspec.graph import Stencil
from arspec.verify_trial import Field, Trial

SMALL = {1: 32, 2: 6, 3: 3}
"""Positions per axis on which everything is measured, by number of axes."""
INTERIOR = {1: 512, 2: 40, 3: 7}
"""The same where only some outputs are."""
INTERIOR_LIGHT = {1: 4096, 2: 100, 3: 12}
"""The same for a model of few parameters."""
STEPPED = {1: (48, 1040), 2: (8, 14), 3: (4, 5)}
"""At least and at most so many positions per axis are drawn one by one."""
COUNTED = 64
"""Positions on a single axis of which operations are counted."""
LIGHT = 300_000
"""Parameters up to which a model is one of few."""


def small_lengths(trial: Trial, field: Field | None = None) -> dict[str, int]:
    """Lengths that show what there is to see: a little more than the receptive field, or enough
    for three positions of a condition on a slower clock."""
    axes = trial.graph.axes
    lengths = {}
    for axis in axes:
        most = SMALL.get(len(axes), 2)
        extent = trial.proof.receptive_field[axis]
        lengths[axis] = most if extent is None else max(min(extent + 3, most), min(4, most))
    for axis, stride in field.grid if field else ():
        if axis in lengths:
            lengths[axis] = max(lengths[axis], 2 * stride + 2)
    return limited(trial, lengths)


def interior_most(trial: Trial) -> int:
    """How many positions per axis are affordable where only some outputs are measured."""
    sizes = INTERIOR_LIGHT if trial.parameters <= LIGHT else INTERIOR
    return sizes.get(len(trial.graph.axes), 5)


def interior_lengths(trial: Trial, claimed: Mapping[str, int | None]) -> dict[str, int]:
    """Lengths on which an output reads all that it can, as far as that stays affordable."""
    axes = trial.graph.axes
    period = max((s for node in trial.graph.nodes for s in node.strides), default=1)
    lengths = {}
    nearest = trial.proof.nearest or ()
    for k, axis in enumerate(axes):
        extent, behind = claimed[axis], abs(nearest[k]) if trial.proof.raster and nearest else 0
        wanted = SMALL.get(len(axes), 2) if extent is None else extent + 2 + min(period, 8)
        wanted += int(behind) if behind < inf else 0  # the nearest position that is read
        lengths[axis] = min(wanted, interior_most(trial))
    return limited(trial, lengths)


def inner_outputs(trial: Trial, lengths: Mapping[str, int], most: int = 18) -> list[int]:
    """Outputs with the most around them to read: late on the first axis, amid the others."""
    axes = trial.graph.axes
    places = trial.target.places(lengths, axes)

    def off_centre(i: int) -> tuple[int, int]:
        amid = sum(abs(p - lengths[a] // 2) for p, a in zip(places[i][1:], axes[1:], strict=False))
        return amid, -places[i][0]

    late = [i for i, place in enumerate(places) if place[0] >= lengths[axes[0]] - 8 // len(axes)]
    return sorted(late, key=off_centre)[:most]


def stepped_lengths(trial: Trial, *, long: bool) -> dict[str, int]:
    """Lengths that are drawn one by one, different on every axis.

    With `long` more than the largest window of any single layer, so that no edge hides what is kept
    wrongly, as far as that stays affordable.
    """
    axes, lengths = trial.graph.axes, {}
    least, most = STEPPED.get(len(axes), (2, 3))
    for k, axis in enumerate(axes):
        windows = [
            (max(box.hi[k], 0) - min(box.lo[k], 0)) * max(node.strides[k], 1)
            for node in trial.graph.nodes
            for read in node.reads
            if isinstance(read.reach, Stencil)
            for box in read.reach.boxes
        ]
        wanted = max(windows, default=0) + 5 if long else 0
        lengths[axis] = min(max(wanted, least), most) + k
    return limited(trial, enough(trial, lengths))


def enough(trial: Trial, lengths: Mapping[str, int]) -> dict[str, int]:
    """No less than the sampler looks ahead."""
    least: Mapping[str, int] = getattr(trial.model, "least_lengths", {})
    return {axis: max(length, least.get(axis, 0)) for axis, length in lengths.items()}


def limited(trial: Trial, lengths: Mapping[str, int]) -> dict[str, int]:
    """No more positions than the model has, where it has a table of them."""
    return {axis: min(length, trial.limits.get(axis, length)) for axis, length in lengths.items()}


def cut_to(field: Field, value: Tensor, lengths: Mapping[str, int]) -> Tensor:
    """The beginning of a variable's tensor, on a grid of these lengths."""
    shape = field.shape(lengths)
    for place, length in enumerate(shape, start=value.dim() - len(shape)):
        value = value.narrow(place, 0, length)
    return value
