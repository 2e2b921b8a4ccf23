"""Program and schedule together: which lines a sampler's step evaluates, and what layers keep.

The schedule says when every node is due. Here it meets the lines of the program, block by block:
a line belongs to the loop of its nodes, the finest loop is the step itself, and what belongs to a
coarser one is settled when that loop moves on. An *offset* is where a node stands relative to the
position that is drawn: (0,) the open row, (0, -1) the pixel before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, prod

from arspec.classes import BlockClass
from arspec.graph import ALL, PAST, Box, Read, Stencil, Sweep
from arspec.marks import marked, parts, whole
from arspec.model import Model, TermModel
from arspec.names import local
from arspec.nearest import Key
from arspec.program import Instance, ProgramLine
from arspec.schedule import Entry, Schedule, schedule
from arspec.values import channel_runs, layout_text

Offset = tuple[int, ...]
ONCE = -1
FREE = -2
"""The loop of tables and learned numbers: they are read wherever they are needed."""


class Unplanned(Exception):
    """The emitted sampler has no form for this: it evaluates every position from the start."""


@dataclass(frozen=True)
class Clock:
    """A slower clock: number i ticks at position ``every * i - ahead``, per axis."""

    every: Offset
    ahead: Offset

    @classmethod
    def along(cls, axes: int) -> Clock:
        """That of what has the first axes alone: it ticks when the last of them moves on."""
        return cls((1,) * axes, (0,) * axes)

    def within(self, base: Clock) -> Clock:
        """The same, counted in ticks of a finer clock."""
        pairs = list(zip(self.every, base.every, strict=False))
        leads = [a - b for a, b in zip(self.ahead, base.ahead, strict=False)]
        if (
            len(pairs) < len(self.every)
            or any(e % b for e, b in pairs)
            or any(a % b for a, (_, b) in zip(leads, pairs, strict=False))
        ):
            raise Unplanned("clocks that tick apart")
        every = tuple(e // b for e, b in pairs)
        return Clock(every, tuple(a // b for a, (_, b) in zip(leads, pairs, strict=False)))

    def outside(self, base: Clock | None) -> Clock:
        """The same, counted in positions drawn, if it was in ticks of a finer clock."""
        if base is None:
            return self
        every = tuple(e * b for e, b in zip(self.every, base.every, strict=False))
        ahead = zip(self.ahead, base.every, base.ahead, strict=False)
        return Clock(every, tuple(a * b + c for a, b, c in ahead))


FINER = Clock((), ())
"""Seen from a block that is called at the ticks of one: every position."""


@dataclass(frozen=True)
class When:
    """When a node is evaluated: its loop (`ONCE`, `FREE`) and where it stands then.

    `clock`: the slower one whose ticks these are loops over, None for every position drawn. The
    offset is in positions of the node's own.
    """

    loop: int
    offset: Offset = ()
    clock: Clock | None = None

    @property
    def pace(self) -> tuple[int, int]:
        """The larger, the finer its clock, or of the same clock its loop."""
        return -prod(self.clock.every if self.clock else ()), self.loop

    def finer(self, other: When) -> bool:
        """Whether it is evaluated more often: several times in a round of the other."""
        return (self.loop, self.pace) > (other.loop, other.pace)

    @property
    def lead(self) -> Offset:
        """How far ahead of the position drawn it stands, in positions of what is drawn."""
        if self.clock is None:
            return self.offset
        paired = zip(self.offset, self.clock.every, self.clock.ahead, strict=False)
        return tuple(o * every + ahead for o, every, ahead in paired)

    def apart(self, other: When) -> bool:
        """Whether both are evaluated while drawing, at ticks of different clocks."""
        return self.loop >= 0 and other.loop >= 0 and self.clock != other.clock

    def within(self, base: Clock | None) -> When:
        """The same, seen from a block that is called at every tick of a clock."""
        if self.loop < 0 or base is None:
            return self
        if self.clock is None:
            return replace(self, clock=FINER)
        inner = None if self.clock == base else self.clock.within(base)
        return replace(self, clock=inner)


@dataclass(frozen=True)
class Use:
    """One use of a block: the path of its lines, and the nodes that its names stand for.

    `base`: the finest clock of what it computes and reads, at every tick of which it is called.
    """

    path: str
    nodes: dict[str, int | None]
    base: Clock | None = None


@dataclass(frozen=True)
class Keeping:
    """Of a layer that keeps something: where its newest input and output stand.

    `clock`: that of its input, where it keeps it.
    """

    source: Offset
    output: Offset
    clock: Clock | None = None


@dataclass
class Plan:
    """`kept`: what every layer keeps, by its path.

    `layouts`: of some of them the channels of the features of its input, as a text. `stages`: by
    class and line, where the lines of a recursion by equation stand if not at one place.
    """

    term: TermModel
    schedule: Schedule
    finest: int
    inputs: int  # how many nodes are variables
    arriving: dict[str, Offset]  # the conditions among them that come with the steps
    whens: dict[int, When] = field(default_factory=dict)
    uses: dict[int, list[Use]] = field(default_factory=dict)  # by class
    kept: dict[str, Keeping] = field(default_factory=dict)
    layouts: dict[str, str] = field(default_factory=dict)
    stages: dict[tuple[int, str], tuple[int, ...]] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    cycles: set[tuple[int, int]] = field(default_factory=set)  # reads inside recursions
    given: dict[str, int] = field(default_factory=dict)  # layers and what they read, once
    aligned: dict[str, Offset] = field(default_factory=dict)  # where layers want their input
    whole: set[int] = field(default_factory=set)  # layers of channels that need keep nothing
    slabs: set[int] = field(default_factory=set)  # nodes with all channels of a slab at once
    later: set[int] = field(default_factory=set)  # nodes that are evaluated later than they are due

    @property
    def lead(self) -> int:
        """How far ahead of the position drawn anything is evaluated."""
        found = [when.lead[0] for when in self.whens.values() if when.offset]
        return max([0, *found])

    @property
    def clocks(self) -> list[Clock]:
        """All clocks but that of the positions drawn, the finest first."""
        whens = [when.clock for when in self.whens.values()]
        found = {c for c in (*whens, *(k.clock for k in self.kept.values())) if c is not None}
        return sorted(found, key=lambda clock: (prod(clock.every), clock.every, clock.ahead))

    def drawn(self, one: BlockClass) -> bool:
        """Whether anything in a class depends on what is drawn, in any of its uses."""
        for use in self.uses.get(id(one), ()):
            for name in self._below(use.path.removesuffix("."), True) if use.path else self.ids:
                when = self.whens.get(self.ids[name])
                if when is not None and when.loop >= 0:
                    return True
        return False

    def when(self, one: BlockClass, name: str) -> When | None:
        """When the value of a name is evaluated, in all uses of its class; None if dead."""
        found = {
            self.whens[node].within(use.base)
            for use in self.uses[id(one)]
            if (node := use.nodes.get(name)) in self.whens
        }
        return self._one(found, name)

    def nodes(self, one: BlockClass, name: str) -> list[int]:
        """The nodes that a name stands for, one per use."""
        return [n for use in self.uses[id(one)] if (n := use.nodes.get(name)) is not None]

    def of_node(self, one: BlockClass, relative: str) -> When | None:
        """The same for the node of that name below each use."""
        found = {
            self.whens[node].within(use.base)
            for use in self.uses[id(one)]
            if (node := self.ids.get(use.path + relative)) in self.whens
        }
        return self._one(found, relative)

    def keep(self, module: str, source: int, places: Keeping) -> None:
        """Note where a layer that keeps values of a node stands, and what it has to be told."""
        self.kept[module] = places
        features, channels = self.term.infos[source].features, self.term.graph.channels
        single = max(map(len, (places.source, places.output))) > len(self.term.graph.axes)
        if features.runs is not None and single:
            plain = features.runs == channel_runs(features.width, channels)
            if not plain or features.width % channels:
                self.layouts[module] = layout_text(features.runs, channels)

    def _one(self, found: set[When], name: str) -> When | None:
        drawn = {when for when in found if when.loop >= 0}
        if len({(when.loop, when.clock) for when in drawn}) > 1:
            raise Unplanned(f"`{name}` belongs to different loops")
        if len(drawn) > 1:  # a stack whose layers look ahead: each has an offset of its own
            return replace(drawn.pop(), offset=())
        return next(iter(drawn or found), None)

    def late(
        self,
        one: BlockClass,
        name: str,
        line: ProgramLine,
        place: Offset = (),
        part: str | None = None,
        layer: str = "",
    ) -> list[tuple[str, int, Keeping]]:
        """Per use the node of a name, or the node `part` of a line, where it stands and where the
        node that reads it does, unless that is at the same place.

        `place`: of the lines of a recursion those that stand there are meant. `layer`: the one that
        reads it, which may want it at another place than its own.
        """
        relative = self.term.graph.nodes[line.node].name.removeprefix(one.first.path)
        found = []
        for use in self.uses[id(one)]:
            source = use.nodes.get(name) if part is None else self.ids.get(use.path + part)
            readers = [relative, *(n for own in line.cycle for n in _parts_of(self, use.path, own))]
            known = [self._reader(use.path + name, source) for name in readers]
            reader = next((r for r in known if r is not None and self._stands(r, place)), None)
            if source in self.whens and source is not None and reader is not None:
                theirs, mine = self.whens[source], self.whens[reader]
                if theirs.loop >= mine.loop >= 0 and theirs.clock == mine.clock:
                    output = self.aligned.get(use.path + layer, mine.offset)
                    places = Keeping(theirs.offset, output, self.clock_of(source))
                    found.append((use.path, source, places))
                    if places.source != places.output:
                        self.check_grid(source)
        return found if any(kept.source != kept.output for *_, kept in found) else []

    def _stands(self, node: int, place: Offset) -> bool:
        return not place or self.whens[node].offset == place

    def outer(self, node: int) -> int:
        """How many axes a node has, if it has the first ones alone, that of its loop among them.

        Else 0: then it has all axes, or it keeps nothing.
        """
        grid, when = self.term.infos[node].grid, self.whens[node]
        first = [(axis, 1) for axis in self.term.frame.axes[: len(grid)]]
        alone = when.clock is None and 0 <= when.loop < len(grid) and list(grid) == first
        return len(grid) if alone and len(grid) < len(self.term.frame.axes) else 0

    def clock_of(self, node: int) -> Clock | None:
        """The clock of what layers keep of a node: with fewer axes, one that moves along these."""
        axes = self.outer(node)
        return Clock.along(axes) if axes else self.whens[node].clock

    def check_grid(self, node: int) -> None:
        """What caches keep of a node lies on the whole grid, or along its first axes."""
        axes, clock = self.term.frame.axes, self.clock_of(node)
        if clock is not None:
            axes = axes[: len(clock.every)]
        if [axis for axis, _ in self.term.infos[node].grid] != list(axes):
            raise Unplanned("a window along some of the axes")

    def _reader(self, name: str, source: int | None) -> int | None:
        """The node of that name that reads a source, or of the chain that ends in it."""
        line, _, last = name.rpartition(".")
        chain = [f"{line}.{i}" for i in range(int(last))] if last.isdecimal() else []
        for node in [self.ids[n] for n in (name, *chain) if n in self.ids]:
            reads = self.term.graph.nodes[node].reads
            if node in self.whens and any(read.source == source for read in reads):
                return node
        return None

    def line(self, one: BlockClass, line: ProgramLine) -> When | None:
        """When a line is evaluated: all of its nodes but those that are hoisted out of it."""
        found: set[When] = set()
        apart = set(parts("\n".join([*line.before, line.code])))
        for use in self.uses[id(one)]:
            for name in self.own(use, line):
                if self.ids[name] in self.whens and name.removeprefix(use.path) not in apart:
                    found.add(self.whens[self.ids[name]].within(use.base))
            for target in line.use.carried if line.use is not None else ():  # it may be passed on
                if (node := use.nodes.get(target)) in self.whens:
                    found.add(self.whens[node].within(use.base))
        loops = {(when.loop, when.clock) for when in found if when.loop >= 0}
        if line.use is not None and loops:
            return When(max(loop for loop, _ in loops), clock=self._called(one, line))
        if len(loops) > 1:
            raise Unplanned(f"`{line.name}` belongs to different loops")
        main = {when for when in found if when.loop >= 0} or found
        if len(main) > 1:
            once = {when.loop for when in main} == {ONCE, FREE}
            return When(ONCE) if once else replace(next(iter(main)), offset=())
        return next(iter(main), None)

    def _called(self, one: BlockClass, line: ProgramLine) -> Clock | None:
        """At which clock's ticks a block is called, seen from the one that calls it."""
        assert line.use is not None
        child = one.children[line.use.attribute]
        found = {
            When(0, clock=inner.base).within(use.base).clock
            for use in self.uses[id(one)]
            for inner in self.uses[id(child)]
            if inner.path.startswith(f"{use.path}{line.use.attribute}.")
        }
        if len(found) > 1:
            raise Unplanned("a block that is called at ticks of different clocks")
        return next(iter(found), None)

    def own(self, use: Use, line: ProgramLine) -> Iterator[str]:
        """The names of the nodes of a line."""
        for name in line.nodes or (line.name,):
            yield from self._below(f"{use.path}{name}", line.use is not None)

    def _below(self, own: str, block: bool) -> Iterator[str]:
        if own in self.ids and not block:
            yield own
        yield from self._children.get(own, ())

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        tree: dict[str, list[str]] = {}
        for name in self.ids:
            parts = name.split(".")
            for k in range(1, len(parts)):
                tree.setdefault(".".join(parts[:k]), []).append(name)
        return tree


