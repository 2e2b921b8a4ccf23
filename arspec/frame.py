"""The order of one generated variable, and the reaches that it gives to windows by axis name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from arspec.graph import ALL, BEFORE, PRESENT, SAME, UPTO, Box, Stencil, Sweep
from arspec.values import Grid

MAX_TAPS = 10_000  # of a window that is looked at tap by tap

Taps = Mapping[str, tuple[int, int, int]]
"""A box of taps by axis name: first, last, step. Axes left out read offset 0."""


@dataclass(frozen=True)
class Frame:
    """Axes, order and number of channel groups of the variable being drawn.

    Where it is drawn along one axis after another, `axes` has the outermost first, and `written`
    the same as they stand in the user's tensors.

    `order` holds the rows of the integer matrix M: key(p) = M p, compared lexicographically.
    """

    axes: tuple[str, ...]
    order: tuple[tuple[int, ...], ...]
    channels: int = 1
    written: tuple[str, ...] = ()

    def key(self, offset: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sum(m * o for m, o in zip(row, offset, strict=True)) for row in self.order)

    @property
    def dims(self) -> tuple[int, ...]:
        """Where the axes, as they are drawn, stand in the user's tensors."""
        return tuple((self.written or self.axes).index(axis) for axis in self.axes)

    def turned(self, grid: Grid) -> Grid:
        """A variable's axes as the model has them: in the order of drawing, others behind."""
        if self.written in ((), self.axes):
            return grid
        place = {axis: k for k, axis in enumerate(self.axes)}
        return tuple(sorted(grid, key=lambda part: place.get(part[0], len(place))))

    def point(self, groups: str = SAME) -> Stencil:
        """The op's own position only."""
        return _point(len(self.axes), groups)

    def stencil(
        self,
        boxes: Iterable[Taps],
        groups: str = ALL,
        down: Mapping[str, int] | None = None,
        up: Mapping[str, int] | None = None,
        transposed: bool = False,
    ) -> Stencil:
        """A literal window."""
        return _stencil(
            tuple(self._box(taps, groups) for taps in boxes),
            self._rates(down),
            self._rates(up),
            transposed,
        )

    def masked(
        self, boxes: Iterable[Taps], strict: bool, down: Mapping[str, int] | None = None
    ) -> Stencil:
        """The part of a window that is drawn before (mask A) or up to (mask B) the present.

        Where channels are drawn in order the present position is cut by channel group instead
        (van den Oord et al. 2016, arXiv:1601.06759, section 3.4).
        """
        kept: list[Box] = []
        for taps in boxes:
            kept += self._cut(self._box(taps, ALL), strict)
        return _stencil(tuple(kept), self._rates(down), self._rates(None), False)

    def prefix(
        self,
        until: str = PRESENT,
        window: int | None = None,
        every: int | None = None,
        along: Iterable[str] | None = None,
        groups: str = ALL,
    ) -> Sweep:
        swept = tuple(along is None or axis in set(along) for axis in self.axes)
        return _sweep(swept, until, window, every, groups)

    def first_cut(self, taps: Taps, strict: bool) -> tuple[int, ...] | None:
        """The earliest offset of a window that mask A (`strict`) or B hides, if there is one."""
        box = self._box(taps, ALL)
        ranges = [range(a, b + 1, s) for a, b, s in zip(box.lo, box.hi, box.step, strict=True)]
        if prod(map(len, ranges)) > MAX_TAPS:
            return None
        zero = (0,) * len(self.order)
        hidden = [
            (self.key(offset), offset)
            for offset in product(*ranges)
            if self.key(offset) > zero or (strict and self.channels == 1 and not any(offset))
        ]
        return min(hidden)[1] if hidden else None

    def _rates(self, rates: Mapping[str, int] | None) -> tuple[int, ...]:
        return tuple((rates or {}).get(axis, 1) for axis in self.axes)

    def _box(self, taps: Taps, groups: str) -> Box:
        spans = [taps.get(axis, (0, 0, 1)) for axis in self.axes]
        lo, hi, step = (tuple(span[k] for span in spans) for k in range(3))
        return Box(lo, hi, step, groups)

    def _cut(self, box: Box, strict: bool) -> list[Box]:
        present = BEFORE if strict and self.channels > 1 else UPTO
        if not is_raster(self.order):
            return self._cut_by_tap(box, strict, present)
        kept = []
        lo, hi = list(box.lo), list(box.hi)
        for axis in range(len(lo)):
            last = _last_before(0, lo[axis], hi[axis], box.step[axis])
            if last is not None:
                kept.append(
                    Box(tuple(lo), (*hi[:axis], last, *hi[axis + 1 :]), box.step, box.groups)
                )
            if not _has(0, lo[axis], hi[axis], box.step[axis]):
                return kept
            lo[axis] = hi[axis] = 0
        if not strict or self.channels > 1:
            kept.append(Box(tuple(lo), tuple(hi), box.step, present))
        return kept

    def _cut_by_tap(self, box: Box, strict: bool, present: str) -> list[Box]:
        ones = (1,) * len(box.lo)
        ranges = [range(a, b + 1, s) for a, b, s in zip(box.lo, box.hi, box.step, strict=True)]
        zero = (0,) * len(self.order)
        kept = []
        for offset in product(*ranges):
            key = self.key(offset)
            if key < zero:
                kept.append(Box(offset, offset, ones, box.groups))
            elif key == zero and not any(offset) and (not strict or self.channels > 1):
                kept.append(Box(offset, offset, ones, present))
        return kept


def _last_before(limit: int, lo: int, hi: int, step: int) -> int | None:
    """The last of lo, lo + step, ..., hi that lies before `limit`."""
    last = min(hi, lo + (limit - 1 - lo) // step * step)
    return last if last >= lo and lo < limit else None


def _has(value: int, lo: int, hi: int, step: int) -> bool:
    return lo <= value <= hi and (value - lo) % step == 0


def is_raster(order: tuple[tuple[int, ...], ...]) -> bool:
    """Whether the order is that of the axes as written."""
    return all(m == int(i == j) for i, row in enumerate(order) for j, m in enumerate(row))


# Reaches are shared: equal ones are one object, so that the proof handles each only once.


@lru_cache(maxsize=4096)
def _point(axes: int, groups: str) -> Stencil:
    zero, one = (0,) * axes, (1,) * axes
    return _stencil((Box(zero, zero, one, groups),), one, one, False)


@lru_cache(maxsize=4096)
def _stencil(
    boxes: tuple[Box, ...], down: tuple[int, ...], up: tuple[int, ...], transposed: bool
) -> Stencil:
    return Stencil(boxes, down, up, transposed)


@lru_cache(maxsize=4096)
def _sweep(
    along: tuple[bool, ...], until: str, window: int | None, every: int | None, groups: str
) -> Sweep:
    return Sweep(along, until, window, every, groups)
