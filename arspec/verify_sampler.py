"""The derived sampler, compared with the parallel forward."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor

from arspec.verify_operations import Operations
from arspec.verify_sizes import COUNTED, LIGHT, enough, limited, stepped_lengths
from arspec.verify_trial import BATCH, EXACT, Check, Place, Trial, distance, within

EXTRA = 1.05
"""Operations of the sampler over those of one parallel forward, at most."""
AFTER_PROMPT = 24
"""Steps behind a prompt that are compared."""
KNOWN_RUNS = slice(0, 37), slice(7, 44)
"""Steps that are known beforehand, so many that a sampler may evaluate them at once."""


# --- the measurements ----------------------------------------------------------------------------


def check_sampler(trial: Trial) -> Check:
    """Whether the sampler is derived, or the naive one that keeps nothing."""
    if derived(trial):
        return Check("sampler", True, "derived: every value is computed once, then kept")
    return Check("sampler", True, "naive: no step is derived, each costs a parallel forward")


def check_step(trial: Trial) -> Check | None:
    """Steps give the parameters that the parallel forward gives, at every position.

    The first redraw of all parameters is on a grid larger than any layer's window, and on the
    others a clone of the state is led elsewhere halfway, which must not disturb the state.
    """
    if not steps(trial):
        return None
    worst, drawn = 0.0, list[str]()
    for seed in trial.seeds:
        trial.redraw(seed)
        long = not drawn and trial.parameters <= LIGHT
        drawing = Drawing(trial, stepped_lengths(trial, long=long), seed)
        drawn.append(str(drawing))
        state = drawing.start()
        full, half = drawing.parallel(), 0 if long else len(drawing.places) // 2
        error, state = drawing.walk(state, drawing.x, full, range(half))
        worst = max(worst, error)
        if half:
            other = drawing.other_from(half)
            error, _ = drawing.walk(
                state.clone(), other, drawing.parallel(other), range(half, len(drawing.places))
            )
            worst = max(worst, error)
        error, _ = drawing.walk(state, drawing.x, full, range(half, len(drawing.places)))
        worst = max(worst, error)
    grids = ", ".join(f"{drawn.count(grid)} of {grid}" for grid in dict.fromkeys(drawn))
    return within("step = parallel", worst, EXACT, f"every position of {BATCH} rows, {grids}")


def check_prompts(trial: Trial) -> Check | None:
    """A prompt, evaluated all at once, and steps behind it give the same parameters."""
    if not steps(trial) or not trial.graph.raster:
        return None
    worst, done = 0.0, dict[str, list[int]]()
    for long in (False, True) if trial.parameters <= LIGHT else (False,):
        drawing = Drawing(trial, stepped_lengths(trial, long=long))
        full, n = drawing.parallel(), drawing.shape[drawing.dims[0]]
        slab = len(drawing.places) // n
        done[str(drawing)] = [length for length in (1, n // 2, n - 1) if 0 < length < n]
        for length in done[str(drawing)]:
            state = drawing.start(drawing.slabs(length))
            behind = range(length * slab, min(len(drawing.places), length * slab + AFTER_PROMPT))
            worst = max(worst, drawing.walk(state, drawing.x, full, behind)[0])
    grids = "; ".join(f"{', '.join(map(str, some))} of {grid}" for grid, some in done.items())
    return within("chunks", worst, EXACT, f"up to {AFTER_PROMPT} steps behind prompts of {grids}")


def check_observed(trial: Trial) -> Check | None:
    """What is drawn around known positions is drawn with the parameters that the whole has.

    The known ones are kept. They are random ones, and once a run that begins the input, in the
    order of drawing, once one amid it.
    """
    if not derived(trial):
        return None
    drawing = Drawing(trial, stepped_lengths(trial, long=False))
    generator = torch.Generator().manual_seed(5)
    # Real numbers, fed back at random parameters, soon diverge: of them fewer are drawn.
    share = 0.5 if trial.target.classes else 0.9
    worst, drawn = 0.0, 0
    for run in KNOWN_RUNS:
        known = torch.rand(drawing.x.shape, generator=generator) < share
        for place in drawing.places[run]:
            drawing.at(known, place)[...] = True
        with recorded(trial.model, drawing.places) as (record, progress):
            x: Tensor = trial.model.sample(
                BATCH,
                shape=drawing.shape,
                prompt=drawing.x,
                observed=known,
                generator=generator,
                progress=progress,
                **drawing.conditions,
            )
        if not x.isfinite().all():
            return Check("inpainting", True, "not measured: draws at random parameters diverge")
        if not x[known].equal(drawing.x[known]):
            return Check("inpainting", False, "a known position was changed")
        missing = {p for p in drawing.places if not drawing.at(known, p).all()} - record.keys()
        if missing:
            return Check("inpainting", False, f"{min(missing)} was not drawn")
        full = drawing.parallel(x)
        apart = [distance(got, drawing.at(full, p, 1)) for p, got in record.items()]
        worst, drawn = max(worst, *apart, 0.0), drawn + len(record)
    what = f"{drawn} steps of {len(KNOWN_RUNS)} x {len(drawing.places)}, the others known"
    return within("inpainting", worst, EXACT, what)


def check_operations(trial: Trial) -> Check | None:
    """Drawing every position costs the multiply-adds of one parallel forward.

    Those by weights and those of attention are judged apart, for a parallel attention computes
    pairs that it masks, and so would hide what is computed twice. On a small grid edges weigh:
    where they weigh too much, what counts is how much a grid of twice the length costs more. A
    sampler that is not derived is not judged.
    """
    if not derived(trial):
        return None
    lengths = stepped_lengths(trial, long=trial.parameters <= LIGHT)
    if len(lengths) == 1:
        lengths = limited(trial, dict.fromkeys(lengths, COUNTED))
    first = trial.graph.axes[0]
    longer = limited(trial, {**lengths, first: 2 * lengths[first]})
    drawing = Drawing(trial, lengths)
    spent, once = counted(drawing)
    ratios = {kind: spent[kind] / max(count, 1) for kind, count in once.items()}
    detail = f"{_listed(ratios)}, predicted {_predicted(trial, drawing):.3f} in all, of at "
    detail += f"most {EXTRA}: {drawing} drawn over one parallel forward"
    if max(ratios.values()) > EXTRA and longer != lengths:
        more, once_more = counted(Drawing(trial, longer))
        ratios = {
            kind: (more[kind] - spent[kind]) / max(once_more[kind] - once[kind], 1) for kind in once
        }
        detail += f"; {_listed(ratios)} for as many again"
    worst = max(ratios.values())
    return Check("operations", worst <= EXTRA, detail, worst, EXTRA)


def counted(drawing: Drawing) -> tuple[dict[str, int], dict[str, int]]:
    """The multiply-adds of drawing every position, and of one parallel forward, by kind."""
    with Operations() as once:
        full = drawing.parallel()
    with Operations() as spent:
        state = drawing.start()
        drawing.walk(state, drawing.x, full, range(len(drawing.places)))
    kinds = [kind for kind in once.kinds if spent.kinds[kind] or once.kinds[kind]]
    kinds = kinds or list(once.kinds)[:1]
    return {k: spent.kinds[k] for k in kinds}, {k: once.kinds[k] for k in kinds}


def _listed(ratios: Mapping[str, float]) -> str:
    return " and ".join(f"{ratio:.3f} {kind}" for kind, ratio in ratios.items())


def check_sample(trial: Trial) -> Check | None:
    """A draw has the shape asked for, and comes again from the same generator."""
    if not hasattr(trial.model, "sample"):
        return None
    short = {axis: min(n, 6) for axis, n in stepped_lengths(trial, long=False).items()}
    lengths = enough(trial, short)
    drawing = Drawing(trial, lengths)

    def draw() -> Tensor:
        generator = torch.Generator().manual_seed(7)
        drawn: Tensor = trial.model.sample(
            BATCH, shape=drawing.shape, generator=generator, **drawing.conditions
        )
        return drawn

    first, second = draw(), draw()
    same = torch.equal(first.nan_to_num(), second.nan_to_num())  # random weights may diverge
    passed = same and first.shape == drawing.x.shape
    detail = f"{BATCH} draws of {drawing}"
    if not same:
        detail = "two draws from equal generators differ"
    elif not passed:
        detail = f"shape {tuple(first.shape)} instead of {tuple(drawing.x.shape)}"
    return Check("sampling", passed, detail)


def steps(trial: Trial) -> bool:
    """Whether the model can be stepped at all."""
    return hasattr(trial.model, "start") and hasattr(trial.model, "step")


def derived(trial: Trial) -> bool:
    """Whether its step is derived: then the one `forward` also serves it."""
    return steps(trial) and "past" in inspect.signature(type(trial.model).forward).parameters


def _predicted(trial: Trial, drawing: Drawing) -> float:
    """What the schedule says of the same."""
    from arspec.schedule import schedule
    from arspec.schedule_counts import ratio

    return ratio(schedule(trial.graph), [drawing.shape[dim] for dim in drawing.dims])


# --- what they measure with ----------------------------------------------------------------------


class Drawing:
    """A grid, an input and conditions drawn at random for it, and its places as they are drawn.

    `shape` is that of the tensors; a place has the axes in the order of drawing.
    """

    def __init__(self, trial: Trial, lengths: Mapping[str, int], seed: int = 0) -> None:
        self.trial, self.lengths, graph = trial, lengths, trial.graph
        self.shape = trial.target.shape(lengths)
        self.dims = trial.dims
        self.x, self.conditions = trial.inputs(lengths, seed)

        def key(place: Place) -> Place:
            return tuple(sum(m * p for m, p in zip(r, place, strict=False)) for r in graph.order)

        groups = [range(trial.target.channels or 1)] if trial.target.ordered else []
        loops = [range(self.shape[dim]) for dim in self.dims]
        every: Iterator[Place] = product(*loops, *groups)
        self.places = sorted(every, key=lambda p: (*key(p), *p[len(self.shape) :]))

    def __str__(self) -> str:
        return " x ".join(map(str, self.shape))

    def parallel(self, x: Tensor | None = None) -> Tensor:
        """The parameters at every position, (B, [channels,] *axes, parameters)."""
        with torch.no_grad():
            found: Tensor = self.trial.model(self.x if x is None else x, **self.conditions)
        return found

    def start(self, prompt: Tensor | None = None) -> Any:
        """A state of the sampler."""
        return self.trial.model.start(BATCH, prompt, shape=self.shape, **self.conditions)

    def slabs(self, count: int) -> Tensor:
        """The input's beginning on the first axis that is drawn along."""
        return self.x.narrow(self.x.dim() - len(self.shape) + self.dims[0], 0, count)

    def at(self, values: Tensor, place: Place, trailing: int = 0) -> Tensor:
        """(B, [channels,] *axes, ...), with `trailing` dimensions behind the axes, at one place."""
        n = len(self.shape)
        own = [place[self.dims.index(dim)] for dim in range(n)]
        index: list[int | slice] = [slice(None)]
        if self.trial.target.ordered:
            index.append(place[n])
        elif values.dim() > 1 + n + trailing:
            index.append(slice(None))
        return values[(*index, *own)]

    def other_from(self, number: int) -> Tensor:
        """An input that differs from that step on."""
        other, _ = self.trial.inputs(self.lengths, seed=91)
        for place in self.places[:number]:
            self.at(other, place)[...] = self.at(self.x, place)
        return other

    def walk(self, state: Any, x: Tensor, full: Tensor, steps: range) -> tuple[float, Any]:
        """Step through x: how far the parameters are from those in `full`, and the state behind.

        `state` stands at the first of the steps; if it says otherwise that is infinitely far.
        """
        found: list[Tensor] = []
        for number in steps:
            if tuple(getattr(state, "at", self.places[number])) != self.places[number]:
                return math.inf, state
            x_prev = self.at(x, self.places[number - 1]) if number else None
            params, state = self.trial.model.step(x_prev, state)
            found.append(params.clone())
        expected = [self.at(full, self.places[number], 1) for number in steps]
        if not found:
            return 0.0, state
        if found[0].shape != expected[0].shape:
            return math.inf, state
        return distance(torch.stack(found), torch.stack(expected)), state


@contextmanager
def recorded(
    model: Any, places: Sequence[Place]
) -> Iterator[tuple[dict[Place, Tensor], Callable[[int, int], None]]]:
    """The parameters that are drawn from within, by place, and what `progress` has to be.

    A recorded step calls nothing of Python's: it writes the parameters where they were before.
    """
    record: dict[Place, Tensor] = {}
    newest: list[Tensor] = []
    head, sample = model.distribution, model.distribution.sample

    def spying(params: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not newest or newest[0].shape != params.shape:
            newest[:] = [torch.empty_like(params)]
        newest[0].copy_(params)
        drawn: Tensor = sample(params, *args, **kwargs)
        return drawn

    def progress(done: int, _: int) -> None:
        if newest and not newest[0].isnan().all():  # else this place was known already
            record[places[done - 1]] = newest[0].clone()
            newest[0].fill_(math.nan)

    head.sample = spying
    try:
        yield record, progress
    finally:
        del head.sample
