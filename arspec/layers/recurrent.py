"""Recurrences: a node that reads its own earlier states."""

from __future__ import annotations

from typing import Any, ClassVar

from arspec.graph import ALL, UPTO
from arspec.layers.base import Facts, Number, Weighted, WindowSpec
from arspec.layers.site import Site
from arspec.values import DERIVED, KNOWN, Num, Window


class _Recurrence(Weighted):
    """`state`: where the own state comes from (default: the previous position of the last axis);
    `reads`: the window of the input."""

    gates: ClassVar[int]
    state: WindowSpec | None = None
    reads: WindowSpec | None = None

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        if not x.grid:
            site.fail("AR308", self.key, axis="a recurrence", axes="no axis")
        width = site.number(self.key, 1)
        literal = self.reads is not None and site.resolve_window(self.reads, "reads").literal
        grouped = site.grouped and not literal
        out = site.output(width, grouped)
        ones = dict.fromkeys(site.axes, Num(1, "1"))
        cells = 1
        if self.reads is None:
            reach = site.frame.point(UPTO if grouped else ALL)
        else:
            window = site.resolve_window(self.reads, "reads")
            mask = "none" if window.literal else site.mask()
            boxes = site.boxes(window, "reads", mask, ones)
            cells = sum(_volume(box) for box in boxes)
            own = site.known_axes(boxes)
            reach = (
                site.frame.stencil(own, ALL)
                if mask == "none"
                else site.frame.masked(own, mask == "A")
            )
        states = [{site.axes[-1]: (-1, -1, 1)}]
        if self.state is not None:
            window = _offsets(site.resolve_window(self.state, "state"))
            states = site.boxes(window, "state", "none", ones)
        inputs = x.features.width * cells
        recurrent = width.value * sum(_volume(box) for box in states)
        return Facts(
            grid=x.grid,
            features=out,
            reads=((site.x, reach),),
            due=DERIVED if x.due >= DERIVED else x.due or KNOWN,
            parameters=int(self.gates * width.value * (inputs + recurrent + bool(self.bias))),
            missing=f"`{self.key}`",
            state=(site.frame.stencil(site.known_axes(states), ALL),),
        )


def _offsets(window: Window) -> Window:
    """In `state` a number is an offset, never a size: ``{col: 1}`` is the position to the right."""
    return Window(
        tuple(
            {axis: e if isinstance(e, tuple) else (e, e) for axis, e in box.items()}
            for box in window.boxes
        )
    )


def _volume(box: Any) -> int:
    cells = 1
    for first, last, step in box.values():
        cells *= (last - first) // step + 1
    return cells


class Lstm(_Recurrence):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) along any offsets."""

    key: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    lstm: Number


class Gru(_Recurrence):
    """Gated recurrent unit (Cho et al. 2014) along any offsets."""

    key: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3
    gru: Number
