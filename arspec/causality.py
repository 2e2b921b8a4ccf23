"""The proof that no output sees its own future, or the path along which it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from arspec.blindspots import blind_spots
from arspec.computability import uncomputable
from arspec.diagnostics import Diagnostic, Span, error
from arspec.graph import EVERYWHERE, PRESENT, Bound, Graph, Reach, Stencil
from arspec.moves import Resolved, Rows, resolve
from arspec.nearest import Nearest, Objective
from arspec.recursion import Link

Offset = tuple[float, ...]
"""How far ahead of the reader, in the variable's own positions, the channel last where channels
are drawn one after another; `math.inf` from the first unbounded component on. Under an order that
is not that of the axes: the difference of the keys."""

WITNESSES = 256
"""How many phases and channels of a head are followed back to their leaks, the worst first."""


@dataclass(frozen=True, slots=True)
class Step:
    """A node on a path, and how far ahead of it the farthest position lies that it reads so."""

    name: str
    span: Span
    offset: Offset


@dataclass(frozen=True, slots=True)
class Leak:
    """A path from an input to the head, by which the head sees what is not known yet.

    `entering` is the read at which the running sum rises above the bound for the last time.
    """

    input: str
    offset: Offset
    path: tuple[Step, ...]
    entering: Span
    reach: Reach | None
    bound: Bound
    condition: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; unbounded components are null."""
        return {
            "offset": _finite(self.offset),
            "path": [[s.name, s.span.line, s.span.column, _finite(s.offset)] for s in self.path],
            "line": self.entering.line,
            "column": self.entering.column,
            "variable": self.input,
        }


@dataclass(frozen=True, slots=True)
class Uncomputable:
    """Recursions that no order of computation allows: cycles, each with its running offset."""

    cycles: tuple[tuple[Step, ...], ...]
    entering: Span

    @property
    def cycle(self) -> tuple[Step, ...]:
        """The first of them."""
        return self.cycles[0]


@dataclass(frozen=True)
class TermProof:
    """What is proven of one term p(variable | ...).

    `nearest`: the farthest ahead that the head reads of the variable, None if it reads nothing of
    it. `receptive_field`: per axis the extent of what is read, in positions, None if unbounded.
    `blind_spots`: see `blindspots.blind_spots`.
    """

    variable: str
    axes: tuple[str, ...]
    raster: bool
    nearest: Offset | None
    receptive_field: dict[str, int | None]
    leaks: tuple[Leak, ...]
    blind_spots: int | None
    uncomputable: Uncomputable | None

    @property
    def causal(self) -> bool:
        """Whether the head sees nothing that is not known, and all recursions can be computed."""
        return not self.leaks and self.uncomputable is None

    @property
    def computable(self) -> bool:
        """Whether all recursions can be computed in some order."""
        return self.uncomputable is None

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "variable": self.variable,
            "causal": self.causal,
            "receptive_field": dict(self.receptive_field),
            "nearest": None if self.nearest is None else _finite(self.nearest),
            "leaks": [leak.to_json() for leak in self.leaks],
            "blind_spots": self.blind_spots,
        }


@dataclass(frozen=True)
class Proof:
    """The proofs of all terms of a model, in the order of the chain rule."""

    name: str
    terms: tuple[TermProof, ...]

    @property
    def causal(self) -> bool:
        """Whether every term is."""
        return all(term.causal for term in self.terms)

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """Those of all terms."""
        return tuple(leak for term in self.terms for leak in term.leaks)

    def to_json(self) -> dict[str, Any]:
        """Verdict and leaks of all terms, the rest from the last; each by itself if several."""
        last = self.terms[-1].to_json()
        out = {
            "name": self.name,
            "causal": self.causal,
            "receptive_field": last["receptive_field"],
            "nearest": last["nearest"],
            "leaks": [leak.to_json() for leak in self.leaks],
            "blind_spots": last["blind_spots"],
        }
        if len(self.terms) > 1:
            out["terms"] = [term.to_json() for term in self.terms]
        return out


def _finite(offset: Offset) -> list[int | None]:
    return [None if component == inf else int(component) for component in offset]


# ------------------------------------------------------------------------------------------- proof


def prove(graph: Graph) -> TermProof:
    """Prove one term causal, or find its leaks; with receptive field and blind spots.

    Linear in nodes times phases, whatever the dilations and the number of taps.
    """
    resolved = resolve(graph)
    key = Objective(resolved, resolved.order, channel=graph.channels > 1)
    target = Nearest(key, graph.target)
    values = [value for value in target.cells(graph.head) if value is not None]
    bounds = {graph.target: Bound(0, strict=True), **graph.bounds}
    leaks = [
        leak
        for node, bound in bounds.items()
        if bound.ahead is not None
        for leak in _leaks(
            target if node == graph.target else _condition(resolved, node, bound), bound
        )
    ]
    return TermProof(
        variable=graph.variable,
        axes=graph.axes,
        raster=graph.raster,
        nearest=_own(key, max(values)) if values else None,
        receptive_field={a: _extent(resolved, k) for k, a in enumerate(graph.axes)},
        leaks=tuple(leaks),
        blind_spots=blind_spots(resolved),
        uncomputable=_uncomputable(key),
    )


