"""Spec and parameters -> Model: every term's graph and program, with the checks of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arspec.declarations import Declarations, Declared
from arspec.diagnostics import (
    Diagnostic,
    SpecError,
    error,
    note,
    refuse,
)
from arspec.expansion import Builder, Cut, Stack
from arspec.frame import Frame
from arspec.graph import Bound, Graph
from arspec.heads import Drawn
from arspec.output import add_head
from arspec.program import HeadLine, Instance
from arspec.spec import Spec
from arspec.values import DRAWN, KNOWN, PRESENT, Features, Info, Num, product_text


@dataclass(frozen=True)
class TermModel:
    """One term p(variable | ...): its graph for the proof, its program for the emitter."""

    variable: str
    frame: Frame
    graph: Graph
    root: Instance
    head: HeadLine
    infos: Mapping[int, Info]
    exports: Mapping[str, set[str]]
    cuts: tuple[Cut, ...]
    limits: Mapping[str, int]
    delayed: bool


@dataclass(frozen=True)
class Model:
    """The expanded spec."""

    spec: Spec
    constants: Mapping[str, Num]  # emitted name -> value and text, in order
    settings: Mapping[str, Any]  # what was set from outside
    variables: Mapping[str, Declared]
    generated: tuple[str, ...]
    terms: tuple[TermModel, ...]
    notes: tuple[Diagnostic, ...]

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(name for name in self.variables if name not in self.generated)

    @property
    def parameters(self) -> int:
        return sum(term.root.parameters + term.head.parameters for term in self.terms)


def expand(spec: Spec, settings: Mapping[str, Any] | None = None) -> Model:
    """Work out every number, expand every block. Raises SpecError."""
    try:
        return _Expander(spec, dict(settings or {})).model()
    except SpecError as found:
        unique = tuple(dict.fromkeys(found.diagnostics))
        raise SpecError(unique, spec.filename, spec.text) from None


class _Expander(Declarations):
    """Expands every term."""

    def model(self) -> Model:
        self._params()
        variables = {v.name: self._variable(v) for v in self.spec.variables.values()}
        generated = tuple(name for name, _ in self.spec.generate)
        self._known(variables, generated)
        terms, notes = [], []
        errors: list[Diagnostic] = []
        for index, (name, use) in enumerate(self.spec.generate):
            later = set(generated[index + 1 :])
            try:
                terms.append(self._term(name, use, variables, later))
            except SpecError as found:
                errors += found.diagnostics
        if errors:
            raise SpecError(errors)
        self._everything_read(variables, generated)
        for term in terms:
            notes += _dead(term)
        return Model(
            self.spec,
            self.constants,
            self.settings,
            variables,
            generated,
            tuple(terms),
            tuple(notes),
        )

    def _term(
        self, name: str, use: Any, variables: dict[str, Declared], later: set[str]
    ) -> TermModel:
        target = variables[name]
        if not target.axes:
            refuse(
                "AR119",
                self.spec.span(("generate",)),
                name=name,
                why="it has no axes, so there is nothing to draw one by one",
            )
        frame, delayed = self._frame(target)
        infos: dict[str, Info] = {}
        bounds: dict[str, Bound] = {name: Bound(0, strict=True)}
        for v in variables.values():
            if v.name in later:
                continue
            due = DRAWN if v.name == name else KNOWN
            if v.name != name and any(axis in target.axes for axis in v.axes):
                due, bound = _bound_of(v.known)
                if bound is not None:
                    bounds[v.name] = bound
            infos[v.name] = Info(
                frame.turned(v.grid),
                _features(v, frame if v.name == name else None),
                due,
                v.count if v.kind == "classes" else None,
            )
        ordered = {name: infos[name], **infos}
        owner: dict[str, str] = {}
        for v in [target, *variables.values()]:
            if v.name not in later:
                for axis, stride in v.grid:
                    if axis not in owner or (
                        stride == 1
                        and variables[owner[axis]] is not target
                        and dict(variables[owner[axis]].grid)[axis] != 1
                    ):
                        owner[axis] = v.name
        builder = Builder(
            self.spec, frame, self.numbers, ordered, name, (self.used, self.used_lines), owner
        )
        root, output, scope = builder.expand_root(use)
        value: Any = output.output if isinstance(output, Stack) else output
        drawn = Drawn(target.kind, target.count, target.channels, frame.channels > 1)
        head, path = self.spec.heads[name]
        head_line = add_head(builder, scope, head, path, drawn, value, root)
        graph = builder.graph(bounds)
        return TermModel(
            name,
            frame,
            graph,
            root,
            head_line,
            builder.infos,
            builder.shared.exports,
            tuple(builder.cuts),
            builder.limits,
            delayed,
        )

    def _everything_read(self, variables: dict[str, Declared], generated: tuple[str, ...]) -> None:
        """A value that nobody reads is an error: it is a slip more often than not."""
        errors = []
        for name in variables:
            if name not in generated and name not in self.used:
                errors.append(
                    error(
                        "AR112",
                        self.spec.variables[name].span,
                        name=name,
                        help="read it (`given: [...]`, `of:`), or drop it",
                    )
                )
        for name in self.spec.params:
            if name not in self.used:
                errors.append(
                    error(
                        "AR117",
                        self.spec.key_span(("params", name)),
                        name=name,
                        what="param",
                        help="use it, or drop it",
                    )
                )
        for block in self.spec.blocks.values():
            if f"block {block.name}" not in self.used:
                errors.append(
                    error(
                        "AR117",
                        block.span,
                        name=block.name,
                        what="block",
                        help="`{use: " + block.name + "}` applies it",
                    )
                )
                continue
            errors += self._unread(block.name, block.body)
        if self.spec.network is not None:
            if any(use is not None for _, use in self.spec.generate):
                errors.append(
                    error(
                        "AR117",
                        self.spec.key_span(("network",)),
                        name="network",
                        what="body",
                        help="`generate` names a block for each variable",
                    )
                )
            else:
                errors += self._unread("network", self.spec.network)
        if errors:
            raise SpecError(errors)

    def _unread(self, body: str, lines: Any) -> list[Diagnostic]:
        return [
            error(
                "AR108",
                line.span,
                name=", ".join(line.names),
                help="read it in another line, or drop it",
            )
            for line in lines.lines
            if not any((body, name) in self.used_lines for name in line.names)
        ]


def _bound_of(known: str | None) -> tuple[int, Bound | None]:
    """Which mask a condition's windows get, and what the proof allows them to reach."""
    if known in (None, "all"):
        return KNOWN, None
    if known == "past":
        return DRAWN, Bound(0, strict=True)
    if known == "present":
        return PRESENT, Bound(0)
    assert known is not None
    return PRESENT, Bound(int(known[1:]))


