"""What a sampler keeps from one step to the next.

The loops of a sampler are the axes of what is drawn, the outermost first, then, where the channels
of a position are drawn one after another, the channel. A position or offset with k + 1 components
belongs to loop k: offset (0,) is the row that is open, (0, -1) the pixel drawn just before.

A step is the same program at every position: where it depends on the position, that is a tensor.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from .tape import Tapes, compiled, replayed, tensors

Offset = tuple[int, ...]
Table = Mapping[str, Sequence[Any]]
Result = TypeVar("Result")


class Place(NamedTuple):
    """A position on one axis, as a number and as a tensor, (1,): what a step computes with.

    `ends`: positions on the first axis from which on a step is another program, as drawn `by`
    places earlier.
    """

    number: int
    tensor: Tensor
    ends: set[int]
    by: int

    def before(self, end: int) -> bool:
        """Whether it is before `end`, where something given ends."""
        self.ends.add(end - self.by)
        return self.number < end


class Cache:
    """What one layer keeps of its input.

    `source` is where its newest input stands, `output` where its output, both relative to the
    position that is drawn. What it keeps stays in the same tensors, which steps update in place.
    """

    moving: tuple[str, ...] = ()  # the tensors that change from step to step
    slides = False  # whether it has to know that a slab of the first axis opens
    layout: Sequence[int] = ()  # of its input, where channels are ordered: that of each feature

    def __init__(self, source: Offset, output: Offset) -> None:
        self.source, self.output = source, output

    def join(self, state: State) -> None:
        """Share storage with others of the state."""

    def run(self, x: Tensor, state: State) -> Tensor:
        """The layer's newest output from its newest input."""
        raise NotImplementedError

    def keep(self, x: Tensor, state: State) -> None:
        """A new input that is read later only."""
        raise NotImplementedError

    def fill(self, x: Tensor, state: State) -> None:
        """While a prompt is evaluated: the layer's input at every position."""
        raise NotImplementedError

    def begin(self, state: State) -> None:
        """Before a step that opens a slab."""

    def ready(self, state: State) -> None:
        """After a prompt: keep what the position `state.at` needs of it."""

    def clone(self) -> Cache:
        """A copy that moves on its own; packed weights are shared."""
        other = copy.copy(self)
        for name in self.moving:
            kept = getattr(self, name)
            setattr(other, name, None if kept is None else kept.clone())
        return other