def _moments(model: Model, term: TermModel, arriving: Mapping[str, Offset], even: bool) -> Plan:
    """When every node is evaluated. `arriving`: the conditions that come with the steps.

    `even`: what is repeated has the loop of what comes into it, in every repetition.
    """
    made = _timed(model, term, arriving, frozenset())
    if not even:
        return made
    fine = _as_fine_as_what_comes_in(made)
    if not fine:
        raise Unplanned("repetitions that are even already")
    return _timed(model, term, arriving, fine)


def _timed(
    model: Model, term: TermModel, arriving: Mapping[str, Offset], fine: frozenset[int]
) -> Plan:
    graph, names = term.graph, list(model.variables)
    if not graph.raster or term.delayed:
        raise Unplanned("an order by sums of axes")
    limited = {graph.target, *(names.index(name) for name in arriving)}
    bounds = {node: bound for node, bound in graph.bounds.items() if node in limited}
    try:
        made = schedule(replace(graph, bounds=bounds), True, fine)
    except ValueError as reason:
        raise Unplanned(str(reason)) from reason
    come = {k: o for k, o in arriving.items() if made.entries_of(names.index(k))}
    result = Plan(term, made, len(made.levels) - 1, len(names), come)
    result.ids = {node.name: i for i, node in enumerate(graph.nodes)}
    # Those that stood in for later lines of a recursion have the names of these, and are dead.
    live = {node.name: i for i, node in enumerate(graph.nodes) if made.entries_of(i)}
    result.ids.update(live)
    twice = sum(bool(made.entries_of(i)) for i in range(len(graph.nodes))) != len(live)
    if twice:
        raise Unplanned("nodes of the same name")
    _settle_whens(result)
    return result


