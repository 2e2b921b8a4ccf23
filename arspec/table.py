"""The rows of `arspec show`: every line with its shape, parameters, mask and reach so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from arspec.graph import Graph
from arspec.model import Model, TermModel
from arspec.moves import resolve
from arspec.nearest import Nearest, Objective
from arspec.program import Instance, ProgramLine, line_parameters
from arspec.source import Mapping as Tree
from arspec.source import Scalar, Sequence, plain


@dataclass(frozen=True)
class Row:
    """One line, or one repetition of a block.

    `reach`: the positions of the generated variable that it can see, counted from its own.
    """

    name: str
    op: str
    shape: str
    parameters: int
    reach: str
    mask: str


def rows(model: Model) -> list[Row]:
    """The lines in order; of a repeated block the lines of its first use, then each repetition."""
    written = _written(model.spec.tree)
    result: list[Row] = []
    for term in model.terms:
        reader = _Reader(model, term, written)
        result += reader.lines(term.root, "")
        result.append(reader.head())
    return result


class _Reader:
    def __init__(self, model: Model, term: TermModel, written: Mapping[tuple[int, int], Any]):
        self.model, self.term, self.written = model, term, written
        self.reach = reaches(term.graph)
        self.nodes = {node.name: i for i, node in enumerate(term.graph.nodes)}

    def lines(self, instance: Instance, path: str) -> Iterator[Row]:
        for line in instance.lines:
            name = f"{path}{line.name}"
            written = self.written.get((line.span.line, line.span.column), "")
            if line.nodes and isinstance(written, list) and len(line.nodes) < len(written):
                start, end = (int(line.nodes[k].rpartition(".")[2]) for k in (0, -1))
                name, written = f"{path}{line.nodes[-1]}", written[start : end + 1]
            op = _flow(written)
            if line.use is None:
                yield Row(
                    name,
                    op,
                    self._shape(name, line),
                    line_parameters(line),
                    self._reach(name, line.node if not path else None),
                    line.mask,
                )
                continue
            calls = line.use.calls
            repeated = line.use.repeat is not None
            first = f"{name}.0." if repeated else f"{name}."
            yield Row(name, op, self._shape(name, line), line_parameters(line), "", "")
            yield from self.lines(calls[0].instance, first)
            for i, call in enumerate(calls[1:] if repeated else (), start=1):
                last = call.instance.lines[-1].name
                numbers = self._numbers(line, i)
                yield Row(
                    f"{name}.{i}",
                    numbers,
                    "",
                    call.instance.parameters,
                    self._reach(f"{name}.{i}.{last}", None),
                    "",
                )

    def head(self) -> Row:
        term = self.term
        target = self.model.variables[term.variable]
        axes = [*([str(target.channels)] if target.channels > 1 else []), *target.axes]
        shape = f"(B, {', '.join(axes)}, {term.head.size})"
        op = _flow(self.model.spec.heads[term.variable][0].key)
        return Row("head", op, shape, term.head.parameters, self._reach("head", None), "")

    def _numbers(self, line: ProgramLine, index: int) -> str:
        assert line.use is not None
        call = line.use.calls[index]
        return ", ".join(f"{n} {call.values[n]:g}" for n in line.use.schedules)

    def _index(self, name: str, known: int | None) -> int | None:
        if known is not None and known >= 0:
            return known
        if name in self.nodes:
            return self.nodes[name]
        inside = [i for n, i in self.nodes.items() if n.startswith(f"{name}.")]
        return max(inside, default=None)

    def _shape(self, name: str, line: ProgramLine) -> str:
        index = self._index(name, line.node)
        if index is None:
            return ""
        info = self.term.infos[index]
        names = len(line.targets) if line.modules else 1
        width = info.features.width // names
        parts = ["B"] if info.batched else []
        parts += [_axis(axis, stride) for axis, stride in info.grid] + [str(width)]
        each = f" x {names}" if names > 1 else ""
        return f"({', '.join(parts)}){each}"

    def _reach(self, name: str, known: int | None) -> str:
        index = self._index(name, known)
        return "" if index is None else self.reach[index]


def reaches(graph: Graph) -> list[str]:
    """For every node the positions of the target that it can see, per axis, as text."""
    resolved = resolve(graph)
    strides = graph.nodes[graph.target].strides
    ends: list[list[tuple[float | None, ...]]] = []
    for axis in range(len(graph.axes)):
        pair = []
        for sign in (-1, 1):
            row = tuple(sign * (k == axis) for k in range(len(graph.axes)))
            run = Nearest(Objective(resolved, (row,)), graph.target)
            pair.append([_farthest(run, node, sign) for node in range(len(graph.nodes))])
        ends.append(list(zip(*pair, strict=True)))
    return [
        _text(graph.axes, [ends[k][i] for k in range(len(graph.axes))], strides)
        for i in range(len(graph.nodes))
    ]


def _farthest(run: Nearest, node: int, sign: int) -> float | None:
    cells = [run.objective.unpack(c)[0] for c in run.cells(node) if c is not None]
    return sign * max(cells) if cells else None


def _text(axes: tuple[str, ...], ends: list[Any], strides: tuple[int, ...]) -> str:
    if any(low is None for low, _ in ends):
        return ""
    parts = []
    for axis, (low, high), stride in zip(axes, ends, strides, strict=True):
        low, high = _units(low, stride), _units(high, stride)
        span = f"{low:+}" if low == high else f"{_end(low)} .. {_end(high)}"
        parts.append(span if len(axes) == 1 else f"{axis} {span}")
    return ", ".join(parts)


def _units(value: float, stride: int) -> float:
    return value if abs(value) == inf else int(value) // (stride or 1)


def _end(value: float) -> str:
    if abs(value) == inf:
        return "start" if value < 0 else "end"
    return f"{int(value):+}" if value else "0"


def _axis(axis: str, stride: Any) -> str:
    return axis if stride == 1 else f"{axis} / {stride}"


def _written(tree: Any) -> dict[tuple[int, int], Any]:
    """The value of every key, by the place of the key."""
    found: dict[tuple[int, int], Any] = {}
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Tree):
            for key, value in node.items:
                found[key.span.line, key.span.column] = value
                stack.append(value)
        elif isinstance(node, Sequence):
            stack += node.items
    return (
        {
            place: plain(value)
            for place, value in found.items()
            if not isinstance(value, Scalar) or value.text
        }
        if found
        else {}
    )


def _flow(value: Any) -> str:
    """A value of the spec on one line, as YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


__all__ = ["Row", "reaches", "rows"]
