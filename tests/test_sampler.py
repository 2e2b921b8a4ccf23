"""The derived sampler of every spec that has code: exact, wherever it starts, whatever is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import SMALL, small_spec
from stepwise import (
    EXACT,
    Case,
    Draws,
    Place,
    calm,
    difference,
    make_case,
    of_text,
    one_thread,
    without_schedule,
)
from torch import Tensor, nn

from arspec import compiler, schedule_table
from arspec.diagnostics import SpecError
from arspec.schedule import schedule

FOLDER = Path(__file__).parent
FILES = {path.stem: path for path in sorted(FOLDER.glob("specs/*.yaml"))}
PAPERS = {path.stem: path for path in sorted(FOLDER.glob("specs_papers/*.yaml"))}
SMALL_PAPERS: dict[str, dict[str, Any]] = {
    "arch": {},
    "arma": {},
    "bytenet": {"d": 3, "sets": 1},
    "elman": {"n": 5},
    "garch": {},
    "llama": {
        "d": 8, "heads": 4, "kv_heads": 2, "inner": 9, "depth": 2, "vocabulary": 300,
    },
    "lstm_lm": {"width": 5},
    "video_pixel_network": {"c": 3},
    "wavenet_context": {"width": 4, "skip_width": 4, "context_width": 3},
}  # fmt: skip
"""The params that make those published models small that have code."""
REPLAYED: dict[str, dict[str, Any]] = {}
"""Those without a schedule."""
DEEP = {"pixelrnn_diagonal_bilstm", "row_lstm"}
"""Those that `test_recurrence_steps.py` tries with fewer layers."""
NAMES = [*SMALL, *FILES, *SMALL_PAPERS]
LENGTHS = {"time": 13, "frame": 3, "row": 5, "col": 4}
pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@cache
def case(name: str, batch: int = 2) -> Case:
    """The small model of a spec."""
    spec: Any = small_spec(name) if name in SMALL else FILES.get(name) or PAPERS[name]
    params = SMALL.get(name) or SMALL_PAPERS.get(name) or REPLAYED.get(name)
    this = make_case(spec, params=params, lengths=LENGTHS, batch=batch)
    return calm(this) if this.x.is_floating_point() else this


def test_every_published_model_that_has_code_is_tried() -> None:
    for name in PAPERS.keys() - SMALL_PAPERS.keys() - REPLAYED.keys() - DEEP:
        with pytest.raises(SpecError, match="AR501"):
            compiler.emit(compiler.analyse(PAPERS[name]))


# ------------------------------------------------------------------------------------------ steps


@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_is_derived(name: str) -> None:
    assert case(name).derived


def test_a_chain_reads_what_stands_ahead_of_it_late() -> None:
    """`early` is needed a position ahead; the chain's first layer reads it at its own."""
    this = of_text(
        "name: drawn\nvariables:\n  y: {features: 1, axes: [time]}\ngenerate: y\nnetwork:\n"
        "  early: {linear: 4, of: y(time - 2)}\n"
        "  chain: [{linear: 4, of: early}, gelu, {linear: 4}]\n"
        "  ahead: {conv: {time: 0..1}, of: early}\n"
        "  out: tanh(chain + ahead)\nhead: gaussian\n"
    )
    assert this.derived
    assert difference(this) < EXACT


def test_a_chain_whose_last_layer_stands_ahead_is_read_late() -> None:
    """Its first layer stands two positions ahead, its last one."""
    this = of_text(
        "name: chained\nvariables:\n  y: {classes: 4, axes: [time]}\ngenerate: y\nnetwork:\n"
        "  chain: [{conv: {time: -4..-3}, to: 4, of: y}, {conv: {time: -1..1}}]\n"
        "  ahead: {conv: {time: 0..1}}\n"
        "  out: {linear: 4, of: ahead, given: chain}\nhead: categorical\n",
        lengths={"time": 9},
    )
    assert this.derived
    for known in range(9):
        assert difference(this, known) < EXACT, known


def test_what_stands_ahead_is_kept_once_however_often_a_line_reads_it() -> None:
    this = of_text(
        "name: drawn\nvariables:\n  y: {features: 2, axes: [time]}\ngenerate: y\nnetwork:\n"
        "  n1: {linear: 4, of: y(time - 2)}\n"
        "  n2: elu(n1) + n1\n"
        "  n3: {conv: {time: -1..1}, of: n1}\n"
        "  out: n2 + n3(time - 1)\nhead: gaussian\n"
    )
    assert this.derived
    assert difference(this) < EXACT


