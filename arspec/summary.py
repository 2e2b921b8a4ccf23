"""What was proven, in words: for the emitted file, and for the terminal."""

from __future__ import annotations

from math import isinf

from arspec.causality import Proof, TermProof
from arspec.model import Model


def summary(model: Model, proof: Proof) -> list[str]:
    """One line per fact: what each output sees of every input."""
    lines = []
    for term in proof.terms:
        lines.append(_sees(term))
        field = ", ".join(
            f"{axis} {'unbounded' if extent is None else f'{extent:,}'}"
            for axis, extent in term.receptive_field.items()
        )
        lines.append(f"receptive field: {field}; blind spots: {term.blind_spots}")
        for name in model.conditions:
            lines.append(f"`{name}` {_known(model.variables[name].known)}")
    return lines


def _sees(term: TermProof) -> str:
    place = ", ".join(term.axes)
    here = f"`{term.variable}` at {place if len(term.axes) == 1 else f'({place})'}"
    if term.nearest is None:
        return f"{here} sees nothing of itself"
    return f"{here} sees only what is drawn before it; the nearest: {_offset(term)}"


def _offset(term: TermProof) -> str:
    assert term.nearest is not None
    names = [*term.axes, "channel"][: len(term.nearest)]
    if not term.raster:
        return "key " + ", ".join("any" if isinf(n) else f"{int(n):+d}" for n in term.nearest)
    parts = []
    for name, n in zip(names, term.nearest, strict=True):
        if isinf(n):
            parts.append(f"any {name}")
            break
        parts.append(name if n == 0 else f"{name} {'+' if n > 0 else '-'} {abs(int(n))}")
    return f"({', '.join(parts)})" if len(names) > 1 else parts[0]


def _known(known: str | None) -> str:
    return {
        None: "is known whole",
        "all": "is known whole",
        "present": "is read up to the present position",
        "past": "is read strictly before the present position",
    }.get(known, f"is read up to {known} positions ahead")
