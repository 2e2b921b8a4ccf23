"""Lines to statements, loop by loop: what `forward` evaluates itself, and what it settles once.

A body's `forward` holds the lines of the finest loop. What belongs to a coarser one becomes a
method of its own, `_given` or `_per_row`, called through `settled`, which keeps its values until
that loop moves on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from arspec.classes import BlockClass
from arspec.layers.shifts import shift_module
from arspec.marks import (
    FIRST,
    KEPT,
    PASSED,
    STANDING,
    Part,
    argument,
    marked,
    module_of,
    outermost,
    plain,
    whole,
)
from arspec.names import local
from arspec.program import ProgramLine
from arspec.stepping import FINER, FREE, ONCE, Clock, Keeping, Offset, Plan, Unplanned, When, holds
from arspec.values import tuple_text

_TOKEN = re.compile("\x08(\\d+)\x08")
_WORD = re.compile(r"(?<![\w.\"])[A-Za-z_]\w*")
_VALUE = re.compile(rf"{_WORD.pattern}\b(?!\.shape)")
_KEEPING = re.compile(r"self\.[\w.\[\]\"]+\([^()]*, past=(?:past|along\(past, \d\))\)")
_TABLE = re.compile(r"self\.\w*positions\([^()]*\)")
_SHIFTED = re.compile(r"(?<![\w.])(?:shift\()+([A-Za-z_]\w*)(?:, \d+, -?\d+\))+")
_KEEP = re.compile(r"\bkeep\((self\.[\w.\[\]\"]+),")


Place = tuple[Clock | None, int]
"""A clock, None for that of the caller, and one of its loops."""


@dataclass
class Item:
    """Statements that define names; those of one line stay together."""

    place: Place
    statements: list[str]
    defines: list[str]

    @property
    def lists(self) -> set[str]:
        """Those of the names that stand for a list."""
        return {name for name in self.defines if f"{name}: list[Tensor] = []" in self.statements}

    @property
    def words(self) -> set[str]:
        return set(_WORD.findall(" ".join(s.partition("  # ")[0] for s in self.statements)))


@dataclass
class Method:
    """A coarser loop's statements, as the template prints them."""

    name: str
    place: Place
    items: list[Item]
    available: set[str]
    arguments: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)  # the layers that keep something after its call
    lists: set[str] = field(default_factory=set)  # the names that stand for a list of values

    def takes(self, item: Item, wanted: set[str]) -> bool:
        """Whether an item that wants some names can join it."""
        late = any(f"{layer}(" in s for layer in self.missed for s in item.statements)
        return wanted <= self.available | self.defines and not late

    def type_of(self, name: str) -> str:
        return "list[Tensor]" if name in self.lists else "Tensor"

    @property
    def doc(self) -> str:
        clock, loop = self.place
        if loop == ONCE:
            return "What does not depend on what is drawn: computed once."
        what = self.name.removeprefix("_per_").partition("_every_")[0].rstrip("0123456789")
        if clock is None:
            return f"What is computed once per {what}."
        every = " by ".join(map(str, clock.every))
        return f"What is computed once per {what} of a clock that ticks every {every}."

    @property
    def defines(self) -> set[str]:
        return {name for item in self.items for name in item.defines}

    @property
    def statements(self) -> list[str]:
        lines = [s for item in self.items for s in item.statements]
        if len(self.results) == 1:  # what a module returns is Any to a type checker
            start = f"{self.results[0]} = "
            first = next((k for k, s in enumerate(lines) if s.startswith(start)), None)
            if first is not None:
                lines[first] = lines[first].replace(start, start[:-3] + ": Tensor = ", 1)
        return [*lines, f"return {', '.join(self.results)}"]

    @property
    def result(self) -> str:
        types = [self.type_of(name) for name in self.results]
        return types[0] if len(types) == 1 else f"tuple[{', '.join(types)}]"


@dataclass
class Arranged:
    """The statements of `forward`, and the methods that it settles."""

    statements: list[str]
    methods: list[Method]
    modules: list[str] = field(default_factory=list)