def _as_fine_as_what_comes_in(result: Plan) -> frozenset[int]:
    """In repetitions, what depends on a finer loop than its own."""
    nodes, whens, found = result.term.graph.nodes, result.whens, set[int]()
    for path in _repeated(result.term.root, ""):
        inside = [i for i in whens if nodes[i].name.startswith(path) and whens[i].loop >= 0]
        for i in inside:
            own = {read.source for read in nodes[i].reads} - {i}
            came = [whens[k] for k in own if k in whens]
            finer = any(w.loop > whens[i].loop and w.clock == whens[i].clock for w in came)
            if finer or own & found:
                found.add(i)
    return frozenset(found)


def _repeated(instance: Instance, path: str) -> Iterator[str]:
    """The paths of repetitions."""
    for use in (line.use for line in instance.lines if line.use is not None):
        if use.repeat is not None:
            yield f"{path}{use.attribute}."
            continue
        for call in use.calls:
            yield from _repeated(call.instance, f"{path}{use.attribute}.")


def loops(
    model: Model, term: TermModel, arriving: Mapping[str, Offset], even: bool
) -> dict[int, object]:
    """By the id of an instance the loops of its lines, and what they are given, in all its uses."""
    result = _moments(model, term, arriving, even)
    found: dict[int, set[object]] = {}

    def given(node: int) -> tuple[int, ...]:
        """Which of its reads are there from the start."""
        reads = enumerate(term.graph.nodes[node].reads)
        return tuple(k for k, read in reads if result.whens[read.source].loop < 0)

    def visit(instance: Instance, path: str) -> None:
        base = _base(result, path)
        names = result._below(path.removesuffix("."), True) if path else ()
        whens = {name: result.whens.get(result.ids[name]) for name in names}
        found.setdefault(id(instance), set()).add(
            tuple(
                (name.removeprefix(path), seen.loop, seen.clock, given(result.ids[name]))
                for name, when in whens.items()
                if when is not None and when.loop >= 0 and (seen := when.within(base))
            )
        )
        for use in (line.use for line in instance.lines if line.use is not None):
            for k, call in enumerate(use.calls):
                at = f"{path}{use.attribute}." + (f"{k}." if use.repeat is not None else "")
                visit(call.instance, at)

    visit(term.root, "")
    return {instance: frozenset(kinds) for instance, kinds in found.items()}