def test_shifts_in_a_line_of_what_stands_at_different_places() -> None:
    this = of_text(
        "name: drawn\nvariables:\n  y: {levels: 3, axes: [row, col]}\ngenerate: y\nnetwork:\n"
        "  above: {conv: {row: -1, col: -1..1}, to: 4, of: y}\n"
        "  here: {conv: {row: 1, col: 3}, to: 4, of: y}\n"
        "  out: above(col - 1) + here(row - 2)(col + 1) + (here(col - 1) or above(row - 1))\n"
        "head: categorical\n"
    )
    assert this.derived
    assert max(difference(this, slabs) for slabs in range(this.length)) < EXACT


@pytest.mark.parametrize("name", sorted(REPLAYED))
def test_a_sampler_that_replays(name: str) -> None:
    this = make_case(PAPERS[name], params=REPLAYED[name], lengths={"row": 3, "col": 2, "time": 6})
    assert not this.derived
    assert difference(this) < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_the_forward(name: str) -> None:
    assert difference(case(name)) < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_steps_behind_any_prompt(name: str) -> None:
    """Every number of slabs of the first axis: longer and shorter than any window."""
    this = case(name)
    for slabs in range(1, this.length):
        assert difference(this, slabs) < EXACT, slabs


@pytest.mark.parametrize("name", NAMES)
def test_the_first_x_prev_is_ignored(name: str) -> None:
    this = case(name)
    for slabs in (0, 2):
        wild = this.value(this.places[-1])
        params, _ = this.model.step(wild, this.start(slabs))  # type: ignore[operator]
        place = this.places[slabs * (len(this.places) // this.length)]
        assert (params - this.parallel()[place]).abs().max() < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_batch_are_independent(name: str) -> None:
    """A batch of three is three batches of one, each with its own conditions."""
    this = case(name, batch=3)
    together = dict(this.stepped())
    for k in range(3):
        for place, params in this.row(k).stepped():
            assert (params[0] - together[place][k]).abs().max() < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_a_clone_goes_on_by_itself(name: str) -> None:
    check_branches(case(name))


def check_branches(this: Case) -> None:
    """Two that are told different things behind a prompt, step by step in turn."""
    other = replace(this, x=this.x.roll(1, 0).roll(1, -1))
    slabs, rest = 2, len(this.places) // this.length + 2
    axis = this.x.dim() - len(this.shape) + this.dims[0]  # they part behind the prompt
    behind = other.x.narrow(axis, slabs, this.length - slabs)
    other = replace(other, x=torch.cat([this.prompt(slabs), behind], axis))
    state = this.start(slabs)
    branch = state.clone()
    wanted, elsewhere = this.parallel(), other.parallel()
    pairs = zip(this.stepped(slabs, state), other.stepped(slabs, branch), strict=True)
    for (place, params), (_, others) in itertools.islice(pairs, rest):
        assert (params - wanted[place]).abs().max() < EXACT, place
        assert (others - elsewhere[place]).abs().max() < EXACT, place


def test_a_clone_in_the_middle() -> None:
    """Also where rows are open and rings are half full."""
    for name in ("wavenet", "gated_pixelcnn", "gpt2"):
        this = case(name)
        state, wanted = this.start(), this.parallel()
        steps = this.stepped(state=state)
        for place, _ in itertools.islice(steps, 7):
            last = place
        kept = state.clone()
        rest = dict(steps)
        params, kept = this.model.step(this.value(last), kept)  # type: ignore[operator]
        place = this.places[this.places.index(last) + 1]
        assert (params - rest[place]).abs().max() < EXACT
        assert (params - wanted[place]).abs().max() < EXACT


# --------------------------------------------------------------------------- what a draw is made of


@pytest.mark.parametrize("name", NAMES)
def test_sample_draws_from_the_forward(name: str) -> None:
    draws = Draws(case(name))
    x = draws()
    draws.check(x)
    assert list(draws.used) == case(name).places
    assert draws.total == len(case(name).places)
    assert x.shape == case(name).x.shape
    assert x.dtype == case(name).x.dtype


def masks(this: Case) -> Iterator[tuple[str, Tensor]]:
    """Which positions are known: True."""
    generator = torch.Generator().manual_seed(4)
    places = this.places
    half = len(places) // 2

    def mask(known: Callable[[int, Place], bool]) -> Tensor:
        result = torch.zeros(this.x.shape, dtype=torch.bool)
        for number, place in enumerate(places):
            result[this.index(place, result.dim() - 1)] = known(number, place)
        return result

    yield "nothing", mask(lambda n, p: False)
    yield "all", mask(lambda n, p: True)
    yield "lower half", mask(lambda n, p: n >= half)
    yield "a hole", mask(lambda n, p: not half - 2 <= n < half + 2)
    yield "a hole of a slab", mask(lambda n, p: p[0] != 1)
    yield "a prefix within a row", mask(lambda n, p: n < half + 1)
    yield "the last alone unknown", mask(lambda n, p: n < len(places) - 1)
    yield "every other one", mask(lambda n, p: n % 2 == 1)
    yield "at random", torch.rand(this.x.shape, generator=generator) < 0.6
    rows = mask(lambda n, p: n < half)
    rows[0] = False
    yield "one of the batch", rows
    channel = torch.zeros_like(rows)
    if rows.dim() > len(this.shape) + 1:
        channel[:, 0] = True
    yield "one channel", channel


def check_observed(this: Case) -> None:
    """Whatever is known: it is kept, and what is drawn has seen it."""
    for _, observed in masks(this):
        draws = Draws(this)
        x = draws(prompt=this.x, observed=observed)
        assert torch.equal(x[observed], this.x[observed])
        draws.check(x)


KINDS = [name for name, _ in masks(case("wavenet"))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_observed_is_kept_and_seen(name: str, kind: str) -> None:
    this = case(name)
    observed = dict(masks(this))[kind]
    draws = Draws(this)
    x = draws(prompt=this.x, observed=observed)
    assert torch.equal(x[observed], this.x[observed])
    draws.check(x)
    unknown = {p for p in this.places if not this.value(p, observed).all()}
    assert unknown <= draws.used.keys()
    if kind == "all":
        assert not draws.used


@pytest.mark.parametrize("name", NAMES)
def test_what_is_hidden_of_a_prompt_counts_nothing(name: str) -> None:
    """Two prompts that differ only where they are not observed give the same draw."""
    this = case(name)
    observed = dict(masks(this))["at random"]
    other = torch.where(observed, this.x, this.x.flip(0, -1))
    assert not torch.equal(other, this.x)
    x = Draws(this)(prompt=this.x, observed=observed)
    assert torch.equal(x, Draws(this)(prompt=other, observed=observed))


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_continued(name: str) -> None:
    this = case(name)
    for slabs in (1, 3, this.length):
        draws = Draws(this)
        x = draws(prompt=this.prompt(slabs))
        assert torch.equal(replace(this, x=x).prompt(slabs), this.prompt(slabs))
        draws.check(x)
        assert all(place[0] >= slabs for place in draws.used)


LONG = """
name: drawn
variables:
  y: {classes: 4, axes: [time]}
generate: y
network:
  n0: {conv: 3, to: 4, of: y}
  n1: {attention: 2, window: 5, of: n0}
  out: {conv: 2, dilation: 4}
head: categorical
"""


def test_long_runs_of_what_is_known_within_a_draw() -> None:
    """Longer than what is worth stepping through: the sampler starts anew behind them."""
    this = of_text(LONG, lengths={"time": 150})
    observed = torch.ones_like(this.x, dtype=torch.bool)
    observed[:, 3:7] = observed[1, 60:63] = observed[:, 110] = observed[:, 149] = False
    draws = Draws(this)
    x = draws(prompt=this.x, observed=observed)
    assert torch.equal(x[observed], this.x[observed])
    draws.check(x)
    assert len(draws.used) < 120


# ------------------------------------------------------------------------------ without a schedule


@cache
def replayed(name: str) -> Case:
    """The same model as `case`, as if no incremental form were known for it."""
    with without_schedule():
        return case.__wrapped__(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_does_the_same(name: str) -> None:
    this = replayed(name)
    assert not this.derived
    for slabs in range(min(4, this.length)):
        assert difference(this, slabs) < EXACT, slabs
    observed = dict(masks(this))["at random"]
    draws = Draws(this)
    x = draws(prompt=this.x, observed=observed)
    assert torch.equal(x[observed], this.x[observed])
    draws.check(x)
    assert draws.total == len(this.places)


@pytest.mark.parametrize("name", ["gpt2", "wavenet", "rgb", "series_gaussian", "pixelcnn"])
def test_a_replay_draws_the_same(name: str) -> None:
    """From the same generator: the order of drawing, what is progress, and what is kept, agree."""
    for settings in ({}, {"prompt": case(name).prompt(2)}):
        x, other = Draws(replayed(name))(**settings), Draws(case(name))(**settings)
        assert torch.allclose(x.double(), other.double(), rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ["gpt2", "rgb", "series_gaussian"])
def test_a_clone_of_a_replay_goes_on_by_itself(name: str) -> None:
    check_branches(replayed(name))


ORDERS = {
    "columns": ("[col, row]", "{row: -1..1, col: -2..-1}"),
    "diagonals": ("[row + col, row]", "{row: -1..0, col: -1..-1}"),
    "diagonals at once": ("[row + col]", "{row: -1..-1, col: -1..0}"),
}


@pytest.mark.parametrize(("order", "window"), ORDERS.values(), ids=ORDERS)
def test_other_orders(order: str, window: str) -> None:
    this = of_text(
        "name: drawn\nvariables:\n  y: {levels: 3, axes: [row, col]}\ngenerate: y\n"
        f"order: {order}\nnetwork:\n  n0: {{conv: {window}, to: 4, of: y}}\n  out: tanh(n0)\n"
        "head: categorical\n"
    )
    assert this.derived == (this.dims != (0, 1))  # loops, if one axis is drawn after the other
    assert this.derived or this.places != sorted(this.places)
    assert difference(this) < EXACT
    for observed in (dict(masks(this))["at random"], dict(masks(this))["nothing"]):
        draws = Draws(this)
        x = draws(prompt=this.x, observed=observed)
        assert torch.equal(x[observed], this.x[observed])
        draws.check(x)
        assert len(draws.used) >= int((~observed).any(0).sum())


# -------------------------------------------------------------- masks over channels drawn in turn

FIRST = {
    "earlier channels": "{linear: W, of: y}",
    "earlier channels, given": "{linear: W, of: y, given: c}",
    "its own channel": "{linear: W, of: y, mask: B}",
    "its own channel, given": "{linear: W, of: y, mask: B, given: c}",
    "a window with its own channel": "{conv: 3, mask: B, to: W, of: y}",
    "two layers": "[{conv: 3, mask: B, to: W, of: y}, relu, {linear: W}]",
}
SECOND = ["{conv: 3, mask: A}", "{conv: 3, mask: A, given: c}", "{linear: W, mask: A}"]


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
@pytest.mark.parametrize(("axes", "channels"), [("time", 2), ("time", 3), ("row, col", 3)])
def test_a_mask_behind_what_has_seen_its_own_channel(
    axes: str, channels: int, first: str, second: str
) -> None:
    """The first layer is evaluated one channel behind the one that is drawn."""
    this = of_text(
        f"name: drawn\nvariables:\n  y: {{levels: 3, axes: [{axes}], channels: {channels}}}\n"
        f"  c: {{features: 2, axes: [{axes}], known: all}}\n"
        f"generate: y\norder: [{axes}, channel]\nnetwork:\n  n0: {first}\n  n1: {second}\n"
        "  out: {linear: W, given: c}\nhead: categorical\n".replace("W", str(2 * channels))
    )
    for slabs in range(this.length):
        assert difference(this, slabs) < EXACT
    draws = Draws(this)
    observed = dict(masks(this))["at random"]
    draws.check(draws(prompt=this.x, observed=observed))


# ------------------------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_repeats_a_draw(name: str) -> None:
    this = case(name)

    def draw(seed: int) -> Tensor:
        return Draws(this)(generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    first = draw(1)
    torch.manual_seed(99)
    assert torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))


CATEGORICAL = ["wavenet", "gpt2", "pixelcnn", "gated_pixelcnn", "strings_window"]


@pytest.mark.parametrize("name", CATEGORICAL)
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_settings_that_leave_the_likeliest(name: str, settings: dict[str, Any]) -> None:
    draws = Draws(case(name))
    x = draws(**settings)
    for place, params in draws.used.items():
        assert torch.equal(chosen(case(name), place, x, params), params.amax(-1)), place


@pytest.mark.parametrize("name", CATEGORICAL)
def test_top_k_bounds_every_draw(name: str) -> None:
    draws = Draws(case(name, batch=3))
    x = draws(top_k=2, temperature=5.0)
    ranks = [
        (params > chosen(case(name), place, x, params)[..., None]).sum(-1)
        for place, params in draws.used.items()
    ]
    assert max(int(rank.max()) for rank in ranks) == 1


def chosen(this: Case, place: Place, x: Tensor, params: Tensor) -> Tensor:
    """The logits of what was drawn."""
    return params.gather(-1, this.value(place, x)[..., None])[..., 0]


@pytest.mark.parametrize("name", ["wavenet", "pixelcnn", "gpt2"])
def test_draws_follow_the_distribution(name: str) -> None:
    """The first position of many rows: as often as the forward says, within 5 deviations."""
    this, rows = case(name), 4000
    wide = {k: v[:1].expand(rows, *v.shape[1:]) for k, v in this.conditions.items()}
    shape = (1,) if len(this.shape) == 1 else (1, 1)
    lengths = {"time": 1, "row": 1, "col": 1}
    first = make_case(small_spec(name), params=SMALL[name], lengths=lengths)
    first = replace(first, model=this.model)
    if this.conditions:
        wide = {k: v[:1].expand(rows, *v.shape[1:]) for k, v in first.conditions.items()}
    sample: Any = this.model.sample
    x = sample(rows, shape=shape, generator=torch.Generator().manual_seed(0), **wide)
    drawn = x.reshape(rows, -1)[:, 0]
    chance = first.parallel()[first.places[0]][0].softmax(-1)
    found = torch.bincount(drawn, minlength=len(chance)) / rows
    deviation = (chance * (1 - chance) / rows).sqrt()
    assert ((found - chance).abs() < 5 * deviation + 1e-12).all()


# ------------------------------------------------------------------------------------------- an end

ENDING = """
name: drawn
variables:
  y: {classes: 5, axes: [time], end: 2}
generate: y
network:
  n0: {embed: 4, of: y(time - 1)}
  n1: {attention: 2}
  out: {conv: 2}
head: categorical
"""


@pytest.fixture(params=["derived", "replayed"])
def ending(request: pytest.FixtureRequest) -> Callable[[int], Case]:
    """A sequence that class 2 ends, with so many rows."""

    def made(batch: int) -> Case:
        with without_schedule() if request.param == "replayed" else nullcontext():
            return calm(of_text(ENDING, batch=batch, lengths={"time": 30}))

    return made


def ends(x: Tensor) -> list[int]:
    """Where each row first ends, its length if it does not."""
    return [row.index(2) if 2 in row else len(row) for row in x.tolist()]


def test_each_row_ends_on_its_own(ending: Callable[[int], Case]) -> None:
    this = ending(40)
    draws = Draws(this)
    x = draws(max_length=30, shape=None)
    found = ends(x)
    assert len(set(found)) > 5
    for row, end in zip(x.tolist(), found, strict=True):
        assert all(symbol == 2 for symbol in row[end:])
    draws.check(x)


def test_no_position_is_computed_after_all_rows_have_ended(ending: Callable[[int], Case]) -> None:
    draws = Draws(ending(3))
    x = draws(max_length=30, shape=None)
    last = max(ends(x))
    assert last < 28
    assert len(draws.used) in (last, last + 1)  # the last draw may not be reported


@pytest.mark.parametrize("least", [1, 10])
def test_no_row_ends_before_its_least_length(least: int, ending: Callable[[int], Case]) -> None:
    this = ending(40)
    assert min(ends(Draws(this)(max_length=30, shape=None))) == 0
    x = Draws(this)(max_length=30, shape=None, min_length=least)
    assert min(ends(x)) == least
    assert len(set(ends(x))) > 2


def test_the_longest_length_is_a_shape(ending: Callable[[int], Case]) -> None:
    this = ending(4)
    for settings in ({"max_length": 7}, {"shape": (7,)}, {"shape": (9,), "max_length": 7}):
        settings = {"shape": None, **settings}
        assert Draws(this)(**settings).shape == (4, 7)
    with pytest.raises(ValueError, match="how long"):
        Draws(this)(shape=None)


def test_a_prompt_that_has_ended_is_not_continued(ending: Callable[[int], Case]) -> None:
    this = ending(2)
    prompt = torch.tensor([[1, 2, 2, 2], [1, 3, 0, 1]])
    for least in (0, 8):
        x = Draws(this)(prompt=prompt, max_length=20, shape=None, min_length=least)
        assert torch.equal(x[:, :4], prompt)
        assert (x[0, 1:] == 2).all()
    hidden = torch.tensor([[True] * 4, [True, True, False, True]])
    x = Draws(this)(prompt=prompt, observed=hidden, max_length=20, shape=None)
    assert (x[0, 1:] == 2).all()


# ------------------------------------------------------------------------------- what it leaves be


@pytest.mark.parametrize("name", ["gpt2", "strings_attention", "wavenet", "gated_pixelcnn"])
def test_modes_are_restored_and_dropout_is_off(name: str) -> None:
    this = case(name)
    model: nn.Module = this.model.train()
    children = list(model.modules())
    children[-1].eval()
    modes = [module.training for module in children]
    try:
        trained = Draws(this)()
        assert [module.training for module in children] == modes
        with pytest.raises(RuntimeError, match="stop"):
            this.model.sample(  # type: ignore[operator]
                2, shape=this.shape, progress=stop, **this.conditions
            )
        assert [module.training for module in children] == modes
    finally:
        model.eval()
    assert torch.equal(trained, Draws(this)())


def stop(done: int, total: int) -> None:
    raise RuntimeError("stop")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_needs_a_gradient_and_nothing_is_left_behind(name: str) -> None:
    """No gradient; the same weights; the forward as before; no new key in the state dict."""
    this = case(name)
    before = {key: value.clone() for key, value in this.model.state_dict().items()}
    wanted = this.parallel()
    for place, params in this.stepped(1):
        assert not params.requires_grad
        if place[0] > 2:
            break
    assert not Draws(this)().requires_grad
    after = this.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    again = this.parallel()
    assert all(torch.equal(again[place], wanted[place]) for place in wanted)
    x = this.x.double().requires_grad_() if this.x.is_floating_point() else this.x
    assert this.model(x, **this.conditions).requires_grad


def test_new_weights_need_a_new_state_only() -> None:
    """What a state packs is taken from the weights at its start."""
    this = make_case(small_spec("wavenet"), params=SMALL["wavenet"])
    assert difference(this) < EXACT
    with torch.no_grad():
        for parameter in this.model.parameters():
            parameter.mul_(1.5)
    assert difference(this) < EXACT
    assert difference(this, 3) < EXACT


def test_wrong_arguments_are_refused() -> None:
    image, series = case("pixelcnn"), case("gpt2")
    with pytest.raises(ValueError, match="slabs"):
        image.model.start(2, image.x[..., :2], shape=image.shape)  # type: ignore[operator]
    for prompt, observed in ((series.x[:1], None), (series.x, series.x[:, :3] > 0)):
        with pytest.raises(ValueError, match="rows"):
            Draws(series)(prompt=prompt, observed=observed)
    with pytest.raises(ValueError, match="observed"):
        Draws(series)(observed=series.x > 0)
    state = series.start()
    _, state = series.model.step(None, state)  # type: ignore[operator]
    with pytest.raises(ValueError, match="x_prev"):
        series.model.step(None, state)  # type: ignore[operator]


# ------------------------------------------------------------------------------------------- memory


def tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that can be reached, one of each storage."""
    if isinstance(value, Tensor):
        if value.untyped_storage().data_ptr() not in seen:
            seen.add(value.untyped_storage().data_ptr())
            yield value
        return
    if isinstance(value, (str, bytes, int, float, type(None), nn.Module)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        held: Any = value.values()
    elif isinstance(value, (list, tuple, set)):
        held = value
    else:
        held = getattr(value, "__dict__", {}).values()
    for item in held:
        yield from tensors(item, seen)


def kept(state: Any, without: nn.Module) -> int:
    """How many bytes a state holds on to, the model's own weights apart."""
    seen = {p.untyped_storage().data_ptr() for p in without.parameters()}
    return sum(t.untyped_storage().nbytes() for t in tensors(state, seen))


def held_at(this: Case, wanted: set[int]) -> dict[int, int]:
    """What a state holds after so many steps, of a sequence whose end is not known."""
    start: Any = this.model.start
    state = start(len(this.x), **this.conditions)
    step: Any = this.model.step
    found = {}
    previous = None
    for number in range(max(wanted)):
        _, state = step(previous, state)
        previous = this.x[..., number % this.x.shape[-1]]
        if number + 1 in wanted:
            found[number + 1] = kept(state, this.model)
    return found


@pytest.mark.parametrize("name", SMALL)
def test_a_state_holds_what_the_table_says_has_to_be_kept(name: str) -> None:
    """`arspec show --schedule` prints the least; caches also keep zeros, keys beside values."""
    spec: Any = small_spec(name)
    this = make_case(spec, params=SMALL[name], lengths={"time": 30, "row": 9, "col": 8}, batch=1)
    found = compiler.analyse(spec, SMALL[name])
    _, totals = schedule_table.rows(schedule(found.model.terms[-1].graph), this.shape)
    state = this.start()
    held = 0
    for _ in this.stepped(state=state):
        held = max(held, sum(tensor.numel() for tensor in state.moving()))
    assert totals.numbers <= held <= 2.2 * totals.numbers


BOUNDED = {
    "convolutions": """
  n0: {conv: 2, to: 4, of: y}
  n1: {conv: 3, dilation: 4}
  out: tanh(n1) + n0(time - 3)
""",
    "attention to a window": """
  n0: {embed: 4, of: y(time - 1)}
  n1: {attention: 2, window: 6}
  out: n1 + n0
""",
    "windows ahead": """
  n0: {conv: {time: -4..-3}, to: 4, of: y}
  n1: {conv: {time: -1..2}, of: n0}
  out: n1(time - 1)
""",
}


def series(body: str, **settings: Any) -> Case:
    return of_text(
        "name: drawn\nvariables:\n  y: {classes: 4, axes: [time]}\ngenerate: y\n"
        f"network:{body}head: categorical\n",
        **settings,
    )


@pytest.mark.parametrize("body", BOUNDED.values(), ids=BOUNDED)
def test_what_is_kept_does_not_grow(body: str) -> None:
    found = held_at(series(body, batch=1), {30, 200, 1500})
    assert len(set(found.values())) == 1, found


def test_what_a_wavenet_keeps_is_its_receptive_field() -> None:
    text = small_spec("wavenet")
    del text["variables"]["mel"], text["variables"]["speaker"]
    body = text["blocks"].popitem()[1]
    body["filter, gate"] = {"conv": 2, "dilation": "dilation"}
    text["blocks"] = {"layer(x, dilation)": body}
    params = {k: v for k, v in SMALL["wavenet"].items() if k not in ("speakers", "bands", "hop")}
    text["params"] = {k: v for k, v in text["params"].items() if k in params}
    held = {}
    for longest in (4, 64):
        this = make_case(text, params={**params, "longest": longest}, batch=1)
        found = held_at(this, {150, 400})
        assert found[150] == found[400]
        held[longest] = found[400]
    # one number per position that a layer still reads, `width` of them, two stacks; layers alike
    width, stacks = params["width"], params["stacks"]
    rings = 8 * width * stacks * (8 + 16 + 32 + 64)
    assert held[64] - held[4] >= rings
    assert held[64] - held[4] < 2 * rings + 8 * 4000


def test_a_cache_of_keys_grows_with_what_it_has_seen_only() -> None:
    this = series("\n  n0: {embed: 4, of: y(time - 1)}\n  out: {attention: 2}\n", batch=1)
    found = held_at(this, {50, 100, 200, 400})
    for length, size in found.items():
        # keys and values of whole blocks, at most twice as many
        assert size < 8 * (2 * 2 * 4 * (length + 64) + 500)


def test_twenty_thousand_steps() -> None:
    """What the state holds stays the same to the last byte; the values are still exact."""
    body = "\n  n0: {conv: 2, to: 3, of: y}\n  out: [{conv: 2, dilation: 3}, relu]\n"
    this, length = series(body, batch=1, lengths={"time": 20000}), 20000
    step: Any = this.model.step
    start: Any = this.model.start
    state, previous = start(1), None
    wanted = this.parallel()
    sizes = set()
    for number in range(length):
        params, state = step(previous, state)
        previous = this.x[:, number]
        if number % 1000 == 999:
            sizes.add(kept(state, this.model))
            assert (params - wanted[(number,)]).abs().max() < EXACT
    assert len(sizes) == 1
