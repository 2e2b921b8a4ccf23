"""Recurrences: a node that reads its own earlier states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import ClassVar

from arspec.frame import Taps
from arspec.graph import ALL, UPTO, Stencil
from arspec.layers.base import Facts, Number, Weighted, WindowSpec
from arspec.layers.linear import missing_setting, settings
from arspec.layers.site import Site
from arspec.marks import GIVEN, KEEPS
from arspec.values import DERIVED, KNOWN, Num, Window

Offset = tuple[int, ...]
FARTHEST = 6
"""The largest coefficient of an order of computation that is looked for."""


class _Recurrence(Weighted):
    """`state`: where the own state comes from (default: the previous position of the last axis);
    `reads`: the window of the input. What is `given` joins the input of all gates."""

    gates: ClassVar[int]
    piece: ClassVar[str]
    state: WindowSpec | None = None
    reads: WindowSpec | None = None

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        if not x.grid:
            site.fail("AR308", self.key, axis="a recurrence", axes="no axis")
        site.without_effect("to")
        ones = dict.fromkeys(site.axes, Num(1, "1"))
        boxes: list[Taps] = [{}]
        mask, grouped, literal = "none", site.grouped, False
        if self.reads is not None:
            window = site.resolve_window(self.reads, "reads")
            literal = window.literal
            mask = "none" if literal else site.mask()
            boxes = list(site.boxes(window, "reads", mask, ones))
            grouped = grouped and not literal
        own = site.known_axes(boxes)
        if mask != "none":
            reach = site.frame.masked(own, mask == "A")
        else:
            reach = site.frame.stencil(own, UPTO if grouped else ALL)
        states: list[Taps] = [{site.axes[-1]: (-1, -1, 1)}]
        if self.state is not None:
            window = _offsets(site.resolve_window(self.state, "state"))
            states = list(site.boxes(window, "state", "none", ones))
        width = site.number(self.key, 1)
        out = site.output(width, grouped)
        gates = out.times(self.gates)
        state = _Taps.of(site.axes, states)
        reads = _Taps.of(site.axes, boxes).masked(site, mask, grouped)
        fan_in = x.features.width * len(reads.offsets) + out.width * len(state.offsets)
        order = _order(state.offsets)
        missing = "a recurrence without a simple order of computation"
        return Facts(
            grid=x.grid,
            features=out,
            reads=((site.x, reach),),
            due=DERIVED if x.due >= DERIVED else x.due or KNOWN,
            construct=self._construct(site, mask, grouped, state, order or (0,), reads),
            call=f"{{self}}({site.x.code}{GIVEN}{KEEPS})",
            parameters=int(self.gates * out.width * (fan_in + bool(self.bias))),
            missing=missing_setting(self) or (None if order else missing),
            state=state.reach(site),
            mask=mask if mask != "none" else "",
            given=gates,
        )

    def _construct(
        self, site: Site, mask: str, grouped: bool, state: _Taps, order: Offset, reads: _Taps
    ) -> str:
        x, out = site.x.info.features, site.output(site.number(self.key, 1), grouped)
        arguments = [x.layout, out.layout] if grouped else [x.text, out.text]
        if state.offsets != [(-1,)]:
            arguments.append(f"state={state.text}")
        if order != (1,):
            arguments.append(f"order={order}")
        if any(map(any, reads.offsets)) or len(reads.offsets) != 1:
            arguments.append(f"reads={reads.text}")
        subpixel = ("StrictSubpixel" if mask == "A" else "Subpixel") if grouped else ""
        return f"{subpixel}{self.piece}({', '.join(arguments)}{settings(self)})"


class _Taps:
    """The offsets of a window, each once, and their text: all those of a box by its spans."""

    def __init__(self, offsets: list[Offset], boxes: Iterable[Taps] = ()) -> None:
        self.offsets, self.boxes = offsets, list(boxes)

    @staticmethod
    def of(axes: Sequence[str], boxes: Iterable[Taps]) -> _Taps:
        found: dict[Offset, None] = {}
        for box in boxes:
            spans = [box.get(axis, (0, 0, 1)) for axis in axes]
            found.update(dict.fromkeys(product(*(range(a, b + 1, s) for a, b, s in spans))))
        return _Taps(list(found), boxes)

    def masked(self, site: Site, mask: str, grouped: bool) -> _Taps:
        """Those drawn before the present (mask A) or up to it (mask B)."""
        if mask == "none":
            return self
        zero, kept = (0,) * len(site.frame.order), []
        for offset in self.offsets:
            by_axis = dict(zip(site.axes, offset, strict=True))
            own = tuple(by_axis.get(axis, 0) for axis in site.frame.axes)
            if site.frame.key(own) < zero or (not any(own) and (mask == "B" or grouped)):
                kept.append(offset)
        if not kept:
            site.fail("AR304", "reads", mask=mask)
        return _Taps(kept)

    def reach(self, site: Site) -> tuple[Stencil, ...]:
        """As the drawn variable sees it: along an axis of another one there is no cycle."""
        if set(site.axes) <= set(site.frame.axes):
            return (site.frame.stencil(self.boxes, ALL),)
        taps = [dict(zip(site.axes, ((d, d, 1) for d in o), strict=True)) for o in self.offsets]
        own = [
            tap
            for tap, offset in zip(site.known_axes(taps), self.offsets, strict=True)
            if any(span[0] for span in tap.values()) or not any(offset)
        ]
        return (site.frame.stencil(own, ALL),) if own else ()

    @property
    def text(self) -> str:
        spans = [(min(along), max(along)) for along in zip(*self.offsets, strict=True)]
        several = len(self.offsets) > 1
        if several and prod(b - a + 1 for a, b in spans) == len(self.offsets):
            return f"box({', '.join(map(str, spans))})"
        return str(self.offsets)


def _order(state: Sequence[Offset]) -> Offset | None:
    """The simplest v with v . d < 0 for every offset d: states come from earlier v . p."""
    axes = len(state[0])
    for most in range(1, FARTHEST + 1):
        found = [
            v
            for v in product(range(-most, most + 1), repeat=axes)
            if all(sum(a * b for a, b in zip(v, d, strict=True)) < 0 for d in state)
        ]
        if found:
            return min(found, key=lambda v: (sum(map(abs, v)), [-n for n in v]))
    return None


def _offsets(window: Window) -> Window:
    """In `state` a number is an offset, never a size: ``{col: 1}`` is the position to the right."""
    return Window(
        tuple(
            {axis: e if isinstance(e, tuple) else (e, e) for axis, e in box.items()}
            for box in window.boxes
        )
    )


class Lstm(_Recurrence):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) along any offsets."""

    key: ClassVar[str] = "lstm"
    piece: ClassVar[str] = "Lstm"
    gates: ClassVar[int] = 4
    lstm: Number


class Gru(_Recurrence):
    """Gated recurrent unit (Cho et al. 2014) along any offsets."""

    key: ClassVar[str] = "gru"
    piece: ClassVar[str] = "Gru"
    gates: ClassVar[int] = 3
    gru: Number