def plan(
    model: Model,
    term: TermModel,
    classes: Sequence[BlockClass],
    arriving: Mapping[str, Offset] | None = None,
    even: bool = False,
) -> Plan:
    """How a step evaluates the program; raises `Unplanned` where only the whole forward can.

    `arriving`: the conditions that come with the steps, as in `arspec.arriving`; the others are
    there from the start. `even`: all repetitions of a block belong to the same loops.
    """
    result = _moments(model, term, arriving or {}, even)
    graph, names = term.graph, list(model.variables)
    head = result.whens[graph.head]
    if any(head.offset):
        raise Unplanned("a head that stands elsewhere than the position drawn")
    by_instance = {id(i): one for one in classes for i in one.instances}
    variables: dict[str, int | None] = {}
    for name in names:
        variables[local(name)] = variables[f"{local(name)}_one_hot"] = result.ids[name]
    _visit(result, term.root, "", variables, by_instance)
    windows: set[tuple[int, int]] = set()
    for one in classes:
        for line in one.first.lines:
            for use in result.uses.get(id(one), ()) if line.cycle else ():
                _keep_recursion(result, one, line, use, windows)
            for mark in marked("\n".join([*line.before, line.code])):
                for use in result.uses.get(id(one), ()):
                    node = result.ids[use.path + mark.node]
                    source = use.nodes.get(mark.reads) if mark.among > 1 else None
                    _keep(result, node, use.path + mark.module, mark.among, windows, source)
    for mark in marked(term.head.code):
        source = variables.get(mark.reads) if mark.among > 1 else None
        _keep(result, result.ids[mark.node], mark.module, mark.among, windows, source)
    _check(result, windows)
    return result


def _settle_whens(result: Plan) -> None:
    """Every live node's loop and offset."""
    while slabs := _as_scheduled(result):
        result.slabs |= slabs
        result.whens.clear()
        result.later.clear()
    _looked_up(result)
    _as_fine_as_read(result)
    _faster_clocks(result)
    _whole_tables(result)
    _with_what_they_repeat(result)


def _as_scheduled(result: Plan) -> set[int]:
    """What the schedule says, in terms of loops and offsets.

    Returns nodes that were thought to be evaluated channel by channel, but whose slabs a coarser
    loop reads as soon as they are due.
    """
    graph = result.term.graph
    known = set(range(result.inputs))
    for i, node in enumerate(graph.nodes):
        if any(read.source in known for read in node.reads):
            known.add(i)
    for i in range(len(graph.nodes)):
        entries = result.schedule.entries_of(i)
        if not entries:
            continue
        if graph.nodes[i].name in result.arriving and i < result.inputs:
            offset = result.arriving[graph.nodes[i].name]
            result.whens[i] = When(len(offset) - 1, offset)
            continue
        dues = {entry.due for entry in entries}
        finite = {due for due in dues if due is not None}
        entry = _drawn(entries)
        reads = graph.nodes[i].reads
        if i == graph.head and not any(graph.nodes[read.source].grouped for read in reads):
            drawn = [w for read in reads if (w := result.whens.get(read.source)) and w.loop >= 0]
            if drawn and graph.nodes[i].grouped:  # all channels of a position, one by one
                result.whens[i] = max(drawn, key=lambda when: when.loop)
                continue
        if graph.nodes[i].grouped and i != graph.target and not _whole(result, i, entry):
            result.whens[i] = _by_channel(result, i, finite)
            continue
        if dues == {None}:
            result.whens[i] = When(ONCE if i in known else FREE)
            continue
        if len(finite) > 1 or (None in dues and not graph.nodes[i].grouped):
            raise Unplanned("phases")
        (due,) = finite
        values = [-int(d) for d in due if d != inf]
        values[-1] -= 1
        level = entry.level
        if level == len(graph.axes) and not graph.nodes[i].grouped and i != graph.target:
            raise Unplanned("whole positions in the loop of their channels")
        if level > 0 and graph.channels > 1 and any(values[:-1]):
            raise Unplanned("a node that is evaluated far from the position drawn")
        result.whens[i] = _moment(level, tuple(values), graph.nodes[i].strides)
    slabs: set[int] = set()
    for i, when in result.whens.items():
        for read in graph.nodes[i].reads:
            if read.source not in result.whens:
                raise Unplanned("a node of which some channels read nothing that is needed")
            soon = read.source in result.later and when.loop < result.finest
            if soon and not _earlier(read, _drawn(result.schedule.entries_of(i))):
                slabs.add(read.source)
    if slabs & result.slabs:
        raise Unplanned("a coarser loop that collects a finer one")
    return slabs


