"""Which moment every node is due at: the choice that `arspec.schedule` describes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf

from arspec.graph import ALL, Bound
from arspec.moves import ANY, STAY, Move, Resolved, Taps, Vector, Window
from arspec.nearest import Key, Nearest

Place = tuple[int, int]
"""A node and one of its cells: a phase and a channel group."""


def level_of(key: Key) -> int:
    """The last component that is finite."""
    return (key.index(inf) if inf in key else len(key)) - 1


def slab(key: Key, level: int) -> Key:
    """The end of the slab of that level that a key is in."""
    return key[: level + 1] + (inf,) * (len(key) - level - 1)


# ------------------------------------------------------------------------ conditions that arrive


def arriving(resolved: Resolved) -> tuple[frozenset[int], Resolved]:
    """The inputs that come while drawing, as if each were computed from what is drawn by then."""
    graph = resolved.graph
    moves, reads = list(resolved.moves), list(resolved.reads)
    inputs = {graph.target}
    for node, bound in graph.bounds.items():
        windows = () if node == graph.target else _arrival(resolved, node, bound)
        if windows:
            inputs.add(node)
            source, reader = graph.nodes[graph.target], graph.nodes[node]
            groups = resolved.groups(graph.target), resolved.groups(node)
            moves.append(Move(windows, source.strides, reader.strides, *groups))
            reads[node] = [(graph.target, len(moves) - 1)]
    return frozenset(inputs), replace(resolved, moves=moves, reads=reads)


def _arrival(resolved: Resolved, node: int, bound: Bound) -> tuple[Window, ...]:
    """What of the target is drawn when a condition is known; nothing where it is there at once.

    That is where all of it is known, and where what is known is not relative to its own position.
    """
    order, strides = resolved.order, resolved.graph.nodes[node].strides
    everywhere = (ANY,) * len(strides)
    backwards = any(row[k] < 0 for row in order for k, s in enumerate(strides) if not s)
    if bound.ahead is None or backwards:
        return ()
    if bound.ahead:
        first = resolved.graph.nodes[resolved.graph.target].strides[0]
        if order[0][0] <= 0 or any(order[0][1:]) or not strides[0]:
            return ()
        return (Window((Taps(-inf, -bound.ahead * first - 1), *everywhere[1:]), ALL),)
    own = len(strides) - strides.count(0)
    if not bound.strict and all(strides[:own]) and resolved.graph.raster:
        # When a slab of its axes opens: every position of those before is drawn, none of its own.
        before = (Taps(-inf, -1),)
        return tuple(Window((STAY,) * k + before + everywhere[k + 1 :], ALL) for k in range(own))
    return (Window(everywhere, ALL, (0,) * (len(order) - 1) + (0 if bound.strict else -1,)),)


# ---------------------------------------------------------------------------------- moments


class Planner:
    """Chooses `due` for every cell that the head depends on, from the head backwards.

    `uniform`: one moment for all phases of a node, and slower clocks tick together where that can
    be: with the positions whose anchors theirs are. `fine`: nodes of as fine a level as can be.
    """

    def __init__(
        self,
        run: Nearest,
        inputs: frozenset[int],
        uniform: bool = False,
        fine: frozenset[int] = frozenset(),
    ) -> None:
        self.run, self.inputs, self.uniform, self.fine = run, inputs, uniform, fine
        self.resolved, self.graph = run.resolved, run.resolved.graph
        self.unpack = run.objective.unpack
        nodes = range(len(self.graph.nodes))
        self.held: dict[int, int] = {}  # by node how long after its position opens it waits
        self.phase: dict[Vector, int] = {}  # by strides how far ahead of a position clocks tick
        self.components = self.resolved.components or [[node] for node in nodes]
        self.nearest = [self._nearest(node) for node in nodes]
        self.due: dict[Place, Key | None] = {}
        self._demands: dict[Place, set[tuple[Key, Key]]] = {}
        self._edges: dict[object, list[list[tuple[int, Key]]]] = {}

    def _nearest(self, node: int) -> list[Key | None]:
        cells = self.run.cells(node)
        count = self.resolved.size(node, self.run.period(node))
        return [None if c is None else self.unpack(c) for c in cells or [None] * count]

    def reads(self, node: int, cell: int) -> Iterator[tuple[int, int, Key | None]]:
        """(source, its cell, farthest key offset) for all that a cell reads.

        The offset is None where nothing drawn is read; what is of a slower clock may then be
        another cell than is said.
        """
        if node in self.inputs:
            return
        for source, m in self.resolved.reads[node]:
            if self.run.values[source] is None:
                for inner in range(len(self.nearest[source])):
                    yield source, inner, None
                continue
            for inner, offset in self._pairs(m, self.run.period(source), self.run.period(node))[
                cell
            ]:
                yield source, inner, offset

    def _pairs(self, m: int, source: Vector, reader: Vector) -> list[list[tuple[int, Key]]]:
        kind = (m, source, reader)
        if kind not in self._edges:
            edges = self.run.objective.edges(m, source, reader)
            self._edges[kind] = [[(i, self.unpack(w)) for i, w in pairs] for pairs in edges]
        return self._edges[kind]

    def plan(self) -> None:
        """Chooses; if that is `uniform`, so that clocks of the same strides tick together."""
        self._patiently()
        for strides, phases in sorted(self._phases().items()) if self.uniform else ():
            if len(phases) > 1:
                self._agree(strides, phases)

    def _agree(self, strides: Vector, phases: set[int]) -> None:
        """Chooses again: nodes of these strides at one of their phases, if that can be."""
        for phase in sorted(phases):
            self.phase[strides] = phase
            with suppress(ValueError):
                self._patiently()
                if len(self._phases()[strides]) == 1:
                    return
        self.phase[strides] = 0
        self._patiently()

    def _phases(self) -> dict[Vector, set[int]]:
        """At which positions nodes of slower clocks are evaluated, by their strides."""
        found: dict[Vector, set[int]] = {}
        for (node, _), due in self.due.items():
            strides = self.graph.nodes[node].strides
            if due is not None and level_of(due) == 0 and strides and strides[0] > 1:
                found.setdefault(strides, set()).add(int(-due[0] - 1) % strides[0])
        return found

    def _patiently(self) -> None:
        """Chooses, again if readers can wait for nodes that would come too early for them."""
        self._plan()
        while self.uniform:
            before = dict(self.held)
            for node, until in self._hasty().items():
                self.held[node] = max(before.get(node, 0), until)
            if self.held == before:
                return
            self._plan()

    def _hasty(self) -> dict[int, int]:
        """What reads along an inner axis what has to come early for it, and how long it can wait.

        If it looks ahead, a slab that opens would have to begin with positions before its first; a
        slower clock would tick between two positions of its own.
        """
        found: dict[int, int] = {}
        for reader, cell in self.due if self.run.objective.digits > 1 else ():
            due = self.due[reader, cell]
            for source, inner, offset in self.reads(reader, cell):
                theirs = self.due.get((source, inner))
                if due is None or theirs is None or offset is None or source in self.inputs:
                    continue
                level = level_of(theirs)
                if level == 0 or level_of(due) != level or any((*theirs[:level], *due[:level])):
                    continue
                early, strides = int(-1 - theirs[level]), self.graph.nodes[source].strides
                by = early if early > 0 else early % (strides[level : level + 1] or (1,))[0]
                if by and _latest(due, offset, level) < _later(theirs, level, by):
                    demands = self._demands[reader, cell]
                    later = _later(due, level, by)
                    if all(later <= _latest(*demand, level) for demand in demands):
                        found[reader] = max(found.get(reader, 0), int(later[level]) + 1)
        return found

    def _plan(self) -> None:
        self.due.clear()
        self._demands.clear()
        digits = self.run.objective.digits
        before = (0,) * (digits - 1) + (-1,)  # everything earlier than the position itself
        here = (0,) * digits
        for cell in range(len(self.nearest[self.graph.head])):
            self._demands[self.graph.head, cell] = {(before, here)}
        for members in reversed(self.components):
            self._settle(members)

    def _settle(self, members: Sequence[int]) -> None:
        """Choose for one node, or for all of a recursion together."""
        inside = set(members)
        known = self._demands
        alive = [(i, c) for i in members for c in range(len(self.nearest[i])) if (i, c) in known]
        inner: list[tuple[Place, Place, Key]] = []  # reader, source, offset
        for place in alive:  # grows on the way
            for source, cell, offset in self.reads(*place):
                if source in inside:
                    if (source, cell) not in known:
                        known[source, cell] = set()
                        alive.append((source, cell))
                    if offset is not None and self.nearest[source][cell] is not None:
                        inner.append((place, (source, cell), offset))
        eager = self._coarsen(alive, inner)
        if self.uniform:
            self._unify(alive, eager)
        self._delay(alive, inner, eager)
        self._align(alive)
        for place in alive:
            due = self.due[place]
            for source, cell, offset in self.reads(*place):
                if source not in inside:
                    demands = known.setdefault((source, cell), set())
                    if due is not None and offset is not None:
                        demands.add((due, offset))

    def _coarsen(
        self, alive: Sequence[Place], inner: Sequence[tuple[Place, Place, Key]]
    ) -> dict[Place, Key]:
        """The earliest moments, each at the coarsest level that all readers can wait for."""
        eager = {}
        for place in alive:
            nearest = self.nearest[place[0]][place[1]]
            if nearest is None:
                continue
            if place[0] in self.inputs or place[0] in self.fine:
                eager[place] = nearest
                continue
            demands = self._demands[place]
            level = max((_coarsest(nearest, o, due) for due, o in demands), default=0)
            eager[place] = slab(nearest, level)
        changed = bool(inner)
        while changed:
            changed = False
            for reader, source, offset in inner:
                nearest = self.nearest[source[0]][source[1]]
                assert nearest is not None
                level = _coarsest(nearest, offset, eager[reader])
                if level > level_of(eager[source]):
                    finer = slab(nearest, level)
                    changed |= finer != eager[source]
                    eager[source] = finer
        return eager

    def _unify(self, alive: Sequence[Place], eager: dict[Place, Key]) -> None:
        """All phases of a node at the level of the finest, as soon as the last of them is ready."""
        for alike in self._alike(alive, eager):
            level = max(level_of(eager[place]) for place in alike if place in eager)
            known = [self.nearest[node][cell] for node, cell in alike]
            latest = slab(max(key for key in known if key is not None), level)
            eager.update(dict.fromkeys(alike, latest))

    def _alike(self, places: Iterable[Place], eager: Container[Place]) -> list[list[Place]]:
        """Those that are evaluated while drawing, by node and channel group."""
        found: dict[Place, list[Place]] = {}
        for node, cell in places:
            if node not in self.inputs:
                found.setdefault((node, cell % self.resolved.groups(node)), []).append((node, cell))
        return [alike for alike in found.values() if any(place in eager for place in alike)]

    def _delay(
        self,
        alive: Sequence[Place],
        inner: Sequence[tuple[Place, Place, Key]],
        eager: dict[Place, Key],
    ) -> None:
        """Not before the own slab opens, unless a reader needs it sooner."""
        for place in alive:
            due: Key | None = eager.get(place)
            if due is not None and place[0] not in self.inputs:
                level = level_of(due)
                held = self.held.get(place[0], 0)
                opening = (0,) * level + (held - 1,) + (inf,) * (len(due) - level - 1)
                due = max(due, opening)
                for demand, offset in self._demands[place]:
                    due = min(due, _latest(demand, offset, level))
            self.due[place] = due
        if self.uniform:
            self._wait(alive, inner, eager)
        changed = bool(inner)
        while changed:
            changed = False
            for reader, source, offset in inner:
                theirs, own = self.due[reader], self.due[source]
                assert theirs is not None  # since both depend on what is drawn
                assert own is not None
                sooner = _latest(theirs, offset, level_of(eager[source]))
                if sooner < own:
                    self.due[source], changed = sooner, True
            changed |= self.uniform and self._level_out(alive, eager)

    def _wait(
        self,
        alive: Sequence[Place],
        inner: Sequence[tuple[Place, Place, Key]],
        eager: dict[Place, Key],
    ) -> None:
        """A slower clock ticks with a position of its own: later or, if one cannot wait, sooner.

        If neither can be, it ticks with what reads it last.
        """
        self._level_out(alive, eager)
        recursion = inner and len({node for node, _ in alive}) > 1
        for alike in () if recursion else self._alike(alive, eager):
            due, level = self.due[alike[0]], level_of(eager[alike[0]])
            stride = self.graph.nodes[alike[0][0]].strides[level : level + 1]
            if due is None or not stride or stride[0] < 2:
                continue
            phase = 0 if level else self.phase.get(self.graph.nodes[alike[0][0]].strides, 0)
            by = (-due[level] - 1 - phase) % stride[0]
            later, sooner = _later(due, level, by), _later(due, level, by - stride[0])
            demands = [demand for place in alike for demand in self._demands[place]]
            latest = min((_latest(*demand, level) for demand in demands), default=due)
            if later <= latest:
                self.due.update(dict.fromkeys(alike, later))
            elif sooner >= eager[alike[0]]:
                self.due.update(dict.fromkeys(alike, sooner))
            elif any((latest[level] - theirs[level]) % stride[0] == 0 for theirs, _ in demands):
                self.due.update(dict.fromkeys(alike, latest))  # at a reader's tick

    def _level_out(self, alive: Sequence[Place], eager: dict[Place, Key]) -> bool:
        """One moment for all phases, the earliest of them; whether that changed any."""
        changed = False
        for alike in self._alike(alive, eager):
            dues = [due for place in alike if (due := self.due[place]) is not None]
            earliest = min(dues)
            if earliest < eager[alike[0]]:
                raise ValueError("no moment suits all phases of a node")
            changed |= any(due != earliest for due in dues)
            self.due.update(dict.fromkeys(alike, earliest))
        return changed

    def _align(self, alive: Sequence[Place]) -> None:
        """The first channel opens when its position does: say it as the other channels do."""
        last = self.run.objective.digits - 1
        for node, cell in alive:
            due, groups = self.due[node, cell], self.resolved.groups(node)
            if due is not None and groups > 1 and cell % groups == 0 and level_of(due) == last - 1:
                others = [self.due.get((node, cell + g)) for g in range(1, groups)]
                if any(other is not None and level_of(other) == last for other in others):
                    self.due[node, cell] = (*due[: last - 1], due[last - 1] + 1, -1)


def _later(due: Key, level: int, by: float) -> Key:
    """The same by so much later at a level."""
    return (*due[:level], due[level] + by, *due[level + 1 :])


def _coarsest(nearest: Key, offset: Key, due: Key) -> int:
    """The coarsest level at which the offset leads no farther than `due`."""
    total = tuple(a + b for a, b in zip(nearest, offset, strict=True))
    for level in range(len(total)):
        if slab(total, level) <= due:
            return min(level, level_of(nearest))
    raise ValueError("the graph is not causal")


def _latest(due: Key, offset: Key, level: int) -> Key:
    """The latest moment of that level from which `offset` leads no farther than `due`."""
    free, end = level_of(offset) + 1, level_of(due) + 1
    count = min(free, end)
    latest = [d - o for d, o in zip(due[:count], offset, strict=False)]
    if free < end or level + 1 < count:  # the slab it falls in is not complete by then
        del latest[level + 1 :]
        latest[-1] -= 1
    return (*latest, *(inf,) * (len(due) - len(latest)))
