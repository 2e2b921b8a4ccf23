"""Conditions that arrive with the steps: exact, in constant memory; what is missing is said."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from counting import counted
from stepwise import (
    EXACT,
    Case,
    Draws,
    Place,
    calm,
    difference,
    of_text,
    one_thread,
    without_schedule,
)
from torch import Tensor

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SPEC = """
name: arrives
variables:
  y: {target}
  c: {condition}
generate: y
network:
  {network}
head: {head}
"""


def spec(
    condition: str,
    *network: str,
    target: str = "{classes: 4, axes: [time]}",
    head: str = "categorical",
) -> str:
    return SPEC.format(target=target, condition=condition, network="\n  ".join(network), head=head)


IMAGE = "{levels: 4, axes: [row, col]}"
RGB = "{levels: 4, axes: [row, col], channels: 2}\norder: [row, col, channel]"
VIDEO = "{levels: 4, axes: [frame, row, col]}"
CONVS = (
    "seen: {conv: 3, to: 4, of: c}",
    "wide: [relu, {conv: 2, dilation: 3}]",
    "stem: {conv: 3, to: 4, of: y, given: [seen, wide]}",
    "out:  [relu, {conv: 2}, relu]",
)
REAL = "{features: 1, axes: [time]}"
SPECS = {
    "convolutions, present": spec("{features: 3, axes: [time], known: present}", *CONVS),
    "convolutions, past": spec("{features: 3, axes: [time], known: past}", *CONVS),
    "convolutions, +1": spec("{classes: 3, axes: [time], known: +1}", *CONVS),
    "convolutions, +3": spec(
        "{features: 3, axes: [time], known: +3}",
        "far: {conv: {time: 0..3}, to: 4, of: c}",
        "near: {linear: 4, of: c}",
        "stem: {conv: 3, to: 4, of: y, given: [near, far]}",
        "out: [relu, {conv: 2}, relu]",
    ),
    "channels": spec(
        "{levels: 5, channels: 2, axes: [time], known: present}",
        "out: [{conv: 2, to: 4, of: y, given: c}, relu]",
    ),
    "a block": spec(
        "{features: 2, axes: [time], known: +2}",
        "stem: {conv: 2, to: 4, of: y}",
        "layers: {use: layer, repeat: {dilation: [1, 2, 4]}}",
        "out: relu(layers)",
    ).replace(
        "network:",
        "blocks:\n  layer(x, dilation):\n"
        "    a, b: {conv: 2, dilation: dilation, given: c}\n    out: x + tanh(a) * sigmoid(b)\n"
        "network:",
    ),
    "attention, present": spec(
        "{classes: 3, axes: [time], known: present}",
        "keys: {embed: 4, of: c}",
        "seen: {attention: 2}",
        "stem: {embed: 4, of: y(time - 1)}",
        "out: {attention: 2, of: seen + stem}",
    ),
    "attention, past": spec(
        "{features: 3, axes: [time], known: past}",
        "keys: {linear: 4, of: c(time - 1)}",
        "seen: {attention: 2, window: 3}",
        "out: {conv: 2, to: 4, of: y, given: seen}",
    ),
    "attention, +2": spec(
        "{features: 3, axes: [time], known: +2}",
        "keys: {conv: {time: 0..2}, to: 4, of: c}",
        "seen: {attention: 2}",
        "out: {conv: 2, to: 4, of: y, given: seen}",
    ),
    "recurrence, present": spec(
        "{features: 3, axes: [time], known: present}",
        "seen: {gru: 4, of: c}",
        "out: {lstm: 4, of: y(time - 1), given: seen}",
    ),
    "recurrence, past": spec(
        "{features: 3, axes: [time], known: past}",
        "seen: {lstm: 4, reads: 2, of: c}",
        "out: {gru: 4, of: y(time - 1), given: seen}",
    ),
    "recurrence, +1": spec(
        "{features: 3, axes: [time], known: +1}",
        "seen: {gru: 4, reads: {time: 0..1}, of: c}",
        "out: {gru: 4, of: y(time - 1), given: seen}",
    ),
    "a linear model": spec(
        "{features: 1, axes: [time], known: present}",
        "a: {weight: 1}",
        "b: {weight: 1}",
        "s: {weight: 1, within: 0.., init: 1}",
        "level: a * y(time - 1) + b * c + a * b * c(time - 2)",
        target=REAL,
        head="{gaussian: 1, mean: level, scale: s}",
    ),
    "a recursion": spec(
        "{features: 1, axes: [time], known: past}",
        "a: {weight: 1, within: 0..1, init: 0.5}",
        "s: {weight: 1, within: 0.., init: 1}",
        "v: tanh(a * v(time - 1) + y(time - 1) + c(time - 1))",
        target=REAL,
        head="{gaussian: 1, mean: v, scale: s}",
    ),
    "pixels, present": spec(
        "{features: 2, axes: [row, col], known: present}",
        "seen: {conv: 3, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu, {conv: 3}, relu]",
        target=IMAGE,
    ),
    "pixels, past": spec(
        "{classes: 3, axes: [row, col], known: past}",
        "seen: {conv: 3, to: 4, of: c}",
        "above: {conv: {row: -2..-1, col: -1..1}, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: [seen, above]}, relu]",
        target=IMAGE,
    ),
    "pixels, attention": spec(
        "{features: 2, axes: [row, col], known: present}",
        "stem: {conv: 3, to: 4, of: y, given: c}",
        "out: {attention: 2}",
        target=IMAGE,
    ),
    "rows ahead": spec(
        "{features: 2, axes: [row, col], known: +1}",
        "seen: {conv: {row: 0..1, col: -1..1}, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu]",
        target=IMAGE,
    ),
    "a value per row": spec(
        "{classes: 3, axes: [row], known: present}",
        "seen: {embed: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu]",
        target=IMAGE,
    ),
    "a value per row, added": spec(
        "{features: 4, axes: [row], known: present}",
        "stem: {conv: 3, to: 4, of: y}",
        "out: tanh(stem + c)",
        target=IMAGE,
    ),
    "ordered channels": spec(
        "{features: 2, axes: [row, col], known: present}",
        "seen: {conv: 3, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu, {linear: 4}]",
        target=RGB,
    ),
    "a volume": spec(
        "{features: 2, axes: [frame, row, col], known: present}",
        "seen: {conv: 3, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu]",
        target=VIDEO,
    ),
    "frames ahead": spec(
        "{features: 2, axes: [frame, row, col], known: +1}",
        "seen: {conv: {frame: 0..1, row: 3, col: 3}, mask: none, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu]",
        target=VIDEO,
    ),
    "a slower clock": spec(
        "{features: 2, axes: [time], known: +1}",
        "seen: {conv: 2, to: 4, of: c}",
        "slow: {conv: 2, stride: 2, to: 4, of: y}",
        "out: [{up: 2, of: slow}, {conv: 2, given: seen}, relu]",
    ),
    "a context of both": spec(
        "{classes: 3, axes: [time], known: present}",
        "stem: {conv: 2, to: 4, of: y, given: c}",
        "slow: {conv: 4, stride: 4, to: 4, of: y ++ c(time - 1)}",
        "far: [{gru: 4, of: slow}, {deconv: 4, stride: 4}]",
        "out: [{linear: 4, of: stem, given: far}, relu]",
    ),
    "a clock of what is known ahead": spec(
        "{features: 2, axes: [time], known: +2}",
        "slow: {conv: {time: -2..2}, stride: 2, to: 4, of: c}",
        "stem: {conv: 2, to: 4, of: y, given: slow}",
        "thirds: {conv: {time: -3..0}, stride: 3, of: stem}",
        "out: {linear: 4, of: stem, given: thirds}",
    ),
    "two clocks read late": spec(
        "{features: 2, axes: [time], known: present}",
        "slow: {conv: {time: -2..0}, stride: 2, to: 4, of: c}",
        "more: {conv: 3, stride: 3, to: 4, of: y}",
        "stem: {conv: {time: -3..-1}, to: 4, of: y}",
        "late: {conv: {time: -1..1}, of: stem, given: [slow, more]}",
        "out: tanh(late(time - 1))",
    ),
    "a clock of pixels": spec(
        "{features: 2, axes: [row, col], known: present}",
        "slow: {conv: {row: -2..0, col: -1..0}, stride: 2, to: 4, of: c}",
        "stem: {conv: {row: 0, col: -2..-1}, to: 4, of: y}",
        "out: {linear: 4, of: stem, given: slow}",
        target=IMAGE,
    ),
    "a clock of rows, late": spec(
        "{features: 2, axes: [row, col], known: present}",
        "slow: {conv: {row: -2..0, col: -1..0}, stride: 2, to: 4, of: c}",
        "late: [{up: 2, of: slow}, tanh]",
        "stem: {conv: {row: 0, col: -2..-1}, to: 4, of: y}",
        "out: {linear: 4, of: stem, given: late(row - 2)}",
        target=IMAGE,
    ),
    "a window of frames, +1": spec(
        "{features: 2, axes: [frame], known: +1}",
        "seen: [{conv: {frame: -1..1}, to: 4, of: c}, relu, {conv: {frame: -1..0}}]",
        "out: [{conv: 3, to: 4, of: y, given: seen}, relu]",
        target=VIDEO,
    ),
    "rows by recurrence and stride": spec(
        "{features: 2, axes: [row], known: present}",
        "seen: {gru: 4, state: {row: -1}, of: c}",
        "slow: {conv: {row: -1..0}, stride: {row: 2}, of: seen}",
        "above: {conv: {row: -2..-1, col: -1..1}, to: 4, of: y, given: [seen, slow]}",
        "out: [{conv: 3, to: 4, of: y, given: [above, slow(row - 1)]}, relu]",
        target=IMAGE,
    ),
    "rows given to a clock of columns": spec(
        "{features: 2, axes: [row], known: present}",
        "slow: {conv: {col: -2}, stride: {col: 3}, to: 4, of: y, given: c}",
        "states: {gru: 4}",
        "out: {conv: {col: 3}, to: 4, of: y, given: states}",
        target=IMAGE,
    ),
    "a shift of rows in an equation": spec(
        "{features: 2, axes: [row], known: +1}",
        "seen: {linear: 4, of: c}",
        "above: {conv: {row: -1, col: 0}, to: 4, of: y}",
        "gated: above * sigmoid(seen(row - 1))",
        "out: {conv: {col: 3}, to: 4, of: y, given: gated}",
        target=IMAGE,
    ),
    "a window of frames and rows": spec(
        "{features: 2, axes: [frame, row], known: present}",
        "seen: {conv: {frame: -1..0, row: -1..0}, to: 4, of: c}",
        "whole: {conv: {frame: -1, row: -1..1}, to: 4, of: c}",
        "out: [{conv: 3, to: 4, of: y, given: [seen, whole]}, relu]",
        target=VIDEO,
    ),
}
REPLAYED = {
    "diagonals": spec(
        "{classes: 3, axes: [row, col], known: past}",
        "seen: {linear: 4, of: c(row - 1)}",
        "out: [{conv: {row: -1, col: -1..0}, to: 4, of: y, given: seen}, relu]",
        target=IMAGE + "\norder: [row + col, row]",
    ),
}
ROWS = "a value per row"
LENGTHS = {"time": 9, "row": 4, "col": 3, "frame": 3}


@cache
def case(name: str) -> Case:
    if name in REPLAYED:
        return of_text(reordered(REPLAYED[name]), lengths=LENGTHS)
    return calm(of_text(reordered(SPECS[name]), lengths=LENGTHS))


@cache
def replayed(name: str) -> Case:
    """The same as if there were no schedule for it."""
    with without_schedule():
        return of_text(reordered(SPECS[name]), lengths=LENGTHS)


def reordered(text: str) -> str:
    """The order, written behind the target, as a line of its own at the end."""
    order = [line for line in text.splitlines() if line.startswith("order:")]
    return "\n".join([line for line in text.splitlines() if line not in order] + order) + "\n"


def every(name: str) -> Case:
    return replayed(name.removesuffix(", replayed")) if "replayed" in name else case(name)


EVERY = [*SPECS, *REPLAYED, *(f"{name}, replayed" for name in SPECS)]


# ------------------------------------------------------------------------------------------ exact


@pytest.mark.parametrize("name", SPECS)
def test_what_arrives_has_a_schedule(name: str) -> None:
    this = case(name)
    assert this.derived
    assert list(this.arriving) == ["c"]


@pytest.mark.parametrize("name", EVERY)
def test_steps_told_what_arrives_equal_the_forward(name: str) -> None:
    """Behind every prompt, and told the whole at the start."""
    this = every(name)
    assert list(this.arriving) == ["c"]
    raster = this.places == sorted(this.places)
    for slabs in range(this.length if raster else 1):
        assert difference(this, slabs, told=True) < EXACT, slabs
        assert difference(this, slabs) < EXACT, slabs


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_known_yet_never_matters(name: str) -> None:
    """Given whole with values that are not numbers, or others, from some position on."""
    this = every(name)
    parallel, places = this.parallel(), this.places
    for number in (0, 1, len(places) // 2, len(places) - 2):
        other = blind(this, places[number])
        for place, params in itertools.islice(other.stepped(), number + 1):
            assert (params - parallel[place]).abs().max() < EXACT, (places[number], place)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "diagonals"])
def test_nor_does_it_behind_a_prompt(name: str) -> None:
    """A prompt is evaluated all at once: there, too, only what is known is read."""
    this = every(name)
    parallel, slabs = this.parallel(), this.length // 2
    first = this.places[slabs * (len(this.places) // this.length)]
    place, params = next(blind(this, first).stepped(slabs))
    assert place == first
    assert (params - parallel[place]).abs().max() < EXACT


def blind(this: Case, place: Place) -> Case:
    """With a condition of which nothing is told that is not known when a place is drawn."""
    (name,), n = this.arriving, len(this.shape)
    known, value = this.arriving[name], this.conditions[name].clone()
    for other in itertools.product(*map(range, this.shape[: known.axes])):
        at = (*other, *(0,) * (n - known.axes))
        if known.ahead:
            there = other[0] <= place[0] + known.ahead
        elif known.word == "past":
            there = this.key(at) < this.key(place[:n])
        else:
            there = this.key(at) <= this.key(place[:n])
        if not there:
            index = (*[slice(None)] * known.before, *other)
            value[index] = math.nan if value.is_floating_point() else 2 - value[index]
    return replace(this, conditions={name: value})


@pytest.mark.parametrize("name", SPECS)
def test_a_state_branches(name: str) -> None:
    """Each branch is told other values, and keeps its own."""
    this = case(name)
    slabs = this.length // 2
    state: Any = this.start_told(slabs)
    list(itertools.islice(this.told(slabs, state.clone()), 4))
    other = state.clone()
    assert difference_from(this, slabs, state) < EXACT
    assert difference_from(this, slabs, other) < EXACT


def difference_from(this: Case, slabs: int, state: Any) -> float:
    parallel = this.parallel()
    return max((p - parallel[at]).abs().max().item() for at, p in this.told(slabs, state))


@pytest.mark.parametrize(
    "name",
    ["convolutions, past", "attention, present", "recurrence, +1", "rows ahead", f"{ROWS}, added"],
)
def test_a_branch_amid_a_draw(name: str) -> None:
    """Another one goes on, over the end of the row, and is told other values."""
    this = case(name)
    parallel, state, step = this.parallel(), this.start_told(), this.model.step
    for number, place in enumerate(this.places):
        previous = this.value(this.places[number - 1]) if number else None
        params, state = step(previous, state, **this.arrives(place))  # type: ignore[operator]
        assert (params - parallel[place]).abs().max() < EXACT
        other = state.clone()
        for later in this.places[number + 1 : number + 5]:
            wild = {key: torch.zeros_like(value) for key, value in this.arrives(later).items()}
            step(this.value(place), other, **wild)  # type: ignore[operator]


@pytest.mark.parametrize(
    "name", ["pixels, past", "rows ahead", f"{ROWS}, added", f"{ROWS}, replayed"]
)
@pytest.mark.parametrize("known", [3, 4, 5, 7])
def test_a_draw_may_begin_amid_a_row(name: str, known: int) -> None:
    this = every(name)
    observed = torch.zeros(this.x.shape, dtype=torch.bool)
    observed.flatten(1)[:, :known] = True
    draws = Draws(this)
    x = draws(prompt=this.x, observed=observed)
    draws.check(x)
    assert this.places[known] in draws.used


# ------------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize("name", [name for name in SPECS if "ahead" not in name])
def test_everything_is_evaluated_once(name: str) -> None:
    """What looks ahead is begun before the first position."""
    lengths = {"time": 64, "row": 9, "col": 6, "frame": 6}
    this = of_text(reordered(SPECS[name]), lengths=lengths)
    with counted() as steps:
        list(this.told())
    with counted() as forward:
        this.parallel()
    ahead = this.arriving["c"].ahead
    assert steps.weights <= (1.02 + ahead / this.length) * forward.weights
    assert steps.attention <= forward.attention


@pytest.mark.parametrize(
    "name",
    [
        "convolutions, present",
        "convolutions, past",
        "convolutions, +3",
        "recurrence, +1",
        "a context of both",
        "two clocks read late",
    ],
)
def test_a_stream_without_end_takes_constant_memory(name: str) -> None:
    this = of_text(SPECS[name], lengths={"time": 60})
    state = this.start_told(0, shape=None)
    sizes, parallel = set(), this.parallel()
    steps = this.length - this.arriving["c"].ahead  # behind them the forward knows that it ends
    for place, params in itertools.islice(this.told(0, state), steps):
        assert (params - parallel[place]).abs().max() < EXACT
        sizes.add(sum(tensor.numel() for tensor in state.moving()))
    assert len(sizes) == 1


@pytest.mark.parametrize(
    "name", ["convolutions, past", "convolutions, +3", "recurrence, present", "a slower clock"]
)
def test_steps_are_recorded(name: str) -> None:
    """They replay with the newest values; no module is called then."""
    this = calm(of_text(SPECS[name], lengths={"time": 30}))
    parallel, state, calls = this.parallel(), this.start_told(), list[int]()
    for number, (place, params) in enumerate(this.told(0, state)):
        assert (params - parallel[place]).abs().max() < EXACT
        if number == 15:
            this.model.register_forward_pre_hook(lambda *_: calls.append(1))
        if number == 24:
            break
    assert state.tapes.made
    assert not calls


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions, present", "a context of both"])
def test_compiled_steps_are_told_what_arrives(name: str) -> None:
    this = calm(of_text(SPECS[name], lengths={"time": 30}))
    parallel, state = this.parallel(), this.start_told()
    state.compiles = True
    for place, params in this.told(0, state):
        assert (params - parallel[place]).abs().max() < EXACT


# --------------------------------------------------------------------------------- what is refused


def stepping(name: str, slabs: int = 0) -> tuple[Any, Any, Any]:
    """The step of a model, its state, and the first values that arrive."""
    this = every(name)
    return this.model.step, this.start_told(slabs), this.arrives(this.places[slabs])["c"]


@pytest.mark.parametrize("suffix", ["", ", replayed"])
@pytest.mark.parametrize(
    ("name", "position"), [("convolutions, present", 2), ("convolutions, +3", 5)]
)
def test_what_is_missing_is_said(name: str, position: int, suffix: str) -> None:
    step, state, first = stepping(name + suffix, 2)
    message = f"`c` at position {position} is needed to draw position 2: give it to `step`, or all"
    with pytest.raises(ValueError, match=message):
        step(None, state)
    _, state = step(None, state, c=first)  # it is not lost by that
    assert state.at == (3,)


def test_what_is_missing_of_a_whole_is_said() -> None:
    this = case("convolutions, present")
    sample: Any = this.model.sample
    with pytest.raises(ValueError, match="`c` at position 4 is needed to draw position 4"):
        sample(2, shape=this.shape, c=this.conditions["c"][..., :4])


@pytest.mark.parametrize("suffix", ["", ", replayed"])
def test_what_stands_before_is_needed_at_the_start(suffix: str) -> None:
    for name, slabs, count in (("convolutions, +3", 2, 5), ("convolutions, present", 2, 2)):
        this = every(name + suffix)
        model: Any = this.model
        for given in (None, this.conditions["c"][..., : count - 1]):
            with pytest.raises(ValueError, match=f"`c`.*`start` needs the first {count}"):
                model.start(2, this.prompt(slabs), shape=this.shape, c=given)
    with pytest.raises(ValueError, match=r"`c`, 0 positions are given.* needs the first 3"):
        every("convolutions, +3" + suffix).model.start(2, shape=(9,))  # type: ignore[operator]


@pytest.mark.parametrize("suffix", ["", ", replayed"])
def test_what_was_given_already_is_refused(suffix: str) -> None:
    this = every("convolutions, present" + suffix)
    model: Any = this.model
    newest = this.conditions["c"][..., 0]
    _, state = model.step(None, this.start(), c=newest)  # ignored, as `x_prev` is
    with pytest.raises(ValueError, match="`c` at position 1 was given already"):
        model.step(this.value((0,)), state, c=newest)


@pytest.mark.parametrize("suffix", ["", ", replayed"])
def test_a_row_is_given_once(suffix: str) -> None:
    this = every("a value per row" + suffix)
    model: Any = this.model
    _, state = model.step(None, this.start_told(), c=this.conditions["c"][:, 0])
    with pytest.raises(ValueError, match="`c` at position 0 was given already"):
        model.step(this.value((0, 0)), state, c=this.conditions["c"][:, 0])


@pytest.mark.parametrize("suffix", ["", ", replayed"])
def test_the_first_of_the_past_does_not_exist(suffix: str) -> None:
    this = every("convolutions, past" + suffix)
    model: Any = this.model
    wild = torch.full_like(this.conditions["c"][..., 0], math.nan)
    params, state = model.step(None, this.start_told(), c=wild)
    assert (params - this.parallel()[0,]).abs().max() < EXACT
    with pytest.raises(ValueError, match="`c` at position 0 is needed to draw position 1"):
        model.step(this.value((0,)), state)


@pytest.mark.parametrize("suffix", ["", ", replayed"])
def test_wrong_shapes_are_refused(suffix: str) -> None:
    step, state, first = stepping("convolutions, present" + suffix)
    for wrong in (first[:1], first[:, :2], first[..., None], first[:, 0]):
        with pytest.raises(ValueError, match=r"`c` at position 0 is \(.*\), not \(2, 3\)"):
            step(None, state, c=wrong)
    model: Any = every("convolutions, present" + suffix).model
    for shape in ((2, 9), (2, 2, 9), (3, 3, 9), (2, 3, 9, 1)):
        with pytest.raises(ValueError, match=r"`c` is \(.*\), not \(2, 3, -1\)"):
            model.start(2, shape=(9,), c=torch.zeros(shape))


def test_one_feature_needs_no_dimension() -> None:
    this = case("a linear model")
    model: Any = this.model
    flat = model.start(2, shape=this.shape, c=this.conditions["c"][:, 0])
    whole = this.start()
    told = this.start_told()
    for number, place in enumerate(this.places):
        previous = this.value(this.places[number - 1]) if number else None
        newest: Tensor = this.conditions["c"][:, 0, place[0]]
        found = [
            model.step(previous, flat)[0],
            model.step(previous, whole)[0],
            model.step(previous, told, c=newest)[0],
        ]
        assert found[0].equal(found[1])
        assert found[0].equal(found[2])


def test_a_recursion_given_what_is_known_ahead_has_it_whole() -> None:
    """What is given inside a recursion stands where that stands, not farther on."""
    network = ("a: {linear: 4, of: b(time - 2), given: c}", "b: tanh(a + y(time - 1))")
    condition = "{features: 2, axes: [time], known: +3}"
    this = of_text(spec(condition, *network, target=REAL, head="gaussian"), lengths=LENGTHS)
    assert this.derived
    assert difference(this) < EXACT


def test_what_does_not_arrive_is_given_whole() -> None:
    """Slower clocks, and what is known as a whole."""
    for condition in ("{features: 2, axes: [time / 3], known: present}", "{classes: 3}"):
        network = "out: [{conv: 2, to: 4, of: y, given: c}, relu]"
        this = of_text(spec(condition, network), lengths=LENGTHS)
        assert not this.arriving
        assert difference(this) < EXACT
        model: Any = this.model
        with pytest.raises(TypeError):
            model.step(None, this.start(), c=torch.zeros(2, 2))
