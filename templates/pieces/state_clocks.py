"""Slower clocks of what is drawn: each is a state of its own, whose steps are its ticks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from .state import Offset, State, Table, each, settled


class Clock(NamedTuple):
    """Number i ticks at position `every * i - ahead`, per axis."""

    every: Offset
    ahead: Offset

    def outside(self, base: Clock) -> Clock:
        """The same, counted in positions drawn, if it was in ticks of a finer clock."""
        every = tuple(e * b for e, b in zip(self.every, base.every, strict=False))
        ahead = (a * b + c for a, b, c in zip(self.ahead, base.every, base.ahead, strict=False))
        return Clock(every, tuple(ahead))

    def positions(self, numbers: int) -> int:
        """Numbers on the first axis in positions of what is drawn."""
        return numbers * self.every[0] - self.ahead[0]


class Timed(State):
    """A state among others that have other clocks."""

    clock: Clock
    root: Clocked
    ticking: bool  # whether this step is one of its own

    def run(self, layer: nn.Module, x: Tensor, *rest: Any) -> Tensor:
        home = self.root.home(layer)
        if home is self:
            return super().run(layer, x, *rest)
        cache: Any = home.caches[str(layer._place)]
        if self.filling:
            cache.fill(x, home)
            result: Tensor = layer(x, *rest)
            return result
        between: Tensor = cache.between(x, home, self)
        return between


class Clocked(Timed):
    """A state with slower clocks. `tables`: what layers keep of each, as in `open_state`.

    A layer keeps positions of its input, so what it keeps is with the clock of that; it may be
    called at ticks of another one.
    """

    ticking = True

    def __init__(
        self,
        shape: tuple[int | None, ...],
        batch: int,
        like: Tensor,
        tables: Mapping[Clock, Table],
    ) -> None:
        super().__init__(shape, batch, like)
        self.root, self.tables = self, tables
        axes = max(len(clock.every) for clock in tables)
        self.clock = Clock((1,) * axes, (0,) * axes)
        rates = itertools.zip_longest(*(clock.every for clock in tables), fillvalue=1)
        self.period = [math.lcm(*alike) for alike in rates]
        self.slower = {clock: Ticks(self, clock) for clock in tables}

    def clone(self) -> Clocked:
        other = super().clone()
        assert isinstance(other, Clocked)
        other.root, other.slower = other, {}
        for clock, ticks in self.slower.items():
            copied = ticks.clone()
            assert isinstance(copied, Ticks)
            other.slower[clock], copied.root = copied, other
        return other

    def attach(self, layers: Mapping[str, Any], schedule: Table, lead: int = 0) -> None:
        super().attach(layers, schedule, lead)
        lags = self.lags.copy()
        for clock, ticks in self.slower.items():
            ticks.compiles = self.compiles
            ticks.attach(layers, self.tables[clock])
            self.lags[0] = max(self.lags[0], clock.positions(ticks.lags[0]))
            for axis in range(1, len(clock.every)):  # so far in a row ticks stand in the row above
                back = max(self.lags[axis], ticks.lags[axis]) - 1
                lags[axis] = max(lags[axis], back * clock.every[axis] + 1)
            ends, ticks.ends = ticks.ends, set()
            self.ends |= set(map(clock.positions, ends))
            for key, phase in ticks.phases.items():
                self.phases[clock, key] = partial(phase_of, clock, phase)
        self.lags[1:] = lags[1:]

    def home(self, layer: nn.Module) -> Timed:
        """The state whose clock is that of a layer's input."""
        states: list[Timed] = [self, *self.slower.values()]
        return next(state for state in states if layer._place in state.caches)

    def moving(self) -> list[Tensor]:
        return [*super().moving(), *(t for s in self.slower.values() for t in s.moving())]

    def begin(self) -> None:
        super().begin()
        for ticks in self.slower.values():
            ticks.follow(self.at)

    def evaluate(self, model: nn.Module, x: Tensor) -> Tensor:
        ticking = [ticks for ticks in self.slower.values() if ticks.ticking]
        for ticks in ticking:
            for ring in ticks.rings:
                ring.read(ticks)
        params = super().evaluate(model, x)
        for ticks in ticking:
            for ring in ticks.rings:
                ring.write(ticks)
        return params

    def kind(self) -> tuple[Hashable, ...] | None:
        for clock, ticks in self.slower.items():
            self.ends |= set(map(clock.positions, ticks.ends))
        kind = super().kind()
        if kind is None:
            return None
        ticking = [ticks.ticking for ticks in self.slower.values()]
        waiting = tuple(ticks.waiting for ticks in self.slower.values())
        inner = self.at if len(self.clock.every) > 1 else ()  # what is read lies as its phases say
        phases = (k % n for k, n in zip(inner, self.period, strict=False))
        return (*kind, *phases, waiting, *ticking)

    def settle(self) -> None:
        super().settle()
        for ticks in self.slower.values():
            ticks.settle()

    def fill(self, model: nn.Module, x: Tensor) -> None:
        for ticks in self.slower.values():
            ticks.expect(tuple(x.shape[self.ordered - len(self.at) :]))
        super().fill(model, x)
        for ticks in self.slower.values():
            ticks.go_on()


