"""`use` and `repeat`: blocks expanded for their arguments, or copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from arspec.diagnostics import nearest_name, refuse
from arspec.expansion.applied import Applied, Stack, kind, literal, refs
from arspec.expansion.arguments import Arguments
from arspec.expansion.growing import MAX_NODES, Draft
from arspec.layers import Use
from arspec.names import local
from arspec.program import Call, Instance, ProgramLine, UseLine
from arspec.scope import Scope
from arspec.source import Path
from arspec.spec import Block, Line
from arspec.values import (
    Features,
    Group,
    Info,
    Num,
    Numbers,
    Ref,
    Series,
    Value,
    Window,
)


@dataclass(frozen=True)
class _Template:
    """A block's first expansion under certain sizes."""

    start: int
    drafts: tuple[Draft, ...]
    infos: tuple[Info, ...]
    outside: tuple[int, ...]
    prefix: str
    applied: Applied
    instance: Instance


class Uses(Arguments):
    """Expands blocks."""

    def _use(
        self,
        line: Line,
        use: Use,
        scope: Scope,
        path: str,
        previous: Value | None,
        instance: Instance,
    ) -> Value:
        block = self._block(use, line.path)
        if block.name in self.active:
            cycle = " -> ".join([*self.active[self.active.index(block.name) :], block.name])
            refuse("AR110", self.spec.span((*line.path, "use")), cycle=cycle)
        self.shared.used.add(f"block {block.name}")
        arguments, modules = self._arguments(block, use, line, scope, previous, path, instance)
        count, repeat_text, lists = self._repeat(use, line, scope, block)
        texts = {name: v.text for name, v in lists.items() if isinstance(v, Numbers)}
        zipped = {name: v.code for name, v in lists.items() if isinstance(v, Series)}
        applied: list[Applied] = []
        calls: list[Call] = []
        current = dict(arguments)
        repeated = use.repeat is not None
        for i in range(count):
            for name, values in lists.items():
                current[name] = values.members[i % len(values.members)]
            at = f"{path}{line.attribute}" + (f".{i}" if repeated else "")
            one, call = self._apply(block, current, at, line)
            if calls and call.instance is not calls[-1].instance:
                self._same_masks(calls[-1].instance, call.instance, line, i)
            applied.append(one)
            calls.append(call)
            self._carry(block, current, one.result, lists)
        output = applied[-1].result
        carried = self._carried_names(line, output, scope)
        if isinstance(output, Group):
            members = tuple(m.named(c) for m, c in zip(output.members, carried, strict=True))  # type: ignore[union-attr]
            output = Group(members)
        elif isinstance(output, Ref):
            output = output.named(carried[0])
        last = output.members[0] if isinstance(output, Group) else output
        assert isinstance(last, Ref)
        instance.lines.append(
            ProgramLine(
                line.attribute,
                line.span,
                carried,
                "",
                tuple(modules),
                last.info.grid,
                last.info.features.text,
                use=UseLine(
                    line.attribute,
                    tuple(calls),
                    repeat_text if repeated else None,
                    texts,
                    zipped,
                    carried,
                ),
                node=last.node,
            )
        )
        stack = Stack(tuple(applied), output, line.attribute, repeated)
        if len(line.names) > 1:
            return self._take_apart(line, stack, scope, instance)
        return stack

    def _block(self, use: Use, path: Path) -> Block:
        block = self.spec.blocks.get(use.use)
        if block is None:
            near = nearest_name(use.use, self.spec.blocks)
            hint = f"did you mean `{near}`?" if near else "it has to be one of `blocks`"
            refuse("AR105", self.spec.span((*path, "use")), name=use.use, help=hint)
        return block

    def _apply(
        self, block: Block, arguments: dict[str, Value], path: str, line: Line
    ) -> tuple[Applied, Call]:
        """Expand the block for these arguments, or copy an expansion of the same kind."""
        arguments = {p.name: arguments[p.name] for p in block.parameters}
        outside = tuple(ref.node for ref in refs(arguments.values()))
        key = (
            block.name,
            tuple((n, kind(v, self.globals)) for n, v in sorted(arguments.items())),
            tuple(outside.index(node) for node in outside),
        )
        numbers = {n: v.text for n, v in arguments.items() if isinstance(v, Num)}
        sizes = {n: v.value for n, v in arguments.items() if isinstance(v, Num)}
        inputs: dict[str, str] = {}
        widths: dict[str, str] = {}
        values = self._bound(arguments, inputs, widths)
        template = self.templates.get(key)
        if template is not None:
            applied = self._copy(template, outside, path, widths)
            return applied, Call(template.instance, numbers, widths, inputs, sizes)
        if len(self.active) > 40:
            refuse("AR116", line.span, what="blocks inside blocks", limit="40")
        self.active.append(block.name)
        floats = {
            n for n, v in arguments.items() if isinstance(v, Num) and isinstance(v.value, float)
        }
        instance = Instance(
            block.name, tuple(numbers), tuple(inputs), floats=frozenset(floats), path=f"{path}."
        )
        scope = Scope(self.shared, block.name, values)
        start = len(self.drafts)
        first = values[block.parameters[0].name] if block.parameters else None
        first = first if isinstance(first, Ref | Group) else None
        output = self._body(block.body, scope, f"{path}.", first, instance)
        self.active.pop()
        instance.lines[:] = [line.relative(instance.path) for line in instance.lines]
        instance.outputs = tuple(ref.code for ref in refs([output]))
        applied = Applied(block.name, dict(scope.values), output, widths)
        self.templates[key] = _Template(
            start,
            tuple(self.drafts[start:]),
            tuple(self.infos[i] for i in range(start, len(self.drafts))),
            outside,
            path,
            applied,
            instance,
        )
        return applied, Call(instance, numbers, widths, inputs, sizes)

    def _bound(
        self, arguments: Mapping[str, Value], inputs: dict[str, str], widths: dict[str, str]
    ) -> dict[str, Value]:
        """The arguments as the block sees them: by its own names, sizes left to the user."""

        def bind(ref: Ref, name: str) -> Ref:
            inputs[local(name)] = ref.code
            f = ref.info.features
            widths[f"{name}_width"] = f.text
            width = f"{{{name}_width}}"
            layout = ""
            if f.runs is not None:
                plain = Features.grouped(Num(f.width, f.text), self.frame.channels)
                if plain.runs == f.runs:
                    layout = f"channel_groups({width}, {self.frame.channels})"
                else:
                    layout = f"{{{name}_groups}}"
                    widths[f"{name}_groups"] = f.layout
            info = replace(ref.info, features=replace(f, text=width, layout=layout))
            return Ref(ref.node, replace(info, symbols=None), local(name))

        bound: dict[str, Value] = {}
        for name, value in arguments.items():
            if isinstance(value, Ref):
                bound[name] = bind(value, name)
            elif isinstance(value, Group):
                refs = [ref for ref in value.members if isinstance(ref, Ref)]
                bound[name] = Group(tuple(bind(r, f"{name}_{i}") for i, r in enumerate(refs)))
            elif isinstance(value, Num):
                bound[name] = Num(value.value, local(name))
            elif isinstance(value, Window):
                bound[name] = literal(value)
            else:
                bound[name] = value
        return bound

    def _copy(
        self, template: _Template, outside: tuple[int, ...], path: str, widths: Mapping[str, str]
    ) -> Applied:
        base = len(self.drafts)
        delta, start = base - template.start, template.start
        passed = dict(zip(template.outside, outside, strict=True))

        def move(node: int) -> int:
            return node + delta if node >= start else passed.get(node, node)

        if base + len(template.drafts) > MAX_NODES:
            refuse("AR116", None, what="the model", limit=f"{MAX_NODES:,} nodes")
        cut = len(template.prefix)
        for i, (name, span, grid, grouped, reads) in enumerate(template.drafts):
            moved = tuple(replace(read, source=move(read.source)) for read in reads)
            self.drafts.append((path + name[cut:], span, grid, grouped, moved))
            self.infos[base + i] = template.infos[i]
        applied = template.applied
        return replace(applied, widths=widths, moves=(*applied.moves, move))

    def _carry(
        self, block: Block, current: dict[str, Value], output: Value, lists: Mapping[str, Any]
    ) -> None:
        """The outputs become the first inputs of the next repetition."""
        outputs = list(refs([output]))
        free = [p.name for p in block.parameters if p.name not in lists]
        for name, ref in zip(free, outputs, strict=False):
            previous = current.get(name)
            code = previous.code if isinstance(previous, Ref) else name
            current[name] = ref.named(code)

    def _carried_names(self, line: Line, output: Value, scope: Scope) -> tuple[str, ...]:
        count = len(list(refs([output])))
        if count == 1:
            return (local(line.attribute),)
        if len(line.names) == count:
            return tuple(local(name) for name in line.names)
        made = [f"{line.attribute}_{i}" for i in range(count)]
        why = f"an output of line `{line.attribute}`"
        return tuple(scope.made_name(name, line.span, why) for name in made)

    def _same_masks(self, a: Instance, b: Instance, line: Line, index: int) -> None:
        if a.masks != b.masks:
            refuse(
                "AR306",
                line.span,
                name=line.attribute,
                index=index,
                help="write the first repetition out as a line of its own",
            )