def _moment(loop: int, lead: Offset, strides: Offset) -> When:
    """What stands that far ahead of the position drawn, by the clock that its strides are."""
    while len(strides) > loop + 1 and not strides[-1]:  # it has the first axes only
        strides = strides[:-1]
    every = tuple(max(stride, 1) for stride in strides)
    if max(every) == 1:
        # Of the slabs that open inside others no step comes before the first.
        if max(lead[1:], default=0) > 0:
            raise Unplanned("a node that is evaluated far from the position drawn")
        return When(loop, lead)
    if loop > 0 and (any(lead[:-1]) or lead[-1] > 0):
        raise Unplanned("a slower clock that is evaluated far from the position drawn")
    offset, ahead = zip(*(divmod(by, e) for by, e in zip(lead, every, strict=False)), strict=True)
    return When(loop, offset, Clock(every, (*ahead, *(0,) * (len(every) - len(ahead)))))


def _looked_up(result: Plan) -> None:
    """Symbols are looked up as they come: vectors can be kept for later, at no other cost."""
    nodes, whens, infos = result.term.graph.nodes, result.whens, result.term.infos
    for i, when in whens.items():
        if i < result.inputs or nodes[i].operations or len(nodes[i].reads) != 1:
            continue
        (read,) = nodes[i].reads
        variable = read.source < result.inputs and infos[read.source].symbols is not None
        if variable and not _windowed(read) and whens[read.source].loop >= when.loop >= 0:
            whens[i] = whens[read.source]


def _as_fine_as_read(result: Plan) -> None:
    """What combines finer values is as fine as they are."""
    graph = result.term.graph
    for i, when in result.whens.items():
        reads = [(r, result.whens[r.source]) for r in graph.nodes[i].reads]
        beside = [s for _, s in reads if not s.apart(when)]
        finer = max(beside, key=lambda s: s.loop, default=when)
        apart = any(_windowed(r) for r, s in reads if s.loop >= 0) or _complete(when)
        if 0 <= when.loop < finer.loop and i != graph.target and not apart:
            result.whens[i] = finer


def _faster_clocks(result: Plan) -> None:
    """What is brought to a faster clock for those who draw is read wherever they need it."""
    graph = result.term.graph
    readers: dict[int, list[bool]] = {}  # whether those who read it are drawn, at one place of it
    for i, when in result.whens.items():
        for read in graph.nodes[i].reads:
            readers.setdefault(read.source, []).append(when.loop >= 0 and not _windowed(read))
    for i, when in result.whens.items():
        reaches = [r.reach for r in graph.nodes[i].reads if isinstance(r.reach, Stencil)]
        faster = any(rate != 1 for r in reaches if not r.transposed for rate in r.up)
        if when.loop == ONCE and faster and all(readers.get(i, [False])):
            result.whens[i] = When(FREE)


def _whole_tables(result: Plan) -> None:
    """Tables that are seen through windows, on a grid also those projected, are made once."""
    graph, infos = result.term.graph, result.term.infos
    windows = [(i, r.source) for i in result.whens for r in graph.nodes[i].reads if _windowed(r)]
    whole = {i for pair in windows for i in pair}
    if len(graph.axes) > 1:  # along time alone they may have no end
        whole |= {i for i in result.whens if infos[i].grid and graph.nodes[i].operations}
        # Beside a line of a coarser loop they would be in a method of their own.
        coarse = {i for i, when in result.whens.items() if 0 <= when.loop < result.finest}
        beside = {r.source for i in coarse for r in graph.nodes[i].reads}
        whole |= {i for i in beside if infos[i].grid}
    for i in whole:
        if result.whens[i].loop == FREE:
            result.whens[i] = When(ONCE)


def _with_what_they_repeat(result: Plan) -> None:
    """What repeats a slower clock that stands farther on, and nothing else, stands there, too."""
    graph = result.term.graph
    for i, when in result.whens.items():
        for read in graph.nodes[i].reads:
            source = result.whens[read.source]
            late = source.apart(when) and _repeats(read) and not holds(source, when)
            farther = source.loop == when.loop == 0 and source.lead > when.lead
            if late and farther and len(graph.nodes[i].reads) == 1:
                strides = graph.nodes[i].strides
                result.whens[i] = _moment(when.loop, source.lead, strides)


def _repeats(read: Read) -> bool:
    """Whether it takes each position of a slower clock for several of its own."""
    reach = read.reach
    return isinstance(reach, Stencil) and max(reach.up) > 1 and not reach.transposed


def holds(source: When, when: When) -> bool:
    """Whether the newest of a slower clock is what its repetition reads.

    That is the slab of its loop that was evaluated last; of an earlier row it is not.
    """
    assert source.clock is not None
    every = when.clock.every if when.clock else (1,) * len(source.clock.every)
    rows = zip(source.clock.every[: source.loop], every, strict=False)
    beyond = [a - b for a, b in zip(source.lead, when.lead, strict=False)]
    near = all(0 <= by < step for by, step in zip(beyond, every, strict=False))
    return near and source.loop <= when.loop and all(theirs == own for theirs, own in rows)


