"""Notes that need the proof: where an inferred mask hides what could safely be read."""

from __future__ import annotations

from collections.abc import Iterator

from arspec.diagnostics import Diagnostic, note
from arspec.graph import Graph
from arspec.model import TermModel
from arspec.moves import resolve
from arspec.nearest import Nearest, Objective


def strict_masks(term: TermModel) -> Iterator[Diagnostic]:
    """AR902 for every inferred mask that cuts an offset which the proof would allow.

    That is where nearest(input) + key(offset) < 0: over a vertical stack, or over a past frame.
    """
    if not term.cuts:
        return
    nearest = _nearest(term.graph, {cut.source for cut in term.cuts})
    zero = (0,) * len(term.frame.order)
    seen = set()
    for cut in term.cuts:
        found = nearest[cut.source]
        if found is None or cut.span in seen:
            continue
        strides = [s or 1 for s in term.graph.nodes[cut.source].strides]
        offset = tuple(o * s for o, s in zip(cut.offset, strides, strict=True))
        total = tuple(n + k for n, k in zip(found, term.frame.key(offset), strict=False))
        if total < zero:
            seen.add(cut.span)
            place = ", ".join(
                f"{axis} {o:+}" if o else axis
                for axis, o in zip(term.frame.axes, cut.offset, strict=True)
            )
            help = "write the window as spans, such as `{row: -1..1, col: -1..1}`, to read it"
            yield note("AR902", cut.span, mask=cut.mask, offsets=f"({place})", help=help)


def _nearest(graph: Graph, nodes: set[int]) -> dict[int, tuple[float, ...] | None]:
    """Of each node the farthest ahead that it reads of the target, as a key without channel."""
    resolved = resolve(graph)
    run = Nearest(Objective(resolved, resolved.order, channel=graph.channels > 1), graph.target)
    found = {}
    for node in nodes:
        cells = [run.objective.unpack(c) for c in run.cells(node) if c is not None]
        found[node] = max(cells)[: len(resolved.order)] if cells else None
    return found
