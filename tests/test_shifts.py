"""Shifts at the ends of the grid: those of an expression are one, and beyond the end are zeros."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from stepwise import EXACT, difference, make_case, one_thread

from arspec import compiler, verify_reach
from arspec.verifier import check_prefix, check_receptive_field, make_trial
from arspec.verify_reach import lookahead

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

AXES = {"time": "[time]", "row": "[row, col]"}


def analysed(first: str, *lines: str, order: str = "") -> compiler.Analysis:
    """A spec on the axes that begin with `first`."""
    network = "".join(f"  {line}\n" for line in lines)
    order = order and f"order: {order}\n"
    return compiler.analyse(
        "-",
        {},
        io.StringIO(
            f"name: shifts\nvariables:\n  y: {{features: 2, axes: {AXES[first]}}}\n"
            f"generate: y\n{order}network:\n{network}head: gaussian\n"
        ),
    )


ONE = {
    "there and back": ("time", "n(time - 2)(time + 1)", "Shift(1)"),
    "back and there": ("time", "n(time + 1)(time - 2)", "Shift(1)"),
    "one way": ("time", "n(time - 2)(time - 1)", "Shift(3)"),
    "three": ("time", "n(time - 3)(time + 4)(time - 2)", "Shift(1)"),
    "on a grid": ("row", "n(row - 2)(col + 1)(row + 1)(col - 2)", "GridShift(1, 1)"),
    "along one of two": ("row", "n(col - 2)(row - 1)(col + 2)", "GridShift(1, 0)"),
}


@pytest.mark.parametrize(("first", "shift", "piece"), ONE.values(), ids=ONE)
def test_a_shift_of_a_shift_is_one_by_their_sum(first: str, shift: str, piece: str) -> None:
    """As the proof has it: nothing is lost at an end that a later shift comes back from."""
    found = analysed(first, "n: {linear: 4}", f"out: {shift}")
    built = re.findall(r"self\.out_shift\w* = (\w*Shift\(.*\))", compiler.emit(found))
    assert built == [piece]
    trial = make_trial(found)
    for check in (check_prefix(trial), check_receptive_field(trial)):
        assert check is not None
        assert check.passed, check.detail
        assert "ahead" not in check.detail
    this = make_case(found, lengths={"time": 5, "row": 3, "col": 4})
    assert this.derived
    for slabs in range(this.length):
        assert difference(this, slabs) < EXACT


def test_shifts_that_cancel_are_none() -> None:
    found = analysed("time", "n: {linear: 4, of: y(time - 1)}", "out: tanh(n(time - 2)(time + 2))")
    assert "torch.tanh(n)" in compiler.emit(found)


def test_a_recursion_through_a_shift_of_a_shift() -> None:
    lines = ["n: {linear: 4, of: y(time - 1)}", "h: tanh(n + 0.5 * h(time - 3)(time + 2))"]
    found = analysed("time", *lines)
    this = make_case(found, lengths={"time": 5})
    assert all(difference(this, slabs) < EXACT for slabs in range(5))


AHEAD = {
    "a window of what is known early": (
        ["a: {conv: {time: -4..-3}, to: 4}", "b: {conv: {time: 0..2}, of: a}", "out: relu(b)"],
        (2, "b"),
    ),
    "two of them": (
        ["a: {conv: {time: -6..-5}, to: 4}", "b: {conv: {time: 0..2}}", "out: b(time + 1)"],
        (3, "b"),
    ),
    "a shift on a line of its own": (
        ["n: {linear: 4}", "a: n(time - 2)", "out: a(time + 1)"],
        (1, "out"),
    ),
    "a shift that makes up for it": (
        ["a: {conv: 2, to: 4}", "b: {conv: {time: -1..2}}", "out: b(time - 2)"],
        (0, "head"),
    ),
    "what nothing reads that is drawn": (
        ["a: {conv: 2, to: 4}", "b: {conv: 1, of: a(time - 5)}", "out: b"],
        (0, "head"),
    ),
}


@pytest.mark.parametrize(("lines", "expected"), AHEAD.values(), ids=AHEAD)
def test_how_far_ahead_of_an_output_its_values_stand(
    lines: list[str], expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many outputs before the end of the input depend on where it ends, and no more."""
    found = analysed("time", *lines)
    ahead, node = lookahead(found.model.terms[-1].graph)
    assert (ahead, node.rpartition(".")[2] or node) == expected
    trial = make_trial(found)
    check = check_prefix(trial)
    assert check is not None
    assert check.passed, check.detail
    assert (f"`{node}` reads ahead" in check.detail) == (ahead > 0)
    if ahead:  # one more of them differs
        fewer: Any = lambda graph: (ahead - 1, node)  # noqa: E731
        monkeypatch.setattr(verify_reach, "lookahead", fewer)
        check = check_prefix(trial)
        assert check is not None
        assert not check.passed


def test_where_all_depend_on_the_length() -> None:
    """Down a diagonal the rows below are known: there is no end to what is read ahead."""
    stem = "stem: {conv: {row: -1..1, col: -2}, to: 4}"
    rest = "out: {gru: 4, state: {row: 1, col: -2}}"
    found = analysed("row", stem, rest, order="[row + col, row]")
    check = check_prefix(make_trial(found))
    assert check is not None
    assert check.passed
    assert "every output depends on the length" in check.detail
