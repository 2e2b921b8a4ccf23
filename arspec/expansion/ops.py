"""One op becomes a node, with its input and its projections of what is `given`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from arspec.diagnostics import Span, refuse
from arspec.equations import (
    ATTRIBUTE,
    Evaluator,
    Term,
    info_of,
    reach_of,
)
from arspec.expansion.applied import Stack, outputs_of
from arspec.expansion.growing import Cut
from arspec.expansion.settings import Settings
from arspec.expressions import Expr, text
from arspec.expressions import names as names_in
from arspec.graph import UPTO, Read
from arspec.layers import Facts, Op, Site, Weighted
from arspec.marks import GIVEN, KEEPS, SHIFT, first, hoisted, named
from arspec.program import Instance, Missing, Module
from arspec.scope import Scope
from arspec.source import Path
from arspec.values import (
    KNOWN,
    AxisName,
    Features,
    Group,
    Info,
    Ref,
    Series,
    Value,
)


@dataclass(frozen=True)
class _Made:
    node: int
    facts: Facts
    code: str
    modules: tuple[Module, ...]
    parameters: int


@dataclass(frozen=True)
class _Given:
    reads: tuple[Read, ...]
    due: int
    module: Module
    code: str
    parameters: int
    shifts: tuple[Module, ...] = ()  # of what is given


PLAIN = Op()  # an op without settings: its input is the line above


class Ops(Settings):
    """Expands ops."""

    def _source(
        self,
        op: Op,
        path: Path,
        span: Span,
        scope: Scope,
        previous: Value | None,
        name: str,
        modules: list[Module],
        instance: Instance,
        attribute: str,
    ) -> Ref | AxisName | None:
        """The input of an op: `of`, or the line above."""
        if op.makes_input:
            return None
        if op.of is None:
            value: Any = previous
            value = outputs_of(value)
            if value is None:
                self._fail(
                    span, "the line above has no single output to read", "name the input with `of`"
                )
            if isinstance(value, Ref):
                for known, held in scope.values.items():
                    if isinstance(held, Ref | Stack) and (
                        held is previous or getattr(held, "code", None) == value.code
                    ):
                        self.shared.used_lines.add((scope.body, known))
                if value.node < self.globals:
                    self.shared.used.add(self.drafts[value.node][0])
        else:
            if isinstance(op.of, list):
                self._fail(
                    self.spec.span((*path, "of")),
                    "an op has one input, not a list",
                    "only `use` takes several",
                )
            value = self._evaluator(scope).value(self.expression(op.of, (*path, "of")))
            value = outputs_of(value)
        if isinstance(value, AxisName):
            return value
        if isinstance(value, Term):
            at = self.spec.span((*path, "of"))
            if not (op.takes_symbols and value.symbols):
                modules += self._modules(value, attribute)
            return self._hoisted(value, f"{name}.of", at, attribute, instance)
        if isinstance(value, Ref):
            return value
        at = self.spec.span((*path, "of")) if op.of is not None else span
        if isinstance(value, Group):
            self._fail(
                at,
                f"the input is {len(value.members)} nodes, not one",
                "name one of them with `of`; `a, b: line` takes a pair apart",
            )
        if isinstance(value, Series):
            self._fail(
                at,
                "the input is a list, one node per repetition",
                "take `sum`, `mean` or `last` of it",
            )
        self._fail(at, "the input is not a node")

    def _op(
        self,
        op: Op,
        path: Path,
        span: Span,
        scope: Scope,
        name: str,
        attribute: str,
        source: Ref | AxisName | None,
        names: int,
        instance: Instance,
    ) -> _Made:
        """One op becomes a node, with its projections of what is `given`."""
        if isinstance(source, AxisName) and not op.takes_axes:
            self._fail(
                span,
                f"`{source.name}` is an axis, not a node",
                f"`{{embed: width, of: {source.name}, size: n}}` embeds positions",
            )
        if isinstance(source, Ref) and not source.info.batched:  # layers expect a batch axis
            info = replace(source.info, batched=True)
            source = replace(source, code=f"{source.code}[None]", info=info)
        site = Site(
            op=op,
            name=attribute,
            span=span,
            inputs=(source,) if source is not None else (),  # type: ignore[arg-type]
            frame=self.frame,
            target=self.shared.target,
            names=names,
            resolve_number=lambda raw, key: self.number(raw, (*path, key), scope),
            resolve_window=lambda raw, key: self.window(raw, (*path, key), scope),
            resolve_node=lambda raw, key: self._node_value(
                raw, (*path, key), scope, name, instance
            ),
            resolve_tied=lambda raw, key: self._tied(raw, (*path, key), scope),
            setting_span=lambda key: self.spec.span((*path, key)),
            limit=self._limit,
        )
        facts = op.facts(site)
        blame = self.spec.span((*path, op.key))
        if op.latent:
            facts = replace(facts, reads=(), state=(), due=KNOWN, missing="`latent`")
        operations = facts.parameters if facts.operations is None else facts.operations
        info = Info(facts.grid, facts.features, facts.due, None, facts.batched, operations)
        reads = [Read(ref.node, reach, blame, facts.depends) for ref, reach in facts.reads]
        parameters = facts.parameters
        own = ""
        if isinstance(source, Ref) and source.code.isidentifier() and source.info.grid == info.grid:
            own = source.code
        onto = info if facts.given is None else replace(info, features=facts.given)
        givens = self._givens(op, path, span, scope, name, attribute, onto, instance, own)
        if givens and not op.latent:
            reads += [read for given in givens for read in given.reads]
            due = max(info.due, *(given.due for given in givens))
            facts = replace(facts, due=due)
            info = replace(info, due=due)
        node = self.node(name, span, info, reads)
        if facts.state:
            reads += [Read(node, reach, blame) for reach in facts.state]
            self.drafts[node] = (*self.drafts[node][:4], tuple(reads))
        if facts.table and "." not in attribute:
            self.tables[node] = facts.table
        if facts.cut is not None:
            self.cuts.append(Cut(facts.reads[0][0].node, facts.cut, facts.mask, blame))
        if facts.missing:
            instance.missing.append(Missing(facts.missing, span))
        code = facts.call.replace("{self}", f"self.{attribute}")
        shifted = isinstance(source, Ref) and facts.helpers
        code = named(code, self.drafts[source.node][0] if shifted else name)  # type: ignore[union-attr]
        modules = []
        if facts.construct is not None:
            modules.append(Module(attribute, facts.construct))
        modules += [Module(*helper) for helper in facts.helpers]
        for given in givens:
            modules += [*given.shifts, given.module]
            parameters += given.parameters
        if facts.given is None:
            code = " + ".join([code, *(given.code for given in givens)])
        else:
            terms = " + ".join(given.code for given in givens)
            code = code.replace(GIVEN, f", {terms}" if terms else "")
        return _Made(node, facts, code, tuple(modules), parameters)

    def _limit(self, axis: str, size: int) -> None:
        """An axis cannot be longer than a table of its positions."""
        self.limits[axis] = min(size, self.limits.get(axis, size))

    def _made(
        self,
        term: Term,
        name: str,
        span: Span,
        attribute: str,
        instance: Instance,
        blame: Span | None = None,
    ) -> Ref:
        """A term becomes a node of its own."""
        info = info_of(term, span)
        reads = tuple(
            Read(read.ref.node, reach_of(self.frame, read.offsets), blame or span, read.depends)
            for read in term.reads
        )
        if "concatenate(" in term.code:
            instance.missing.append(Missing("`++` of nodes with different axes", span))
        node = self.node(name, span, info, reads)
        code = self._shifts_named(term, named(term.code.replace(ATTRIBUTE, attribute), name))
        return Ref(node, info, code, term.raw if term.symbols else "", term.delays)

    def _hoisted(
        self, term: Term, name: str, span: Span, attribute: str, instance: Instance
    ) -> Ref:
        """A term inside a line becomes a node that a coarser loop may compute."""
        made = self._made(term, name, span, attribute, instance)
        own = f"{attribute}_{name.rpartition('.')[2]}".replace(".", "_")
        return made.named(hoisted(made.code, name, own))

    def _modules(self, term: Term, attribute: str) -> tuple[Module, ...]:
        made, shifts = [], 0
        for suffix, make in term.modules:
            if suffix == SHIFT:
                shifts += 1
                suffix = f"shift{shifts if shifts > 1 else ''}"
            made.append(Module(f"{attribute}_{suffix}", make))
        return tuple(made)

    def _shifts_named(self, term: Term, code: str) -> str:
        """A term's shifts are modules of their own: numbered from the second on."""
        for shifts in range(1, code.count(SHIFT) + 1):
            code = code.replace(SHIFT, f"shift{shifts if shifts > 1 else ''}", 1)
        return code

    def _node_value(
        self, raw: Any, path: Path, scope: Scope, name: str, instance: Instance
    ) -> Ref | AxisName:
        value: Any = self._evaluator(scope).value(self.expression(raw, path))
        value = outputs_of(value)
        if isinstance(value, Term):
            value = self._made(value, f"{name}.over", self.spec.span(path), "", instance)
        if not isinstance(value, Ref):
            self._fail(self.spec.span(path), f"`{raw}` is not a node")
        return value

    def _givens(
        self,
        op: Op,
        path: Path,
        span: Span,
        scope: Scope,
        name: str,
        attribute: str,
        info: Info,
        instance: Instance,
        own: str,
    ) -> list[_Given]:
        raw = op.given if isinstance(op, Weighted) else None
        if raw is None:
            return []
        listed = raw if isinstance(raw, list) else [raw]
        result: list[_Given] = []
        for i, item in enumerate(listed):
            at = (*path, "given", i) if isinstance(raw, list) else (*path, "given")
            expr = self.expression(item, at)
            value: Any = self._evaluator(scope).value(expr)
            value = outputs_of(value)
            where = self.spec.span(at)
            label = _first_name(expr)
            shifts: tuple[Module, ...] = ()
            if isinstance(value, Term):
                own_attribute = f"{attribute}_{label}"
                shifts = self._modules(value, own_attribute)
                value = self._hoisted(value, f"{name}.given{i}", where, own_attribute, instance)
            members = value.members if isinstance(value, Group) else (value,)
            for j, member in enumerate(members):
                if not isinstance(member, Ref):
                    self._fail(where, f"`{text(expr)}` is not a node")
                if scope.guessing and not dict(member.info.grid).keys() <= dict(info.grid).keys():
                    continue  # the axes of a recursion are not known yet
                suffix = label if len(members) == 1 else f"{label}{j}"
                made = self._given(
                    op,
                    member,
                    f"{attribute}_{suffix}",
                    f"{name}_{suffix}",
                    where,
                    info,
                    own,
                    instance,
                )
                result.append(replace(made, shifts=shifts))
        return result

    def _given(
        self,
        op: Op,
        ref: Ref,
        attribute: str,
        name: str,
        where: Span,
        info: Info,
        length_of: str,
        instance: Instance,
    ) -> _Given:
        """p(x | h): one linear projection of h at h's own clock, repeated to the op's."""
        strides = dict(info.grid)
        up: dict[str, int] = {}
        source = attribute.rpartition("_")[2]
        for axis, stride in ref.info.grid:
            if axis not in strides:
                refuse(
                    "AR308",
                    where,
                    axis=axis,
                    name=attribute,
                    axes=", ".join(strides) or "no axis",
                )
            ratio = Fraction(stride) / Fraction(strides[axis])
            if ratio.denominator != 1:
                refuse("AR305", where, name=ref.code)
            up[axis] = int(ratio)
        grouped = ref.info.features.runs is not None and info.features.runs is not None
        linear = self.projection()
        tail = "" if linear.bias else ", bias=False"
        own, out = ref.info.features, info.features
        if grouped:
            construct = f"SubpixelLinear({own.layout}, {out.layout}{tail})"
        else:
            construct = f"nn.Linear({own.text}, {out.text}{tail})"
        features = out if grouped else Features(out.width, out.text)
        weights = linear.weights(out.width, own.width)
        projected = Info(ref.info.grid, features, ref.info.due, None, ref.info.batched, weights)
        reach = self.frame.point(UPTO) if grouped else self.frame.point("all")
        node = self.node(name, where, projected, [Read(ref.node, reach, where)])
        own_up = {axis: rate for axis, rate in up.items() if axis in self.frame.axes}
        repeat = self.frame.stencil([{}], "same", up=own_up)
        past = KEEPS if grouped else ""
        call = named(f"self.{attribute}({ref.code}{past})", name)
        call = hoisted(call, name, attribute.replace(".", "_"))
        places = [axis for axis, _ in ref.info.grid]
        for axis, rate in up.items():
            if rate != 1:
                length = self._length(axis, strides[axis])
                if length_of:
                    length = f"{length_of}.shape[{list(strides).index(axis) + 1}]"
                place = f'{places.index(axis) + 1}, "{source}"{first(axis)}'
                call = f"repeat({call}, {rate}, {length}, {place})"
        term = Term((), ref.info.grid, features, KNOWN, call, batched=ref.info.batched)
        grid = tuple((axis, strides[axis]) for axis in strides)
        call = Evaluator(Scope(self.shared, ""), self.frame, self.order)._aligned(term, grid)
        if linear.weight_norm:
            instance.missing.append(Missing("`weight_norm`", where))
        due = min(ref.info.due, 2)
        return _Given(
            (Read(node, repeat, where),), due, Module(attribute, construct), call, weights
        )

    def _length(self, axis: str, stride: Any) -> str:
        scope = Scope(self.shared, "")
        full = scope.length_code(axis)
        return full if stride == 1 else f"-(-{full} // {stride})"


def _first_name(expr: Expr) -> str:

    return next((name.parts[-1] for name in names_in(expr)), "given")
