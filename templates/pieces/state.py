"""What a sampler keeps from one step to the next.

The loops of a sampler are the axes of what is drawn, the outermost first, then, where the channels
of a position are drawn one after another, the channel. A position or offset with k + 1 components
belongs to loop k: offset (0,) is the row that is open, (0, -1) the pixel drawn just before.
"""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Offset = tuple[int, ...]
Result = TypeVar("Result")


class Cache:
    """What one layer keeps of its input.

    `source` is where its newest input stands, `output` where its output, both relative to the
    position that is drawn.
    """

    moving: tuple[str, ...] = ()  # the tensors that change from step to step

    def __init__(self, source: Offset, output: Offset) -> None:
        self.source, self.output = source, output

    def join(self, state: "State") -> None:
        """Share storage with others of the state."""

    def run(self, x: Tensor, state: "State") -> Tensor:
        """The layer's newest output from its newest input."""
        raise NotImplementedError

    def keep(self, x: Tensor, state: "State") -> None:
        """A new input that is read later only."""
        raise NotImplementedError

    def fill(self, x: Tensor, state: "State") -> None:
        """While a prompt is evaluated: the layer's input at every position."""
        raise NotImplementedError

    def begin(self, state: "State") -> None:
        """Before a step."""

    def ready(self, state: "State") -> None:
        """After a prompt: keep what the position `state.at` needs of it."""

    def clone(self) -> "Cache":
        """A copy that moves on its own; packed weights are shared."""
        other = copy.copy(self)
        for name in self.moving:
            kept = getattr(self, name)
            setattr(other, name, None if kept is None else kept.clone())
        return other


