"""Chains: a list of ops and functions, each of which reads the one before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arspec.diagnostics import refuse
from arspec.equations import (
    FUNCTION_CODE,
    FUNCTION_MODULE,
    term_of,
)
from arspec.expansion.lines import Lines
from arspec.expansion.ops import PLAIN
from arspec.layers import Op, Use
from arspec.marks import plain
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
        steps: list[tuple[str, str, bool]] = []  # construct, call template, plain
        made: Any = None
        info: Info | None = None
        parameters, masks = 0, []
        first_code = ""
        inner_modules: list[Module] = []
        for i, item in enumerate(items):
            path = (*line.path, i)
            at = self.spec.span(path)
            where = f"{name}.{i}"
            if isinstance(item, str):
                source = self._source(
                    PLAIN, path, at, scope, current, where, modules, instance, line.attribute
                )
                assert isinstance(source, Ref)
                term = term_of(source)
                features = term.features
                if item not in FUNCTION_CODE:
                    self._fail(at, f"`{item}` works on a list, not in a chain")
                if item == "concat_elu" and features is not None:
                    features = features.times(2)
                term = replace(term, features=features, symbols=None, raw="", delays=())
                ref = self._made(term, where, at, line.attribute, instance)
                steps.append(
                    (FUNCTION_MODULE.get(item, ""), FUNCTION_CODE[item], item in FUNCTION_MODULE)
                )
                node, info = ref.node, ref.info
            elif isinstance(item, Use):
                self._fail(at, "`use` inside a chain", "give it a line of its own")
            else:
                assert isinstance(item, Op)
                source = self._source(
                    item, path, at, scope, current, where, modules, instance, line.attribute
                )
                made = self._op(
                    item, path, at, scope, where, f"{line.attribute}.{i}", source, 1, instance
                )
                facts = made.facts
                own = [m for m in made.modules if m.attribute == f"{line.attribute}.{i}"]
                inner_modules += [m for m in made.modules if m not in own]
                construct = own[0].construct if own else ""
                template = made.code
                if isinstance(source, Ref) and source.code and i:
                    template = template.replace(f"({source.code}", "({}", 1)
                simple = bool(construct) and plain(made.code) == plain(
                    f"self.{line.attribute}.{i}({source.code if isinstance(source, Ref) else ''})"
                )
                steps.append((construct, template, simple))
                parameters += made.parameters
                masks.append(facts.mask)
                node, info = (
                    made.node,
                    Info(facts.grid, facts.features, facts.due, None, facts.batched),
                )
            if i == 0:
                first_code = source.code if isinstance(source, Ref) else ""
            current = Ref(node, info, "\x00")
        assert info is not None
        target = local(line.attribute)
        before: tuple[str, ...] = ()
        if all(simple for _, _, simple in steps):
            inner = ", ".join(construct for construct, _, _ in steps)
            modules.append(Module(line.attribute, f"nn.Sequential({inner})"))
            code = f"self.{line.attribute}({first_code})"
            if any(plain(template) != template for _, template, _ in steps):
                before, code = _one_by_one(line.attribute, target, steps, first_code)
        else:
            before, code = self._spelled_chain(
                line, steps, first_code, target, modules, inner_modules
            )
        instance.lines.append(
            ProgramLine(
                line.attribute,
                line.span,
                (target,),
                code,
                tuple(modules),
                info.grid,
                info.features.text,
                info.batched,
                before=before,
                mask=" ".join(m for m in masks if m),
                parameters=parameters,
                node=node,
            )
        )
        return Ref(node, info, target)

    def _spelled_chain(
        self,
        line: Line,
        steps: list[tuple[str, str, bool]],
        first: str,
        target: str,
        modules: list[Module],
        inner: list[Module],
    ) -> tuple[tuple[str, ...], str]:
        """A chain that nn.Sequential cannot hold: one statement per item, same keys."""
        held = {
            str(i): construct
            for i, (construct, template, _) in enumerate(steps)
            if construct and "self." in template
        }
        for module in inner:
            held[module.attribute.removeprefix(f"{line.attribute}.")] = module.construct
        listing = ", ".join(f'"{key}": {make}' for key, make in held.items())
        modules.append(Module(line.attribute, f"nn.ModuleDict({{{{{listing}}}}})"))
        statements = []
        current = first
        for _, template, _ in steps:
            if "self." not in template:
                code = template.replace("{}", current)
            else:
                code = template.replace("{}", current).replace("\x00", current)
            for key in sorted(held, key=len, reverse=True):
                code = code.replace(
                    f"self.{line.attribute}.{key}(", f'self.{line.attribute}["{key}"]('
                )
            statements.append(code)
            current = target
        return tuple(f"{target} = {s}" for s in statements[:-1]), statements[-1]


def _one_by_one(
    attribute: str, target: str, steps: list[tuple[str, str, bool]], first: str
) -> tuple[tuple[str, ...], str]:
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

    current = first
    for i, (_, template, _) in enumerate(steps):
        if plain(template) == template:
            run.append(i)
            continue
        current = close(current)
        code = template.replace(f"self.{attribute}.{i}(", f"self.{attribute}[{i}](", 1)
        codes.append(code.replace("({}", f"({current}", 1))
        current = target
    close(current)
    return tuple(f"{target} = {code}" for code in codes[:-1]), codes[-1]
