"""What was proven, in words: for the emitted file, and for the terminal."""

from __future__ import annotations

from math import isinf

from arspec.causality import Proof, TermProof
from arspec.model import Model


def summary(model: Model, proof: Proof) -> list[str]:
    """One line per fact: what each output sees of every input."""
    lines = []
    for term in proof.terms:
        lines += _sees(term)
        lines += [f"`{name}` {_known(model.variables[name].known)}" for name in model.conditions]
    return lines


def _sees(term: TermProof) -> list[str]:
    """What an output sees of its own variable."""
    if term.nearest is None:
        return [f"`{term.variable}` sees nothing of itself"]
    extents = term.receptive_field
    if len(term.axes) == 1 and len(term.nearest) == 1 and term.raster:
        extent, nearest = extents[term.axes[0]], term.nearest[0]
        if extent is None or isinf(nearest):
            return [f"`{term.variable}` at t sees all of `{term.variable}` before t"]
        span = f"t - {extent - 1 - int(nearest)} .. t - {-int(nearest)}"
        if extent == 1:
            span = f"t - {-int(nearest)}"
        lines = [f"`{term.variable}` at t sees `{term.variable}` at {span}"]
        lines.append(f"receptive field: {extent:,} positions")
        return lines
    place = ", ".join([*term.axes, "channel"][: len(term.nearest)])
    lines = [f"`{term.variable}` at ({place}) sees only earlier ones, the nearest {_offset(term)}"]
    field = " x ".join(
        f"{axis} {'unbounded' if extent is None else f'{extent:,}'}"
        for axis, extent in extents.items()
    )
    blind = f"; blind spots: {term.blind_spots:,}" if term.blind_spots else "; no blind spot"
    return [*lines, f"receptive field: {field}{blind if term.blind_spots is not None else ''}"]


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