def _condition(resolved: Resolved, node: int, bound: Bound) -> Nearest:
    """A condition is known a whole position at a time; `ahead` counts along the first axis."""
    rows = resolved.order
    if bound.ahead:
        strides = resolved.graph.nodes[resolved.graph.target].strides
        rows = _unit_rows([resolved.unit // s if s else 0 for s in strides])
    return Nearest(Objective(resolved, rows), node)


def _unit_rows(scales: Sequence[int]) -> Rows:
    return tuple(tuple(s * (j == k) for j in range(len(scales))) for k, s in enumerate(scales))


def _own(objective: Objective, value: int) -> Offset:
    """A packed key as an offset; between the variable's positions, the one before."""
    unit = objective.resolved.unit
    key = objective.unpack(value)
    rows = key[: len(objective.rows)]
    return tuple(c if c == inf else c // unit for c in rows) + key[len(rows) :]


def _extent(resolved: Resolved, axis: int) -> int | None:
    """Along one axis, how far it is from the first to the last position read, both included."""
    graph = resolved.graph
    ends = []
    for sign in (1, -1):
        row = tuple(sign * (k == axis) for k in range(len(graph.axes)))
        objective = Objective(resolved, (row,))
        cells = Nearest(objective, graph.target).cells(graph.head)
        ends.append([None if c is None else objective.unpack(c)[0] for c in cells])
    stride = graph.nodes[graph.target].strides[axis] or 1
    extents = [
        last + first
        for last, first in zip(*ends, strict=True)
        if last is not None and first is not None
    ]
    if not extents:
        return 0
    return None if inf in extents else int(max(extents)) // stride + 1


def _leaks(run: Nearest, bound: Bound) -> list[Leak]:
    """One leak per read at which something unknown enters, the worst first."""
    graph, objective = run.resolved.graph, run.objective
    exceeds = _exceeds(objective, bound)
    worst = sorted(
        ((v, cell) for cell, v in enumerate(run.cells(graph.head)) if v is not None and exceeds(v)),
        key=lambda found: (-found[0], found[1]),
    )
    leaks: dict[tuple[int, int], Leak] = {}
    for value, cell in worst[:WITNESSES]:
        path, start = run.witness(graph.head, cell)
        totals = [start, *(total for _, total in path)]
        above = [exceeds(total) for total in totals]
        rises = [k for k in range(len(path)) if above[k + 1] and not above[k]]
        if not rises:  # it never was in the past: the first read that goes ahead, else the first
            rises = [k for k in range(len(path)) if totals[k + 1] > totals[k]][:1] or [0]
        link = path[rises[-1]][0] if path else None
        place = (link.reader, link.read) if link else (graph.head, -1)
        if place not in leaks:
            read = graph.nodes[link.reader].reads[link.read] if link else None
            names = [run.start, *(step.reader for step, _ in path)]
            leaks[place] = Leak(
                input=graph.nodes[run.start].name,
                offset=_own(objective, value),
                path=tuple(
                    Step(graph.nodes[i].name, graph.nodes[i].span, _own(objective, total))
                    for i, total in zip(names, totals, strict=True)
                ),
                entering=read.span if read else graph.nodes[graph.head].span,
                reach=read.reach if read else None,
                bound=bound,
                condition=run.start != graph.target,
            )
    return list(leaks.values())


def _exceeds(objective: Objective, bound: Bound) -> Callable[[int], bool]:
    if bound.strict:
        return lambda value: value >= 0
    if not bound.ahead:
        return lambda value: value > 0
    limit = bound.ahead * objective.resolved.unit
    return lambda value: objective.unpack(value)[0] > limit


def _uncomputable(key: Objective) -> Uncomputable | None:
    found = uncomputable(key)
    if found is None:
        return None
    graph = key.resolved.graph
    strides = graph.nodes[graph.target].strides

    def steps(cycle: Sequence[tuple[Link, Offset]]) -> Iterator[Step]:
        first = graph.nodes[cycle[0][0].source]
        yield Step(first.name, first.span, (0,) * len(strides))
        for link, total in cycle:
            node = graph.nodes[link.reader]
            offset = (t if t == inf else t // (s or 1) for t, s in zip(total, strides, strict=True))
            yield Step(node.name, node.span, tuple(offset))

    link = found[0][-1][0]
    entering = graph.nodes[link.reader].reads[link.read].span
    return Uncomputable(tuple(tuple(steps(cycle)) for cycle in found), entering)


# ------------------------------------------------------------------------------------- diagnostics


def diagnostics(proof: TermProof | Proof) -> list[Diagnostic]:
    """An error for each leak and each recursion that cannot be computed."""
    terms = proof.terms if isinstance(proof, Proof) else (proof,)
    found = []
    for term in terms:
        if term.uncomputable is not None:
            found.append(_recursion_error(term, term.uncomputable))
        found += [_leak_error(term, leak) for leak in term.leaks]
    return found


def _leak_error(term: TermProof, leak: Leak) -> Diagnostic:
    names = _component_names(term, len(leak.offset))
    return error(
        "AR202" if leak.condition else "AR201",
        leak.entering,
        label=_label(leak.reach, term.axes),
        notes=(f"path: {_path([step.name for step in leak.path])}",),
        help=_help(leak.reach, term.axes),
        head=leak.path[-1].name,
        here=_place(names, (0,) * len(names)),
        variable=leak.input,
        there=_place(names, leak.offset),
        known=_known(leak.bound, names[0]),
    )


def _help(reach: Reach | None, axes: Sequence[str]) -> str | None:
    """What to write instead, told from what the marked read reads."""
    if reach is None:
        return None
    last = axes[-1]
    if not isinstance(reach, Stencil):
        if reach.until != EVERYWHERE:
            return f"read it one position earlier, `x({last} - 1)`, here or further on"
        return (
            "read the prefix (causal attention, `pool: prefix`), or normalise each position alone"
        )
    if any(rate > 1 for rate in reach.up):
        axis = next(a for a, rate in zip(axes, reach.up, strict=True) if rate > 1)
        return f"delay the slower node by one of its own steps: `coarse({axis} - 1)`"
    ahead = [a for k, a in enumerate(axes) if max(box.hi[k] for box in reach.boxes) > 0]
    if ahead and len(axes) == 1:
        size = max(box.hi[0] - box.lo[0] for box in reach.boxes) + 1
        return f"end the window at the present: `{1 - size}..0`"
    if ahead:
        return f"end the window at the present, or in the rows before it: `{ahead[0]}: -1..0`"
    return f"read it one position earlier, `x({last} - 1)`, here or further on"


def _recursion_error(term: TermProof, found: Uncomputable) -> Diagnostic:
    names = _component_names(term, len(term.axes))
    here = _place(names, (0,) * len(names))
    offsets = [cycle[-1].offset for cycle in found.cycles]
    wanted = " and ".join(dict.fromkeys(_place(names, offset) for offset in offsets))
    return error(
        "AR203",
        found.entering,
        notes=tuple(f"cycle: {_path([step.name for step in cycle])}" for cycle in found.cycles),
        name=found.cycle[0].name,
        why=f"at {here} it depends on itself at {wanted}",
    )


def _component_names(term: TermProof, count: int) -> list[str]:
    if not term.raster:
        return ["step"] if count == 1 else [f"step {k + 1}" for k in range(count)]
    return ["t"] if count == 1 else [*term.axes, "channel"][:count]


def _place(names: Sequence[str], offset: Offset) -> str:
    """A position relative to the reader: ``t+1``, ``(row, col + 1)``, ``(row, any later col)``."""
    parts, unbounded = [], False
    for name, component in zip(names, offset, strict=True):
        if component == inf:
            parts.append(f"any {name}" if unbounded else f"any later {name}")
            unbounded = True
        elif len(names) == 1:
            parts.append(f"{name}{int(component):+}" if component else name)
        else:
            sign = "+" if component > 0 else "-"
            parts.append(f"{name} {sign} {abs(int(component))}" if component else name)
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def _known(bound: Bound, name: str) -> str:
    if bound.strict:
        return f"only before {name}"
    return f"only up to {name}" + (f"+{bound.ahead}" if bound.ahead else "")


def _path(names: Sequence[str], limit: int = 24) -> str:
    """The names on a path; the middle of a long one is left out."""
    if len(names) > limit:
        left = len(names) - limit
        names = [*names[: limit // 2], f"({left} more)", *names[-limit // 2 :]]
    return " -> ".join(names)


def _label(reach: Reach | None, axes: Sequence[str]) -> str:
    """What the marked read reads, on the axes where that is more than the position itself."""
    if reach is None:
        return ""
    names = ["t"] if len(axes) == 1 else list(axes)
    if isinstance(reach, Stencil):
        parts = [_extent_text(reach, k, name) for k, name in enumerate(names)]
        moved = [part for part, name in zip(parts, names, strict=True) if part != name]
        return f"reads {', '.join(moved)}" if moved else ""
    along = " and ".join(a for a, taken in zip(axes, reach.along, strict=True) if taken)
    if reach.until == EVERYWHERE:
        return f"reads all of {along}" if along else ""
    return f"reads {along} up to {'and with ' if reach.until == PRESENT else ''}the present"


def _extent_text(reach: Stencil, axis: int, name: str) -> str:
    lo = min(box.lo[axis] for box in reach.boxes)
    hi = max(box.hi[axis] for box in reach.boxes)
    if reach.transposed:
        return f"({name} - {lo}..{hi}) / {reach.up[axis]}"
    base = name if reach.down[axis] == 1 else f"{reach.down[axis]}{name}"
    base = base if reach.up[axis] == 1 else f"{base}//{reach.up[axis]}"
    ends = [f"{base}{d:+}" if d else base for d in dict.fromkeys((lo, hi))]
    return " .. ".join(ends)