class State:
    """All that a sampler keeps. `step` updates it in place; `clone` branches.

    `at` is the position drawn next, `position` the same as a tensor, `shape` the length of every
    loop (the first may be unknown, None), `filling` says that a prompt is evaluated, all positions
    at once.
    """

    def __init__(self, shape: tuple[int | None, ...], batch: int, like: Tensor) -> None:
        self.shape, self.batch, self.like = shape, batch, like
        self.at: Offset = (0,) * len(shape)
        self.position = torch.zeros(len(shape), dtype=torch.long, device=like.device)
        self.stands = self.at  # what `position` says
        self.memo: dict[Hashable, Any] = {}  # computed once in a step
        self.lags = [1] * len(shape)  # by axis, how far behind the position drawn layers read
        self.ends: set[int] = set()  # where something given ends on the first axis
        self.ordered = False  # whether the innermost loop is the channel
        self.filling = False
        self.filled: Offset = ()  # the shape of the prompt
        self.caches: dict[str, Cache] = {}
        self.weights: dict[Hashable, Any] = {}  # packed for a step
        self.rings: list[Any] = []  # what caches keep together
        self.phases: dict[Hashable, Callable[[State], Hashable]] = {}  # what else steps depend on
        self.compiles = False  # steps by torch.compile
        self.conditions: dict[str, Tensor] = {}
        self.opened: dict[str, tuple[int, Any]] = {}  # by layer: a coarser loop and its values
        self.closed: dict[str, tuple[int, Any]] = {}  # of the round before
        self.form: Sequence[int] = ()  # the shape of an x of one position
        self.prev: Tensor | None = None  # what the first step is given, its `x_prev` being ignored
        self.tapes = Tapes()

    def clone(self) -> State:
        """A state that moves on its own."""
        other = copy.copy(self)
        other.position = self.position.clone()
        other.caches = {name: cache.clone() for name, cache in self.caches.items()}
        copies = {id(cache): other.caches[name] for name, cache in self.caches.items()}
        other.rings = [ring.clone([copies[id(c)] for c in ring.caches]) for ring in self.rings]
        opened = self.opened.items()
        other.opened = {name: (loop, each(Tensor.clone, kept)) for name, (loop, kept) in opened}
        other.closed, other.ends, other.tapes = {}, set(self.ends), Tapes()
        return other

    def moving(self) -> list[Tensor]:
        """All that steps change."""
        own = [getattr(cache, name) for cache in self.caches.values() for name in cache.moving]
        rings = [ring.ring for ring in self.rings]
        settled = [kept for _, kept in (self.closed | self.opened).values()]
        return list(tensors([self.position, own, rings, list(self.conditions.values()), settled]))

    def attach(self, layers: Mapping[str, Any], schedule: Table, lead: int = 0) -> None:
        """Set up what layers keep."""
        for pattern, (source, output, *layout) in schedule.items():
            form = re.compile(re.escape(pattern).replace(r"\*", r"\d+"))
            for name in filter(form.fullmatch, layers):
                cache: Cache = layers[name].cache(source, output)
                cache.layout = layout[0] if layout else cache.layout
                cache.join(self)
                self.caches[name] = cache
        self.offsets = [o for c in self.caches.values() for o in (c.source, c.output)]
        # Before the first of a row is the last of the row above: so much more is behind.
        for axis, lag in enumerate(self.lags):
            self.lags[axis] = max([lag, *(-sum(min(k, 0) for k in o[axis:]) for o in self.offsets)])
        if self.shape[0] is not None:
            self.ends.add(self.shape[0] - max([lead, *(o[0] for o in self.offsets)]))
        for ring in self.rings:
            ring.build(self)

    def fill(self, model: nn.Module, x: Tensor) -> None:
        """Evaluate a prompt, and keep what is read of it later."""
        self.filling, self.filled = True, tuple(x.shape[self.ordered - len(self.at) :])
        model(x, **self.conditions, past=self)
        self.go_on()

    def go_on(self) -> None:
        """Behind a prompt."""
        self.filling = False
        for cache in self.caches.values():
            cache.ready(self)
        for ring in self.rings:
            ring.fill()

    def slab(self, x: Tensor, loop: int, at: Offset = ()) -> Tensor:
        """The part of (B, *axes, C) that belongs to a round of a loop, the current one."""
        for axis, k in enumerate((at or self.at)[: loop + 1], start=1):
            x = x.narrow(axis, min(k, x.shape[axis] - 1), 1)
        return x.clone()

    @property
    def lengths(self) -> tuple[int | None, ...]:
        """The lengths of the axes: `shape` without the channels."""
        return self.shape[: len(self.shape) - self.ordered]

    def run(self, layer: nn.Module, x: Tensor, *rest: Any) -> Tensor:
        """A layer that keeps something, in a step or over a prompt."""
        cache = self.caches[layer._place]  # type: ignore[index]
        if self.filling:
            cache.fill(x, self)
            result: Tensor = layer(x, *rest)
            return result
        return cache.run(x, self)

    def once(self, key: Hashable, compute: Callable[[], Result], memo: Any = None) -> Result:
        """What several layers need in a step is computed once."""
        memo = self.memo if memo is None else memo
        if key not in memo:
            memo[key] = compute()
        found: Result = memo[key]
        return found

    def within(self, depth: int) -> bool:
        """Whether the round of the first `depth` loops was open before this step."""
        return any(self.at[depth:])

    def to(self, offset: Offset) -> Offset:
        """The position at an offset; before the first of a row is the last of the row above."""
        place = [k + o for k, o in zip(self.at, offset, strict=False)]
        for axis in range(len(place) - 1, 0, -1):
            while place[axis] < 0:
                place[axis] += self.shape[axis] or 1
                place[axis - 1] -= 1
        return tuple(place)

    def on(self, axis: int, offset: Offset) -> Place:
        """The position at an offset, on one axis."""
        number = self.to(offset)[axis]
        by = number - self.at[axis]
        here = self.position[axis : axis + 1]
        tensor = self.once(("on", axis, by), lambda: here + by) if by else here
        return Place(number, tensor, set() if axis else self.ends, by)

    def inside(self, place: Offset) -> bool:
        """Whether a position is on the grid: only the first axis can be left."""
        length = self.shape[0]
        return place[0] >= 0 and (length is None or place[0] < length)

    def place(self, number: int) -> Offset:
        """The position of that number in the order of drawing."""
        place: list[int] = []
        for length in reversed(self.shape[1:]):
            number, rest = divmod(number, length or 1)
            place.insert(0, rest)
        return (number, *place)

    def newest(self, x_prev: Tensor | None) -> Tensor:
        """What was drawn last as an x of one position."""
        x, self.prev = self.prev, None
        if x is None:
            if x_prev is None:
                raise ValueError("`x_prev` is what was drawn at the position before; it is missing")
            x = x_prev.reshape(self.form)
        return x

    def begin(self) -> None:
        """Before a step."""
        opened = max((axis for axis in range(len(self.at)) if self.within(axis)), default=0)
        for axis, (was, now) in enumerate(zip(self.stands, self.at, strict=True)):
            if was != now:  # a step moves it on along the innermost loop
                self.position[axis] = now
        self.stands = self.at
        if opened == 0:
            for cache in self.caches.values():
                if cache.slides:
                    cache.begin(self)
        for name in [name for name, (loop, _) in self.opened.items() if loop >= opened]:
            self.closed[name] = self.opened.pop(name)

    def evaluate(self, model: nn.Module, x: Tensor) -> Tensor:
        """The parameters at the position drawn next, given the newest x."""
        self.memo = {}
        rings = [] if self.within(1) else self.rings  # they move along the first axis
        for ring in rings:
            ring.read(self)
        params: Tensor = model(x, **self.conditions, past=self)
        for ring in rings:
            ring.write(self)
        return params

    def step(
        self,
        model: nn.Module,
        x_prev: Tensor | None,
        then: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The parameters at the position drawn next, or what `then` makes of them.

        By a recorded step where this one is like others; no module is called in that case.
        """
        self.begin()
        x = self.newest(x_prev)

        def whole(x: Tensor) -> Tensor:
            params = self.evaluate(model, x)
            self.position[-1:].add_(1)
            return params if then is None else then(params)

        kind, device = self.kind(), self.like.device.type
        if kind is None or torch.compiler.is_compiling() or torch.is_autocast_enabled(device):
            made = whole(x)
        else:
            make = replayed
            if self.compiles and kind[:2] == (self.lags[0], 0):
                make = partial(compiled, moving=self.moving)
            phase = [phase(self) for phase in self.phases.values()]
            made = self.tapes.step(phase, (then, model.training, *kind), x, whole, make)
        self.settle()
        self.stands = (*self.at[:-1], self.at[-1] + 1)
        self.advance()
        return made

    def settle(self) -> None:
        """Of what was closed, a tape has renewed the tensors."""
        if self.closed:
            self.opened, self.closed = self.closed | self.opened, {}

    def kind(self) -> tuple[Hashable, ...] | None:
        """All that the program of a step depends on; None where no other step is like this one.

        These are how near the position is to where its loops opened, as far as layers read back,
        the channel, and how near it is to the ends of the first axis: beyond them is no grid.
        """
        first, *inner = self.at
        near, past = min(first, self.lags[0]), max([0, *(first + 1 - end for end in self.ends)])
        if not inner and (past or near < self.lags[0]):
            return None
        channel = inner[-1] if self.ordered else None
        return near, past, tuple(map(min, inner, self.lags[1:])), channel

    def advance(self) -> None:
        """After a step: to the next position."""
        at = list(self.at)
        at[-1] += 1
        for axis in range(len(at) - 1, 0, -1):
            length = self.shape[axis]
            if length is not None and at[axis] >= length:
                at[axis] = 0
                at[axis - 1] += 1
        self.at = tuple(at)


def each(function: Callable[..., Any], *values: Any) -> Any:
    """A function of tensors, or of all in lists and tuples of them."""
    if isinstance(values[0], list | tuple):
        return type(values[0])(each(function, *several) for several in zip(*values, strict=True))
    return function(*values)


def open_state(
    state: State, model: nn.Module, schedule: Table, x: Tensor, known: int, lead: int = 0
) -> None:
    """Set up what layers keep, and evaluate the first `known` positions of x all at once.

    `schedule`: of each layer that keeps something (`*`: any number) where its newest input and
    output stand, and a layout that it cannot know; `lead`: how far ahead anything is evaluated.
    """
    layers: dict[str, Any] = dict(model.named_modules())
    for name, layer in layers.items():
        layer.__dict__["_place"] = name
    state.attach(layers, schedule, lead)
    axes = len(state.shape)
    state.prev = torch.zeros_like(x[(slice(None),) * (x.dim() - axes) + (slice(0, 1),) * axes])
    state.form = state.prev.shape
    if not known:
        slab = math.prod(n or 1 for n in state.shape[1:])
        inside = any(o[0] > 0 and o[1:] for o in state.offsets)
        for number in range(-lead * slab, 0, 1 if inside else slab):
            state.at = state.place(number)
            state.begin()
            state.evaluate(model, state.prev)
        state.at = (0,) * len(state.at)
        return
    state.at, before = state.place(known), state.place(known - 1)
    if state.ordered:  # the innermost loop, but the first of x's axes
        before = (before[-1], *before[:-1])
    index = tuple(slice(k, k + 1) for k in before)
    state.prev = x[(slice(None),) * (x.dim() - axes) + index]
    state.fill(model, x)


def settled(
    past: State | None, loop: int, name: str, compute: Callable[..., Result], *inputs: Any
) -> Result:
    """What belongs to a coarser loop: computed when that loop moves on (-1: once), then kept."""
    if past is None:
        return compute(*inputs)
    if past.filling:
        result = compute(*inputs, past=past)
        past.opened[name] = (loop, each(partial(past.slab, loop=loop), result))
        return result
    if name not in past.opened:
        made = compute(*inputs, past=past)
        if name in past.closed:  # into the tensors of the round before: steps read those
            made = each(renewed, past.closed[name][1], made)
        past.opened[name] = (loop, made)
    kept: Result = past.opened[name][1]
    return kept


def renewed(old: Tensor, new: Tensor) -> Tensor:
    """The old tensor with the values of the new one."""
    return old.copy_(new) if old.shape == new.shape else new


def here(x: Tensor, past: State | None, axes: Mapping[int, int], offset: Offset) -> Tensor:
    """The part of a coarser loop's value at the position drawn: dimension -> axis to cut it at."""
    if past is None:
        return x
    for dimension, axis in axes.items():
        length = x.shape[dimension]
        if past.filling:  # a prompt can be shorter than what is known from the start
            x = x.narrow(dimension, 0, min(past.filled[axis], length))
        else:
            x = x.index_select(dimension, past.on(axis, offset).tensor.clamp(0, length - 1))
    return x


def first(past: State | None, axis: int, offset: Offset) -> int | Place:
    """Where the positions of a call start on an axis."""
    if past is None or past.filling:
        return 0
    place, length = past.on(axis, offset), past.shape[axis]
    last = None if length is None else length - 1
    number = max(place.number if last is None else min(place.number, last), 0)
    tensor = past.once(("first", axis, offset), lambda: place.tensor.clamp(0, last))
    return Place(number, tensor, place.ends, place.by)


def extent(length: int, past: State | None, axis: int) -> int:
    """The length of an axis of what is drawn, in a step as in `forward`."""
    if past is None or (past.filling and axis):
        return length
    whole = past.shape[axis]
    if whole is None:
        raise ValueError("this model needs to know the `shape` from the start")
    return whole


def keep(layer: nn.Module, x: Tensor, past: State | None) -> None:
    """Keep an input of a layer that a coarser loop evaluates later."""
    if past is not None:
        past.caches[str(layer._place)].keep(x, past)
