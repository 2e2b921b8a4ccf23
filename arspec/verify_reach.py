"""Which positions a module reads, compared with what was proven of its spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import ceil, inf, prod

import torch

from arspec.causality import prove
from arspec.graph import ONE, OUTSIDE, Bound, Graph
from arspec.measure import dependency
from arspec.moves import resolve
from arspec.verify_sizes import (
    cut_to,
    inner_outputs,
    interior_lengths,
    interior_most,
    limited,
    small_lengths,
)
from arspec.verify_trial import EXACT, Check, Field, Place, Trial, distance, within

INPUTS = 12
"""So many are tried where a value depends on one at a time of the positions that it reads."""
SEVERAL_REDRAWS = 1200
"""Positions up to which a receptive field is measured at several redraws of all parameters."""


def check_causality(trial: Trial) -> Check:
    """No output depends on its own position, or on one that is drawn later."""
    lengths = small_lengths(trial)
    pairs = measured_pairs(trial, trial.target, lengths)
    later = [pair for pair in pairs if trial.key(*pair) >= zero(trial)]
    count = len(trial.target.places(lengths, trial.graph.axes))
    detail = f"{count} x {count} positions, {len(trial.seeds)} redraws of all parameters"
    detail = _first(later, trial.target.name) or detail
    return Check("causality", not later, detail, len(later), 0)


def check_conditions(trial: Trial) -> Check | None:
    """No output depends on more of a condition than is known when it is drawn."""
    bounded = [(field, bound) for field, bound in bounds(trial) if bound.ahead is not None]
    if not bounded:
        return None
    for field, bound in bounded:
        lengths = small_lengths(trial, field)
        pairs = measured_pairs(trial, field, lengths)
        beyond = [pair for pair in pairs if not known(bound, trial.key(*pair))]
        if beyond:
            return Check("conditions", False, _first(beyond, field.name), len(beyond), 0)
    names = ", ".join(f"`{field.name}`" for field, _ in bounded)
    return Check("conditions", True, f"{names}: read no farther than known", 0, 0)


def check_receptive_field(trial: Trial) -> Check:
    """As many positions are read, per axis, as was claimed.

    Measured on a grid that is made up to four times larger until they fit; where they are more than
    fit on any, the module must read from one end of the grid to the other. Each feature of a
    maximum depends on one position at a time, so behind one several inputs are tried. What is read
    at the border alone may or may not be met: then no less than the rest, and no more than all.
    """
    axes, claimed = trial.graph.axes, trial.proof.receptive_field
    kinds = dependences(trial.graph)
    least = _away_from_borders(trial.graph) if OUTSIDE in kinds else claimed
    most = interior_most(trial)
    lengths = interior_lengths(trial, claimed)
    limit = limited(trial, {axis: min(4 * n, most) for axis, n in lengths.items()})
    # On a large grid one redraw is enough, unless it disagrees.
    seeds = trial.seeds if prod(lengths.values()) <= SEVERAL_REDRAWS else trial.seeds[:1]
    while True:
        outputs = inner_outputs(trial, lengths)
        pairs = {
            pair
            for inputs in range(INPUTS if ONE in kinds else 1)
            for pair in measured_pairs(trial, trial.target, lengths, outputs, seeds, inputs)
        }
        parts, agree = [], True
        for k, axis in enumerate(axes):
            extent, claim, length = extent_of(pairs, k), claimed[axis], lengths[axis]
            part = f"{axis} {extent}"
            if extent == claim:
                part += " as claimed"
            elif claim != least[axis] and (least[axis] or length) <= extent <= (claim or length):
                part += f" of {claim or 'all'}, the others read at the border alone"
            else:
                part += f" on a grid of {length}, claimed {claim or 'unbounded'}"
                fits = claim is not None and claim <= most // 2
                agree &= not fits and length // 2 <= extent <= (claim or length)
                near = min(_ahead(trial.graph, k), length // 4)  # of an end
                agree &= any(not near < read[k] < length - 1 - near for _, read in pairs)
            parts.append(part)
        larger = {axis: min(2 * n, limit[axis]) for axis, n in lengths.items()}
        if agree or (larger == lengths and seeds == trial.seeds):
            return Check("receptive field", agree, "; ".join(parts))
        lengths, seeds = larger, trial.seeds


def _ahead(graph: Graph, k: int) -> float:
    """How far ahead windows look on axis k, all together, in positions of the variable.

    So many may be lost at an end: what a window reads ahead and a shift brings back passes through
    places outside the grid.
    """
    resolved, found = resolve(graph), 0.0
    for reads in resolved.reads:
        windows = [w for _, move in reads for w in resolved.moves[move].windows]
        ends = [window.taps[k].hi for window in windows if window.taps[k].hi < inf]
        found += max([0.0, *ends])
    return found // max(graph.nodes[graph.target].strides[k], 1)


def dependences(graph: Graph) -> set[str]:
    """How values depend on what they read, on the paths from the variable to the head."""
    reads = [(i, read) for i, node in enumerate(graph.nodes) for read in node.reads]
    above, below = {graph.target}, {graph.head}
    for _ in graph.nodes:
        counts = len(above), len(below)
        above.update(i for i, read in reads if read.source in above)
        below.update(read.source for i, read in reversed(reads) if i in below)
        if (len(above), len(below)) == counts:
            break
    return {read.depends for i, read in reads if read.source in above and i in below}


def _away_from_borders(graph: Graph) -> dict[str, int | None]:
    """The receptive field without what is read outside the grid alone."""
    nodes = [
        replace(node, reads=tuple(read for read in node.reads if read.depends != OUTSIDE))
        for node in graph.nodes
    ]
    return prove(replace(graph, nodes=tuple(nodes))).receptive_field


def check_prefix(trial: Trial) -> Check | None:
    """A shorter input gives the same outputs as the beginning of a longer one.

    Where a node reads ahead, what it finds beyond the end of the input is zero: so do the outputs
    whose value stands on it depend on the length, and only the others are compared.
    """
    axis = trial.graph.axes[0]
    present = {field.name for field, bound in bounds(trial) if bound.ahead == 0}
    for field in trial.conditions:
        if axis in dict(field.grid) and field.name not in present:
            return None  # it may be read ahead, and what was cut off would be missed
    ahead, node = lookahead(trial.graph)
    lengths, step = small_lengths(trial), dict(trial.target.grid)[axis]
    half = (lengths[axis] + 1) // 2
    if 0 < ahead < inf:
        lengths = limited(trial, dict(lengths, **{axis: lengths[axis] + 2 * int(ahead) * step}))
        half = (lengths[axis] + 1) // 2
    short = dict(lengths, **{axis: half})
    dim = trial.dims[0]
    count, total = (trial.target.shape(grid)[dim] for grid in (short, lengths))
    same = int(max(count - ahead, 0))
    near = f"; `{node}` reads ahead, and zeros beyond the end of the input" if ahead > 0 else ""
    if not same:
        return Check("prefix", True, f"not so here{near}: every output depends on the length")
    x, conditions = trial.inputs(lengths)
    cut = {field.name: cut_to(field, conditions[field.name], short) for field in trial.conditions}
    with torch.no_grad():
        whole = trial.model(x, **conditions)
        part = trial.model(cut_to(trial.target, x, short), **cut)
    place = whole.dim() - 1 - len(trial.graph.axes) + dim
    error = distance(part.narrow(place, 0, same), whole.narrow(place, 0, same))
    what = f"the first {same} of {count}, by themselves and of {total}{near}"
    return within("prefix", error, EXACT, what)


def lookahead(graph: Graph) -> tuple[float, str]:
    """How far ahead of an output, on the first axis, stand the values that it is made of.

    In positions of the variable, infinite where there is no end; and the node that reads there.
    """
    resolved, reader, most = resolve(graph), graph.head, 0.0
    farthest: dict[int, float] = {graph.head: 0}  # per node that is live, on the finest grid
    for _ in graph.nodes:  # one pass, and more of them where there are recursions
        before = dict(farthest)
        for node in reversed(range(len(graph.nodes))):
            for source, move in resolved.reads[node] if node in farthest else ():
                ends = [window.taps[0].hi for window in resolved.moves[move].windows]
                at = farthest[node] + max(ends, default=-inf)
                farthest[source] = max(farthest.get(source, -inf), at)
                if at > most:
                    reader, most = node, at
        if farthest == before:
            break
    else:
        most = inf  # a recursion that leads on and on
    stride = graph.nodes[graph.target].strides[0]
    return inf if most == inf else ceil(most / stride), graph.nodes[reader].name


def measured_pairs(
    trial: Trial,
    of: Field,
    lengths: Mapping[str, int],
    outputs: list[int] | None = None,
    seeds: tuple[int, ...] = (),
    inputs: int = 0,
) -> list[tuple[Place, Place]]:
    """(reader, read) for every dependency found; with `outputs` only those, by gradients alone.

    `inputs`: the seed of what is put in.
    """
    x, conditions = trial.inputs(lengths, inputs)
    found = dependency(
        trial.model,
        x,
        conditions,
        of=None if of is trial.target else of.name,
        joint=of.joint,
        classes=of.classes,
        outputs=outputs,
        seeds=seeds or trial.seeds,
        faint=1e-11 if outputs is None else 0.0,
        perturb=outputs is None,
    )
    readers = trial.target.places(lengths, trial.graph.axes)
    reads = of.places(lengths, trial.graph.axes)
    found = found.view(-1, len(readers), len(reads)).any(0)  # channels drawn together count as one
    return [(readers[i], reads[j]) for i, j in found.nonzero().tolist()]


def extent_of(pairs: Iterable[tuple[Place, Place]], k: int) -> int:
    """Along axis k, max - min + 1 of the positions that one output reads, the largest of all."""
    ends: dict[Place, tuple[int, int]] = {}
    for reader, read in pairs:
        low, high = ends.get(reader, (read[k], read[k]))
        ends[reader] = (min(low, read[k]), max(high, read[k]))
    return max((high - low + 1 for low, high in ends.values()), default=0)


def zero(trial: Trial) -> Place:
    """The key's difference of a position and itself."""
    return (0,) * (len(trial.graph.order) + trial.target.ordered)


def bounds(trial: Trial) -> Iterator[tuple[Field, Bound]]:
    """The conditions whose knowledge is limited, each with its bound."""
    fields = {field.name: field for field in trial.conditions}
    for node, bound in trial.graph.bounds.items():
        name = trial.graph.nodes[node].name
        if name in fields:
            yield fields[name], bound


def known(bound: Bound, key: Place) -> bool:
    """Whether an offset is known: see `Bound`."""
    if bound.ahead is None:
        return True
    if bound.ahead:
        return key[0] <= bound.ahead
    return key < (0,) * len(key) if bound.strict else key <= (0,) * len(key)


def _first(pairs: list[tuple[Place, Place]], name: str) -> str:
    if not pairs:
        return ""
    reader, read = pairs[0]
    return f"the output at {reader} depends on `{name}` at {read}; {len(pairs)} such pairs"
