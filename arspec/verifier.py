"""Measure on the compiled module what was proven from the spec, and what every model promises."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arspec.graph import EVERYWHERE, Bound, Graph, Reach, Sweep
from arspec.measure import SEEDS, dependency, randomise

if TYPE_CHECKING:
    from arspec.causality import TermProof
    from arspec.compiler import Analysis
    from arspec.model import Declared

Place = tuple[int, ...]
"""A position on the finest grid: one entry per axis of the generated variable, then the channel
where channels are drawn one after another."""

BATCH = 2
MANY = 3_000_000
"""Parameters from which on one redraw of them has to do."""
ENUMERATED = 1024
"""Symbols up to which the probabilities of all of them are summed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One measurement: what was measured, whether it agrees, and with which numbers."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """Every measurement of one model."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Field:
    """A variable as a tensor (batch, [channels,] *axes).

    `kind` is "classes", "levels" or "features", `count` how many; `grid` holds (axis, stride);
    `channels` is the length of the channel dimension, None without one; `ordered` tells whether
    the channels are drawn one after another, and so are positions of their own.
    """

    name: str
    kind: str
    count: int
    grid: tuple[tuple[str, int], ...]
    channels: int | None
    ordered: bool = False

    @property
    def joint(self) -> bool:
        return self.channels is not None and not self.ordered

    @property
    def classes(self) -> int | None:
        return None if self.kind == "features" else self.count

    def shape(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Of its axes alone, when the finest grid has these lengths (an axis of its own: 3)."""
        return tuple(math.ceil(Fraction(lengths.get(axis, 3), step)) for axis, step in self.grid)

    def example(self, lengths: Mapping[str, int], generator: torch.Generator) -> Tensor:
        channels = () if self.channels is None else (self.channels,)
        shape = (BATCH, *channels, *self.shape(lengths))
        if self.classes is None:
            return torch.randn(shape, generator=generator, dtype=torch.float64)
        return torch.randint(self.classes, shape, generator=generator)

    def places(self, lengths: Mapping[str, int], axes: tuple[str, ...]) -> list[Place]:
        """Where each position of the tensor is anchored, in the order of its dimensions."""
        strides = dict(self.grid)
        groups: Iterable[int | None] = range(self.channels or 1) if self.ordered else (None,)
        found = []
        own_places = product(*(range(n) for n in self.shape(lengths)))
        for group, place in product(groups, own_places):
            own = dict(zip(strides, place, strict=True))
            anchor = tuple(own.get(axis, 0) * strides.get(axis, 1) for axis in axes)
            found.append(anchor if group is None else (*anchor, group))
        return found


@dataclass(frozen=True)
class Trial:
    """A compiled model, in float64 and with every parameter drawn at random, and its proof."""

    model: Any  # an nn.Module with the calls of every compiled model
    graph: Graph
    proof: TermProof
    target: Field
    conditions: tuple[Field, ...]

    def inputs(self, lengths: Mapping[str, int], seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        x = self.target.example(lengths, generator)
        return x, {field.name: field.example(lengths, generator) for field in self.conditions}

    def key(self, reader: Place, read: Place) -> Place:
        """key(read) - key(reader), the channel last where both have one."""
        n = len(self.graph.axes)
        offset = [q - p for p, q in zip(reader[:n], read[:n], strict=True)]
        key = tuple(
            sum(m * o for m, o in zip(row, offset, strict=True)) for row in self.graph.order
        )
        return key + tuple(q - p for p, q in zip(reader[n:], read[n:], strict=False))

    @property
    def seeds(self) -> tuple[int, ...]:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return SEEDS if count < MANY else SEEDS[:1]


def verify(spec: Any, params: Mapping[str, Any] | None = None, /, **more: Any) -> Report:
    """Compile `spec`, its parameters changed as given, and measure it.

    Raises: SpecError for a spec that is wrong, NotCausal for one that leaks.
    """
    from arspec import compiler

    analysis = compiler.require_causal(compiler.analyse(spec, {**(params or {}), **more}))
    trial = make_trial(analysis)
    found = (check(trial) for check in CHECKS)
    return Report(tuple(check for check in found if check is not None))


# --- the measurements ----------------------------------------------------------------------------


def check_causality(trial: Trial) -> Check:
    """No output depends on its own position, or on one that is drawn later."""
    lengths = small_lengths(trial)
    pairs = measured_pairs(trial, trial.target, lengths)
    later = [pair for pair in pairs if trial.key(*pair) >= zero(trial)]
    count = len(trial.target.places(lengths, trial.graph.axes))
    detail = f"{count} x {count} positions, {len(trial.seeds)} redraws of all parameters"
    return Check("causality", not later, _first(later, trial.target.name) or detail)


def check_conditions(trial: Trial) -> Check | None:
    """No output depends on more of a condition than is known when it is drawn."""
    limited = [(field, bound) for field, bound in bounds(trial) if bound.ahead is not None]
    if not limited:
        return None
    for field, bound in limited:
        lengths = small_lengths(trial, field)
        pairs = measured_pairs(trial, field, lengths)
        beyond = [pair for pair in pairs if not within(bound, trial.key(*pair))]
        if beyond:
            return Check("conditions", False, _first(beyond, field.name))
    names = ", ".join(f"`{field.name}`" for field, _ in limited)
    return Check("conditions", True, f"{names}: read no farther than known")


def check_receptive_field(trial: Trial) -> Check:
    """As many positions are read, per axis, as was claimed.

    Measured on a grid that is made up to four times larger until they fit; where they are more than
    fit on any, the module must read from one end of the grid to the other.
    """
    if hasattr(sys.modules[type(trial.model).__module__], "shift_or"):
        detail = "not measured: the right side of `or` is read at the border alone"
        return Check("receptive field", True, detail)
    axes, claimed = trial.graph.axes, trial.proof.receptive_field
    most = INTERIOR[len(axes)]
    lengths = interior_lengths(trial, claimed)
    limit = {axis: min(4 * n, most) for axis, n in lengths.items()}
    while True:
        pairs = measured_pairs(trial, trial.target, lengths, inner_outputs(trial, lengths))
        parts, agree = [], True
        for k, axis in enumerate(axes):
            extent, claim, length = extent_of(pairs, k), claimed[axis], lengths[axis]
            part = f"{axis} {extent}"
            if extent != claim:
                part += f" on a grid of {length}, claimed {claim or 'unbounded'}"
                fits = claim is not None and claim <= most // 2
                agree &= not fits and length // 2 <= extent <= (claim or length)
                agree &= any(read[k] in (0, length - 1) for _, read in pairs)
            parts.append(part)
        larger = {axis: min(2 * n, limit[axis]) for axis, n in lengths.items()}
        if agree or larger == lengths:
            return Check("receptive field", agree, "; ".join(parts))
        lengths = larger


def check_gradients(trial: Trial) -> Check:
    """Every gradient of the log-density is finite."""
    lengths = small_lengths(trial)
    x, conditions = trial.inputs(lengths)
    trial.model.zero_grad()
    trial.model.log_prob(x, **conditions).sum().backward()
    gradients = [p.grad for p in trial.model.parameters() if p.grad is not None]
    finite = all(bool(g.isfinite().all()) for g in gradients)
    total = sum(1 for _ in trial.model.parameters())
    trial.model.zero_grad()
    passed = finite and bool(gradients)
    return Check("gradients", passed, f"finite, {len(gradients)} of {total} parameters have one")


def check_log_prob(trial: Trial) -> Check:
    """log p(x) is the sum over positions, and of a discrete variable each term is normalised."""
    lengths = small_lengths(trial)
    x, conditions = trial.inputs(lengths)
    with torch.no_grad():
        whole = trial.model.log_prob(x, **conditions)
        terms = trial.model.log_prob(x, **conditions, reduce=False)
        error = float((whole - terms.flatten(1).sum(1)).abs().max())
        passed = bool(whole.isfinite().all()) and error <= 1e-9 * max(1, float(whole.abs().max()))
        if not passed:
            return Check("log-density", False, f"the sum over positions is off by {error:.1e}")
        if trial.target.joint or not 0 < (trial.target.classes or 0) <= ENUMERATED:
            return Check("log-density", True, f"the sum over {terms[0].numel()} positions")
        off = max(abs(total - 1) for total in _totals(trial, x, conditions))
    detail = f"the sum over {terms[0].numel()} positions; each sums to 1 within {off:.0e}"
    return Check("log-density", off < 1e-9, detail)


def _totals(trial: Trial, x: Tensor, conditions: dict[str, Tensor]) -> Iterator[float]:
    """The probabilities of all symbols at some positions of the first row, summed."""
    symbols = torch.arange(trial.target.count)
    given = {
        name: value[:1].expand(len(symbols), *value.shape[1:]) for name, value in conditions.items()
    }
    count = x[0].numel()
    for position in sorted({0, count // 2, count - 1}):
        rows = x[:1].flatten(1).repeat(len(symbols), 1)
        rows[:, position] = symbols
        terms = trial.model.log_prob(rows.reshape(-1, *x.shape[1:]), **given, reduce=False)
        yield float(terms.flatten(1)[:, position].double().exp().sum())


def check_lengths(trial: Trial) -> Check | None:
    """What lies at or beyond a row's length counts nothing and influences nothing."""
    if len(trial.graph.axes) > 1:
        return None
    lengths = small_lengths(trial)
    axis = trial.graph.axes[0]
    x, conditions = trial.inputs(lengths)
    other, _ = trial.inputs(lengths, seed=1)
    n = lengths[axis]
    kept = torch.tensor([n // 2, n])
    inside = torch.arange(n) < kept[:, None]
    if trial.target.channels is not None:
        inside = inside[:, None]
    with torch.no_grad():
        terms = trial.model.log_prob(x, **conditions, reduce=False).reshape(len(x), -1, n)
        expected = (terms * inside.reshape(len(x), 1, n)).flatten(1).sum(1)
        cut = trial.model.log_prob(torch.where(inside, x, other), kept, **conditions)
    error = float((cut - expected).abs().max())
    return Check("lengths", error < 1e-9, f"prefixes of {n // 2} and {n}: within {error:.0e}")


def check_prefix(trial: Trial) -> Check | None:
    """A shorter input gives the same outputs as the beginning of a longer one.

    Not so where a node reads ahead and a later one makes up for it by a shift: beyond the end of
    the input such a node finds zeros, and so its outputs depend on the length.
    """
    axis = trial.graph.axes[0]
    if any(_reads_ahead(read.reach) for node in trial.graph.nodes for read in node.reads):
        return None
    present = {field.name for field, bound in bounds(trial) if bound.ahead == 0}
    for field in trial.conditions:
        if axis in dict(field.grid) and field.name not in present:
            return None  # it may be read ahead, and what was cut off would be missed
    lengths = small_lengths(trial)
    x, conditions = trial.inputs(lengths)
    half = dict(lengths, **{axis: (lengths[axis] + 1) // 2})
    cut = {field.name: cut_to(field, conditions[field.name], half) for field in trial.conditions}
    with torch.no_grad():
        whole = trial.model(x, **conditions)
        part = trial.model(cut_to(trial.target, x, half), **cut)
    place = whole.dim() - 1 - len(trial.graph.axes)
    error = float((whole.narrow(place, 0, half[axis]) - part).abs().max())
    passed = error < 1e-9 * max(1.0, float(whole.abs().max()))
    return Check("prefix", passed, f"{half[axis]} of {lengths[axis]}: within {error:.0e}")


def _reads_ahead(reach: Reach) -> bool:
    """Whether a node reads beyond its own position on the first axis."""
    if isinstance(reach, Sweep):
        return reach.until == EVERYWHERE and reach.along[0]
    if reach.transposed:
        return any(box.lo[0] < 0 for box in reach.boxes)
    return any(box.hi[0] > 0 for box in reach.boxes)


def check_sample(trial: Trial) -> Check | None:
    """A draw has the shape asked for, keeps its prompt, and comes again from the same generator."""
    if not hasattr(trial.model, "sample"):
        return None
    lengths = {axis: min(length, 6) for axis, length in small_lengths(trial).items()}
    x, conditions = trial.inputs(lengths)
    shape = tuple(lengths[axis] for axis in trial.graph.axes)

    def draw() -> Tensor:
        generator = torch.Generator().manual_seed(7)
        drawn: Tensor = trial.model.sample(BATCH, shape=shape, generator=generator, **conditions)
        return drawn

    first, second = draw(), draw()
    same = torch.equal(first.nan_to_num(), second.nan_to_num())  # random weights may diverge
    passed = same and first.shape == x.shape
    detail = f"{BATCH} draws of {' x '.join(map(str, shape))}"
    if not same:
        detail = "two draws from equal generators differ"
    elif not passed:
        detail = f"shape {tuple(first.shape)} instead of {tuple(x.shape)}"
    return Check("sampling", passed, detail)


CHECKS: tuple[Callable[[Trial], Check | None], ...] = (
    check_causality,
    check_conditions,
    check_receptive_field,
    check_prefix,
    check_log_prob,
    check_lengths,
    check_gradients,
    check_sample,
)


# --- what they measure with ----------------------------------------------------------------------


def measured_pairs(
    trial: Trial, of: Field, lengths: Mapping[str, int], outputs: list[int] | None = None
) -> list[tuple[Place, Place]]:
    """(reader, read) for every dependency found; with `outputs` only those, by gradients alone."""
    x, conditions = trial.inputs(lengths)
    found = dependency(
        trial.model,
        x,
        conditions,
        of=None if of is trial.target else of.name,
        joint=of.joint,
        classes=of.classes,
        outputs=outputs,
        seeds=trial.seeds,
        faint=1e-11 if outputs is None else 0.0,
        perturb=outputs is None,
    )
    readers = trial.target.places(lengths, trial.graph.axes)
    reads = of.places(lengths, trial.graph.axes)
    found = found.view(-1, len(readers), len(reads)).any(0)  # channels drawn together count as one
    return [(readers[i], reads[j]) for i, j in found.nonzero().tolist()]


def extent_of(pairs: list[tuple[Place, Place]], k: int) -> int:
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


def within(bound: Bound, key: Place) -> bool:
    """Whether an offset is known: see `Bound`."""
    if bound.ahead is None:
        return True
    if bound.ahead:
        return key[0] <= bound.ahead
    return key < (0,) * len(key) if bound.strict else key <= (0,) * len(key)


SMALL = {1: 32, 2: 6, 3: 3}
"""Positions per axis on which everything is measured, by number of axes."""
INTERIOR = {1: 512, 2: 40, 3: 7}
"""The same where only some outputs are."""


def small_lengths(trial: Trial, field: Field | None = None) -> dict[str, int]:
    """Lengths that show what there is to see: a little more than the receptive field, or enough
    for three positions of a condition on a slower clock."""
    axes = trial.graph.axes
    lengths = {}
    for axis in axes:
        most = SMALL[len(axes)]
        extent = trial.proof.receptive_field[axis]
        lengths[axis] = most if extent is None else max(min(extent + 3, most), min(4, most))
    for axis, stride in field.grid if field else ():
        if axis in lengths:
            lengths[axis] = max(lengths[axis], 2 * stride + 2)
    return lengths


def interior_lengths(trial: Trial, claimed: Mapping[str, int | None]) -> dict[str, int]:
    """Lengths on which an output reads all that it can, as far as that stays affordable."""
    axes = trial.graph.axes
    period = max((s for node in trial.graph.nodes for s in node.strides), default=1)
    lengths = {}
    for axis in axes:
        extent = claimed[axis]
        wanted = SMALL[len(axes)] if extent is None else extent + 2 + min(period, 8)
        lengths[axis] = min(wanted, INTERIOR[len(axes)])
    return lengths


def inner_outputs(trial: Trial, lengths: Mapping[str, int], most: int = 18) -> list[int]:
    """Outputs with the most around them to read: late on the first axis, amid the others."""
    axes = trial.graph.axes
    places = trial.target.places(lengths, axes)

    def off_centre(i: int) -> tuple[int, int]:
        amid = sum(abs(p - lengths[a] // 2) for p, a in zip(places[i][1:], axes[1:], strict=False))
        return amid, -places[i][0]

    late = [i for i, place in enumerate(places) if place[0] >= lengths[axes[0]] - 8 // len(axes)]
    return sorted(late, key=off_centre)[:most]


def cut_to(field: Field, value: Tensor, lengths: Mapping[str, int]) -> Tensor:
    """The beginning of a variable's tensor, on a grid of these lengths."""
    shape = field.shape(lengths)
    for place, length in enumerate(shape, start=value.dim() - len(shape)):
        value = value.narrow(place, 0, length)
    return value


def _first(pairs: list[tuple[Place, Place]], name: str) -> str:
    if not pairs:
        return ""
    reader, read = pairs[0]
    return f"the output at {reader} depends on `{name}` at {read}; {len(pairs)} such pairs"


# --- from an analysis ----------------------------------------------------------------------------


def make_trial(analysis: Analysis) -> Trial:
    """Compile what was analysed, leaking or not; float64, every parameter drawn at random."""
    from arspec import compiler
    from arspec.builder import load

    model, term = analysis.model, analysis.model.terms[-1]
    module = load(compiler.emit(analysis), analysis.spec.name).double().eval()
    randomise(module, SEEDS[0])
    target = _field(model.variables[term.variable], ordered=term.frame.channels > 1)
    conditions = tuple(
        _field(variable) for name, variable in model.variables.items() if name != term.variable
    )
    return Trial(module, term.graph, analysis.proof.terms[-1], target, conditions)


def _field(declared: Declared, ordered: bool = False) -> Field:
    count, channels = int(declared.count.value), declared.channels
    if declared.kind == "features":
        channels = count
    grid = tuple((axis, int(stride)) for axis, stride in declared.grid)
    apart = channels > 1 or declared.kind == "features"
    return Field(declared.name, declared.kind, count, grid, channels if apart else None, ordered)
