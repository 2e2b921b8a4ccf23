"""Makes a model narrow enough to be measured, by the params that its proof does not depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arspec.causality import Proof, prove
from arspec.diagnostics import SpecError
from arspec.model import Model, expand

if TYPE_CHECKING:
    from arspec.compiler import Analysis

LARGE = 100_000
"""Parameters from which on a model is made narrow."""
NARROW = 6
"""No param is made smaller than this."""


def narrowed(analysis: Analysis) -> tuple[Analysis, dict[str, int]]:
    """The same model with smaller widths, and the params that were changed for it.

    A param is a width if the graph without its widths stays the same when it is halved: every line
    with its strides and reads, the order, and the lengths that a model is limited to. So receptive
    field and schedule are those of the model asked for. Depths, kernels, dilations and strides
    stay, and so does what was set from outside. A small model is left as it is.
    """
    model, changed = analysis.model, dict[str, int]()
    if model.parameters < LARGE:
        return analysis, {}
    shape = _shape(model)
    for name, value in model.spec.params.items():
        if name in model.settings or not isinstance(value, int) or isinstance(value, bool):
            continue
        for smaller in _halves(value):
            try:
                found = expand(model.spec, {**model.settings, **changed, name: smaller})
            except SpecError:
                continue
            if _shape(found) == shape:
                changed[name] = smaller
                break
    if not changed:
        return analysis, {}
    model = expand(model.spec, {**model.settings, **changed})
    proof = Proof(analysis.proof.name, tuple(prove(term.graph) for term in model.terms))
    return type(analysis)(analysis.source, model, proof), changed


def _halves(value: int) -> list[int]:
    """value // 2, value // 4, ..., the smallest first; most of what divides it still does."""
    halves = []
    while value // 2 >= NARROW:
        value //= 2
        halves.append(value)
    return halves[::-1]


def _shape(model: Model) -> list[Any]:
    """The graph without widths."""
    return [
        (
            term.graph.order,
            term.graph.channels,
            term.limits,
            [
                (n.name, n.strides, n.grouped, [(read.source, read.reach) for read in n.reads])
                for n in term.graph.nodes
            ],
        )
        for term in model.terms
    ]