def _by_channel(result: Plan, node: int, dues: set[Key]) -> When:
    """A node with channel groups is evaluated channel by channel, each in its own step.

    That may be later than it is due: then it is noted.
    """
    graph = result.term.graph
    loops = result.finest + 1
    opening = []  # whether it is due when what contains its channel opens, not when it closes
    for due in dues:
        *outer, last = [int(d) for d in due if d != inf]
        if any(outer) or last not in (-1, 0):
            raise Unplanned("a node that is evaluated far from the position drawn")
        opening.append(last == -1)
    place: Offset = (0,) * loops
    if not all(opening):  # as soon as what it reads is there
        reads = [r for r in graph.nodes[node].reads if _here(r) and r.source in result.whens]
        whens = [result.whens[read.source] for read in reads]
        place = min((when.offset for when in whens if when.loop == loops - 1), default=place)
    if any(opening):
        result.later.add(node)
    return When(loops - 1, place)


def _whole(result: Plan, node: int, entry: Entry) -> bool:
    """Whether a node with channel groups is evaluated slab by slab, all channels at once.

    That is a recurrence whose states come from positions that are drawn later, and whoever needs
    those states for the same slab; and what leads from clock to clock.
    """
    if entry.due is None or entry.level >= result.finest:
        return False
    if node in result.slabs:
        return True
    it = result.term.graph.nodes[node]
    nodes = result.term.graph.nodes
    if max(it.strides) > 1 or any(_rated(read) for read in it.reads if nodes[read.source].grouped):
        return True
    zero, before = (0,) * len(result.term.graph.axes), (*(0,) * entry.level, -1)
    closing = entry.due[entry.level] == 0
    for read in it.reads:
        source, reach = result.whens.get(read.source), read.reach
        if read.source == node and isinstance(reach, Stencil):
            if any(box.hi > zero for box in reach.boxes):
                return True
        elif source is not None and source.loop >= 0:
            closes = closing and source == When(entry.level, before)
            beside = nodes[read.source].grouped and _here(read)
            slab = source.loop <= entry.level or _mixes(read)
            if (closes and _inside(read, entry.level)) or (beside and slab):
                return True
    return False


def _here(read: Read) -> bool:
    """Whether a node reads its own position."""
    return not isinstance(read.reach, Stencil) or any(map(_has_own, read.reach.boxes))


def _inside(read: Read, loop: int) -> bool:
    """Whether a node reads positions of the round of that loop that its own is in."""
    reach, own = read.reach, (0,) * (loop + 1)
    return not isinstance(reach, Stencil) or any(b.hi[: loop + 1] >= own for b in reach.boxes)


def _mixes(read: Read) -> bool:
    """Whether it reads all channels of its own position."""
    reach = read.reach
    return isinstance(reach, Stencil) and any(
        box.groups == ALL and _has_own(box) for box in reach.boxes
    )


def _has_own(box: Box) -> bool:
    return all(low <= 0 <= high for low, high in zip(box.lo, box.hi, strict=True))


def _drawn(entries: Sequence[Entry]) -> Entry:
    """Of a node's entries one that is evaluated while drawing, if any is.

    The first channels of what is masked may depend on nothing drawn.
    """
    return next((entry for entry in entries if entry.due is not None), entries[0])


def _earlier(read: Read, entry: Entry) -> bool:
    """Whether a reader of a coarser loop reads earlier rounds of that loop alone."""
    if entry.due is None:
        return True
    loop, due, reach = entry.level, entry.due, read.reach
    stand = [-int(d) for d in due[: loop + 1] if d != inf]
    stand[-1] -= 1
    if isinstance(reach, Stencil):
        farthest = max(box.hi[: loop + 1] for box in reach.boxes)
    else:  # what is before a position, but not what is before it in its row, is before its row
        before = reach.until == PAST and loop + 1 == len(reach.along)
        farthest = (*(0,) * loop, -before)
    return tuple(a + b for a, b in zip(stand, farthest, strict=False)) < (0,) * (loop + 1)


def _visit(
    result: Plan,
    instance: Instance,
    path: str,
    nodes: dict[str, int | None],
    by_instance: dict[int, BlockClass],
) -> dict[str, int | None]:
    """Collect the uses of every class; returns what the names of this one stand for."""
    one = by_instance[id(instance)]
    ids = result.ids
    outside = {name: nodes.get(name) for name in one.free}

    def known(code: str) -> int | None:
        part = whole(code)
        return nodes.get(code) if part is None else ids.get(path + part.node)

    for line in instance.lines:
        if line.use is None:
            if line.cycle:
                nodes.update(
                    (target, ids.get(path + name))
                    for target, name in zip(line.targets, line.cycle, strict=True)
                )
                continue
            codes = line.code.split(", ") if len(line.targets) > 1 else [line.code]
            codes = list(line.pair) or codes
            for k, target in enumerate(line.targets):
                if len(codes) == len(line.targets) and codes[k] in nodes:
                    nodes[target] = nodes[codes[k]]
                    continue
                part = f"{path}{line.name}.{k}"
                own = line.nodes[-1] if line.nodes else line.name
                nodes[target] = ids.get(f"{path}{own}", ids.get(part))
                if len(line.targets) > 1 and part in ids and len(codes) == len(line.targets):
                    nodes[target] = ids[part]
            continue
        use = line.use
        exported: dict[str, list[int | None]] = {}
        outputs: list[int | None] = []
        for i, call in enumerate(use.calls):
            child = by_instance[id(call.instance)]
            inner: dict[str, int | None] = {}
            free = [n for n in call.inputs if n not in use.zipped]
            for k, name in enumerate(free):
                carried = i and k < len(outputs)
                inner[name] = outputs[k] if carried else known(call.inputs[name])
            inner.update({name: nodes.get(name) for name in child.free})
            at = f"{path}{use.attribute}." + (f"{i}." if use.repeat is not None else "")
            found = _visit(result, call.instance, at, inner, by_instance)
            outputs = [found.get(name) for name in call.instance.outputs]
            for name in child.exports:
                exported.setdefault(name, []).append(found.get(name))
        for target, node in zip(use.carried, outputs, strict=False):
            nodes[target] = node
        for name, members in exported.items():
            nodes[f"{use.attribute}_{name}"] = members[-1]
    nodes.update(outside)
    passed = {node for name in instance.outputs if (node := nodes.get(name)) is not None}
    result.uses.setdefault(id(one), []).append(Use(path, nodes, _base(result, path, passed)))
    return nodes


