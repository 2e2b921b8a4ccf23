"""How far every node looks: the longest paths over the dependency graph.

For a node v and a phase, ``nearest(v, phase)`` is the lexicographic maximum, over all x[q] that v
at i can depend on, of ``key(q) - key(anchor(i))``. In an ordered group the maximum of a Minkowski
sum is the sum of the maxima, hence one maximum per read and phase is exact.

A key is packed into one integer, a digit per component, so that the order of integers is the
lexicographic order of keys, and sums of integers are sums of keys.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import product
from math import inf, lcm

from arspec.moves import Move, Resolved, Rows, Vector, Window, phases
from arspec.recursion import Link, Recursion

Key = tuple[float, ...]

Value = int | list[int] | None
"""What is known of a node: an integer per cell, i.e. phase and channel group; a plain one if there
is just one cell; None if the node does not depend on the input."""


class Objective:
    """What to maximise: a linear map of offsets to tuples, compared lexicographically.

    `rows` maps an offset to the tuple; with `channel`, the channel's offset is a last component.
    """

    def __init__(self, resolved: Resolved, rows: Rows, channel: bool = False) -> None:
        self.resolved, self.rows, self.channel = resolved, rows, channel
        self.digits = len(rows) + channel
        self._size_digits()
        axes = range(len(resolved.graph.axes))
        self._columns = [self.pack([row[k] for row in rows]) for k in axes]
        self._leads = [next((r for r, row in enumerate(rows) if row[k]), None) for k in axes]
        self._edges: dict[tuple[int, Vector, Vector], list[list[tuple[int, int]]]] = {}

    def _size_digits(self) -> None:
        """Make digits so wide that no path overflows one, and infinity more than any finite sum."""
        graph, windows = self.resolved.graph, [p for m in self.resolved.moves for p in m.windows]
        period = lcm(*{s for node in graph.nodes for s in node.strides if s})
        ends = {abs(end) for p in windows for taps in p.taps for end in (taps.lo, taps.hi)}
        offset = int(max(ends - {inf}, default=0)) + 2 * period
        scale = max((sum(map(abs, row)) for row in self.rows), default=0)
        cap = max((abs(x) for window in windows for x in window.cap or ()), default=0)
        states: int = (len(graph.nodes) + 1) * period ** len(graph.axes) * graph.channels
        self.infinite = 1 << ((offset * scale + cap + graph.channels) * states).bit_length() + 1
        self.bits = (self.infinite * states).bit_length() + 2
        self.dead = -1 << self.bits * (self.digits + 1)  # and so is any sum below half of it

    def pack(self, spatial: Sequence[int], channel: int = 0) -> int:
        """The integer of a tuple of finite components."""
        packed = 0
        for component in (*spatial, channel) if self.channel else spatial:
            packed = (packed << self.bits) + component
        return packed

    def unpack(self, packed: int) -> Key:
        """The tuple of an integer; what follows an infinite component is given as infinite too."""
        digits, half = [], 1 << (self.bits - 1)
        for _ in range(self.digits):
            digit = (packed + half) % (2 * half) - half
            digits.append(digit)
            packed = (packed - digit) >> self.bits
        out: list[float] = []
        for digit in reversed(digits):
            out.append(inf if digit >= self.infinite >> 1 or inf in out[-1:] else digit)
        return tuple(out)

    def infinite_from(self, packed: int, lead: int) -> int:
        """`packed`, infinite from component `lead` on; the same integer for equal tuples."""
        below = self.bits * (self.digits - lead)
        above = packed + (1 << below - 1) >> below  # the components before it, rounded
        return (above << below) + (self.infinite << below - self.bits)

    def canonical(self, packed: int) -> int:
        """One and the same integer for equal tuples."""
        key = self.unpack(packed)
        return self.infinite_from(packed, key.index(inf)) if inf in key else packed

    def plain(self, m: int) -> int | None:
        """The weight of a move between nodes of one cell each, None if it makes more of them."""
        move = self.resolved.moves[m]
        if move.source_groups * move.reader_groups > 1:
            return None
        if any(s and r % s for s, r in zip(move.source, move.reader, strict=True)):
            return None
        (pairs,) = self.edges(m, move.source, move.reader)
        return pairs[0][1] if pairs else self.dead

    def edges(self, m: int, source: Vector, reader: Vector) -> list[list[tuple[int, int]]]:
        """For each cell of the reader: the cells of the source that it reads, with the weights.

        `source` and `reader` are the periods of the two, in anchors.
        """
        kind = (m, source, reader)
        if kind not in self._edges:
            self._edges[kind] = self._expand(self.resolved.moves[m], source, reader)
        return self._edges[kind]

    def _expand(self, move: Move, source: Vector, reader: Vector) -> list[list[tuple[int, int]]]:
        sizes, counts = phases(source, move.source), phases(reader, move.reader)
        cells = list(product(*map(range, counts)))
        best: list[dict[int, int]] = [{} for _ in range(len(cells) * move.reader_groups)]
        for window in move.windows:
            tables = [
                [self._along(window, move, k, j, source[k]) for j in range(count)]
                for k, count in enumerate(counts)
            ]
            start = self.pack(window.cap or ()) if self._capped(window) else 0
            for index, cell in enumerate(cells):
                reads = [(0, start)]
                for table, j, size in zip(tables, cell, sizes, strict=True):
                    reads = [(c * size + d, w + v) for c, w in reads for d, v in table[j]]
                for group in range(move.reader_groups):
                    into = best[index * move.reader_groups + group]
                    for g in move.groups_read(window.groups, group):
                        later = (g - group) * self.channel
                        for c, w in reads:
                            at = c * move.source_groups + g
                            into[at] = max(into.get(at, w + later), w + later)
        return [list(into.items()) for into in best]

    def _along(
        self, window: Window, move: Move, axis: int, phase: int, period: int
    ) -> list[tuple[int, int]]:
        """Along one axis: the phases of the source that are read, and what they can contribute."""
        column, lead, stride = self._columns[axis], self._leads[axis], move.source[axis]
        found: dict[int, int] = {}
        for residue, lo, hi in window.taps[axis].meets(move.reader[axis] * phase, stride, period):
            end = hi if column > 0 else lo
            if abs(end) < inf:
                weight = int(end) * column
            elif lead is None or self._capped(window):
                weight = 0
            else:
                weight = self.infinite << self.bits * (self.digits - 1 - lead)
            at = residue // stride if stride else 0
            found[at] = max(found.get(at, weight), weight)
        return list(found.items())

    def _capped(self, window: Window) -> bool:
        return window.cap is not None and self.rows == self.resolved.order


class Nearest:
    """The longest paths from one input to every node, under one objective."""

    def __init__(self, objective: Objective, start: int) -> None:
        resolved = objective.resolved
        self.resolved, self.objective, self.start = resolved, objective, start
        self.values: list[Value] = [None] * len(resolved.graph.nodes)
        self.periods: dict[int, Vector] = {}  # of the nodes that have more than one cell
        self.recursions: dict[int, Recursion] = {}
        # x[q] of a group sits at its channel, as the group does; without groups, up to the last one
        groups, last = resolved.groups(start), resolved.graph.channels - 1
        self.values[start] = [0] * groups if groups > 1 else last * objective.channel
        self._run()

    def _run(self) -> None:
        values, start, dead = self.values, self.start, self.objective.dead >> 1
        plain = [self.objective.plain(m) for m in range(len(self.resolved.moves))]
        for node in self._topological():
            if node == start:
                continue
            best = dead
            for source, m in self.resolved.reads[node]:
                value = values[source]
                if value is None:
                    continue
                weight = plain[m]
                if weight is None or value.__class__ is list:
                    self._cell_by_cell(node)
                    break
                total = value + weight  # type: ignore[operator]
                if total > best:
                    best = total
            else:
                if best > dead:
                    values[node] = best

    def _topological(self) -> Iterator[int]:
        """Every node after those that it reads; recursions are solved on the way."""
        if self.resolved.components is None:
            yield from range(len(self.values))
            return
        for members in self.resolved.components:
            if self.resolved.recursive(members):
                Recursion(self, members).solve()
            else:
                yield members[0]

    def _cell_by_cell(self, node: int) -> None:
        """A node with phases or channel groups."""
        live = self.values
        period = self.resolved.widen(node, lambda s: None if live[s] is None else self.period(s))
        self.periods[node] = period
        cells = [self.objective.dead] * self.resolved.size(node, period)
        for source, m in self.resolved.reads[node]:
            value = self.values[source]
            if value is None:
                continue
            inputs = value if isinstance(value, list) else [value]
            edges = self.objective.edges(m, self.period(source), period)
            for cell, pairs in enumerate(edges):
                for inner, weight in pairs:
                    if (total := inputs[inner] + weight) > cells[cell]:
                        cells[cell] = total
        self.store(node, cells)

    def store(self, node: int, cells: list[int]) -> None:
        """Set a node's value."""
        if max(cells) > self.objective.dead >> 1:
            self.values[node] = cells[0] if len(cells) == 1 else cells

    def period(self, node: int) -> Vector:
        """After how many anchors, per axis, a node's values repeat."""
        return self.periods.get(node) or self.resolved.graph.nodes[node].strides

    def cell(self, node: int, cell: int) -> int:
        """The value of a cell of a node that depends on the input."""
        value = self.values[node]
        return value[cell] if isinstance(value, list) else value or 0

    def cells(self, node: int) -> list[int | None]:
        """The node's values, cell by cell; None where nothing of the input is read."""
        value = self.values[node]
        cells = value if isinstance(value, list) else [] if value is None else [value]
        return [c if c > self.objective.dead >> 1 else None for c in cells]

    def incoming(
        self, node: int, live: Container[int] = ()
    ) -> Iterator[tuple[int, int, int, int, int]]:
        """(cell, source, its cell, weight, number of the read) for all that a node reads.

        Only sources that depend on the input count, and those that are said to be `live`.
        """
        period = self.period(node)
        for number, (source, m) in enumerate(self.resolved.reads[node]):
            if self.values[source] is not None or source in live:
                edges = self.objective.edges(m, self.period(source), period)
                for cell, pairs in enumerate(edges):
                    for inner, weight in pairs:
                        yield cell, source, inner, weight, number

    def witness(self, node: int, cell: int) -> tuple[list[tuple[Link, int]], int]:
        """A path from the input to that cell that attains its value, and where its sum starts.

        The path has each read with the sum after it.
        """
        links: list[Link] = []
        while node != self.start:
            if node in self.recursions:
                way, cell = self.recursions[node].back(node, cell)
                links += way
            else:
                link, cell = self._tight(node, cell)
                links.append(link)
            node = links[-1].source
        start = total = self.cell(node, cell)
        path = []
        for link in reversed(links):
            total += link.weight
            if link.loop is not None:
                total = self.objective.infinite_from(total, link.loop)
            path.append((link, total))
        return path, start

    def _tight(self, node: int, cell: int) -> tuple[Link, int]:
        """A read that a cell's value comes from, and the cell that is read."""
        value, period = self.cell(node, cell), self.period(node)
        for number, (source, m) in enumerate(self.resolved.reads[node]):
            if self.values[source] is not None:
                for inner, weight in self.objective.edges(m, self.period(source), period)[cell]:
                    if self.cell(source, inner) + weight == value:
                        return Link(node, number, source, weight), inner
        raise AssertionError("every value comes from a read")
