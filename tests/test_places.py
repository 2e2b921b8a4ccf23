"""Nodes that stand apart in a step: what one line reads ahead of time, or late, others do not.

The specs are small, and each was once drawn wrong, or by one forward a position.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from stepwise import EXACT, Case, calm, check_recorded, difference, make_case, one_thread
from test_operations import MOST
from test_operations import check as check_operations
from test_sampler import check_branches, check_observed

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

FILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("specs_places/*.yaml"))}
SHAPES = [
    {"time": 9, "frame": 3, "row": 4, "col": 5},
    {"time": 13, "frame": 2, "row": 5, "col": 1},
    {"time": 6, "frame": 3, "row": 1, "col": 2},
]

each = pytest.mark.parametrize("name", FILES)


@cache
def case(name: str, number: int = 0) -> Case:
    return make_case(FILES[name], number, lengths=SHAPES[number])


@each
@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_steps_behind_any_slabs(name: str, number: int) -> None:
    this = case(name, number)
    assert this.derived
    for slabs in range(this.length):
        assert difference(this, slabs) < EXACT, slabs
        if this.arriving:
            assert difference(this, slabs, told=True) < EXACT, slabs


@each
def test_what_is_observed_is_kept_and_seen(name: str) -> None:
    check_observed(calm(make_case(FILES[name], lengths=SHAPES[0])))


@each
def test_clones(name: str) -> None:
    check_branches(case(name))


@each
def test_nothing_is_done_twice(name: str) -> None:
    this = make_case(FILES[name], lengths={"time": 60, "frame": 6, "row": 8, "col": 8})
    # What looks ahead begins before the first slab.
    check_operations(this, MOST + (0 if "lead=0)" in this.text else 2 / this.length))


@each
def test_what_is_kept_moves_on_once(name: str) -> None:
    """A line that reads a late value twice does not call the layer that keeps it twice."""
    calls = re.findall(r"= self\.(\w+_late\d*)\(", case(name).text)
    layers = re.findall(r"self\.(\w+_late\d*) = ", case(name).text)
    assert sorted(calls) == sorted(layers)


@each
def test_steps_are_recorded(name: str) -> None:
    check_recorded(make_case(FILES[name], lengths={"time": 30, "frame": 8, "row": 12, "col": 9}))
