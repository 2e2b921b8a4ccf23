"""Recurrences in any loop of a sampler: channels one after another, slabs, parts of a slab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from counting import both
from stepwise import EXACT, Case, Draws, difference, of_text, one_thread
from test_sampler import check_branches, masks

PAPERS = Path(__file__).parent / "specs_papers"
MOST = 1.05
LENGTHS = {"time": 9, "frame": 3, "row": 4, "col": 3}

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def started(axes: str, channels: int = 1) -> str:
    """The head of a spec; channels are drawn one after another."""
    several = f", channels: {channels}" if channels > 1 else ""
    order = f"order: [{axes}, channel]\n" if several else ""
    return (
        f"name: drawn\nvariables:\n  y: {{levels: 4, axes: [{axes}]{several}}}\ngenerate: y\n"
        f"{order}network:\n  stem: {{conv: 3, to: 7}}\n"
    )


TIME, GRID, VOLUME = "time", "row, col", "frame, row, col"
END = "  out: {linear: 9, of: stem, given: r}\nhead: categorical\n"
ORDERED = {
    "of what is drawn": (GRID, "  r: {OP: 7, reads: 3, of: y, state: {row: -1, col: -1..1}}\n"),
    "mask A": (
        GRID,
        "  r: {OP: 7, reads: 3, mask: A, of: stem, state: [{row: -1}, {col: -1}]}\n",
    ),
    "features in several runs": (
        GRID,
        "  n: concat_elu(stem)\n  r: {OP: 5, reads: {row: 1, col: 3}, of: n}\n",
    ),
    "given channels": (GRID, "  m: {linear: 4}\n  r: {OP: 5, of: stem, given: m}\n"),
    "given a row": (
        GRID,
        "  m: {conv: {row: -1, col: -1..1}, to: 4, of: y}\n  r: {OP: 5, of: stem, given: m}\n",
    ),
    "fewer features than channels": (GRID, "  r: {OP: 2, of: stem, state: {row: -1}}\n"),
    "whole pixels": (GRID, "  r: {OP: 5, reads: {row: 0, col: -2..-1}, of: stem}\n"),
    "whole rows": (
        GRID,
        "  n: concat_elu(stem)\n"
        "  r: {OP: 5, reads: {row: -1, col: -1..1}, state: {row: -1, col: -1..1}, of: n}\n",
    ),
    "backwards": (GRID, "  q: {OP: 5, state: {col: 1}, reads: 3, of: stem}\n  r: q(row - 1)\n"),
    "backwards, then ops": (
        GRID,
        "  q: {OP: 5, state: {col: 1}, of: stem}\n  p: {linear: 4}\n  o: {conv: 3}\n"
        "  r: o(row - 1)\n",
    ),
    "backwards, then a window": (
        GRID,
        "  q: {OP: 5, state: {col: 1}, of: stem}\n  r: {conv: {row: -1, col: 0}, to: 5}\n",
    ),
    "backwards twice": (
        GRID,
        "  q: {OP: 5, state: {col: 1}, of: stem}\n"
        "  p: {OP: 4, state: [{row: -1}, {col: 1}], given: stem}\n  r: p(row - 1)\n",
    ),
    "backwards, with what is not": (
        GRID,
        "  q: {OP: 7, state: {col: 1}, of: stem}\n  p: tanh(q) + stem\n  r: p(row - 1)\n",
    ),
    "along time": (TIME, "  r: {OP: 5, of: stem, reads: 3, state: -2}\n"),
    "along time, late": (TIME, "  q: {OP: 5, of: stem}\n  r: q(time - 1)\n"),
    "along time, whole positions": (TIME, "  r: {OP: 5, reads: {time: -3..-1}, of: stem}\n"),
    "in a volume": (VOLUME, "  r: {OP: 5, of: stem, state: {frame: -1, row: -1..1}}\n"),
    "whole frames": (
        VOLUME,
        "  q: {OP: 5, of: stem, reads: {row: -1..1}, state: {frame: -1, col: -1..1}}\n"
        "  r: q(frame - 1)\n",
    ),
    "backwards in a frame": (
        VOLUME,
        "  q: {OP: 5, of: stem, state: [{row: -1}, {col: 1}]}\n  r: q(row - 1)\n",
    ),
}
PLAIN = {
    "right to left, in an equation": (
        GRID,
        "  q: {OP: 7, state: [{row: -1}, {col: 1}], of: stem}\n  r: stem + q(row - 1)\n",
    ),
    "pixels over rows": (
        GRID,
        "  v: {conv: {row: -1, col: -1..1}, to: 5, of: y}\n  w: {norm: layer, of: v}\n"
        "  r: {OP: 5, of: w, given: stem}\n",
    ),
    "rows over pixels": (
        GRID,
        "  r: {OP: 5, of: stem, reads: {row: -1, col: 0..1}, state: {row: -1}}\n",
    ),
    "positions over frames": (
        VOLUME,
        "  v: {conv: {frame: -1, row: -1..1, col: -1..1}, to: 5, of: y}\n"
        "  r: {OP: 5, of: v, given: stem, state: [{row: -1}, {col: -1}]}\n",
    ),
    "frames over positions": (
        VOLUME,
        "  q: {OP: 5, of: stem, state: [{row: 1}, {col: 1}]}\n  r: q(frame - 1)\n",
    ),
    "rows of a frame": (
        VOLUME,
        "  q: {OP: 5, of: stem, reads: {row: -1..0}, state: [{row: -1}, {col: 1}]}\n"
        "  r: q(row - 1)\n",
    ),
}
BODIES = {**ORDERED, **PLAIN}


def body(name: str, op: str) -> Case:
    axes, lines = BODIES[name]
    text = started(axes, 3 if name in ORDERED else 1) + lines + END
    return of_text(text.replace("OP", op), lengths=LENGTHS)


def paper(name: str, **params: int) -> Case:
    """A published model with two layers."""
    text = (PAPERS / f"{name}.yaml").read_text()
    text = text.replace("repeat: 12", "repeat: 2").replace("1024", "10").replace("256", "5")
    for param, value in params.items():
        text = re.sub(rf"\b{param}: \d+", f"{param}: {value}", text)
    return of_text(text, lengths=LENGTHS)


def check(this: Case) -> None:
    """Derived, exact behind any prompt, at the cost of one forward."""
    assert this.derived
    assert max(difference(this, slabs) for slabs in range(this.length)) < EXACT
    drawn, forward = both(this)
    assert drawn.weights <= MOST * forward.weights


def check_known(this: Case) -> None:
    """Exact also where it starts within a slab, or within the channels of a position."""
    found = dict(masks(this))
    for observed in (found["at random"], found["a prefix within a row"]):
        draws = Draws(this)
        x = draws(prompt=this.x, observed=observed)
        assert torch.equal(x[observed], this.x[observed])
        draws.check(x)


@pytest.mark.parametrize("op", ["lstm", "gru"])
@pytest.mark.parametrize("name", BODIES)
def test_steps_equal_the_forward(name: str, op: str) -> None:
    check(body(name, op))


@pytest.mark.parametrize("name", BODIES)
def test_starts_anywhere(name: str) -> None:
    check_known(body(name, "lstm"))


@pytest.mark.parametrize("h", [3, 4, 2])
@pytest.mark.parametrize("name", ["row_lstm", "pixelrnn_diagonal_bilstm"])
def test_pixel_rnn(name: str, h: int) -> None:
    """Also where the features of a channel are more than those of the next."""
    this = paper(name, h=h)
    check(this)
    check_known(this)
    check_branches(this)


@pytest.mark.parametrize("name", ["row_lstm", "pixelrnn_diagonal_bilstm"])
def test_rows_of_a_batch_are_independent(name: str) -> None:
    this = paper(name, h=4)
    together = dict(this.stepped())
    for k in range(len(this.x)):
        for place, params in this.row(k).stepped():
            assert (params[0] - together[place][k]).abs().max() < EXACT


PAIR = """name: drawn
variables:
  y: {levels: 4, axes: [row, col]}
