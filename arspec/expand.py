"""Spec -> the terms of the model: blocks and repeats expanded into a dependency graph, with the
code of every line beside it.

A block that is used again with inputs and numbers of the same kind is expanded once and copied
after that, so that ten thousand layers cost little more than ten thousand nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm
from typing import Any, NoReturn

from arspec.diagnostics import Diagnostic, Span, SpecError, error, nearest_name
from arspec.equations import ATTRIBUTE, Evaluator, Term, info_of, number, reach_of, term_of
from arspec.equations import FUNCTION_CODE, FUNCTION_MODULE
from arspec.expressions import Expr, Name, Range, parse, text
from arspec.frame import Frame
from arspec.graph import UPTO, Bound, Graph, Node, Reach, Read
from arspec.layers import Facts, Op, Site, Use, Weighted
from arspec.layers.linear import Linear
from arspec.names import local
from arspec.program import Call, Instance, Missing, Module, ProgramLine, UseLine
from arspec.scope import Scope, Shared
from arspec.spec import Block, Body, Line, Path, Spec
from arspec.values import (
    KNOWN,
    AxisName,
    Extent,
    Features,
    Grid,
    Group,
    Info,
    Num,
    Numbers,
    Ref,
    Series,
    Value,
    Window,
    tuple_text,
)

MAX_NODES = 400_000
MAX_REPEAT = 20_000
_Draft = tuple[str, Span, Grid, bool, tuple[Read, ...]]


@dataclass(frozen=True)
class Applied:
    """A block as it was used: its lines can be looked into, its expansion copied.

    `moves` map the node ids of the first expansion to those of this copy.
    """

    builder: Builder
    block: str
    values: Mapping[str, Value]
    output: Value
    widths: Mapping[str, str]
    moves: tuple[Callable[[int], int], ...] = ()

    def member(self, name: str) -> Value:
        return self._outside(self.values[name])

    @property
    def result(self) -> Value:
        return self._outside(self.output)

    def _outside(self, value: Value) -> Value:
        """A value of the block as its user sees it: this copy's nodes, the user's sizes."""
        for move in self.moves:
            value = _moved(value, move)
        return _lifted(value, self.widths)


@dataclass(frozen=True)
class Stack:
    """The value of a `use` line: the blocks that it applied, and the outputs of the last."""

    applied: tuple[Applied, ...]
    output: Value
    line: str
    repeated: bool

    def inside(self, part: str, name: Name, scope: Scope) -> Value:
        """`layers.skip`: the line or parameter of that name in every repetition."""
        first = self.applied[0]
        if part not in first.values:
            near = nearest_name(part, first.values)
            hint = f"did you mean `{near}`?" if near else f"it has {', '.join(first.values)}"
            raise SpecError([error("AR105", name.span, name=".".join(name.parts), help=hint)])
        scope.shared.used_lines.add((first.block, part))
        members = [one.member(part) for one in self.applied]
        if not all(isinstance(member, Ref) for member in members):
            raise SpecError(
                [error("AR114", name.span, what=f"`{'.'.join(name.parts)}` is not one node",
                       help="look at a line that is a single node")]
            )
        scope.shared.exports.setdefault(first.block, set()).add(part)
        code = local(f"{self.line}_{part}")
        if self.repeated:
            return Series(tuple(members), code)  # type: ignore[arg-type]
        return members[0].named(code)  # type: ignore[union-attr]


@dataclass(frozen=True)
class _Template:
    """A block's first expansion under certain sizes."""

    start: int
    drafts: tuple[_Draft, ...]
    infos: tuple[Info, ...]
    outside: tuple[int, ...]
    prefix: str
    applied: Applied
    instance: Instance


@dataclass(frozen=True)
class Cut:
    """The earliest `offset` of a window over node `source` that an inferred mask hides."""

    source: int
    offset: tuple[int, ...]
    mask: str
    span: Span


