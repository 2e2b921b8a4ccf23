"""Recursions: cycles of reads, and the longest paths through them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import TYPE_CHECKING

from arspec.moves import Resolved, Vector

if TYPE_CHECKING:
    from arspec.nearest import Nearest


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
            cycle, at = list[Arrow](), state
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
