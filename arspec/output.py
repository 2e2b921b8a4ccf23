"""The head: from the last line to the parameters of the distribution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arspec.diagnostics import refuse
from arspec.equations import Evaluator, Term, reach_of, term_of
from arspec.expansion import Builder
from arspec.expansion.applied import outputs_of
from arspec.graph import ALL, UPTO, Read
from arspec.heads import Drawn, Head
from arspec.marks import KEEPS, named
from arspec.program import HeadLine, Instance, Missing, Module
from arspec.scope import Scope
from arspec.source import Path
from arspec.values import Features, Group, Info, Num, Ref, product_text


def add_head(
    builder: Builder,
    scope: Scope,
    head: Head,
    path: Path,
    drawn: Drawn,
    last: Any,
    root: Instance,
) -> HeadLine:
    """Add the node `head`: the parameters of the distribution at every position."""
    spec = builder.spec
    span = spec.span(path)
    if misfit := head.misfit(drawn):
        refuse("AR121", span, name=head.key, help=misfit)
    inner: Path = (*path, head.key)
    components = builder.number(head.main, inner, scope)
    if not isinstance(components.value, int) or components.value < 1:
        refuse(
            "AR312",
            spec.span(inner),
            setting=head.key,
            value=components.value,
            need="a whole number >= 1",
        )
    facts = head.facts(drawn, components)
    missing = Missing(facts.missing, span) if facts.missing else None
    size = facts.size
    if facts.per_channel and drawn.channels > 1:
        size = Num(int(size.value) * drawn.channels, product_text(drawn.channels, size.text))
    target = builder.shared.variables[builder.variable]
    grouped = builder.frame.channels > 1
    features = (
        Features.grouped(size, builder.frame.channels)
        if grouped and facts.per_channel
        else Features(int(size.value), size.text)
    )
    info = Info(target.info.grid, features, 2)
    if head.written and components.value != 1:
        need = "1 beside parameters that are written out"
        refuse("AR312", spec.span(inner), setting=head.key, value=components.value, need=need)
    if head.written:
        modules, code, reads, parameters = _written(builder, scope, head, path, drawn, root)
    else:
        modules, code, reads, parameters = _projected(
            builder, scope, head, path, size, features, last, root, drawn
        )
    if not head.written:
        fan_in = sum(builder.infos[read.source].features.width for read in reads)
        info = replace(info, operations=int(size.value) * fan_in)
    builder.node("head", span, info, reads)
    return HeadLine(
        modules,
        code,
        facts.distribution,
        facts.size.text,
        facts.per_channel,
        facts.truncated,
        parameters,
        missing,
    )


def _projected(
    builder: Builder,
    scope: Scope,
    head: Head,
    path: Path,
    size: Num,
    features: Features,
    last: Any,
    root: Instance,
    drawn: Drawn,
) -> tuple[tuple[Module, ...], str, list[Read], int]:
    """A linear projection of the last line."""
    span = builder.spec.span(path)
    if isinstance(last, Group):
        refuse(
            "AR114",
            span,
            what=f"the last line is {len(last.members)} nodes",
            help="end with a line that is one node",
        )
    if not isinstance(last, Ref):
        refuse("AR114", span, what="the last line is not a node")
    target = builder.shared.variables[builder.variable]
    if last.info.grid != target.info.grid:
        refuse(
            "AR302",
            span,
            what="the last line and the variable",
            left=_axes(last.info),
            right=_axes(target.info),
        )
    own = last.info.features
    grouped = own.runs is not None and features.runs is not None
    reads = [Read(last.node, builder.frame.point(UPTO if grouped else ALL), span)]
    written = {"bias": head.bias} if "bias" in head.model_fields_set else {}
    linear = builder.projection(**written)
    bias = linear.bias
    if linear.weight_norm:
        root.missing.append(Missing("`weight_norm`", span))
    if head.tied is not None:
        owner, shared, rows = builder._tied(head.tied, (*path, "tied"), scope)
        if shared.features.width != own.width:
            refuse(
                "AR301",
                builder.spec.span((*path, "tied")),
                what=f"`{head.tied}` tied to the head",
                left=shared.features.width,
                right=own.width,
            )
        if rows != drawn.count.value:
            what = f"the symbols of `{head.tied}` and of the head"
            at = builder.spec.span((*path, "tied"))
            refuse("AR301", at, what=what, left=rows, right=drawn.count.value)
        if drawn.channels > 1:
            root.missing.append(Missing("a tied head over several channels", span))
        if not bias:
            return (), f"F.linear({last.code}, {owner}.weight)", reads, 0
        module = Module("head_bias", f"nn.Parameter(torch.zeros({size.text}))")
        code = f"F.linear({last.code}, {owner}.weight, self.head_bias)"
        return (module,), code, reads, int(size.value)
    tail = "" if bias else ", bias=False"
    construct = (
        f"SubpixelLinear({own.layout}, {features.layout}{tail})"
        if grouped
        else f"nn.Linear({own.text}, {size.text}{tail})"
    )
    parameters = linear.weights(int(size.value), own.width)
    code = named(f"self.head({last.code}{KEEPS if grouped else ''})", "head")
    return (Module("head", construct),), code, reads, parameters


def _written(
    builder: Builder, scope: Scope, head: Head, path: Path, drawn: Drawn, root: Instance
) -> tuple[tuple[Module, ...], str, list[Read], int]:
    """Parameters that the spec gives by equations: `mean: mu, scale: sqrt(v)`."""
    evaluator = Evaluator(scope, builder.frame, builder.order)
    target = builder.shared.variables[builder.variable]
    codes, reads, made = {}, list[Read](), list[Module]()
    for name in head.parameters:
        at = (*path, name)
        raw = head.written.get(name)
        if raw is None:
            refuse(
                "AR102",
                builder.spec.span(path),
                key=name,
                help="give all parameters of the distribution, or none",
            )
        expr = builder.expression(raw, at)
        value: Any = evaluator.value(expr)
        value = outputs_of(value)
        term: Term = evaluator.term(value, expr)
        if term.features is not None and term.features.width not in (1, int(drawn.count.value)):
            refuse(
                "AR301",
                builder.spec.span(at),
                what=f"`{name}`",
                left=term.features.width,
                right=drawn.count.value,
            )
        own, full = dict(term.grid), dict(target.info.grid)
        if any(full.get(axis) != stride for axis, stride in own.items()):
            refuse(
                "AR302",
                builder.spec.span(at),
                what=f"`{name}`",
                left=_axes(Info(term.grid, target.info.features)),
                right=_axes(target.info),
            )
        where = builder.spec.span(at)
        if term.modules:  # a shift keeps something: it is a node of its own
            made += builder._modules(term, f"head_{name}")
            own_node = builder._hoisted(term, f"head.{name}", where, f"head_{name}", root)
            term = term_of(own_node)
        reads += [
            Read(read.ref.node, reach_of(builder.frame, read.offsets), where, read.depends)
            for read in term.reads
        ]
        codes[name] = evaluator._aligned(term, target.info.grid)
    arguments = ", ".join(codes.values())
    return tuple(made), f"{head.key}_parameters({target.code}, {arguments})", reads, 0


def _axes(info: Info) -> str:
    return "[" + ", ".join(a if s == 1 else f"{a} / {s}" for a, s in info.grid) + "]"
