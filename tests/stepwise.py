"""A compiled model, an x and conditions for it, and what its sampler's steps say of that x."""

from __future__ import annotations

import inspect
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from arspec import compiler, emit
from arspec.builder import load
from arspec.measure import randomise
from arspec.stepping import Unplanned
from arspec.verify_sampler import recorded

EXACT = 1e-9
"""The most that float64 may make of the order of a sum."""
LENGTHS = {"time": 9, "frame": 3, "row": 4, "col": 3}
"""The length of each axis, unless a test says otherwise."""

Place = tuple[int, ...]
"""A position in the loops of the sampler: the axes, then the channel where channels are ordered."""


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Steps are tiny: several threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Known(NamedTuple):
    """How much of a condition is known, as it is declared, how many axes it has and dims before."""

    word: str
    axes: int
    before: int

    @property
    def ahead(self) -> int:
        """How many slabs of the first axis are known ahead of the one that is drawn."""
        return int(self.word) if self.word.startswith("+") else 0

    @property
    def loops(self) -> int:
        """How many of the axes move on from one value to the next."""
        return 1 if self.ahead else self.axes


@dataclass(frozen=True, eq=False)
class Case:
    """A model, an x of one batch and the conditions. `channels`: those drawn one after another.

    `shape` is that of x; a place has the axes as they are drawn, each at its place in `dims` of x.
    Positions are drawn by increasing `order` times place, as in `arspec.graph.Graph`. `arriving`:
    the conditions of which a step takes the newest value.
    """

    text: str
    model: nn.Module
    x: Tensor
    conditions: dict[str, Tensor]
    shape: tuple[int, ...]
    channels: int | None
    dims: tuple[int, ...]
    order: tuple[tuple[int, ...], ...]
    arriving: dict[str, Known]

    @property
    def derived(self) -> bool:
        """Whether a step does no more than is new; else it replays the whole forward."""
        return "class Replay" not in self.text

    @property
    def narrow(self) -> bool:
        """Whether the grid is shorter than the sampler looks ahead, which `start` says."""
        checked = re.findall(r'least_lengths\["(\w+)"\]\s+if shape\[(\d)\] < least:', self.text)
        least: dict[str, int] = getattr(self.model, "least_lengths", {})
        return any(self.shape[self.dims[int(axis)]] < least[name] for name, axis in checked)

    @property
    def length(self) -> int:
        """How many slabs of the axis that is drawn along first there are."""
        return self.shape[self.dims[0]]

    @property
    def places(self) -> list[Place]:
        """All positions, in the order of drawing."""
        lengths = [self.shape[dim] for dim in self.dims]
        loops = (*lengths, *([self.channels] if self.channels else []))
        return sorted(itertools.product(*map(range, loops)), key=self.key)

    def key(self, place: Place) -> Place:
        """What positions are drawn in the order of; the channel is innermost."""
        n = len(self.shape)
        keys = (sum(m * k for m, k in zip(row, place, strict=False)) for row in self.order)
        return (*keys, *place[n:])

    def row(self, k: int) -> Case:
        """The k-th of the batch alone."""
        conditions = {name: value[k : k + 1] for name, value in self.conditions.items()}
        return replace(self, x=self.x[k : k + 1], conditions=conditions)

    def value(self, place: Place, x: Tensor | None = None) -> Tensor:
        """What stands at a position: (B,), or (B, C) where channels are drawn together."""
        x = self.x if x is None else x
        return x[self.index(place, x.dim() - 1)]

    def index(self, place: Place, dims: int) -> tuple[Any, ...]:
        """Where a position lies in (B, [C,] *axes, ...), `dims` counting all but B and the rest."""
        n = len(self.shape)
        own = [place[self.dims.index(dim)] for dim in range(n)]
        if self.channels:
            return (slice(None), place[n], *own)
        return (slice(None), *([slice(None)] * (dims - n)), *own)

    def parallel(self, x: Tensor | None = None) -> dict[Place, Tensor]:
        """The parameters at every position, by one forward."""
        with torch.no_grad():
            params = self.model(self.x if x is None else x, **self.conditions)
        return {place: params[self.index(place, params.dim() - 2)] for place in self.places}

    def prompt(self, slabs: int) -> Tensor:
        """The first slabs of the axis that is drawn along first."""
        return self.x.narrow(self.x.dim() - len(self.shape) + self.dims[0], 0, slabs)

    def start(self, slabs: int = 0) -> Any:
        """The state behind a prompt."""
        start: Any = self.model.start
        prompt = self.prompt(slabs) if slabs else None
        return start(len(self.x), prompt, shape=self.shape, **self.conditions)

    def start_told(self, slabs: int = 0, **settings: Any) -> Any:
        """The same, of conditions that arrive given only what stands before."""
        start: Any = self.model.start
        prompt = self.prompt(slabs) if slabs else None
        conditions: dict[str, Tensor | None] = {**self.conditions}
        for name, known in self.arriving.items():
            count = min(slabs + known.ahead, self.length)
            part = self.conditions[name].narrow(known.before, 0, count)
            conditions[name] = part if count else None
        return start(len(self.x), prompt, **{"shape": self.shape, **settings}, **conditions)

    def arrives(self, place: Place) -> dict[str, Tensor]:
        """The newest values of conditions that the step at a place is told."""
        n, found = len(self.shape), dict[str, Tensor]()
        for name, known in self.arriving.items():
            at: Place | None = (place[0] + known.ahead, *place[1:n])
            if known.word == "past":
                before = [
                    other for other in self.places if self.key(other[:n]) < self.key(place[:n])
                ]
                at = before[-1] if before else None
            moves = not any(place[known.loops :])
            if at is not None and moves and at[0] < self.length:
                index = (*[slice(None)] * known.before, *at[: known.loops])
                found[name] = self.conditions[name][index]
        return found

    def told(self, slabs: int = 0, state: Any = None) -> Iterator[tuple[Place, Tensor]]:
        """As `stepped`, with conditions that arrive with the steps."""
        state = self.start_told(slabs) if state is None else state
        step: Any = self.model.step
        places = self.places
        first = slabs * (len(places) // self.length)
        for number, place in enumerate(places[first:], start=first):
            assert state.at == place
            previous = self.value(places[number - 1]) if number else None
            params, state = step(previous, state, **self.arrives(place))
            yield place, params

    def stepped(self, slabs: int = 0, state: Any = None) -> Iterator[tuple[Place, Tensor]]:
        """The parameters at every position behind a prompt, by steps that are told x."""
        state = self.start(slabs) if state is None else state
        step: Any = self.model.step
        places = self.places
        first = slabs * (len(places) // self.length)
        for before, place in zip([None, *places], places, strict=False):
            if places.index(place) >= first:
                assert state.at == place
                previous = None if before is None else self.value(before)
                params, state = step(previous, state)
                yield place, params


def make_case(
    spec: Any,
    seed: int = 1,
    *,
    batch: int = 2,
    lengths: Mapping[str, int] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Case:
    """Compile in float64, every parameter and buffer drawn at random; random x and conditions."""
    analysis = spec if isinstance(spec, compiler.Analysis) else compiler.analyse(spec, params or {})
    term = analysis.model.terms[-1]
    text = compiler.emit(compiler.require_causal(analysis))
    model = load(text, analysis.spec.name).double().eval()
    randomise(model, seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = {**LENGTHS, **(lengths or {})}
    made: dict[str, Tensor] = {}
    for name, variable in analysis.model.variables.items():
        shape = [-(-sizes[axis] // int(stride)) for axis, stride in variable.grid]
        count = int(variable.count.value)
        if variable.kind == "features":
            made[name] = torch.randn(batch, count, *shape, generator=generator).double()
        else:
            several = [variable.channels] if variable.channels > 1 else []
            made[name] = torch.randint(count, (batch, *several, *shape), generator=generator)
    x = made.pop(term.variable)
    axes = analysis.model.variables[term.variable].grid
    channels = term.frame.channels
    takes = inspect.signature(model.step).parameters  # type: ignore[arg-type]
    arriving = {}
    for name, variable in analysis.model.variables.items():
        if name in takes:
            assert variable.known is not None
            before = made[name].dim() - len(variable.grid)
            arriving[name] = Known(variable.known, len(variable.grid), before)
    return Case(
        text,
        model,
        x,
        made,
        tuple(sizes[axis] for axis, _ in axes),
        channels if channels > 1 else None,
        term.frame.dims,
        term.graph.order,
        arriving,
    )


def difference(case: Case, slabs: int = 0, *, told: bool = False) -> float:
    """The largest difference between steps behind a prompt and the parallel forward.

    `told`: conditions that arrive do so with the steps, and are not given whole at the start.
    """
    parallel = case.parallel()
    worst = 0.0
    for place, params in (case.told if told else case.stepped)(slabs):
        wanted = parallel[place]
        assert params.shape == wanted.shape, (place, params.shape, wanted.shape)
        gap = (params - wanted).abs().max().item()
        worst = gap if not gap <= worst else worst  # NaN is a difference
    return worst


def check_recorded(this: Case) -> None:
    """Steps give what the forward gives; each kind of them that comes several times is a tape."""
    parallel, state = this.parallel(), this.start()
    for place, params in this.stepped(0, state):
        assert (params - parallel[place]).abs().max() < EXACT, place
    made = state.tapes.made
    assert made
    assert all(run.__qualname__.startswith("replayed") for run in made.values())


@contextmanager
def without_schedule() -> Iterator[None]:
    """Models compiled here replay: what is emitted for a spec that has no incremental form."""

    def refuse(*_: object) -> None:
        raise Unplanned("as if")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "plan", refuse)
        yield


def of_text(text: str, **settings: Any) -> Case:
    """The model of a spec written here."""
    return make_case(compiler.analyse("-", {}, io.StringIO(text)), **settings)


def calm(this: Case) -> Case:
    """With weights so small that many classes are drawn, and no series grows without bound."""
    with torch.no_grad():
        for parameter in this.model.parameters():
            parameter.mul_(0.4)
    return this


class Draws:
    """A model's `sample`, and the parameters that it drew from at each position."""

    def __init__(self, this: Case) -> None:
        self.case = this
        self.used: dict[Place, Tensor] = {}
        self.total = 0  # what `sample` says that there is to do

    def __call__(self, **settings: Any) -> Tensor:
        this = self.case
        settings.setdefault("generator", torch.Generator().manual_seed(2))
        settings.setdefault("shape", this.shape)
        sample: Any = this.model.sample
        with recorded(this.model, this.places) as (used, note):

            def progress(done: int, total: int) -> None:
                self.total = total
                note(done, total)

            x: Tensor = sample(len(this.x), progress=progress, **settings, **this.conditions)
        self.used |= used
        return x

    def check(self, x: Tensor) -> None:
        """What was drawn came from the parameters that the forward gives on the finished x."""
        wanted = self.case.parallel(x)
        for place, params in self.used.items():
            assert params.shape == wanted[place].shape
            assert (params - wanted[place]).abs().max() < EXACT, place