class State:
    """All that a sampler keeps. `step` updates it in place; `clone` branches.

    `at` is the position drawn next, `shape` the length of every loop (the first may be unknown,
    None), `filling` says that a prompt is evaluated, all positions at once.
    """

    def __init__(self, shape: tuple[int | None, ...], batch: int, like: Tensor) -> None:
        self.shape, self.batch, self.like = shape, batch, like
        self.places: dict[Offset, Offset] = {}  # by offset, of this step
        self.lag = 0  # how far behind the position drawn any input of a layer stands
        self.at: Offset = (0,) * len(shape)
        self.filling = False
        self.filled: Offset = ()  # the shape of the prompt
        self.marked = False  # whether torch.compile knows what keeps its size
        self.caches: dict[str, Cache] = {}
        self.weights: dict[str, Any] = {}  # packed for a step
        self.rings: list[Any] = []  # what caches keep together
        self.conditions: dict[str, Tensor] = {}
        self.opened: dict[str, tuple[int, Any]] = {}  # by layer: a coarser loop and its values
        self.prev: Tensor | None = None  # what the first step is given, its `x_prev` being ignored

    def clone(self) -> "State":
        """A state that moves on its own."""
        other = copy.copy(self)
        other.caches = {name: cache.clone() for name, cache in self.caches.items()}
        copies = {id(cache): other.caches[name] for name, cache in self.caches.items()}
        other.rings = [ring.clone([copies[id(c)] for c in ring.caches]) for ring in self.rings]
        other.opened = dict(self.opened)
        return other

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A layer that keeps something, in a step or over a prompt."""
        cache = self.caches[layer._place]  # type: ignore[index]
        if self.filling:
            cache.fill(x, self)
            result: Tensor = layer(x)
            return result
        return cache.run(x, self)

    def packed(self, name: str, pack: Callable[[], Result]) -> Result:
        """Weights in the form that a step wants them in."""
        if name not in self.weights:
            self.weights[name] = pack()
        kept: Result = self.weights[name]
        return kept

    def to(self, offset: Offset) -> Offset:
        """The position at an offset; before the first of a row is the last of the row above."""
        if not torch.compiler.is_compiling() and offset in self.places:
            return self.places[offset]
        place = [k + o for k, o in zip(self.at, offset, strict=False)]
        for axis in range(len(place) - 1, 0, -1):
            if place[axis] < 0:
                place[axis] += self.shape[axis] or 0
                place[axis - 1] -= 1
        if not torch.compiler.is_compiling():
            self.places[offset] = tuple(place)
        return tuple(place)

    def inside(self, place: Offset) -> bool:
        """Whether a position is on the grid: only the first axis can be left."""
        length = self.shape[0]
        return place[0] >= 0 and (length is None or place[0] < length)

    def outside(self, offset: Offset) -> bool:
        """Whether an offset on the only axis leads before its first or behind its last position."""
        return not self.inside((self.at[0] + offset[0],))

    def place(self, number: int) -> Offset:
        """The position of that number in the order of drawing."""
        place: list[int] = []
        for length in reversed(self.shape[1:]):
            number, rest = divmod(number, length or 1)
            place.insert(0, rest)
        return (number, *place)

    def newest(self, x_prev: Tensor | None, *shape: int) -> Tensor:
        """What was drawn last as an x of one position."""
        x, self.prev = self.prev, None
        if x is None:
            if x_prev is None:
                raise ValueError("`x_prev` is what was drawn at the position before; it is missing")
            x = x_prev.reshape(self.batch, *shape)
        return x

    def begin(self) -> None:
        """Before a step."""
        self.places = {}
        opened = len(self.at) - 1
        while opened and not self.at[opened]:
            opened -= 1
        self.opened = {name: kept for name, kept in self.opened.items() if kept[0] < opened}
        for cache in self.caches.values():
            cache.begin(self)

    def evaluate(self, model: nn.Module, x: Tensor) -> Tensor:
        """The parameters at the position drawn next, given the newest x: the part that compiles."""
        for ring in self.rings:
            ring.read(self.at[0])
        params: Tensor = model(x, **self.conditions, past=self)
        for ring in self.rings:
            ring.write(self.at[0])
        return params

    def steady(self) -> bool:
        """Whether a compiled step serves here: behind the first positions, whose steps differ."""
        return self.at[0] >= max(2, self.lag) and (len(self.at) == 1 or self.at[1] != 1)

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


def open_state(
    state: State,
    model: nn.Module,
    schedule: Mapping[str, tuple[Offset, Offset]],
    x: Tensor,
    known: int,
    lead: int = 0,
    ordered: bool = False,
) -> None:
    """Set up what layers keep, and evaluate the first `known` positions of x all at once.

    `schedule`: of each layer that keeps something (`*` stands for any number) where its newest
    input and output stand; `lead`: how far ahead anything is evaluated; `ordered`: x has channels
    that are drawn one after another.
    """
    layers: dict[str, Any] = dict(model.named_modules())
    for name, layer in layers.items():
        layer.__dict__["_place"] = name
    for pattern, (source, output) in schedule.items():
        form = re.compile(re.escape(pattern).replace(r"\*", r"\d+"))
        for name in filter(form.fullmatch, layers):
            cache: Cache = layers[name].cache(source, output)
            cache.join(state)
            state.caches[name] = cache
    state.lag = max([0, *(-cache.source[0] for cache in state.caches.values())])
    for ring in state.rings:
        ring.build(state)
    axes = len(state.shape)
    state.prev = torch.zeros_like(x[(slice(None),) * (x.dim() - axes) + (slice(0, 1),) * axes])
    if not known:
        for ahead in range(-lead, 0):
            state.at = (ahead, *state.at[1:])
            state.begin()
            state.evaluate(model, state.prev)
        state.at = (0,) * len(state.at)
        return
    state.at, before = state.place(known), state.place(known - 1)
    if ordered:  # the innermost loop, but the first of x's axes
        before = (before[-1], *before[:-1])
    index = tuple(slice(k, k + 1) for k in before)
    state.prev = x[(slice(None),) * (x.dim() - axes) + index]
    state.places = {}
    state.filling, state.filled = True, tuple(x.shape[ordered - axes :])
    model(x, **state.conditions, past=state)
    state.filling = False
    for cache in state.caches.values():
        cache.ready(state)
    for ring in state.rings:
        ring.fill()


def compiled() -> Callable[[State, nn.Module, Tensor], Tensor]:
    """`State.evaluate` by torch.compile: one graph for all positions, another where a row opens."""
    evaluate = torch.compile(State.evaluate, fullgraph=True, dynamic=True)

    def step(state: State, model: nn.Module, x: Tensor) -> Tensor:
        # Sizes stay as they are, only the position moves.
        static([x, state.opened if len(state.at) > 1 else ()])
        if not state.marked:
            static([state.caches, state.rings, state.conditions, state.opened, state.weights])
            state.marked = True
        result: Tensor = evaluate(state, model, x)
        return result

    return step


def static(values: Any) -> None:
    """Tell torch.compile that no tensor in these changes its size."""
    if isinstance(values, Tensor):
        torch._dynamo.mark_static(values)
    elif isinstance(values, dict):
        static(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            static(value)
    elif isinstance(values, Cache) or hasattr(values, "caches"):
        static(list(vars(values).values()))


def settled(
    past: State | None, loop: int, name: str, compute: Callable[..., Result], *inputs: Tensor
) -> Result:
    """What belongs to a coarser loop: computed when that loop moves on (-1: once), then kept."""
    if past is None:
        return compute(*inputs)
    if past.filling:
        result = compute(*inputs, past=past)
        past.opened[name] = (loop, slab(result, past, loop))
        return result
    if name not in past.opened:
        past.opened[name] = (loop, compute(*inputs, past=past))
    kept: Result = past.opened[name][1]
    return kept


def slab(values: Any, past: State, loop: int) -> Any:
    """The part of (B, *axes, C) that belongs to the current round of a loop."""
    if isinstance(values, tuple):
        return tuple(slab(value, past, loop) for value in values)
    for axis in range(loop + 1):
        values = values.narrow(axis + 1, min(past.at[axis], values.shape[axis + 1] - 1), 1)
    return values


def here(x: Tensor, past: State | None, axes: Mapping[int, int], offset: Offset) -> Tensor:
    """The part of a coarser loop's value at the position drawn: dimension -> axis to cut it at."""
    if past is None:
        return x
    if past.filling:  # a prompt can be shorter than what is known from the start
        for dimension, axis in axes.items():
            x = x.narrow(dimension, 0, min(past.filled[axis], x.shape[dimension]))
        return x
    place = past.to(offset)
    for dimension, axis in axes.items():
        x = x.narrow(dimension, min(max(place[axis], 0), x.shape[dimension] - 1), 1)
    return x


def first(past: State | None, axis: int, offset: Offset) -> int:
    """Where the positions of a call start on an axis."""
    if past is None or past.filling:
        return 0
    place, length = past.to(offset)[axis], past.shape[axis]
    return max(place if length is None else min(place, length - 1), 0)


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