@dataclass
class Builder:
    """Grows the graph of one term."""

    spec: Spec
    frame: Frame
    numbers: Mapping[str, Num]
    inputs: Mapping[str, Info]
    variable: str
    used: tuple[set[str], set[tuple[str, str]]]
    axis_owner: Mapping[str, str]
    drafts: list[_Draft] = field(default_factory=list)
    infos: dict[int, Info] = field(default_factory=dict)
    templates: dict[Any, _Template] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    held: set[int] = field(default_factory=set)  # nodes that only stood in for later lines
    expressions: dict[Path, Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        variables = {}
        for name, info in self.inputs.items():
            span = self.spec.variables[name].span
            node = self.node(name, span, info, ())
            code = f"{local(name)}_one_hot" if info.symbols else local(name)
            variables[name] = Ref(node, info, code, local(name) if info.symbols else "")
        self.shared = Shared(
            self.numbers, variables, self.axis_owner, self.used[0], self.used[1],
            target=local(self.variable),
        )
        self.order = [axis for info in self.inputs.values() for axis, _ in info.grid]
        self.order = list(dict.fromkeys(self.order))
        self.globals = len(self.drafts)
        self.expressions.update(self.spec.expressions)

    # the graph

    def node(self, name: str, span: Span, info: Info, reads: Iterable[Read]) -> int:
        if len(self.drafts) >= MAX_NODES:
            raise SpecError([error("AR116", span, what="the model", limit=f"{MAX_NODES:,} nodes")])
        self.drafts.append((name, span, info.grid, info.features.runs is not None, tuple(reads)))
        self.infos[len(self.drafts) - 1] = info
        return len(self.drafts) - 1

    def graph(self, bounds: Mapping[str, Bound]) -> Graph:
        """The finished graph: strides as whole numbers on the finest grid."""
        names = list(self.inputs)
        finest = 1
        grids = {draft[2] for draft in self.drafts}
        for grid in grids:
            for _, stride in grid:
                finest = lcm(finest, Fraction(stride).denominator)
        strides = {
            grid: tuple(int(dict(grid).get(axis, 0) * finest) for axis in self.frame.axes)
            for grid in grids
        }
        nodes = tuple(
            Node(name, span, strides[grid], grouped, reads)
            for name, span, grid, grouped, reads in self.drafts
        )
        return Graph(
            variable=self.variable,
            axes=self.frame.axes,
            order=self.frame.order,
            channels=self.frame.channels,
            nodes=nodes,
            target=names.index(self.variable),
            head=len(nodes) - 1,
            bounds={names.index(name): bound for name, bound in bounds.items()},
        )

    # bodies

    def expand_root(self, use: Use | None) -> tuple[Instance, Value, Scope]:
        """Expand what computes the variable: the network, or the block of its term."""
        root = Instance("network")
        if use is None:
            assert self.spec.network is not None
            scope = Scope(self.shared, "network")
            start = self.shared.variables[self.variable]
            return root, self._body(self.spec.network, scope, "", start, root), scope
        line = Line((self.variable,), use, ("generate", self.variable),
                    self.spec.key_span(("generate", self.variable)))
        scope = Scope(self.shared, "generate")
        start = self.shared.variables[self.variable]
        value = self._line(line, scope, "", start, root)
        return root, value.output if isinstance(value, Stack) else value, scope

    def _body(
        self, body: Body, scope: Scope, path: str, first: Value | None, instance: Instance
    ) -> Value:
        """Expand a body's lines; returns its output. Lines that refer to later ones are a
        recursion: their facts are guessed and the body is expanded until the guess holds."""
        names = {name for line in body.lines for name in line.names}
        if not self._refers_ahead(body, names):
            return self._lines(body, scope, path, first, instance)
        start = len(self.drafts)
        unknown = Info((), Features(1, "1"))
        guess = dict.fromkeys(names, unknown)
        base = dict(scope.values)
        for attempt in range(8):
            del self.drafts[start:]
            instance.lines.clear()
            instance.missing.clear()
            scope.values, scope.guessing = dict(base), attempt == 0
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
            if all(found[n] == guess[n] for n in scope.recursive):
                break
            guess = found
        real = {held[n]: v.node for n, v in scope.values.items() if n in names and isinstance(v, Ref)}
        for i in range(start, len(self.drafts)):
            *rest, reads = self.drafts[i]
            moved = tuple(replace(read, source=real.get(read.source, read.source)) for read in reads)
            self.drafts[i] = (*rest, moved)  # type: ignore[assignment]
        instance.missing.append(Missing("a recursion by equation", body.span))
        return output

    def _refers_ahead(self, body: Body, names: set[str]) -> bool:
        from arspec.expressions import names as names_in

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
            return [v for v in line.value if not isinstance(v, Op | str)]
        if not isinstance(line.value, Op):
            return [line.value] if line.value is not None else []
        found = []
        for key in ("of", "given", "over"):
            raw = getattr(line.value, key, None)
            texts = raw if isinstance(raw, list) else [raw]
            for i, value in enumerate(texts):
                if isinstance(value, str):
                    at = (*line.path, key, i) if isinstance(raw, list) else (*line.path, key)
                    found.append(self.expression(value, at))
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
        last = body.lines[-1]
        if len(last.names) > 1:
            value = Group(tuple(scope.values[name] for name in last.names))
        for name in last.names:
            self.shared.used_lines.add((scope.body, name))
        assert value is not None
        return value.output if isinstance(value, Stack) else value

    def _mentions(self, line: Line, broken: set[str]) -> bool:
        """Whether a line depends on one that is in error: then it says nothing new."""
        from arspec.expressions import names as names_in

        value = line.value
        if isinstance(value, Op) and (value.of is None or isinstance(value, Use)):
            return True
        if isinstance(value, tuple) and value and not isinstance(value[0], str):
            return True
        try:
            expressions = list(self._expressions_of(line))
        except SpecError:
            return False
        return any(name.parts[0] in broken for e in expressions for name in names_in(e))

    # lines

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
            members = []
            codes = []
            for i, part in enumerate(parts):
                value = evaluator.value(part)  # type: ignore[arg-type]
                if isinstance(value, Term):
                    ref = self._made(value, f"{name}.{i}", part.span, line.attribute, instance)  # type: ignore[union-attr]
                    codes.append(ref.code)
                    value = ref
                elif isinstance(value, Stack):
                    value = value.output
                if not isinstance(value, Ref):
                    self._fail(part.span, "only single nodes can stand side by side")  # type: ignore[union-attr]
                members.append(value)
            targets = tuple(f"{local(line.attribute)}_{i}" for i in range(len(members)))
            code = ", ".join(m.code for m in members)
            instance.lines.append(
                ProgramLine(line.attribute, line.span, targets, code, width="", node=members[-1].node)
            )
            return Group(tuple(m.named(t) for m, t in zip(members, targets, strict=True)))
        expr = parts[0]
        value = evaluator.value(expr)  # type: ignore[arg-type]
        if len(line.names) > 1:
            return self._take_apart(line, value, scope, instance)
        if isinstance(value, Num):
            value = evaluator.term(value, expr)  # type: ignore[arg-type]
            value = replace(value, code=f"torch.tensor([{value.code}])")
        if isinstance(value, Stack):
            value = value.output
        if isinstance(value, Ref):
            target = local(line.attribute)
            instance.lines.append(
                ProgramLine(line.attribute, line.span, (target,), value.code,
                            grid=value.info.grid, width=value.info.features.text,
                            batched=value.info.batched, node=value.node)
            )
            return value.named(target)
        if not isinstance(value, Term):
            self._fail(expr.span, f"`{line.attribute}` is not a node")  # type: ignore[union-attr]
        ref = self._made(value, name, line.span, line.attribute, instance, expr.span)  # type: ignore[union-attr]
        target = local(line.attribute)
        instance.lines.append(
            ProgramLine(
                line.attribute, line.span, (target,), ref.code,
                self._modules(value, line.attribute), ref.info.grid, ref.info.features.text,
                ref.info.batched, node=ref.node,
            )
        )
        return replace(ref, code=target)

    def _take_apart(self, line: Line, value: Any, scope: Scope, instance: Instance) -> Value:
        if isinstance(value, Stack):
            value = value.output
        if not isinstance(value, Group) or len(value.members) != len(line.names):
            count = len(value.members) if isinstance(value, Group) else 1
            raise SpecError(
                [error("AR123", line.span, names=len(line.names), parts=count,
                       help="an equation with several names takes a block's outputs apart")]
            )
        targets = tuple(local(name) for name in line.names)
        codes = ", ".join(member.code for member in value.members)  # type: ignore[union-attr]
        first = value.members[0]
        assert isinstance(first, Ref)
        instance.lines.append(
            ProgramLine(line.attribute, line.span, targets, codes, grid=first.info.grid,
                        width=first.info.features.text, node=first.node)
        )
        for name, member, target in zip(line.names, value.members, targets, strict=True):
            scope.values[name] = member.named(target)  # type: ignore[union-attr]
        return value

    def _made(
        self, term: Term, name: str, span: Span, attribute: str, instance: Instance,
        blame: Span | None = None,
    ) -> Ref:
        """A term becomes a node of its own."""
        info = info_of(term, span)
        reads = tuple(
            Read(ref.node, reach_of(self.frame, offsets), blame or span)
            for ref, offsets in term.reads
        )
        if "concatenate(" in term.code:
            instance.missing.append(Missing("`++` of nodes with different axes", span))
        node = self.node(name, span, info, reads)
        code = term.code.replace(ATTRIBUTE, attribute)
        return Ref(node, info, code, term.raw if term.symbols else "", term.delays)

    def _modules(self, term: Term, attribute: str) -> tuple[Module, ...]:
        return tuple(Module(f"{attribute}_{suffix}", make) for suffix, make in term.modules)

    # ops

    def _op_line(
        self, line: Line, op: Op, scope: Scope, name: str, previous: Value | None,
        instance: Instance,
    ) -> Value:
        modules: list[Module] = []
        source = self._source(op, line.path, line.span, scope, previous, name, modules, instance,
                              line.attribute)
        made = self._op(op, line.path, line.span, scope, name, line.attribute, source,
                        len(line.names), instance)
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
                line.attribute, line.span, targets, code, (*modules, *made.modules),
                facts.grid, each.text if len(targets) > 1 else width, facts.batched,
                mask=facts.mask, parameters=made.parameters, node=made.node,
            )
        )
        info = Info(facts.grid, each, facts.due, None, facts.batched)
        refs = [Ref(made.node, info, target) for target in targets]
        if len(refs) == 1:
            return refs[0]
        for n, ref in zip(line.names, refs, strict=True):
            scope.values[n] = ref
        return Group(tuple(refs))

    def _share(
        self, features: Features, parts: int, op: Op, scope: Scope, path: Path
    ) -> Features:
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

    def _source(
        self, op: Op, path: Path, span: Span, scope: Scope, previous: Value | None, name: str,
        modules: list[Module], instance: Instance, attribute: str,
    ) -> Ref | AxisName | None:
        """The input of an op: `of`, or the line above."""
        if op.makes_input:
            return None
        if op.of is None:
            value: Any = previous
            if isinstance(value, Stack):
                value = value.output
            if value is None:
                self._fail(span, "the line above has no single output to read",
                           "name the input with `of`")
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
                self._fail(self.spec.span((*path, "of")), "an op has one input, not a list",
                           "only `use` takes several")
            value = self._evaluator(scope).value(self.expression(op.of, (*path, "of")))
            if isinstance(value, Stack):
                value = value.output
        if isinstance(value, AxisName):
            return value
        if isinstance(value, Term):
            at = self.spec.span((*path, "of"))
            modules += self._modules(value, attribute)
            return self._made(value, f"{name}.of", at, attribute, instance)
        if isinstance(value, Ref):
            return value
        at = self.spec.span((*path, "of")) if op.of is not None else span
        if isinstance(value, Group):
            self._fail(at, f"the input is {len(value.members)} nodes, not one",
                       "name one of them with `of`; `a, b: line` takes a pair apart")
        if isinstance(value, Series):
            self._fail(at, "the input is a list, one node per repetition",
                       "take `sum`, `mean` or `last` of it")
        self._fail(at, "the input is not a node")

    def _op(
        self, op: Op, path: Path, span: Span, scope: Scope, name: str, attribute: str,
        source: Ref | AxisName | None, names: int, instance: Instance,
    ) -> _Made:
        """One op becomes a node, with its projections of what is `given`."""
        if isinstance(source, AxisName) and op.key != "embed":
            self._fail(span, f"`{source.name}` is an axis, not a node",
                       f"`{{embed: width, of: {source.name}, size: n}}` embeds positions")
        site = Site(
            op=op, name=attribute, span=span, inputs=(source,) if source is not None else (),  # type: ignore[arg-type]
            frame=self.frame, target=self.shared.target, names=names,
            resolve_number=lambda raw, key: self.number(raw, (*path, key), scope),
            resolve_window=lambda raw, key: self.window(raw, (*path, key), scope),
            resolve_node=lambda raw, key: self._node_value(raw, (*path, key), scope, name, instance),
            resolve_tied=lambda raw, key: self._tied(raw, (*path, key), scope),
            setting_span=lambda key: self.spec.span((*path, key)),
        )
        facts = op.facts(site)
        blame = self.spec.span((*path, op.key))
        if op.latent:
            facts = replace(facts, reads=(), state=(), due=KNOWN, missing="`latent`")
        info = Info(facts.grid, facts.features, facts.due, None, facts.batched)
        reads = [Read(ref.node, reach, blame) for ref, reach in facts.reads]
        parameters = facts.parameters
        own = ""
        if isinstance(source, Ref) and source.code.isidentifier() and source.info.grid == info.grid:
            own = source.code
        givens = self._givens(op, path, span, scope, name, attribute, info, instance, own)
        if givens and not op.latent:
            reads += [read for given in givens for read in given.reads]
            due = max(info.due, *(given.due for given in givens))
            facts = replace(facts, due=due)
            info = replace(info, due=due)
        node = self.node(name, span, info, reads)
        if facts.state:
            kept = self.drafts[node]
            own = tuple(Read(node, reach, blame) for reach in facts.state)
            self.drafts[node] = (*kept[:4], (*kept[4], *own))
        if facts.cut is not None:
            self.cuts.append(Cut(facts.reads[0][0].node, facts.cut, facts.mask, blame))
        if facts.missing:
            instance.missing.append(Missing(facts.missing, span))
        code = facts.call.replace("{self}", f"self.{attribute}")
        modules = []
        if facts.construct is not None:
            modules.append(Module(attribute, facts.construct))
        for given in givens:
            modules.append(given.module)
            code = f"{code} + {given.code}"
            parameters += given.parameters
        return _Made(node, facts, code, tuple(modules), parameters)

    def _givens(
        self, op: Op, path: Path, span: Span, scope: Scope, name: str, attribute: str,
        info: Info, instance: Instance, own: str,
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
            if isinstance(value, Stack):
                value = value.output
            where = self.spec.span(at)
            if isinstance(value, Term):
                value = self._made(value, f"{name}.given{i}", where, attribute, instance)
            members = value.members if isinstance(value, Group) else (value,)
            label = _first_name(expr)
            for j, member in enumerate(members):
                if not isinstance(member, Ref):
                    self._fail(where, f"`{text(expr)}` is not a node")
                suffix = label if len(members) == 1 else f"{label}{j}"
                result.append(
                    self._given(op, member, f"{attribute}_{suffix}", f"{name}_{suffix}", where,
                                info, own, instance)
                )
        return result

    def _given(
        self, op: Op, ref: Ref, attribute: str, name: str, where: Span, info: Info, length_of: str,
        instance: Instance,
    ) -> _Given:
        """p(x | h): one linear projection of h at h's own clock, repeated to the op's."""
        strides = dict(info.grid)
        up: dict[str, int] = {}
        for axis, stride in ref.info.grid:
            if axis not in strides:
                raise SpecError([error("AR308", where, axis=axis, name=attribute,
                                       axes=", ".join(strides) or "no axis")])
            rate = Fraction(stride) / Fraction(strides[axis])
            if rate.denominator != 1:
                raise SpecError([error("AR305", where, name=ref.code)])
            up[axis] = int(rate)
        grouped = ref.info.features.runs is not None and info.features.runs is not None
        linear = self.projection()
        tail = "" if linear.bias else ", bias=False"
        own, out = ref.info.features, info.features
        if grouped:
            construct = f"SubpixelLinear({own.layout}, {out.layout}{tail})"
        else:
            construct = f"nn.Linear({own.text}, {out.text}{tail})"
        features = out if grouped else Features(out.width, out.text)
        projected = Info(ref.info.grid, features, ref.info.due, None, ref.info.batched)
        reach = self.frame.point(UPTO) if grouped else self.frame.point("all")
        node = self.node(name, where, projected, [Read(ref.node, reach, where)])
        own_up = {axis: rate for axis, rate in up.items() if axis in self.frame.axes}
        repeat = self.frame.stencil([{}], "same", up=own_up)
        call = f"self.{attribute}({ref.code})"
        places = [axis for axis, _ in ref.info.grid]
        for axis, rate in up.items():
            if rate != 1:
                length = self._length(axis, strides[axis])
                if length_of:
                    length = f"{length_of}.shape[{list(strides).index(axis) + 1}]"
                call = f"repeat({call}, {rate}, {length}, {places.index(axis) + 1})"
        term = Term((), ref.info.grid, features, KNOWN, call, batched=ref.info.batched)
        grid = tuple((axis, strides[axis]) for axis in strides)
        call = Evaluator(Scope(self.shared, ""), self.frame, self.order)._aligned(term, grid)
        if linear.weight_norm:
            instance.missing.append(Missing("`weight_norm`", where))
        weights = linear.weights(out.width, own.width)
        due = min(ref.info.due, 2)
        return _Given((Read(node, repeat, where),), due, Module(attribute, construct), call, weights)

    def _length(self, axis: str, stride: Any) -> str:
        scope = Scope(self.shared, "")
        full = scope.length_code(axis)
        return full if stride == 1 else f"-(-{full} // {stride})"

    def projection(self, **written: Any) -> Linear:
        """A linear map that no line writes out: it follows the defaults of `linear`."""
        settings = {k: v for k, v in self.spec.defaults.get("linear", {}).items() if k != "mask"}
        return Linear(linear=1, **{**settings, **written})

    def _chain(
        self, line: Line, scope: Scope, name: str, previous: Value | None, instance: Instance
    ) -> Value:
        """A list: each item reads the one before it."""
        items = line.value
        assert isinstance(items, tuple)
        if len(line.names) > 1:
            raise SpecError([error("AR123", line.span, names=len(line.names), parts=1,
                                   help="give the last op of the chain a line of its own")])
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
                source = self._source(_PLAIN, path, at, scope, current, where, modules, instance,
                                      line.attribute)
                assert isinstance(source, Ref)
                term = term_of(source)
                features = term.features
                if item not in FUNCTION_CODE:
                    self._fail(at, f"`{item}` works on a list, not in a chain")
                if item == "concat_elu" and features is not None:
                    features = features.times(2)
                term = replace(term, features=features, symbols=None, raw="", delays=())
                ref = self._made(term, where, at, line.attribute, instance)
                steps.append((FUNCTION_MODULE.get(item, ""), FUNCTION_CODE[item], item in FUNCTION_MODULE))
                node, info = ref.node, ref.info
            elif isinstance(item, Use):
                self._fail(at, "`use` inside a chain", "give it a line of its own")
            else:
                assert isinstance(item, Op)
                source = self._source(item, path, at, scope, current, where, modules, instance,
                                      line.attribute)
                made = self._op(item, path, at, scope, where, f"{line.attribute}.{i}", source, 1,
                                instance)
                facts = made.facts
                own = [m for m in made.modules if m.attribute == f"{line.attribute}.{i}"]
                inner_modules += [m for m in made.modules if m not in own]
                construct = own[0].construct if own else ""
                template = made.code
                if isinstance(source, Ref) and source.code and i:
                    template = template.replace(f"({source.code})", "({})", 1)
                simple = bool(construct) and made.code == (
                    f"self.{line.attribute}.{i}({source.code if isinstance(source, Ref) else ''})"
                )
                steps.append((construct, template, simple))
                parameters += made.parameters
                masks.append(facts.mask)
                node, info = made.node, Info(facts.grid, facts.features, facts.due, None,
                                             facts.batched)
            if i == 0:
                first_code = source.code if isinstance(source, Ref) else ""
            current = Ref(node, info, "\x00")
        assert info is not None
        target = local(line.attribute)
        before: tuple[str, ...] = ()
        if all(plain for _, _, plain in steps):
            inner = ", ".join(construct for construct, _, _ in steps)
            modules.append(Module(line.attribute, f"nn.Sequential({inner})"))
            code = f"self.{line.attribute}({first_code})"
        else:
            before, code = self._spelled_chain(line, steps, first_code, target, modules,
                                               inner_modules)
        instance.lines.append(
            ProgramLine(line.attribute, line.span, (target,), code, tuple(modules), info.grid,
                        info.features.text, info.batched, before=before,
                        mask=" ".join(m for m in masks if m), parameters=parameters, node=node)
        )
        return Ref(node, info, target)

    def _spelled_chain(
        self, line: Line, steps: list[tuple[str, str, bool]], first: str, target: str,
        modules: list[Module], inner: list[Module],
    ) -> tuple[tuple[str, ...], str]:
        """A chain that nn.Sequential cannot hold: one statement per item, same keys."""
        held = {str(i): construct for i, (construct, template, _) in enumerate(steps)
                if construct and "self." in template}
        for module in inner:
            held[module.attribute.removeprefix(f"{line.attribute}.")] = module.construct
        listing = ", ".join(f'"{key}": {make}' for key, make in held.items())
        modules.append(Module(line.attribute, f"nn.ModuleDict({{{{{listing}}}}})"))
        statements = []
        current = first
        for i, (_, template, plain) in enumerate(steps):
            if "self." not in template:
                code = template.replace("{}", current)
            else:
                code = template.replace("{}", current).replace("\x00", current)
            for key in sorted(held, key=len, reverse=True):
                code = code.replace(f"self.{line.attribute}.{key}(", f'self.{line.attribute}["{key}"](')
            statements.append(code)
            current = target
        return tuple(f"{target} = {s}" for s in statements[:-1]), statements[-1]

    # uses

    def _use(
        self, line: Line, use: Use, scope: Scope, path: str, previous: Value | None,
        instance: Instance,
    ) -> Value:
        block = self._block(use, line.path)
        if block.name in self.active:
            cycle = " -> ".join([*self.active[self.active.index(block.name) :], block.name])
            raise SpecError([error("AR110", self.spec.span((*line.path, "use")), cycle=cycle)])
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
        carried = self._carried_names(line, output)
        if isinstance(output, Group):
            members = tuple(m.named(c) for m, c in zip(output.members, carried, strict=True))  # type: ignore[union-attr]
            output = Group(members)
        elif isinstance(output, Ref):
            output = output.named(carried[0])
        last = output.members[0] if isinstance(output, Group) else output
        assert isinstance(last, Ref)
        instance.lines.append(
            ProgramLine(
                line.attribute, line.span, carried, "", tuple(modules), last.info.grid,
                last.info.features.text,
                use=UseLine(line.attribute, tuple(calls), repeat_text if repeated else None,
                            texts, zipped, carried),
                node=last.node,
            )
        )
        stack = Stack(tuple(applied), output, line.attribute, repeated)
        if len(line.names) > 1:
            return self._take_apart(line, stack, scope, instance)
        return stack  # type: ignore[return-value]

    def _block(self, use: Use, path: Path) -> Block:
        block = self.spec.blocks.get(use.use)
        if block is None:
            near = nearest_name(use.use, self.spec.blocks)
            hint = f"did you mean `{near}`?" if near else "it has to be one of `blocks`"
            raise SpecError([error("AR105", self.spec.span((*path, "use")), name=use.use, help=hint)])
        return block

    def _arguments(
        self, block: Block, use: Use, line: Line, scope: Scope, previous: Value | None, path: str,
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
                hint = f"did you mean `{near}`?" if near else (
                    f"`{block.name}` has {', '.join(names) or 'no parameters'}")
                raise SpecError([error("AR111", self.spec.key_span(at), block=block.name,
                                       what=f"has no parameter `{key}`", help=hint)])
        given = self._positional(use, line, scope, previous, path, modules, instance, names)
        free = [n for n in names if n not in use.arguments and n not in scheduled]
        if len(given) > len(free):
            at = self.spec.span((*line.path, "of") if use.of is not None else line.path)
            raise SpecError([error("AR111", at, block=block.name,
                                   what=f"takes {len(free)} inputs here, not {len(given)}")])
        values.update(zip(free, given, strict=False))
        for key, raw in use.arguments.items():
            values[key] = self._argument(raw, (*line.path, key), scope,
                                         f"{path}{line.attribute}.{key}", modules, instance,
                                         f"{line.attribute}_{key}")
        for parameter in block.parameters:
            if parameter.name in values or parameter.name in scheduled:
                continue
            if parameter.required:
                raise SpecError([error("AR111", self.spec.span((*line.path, "use")),
                                       block=block.name, what=f"needs `{parameter.name}`")])
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
        self, use: Use, line: Line, scope: Scope, previous: Value | None, path: str,
        modules: list[Module], instance: Instance, names: list[str],
    ) -> list[Value]:
        """The inputs that go to the first parameters: `of`, or the line above."""
        if use.of is None:
            if names and names[0] in use.arguments:
                return []
            if isinstance(use.repeat, dict) and names and names[0] in use.repeat:
                return []
            value: Any = previous
            if isinstance(value, Stack):
                self.shared.used_lines.add((scope.body, value.line))
                value = value.output
            elif isinstance(value, Ref):
                self._source(_PLAIN, line.path, line.span, scope, value, "", modules, instance, "")
            if value is None:
                if not names:
                    return []
                self._fail(line.span, "the line above has no single output to read",
                           "name the inputs with `of`")
            for known, held in scope.values.items():
                if held is previous:
                    self.shared.used_lines.add((scope.body, known))
            return list(value.members) if isinstance(value, Group) else [value]
        listed = use.of if isinstance(use.of, list) else [use.of]
        result: list[Value] = []
        for i, item in enumerate(listed):
            at = (*line.path, "of", i) if isinstance(use.of, list) else (*line.path, "of")
            value = self._argument(item, at, scope, f"{path}{line.attribute}.of{i}", modules,
                                   instance, line.attribute)
            if isinstance(value, Group):
                result += value.members
            else:
                result.append(value)
        return result

    def _argument(
        self, raw: Any, path: Path, scope: Scope, name: str, modules: list[Module],
        instance: Instance, attribute: str,
    ) -> Value:
        """What the user passes to a block: a number, a node, a window, a list of nodes."""
        if isinstance(raw, dict) or (isinstance(raw, str) and _is_span(raw)):
            return self.window(raw, path, scope)
        if isinstance(raw, bool) or raw is None:
            self._fail(self.spec.span(path), "an argument is a number, a node, a window or a list")
        if isinstance(raw, int | float):
            return Num(raw, str(raw))
        if isinstance(raw, list):
            members: list[Value] = []
            for i, item in enumerate(raw):
                value = self._argument(item, (*path, i), scope, f"{name}.{i}", modules, instance,
                                       attribute)
                members += value.members if isinstance(value, Group) else [value]
            return Group(tuple(members))
        value: Any = self._evaluator(scope).value(self.expression(str(raw), path))
        if isinstance(value, Stack):
            return value.output
        if isinstance(value, Term):
            modules += self._modules(value, attribute)
            return self._made(value, name, self.spec.span(path), attribute, instance)
        return value  # type: ignore[no-any-return]

    def _repeat(
        self, use: Use, line: Line, scope: Scope, block: Block
    ) -> tuple[int, str, dict[str, Numbers | Series]]:
        """How often, the text of that number, and what changes with each repetition."""
        raw, path = use.repeat, (*line.path, "repeat")
        if raw is None:
            return 1, "1", {}
        if isinstance(raw, bool) or not isinstance(raw, int | float | str | dict):
            raise SpecError([error("AR103", self.spec.span(path), key="repeat",
                                   expected="a number, or lists by parameter")])
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
            raise SpecError([error("AR115", self.spec.span(path), what=what)])
        each = next(iter(lengths.values()), 1)
        total = each * int(times.value)
        if total > MAX_REPEAT or total < 1:
            raise SpecError([error("AR116", self.spec.span(path), what=f"{total:,} repetitions",
                                   limit=f"1 to {MAX_REPEAT:,}")])
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
            raise SpecError([error("AR116", self.spec.span(path),
                                   what=f"{count.value:,} repetitions",
                                   limit=f"1 to {MAX_REPEAT:,}")])
        return count

    def _schedule(self, raw: Any, path: Path, scope: Scope) -> Numbers | Series:
        if isinstance(raw, list) and raw:
            members = tuple(self.number(item, (*path, i), scope) for i, item in enumerate(raw))
            return Numbers(members, tuple_text([m.text for m in members]))
        if isinstance(raw, str):
            value = self._evaluator(scope).value(self.expression(raw, path))
            if isinstance(value, Numbers | Series):
                return value
        raise SpecError([error("AR115", self.spec.span(path), what="this is not a list",
                               help="a list of numbers, `doubling(1..512)`, or `reversed(a.b)`")])

    def _apply(
        self, block: Block, arguments: dict[str, Value], path: str, line: Line
    ) -> tuple[Applied, Call]:
        """Expand the block for these arguments, or copy an expansion of the same kind."""
        arguments = {p.name: arguments[p.name] for p in block.parameters}
        outside = tuple(ref.node for ref in _refs(arguments.values()))
        key = (block.name, tuple((n, _kind(v, self.globals)) for n, v in sorted(arguments.items())),
               tuple(outside.index(node) for node in outside))
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
            raise SpecError([error("AR116", line.span, what="blocks inside blocks", limit="40")])
        self.active.append(block.name)
        floats = {n for n, v in arguments.items() if isinstance(v, Num) and isinstance(v.value, float)}
        instance = Instance(block.name, tuple(numbers), tuple(inputs), floats=frozenset(floats))
        scope = Scope(self.shared, block.name, values)
        start = len(self.drafts)
        first = values[block.parameters[0].name] if block.parameters else None
        first = first if isinstance(first, Ref | Group) else None
        output = self._body(block.body, scope, f"{path}.", first, instance)
        self.active.pop()
        instance.outputs = tuple(ref.code for ref in _refs([output]))
        applied = Applied(self, block.name, dict(scope.values), output, widths)
        self.templates[key] = _Template(
            start, tuple(self.drafts[start:]),
            tuple(self.infos[i] for i in range(start, len(self.drafts))),
            outside, path, applied, instance,
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
            raw = local(name) if ref.raw and not ref.delays else ""
            if ref.raw:
                inputs[local(name)] = ref.raw if raw else ref.code
            code = local(name)
            return Ref(ref.node, replace(info, symbols=None), code, "", ())

        bound: dict[str, Value] = {}
        for name, value in arguments.items():
            if isinstance(value, Ref):
                one_hot = replace(value, raw="")
                bound[name] = bind(one_hot, name)
            elif isinstance(value, Group):
                refs = [ref for ref in value.members if isinstance(ref, Ref)]
                bound[name] = Group(tuple(bind(r, f"{name}_{i}") for i, r in enumerate(refs)))
            elif isinstance(value, Num):
                bound[name] = Num(value.value, local(name))
            elif isinstance(value, Window):
                bound[name] = _literal(value)
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
            raise SpecError([error("AR116", None, what="the model", limit=f"{MAX_NODES:,} nodes")])
        cut = len(template.prefix)
        for i, (name, span, grid, grouped, reads) in enumerate(template.drafts):
            moved = tuple(
                Read(move(read.source), read.reach, read.span) for read in reads
            )
            self.drafts.append((path + name[cut:], span, grid, grouped, moved))
            self.infos[base + i] = template.infos[i]
        applied = template.applied
        return replace(applied, widths=widths, moves=(*applied.moves, move))

    def _carry(
        self, block: Block, current: dict[str, Value], output: Value, lists: Mapping[str, Any]
    ) -> None:
        """The outputs become the first inputs of the next repetition."""
        refs = list(_refs([output]))
        free = [p.name for p in block.parameters if p.name not in lists]
        for name, ref in zip(free, refs, strict=False):
            previous = current.get(name)
            code = previous.code if isinstance(previous, Ref) else name
            current[name] = ref.named(code)

    def _carried_names(self, line: Line, output: Value) -> tuple[str, ...]:
        count = len(list(_refs([output])))
        if count == 1:
            return (local(line.attribute),)
        return tuple(f"{line.attribute}_{i}" for i in range(count))

    def _same_masks(self, a: Instance, b: Instance, line: Line, index: int) -> None:
        if a.masks != b.masks:
            raise SpecError(
                [error("AR306", line.span, name=line.attribute, index=index,
                       help="write the first repetition out as a line of its own")]
            )

    # what the user wrote in settings

    def _evaluator(self, scope: Scope) -> Evaluator:
        return Evaluator(scope, self.frame, self.order)

    def expression(self, raw: str, path: Path) -> Expr:
        known = self.expressions.get(path)
        if known is None:
            from arspec.source import Scalar, locate

            node = locate(self.spec.tree, path)
            known = parse(raw, node.inner if isinstance(node, Scalar) else node.span)
            self.expressions[path] = known
        return known

    def number(self, raw: Any, path: Path, scope: Scope) -> Num:
        if isinstance(raw, int | float):
            return Num(raw, str(raw))
        expr = self.expression(str(raw), path)
        value = number(expr, scope)
        from arspec.equations import number_text

        return Num(value, number_text(expr, scope))

    def window(self, raw: Any, path: Path, scope: Scope) -> Window:
        if isinstance(raw, list):
            boxes = [self.window(item, (*path, i), scope).boxes[0] for i, item in enumerate(raw)]
            return Window(tuple(boxes))
        if isinstance(raw, dict):
            return Window(
                ({axis: self._extent(v, (*path, axis), scope) for axis, v in raw.items()},)
            )
        if isinstance(raw, str):
            expr = self.expression(raw, path)
            if isinstance(expr, Name):
                value = scope.lookup(expr)
                if isinstance(value, Window):
                    return value
        return Window(({None: self._extent(raw, path, scope)},))

    def _extent(self, raw: Any, path: Path, scope: Scope) -> Extent:
        """A size, or literal offsets: a span, or one offset that is not positive."""
        if isinstance(raw, str):
            expr = self.expression(raw, path)
            if isinstance(expr, Range):
                ends = [
                    Num(number(e, scope), _text_of(e, scope)) if e is not None else Num(0, "")
                    for e in (expr.low, expr.high)
                ]
                if path[-1] != "within" and (expr.low is None or expr.high is None):
                    self._fail(expr.span, "a span needs both ends", "such as `-2..0`")
                if path[-1] != "within":
                    self._check_span(ends, expr.span)
                return ends[0], ends[1]
        single = self.number(raw, path, scope)
        if not isinstance(single.value, int):
            self._fail(self.spec.span(path), f"a window of {single.value} positions",
                       "a whole number")
        if single.value > 0:
            if single.value > 1_000_000:
                raise SpecError([error("AR116", self.spec.span(path), what="the window",
                                       limit="1,000,000")])
            return single
        return single, single

    def _check_span(self, ends: list[Num], span: Span) -> None:
        low, high = ends
        if not (isinstance(low.value, int) and isinstance(high.value, int)):
            self._fail(span, "offsets are whole numbers")
        if low.value > high.value:
            self._fail(span, f"an empty span: {low.value} comes after {high.value}",
                       f"`{high.value}..{low.value}`")
        if max(abs(low.value), abs(high.value)) > 1_000_000:
            raise SpecError([error("AR116", span, what="an offset", limit="1,000,000")])

    def _node_value(
        self, raw: Any, path: Path, scope: Scope, name: str, instance: Instance
    ) -> Ref | AxisName:
        value: Any = self._evaluator(scope).value(self.expression(raw, path))
        if isinstance(value, Stack):
            value = value.output
        if isinstance(value, Term):
            value = self._made(value, f"{name}.over", self.spec.span(path), "", instance)
        if not isinstance(value, Ref):
            self._fail(self.spec.span(path), f"`{raw}` is not a node")
        return value

    def _tied(self, raw: str, path: Path, scope: Scope) -> tuple[str, Info]:
        """The line whose weight is shared: its attribute as code, and its facts."""
        value = scope.simple(raw, self.spec.span(path))
        if not isinstance(value, Ref) or value.node < self.globals:
            self._fail(self.spec.span(path), f"`{raw}` is not a line with a weight")
        return f"self.{raw}", value.info

    def _fail(self, span: Span, what: str, help: str | None = None) -> NoReturn:
        raise SpecError([error("AR114", span, what=what, help=help)])


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


_PLAIN = Op()


def _first_name(expr: Expr) -> str:
    from arspec.expressions import names as names_in

    return next((name.parts[-1] for name in names_in(expr)), "given")


def _is_span(raw: str) -> bool:
    return ".." in raw and "(" not in raw


def _text_of(expr: Expr, scope: Scope) -> str:
    from arspec.equations import number_text

    return number_text(expr, scope)


def _refs(values: Iterable[Value]) -> Iterable[Ref]:
    for value in values:
        if isinstance(value, Ref):
            yield value
        elif isinstance(value, Group | Series):
            yield from _refs(value.members)
        elif isinstance(value, Stack):
            yield from _refs([value.output])


def _moved(value: Any, move: Callable[[int], int]) -> Any:
    if isinstance(value, Ref):
        return replace(value, node=move(value.node))
    if isinstance(value, Group):
        return Group(tuple(_moved(m, move) for m in value.members))
    if isinstance(value, Series):
        return Series(tuple(_moved(m, move) for m in value.members), value.code)
    if isinstance(value, Stack):
        applied = tuple(replace(a, moves=(*a.moves, move)) for a in value.applied)
        return replace(value, applied=applied, output=_moved(value.output, move))
    return value


def _lifted(value: Any, widths: Mapping[str, str]) -> Any:
    """A value with the texts of its sizes as the user of the block would write them."""
    if isinstance(value, Ref):
        f = value.info.features
        text_, layout = f.text, f.layout
        hole = text_.removeprefix("{").removesuffix("}")
        if hole in widths:
            text_ = widths[hole]
        elif not text_.replace(" ", "").isupper() and not text_.isdigit():
            text_ = str(f.width)
        if f.runs is not None and (text_ != f.text or "{" in layout):
            layout = widths.get(layout.removeprefix("{").removesuffix("}"), "") or _layout(f, text_)
        if (text_, layout) == (f.text, f.layout):
            return value
        return replace(value, info=replace(value.info, features=replace(f, text=text_, layout=layout)))
    if isinstance(value, Group):
        return Group(tuple(_lifted(m, widths) for m in value.members))
    return value


def _layout(f: Features, text_: str) -> str:
    """The layout of channel groups as text, in terms of the width's text where it is regular."""
    assert f.runs is not None
    channels = max(group for group, _ in f.runs) + 1
    if Features.grouped(Num(f.width, text_), channels).runs == f.runs:
        return f"channel_groups({text_}, {channels})"
    return "(" + " + ".join(f"[{group}] * {count}" for group, count in f.runs) + ")"


def _literal(window: Window) -> Window:
    """The same window with its numbers written out: names of the user mean nothing inside."""

    def plain(extent: Extent) -> Extent:
        if isinstance(extent, tuple):
            return (Num(extent[0].value, str(extent[0].value)),
                    Num(extent[1].value, str(extent[1].value)))
        return Num(extent.value, str(extent.value))

    return Window(tuple({axis: plain(e) for axis, e in box.items()} for box in window.boxes))


def _kind(value: Value, globals_: int) -> object:
    """What of an argument decides the expansion of a block: not which node, but which kind."""
    if isinstance(value, Ref):
        info = value.info
        runs, width = info.features.runs, info.features.width
        return ("node", info.grid, width, runs, info.due, info.batched,
                value.node if value.node < globals_ else -1)
    if isinstance(value, Group | Series):
        return tuple(_kind(member, globals_) for member in value.members)
    if isinstance(value, Num):
        return ("number", value.value)
    if isinstance(value, Window):
        return repr(_literal(value))
    return repr(value)


__all__ = ["Builder", "Cut", "Reach", "Stack"]