def _features(v: Declared, frame: Frame | None) -> Features:
    count = v.count if v.kind != "levels" else Num(1, "1")
    width = int(count.value) * v.channels
    text = product_text(v.channels, count.text) if v.channels > 1 else count.text
    if v.kind == "levels":
        text = str(v.channels)
    if frame is not None and frame.channels > 1:
        return Features.grouped(Num(width, text), frame.channels)
    return Features(width, text)


def _dead(term: TermModel) -> list[Diagnostic]:
    """Lines that reach no head: computed and trained for nothing."""
    graph = term.graph
    live = {graph.head}
    stack = [graph.head]
    while stack:
        for read in graph.nodes[stack.pop()].reads:
            if read.source not in live:
                live.add(read.source)
                stack.append(read.source)
    dead = [node for i, node in enumerate(graph.nodes) if i not in live and node.reads]
    if not dead:
        return []
    names_ = [node.name for node in dead]
    listed = ", ".join(f"`{n}`" for n in names_[:4]) + (
        f" and {len(names_) - 4} more" if len(names_) > 4 else ""
    )
    verb = "reaches" if len(names_) == 1 else "reach"
    return [note("AR901", dead[-1].span, names=listed, verb=verb)]


__all__ = ["Declared", "Model", "TermModel", "expand"]
