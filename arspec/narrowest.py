"""How short the inner axes of a grid may be for its derived sampler.

A node that looks ahead along a row is evaluated some pixels late, so the last of a row come when
the next one is under way. Who reads them there finds them, unless the rows are so short that the
next one is over by then.
"""

from __future__ import annotations

from collections.abc import Iterator

from arspec.graph import Read, Stencil
from arspec.stepping import Offset, Plan, When

FAR = -(10**6)
"""Back from a position to the first one, wherever that is."""


def narrowest(plan: Plan) -> list[tuple[int, str, int]]:
    """Per inner axis its number as drawn, its name and its least length, unless that is one."""
    graph, least = plan.term.graph, dict[int, int]()
    for node, when in plan.whens.items():
        for read in graph.nodes[node].reads if when.loop >= 0 and node != graph.target else ():
            source = plan.whens[read.source]
            if source.loop < 1:
                continue
            strides = graph.nodes[read.source].strides
            for axis, length in _needed(read, source, when, strides):
                least[axis] = max(least.get(axis, 1), length)
    return [(axis, plan.term.frame.axes[axis], least[axis]) for axis in sorted(least)]


def _needed(read: Read, source: When, when: When, strides: Offset) -> Iterator[tuple[int, int]]:
    """Of one read, by axis how long that has to be, in positions drawn."""
    late = [mine - theirs for mine, theirs in zip(when.lead, source.lead, strict=False)]
    late = late[: len(strides)]
    for first, last in _spans(read, strides):
        wrapped = 0  # to the row above at most by one, if the rows are long enough
        for axis in range(len(late) - 1, 0, -1):
            before = [by + low for by, low in zip(late[:axis], first, strict=False)]
            by = late[axis] + wrapped
            farthest = by + last[axis]
            wrapped = int(by > 0 and farthest > 0)
            if by > 1 and farthest > 1 and before < [0] * axis:
                yield axis, farthest


def _spans(read: Read, strides: Offset) -> Iterator[tuple[list[int], list[int]]]:
    """From where to where it reads, relative to its own position, in positions drawn."""
    reach, n = read.reach, len(strides)
    if not isinstance(reach, Stencil):
        yield [FAR] * n, [0] * n
        return
    for box in reach.boxes:
        if reach.transposed:
            yield [-k for k in box.hi], [-k for k in box.lo]
        else:
            scaled = [
                [k * max(s, 1) for k, s in zip(e, strides, strict=False)] for e in (box.lo, box.hi)
            ]
            yield scaled[0], scaled[1]