class Ticks(Timed):
    """The state of a slower clock: `at` is its number of the latest tick.

    Behind a prompt it is `waiting`: then that is the number of the tick to come. It ticks in the
    first step in any case: what comes before its first number stands before the first position.
    """

    begun = ticking = waiting = False

    def __init__(self, root: Clocked, clock: Clock) -> None:
        paired = zip(root.shape, clock.every, strict=False)
        shape = tuple(None if n is None else -(-n // every) for n, every in paired)
        super().__init__(shape, root.batch, root.like)
        self.root, self.clock = root, clock
        self.lags[0] = 0
        # In a row number 0 stands for the last of the row above, if its end comes too soon for it.
        lengths = zip(root.shape, self.shape, *clock, strict=False)
        ends = [(n or 0, (number or 0) * e - ahead) for n, number, e, ahead in lengths]
        self.first = (0, *(int(last < n) for n, last in ends[1:]))

    def follow(self, at: Offset) -> None:
        """Tick, if it is time at a position."""
        numbers, early = self.number(at)
        self.memo = {}
        inner = any(at[len(numbers) :])  # another channel of the same position
        self.ticking = not (inner or (self.begun and any(early)))
        if self.ticking:
            self.begun, self.waiting, self.at = True, False, numbers
            self.begin()

    def number(self, at: Offset) -> tuple[Offset, list[bool]]:
        """Of the latest tick at a position, and by axis whether it came before."""
        numbers, early = list[int](), list[bool]()
        for k, first, e, ahead in zip(at, self.first, *self.clock, strict=False):
            number, rest = divmod(k + ahead, e)
            opens = bool(numbers) and k == first == 0  # the last of the row above comes here
            numbers.append(number)
            early.append(rest > 0 and not opens)
        return tuple(numbers), early

    def expect(self, shape: Offset) -> None:
        """Before a prompt of a shape: the number of the tick that comes behind it."""
        numbers, early = self.number(self.root.at)
        at = list(self.first)
        for axis, number in enumerate(numbers):
            inner = axis + 1 == len(at) and any(self.root.at[axis + 1 :])
            at[axis] = number + (early[axis] or inner)
            if early[axis] or inner:  # behind a slab
                break
        for axis in range(len(at) - 1, 0, -1):
            if at[axis] >= (self.shape[axis] or 0) + self.first[axis]:
                at[axis - 1], at[axis] = at[axis - 1] + 1, self.first[axis]
        self.at = tuple(at)
        sizes = zip(shape, self.clock.every, strict=False)
        self.filling, self.filled = True, tuple(-(-n // e) for n, e in sizes)

    def within(self, depth: int) -> bool:
        return self.at[depth:] != self.first[depth:]

    def slab(self, x: Tensor, loop: int, at: Offset = ()) -> Tensor:
        return super().slab(x, loop, at or self.latest(loop))

    def latest(self, loop: int, by: int = 0) -> Offset:
        """Before the tick `at`, the latest round of a loop, or the one that is `by` farther on."""
        latest = list(self.at)
        latest[loop] += by - (not self.within(loop + 1))
        for axis in range(loop, 0, -1):
            if latest[axis] < 0:
                latest[axis - 1] -= 1
                latest[axis] += self.shape[axis] or 1
        return (max(latest[0], 0), *latest[1:])

    def go_on(self) -> None:
        self.begun = self.waiting = True
        super().go_on()


def phase_of(clock: Clock, phase: Callable[[State], Hashable], root: State) -> Hashable:
    """What the steps of a slower clock depend on."""
    assert isinstance(root, Clocked)
    return phase(root.slower[clock])


def slower(past: State | None, every: Offset, ahead: Offset = ()) -> State | None:
    """The state of a slower clock, which ticks at every so many positions of a state's own."""
    if past is None:
        return None
    assert isinstance(past, Timed)
    clock = Clock(every, ahead or (0,) * len(every))
    return past.root.slower[clock.outside(past.clock)]


def drawn(past: State | None) -> Clocked | None:
    """The state of what is drawn itself."""
    if past is None:
        return None
    assert isinstance(past, Timed)
    return past.root


def along(past: State | None, axes: int) -> State | None:
    """The state of what has the first axes only: its clock ticks when the last of them moves on."""
    root = drawn(past)
    return None if root is None else root.slower[Clock((1,) * axes, (0,) * axes)]


def settled_at(offsets: Any, past: State | None, loop: int, name: str, *computed: Any) -> Any:
    """`settled` for what stands at `offsets` from the newest tick, on the axis of its loop."""
    result = settled(past, loop, name, *computed)
    if isinstance(past, Ticks) and past.filling:

        def slab(x: Tensor, by: int, ticks: Ticks = past) -> Tensor:
            return ticks.slab(x, loop, ticks.latest(loop, by))

        past.opened[name] = (loop, each(slab, result, offsets))
    return result