class Arranger:
    """Brings the lines of one class into the loops of a plan."""

    def __init__(self, plan: Plan, one: BlockClass) -> None:
        self.plan, self.one = plan, one
        self.frame = plan.term.frame
        self.items: list[Item] = []
        self.modules: dict[str, str] = {}
        self.finished: list[str] = []  # parts of an expression that are as a step evaluates them
        self.named: dict[str, When] = {}  # parts that another clock reads, when they are evaluated

    def add(self, when: When | None, statements: Iterable[str], defines: Sequence[str]) -> None:
        """Statements as they are."""
        place: Place = (None, self.plan.finest)
        if when is not None and when.loop != FREE:
            place = when.clock, when.loop
        if place[0] == FINER:
            raise Unplanned("a block that reads a finer clock than its own")
        self.items.append(Item(place, list(statements), list(defines)))

    def line(self, line: ProgramLine, statements: list[str], targets: Sequence[str]) -> None:
        """The statements of one line, marks and all."""
        if line.pair:
            self._pair(line)
            return
        when = self.plan.line(self.one, line)
        if when is not None and when.loop == FREE:
            # Learned numbers have no positions: no loop has to bring them.
            when = self._readers(line) if line.grid else When(self.plan.finest)
        if when is None:  # dead: with what it reads
            words = _WORD.findall(plain(" ".join(statements)))
            whens = [w for name in words if (w := self.plan.when(self.one, name))]
            when = max(whens, key=lambda w: w.pace, default=When(self.plan.finest))
            statements = [s.replace(PASSED, "") for s in statements]  # it keeps nothing
        elif line.cycle:
            self._keeps(f"{line.targets[-1]}_recursion")
        if line.use is not None and 0 <= when.loop < self.plan.finest:
            self._sees_all(line, when)
        made = [self._statement(line, when, s) for s in statements]
        self.add(when, made, targets)

    def _sees_all(self, line: ProgramLine, when: When) -> None:
        """A block of a coarser loop is not called where a finer one has something to keep."""
        assert line.use is not None
        for use in self.plan.uses[id(self.one)]:
            below = f"{use.path}{line.use.attribute}."
            for path, kept in self.plan.kept.items():
                if path.startswith(below) and len(kept.source) > when.loop + 1:
                    raise Unplanned("a block of a coarser loop that collects a finer one")

    def _pair(self, line: ProgramLine) -> None:
        """Several equations on one line: each belongs to a loop of its own."""
        parts = [part for code in line.pair if (part := whole(code))]
        whens = [self.plan.of_node(self.one, part.node) for part in parts]
        finest = When(self.plan.finest)
        here = (None, finest.loop)
        if all(w is None or w.loop == FREE or (w.clock, w.loop) == here for w in whens):
            codes = []
            for code in line.pair:
                part = whole(code)
                there = line if part is None else replace(line, node=self._node(part.node))
                own = self.plan.of_node(self.one, part.node) if part else None
                own = own if own is not None and own.loop != FREE else finest
                value = code if part is None else self._value(there, own, self.one.fill(part.code))
                codes.append(self._finish(value))
            statement = f"{', '.join(line.targets)} = {', '.join(codes)}"
            self.add(
                None,
                [statement] if ", ".join(line.targets) != ", ".join(codes) else [],
                line.targets,
            )
            return
        for target, code in zip(line.targets, line.pair, strict=True):
            part = whole(code)
            if part is None:  # a name is passed on as it is
                if target != code:
                    self.add(None, [f"{target} = {code}"], [target])
                continue
            own = self.plan.of_node(self.one, part.node)
            when = own if own is not None and own.loop != FREE else When(self.plan.finest)
            there = replace(line, targets=(target,), node=self._node(part.node))
            value = self._value(there, when, self.one.fill(part.code))
            self.add(when, [f"{target} = {self._finish(value)}"], [target])

    def head(self, statement: str) -> None:
        """The parameters of the distribution."""
        term = self.plan.term
        line = ProgramLine("head", term.root.lines[-1].span, ("params",), "", node=term.graph.head)
        when = self.plan.whens[term.graph.head]
        if when.loop == FREE:
            raise Unplanned("a head that reads nothing")
        self.add(when, [self._statement(line, when, statement)], ["params"])
        finest = When(self.plan.finest, (0,) * (self.plan.finest + 1))
        if when.loop < finest.loop:
            cut = self._cut(line, finest, when, term.graph.head, "params")
            self.add(finest, [f"params = {cut}"], ["params"])

    def _readers(self, line: ProgramLine) -> When | None:
        """A table has the positions of those who read it."""
        plan = self.plan
        found: set[When] = set()
        for use in plan.uses[id(self.one)]:
            wanted = {plan.ids[n] for n in plan.own(use, line)}
            while wanted:
                readers = {
                    node
                    for node in plan.whens
                    if any(r.source in wanted for r in plan.term.graph.nodes[node].reads)
                }
                others = (plan.whens[n] for n in readers if plan.whens[n].loop != FREE)
                found.update(other.within(use.base) for other in others)
                wanted = {n for n in readers if plan.whens[n].loop == FREE}
        return found.pop() if len(found) == 1 else When(self.plan.finest)

    def _statement(self, line: ProgramLine, when: When, statement: str) -> str:
        code, comment = statement, ""
        if "  # " in statement:
            code, _, comment = statement.partition("  # ")
        if line.use is not None:
            return self._passing(line, when, statement)
        self.finished.clear()
        target, equals, value = code.partition(" = ")
        if not equals or not re.fullmatch(r"[\w, :]+", target):
            target, equals, value = "", "", code
        parts = value.split(", ")
        passed = len(line.targets) > 1 and len(parts) == len(line.targets)
        if passed and not line.cycle:  # names are passed on
            kept = [p if p.isidentifier() else self._value(line, when, p) for p in parts]
            value = ", ".join(kept)
        else:
            value = self._value(line, when, value)
        return f"{target}{equals}{self._finish(value)}" + (f"  # {comment}" if comment else "")

    def _passing(self, line: ProgramLine, when: When, statement: str) -> str:
        """A use of a block: it is told what it keeps, unless it is given from the start."""
        while part := outermost(statement):
            name = part.name
            own = self.plan.of_node(self.one, part.node) or When(self.plan.finest)
            line = replace(line, use=None, targets=(name,), node=self._node(part.node))
            self.add(own, [f"{name} = {self._finish(self._value(line, own, part.code))}"], [name])
            statement = statement[: part.start] + name + statement[part.end :]
        return statement.replace(PASSED, ", past=past" if when.loop >= 0 else "")

    def _value(self, line: ProgramLine, when: When, code: str) -> str:
        """An expression as a step evaluates it."""
        code = self._aligned(line, when, self._hoist(line, when, code))
        while match := STANDING.search(code):
            text = self._here(line, When(when.loop, (int(match[1]),)), match[2])
            code = code[: match.start()] + self._token(text) + code[match.end() :]
        while match := KEPT.search(code):
            start, end = argument(code, match.start())
            read, module = self._finish(code[start:end]), module_of(code[: start - 1])
            if (node := self._given_to(module)) is not None:
                begin = code.rindex("self.", 0, start)
                text = self._once(line, when, module, node, f"{code[begin:start]}{read})")
                code = code[:begin] + self._token(text) + code[match.end() + 1 :]
                continue
            whole = self._node(match[0].strip("\x02")) in self.plan.whole
            if not whole:
                self._keep_finer(when, code[: start - 1], read)
            # What a window reads stands where it stands: the layer's cache knows.
            state = self._state(module, when)
            told = ""
            if when.loop >= 0 and not whole and self._keeps(module):
                told = f", past={state}"
            else:
                read = self._here(line, when, read)  # no cache that would know where
            rest = code[end : match.start()] + told + code[match.end() :]
            code = code[:start] + self._token(read) + rest
        code = code.replace(PASSED, ", past=past" if when.loop >= 0 else "")
        code = self._hold(line, when, code)
        code = self._tables(line, when, self._here(line, when, code))
        return self._lengths(when, FIRST.sub(lambda m: self._first(when, m[1]), code))

    def _paths(self, name: str) -> list[str]:
        """What is called so in each use: nodes or layers."""
        return [use.path + name for use in self.plan.uses[id(self.one)]]

    def _keeps(self, module: str) -> bool:
        """Whether a layer keeps anything. If a use is live, those that are dead do as it does."""
        paths, kept = self._paths(module), self.plan.kept
        found = next((kept[path] for path in paths if path in kept), None)
        if found is not None:
            kept.update((path, found) for path in paths if path not in kept)
        return found is not None

    def _given_to(self, module: str) -> int | None:
        """What a layer reads that is there from the start, if that is so."""
        given, kept = self.plan.given, self.plan.kept
        found = {given.get(path) for path in self._paths(module) if path in given or path in kept}
        if len(found) > 1 and None in found:
            raise Unplanned("a window over what is there from the start in some uses")
        return next(iter(found), None)

    def _once(self, line: ProgramLine, when: When, module: str, node: int, code: str) -> str:
        """A layer of a line that reads what is there from the start: computed with that."""
        if when.loop < 0:
            return code
        name = f"{module.replace('.', '_')}_given"
        own = When(ONCE)
        self.add(own, [f"{name} = {code}"], [name])
        return self._cut(line, when, own, node, name)

    def _aligned(self, line: ProgramLine, when: When, code: str) -> str:
        """Brings the input of layers that want it at their own place there."""
        layers = dict[str, str]()
        for mark in marked(code):
            if any(path in self.plan.aligned for path in self._paths(mark.module)):
                layers.update(dict.fromkeys(_VALUE.findall(mark.reads), mark.module))
        for name, layer in layers.items():
            own = self._when(name)
            late = name if own is None else self._late(line, own, when, name, layer=layer)
            if late == name:
                raise Unplanned("attention over an expression that stands elsewhere")
            code = re.sub(rf"\b{name}\b", late, code)
        return code

    def _hoist(self, line: ProgramLine, when: When, code: str) -> str:
        while part := outermost(code):
            node, name, inner = part.node, part.name, part.code
            own = self.plan.of_node(self.one, node)
            free = own is not None and own.loop == FREE
            own = own if own is not None and not free else when
            loop, apart = own.loop, own.apart(when)
            there = replace(line, node=self._node(node))
            text = self._value(there, own, inner)
            if apart:  # read by a layer that leads from clock to clock, or held
                self.add(own, [f"{name} = {self._finish(text)}"], [name])
                self.named[name], text = own, self._cut(line, when, own, there.node, name)
            elif loop < when.loop:
                self.add(own, [f"{name} = {self._finish(text)}"], [name])
                text = self._cut(line, when, own, there.node, name)
            elif (
                own is not when
                and not _in_window(code, part)
                and self.plan.late(self.one, name, line, part=node)
            ):
                self.add(own, [f"{name} = {self._finish(text)}"], [name])
                text = self._late(line, own, when, name, node)
            elif loop > when.loop:
                raise Unplanned("a coarser loop that collects a finer one")
            elif free and not _read_by_layer(code, part.start):
                width = self.plan.term.infos[there.node].features.width
                text = self._of_channel(line, when, width, text)
            code = code[: part.start] + self._token(text) + code[part.end :]
        return code

    def _hold(self, line: ProgramLine, when: When, code: str) -> str:
        """What repeats a slower clock of what is drawn has its newest value in a step, or cells of
        rows that are kept."""
        for match in reversed(list(FIRST.finditer(code))):
            if not code.count(match[0]):
                continue
            start, end = argument(code, match.start())
            names = _VALUE.findall(plain(self._finish(code[start:end])))
            found = [w for name in names if (w := self._when(name)) and w.apart(when)]
            if not found or not code[: start - 1].endswith("repeat"):
                continue
            (source,), called = set(found), start - 1 - len("repeat")
            axis = self.frame.axes.index(match[1])
            if not holds(source, when):
                recalled = self._recalled(line, source, when, code[called : match.end()])
                return self._hold(line, when, code[:called] + recalled + code[match.end() :])
            if axis <= source.loop:
                told = f"held{code[start - 1 : match.start()]}, past=past"
                code = code[:called] + told + code[match.end() :]
        return code

    def _recalled(self, line: ProgramLine, source: When, when: When, code: str) -> str:
        """A repetition along all axes, from what is kept of a slower clock."""
        assert source.clock is not None
        axes = self.frame.axes[: len(source.clock.every)]
        rates, lengths = ["1"] * len(axes), [""] * len(axes)
        while match := FIRST.search(code + ")") if code.startswith("repeat(") else None:
            match = list(FIRST.finditer(code))[-1]
            start, end = argument(code, match.start())
            _, rate, length, *_ = code[end : match.start()].split(", ")
            rates[axes.index(match[1])], lengths[axes.index(match[1])] = rate, length
            code = code[start:end]
        attribute = f"{line.name}_repeated"
        others = sum(name.startswith(f"self.{attribute}") for name in self.modules)
        attribute += str(others + 1) if others else ""
        lengths = [n or f"{code}.shape[{k}]" for k, n in enumerate(lengths, start=1)]
        self._repeated(attribute, rates, source, when)
        return self._token(f"self.{attribute}({code}, {', '.join(lengths)}, past=past")

    def _repeated(self, attribute: str, rates: Sequence[str], source: When, when: When) -> None:
        """A layer that keeps what comes at a clock, for lines that repeat it."""
        assert source.clock is not None
        piece = "Repeated" if len(rates) > 1 else "Repeated1d"
        self.modules[f"self.{attribute}"] = f"{piece}({', '.join(rates)})"
        for use in self.plan.uses[id(self.one)]:
            clock = source.clock.outside(use.base)
            self.plan.kept[use.path + attribute] = Keeping(source.offset, when.offset, clock)

    def _when(self, name: str) -> When | None:
        """When what a name stands for is evaluated."""
        return self.named.get(name) or self.plan.when(self.one, name)

    def _token(self, code: str) -> str:
        self.finished.append(code)
        return f"\x08{len(self.finished) - 1}\x08"

    def _finish(self, code: str) -> str:
        """An expression with its finished parts."""
        while match := _TOKEN.search(code):
            code = code[: match.start()] + self.finished[int(match[1])] + code[match.end() :]
        return code

    def _node(self, name: str) -> int:
        """The node of that name in the first live use."""
        ids = self.plan.ids
        return self._live([ids[path] for path in self._paths(name) if path in ids])

    def _here(self, line: ProgramLine, when: When, code: str) -> str:
        """Names of coarser loops: cut to the positions of this one."""
        if when.loop < 0:
            return code

        def cut(match: re.Match[str]) -> str:
            name = match[0]
            if line.cycle and name in line.targets:
                return name
            own = self.plan.when(self.one, name)
            nodes = self.plan.nodes(self.one, name)
            if own is not None and own.apart(when):
                return self._cut(line, when, own, self._live(nodes), name) if nodes else name
            if own is not None and own.loop >= when.loop and line.node >= 0:
                length = code.startswith(".shape", match.end())
                return name if length else self._late(line, own, when, name)
            if own is None or not nodes or own.loop >= when.loop:
                return name
            if own.loop == FREE:  # it is evaluated here
                width = self.plan.term.infos[self._live(nodes)].features.width
                alone = not _read_by_layer(code, match.start())
                return self._of_channel(line, when, width, name) if alone else name
            return self._cut(line, when, own, self._live(nodes), name)

        def shifted(match: re.Match[str]) -> str:
            """A table as a whole, of which a step takes its part behind the shift."""
            own, nodes = self.plan.when(self.one, match[1]), self.plan.nodes(self.one, match[1])
            if own is None or own.loop != ONCE or not nodes:
                raise Unplanned("a shift of what is not there from the start")
            return self._token(self._cut(line, when, own, self._live(nodes), match[0]))

        return _WORD.sub(cut, _SHIFTED.sub(shifted, code))

    def _tables(self, line: ProgramLine, when: When, code: str) -> str:
        """Tables of positions inside an equation: where channels are drawn, their part of them."""
        if when.loop < len(self.frame.axes) or line.node < 0:
            return code
        width = self.plan.term.infos[line.node].features.width
        return _TABLE.sub(lambda m: self._of_channel(line, when, width, m[0]), code)

    def _live(self, nodes: list[int]) -> int:
        """Of the nodes that a name stands for, one that is evaluated."""
        return next((n for n in nodes if n in self.plan.whens), nodes[0])

    def _late(
        self,
        line: ProgramLine,
        own: When,
        when: When,
        name: str,
        part: str | None = None,
        layer: str = "",
    ) -> str:
        """A name whose newest value stands farther on: that of this line's position."""
        place = when.offset if line.cycle else ()
        late = self.plan.late(self.one, name, line, place, part, layer)
        if not late:
            if line.cycle and own.loop == when.loop and own.offset != place:
                raise Unplanned("a recursion over what stands elsewhere")
            return name
        attribute = base = f"{line.name}_{name}_late"
        places, others = self.plan.kept, count(2)  # a recursion may read it at several places
        while any(places.get(path + attribute, kept) != kept for path, _, kept in late):
            attribute = f"{base}{next(others)}"
        self._till_then(attribute, late, own, when, name)
        return attribute

    def _till_then(
        self,
        attribute: str,
        late: Sequence[tuple[str, int, Keeping]],
        own: When,
        when: When,
        value: str,
    ) -> None:
        """A value is kept until this line stands where it is, by a shift by nothing.

        `late`: by use its path, the node and what is kept of it.
        """
        node = late[0][1]
        grid = tuple((axis, 1) for axis in self.frame.axes[: self.plan.outer(node) or None])
        features = self.plan.term.infos[node].features
        self.modules[f"self.{attribute}"] = shift_module(grid, (), features=features)
        for path, node, kept in late:
            self.plan.keep(path + attribute, node, kept)
        state = self._state(attribute, when)
        if own.loop > when.loop:
            self.add(own, [f"keep(self.{attribute}, {value}, {state})"], [])
        self._call(when, attribute, f"{value}, past={state}")

    def _call(self, when: When, attribute: str, arguments: str) -> None:
        """Of a layer whose cache moves on with each call: once, however often a line reads it."""
        statement = f"{attribute} = self.{attribute}({arguments})"
        if not any(statement in item.statements for item in self.items):
            self.add(when, [statement], [attribute])

    def _state(self, module: str, when: When) -> str:
        """The state that a layer is called with: that of its axes, if they are the first ones."""
        if when.clock is not None:  # a method of that clock is called with its state
            return "past"
        uses = self.plan.uses[id(self.one)]
        clocks = [kept.clock for use in uses if (kept := self.plan.kept.get(use.path + module))]
        axes = [(clock, len(clock.every) if clock else 0) for clock in clocks]
        outer = {n if clock == Clock.along(n) else 0 for clock, n in axes}
        if len(outer) > 1:
            raise Unplanned("a block along some of the axes and along all of them")
        if not any(outer):
            return "past"
        if any(use.base for use in uses):
            raise Unplanned("a block at a slower clock that reads along some of the axes")
        return f"along(past, {outer.pop()})"

    def _cut(self, line: ProgramLine, when: When, own: When, node: int, name: str) -> str:
        infos, axes = self.plan.term.infos, self.frame.axes
        info = infos[node]
        every = dict(infos[line.node].grid) if line.node >= 0 else {}
        dims = {
            place + int(info.batched): axes.index(axis)
            for place, (axis, stride) in enumerate(info.grid)
            if stride == every.get(axis, 1)  # of a slower clock `repeat` takes the part
            and axis in axes
            and own.loop < axes.index(axis) <= when.loop
        }
        if dims:
            text = self._at(line, when, own, node, name, dims)
        elif info.grid and _behind(own, when) and not own.apart(when):
            text = self._of_round(line, when, own.offset, node, name)
        else:
            text = name
        return self._of_channel(line, when, info.features.width, text)

    def _of_channel(self, line: ProgramLine, when: When, width: int, text: str) -> str:
        """Of what has the features of all channels those of the one that is drawn."""
        infos, axes = self.plan.term.infos, self.frame.axes
        features = infos[line.node].features if line.node >= 0 else None
        channel = self.frame.channels > 1 and when.loop == len(axes)
        grouped = channel and features is not None and features.runs is not None
        if grouped and features is not None and width > 1:
            gates, uneven = divmod(width, features.width)
            if uneven or not gates:
                raise Unplanned("channels that are joined to others inside a line")
            layout = self.one.fill(features.times(gates).layout)  # of a recurrence: all its gates
            attribute = f"{line.name}_{'gates' if gates > 1 else 'channels'}"
            self.modules[f"self.{attribute}"] = f"ChannelSlices({layout})"
            by = f", {when.offset[-1]}" if when.offset and when.offset[-1] else ""
            text = f"self.{attribute}({text}, past{by})"
        return text

    def _at(
        self, line: ProgramLine, when: When, own: When, node: int, name: str, dims: dict[int, int]
    ) -> str:
        """The part of a slab where a line stands."""
        listed = "{" + ", ".join(f"{d}: {k}" for d, k in dims.items()) + "}"
        if not _behind(own, when):
            return f"here({name}, past, {listed}, {self._offset(when)})"
        # That may be the end of the slab before: the part at the position drawn, kept till then.
        attribute = f"{line.name}_{name}_late"
        drawn = replace(when, offset=(0,) * len(when.offset))
        part = f"here({name}, past, {listed}, {self._offset(drawn)})"
        axes = self.plan.outer(node)
        if axes and min(when.offset[axes:], default=0) < 0:
            now = f"{line.name}_{name}_now"
            self.add(when, [f"{now} = {part}"], [now])
            return self._of_round(line, when, drawn.offset[:axes], node, now)
        self.plan.check_grid(node)
        kept = Keeping(drawn.offset, when.offset, self.plan.clock_of(node))
        late = [(use.path, node, kept) for use in self.plan.uses[id(self.one)]]
        self._till_then(attribute, late, own, when, part)
        return attribute

    def _of_round(self, line: ProgramLine, when: When, stands: Offset, node: int, name: str) -> str:
        """What has the axes of its loop alone, where a line may stand in the round before."""
        axes = self.plan.outer(node)
        if not axes:
            raise Unplanned("a value along some of the axes, read late")
        attribute = f"{line.name}_{name}_late"
        source = When(axes - 1, stands, Clock.along(axes))
        self._repeated(attribute, ["1"] * axes, source, when)
        lengths = ", ".join(f"{name}.shape[{k}]" for k in range(1, axes + 1))
        self._call(when, attribute, f"{name}, {lengths}, past=past")
        return attribute

    def _offset(self, when: When) -> str:
        if not when.offset:
            raise Unplanned("a stack whose layers stand at different places")
        return f"({', '.join(map(str, when.offset))}{',' if len(when.offset) == 1 else ''})"

    def _lengths(self, when: When, code: str) -> str:
        """What a coarser loop computes is as long as what is drawn, not as a step."""
        own = local(self.plan.term.variable)

        def whole(match: re.Match[str]) -> str:
            axis, clock = int(match[1]) - 1, when.clock
            if axis <= when.loop:
                return match[0]
            if theirs := self._when(match[0].partition(".")[0]):
                clock = theirs.clock
            return f"extent({match[0]}, {_state_of(clock, when.clock)}, {axis})"

        name = rf"{own}(?:_one_hot)?" if when.loop < 0 else r"[A-Za-z_]\w*"
        return re.sub(rf"(?<![\w.]){name}\.shape\[(\d+)\]", whole, code)

    def _first(self, when: When, axis: str) -> str:
        axes = self.frame.axes
        if when.loop < 0 or axis not in axes or axes.index(axis) > when.loop:
            return ""
        return f", first=first(past, {axes.index(axis)}, {self._offset(when)})"

    def _keep_finer(self, when: When, code: str, argument: str) -> None:
        """A layer of a coarser loop whose input a finer one computes: keep that as it comes."""
        if when.loop < 0:
            return
        called = re.search(r"self\.[\w.\[\]\"]+$", code)
        assert called is not None
        apart = plain(argument)  # what is read by a layer that keeps it is of this loop
        while _KEEPING.search(apart):
            apart = _KEEPING.sub("", apart)
        finer = [
            own for name in _WORD.findall(apart) if (own := self._when(name)) and own.finer(when)
        ]
        if finer:
            if "past=" in argument:
                raise Unplanned("a window of a window over a finer loop")
            state = self._state(module_of(called[0]), finer[0])
            self.add(finer[0], [f"keep({called[0]}, {plain(argument)}, {state})"], [])

    def arranged(self, inputs: Iterable[str], outputs: Iterable[str]) -> Arranged:
        """The statements of `forward`, and the methods beside it."""
        available = set(inputs)
        names = available | {name for item in self.items for name in item.defines}
        main: list[Item | Method] = []
        methods: list[Method] = []
        current: dict[Place, Method] = {}
        for item in self.items:
            for method in current.values():  # it is called before these keep anything
                method.missed.update(layer for s in item.statements for layer in _KEEP.findall(s))
            if item.place == (None, self.plan.finest):
                main.append(item)
            else:
                found = current.get(item.place)
                wanted = item.words & names - set(item.defines)
                if found is None or not found.takes(item, wanted):
                    title = self._title(*item.place)
                    same = sum(m.place == item.place for m in methods)
                    title += str(same + 1) if same else ""
                    found = current[item.place] = Method(title, item.place, [], set(available))
                    methods.append(found)
                    main.append(found)
                found.items.append(item)
            available |= set(item.defines)
        outside = set(outputs)
        for part in main:
            items = part.items if isinstance(part, Method) else [part]
            words = set().union(*(item.words for item in items))
            if isinstance(part, Method):
                part.arguments = sorted((words & names) - part.defines)
            else:
                outside |= words
        lists = {name for item in self.items for name in item.lists}
        for method in methods:
            method.lists = lists
            others = set().union(*(set(m.arguments) for m in methods if m is not method))
            method.results = sorted(method.defines & (outside | others))
            if not method.results and any("keep(" in s for i in method.items for s in i.statements):
                method.results = method.arguments[:1]  # it has no values, but it has to be called
        statements: list[str] = []
        for part in main:
            if isinstance(part, Item):
                statements += part.statements
            elif part.results:
                call = ", ".join([f"self.{part.name}", *part.arguments])
                key = f'self._place + "{part.name}"'
                left = ", ".join(part.results)
                clock, loop = part.place
                state = _state_of(clock, None)
                target = f"{left} = " if part.defines & set(part.results) else ""
                offsets = [self._stands(name) for name in part.results] if clock else []
                called = "settled"
                if any(offsets):  # not the newest ones are read until the next tick
                    where = tuple(offsets) if len(offsets) > 1 else offsets[0]
                    called, state = "settled_at", f"{where}, {state}"
                statements.append(f"{target}{called}({state}, {loop}, {key}, {call})")
        modules = [f"{target} = {made}" for target, made in self.modules.items()]
        return Arranged(statements, [m for m in methods if m.results], modules)

    def _stands(self, name: str) -> int:
        """How far from the newest tick of its clock a value stands, on the axis of its loop."""
        when = self._when(name)
        if when is None or when.loop < 0:
            return 0
        if not when.offset:
            raise Unplanned("a stack on a slower clock whose layers stand at different places")
        return when.offset[-1]

    def _title(self, clock: Clock | None, loop: int) -> str:
        axes = self.frame.axes
        if loop == ONCE:
            return "_given"
        of = "position" if loop == len(axes) - 1 else axes[loop]
        every = () if clock is None else (*clock.every, *filter(None, clock.ahead))
        return "_".join([f"_per_{of}", *(["every"] if every else []), *map(str, every)])


