"""Sampling without a schedule, given conditions that arrive with the steps."""

from __future__ import annotations

from torch import Tensor

from .replay import Replay
from .state import Offset
from .state_arriving import Arrival


class ArrivingReplay(Replay):
    """A state whose steps are given the newest of some conditions; zeros stand for the rest."""

    given: dict[str, Tensor | None]
    arrivals: tuple[Arrival, ...] = ()
    told = 0  # for the steps before this one, everything has arrived

    def expect(self, name: str, offset: Offset, canvas: Tensor, axis: int) -> None:
        """A condition that arrives, as far as it is known before the next position is drawn."""
        arrival = Arrival(name, self.given.pop(name), offset, canvas, axis)
        ahead, length = max(offset[0], 0), canvas.shape[axis]
        places = [self.newest(offset, number)[0] for number in range(self.number)]
        arrival.require(min(max([ahead, *(k + 1 for k in places)]), length), self.at)
        first = canvas.narrow(axis, 0, min(ahead, length))
        first.copy_(arrival.given.narrow(axis, 0, first.shape[axis]))
        self.conditions[name] = canvas
        self.arrivals += (arrival,)

    def newest(self, offset: Offset, number: int) -> Offset:
        """Where the newest value stands in the step of that number; -1 before the first one."""
        if offset[-1] >= 0:
            return tuple(k + o for k, o in zip(self.place(number), offset, strict=False))
        return self.place(number - 1)[: len(offset)] if number else (-1,)

    def put(self, x_prev: Tensor | None, **values: Tensor | None) -> None:
        """What was drawn at the position before, and the newest values."""
        for arrival in self.arrivals:
            canvas = self.conditions[arrival.name]
            for number in range(self.told, self.number + 1):
                place, at = self.newest(arrival.offset, number), self.place(number)
                if 0 <= place[0] < canvas.shape[arrival.axis]:
                    value = values.get(arrival.name) if number == self.number else None
                    moves = not any(at[len(arrival.offset) :])
                    value = arrival.value(place, moves, value, at, self.fresh)
                    if value is not None:
                        canvas[arrival.index(place)] = value.to(canvas)
        self.told = self.number + 1
        super().put(x_prev)

    def clone(self) -> ArrivingReplay:
        other = super().clone()
        assert isinstance(other, ArrivingReplay)
        own = {a.name: self.conditions[a.name].clone() for a in self.arrivals}
        other.conditions = self.conditions | own
        return other