generate: y
blocks:
  pair(x, above, here):
    v: tanh(above)
    q: {lstm: 5, state: {col: 1}, of: x}
    n: tanh(q)
    out: v + n(row - 1) + here
network:
  stem: {conv: 3, to: 5}
  e: {conv: {row: -1..0, col: -1..0}, of: y, to: 5}
  w: {conv: {row: -1, col: -1..1}, to: 5, of: y}
  r: {use: pair, of: [e, w, stem]}
  out: e(col - 1) + r
head: categorical
"""


def test_what_a_row_reads_is_there_before_it_is_evaluated() -> None:
    """Lines of rows that stand before it are another part of the step."""
    check(of_text(PAIR, lengths=LENGTHS))


# ------------------------------------------------------ channels whose layout a layer cannot know

LAYOUTS = {
    "a shift of several runs": (GRID, "  n: concat_elu(y)\n  r: n(row - 1)\n"),
    "a window of several runs": (
        GRID,
        "  n: concat_elu(y)\n  r: {conv: {row: -1, col: -1..1}, to: 7}\n",
    ),
    "a shift of unequal channels": (GRID, "  r: stem(row - 1)(col + 1)\n"),
    "or": (GRID, "  r: stem(row - 2) or stem\n"),
    "a product that is read late": (GRID, "  n: {linear: 6, of: y, mask: B}\n  r: n(row - 1)\n"),
    "a window that is read late": (
        GRID,
        "  n: {conv: 3, to: 6, of: y, mask: B}\n  r: {conv: {row: -1, col: -1..1}, to: 7}\n",
    ),
    "what stands at different places": (
        GRID,
        "  n: {conv: 3, mask: B, of: y, to: 7}\n  q: n + stem\n  r: q(row - 1)\n",
    ),
    "along time": (
        TIME,
        "  n: concat_elu(stem)\n  q: n(time - 1) * n\n  r: {linear: 5, of: q + q(time - 1)}\n",
    ),
}


@pytest.mark.parametrize(("axes", "lines"), LAYOUTS.values(), ids=LAYOUTS)
def test_channels_are_kept_where_they_are(axes: str, lines: str) -> None:
    this = of_text(started(axes, 3) + lines + END, lengths=LENGTHS)
    check(this)
    check_known(this)
