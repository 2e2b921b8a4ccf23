"""Recursions: cycles of reads, longest paths through them, and whether they can be computed.

Computability follows R. M. Karp, R. E. Miller and S. Winograd, "The organization of computations
for uniform recurrence equations" (1967): some linear map has to send the weight of every cycle
below zero; then its levels can be computed one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import inf, lcm
from typing import TYPE_CHECKING

from arspec.moves import Move, Resolved, Vector, phases

if TYPE_CHECKING:
    from arspec.nearest import Nearest, Objective


@dataclass(frozen=True, slots=True)
class Link:
    """One read on a path: the `read`-th of node `reader`.

    `loop`: it closes a cycle that makes the sum infinite from that component on.
    """

    reader: int
    read: int
    source: int
    weight: int
    loop: int | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A read within a recursion, between states: a state is a cell of a node."""

    start: int
    weight: int
    link: Link
    offset: Vector = ()


def relax(
    incoming: Sequence[Sequence[Arrow]],
    values: list[int],
    dead: int,
    canonical: Callable[[int], int] = int,
) -> Iterator[list[Arrow | None]]:
    """Bellman and Ford's longest paths, in place: raises `values` as long as some arrow can.

    Yields the last arrow of the best path to each state after every pass that changed one. Where
    cycles have appeared among them, the caller may stop, or cut them: raise a value and drop
    its arrow.
    """
    last: list[Arrow | None] = [None] * len(values)
    changed = True
    while changed:
        changed = False
        for state, arrows in enumerate(incoming):
            for arrow in arrows:
                before = values[arrow.start]
                if before > dead and (total := canonical(before + arrow.weight)) > values[state]:
                    values[state], last[state], changed = total, arrow, True
        if changed:
            yield last


def find_cycle(last: Sequence[Arrow | None]) -> list[Arrow] | None:
    """A cycle of arrows, backwards: the first one ends where the last one starts."""
    seen: dict[int, int] = {}
    for first in range(len(last)):
        state = first
        while state not in seen and (arrow := last[state]) is not None:
            seen[state] = first
            state = arrow.start
        if seen.get(state) == first:
            cycle, at = [], state
            while not cycle or at != state:
                arrow = last[at]
                assert arrow is not None  # since it was followed above
                cycle.append(arrow)
                at = arrow.start
            return cycle
    return None


class Recursion:
    """Longest paths through one strongly connected component, and the paths back out of it."""

    def __init__(self, run: Nearest, members: Sequence[int]) -> None:
        self.run, self.members, self.objective = run, members, run.objective
        self.cuts: dict[int, tuple[list[Arrow], int]] = {}  # infinite states: the cycle, from where
        self.entries: dict[int, tuple[int, Link, int]] = {}  # value on entry, read, cell read from
        self.last: list[Arrow | None] = []

    def solve(self) -> None:
        """Set the values of all members that depend on the input."""
        run, inside = self.run, set(self.members)
        reads = run.resolved.reads
        if all(run.values[s] is None for i in self.members for s, _ in reads[i]):
            return
        outside = {s for i in self.members for s, _ in reads[i] if run.values[s] is not None}
        known = {s: run.period(s) for s in outside}
        run.periods.update(common_periods(run.resolved, self.members, known))
        sizes = {i: run.resolved.size(i, run.periods[i]) for i in self.members}
        states = [(i, cell) for i in self.members for cell in range(sizes[i])]
        self.state = {at: k for k, at in enumerate(states)}
        self.values = [self.objective.dead] * len(states)
        self.incoming: list[list[Arrow]] = [[] for _ in states]
        for i in self.members:
            for cell, source, inner, weight, number in run.incoming(i, inside):
                state, link = self.state[i, cell], Link(i, number, source, weight)
                if source in inside:
                    self.incoming[state].append(Arrow(self.state[source, inner], weight, link))
                elif (total := run.cell(source, inner) + weight) > self.values[state]:
                    total = self.objective.canonical(total)
                    self.values[state], self.entries[state] = total, (total, link, inner)
        self._lengthen()
        for i in self.members:
            run.recursions[i] = self
            run.store(i, [self.values[self.state[i, cell]] for cell in range(sizes[i])])

    def _lengthen(self) -> None:
        """Longest paths; a cycle that lengthens them for ever makes its states infinite."""
        objective, values = self.objective, self.values
        self.last = [None] * len(values)
        for last in relax(self.incoming, values, objective.dead >> 1, objective.canonical):
            self.last = last
            while (cycle := find_cycle(last)) is not None:
                total = objective.unpack(sum(arrow.weight for arrow in cycle))
                lead = next(k for k, component in enumerate(total) if component)
                state = cycle[-1].start
                values[state], last[state] = objective.infinite_from(values[state], lead), None
                self.cuts[state] = (cycle, lead)

    def back(self, node: int, cell: int) -> tuple[list[Link], int]:
        """The best path to a cell, backwards to where it enters, and the cell it comes from."""
        state, links = self.state[node, cell], list[Link]()
        while (arrow := self.last[state]) is not None:
            links.append(arrow.link)
            state = arrow.start
        entry = self.entries.get(state)
        if entry is not None and entry[0] == self.values[state]:
            return [*links, entry[1]], entry[2]
        cycle, lead = self.cuts[state]
        links.append(replace(cycle[0].link, loop=lead))
        links += [arrow.link for arrow in cycle[1:]]
        way, inner = self._way_in(state, lead)
        return links + way, inner

    def _way_in(self, goal: int, lead: int) -> tuple[list[Link], int]:
        """A shortest path into a state that is best in all components before `lead`, backwards."""

        def alike(value: int, state: int) -> bool:
            unpack = self.objective.unpack
            return unpack(value)[:lead] == unpack(self.values[state])[:lead]

        ways: dict[int, list[Link]] = {goal: []}
        queue = deque([goal])
        while queue:
            state = queue.popleft()
            entry = self.entries.get(state)
            if entry is not None and alike(entry[0], state):
                return [*ways[state], entry[1]], entry[2]
            for arrow in self.incoming[state]:
                if arrow.start not in ways and alike(
                    self.values[arrow.start] + arrow.weight, state
                ):
                    ways[arrow.start] = [*ways[state], arrow.link]
                    queue.append(arrow.start)
        raise AssertionError("a recursion has an entry wherever it has a value")


