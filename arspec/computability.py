"""Whether recursions can be computed at all, in whatever order.

After R. M. Karp, R. E. Miller and S. Winograd, "The organization of computations for uniform
recurrence equations" (1967): some linear map has to send the weight of every cycle below zero;
then its levels can be computed one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from math import inf, lcm

from arspec.moves import Move, Resolved, Rows, Vector, phases
from arspec.nearest import Objective
from arspec.recursion import Arrow, Link, common_periods, find_cycle, relax

Cycle = list[tuple[Link, tuple[float, ...]]]
"""A cycle's reads in their direction, each with the running sum of its offsets in anchors."""


def uncomputable(key: Objective) -> list[Cycle] | None:
    """Cycles that no order of computation allows together, None if all recursions are computable.

    Sweeps in a cycle read without end, where linear maps say too little: then the axes are tried
    in every sequence and direction, too.
    """
    resolved = key.resolved
    for members in resolved.components or ():
        if resolved.recursive(members):
            found = _Cycles(resolved, members).contradiction(key)
            if found is not None:
                return found
    return None


class _Cycles:
    """The reads within one strongly connected component, between cells of nodes."""

    def __init__(self, resolved: Resolved, members: Sequence[int]) -> None:
        self.resolved, self.axes = resolved, len(resolved.graph.axes)
        self.periods = common_periods(resolved, members, {})
        cells = [(i, c) for i in members for c in range(resolved.size(i, self.periods[i]))]
        self.states = {at: k for k, at in enumerate(cells)}
        self.links = [
            (Link(i, number, source, 0), m)
            for i in members
            for number, (source, m) in enumerate(resolved.reads[i])
            if source in self.periods
        ]

    def contradiction(self, key: Objective) -> list[Cycle] | None:
        """Cycles that no order allows together."""
        leading_on = _not_negative(self._weighted(key))
        if leading_on is None:
            return None
        rays = {ray for _, m in self.links for ray in _rays(self.resolved.moves[m])}
        if rays and any(
            _not_negative(self._weighted(Objective(self.resolved, rows))) is None
            for rows in _directions(self.axes)
        ):
            return None
        if _separate(list(rays), self.axes) is None:
            return [[(arrow.link, (inf,) * self.axes) for arrow in reversed(leading_on)]]
        return self._separated(rays)

    def _separated(self, rays: set[Vector]) -> list[Cycle] | None:
        """Look for a linear map; each one that fails adds a cycle that the next has to respect."""
        arrows = self._by_offset()
        cycles: list[tuple[Vector, Cycle]] = []
        while True:
            levels = _separate([*rays, *(weight for weight, _ in cycles)], self.axes)
            if levels is None:
                return _fewest(rays, cycles)
            found = _not_negative(
                [[replace(a, weight=_dot(levels, a.offset)) for a in into] for into in arrows]
            )
            if found is None:
                return None
            total, cycle = (0,) * self.axes, Cycle()
            for arrow in reversed(found):
                total = tuple(a + b for a, b in zip(total, arrow.offset, strict=True))
                cycle.append((arrow.link, total))
            cycles.append((total, cycle))

    def _weighted(self, objective: Objective) -> list[list[Arrow]]:
        """The reads into each state, weighted by how far ahead they lead."""
        arrows: list[list[Arrow]] = [[] for _ in self.states]
        for link, m in self.links:
            edges = objective.edges(m, self.periods[link.source], self.periods[link.reader])
            for cell, pairs in enumerate(edges):
                into = arrows[self.states[link.reader, cell]]
                into += [Arrow(self.states[link.source, inner], w, link) for inner, w in pairs]
        return arrows

    def _by_offset(self) -> list[list[Arrow]]:
        """The reads into each state with their offsets, as far as they can matter."""
        arrows: list[list[Arrow]] = [[] for _ in self.states]
        for link, m in self.links:
            periods = self.periods[link.source], self.periods[link.reader]
            for cell, inner, offset in _corners(self.resolved.moves[m], *periods):
                arrow = Arrow(self.states[link.source, inner], 0, link, offset)
                arrows[self.states[link.reader, cell]].append(arrow)
        return arrows