def _base(result: Plan, path: str, passed: Collection[int] = ()) -> Clock | None:
    """The finest clock of what a use of a block computes or passes on, and of what that reads."""
    if not path:
        return None
    reads = result.term.graph.nodes
    own = {result.ids[name] for name in result._below(path.removesuffix("."), True)}
    own &= result.whens.keys()
    own |= {read.source for node in own for read in reads[node].reads} | {*passed} & {*result.whens}
    found = [result.whens[node] for node in own if result.whens[node].loop >= 0]
    return max(found, key=lambda when: when.pace).clock if found else None


def _complete(when: When) -> bool:
    """Whether an earlier round of the node's loop is meant, all of which is there."""
    return bool(when.offset) and when.offset < (0,) * len(when.offset)


def _rated(read: Read) -> bool:
    """Whether it leads from one clock to another."""
    return isinstance(read.reach, Stencil) and max(*read.reach.up, *read.reach.down) > 1


def _windowed(read: Read) -> bool:
    reach = read.reach
    if not isinstance(reach, Stencil):
        return True
    return len(reach.boxes) != 1 or any(reach.boxes[0].lo) or any(reach.boxes[0].hi)


def _keep(
    result: Plan,
    node: int,
    module: str,
    count: int,
    windows: set[tuple[int, int]],
    only: int | None,
) -> None:
    """Note what a layer keeps, one of `count` of its node; `only`: what it reads, if known."""
    when = result.whens.get(node)
    if when is None or when.loop < 0:
        return
    reads = result.term.graph.nodes[node].reads
    own = [k for k, read in enumerate(reads) if read.source == node or (node, k) in result.cycles]
    if own and (node, own[0]) not in result.cycles:
        _check_recurrence(result, node)
        windows.update((node, k) for k in (0, *own))
    infos = result.term.infos  # a shift of a table is none of the layer's
    batched = [k for k, read in enumerate(reads) if infos[read.source].batched and k not in own]
    wide = [k for k in batched if _windowed(reads[k])] or [0]
    if only is not None:
        alone = [k for k, read in enumerate(reads) if _windowed(read) and read.source == only]
        wide = alone or wide
    elif count > 1 and count != len(wide):
        raise Unplanned("a shift of a shift")
    it, channels = result.term.graph.nodes[node], len(result.term.graph.axes)
    if it.grouped and it.operations and not own and not _windowed(reads[wide[0]]):
        if when.loop < channels:  # all channels of a slab are there: nothing is kept
            result.whole.add(node)
            return
        if result.whens[reads[wide[0]].source].loop < channels:
            raise Unplanned("channels of a slab that are there all at once")
    sources = {result.whens[reads[k].source] for k in wide}
    across = any(_rated(reads[k]) for k in wide)
    if len(sources) != 1:
        raise Unplanned("a window over nodes that stand at different places")
    (source,) = sources
    if source.loop == FREE:
        raise Unplanned("a window over a table")
    if source.loop == ONCE:
        result.given[module] = reads[wide[0]].source
        return
    result.check_grid(reads[wide[0]].source)
    if source.apart(when) and not across:
        raise Unplanned("clocks that tick apart")
    sweep, stands = reads[wide[0]].reach, source.offset
    if isinstance(sweep, Sweep):  # the query stands where the keys end
        tight = (*when.offset[:-1], when.offset[-1] - 1)
        strict = sweep.until == PAST
        if stands != when.offset and not (strict and stands == tight):
            # Of a position whose channels are being drawn no key is complete, nor does it need one.
            between = strict and source.loop == channels == when.loop + 1
            stands = tight if between else when.offset
            result.aligned[module] = stands
    windows.update((node, k) for k in wide)
    places = Keeping(stands, when.offset, result.clock_of(reads[wide[0]].source))
    if it.grouped and it.operations:
        result.kept[module] = places  # what is masked by channels knows the layout of its input
    else:
        result.keep(module, reads[wide[0]].source, places)