def common_periods(
    resolved: Resolved, members: Sequence[int], known: dict[int, Vector]
) -> dict[int, Vector]:
    """The periods of the nodes of a recursion, in anchors, given those of what they read."""
    periods = {**known, **{i: resolved.graph.nodes[i].strides for i in members}}
    while True:
        wider = {i: resolved.widen(i, periods.get) for i in members}
        if all(periods[i] == wider[i] for i in members):
            return wider
        for i in members:
            merged = [lcm(a, b) for a, b in zip(periods[i], wider[i], strict=True)]
            periods[i] = tuple(merged)


# ----------------------------------------------------------------------------------- computability

Cycle = list[tuple[Link, tuple[float, ...]]]
"""A cycle's reads in their direction, each with the running sum of its offsets in anchors."""


def uncomputable(objective: Objective) -> list[Cycle] | None:
    """Cycles that no order of computation allows together, None if all recursions are computable.

    `objective` is the key: a recursion along the order of generation needs no search. A recursion
    that takes in a whole prefix along several axes has to run that way.
    """
    resolved = objective.resolved
    for members in resolved.components or ():
        if resolved.recursive(members):
            found = _uncomputable(objective, members)
            if found is not None:
                return found
    return None


def _uncomputable(objective: Objective, members: Sequence[int]) -> list[Cycle] | None:
    resolved = objective.resolved
    periods = common_periods(resolved, members, {})
    states: dict[tuple[int, int], int] = {}
    for i in members:
        for cell in range(resolved.size(i, periods[i])):
            states[i, cell] = len(states)
    by_key: list[list[Arrow]] = [[] for _ in states]
    by_offset: list[list[Arrow]] = [[] for _ in states]
    rays: set[Vector] = set()
    for i in members:
        for number, (source, m) in enumerate(resolved.reads[i]):
            if source not in periods:
                continue
            link = Link(i, number, source, 0)
            edges = objective.edges(m, periods[source], periods[i])
            for cell, pairs in enumerate(edges):
                for inner, weight in pairs:
                    by_key[states[i, cell]].append(Arrow(states[source, inner], weight, link))
            move = resolved.moves[m]
            rays |= _rays(move)
            for cell, inner, offset in _corners(move, periods[source], periods[i]):
                arrow = Arrow(states[source, inner], 0, link, offset)
                by_offset[states[i, cell]].append(arrow)
    forward = _not_negative(by_key)
    if forward is None:
        return None
    if _separate(list(rays), len(resolved.graph.axes)) is None:
        return [[(arrow.link, (inf,) * len(resolved.graph.axes)) for arrow in forward[::-1]]]

    cycles: list[tuple[Vector, Cycle]] = []
    while True:
        weights = [*rays, *(weight for weight, _ in cycles)]
        levels = _separate(weights, len(resolved.graph.axes))
        if levels is None:
            return _fewest(rays, cycles)
        weighted = [
            [replace(a, weight=_dot(levels, a.offset)) for a in arrows] for arrows in by_offset
        ]
        found = _not_negative(weighted)
        if found is None:
            return None
        total, cycle = (0,) * len(levels), Cycle()
        for arrow in reversed(found):
            total = tuple(a + b for a, b in zip(total, arrow.offset, strict=True))
            cycle.append((arrow.link, total))
        if not any(total):
            return [cycle]
        cycles.append((total, cycle))


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
    if most is not None and least is not None:
        return [*point, (most + least) / 2]
    if most is not None:
        return [*point, min(most, Fraction())]
    return [*point, max(least or Fraction(), Fraction())]
