"""Recursions by equation: lines that need each other's earlier values, position by position.

The lines of one cycle become one statement, a loop over time around a function for one position:

    def h_at(earlier: Past, a_t: Tensor) -> tuple[Tensor, ...]:
        b = self.b(earlier(0, 1))
        h = torch.tanh(a_t + b)
        return b, h

    b, h = self.h_recursion(h_at, a, past=past)

Where a sampler knows some of the lines a step later than others, each has a function (`staged`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from arspec.marks import FIRST, KEPT, PASSED, argument, plain, standing
from arspec.program import Loop, Missing, Module, ProgramLine
from arspec.values import Grid, tuple_text

_WORD = re.compile(r"(?<![\w.\"])[A-Za-z_]\w*")
_SHIFT = re.compile(r"(?:Grid)?Shift(?:Or)?\((\d+)\)")


@dataclass
class _Position:
    """What one position computes: statements, and what comes from outside them."""

    taken: Collection[str]
    statements: list[str] = field(default_factory=list)
    shifts: list[str] = field(default_factory=list)  # of other nodes: computed for all positions
    modules: list[Module] = field(default_factory=list)
    depth: int = 1  # how far back its own values are read


class _NoCode(Exception):
    """A cycle through something that a loop over time cannot hold."""

    def __init__(self, what: str, line: ProgramLine, help: str | None = None) -> None:
        super().__init__(what)
        self.missing = Missing(f"{what} within a recursion by equation", line.span, help)


TAPS = "give each of its taps a line, `a: {linear: 8, of: h(time - 1)}`, and add them up"


def ordered(
    lines: Sequence[ProgramLine], grids: Mapping[str, Grid]
) -> tuple[list[ProgramLine], list[Missing]]:
    """The lines such that each comes after what it needs, those of a cycle as one.

    `grids`: of every name that they can read.
    """
    needs = [_needs(line, lines) for line in lines]
    result: list[ProgramLine] = []
    missing: list[Missing] = []
    taken = {*grids, *(word for line in lines for word in (*_words(line), *_made(line)))}
    values = {*grids, *(word for line in lines for word in _made(line))}
    done: set[int] = set()

    def place(i: int) -> None:
        if i in done:
            return
        cycle = sorted(j for j in needs[i] if i in needs[j]) or [i]
        done.update(cycle)
        for j in sorted(set().union(*(needs[k] for k in cycle)) - set(cycle)):
            place(j)
        members = [lines[j] for j in cycle]
        if i not in needs[i]:
            result.extend(members)
            return
        try:
            result.append(_looped(members, grids, taken, values))
        except _NoCode as refused:
            missing.append(refused.missing)
            result.extend(members)

    for i in range(len(lines)):
        place(i)
    return result, missing


def _words(line: ProgramLine) -> set[str]:
    """The names that a line reads of others, or of itself at another position."""
    if line.use is not None:
        text = [*line.before, line.code, *line.use.zipped.values()]
        text += [code for call in line.use.calls for code in call.inputs.values()]
        return set(_WORD.findall(plain(" ".join(text)))) - set(_made(line))  # handed on
    words: set[str] = set()
    given: set[str] = set()  # by an earlier statement of the line, such as the items of a chain
    for statement in (*line.before, line.code):
        made, assigned, value = plain(statement).partition(" = ")
        assigns = bool(assigned) and made.isidentifier()
        words.update(set(_WORD.findall(value if assigns else plain(statement))) - given)
        given.update([made] if assigns else [])
    return words


def _needs(line: ProgramLine, lines: Sequence[ProgramLine]) -> set[int]:
    """The lines that a line depends on, in any number of steps."""
    makers = {target: j for j, other in enumerate(lines) for target in _made(other)}
    found: set[int] = set()
    open_ = {makers[word] for word in _words(line) & makers.keys()}
    while open_:
        found |= open_
        words = set().union(*(_words(lines[j]) for j in open_))
        open_ = {makers[word] for word in words & makers.keys()} - found
    return found


def _made(line: ProgramLine) -> tuple[str, ...]:
    if line.use is None:
        return line.targets
    exported = {
        f"{line.use.attribute}_{target}"
        for call in line.use.calls
        for inner in call.instance.lines
        for target in inner.targets
    }
    return (*line.use.carried, *exported)


def _looped(
    cycle: Sequence[ProgramLine],
    grids: Mapping[str, Grid],
    taken: Collection[str],
    values: Collection[str],
) -> ProgramLine:
    """The lines of a cycle as one statement."""
    main = cycle[-1]
    for line in cycle:
        if line.use:
            raise _NoCode("a block", line, "write the block's lines here")
        if line.before or len(line.targets) != 1:
            raise _NoCode("a line of several parts", line, "write a line for each of them")
        if len(line.grid) > 1:
            raise _NoCode("more than one axis", line)
    if len({line.grid for line in cycle}) > 1 or not main.grid or not main.batched:
        raise _NoCode("a node on another clock", main)
    targets = [line.targets[0] for line in cycle]
    earlier = _free("earlier", taken)
    position = _Position(taken)
    for line in _computable(cycle, targets):
        _add(position, line, targets, earlier)
    inside = " ".join(position.statements)
    own = {s.partition(" = ")[0] for s in position.shifts}
    inputs = [
        word
        for word in dict.fromkeys(_WORD.findall(inside))
        if word in own or (word not in targets and grids.get(word) == main.grid)
    ]
    others = set(_WORD.findall(inside)) & set(values) - {*inputs, *targets}
    if not inputs or any(grids.get(word, main.grid) for word in others):
        raise _NoCode("a list, or a node on another clock,", main)
    name, attribute = f"{main.targets[0]}_at", f"{main.targets[0]}_recursion"
    function = _function(_free(name, taken), earlier, position.statements, inputs, targets, taken)
    widths = ", ".join(line.width for line in cycle)
    depth = f", depth={position.depth}" if position.depth > 1 else ""
    loop = Loop(
        tuple(position.statements),
        tuple(inputs),
        earlier,
        position.depth,
        attribute,
        widths,
        frozenset(taken),
    )
    code = f"self.{attribute}({','.join([_free(name, taken), *inputs])}{PASSED})"
    return ProgramLine(
        main.name,
        main.span,
        tuple(targets),
        code if len(targets) > 1 else f"{code}[0]",
        (*position.modules, Module(attribute, f"Recursion([{widths}]{depth})")),
        main.grid,
        main.width if len({line.width for line in cycle}) == 1 else "",
        before=(*position.shifts, function),
        parameters=sum(line.parameters for line in cycle),
        node=main.node,
        cycle=tuple(line.name for line in cycle),
        loop=loop,
    )


def staged(line: ProgramLine, places: Sequence[int]) -> ProgramLine:
    """The same as one function for each of the places where a sampler evaluates the lines.

    `places`: of each of the cycle's lines, relative to the position that is drawn.
    """
    loop, targets = line.loop, line.targets
    assert loop is not None
    place_of = dict(zip(targets, places, strict=True))
    made = [(statement.partition(" = ")[0], statement) for statement in loop.statements]
    taken, functions, names, read = set(loop.taken), [], [], []
    stages: dict[int, list[int]] = {}
    for place in sorted(set(places), reverse=True):  # of a position: what is known first
        own = [target for target, _ in made if place_of[target] == place]
        others = {t: f"{loop.earlier}({k}, 0)" for k, t in enumerate(targets) if t not in own}
        statements = [
            _WORD.sub(lambda m, others=others: others.get(m[0], m[0]), statement)  # type: ignore[misc]
            for target, statement in made
            if target in own
        ]
        words = _WORD.findall(" ".join(statements))
        inputs = [word for word in loop.inputs if word in words]
        names.append(_free(f"{own[-1]}_at", taken))
        taken.add(names[-1])
        functions.append(_function(names[-1], loop.earlier, statements, inputs, own, loop.taken))
        read.append(standing(tuple_text(inputs), place))
        stages[place] = [targets.index(target) for target in own]
    depth = f", depth={loop.depth}" if loop.depth > 1 else ""
    module = Module(loop.attribute, f"StagedRecursion([{loop.widths}], {stages}{depth})")
    modules = [module if m.attribute == loop.attribute else m for m in line.modules]
    code = f"self.{loop.attribute}(({', '.join(names)}), {', '.join(read)}{PASSED})"
    before = (*line.before[:-1], *functions)
    return replace(line, code=code, before=before, modules=tuple(modules))


def _function(
    name: str,
    earlier: str,
    statements: Sequence[str],
    inputs: Sequence[str],
    targets: Sequence[str],
    taken: Collection[str],
) -> str:
    """The text of the function for one position; its inputs there have names of their own."""
    here = {word: _free(f"{word}_t", taken) for word in inputs}
    arguments = "".join(f", {word}: Tensor" for word in here.values())
    values = ", ".join(targets) if len(targets) > 1 else f"({targets[0]},)"
    lines = [_WORD.sub(lambda m: here.get(m[0], m[0]), s) for s in statements]
    body = "".join(f"\n            {line}" for line in [*lines, f"return {values}"])
    return f"def {name}({earlier}: Any{arguments}) -> tuple[Tensor, ...]:{body}\n"


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _computable(cycle: Sequence[ProgramLine], targets: Sequence[str]) -> list[ProgramLine]:
    """The lines of one position in an order in which each has what it needs of that position."""
    waiting, result = list(cycle), list[ProgramLine]()
    while waiting:
        open_ = {line.targets[0] for line in waiting}
        ready = next((x for x in waiting if not open_ & _now(x, targets)), None)
        if ready is None:
            raise _NoCode("a value ahead", waiting[0])
        waiting.remove(ready)
        result.append(ready)
    return result


def _now(line: ProgramLine, targets: Sequence[str]) -> set[str]:
    """What a line reads of its own position."""
    position = _Position(())
    _add(position, line, targets, "")
    return set(_WORD.findall(position.statements[0].partition(" = ")[2]))


def _add(position: _Position, line: ProgramLine, targets: Sequence[str], earlier: str) -> None:
    """A line's statement, its shifts of the cycle's own values replaced by `earlier`."""
    code = line.code
    if FIRST.search(code):
        what = "a slower clock or a table of positions"
        raise _NoCode(what, line, "add it on a line outside of the recursion")
    modules = {module.attribute: module for module in line.modules}
    while match := KEPT.search(code):
        start, end = argument(code, match.start())
        called = re.search(r"self\.(\w+)\($", plain(code[:start]))
        read, close = plain(code[start:end]), match.end() + 1
        if called is None or called[1] not in modules:
            raise _NoCode("a window", line, TAPS)
        by = _SHIFT.fullmatch(modules[called[1]].construct)
        if by is None:
            ahead = modules[called[1]].construct.startswith("Shift")
            raise _NoCode(*(("a shift ahead", line) if ahead else ("a window", line, TAPS)))
        if read in targets:
            del modules[called[1]]
            rest = code[end : match.start()]  # what stands outside the grid
            position.depth = max(position.depth, int(by[1]))
            made = f"{earlier}({targets.index(read)}, {by[1]}{rest})"
        elif set(_WORD.findall(read)) & set(targets):
            raise _NoCode("a shift of what is computed here", line, "write it on a line before")
        else:
            late = f"{read}_before{by[1] if by[1] != '1' else ''}"
            made = _free(late if read.isidentifier() else f"{called[1]}_value", position.taken)
            begin = code.rindex(f"self.{called[1]}(", 0, start)
            position.shifts.append(f"{made} = {code[begin:close]}")
        code = code[: code.rindex(f"self.{called[1]}(", 0, start)] + made + code[close:]
    position.modules += modules.values()
    position.statements.append(f"{line.targets[0]} = {plain(code)}")