def _directions(axes: int) -> Iterator[Rows]:
    """Every sequence of the axes, each of them upwards or downwards."""
    for sequence in permutations(range(axes)):
        for signs in product((1, -1), repeat=axes):
            yield tuple(
                tuple(sign * (k == axis) for k in range(axes))
                for axis, sign in zip(sequence, signs, strict=True)
            )


def _dot(a: Vector, b: Vector) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _not_negative(incoming: Sequence[Sequence[Arrow]]) -> list[Arrow] | None:
    """A cycle whose weight is zero or more, backwards."""
    more = len(incoming) + 1  # n arrows of a simple cycle, weight w: w * more + n > 0 iff w >= 0
    raised = [[replace(a, weight=a.weight * more + 1) for a in arrows] for arrows in incoming]
    for last in relax(raised, [0] * len(raised), -1):
        if (cycle := find_cycle(last)) is not None:
            return cycle
    return None


def _corners(move: Move, source: Vector, reader: Vector) -> Iterator[tuple[int, int, Vector]]:
    """(cell of the reader, cell of the source, offset) for the corners of all that is read."""
    sizes, counts = phases(source, move.source), phases(reader, move.reader)
    for window in move.windows:
        for index, cell in enumerate(product(*map(range, counts))):
            ends: list[list[tuple[int, int]]] = []
            for k, j in enumerate(cell):
                stride = move.source[k]
                along = []
                for residue, lo, hi in window.taps[k].meets(move.reader[k] * j, stride, source[k]):
                    finite = {int(end) for end in (lo, hi) if abs(end) < inf} or {0}
                    along += [(residue // stride if stride else 0, end) for end in finite]
                ends.append(along)
            for corner in product(*ends):
                at = 0
                for (j, _), size in zip(corner, sizes, strict=True):
                    at = at * size + j
                offset = tuple(end for _, end in corner)
                for group in range(move.reader_groups):
                    for g in move.groups_read(window.groups, group):
                        into = index * move.reader_groups + group
                        yield into, at * move.source_groups + g, offset


def _rays(move: Move) -> set[Vector]:
    """The directions in which a sweep reads without end; a flat source has none."""
    found = set()
    for window in move.windows:
        for k, taps in enumerate(window.taps):
            signs = ((-1, taps.lo), (1, taps.hi)) if move.source[k] else ()
            for sign, end in signs:
                if abs(end) == inf:
                    found.add(tuple(sign if j == k else 0 for j in range(len(window.taps))))
    return found


def _fewest(rays: set[Vector], cycles: list[tuple[Vector, Cycle]]) -> list[Cycle]:
    """As few of the cycles as contradict each other."""
    kept = list(cycles)
    for candidate in cycles:
        fewer = [c for c in kept if c is not candidate]
        if fewer and _separate([*rays, *(w for w, _ in fewer)], len(candidate[0])) is None:
            kept = fewer
    return [cycle for _, cycle in kept]


def _separate(weights: Sequence[Vector], size: int) -> Vector | None:
    """A vector whose product with every weight is negative, None if there is none."""
    point = _solve({(tuple(map(Fraction, w)), Fraction(-1)) for w in weights}, size)
    if point is None:
        return None
    scale = lcm(*(x.denominator for x in point))
    return tuple(int(x * scale) for x in point)


Constraint = tuple[tuple[Fraction, ...], Fraction]


def _solve(constraints: set[Constraint], size: int) -> list[Fraction] | None:
    """A point x with a . x <= b for all (a, b), by Fourier and Motzkin's elimination."""
    if size == 0:
        return [] if all(b >= 0 for _, b in constraints) else None
    free: set[Constraint] = set()
    upper, lower = list[Constraint](), list[Constraint]()
    for a, b in constraints:
        slope, rest = a[-1], a[:-1]
        if not slope:
            free.add((rest, b))
        else:
            into = upper if slope > 0 else lower
            into.append((tuple(x / slope for x in rest), b / slope))
    for a, b in upper:
        for c, d in lower:
            free.add((tuple(x - y for x, y in zip(a, c, strict=True)), b - d))
    point = _solve(free, size - 1)
    if point is None:
        return None

    def bounds(side: list[Constraint]) -> list[Fraction]:
        return [
            b - sum((x * y for x, y in zip(a, point, strict=True)), Fraction()) for a, b in side
        ]

    most, least = min(bounds(upper), default=None), max(bounds(lower), default=None)
    return [*point, most if most is not None else least or Fraction()]
