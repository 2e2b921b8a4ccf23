"""Sweeps position by position, in the order of generation."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from arspec.graph import PAST, PRESENT, Sweep


@dataclass(frozen=True)
class Fibre:
    """Positions in the order of generation: their keys, and the numbers of their bits."""

    keys: list[int]
    flats: list[int]

    def read(self, readers: int, sweep: Sweep) -> tuple[int, int]:
        """What a sweep reads for these readers: of their own positions, and of others."""
        text = f"{readers:0{max(self.flats) + 1}b}"[::-1]
        ranks = int("".join([text[flat] for flat in reversed(self.flats)]), 2)
        if sweep.window is None and sweep.every is None:
            others = self._prefix(ranks, sweep.until)
        else:
            others = _counted(ranks, sweep)
        return readers if sweep.until == PRESENT else 0, self._positions(others)

    def _prefix(self, ranks: int, until: str) -> int:
        """All that comes before the last of the readers, and with it if it is PRESENT."""
        latest = self.keys[ranks.bit_length() - 1]
        before = bisect_left(self.keys, latest)
        if until == PAST:
            return (1 << before) - 1
        together = (1 << bisect_right(self.keys, latest)) - 1
        last = ranks >> before << before  # a reader alone in its step is no other's
        return together ^ last if last.bit_count() == 1 else together

    def _positions(self, ranks: int) -> int:
        width = max(self.flats) + 1
        text = ["0"] * width
        for flat, digit in zip(self.flats, f"{ranks:0{len(self.flats)}b}"[::-1], strict=True):
            text[width - 1 - flat] = digit
        return int("".join(text), 2)


def _counted(ranks: int, sweep: Sweep) -> int:
    """The latest `window` before each reader, and each `every`-th counted back from it."""
    nearest = ranks >> 1
    count = (sweep.window or 0) - (sweep.until == PRESENT)
    out = _back(nearest, count, 1) if count > 0 else 0
    if sweep.every is not None:
        out |= _back(ranks >> sweep.every, ranks.bit_length() // sweep.every, sweep.every)
    return out


def _back(ranks: int, count: int, step: int) -> int:
    """The union of the shifts by 0, step, 2 step, ... towards the first, `count` of them."""
    done = 1
    while done < count:
        more = min(done, count - done)
        ranks |= ranks >> more * step
        done += more
    return ranks