def _keep_recursion(
    result: Plan, one: BlockClass, line: ProgramLine, use: Use, windows: set[tuple[int, int]]
) -> None:
    """Note what lines keep that need each other's earlier values."""
    graph, whens = result.term.graph, result.whens
    own = [[use.path + part for part in _parts_of(result, use.path, name)] for name in line.cycle]
    nodes = {node for names in own for name in names if (node := result.ids[name]) in whens}
    found = {whens[node] for node in nodes}
    if not nodes or all(when.loop < 0 for when in found):
        return
    if {when.loop for when in found} != {0}:
        raise Unplanned("a recursion whose channels are drawn one after another")
    if len({when.clock for when in found}) > 1:
        raise Unplanned("a recursion whose lines belong to different clocks")
    places = []
    for names in own:
        offsets = {whens[node].offset for name in names if (node := result.ids[name]) in whens}
        if len(offsets) != 1:
            raise Unplanned("a line of a recursion whose parts stand at different places")
        places += [place for (place,) in offsets]
    if len(found) > 1 and result.stages.setdefault((id(one), line.name), (*places,)) != (*places,):
        raise Unplanned("a recursion whose lines stand at different places in its uses")
    lines = set(use.nodes.values())
    for node in nodes:
        for k, read in enumerate(graph.nodes[node].reads):
            if read.source in nodes:
                result.cycles.add((node, k))
                continue
            inside = read.source not in lines  # a projection of what is given
            for other in (read, *(graph.nodes[read.source].reads if inside else ())):
                source, when = whens[other.source], whens[node]
                beside = source.loop == when.loop and not _windowed(other)
                if beside and (source.offset < when.offset or source.clock != when.clock):
                    raise Unplanned("a recursion over what stands elsewhere")
    attribute = f"{line.targets[-1]}_recursion"
    clock = result.clock_of(next(iter(nodes)))
    result.kept[use.path + attribute] = Keeping((min(places),), (max(places),), clock)
    windows |= result.cycles


def _parts_of(result: Plan, path: str, name: str) -> list[str]:
    """The nodes below a path of a line that belong to it alone, its own first."""
    whole = path + name
    names = (n for n in (whole, *result._children.get(whole, ())) if n in result.ids)
    return [n.removeprefix(path) for n in names]


def _check_recurrence(result: Plan, node: int) -> None:
    """What keeps its own states has the clock of its input."""
    result.check_grid(node)
    if result.clock_of(node) != result.clock_of(result.term.graph.nodes[node].reads[0].source):
        raise Unplanned("a recurrence on another clock than its input")


def _check(result: Plan, windows: set[tuple[int, int]]) -> None:
    """What a node reads at its own position has to stand where it stands."""
    graph = result.term.graph
    for node, when in result.whens.items():
        if when.loop < 0 or node == graph.target:
            continue
        for k, read in enumerate(graph.nodes[node].reads):
            source = result.whens[read.source]
            if source.apart(when) and _waits(source):
                raise Unplanned("the last of a row of a slower clock that waits for the next row")
            # When a slab opens, those who read all of the one before find one position missing at
            # most, which this step evaluates first.
            near = source.loop < 1 or source.offset[1:] >= (*(0,) * (source.loop - 1), -1)
            far = not near
            if far and (when.loop < source.loop or source.apart(when) or read.source == node):
                raise Unplanned("a slab that is complete long after the next one opens")
            if (node, k) in windows or source.loop < 0:
                if source.loop == FREE and _windowed(read):
                    raise Unplanned("a window over a table")
                continue
            if _windowed(read):
                raise Unplanned("a window without a cache")
            if source.apart(when):
                if _repeats(read) and (holds(source, when) or _recalls(source, when)):
                    continue
                if _alike(source, when, result.outer(read.source)):
                    continue
                raise Unplanned("nodes that stand at different places")
            if source.loop > when.loop:
                if _complete(when):
                    continue  # a finished slab, collected as it comes
                raise Unplanned("a coarser loop that collects a finer one")
            if source.loop == when.loop and source.offset >= when.offset:
                continue  # its values are kept until this node is there
            if source.offset != when.offset[: source.loop + 1]:
                raise Unplanned("nodes that stand at different places")
            if min(when.offset) < 0 and (graph.channels > 1 or when.clock is not None):
                raise Unplanned("a part of a slab behind the position drawn")


def _waits(when: When) -> bool:
    """Whether the last of a row is evaluated when its clock comes to the next one, rows later."""
    if when.loop < 1 or when.clock is None or when.offset[-1] >= 0:
        return False
    return max(when.clock.every[: when.loop]) > 1


def _alike(source: When, when: When, axes: int) -> bool:
    """Whether a clock ticks as positions do along the only axes of what it reads of these."""
    if not axes or when.clock is None or source.offset != when.offset[:axes]:
        return False
    return Clock(when.clock.every[:axes], when.clock.ahead[:axes]) == Clock.along(axes)


def _recalls(source: When, when: When) -> bool:
    """Whether what is kept of a slower clock can be repeated position by position."""
    if len(source.clock.every if source.clock else ()) == 1:
        return True
    return len(when.offset) > 1 and not any(source.lead) and not any(when.lead)


def schedule_text(plan: Plan, clock: Clock | None = None) -> dict[str, str]:
    """What every layer keeps of a clock: its path, and where its newest input and output stand.

    Repetitions that agree share an entry, `layers.*.conv`.
    """
    groups: dict[str, dict[str, str]] = {}
    for path, kept in plan.kept.items():
        if kept.clock == clock:
            layout = f", {plan.layouts[path]}" if path in plan.layouts else ""
            pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", path)
            groups.setdefault(pattern, {})[path] = f"{kept.source}, {kept.output}{layout}"
    result: dict[str, str] = {}
    for pattern, members in groups.items():
        if len(set(members.values())) == 1:
            members = {pattern: next(iter(members.values()))}
        result.update(members)
    return result


def clocks_text(plan: Plan) -> dict[str, dict[str, str]]:
    """The same for every slower clock, by what names it."""
    return {f"{clock.every}, {clock.ahead}": schedule_text(plan, clock) for clock in plan.clocks}
