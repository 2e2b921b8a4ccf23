"""Grids shorter than a sampler looks ahead: it draws them right, or says that it cannot."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from stepwise import EXACT, Case, difference, of_text, one_thread

from arspec.builder import load

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

COLUMNS = """name: drawn
variables:
  y: {{classes: 2, axes: [row, col]}}
generate: y
network:
  a: {{conv: {{row: 0, col: 0..{ahead}}}, to: 4, of: y}}
  b: {{linear: 4, of: a}}
  c: {{conv: {{row: 0, col: -1..0}}, of: b(col - {late})}}
  out: b(row - 1) + c
head: categorical
"""
ROWS = """name: drawn
variables:
  y: {classes: 2, axes: [frame, row, col]}
generate: y
network:
  a: {conv: {frame: -1, row: -1..1}, to: 4, of: y}
  b: {conv: {frame: 0..1}, of: a}
  c: {linear: 4, of: b(row - 2)}
  out: c * a
head: categorical
"""
TICKS = """name: drawn
variables:
  y: {levels: 4, axes: [row, col]}
generate: y
network:
  a: {conv: 3, of: y, to: 4}
  p: {conv: {row: 0, col: 0..1}, stride: {col: 2}}
  w: {conv: {row: 0, col: 0..1}}
  d: {deconv: {row: 2, col: 2}, stride: {col: 2}, of: w(col - 2)}
  out: d * a
head: categorical
"""
TURNED = COLUMNS.replace("generate: y", "generate: y\norder: [row, col]").replace(
    "axes: [row, col]", "axes: [col, row]"
)
# By spec the axis that may be too short, and the least length that is right.
SPECS = {
    "two ahead": (COLUMNS.format(ahead=1, late=2), "col", 2),
    "three ahead": (COLUMNS.format(ahead=2, late=3), "col", 3),
    "turned": (TURNED.format(ahead=2, late=3), "col", 3),
    "rows": (ROWS, "row", 2),
    "ticks": (TICKS, "col", 1),
}


def cases(text: str, axis: str) -> list[tuple[int, Case]]:
    """By the length of the axis."""
    sizes = itertools.product((1, 2, 3, 4, 5), (1, 3))
    return [
        (n, of_text(text, lengths={"frame": 3, "row": 4, "col": other} | {axis: n}))
        for n, other in sizes
    ]


@pytest.mark.parametrize("name", SPECS)
def test_it_is_right_or_says_so(name: str) -> None:
    text, axis, least = SPECS[name]
    for length, this in cases(text, axis):
        assert this.derived
        assert this.narrow == (length < least)
        if this.narrow:
            with pytest.raises(
                ValueError, match=rf"has {length} along `{axis}`.* at least {least}"
            ):
                this.start()
            with pytest.raises(ValueError, match="looks ahead"):
                this.model.sample(2, shape=this.shape)  # type: ignore[operator]
        else:
            assert max(difference(this, slabs) for slabs in range(this.length)) < EXACT, this.shape


@pytest.mark.parametrize("name", [name for name in SPECS if name != "ticks"])
def test_it_does_not_say_so_in_vain(name: str) -> None:
    """One shorter, the same file without the check draws something else."""
    text, axis, least = SPECS[name]
    this = next(this for length, this in cases(text, axis) if length == least - 1)
    code = this.text.replace("] < least:", "] < 0:")
    assert code != this.text
    unchecked = replace(this, model=load(code, "drawn").double().eval())
    unchecked.model.load_state_dict(this.model.state_dict())
    assert difference(unchecked) > 1e-3