def _behind(own: When, when: When) -> bool:
    """Whether a line may stand in the round before the one that is open in a coarser loop."""
    return 0 <= own.loop < when.loop and min(when.offset[own.loop + 1 :], default=0) < 0


def _read_by_layer(code: str, at: int) -> bool:
    """Whether a layer is called with what stands there."""
    depth = 0
    for k in range(at - 1, -1, -1):
        depth += {")": 1, "]": 1, "(": -1, "[": -1}.get(code[k], 0)
        if depth < 0:
            if re.search(r"self\.[\w.\[\]\"]+$", code[:k]):
                return True
            depth = 0
    return False


def _in_window(code: str, part: Part) -> bool:
    """Whether a part is what a layer reads whose cache knows where that stands."""
    spans = [argument(code, match.start()) for match in KEPT.finditer(code)]
    return any(start <= part.start and part.end <= end for start, end in spans)


def _state_of(clock: Clock | None, here: Clock | None) -> str:
    """The state of a clock, where `past` is the state of another one."""
    if clock == here:
        return "past"
    if clock is None or clock == FINER:
        return "drawn(past)"
    return f"slower(past, {_clock_text(clock)})"


def _clock_text(clock: Clock) -> str:
    """The arguments that name a clock."""
    every, ahead = (tuple_text([str(n) for n in ns]) for ns in (clock.every, clock.ahead))
    return f"{every}, {ahead}" if any(clock.ahead) else every
