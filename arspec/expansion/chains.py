"""Chains: a list of ops and functions, each of which reads the one before it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from arspec.diagnostics import refuse
from arspec.equations import (
    FUNCTION_CODE,
    FUNCTION_MODULE,
    term_of,
)
from arspec.expansion.lines import Lines
from arspec.expansion.ops import PLAIN
from arspec.layers import Op, Use
from arspec.marks import ITEM, plain
from arspec.names import local
from arspec.program import Instance, Module, ProgramLine
from arspec.scope import Scope
from arspec.spec import Line
from arspec.values import (
    Info,
    Ref,
    Value,
)


class Chains(Lines):
    """Expands chains."""

    def _chain(
        self, line: Line, scope: Scope, name: str, previous: Value | None, instance: Instance
    ) -> Value:
        """A list: each item reads the one before it."""
        items = line.value
        assert isinstance(items, tuple)
        if len(line.names) > 1:
            refuse(
                "AR123",
                line.span,
                names=len(line.names),
                parts=1,
                help="give the last op of the chain a line of its own",
            )
        current: Any = previous
        modules: list[Module] = []
        inner: list[Module] = []
        steps: list[_Step] = []
        first = ""
        for i, item in enumerate(items):
            path = (*line.path, i)
            at = self.spec.span(path)
            where = f"{name}.{i}"
            if isinstance(item, Use):
                self._fail(at, "`use` inside a chain", "give it a line of its own")
            op = PLAIN if isinstance(item, str) else item
            assert isinstance(op, Op)
            source = self._source(
                op, path, at, scope, current, where, modules, instance, line.attribute
            )
            code = source.code if isinstance(source, Ref) else ""
            first = first if i else code
            if isinstance(item, str):
                assert isinstance(source, Ref)
                term = term_of(source)
                features = term.features
                if item not in FUNCTION_CODE:
                    self._fail(at, f"`{item}` works on a list, not in a chain")
                if item == "concat_elu" and features is not None:
                    features = features.times(2)
                term = replace(term, features=features, symbols=None, raw="", delays=())
                ref = self._made(term, where, at, line.attribute, instance)
                construct, simple = FUNCTION_MODULE.get(item, ""), item in FUNCTION_MODULE
                step = _Step(i, construct, FUNCTION_CODE[item], simple, ref.node, ref.info)
            else:
                made = self._op(
                    op, path, at, scope, where, f"{line.attribute}.{i}", source, 1, instance
                )
                facts = made.facts
                own = [m for m in made.modules if m.attribute == f"{line.attribute}.{i}"]
                inner += [m for m in made.modules if m not in own]
                construct, template = own[0].construct if own else "", made.code
                if code and i:
                    template = template.replace(f"({code}", "({}", 1)
                called = f"self.{line.attribute}.{i}({code})"
                simple = bool(construct) and plain(made.code) == plain(called)
                info = Info(facts.grid, facts.features, facts.due, None, facts.batched)
                step = _Step(
                    i, construct, template, simple, made.node, info, made.parameters, facts.mask
                )
            steps.append(step)
            current = Ref(step.node, step.info, ITEM)
        taken = scope.lines | self.shared.numbers.keys() | self.shared.variables.keys()
        instance.lines += _lines_of(line, steps, first, modules, inner, taken)
        return Ref(step.node, step.info, local(line.attribute))


class _Step(NamedTuple):
    """One item of a chain: its layer's construct, its code with `{}` for what it reads.

    `simple`: whether nn.Sequential can hold it.
    """

    place: int
    construct: str
    template: str
    simple: bool
    node: int
    info: Info
    parameters: int = 0
    mask: str = ""


def _lines_of(
    line: Line,
    steps: list[_Step],
    first: str,
    modules: list[Module],
    inner: list[Module],
    taken: Collection[str],
) -> Iterator[ProgramLine]:
    """The lines of the program: one, or one for each clock of the chain.

    `first`: the code of what the first item reads; `inner`: modules inside of items; `taken`:
    names that lines must not have.
    """
    attribute = line.attribute
    simple = all(step.simple for step in steps)
    if simple:
        layers = ", ".join(step.construct for step in steps)
        modules = [*modules, Module(attribute, f"nn.Sequential({layers})")]
    else:
        held = {
            str(step.place): step.construct
            for step in steps
            if step.construct and "self." in step.template
        }
        held |= {m.attribute.removeprefix(f"{attribute}."): m.construct for m in inner}
        listing = ", ".join(f'"{key}": {make}' for key, make in held.items())
        modules = [*modules, Module(attribute, f"nn.ModuleDict({{{{{listing}}}}})")]
    current = first
    for part in _by_clock(steps):
        last, whole = part[-1], len(part) == len(steps)
        name = attribute if last is steps[-1] else f"{attribute}_{last.place}"
        while name != attribute and name in taken:
            name += "_"
        target = local(name)
        if not simple:
            codes = _spelled(attribute, held, part, current, target)
        elif whole and all(plain(step.template) == step.template for step in part):
            codes = [f"self.{attribute}({current})"]
        else:
            codes = _one_by_one(attribute, part, current, target)
        yield ProgramLine(
            name,
            line.span,
            (target,),
            codes[-1],
            tuple(modules),
            last.info.grid,
            last.info.features.text,
            last.info.batched,
            before=tuple(f"{target} = {code}" for code in codes[:-1]),
            mask=" ".join(step.mask for step in part if step.mask),
            parameters=sum(step.parameters for step in part),
            node=last.node,
            nodes=tuple(f"{attribute}.{step.place}" for step in part),
        )
        current, modules = target, []


def _by_clock(steps: list[_Step]) -> list[list[_Step]]:
    """Runs of items with the same strides."""
    parts = [steps[:1]]
    for before, step in pairwise(steps):
        was, now = dict(before.info.grid), dict(step.info.grid)
        if any(was[axis] != now[axis] for axis in was.keys() & now.keys()):
            parts.append([])
        parts[-1].append(step)
    return parts


def _spelled(
    attribute: str, held: Collection[str], part: list[_Step], current: str, target: str
) -> list[str]:
    """A chain that nn.Sequential cannot hold: one statement per item, same keys."""
    codes = []
    for step in part:
        code = step.template.replace("{}", current).replace(ITEM, current)
        for key in sorted(held, key=len, reverse=True):
            code = code.replace(f"self.{attribute}.{key}(", f'self.{attribute}["{key}"](')
        codes.append(code)
        current = target
    return codes


def _one_by_one(attribute: str, part: list[_Step], current: str, target: str) -> list[str]:
    """An nn.Sequential with layers that keep something: runs of others stay one statement."""
    codes: list[str] = []
    run: list[int] = []

    def close(current: str) -> str:
        """Run what was collected."""
        if not run:
            return current
        for i in run:
            current = f"self.{attribute}[{i}]({current})"
        codes.append(current)
        run.clear()
        return target

    for step in part:
        if plain(step.template) == step.template:
            run.append(step.place)
            continue
        current = close(current)
        i = step.place
        code = step.template.replace(f"self.{attribute}.{i}(", f"self.{attribute}[{i}](", 1)
        codes.append(code.replace("({}", f"({current}", 1))
        current = target
    close(current)
    return codes
