"""Bodies and their lines: equations, ops, chains, recursions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from arspec.diagnostics import Diagnostic, SpecError, refuse
from arspec.equations import Term, shift_reason
from arspec.expansion.applied import outputs_of
from arspec.expansion.cycles import ordered
from arspec.expansion.ops import Ops
from arspec.expressions import Expr
from arspec.expressions import names as names_in
from arspec.layers import Op, Use
from arspec.marks import hoisted
from arspec.names import local
from arspec.program import Instance, Module, ProgramLine
from arspec.scope import Scope
from arspec.source import Path
from arspec.spec import Body, Line
from arspec.values import (
    Features,
    Group,
    Info,
    Num,
    Ref,
    Value,
)


class Lines(Ops):
    """Expands bodies, line by line."""

    def _body(
        self, body: Body, scope: Scope, path: str, first: Value | None, instance: Instance
    ) -> Value:
        """Expand a body's lines; returns its output. Lines that refer to later ones are a
        recursion: their facts are guessed and the body is expanded until the guess holds."""
        names = {name for line in body.lines for name in line.names}
        scope.lines = frozenset(names)
        if not self._refers_ahead(body, names):
            return self._lines(body, scope, path, first, instance)
        start = len(self.drafts)
        unknown = Info((), Features(1, "1"))
        guess = dict.fromkeys(names, unknown)
        base = dict(scope.values)
        settled = False  # what was guessed holds: now it may be judged
        for _ in range(16):
            del self.drafts[start:]
            instance.lines.clear()
            instance.missing.clear()
            scope.values, scope.guessing = dict(base), not settled
            scope.recursive.clear()
            held = {n: self.node(f"{path}{n}", body.span, guess[n], ()) for n in sorted(names)}
            self.held.update(held.values())
            scope.later = {n: Ref(held[n], guess[n], local(n)) for n in names}
            output = self._lines(body, scope, path, first, instance)
            found = {
                n: v.info if isinstance(v, Ref) else unknown
                for n, v in scope.values.items()
                if n in names
            }
            holds = all(found[n] == guess[n] for n in scope.recursive)
            if holds and settled:
                break
            guess, settled = found, holds
        real = {
            held[n]: v.node for n, v in scope.values.items() if n in names and isinstance(v, Ref)
        }
        for i in range(start, len(self.drafts)):
            *rest, reads = self.drafts[i]
            moved = tuple(
                replace(read, source=real.get(read.source, read.source)) for read in reads
            )
            self.drafts[i] = (*rest, moved)  # type: ignore[assignment]
        values = [outputs_of(value) for value in scope.values.values()]
        members = [m for v in values for m in (v.members if isinstance(v, Group) else (v,))]
        refs = [ref for ref in members if isinstance(ref, Ref)]
        grids = {ref.code: ref.info.grid for ref in [*refs, *self.shared.variables.values()]}
        instance.lines[:], missing = ordered(instance.lines, grids)
        instance.missing += missing
        return output

    def _refers_ahead(self, body: Body, names: set[str]) -> bool:

        seen: set[str] = set()
        for line in body.lines:
            for expr in self._expressions_of(line):
                for name in names_in(expr):
                    if name.parts[0] in names and name.parts[0] not in seen:
                        return True
            seen.update(line.names)
        return False

    def _expressions_of(self, line: Line) -> Iterable[Expr]:
        if isinstance(line.value, tuple):
            found: list[Expr] = []
            items: tuple[Any, ...] = line.value
            for i, item in enumerate(items):
                if isinstance(item, Op):
                    found += self._read(item, (i,), line)
                elif not isinstance(item, str):
                    found.append(item)
            return found
        if not isinstance(line.value, Op):
            return [line.value] if line.value is not None else []
        return self._read(line.value, (), line)

    def _read(self, op: Op, at: Path, line: Line) -> list[Expr]:
        """The expressions of what an op reads."""
        found = []
        for key in ("of", "given", "over"):
            raw = getattr(op, key, None)
            texts = raw if isinstance(raw, list) else [raw]
            for i, value in enumerate(texts):
                if isinstance(value, str):
                    path = (*line.path, *at, key, *((i,) if isinstance(raw, list) else ()))
                    found.append(self.expression(value, path))
        return found

    def _lines(
        self, body: Body, scope: Scope, path: str, first: Value | None, instance: Instance
    ) -> Value:
        previous = first
        value: Value | None = None
        errors: list[Diagnostic] = []
        broken: set[str] = set()
        for line in body.lines:
            if broken and self._mentions(line, broken):
                broken.update(line.names)
                previous = None
                continue
            try:
                value = self._line(line, scope, path, previous, instance)
            except SpecError as found:
                if scope.guessing:  # as it may be for what is not known yet: judged once that is
                    scope.values.update((name, scope.later[name]) for name in line.names)
                    previous = scope.later[line.names[0]] if len(line.names) == 1 else None
                    continue
                errors += found.diagnostics
                broken.update(line.names)
                previous = None
                if len(errors) > 20:
                    break
                continue
            if len(line.names) == 1:
                scope.values[line.names[0]] = value
                previous = value
            else:
                previous = None
        if errors:
            raise SpecError(errors)
        _distinct(instance)
        last = body.lines[-1]
        if len(last.names) > 1:
            value = Group(tuple(scope.values[name] for name in last.names))
        for name in last.names:
            self.shared.used_lines.add((scope.body, name))
        assert value is not None
        output: Value = outputs_of(value)
        return output

    def _mentions(self, line: Line, broken: set[str]) -> bool:
        """Whether a line depends on one that is in error: then it says nothing new."""

        first = line.value[0] if isinstance(line.value, tuple) else line.value
        if isinstance(first, str | Use) or (isinstance(first, Op) and first.of is None):
            return True
        try:
            expressions = list(self._expressions_of(line))
        except SpecError:
            return False
        return any(name.parts[0] in broken for e in expressions for name in names_in(e))

    def _line(
        self, line: Line, scope: Scope, path: str, previous: Value | None, instance: Instance
    ) -> Value:
        name = f"{path}{line.attribute}"
        if isinstance(line.value, Use):
            return self._use(line, line.value, scope, path, previous, instance)
        if isinstance(line.value, Op):
            return self._op_line(line, line.value, scope, name, previous, instance)
        if isinstance(line.value, tuple) and all(isinstance(v, Op | str) for v in line.value):
            return self._chain(line, scope, name, previous, instance)
        return self._equation(line, scope, name, instance)

    def _equation(self, line: Line, scope: Scope, name: str, instance: Instance) -> Value:
        evaluator = self._evaluator(scope)
        parts = line.value if isinstance(line.value, tuple) else (line.value,)
        if len(parts) > 1:  # `out: v_out, h + dense`: a pair
            members, modules = [], list[Module]()
            for i, part in enumerate(parts):
                value = evaluator.value(part)  # type: ignore[arg-type]
                if isinstance(value, Term):
                    where = part.span  # type: ignore[union-attr]
                    own = f"{line.attribute}_{i}"
                    made_of = self._made(value, f"{name}.{i}", where, own, instance)
                    modules += self._modules(value, own)
                    value = made_of.named(hoisted(made_of.code, f"{name}.{i}", own))
                value = outputs_of(value)
                if not isinstance(value, Ref):
                    self._fail(part.span, "only single nodes can stand side by side")  # type: ignore[union-attr]
                members.append(value)
            made = [f"{local(line.attribute)}_{i}" for i in range(len(members))]
            why = f"a part of line `{line.attribute}`"
            targets = tuple(scope.made_name(one, line.span, why) for one in made)
            if len(line.names) > 1:
                if len(line.names) != len(members):
                    refuse("AR123", line.span, names=len(line.names), parts=len(members))
                targets = tuple(local(name) for name in line.names)
            code = ", ".join(m.code for m in members)
            instance.lines.append(
                ProgramLine(
                    line.attribute,
                    line.span,
                    targets,
                    code,
                    tuple(modules),
                    node=members[-1].node,
                    pair=tuple(m.code for m in members),
                )
            )
            refs = tuple(m.named(t) for m, t in zip(members, targets, strict=True))
            if len(line.names) > 1:
                scope.values.update(zip(line.names, refs, strict=True))
            return Group(refs)
        expr = parts[0]
        value = evaluator.value(expr)  # type: ignore[arg-type]
        if len(line.names) > 1:
            return self._take_apart(line, value, scope, instance)
        if isinstance(value, Num):
            value = evaluator.term(value, expr)  # type: ignore[arg-type]
            value = replace(value, code=f"torch.tensor([{value.code}])")
        value = outputs_of(value)
        if isinstance(value, Ref):
            target = local(line.attribute)
            instance.lines.append(
                ProgramLine(
                    line.attribute,
                    line.span,
                    (target,),
                    value.code,
                    grid=value.info.grid,
                    width=value.info.features.text,
                    batched=value.info.batched,
                    node=value.node,
                )
            )
            return value.named(target)
        if not isinstance(value, Term):
            self._fail(expr.span, f"`{line.attribute}` is not a node")  # type: ignore[union-attr]
        ref = self._made(value, name, line.span, line.attribute, instance, expr.span)  # type: ignore[union-attr]
        target = local(line.attribute)
        instance.lines.append(
            ProgramLine(
                line.attribute,
                line.span,
                (target,),
                ref.code,
                self._modules(value, line.attribute),
                ref.info.grid,
                ref.info.features.text,
                ref.info.batched,
                why=shift_reason(value),
                node=ref.node,
            )
        )
        return replace(ref, code=target)

    def _take_apart(self, line: Line, value: Any, scope: Scope, instance: Instance) -> Value:
        value = outputs_of(value)
        if not isinstance(value, Group) or len(value.members) != len(line.names):
            count = len(value.members) if isinstance(value, Group) else 1
            refuse(
                "AR123",
                line.span,
                names=len(line.names),
                parts=count,
                help="an equation with several names takes a block's outputs apart",
            )
        targets = tuple(local(name) for name in line.names)
        codes = ", ".join(member.code for member in value.members)  # type: ignore[union-attr]
        first = value.members[0]
        assert isinstance(first, Ref)
        instance.lines.append(
            ProgramLine(
                line.attribute,
                line.span,
                targets,
                codes,
                grid=first.info.grid,
                width=first.info.features.text,
                node=first.node,
            )
        )
        for name, member, target in zip(line.names, value.members, targets, strict=True):
            scope.values[name] = member.named(target)  # type: ignore[union-attr]
        return value

    def _op_line(
        self,
        line: Line,
        op: Op,
        scope: Scope,
        name: str,
        previous: Value | None,
        instance: Instance,
    ) -> Value:
        modules: list[Module] = []
        source = self._source(
            op, line.path, line.span, scope, previous, name, modules, instance, line.attribute
        )
        made = self._op(
            op, line.path, line.span, scope, name, line.attribute, source, len(line.names), instance
        )
        facts = made.facts
        targets = tuple(local(n) for n in line.names)
        code = made.code
        if len(targets) > 1:
            code = f"({code})" if " + " in code else code
            code = f"{code}.chunk({len(targets)}, dim=-1)"
        width = facts.features.text
        each = self._share(facts.features, len(targets), op, scope, line.path)
        instance.lines.append(
            ProgramLine(
                line.attribute,
                line.span,
                targets,
                code,
                (*modules, *made.modules),
                facts.grid,
                each.text if len(targets) > 1 else width,
                facts.batched,
                mask=facts.mask,
                adds_up=facts.adds_up,
                parameters=made.parameters,
                node=made.node,
            )
        )
        info = Info(facts.grid, each, facts.due, None, facts.batched)
        refs = [Ref(made.node, info, target) for target in targets]
        if len(refs) == 1:
            return refs[0]
        for n, ref in zip(line.names, refs, strict=True):
            scope.values[n] = ref
        return Group(tuple(refs))

    def _share(self, features: Features, parts: int, op: Op, scope: Scope, path: Path) -> Features:
        """The features of each name of a comma key."""
        if parts == 1:
            return features
        width = features.width // parts
        prefix = f"{parts} * "
        inner = features.text.removeprefix(prefix)
        if inner.startswith("(") and inner.endswith(")"):
            inner = inner[1:-1]
        text_ = inner if features.text.startswith(prefix) else str(width)
        if features.runs is None:
            return Features(width, text_)
        return Features.grouped(Num(width, text_), self.frame.channels)

    def _use(
        self,
        line: Line,
        use: Use,
        scope: Scope,
        path: str,
        previous: Value | None,
        instance: Instance,
    ) -> Value:
        raise NotImplementedError

    def _chain(
        self, line: Line, scope: Scope, name: str, previous: Value | None, instance: Instance
    ) -> Value:
        raise NotImplementedError


def _distinct(instance: Instance) -> None:
    """No two modules of a class under one attribute: `a` given `b` makes `a_b`."""
    owner: dict[str, str] = {}
    for line in instance.lines:
        attributes = [module.attribute for module in line.modules]
        for attribute in [*attributes, *([line.use.attribute] if line.use else [])]:
            if attribute in owner:
                other = f"a part of line `{owner[attribute]}`"
                refuse("AR107", line.span, name=attribute, other=other)
            owner[attribute] = line.name
