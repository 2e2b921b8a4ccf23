"""What a `use` line passes to its block: inputs, settings, schedules."""

from __future__ import annotations

from typing import Any

from arspec.diagnostics import nearest_name, refuse
from arspec.equations import (
    Term,
)
from arspec.expansion.applied import Stack, outputs_of
from arspec.expansion.chains import Chains
from arspec.expansion.ops import PLAIN
from arspec.expansion.settings import is_span
from arspec.expressions import parse
from arspec.layers import Use
from arspec.program import Instance, Module
from arspec.scope import Scope
from arspec.source import Path
from arspec.spec import Block, Line
from arspec.values import (
    Group,
    Num,
    Numbers,
    Ref,
    Series,
    Value,
    tuple_text,
)

MAX_REPEAT = 20_000


class Arguments(Chains):
    """Resolves the arguments of blocks."""

    def _arguments(
        self,
        block: Block,
        use: Use,
        line: Line,
        scope: Scope,
        previous: Value | None,
        path: str,
        instance: Instance,
    ) -> tuple[dict[str, Value], list[Module]]:
        """What each parameter of the block stands for; those that a repeat sets come later."""
        names = [p.name for p in block.parameters]
        scheduled = [k for k in use.repeat if k != "times"] if isinstance(use.repeat, dict) else []
        modules: list[Module] = []
        values: dict[str, Value] = {}
        for key in [*use.arguments, *scheduled]:
            if key not in names:
                near = nearest_name(key, names)
                at = (*line.path, key) if key in use.arguments else (*line.path, "repeat", key)
                hint = (
                    f"did you mean `{near}`?"
                    if near
                    else (f"`{block.name}` has {', '.join(names) or 'no parameters'}")
                )
                refuse(
                    "AR111",
                    self.spec.key_span(at),
                    block=block.name,
                    what=f"has no parameter `{key}`",
                    help=hint,
                )
        given = self._positional(use, line, scope, previous, path, modules, instance, names)
        free = [n for n in names if n not in use.arguments and n not in scheduled]
        if len(given) > len(free):
            where = self.spec.span((*line.path, "of") if use.of is not None else line.path)
            refuse(
                "AR111",
                where,
                block=block.name,
                what=f"takes {len(free)} inputs here, not {len(given)}",
            )
        values.update(zip(free, given, strict=False))
        for key, raw in use.arguments.items():
            values[key] = self._argument(
                raw,
                (*line.path, key),
                scope,
                f"{path}{line.attribute}.{key}",
                modules,
                instance,
                f"{line.attribute}_{key}",
            )
        for parameter in block.parameters:
            if parameter.name in values or parameter.name in scheduled:
                continue
            if parameter.required:
                refuse(
                    "AR111",
                    self.spec.span((*line.path, "use")),
                    block=block.name,
                    what=f"needs `{parameter.name}`",
                )
            values[parameter.name] = self._default(parameter.default, block, scope)
        return values, modules

    def _default(self, default: Any, block: Block, scope: Scope) -> Value:
        if isinstance(default, list):
            return Group(())
        if isinstance(default, int | float):
            return Num(default, str(default))
        expr = parse(default, block.span)
        value = self._evaluator(Scope(self.shared, block.name)).value(expr)
        if isinstance(value, Term):
            self._fail(block.span, f"`{default}` cannot be a default", "a number, a param or `[]`")
        return value

    def _positional(
        self,
        use: Use,
        line: Line,
        scope: Scope,
        previous: Value | None,
        path: str,
        modules: list[Module],
        instance: Instance,
        names: list[str],
    ) -> list[Value]:
        """The inputs that go to the first parameters: `of`, or the line above."""
        if use.of is None:
            if not names:
                return []
            if names and names[0] in use.arguments:
                return []
            if isinstance(use.repeat, dict) and names and names[0] in use.repeat:
                return []
            value: Any = previous
            if isinstance(value, Stack):
                self.shared.used_lines.add((scope.body, value.line))
                value = value.output
            elif isinstance(value, Ref):
                self._source(PLAIN, line.path, line.span, scope, value, "", modules, instance, "")
            if value is None:
                if not names:
                    return []
                self._fail(
                    line.span,
                    "the line above has no single output to read",
                    "name the inputs with `of`",
                )
            for known, held in scope.values.items():
                if held is previous:
                    self.shared.used_lines.add((scope.body, known))
            return list(value.members) if isinstance(value, Group) else [value]
        listed = use.of if isinstance(use.of, list) else [use.of]
        result: list[Value] = []
        for i, item in enumerate(listed):
            at = (*line.path, "of", i) if isinstance(use.of, list) else (*line.path, "of")
            value = self._argument(
                item, at, scope, f"{path}{line.attribute}.of{i}", modules, instance, line.attribute
            )
            if isinstance(value, Group):
                result += value.members
            else:
                result.append(value)
        return result

    def _argument(
        self,
        raw: Any,
        path: Path,
        scope: Scope,
        name: str,
        modules: list[Module],
        instance: Instance,
        attribute: str,
    ) -> Value:
        """What the user passes to a block: a number, a node, a window, a list of nodes."""
        if isinstance(raw, dict) or (isinstance(raw, str) and is_span(raw)):
            return self.window(raw, path, scope)
        if isinstance(raw, bool) or raw is None:
            self._fail(self.spec.span(path), "an argument is a number, a node, a window or a list")
        if isinstance(raw, int | float):
            return Num(raw, str(raw))
        if isinstance(raw, list):
            members: list[Value] = []
            for i, item in enumerate(raw):
                member = self._argument(
                    item, (*path, i), scope, f"{name}.{i}", modules, instance, attribute
                )
                members += member.members if isinstance(member, Group) else [member]
            return Group(tuple(members))
        value: Any = self._evaluator(scope).value(self.expression(str(raw), path))
        value = outputs_of(value)
        if isinstance(value, Term):
            modules += self._modules(value, attribute)
            return self._hoisted(value, name, self.spec.span(path), attribute, instance)
        passed: Value = value
        return passed

    def _repeat(
        self, use: Use, line: Line, scope: Scope, block: Block
    ) -> tuple[int, str, dict[str, Numbers | Series]]:
        """How often, the text of that number, and what changes with each repetition."""
        raw, path = use.repeat, (*line.path, "repeat")
        if raw is None:
            return 1, "1", {}
        if isinstance(raw, bool) or not isinstance(raw, int | float | str | dict):
            refuse(
                "AR103",
                self.spec.span(path),
                key="repeat",
                expected="a number, or lists by parameter",
            )
        if not isinstance(raw, dict):
            count = self._count(raw, path, scope)
            return int(count.value), count.text, {}
        times = Num(1, "1")
        lists: dict[str, Numbers | Series] = {}
        for key, value in raw.items():
            if key == "times":
                times = self._count(value, (*path, key), scope)
            else:
                lists[key] = self._schedule(value, (*path, key), scope)
        lengths = {key: len(values.members) for key, values in lists.items()}
        if len(set(lengths.values())) > 1:
            what = ", ".join(f"`{key}` has {n}" for key, n in lengths.items())
            refuse("AR115", self.spec.span(path), what=what)
        each = next(iter(lengths.values()), 1)
        total = each * int(times.value)
        if total > MAX_REPEAT or total < 1:
            refuse(
                "AR116",
                self.spec.span(path),
                what=f"{total:,} repetitions",
                limit=f"1 to {MAX_REPEAT:,}",
            )
        if times.value != 1:
            for key, values in lists.items():
                if isinstance(values, Numbers):
                    lists[key] = Numbers(values.members, f"{times.text} * {values.text}")
                elif isinstance(values, Series):
                    lists[key] = Series(values.members, f"{times.text} * {values.code}")
        return total, str(total), lists

    def _count(self, raw: Any, path: Path, scope: Scope) -> Num:
        count = self.number(raw, path, scope)
        if not isinstance(count.value, int) or not 1 <= count.value <= MAX_REPEAT:
            refuse(
                "AR116",
                self.spec.span(path),
                what=f"{count.value:,} repetitions",
                limit=f"1 to {MAX_REPEAT:,}",
            )
        return count

    def _schedule(self, raw: Any, path: Path, scope: Scope) -> Numbers | Series:
        if isinstance(raw, list) and raw:
            members = tuple(self.number(item, (*path, i), scope) for i, item in enumerate(raw))
            return Numbers(members, tuple_text([m.text for m in members]))
        if isinstance(raw, str):
            value = self._evaluator(scope).value(self.expression(raw, path))
            if isinstance(value, Numbers | Series):
                return value
        refuse(
            "AR115",
            self.spec.span(path),
            what="this is not a list",
            help="a list of numbers, `doubling(1..512)`, or `reversed(a.b)`",
        )
