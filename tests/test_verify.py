"""`verify` itself: it passes what is right, and each of its checks can fail."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import SMALL, small_spec
from torch import Tensor, nn
from torch.nn import functional as F

from arspec import cli, compiler, measure, verify_reach
from arspec.builder import load
from arspec.graph import ALWAYS, ONE, OUTSIDE
from arspec.verifier import (
    CHECKS,
    Check,
    Report,
    Trial,
    check_causality,
    check_conditions,
    check_gradients,
    check_lengths,
    check_log_prob,
    check_observed,
    check_operations,
    check_prefix,
    check_prompts,
    check_receptive_field,
    check_sample,
    check_sampler,
    check_step,
    make_trial,
    verify,
)
from arspec.verify_operations import Operations
from arspec.verify_reach import dependences
from arspec.verify_shrink import narrowed
from arspec.verify_trial import distance

SPECS = Path(__file__).parent / "specs"


@pytest.fixture(autouse=True)
def plain_kernels() -> Iterator[None]:
    """As `verify` runs them."""
    with measure.plain_kernels():
        yield


def analysed(name: str) -> compiler.Analysis:
    """A spec of the tests, or a shipped one in a small size."""
    if name in SMALL:
        return compiler.analyse(small_spec(name), SMALL[name])
    return compiler.analyse(SPECS / f"{name}.yaml")


def trial_of(name: str) -> Trial:
    return make_trial(analysed(name))


MEASURED = {"causality", "receptive field", "log-density", "gradients", "sampler"}
MEASURED |= {"step = parallel", "chunks", "inpainting", "operations", "sampling"}


@pytest.mark.parametrize(
    "name",
    ["strings_conv", "strings_window", "binary_gated", "rgb", "conditioned", "series_gaussian"],
)
def test_a_right_model_passes(name: str) -> None:
    report = verify(SPECS / f"{name}.yaml")
    assert [check for check in report.checks if not check.passed] == []
    assert report.passed
    assert {check.name for check in report.checks} >= MEASURED


@pytest.mark.parametrize("name", SMALL)
def test_the_shipped_specs_pass(name: str) -> None:
    report = verify(small_spec(name), SMALL[name])
    assert [check for check in report.checks if not check.passed] == []
    assert {check.name for check in report.checks} >= MEASURED


def test_a_leak_is_refused() -> None:
    path = Path(__file__).parent / "leaks" / "future" / "embedding_not_shifted.yaml"
    with pytest.raises(compiler.NotCausal):
        verify(path)


def sees_ahead(trial: Trial) -> None:
    forward = trial.model.forward
    trial.model.forward = lambda x, **given: forward(x.roll(-2, 1), **given)


def sees_less(trial: Trial) -> None:
    parameters = trial.model.forward
    trial.model.forward = lambda x, **given: parameters(torch.zeros_like(x), **given)


def sees_conditions_ahead(trial: Trial) -> None:
    forward = trial.model.forward

    def ahead(x: Tensor, **given: Tensor) -> Tensor:
        return forward(x, **{name: value.roll(-3, -1) for name, value in given.items()})  # type: ignore[no-any-return]

    trial.model.forward = ahead


def depends_on_the_length(trial: Trial) -> None:
    forward = trial.model.forward
    trial.model.forward = lambda x, **given: forward(x, **given) + x.shape[1]


def wrong_density(trial: Trial) -> None:
    log_prob = trial.model.log_prob

    def off(x: Tensor, *rest: Tensor, reduce: bool = True, **given: Tensor) -> Tensor:
        terms = log_prob(x, *rest, reduce=False, **given) + 0.1
        return terms.flatten(1).sum(1) if reduce else terms  # type: ignore[no-any-return]

    trial.model.log_prob = off


def infinite_gradient(trial: Trial) -> None:
    log_prob = trial.model.log_prob
    trial.model.log_prob = lambda x, **given: log_prob(x, **given) * torch.inf


def forgets_lengths(trial: Trial) -> None:
    log_prob = trial.model.log_prob
    trial.model.log_prob = lambda x, lengths=None, **given: log_prob(x, **given)


def forgets_the_generator(trial: Trial) -> None:
    sample = trial.model.sample
    trial.model.sample = lambda n, generator=None, **given: sample(n, **given)


def gradient_without_a_number(trial: Trial) -> None:
    next(trial.model.parameters()).register_hook(lambda gradient: gradient * torch.nan)


def steps_by_whole_forwards(trial: Trial) -> None:
    """Right parameters, at the cost of a parallel forward each."""
    model, start, step = trial.model, trial.model.start, trial.model.step

    def costly(x_prev: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        shape = (state.batch, *state.shape)
        model(torch.zeros(shape, dtype=torch.long), **state.conditions)
        return step(x_prev, state)  # type: ignore[no-any-return]

    assert start is not None
    model.step = costly


def changes_what_is_known(trial: Trial) -> None:
    sample = trial.model.sample
    trial.model.sample = lambda n, prompt=None, **given: sample(n, prompt=(prompt + 1) % 5, **given)


def says_it_stands_elsewhere(trial: Trial) -> None:
    start = trial.model.start

    def moved(*given: Any, **more: Any) -> Any:
        state = start(*given, **more)
        state.at = (state.at[0] + 1, *state.at[1:])
        return state

    trial.model.start = moved


Damage = Callable[[Trial], None] | tuple[str, str]
"""What is done to a model, or a passage of its file and what takes its place."""
Broken = tuple[str, Damage, Callable[[Trial], Check | None]]
BROKEN: list[Broken] = [
    ("strings_conv", sees_ahead, check_causality),
    ("strings_conv", sees_less, check_receptive_field),
    ("series_gaussian", sees_conditions_ahead, check_conditions),
    ("strings_conv", depends_on_the_length, check_prefix),
    ("strings_conv", wrong_density, check_log_prob),
    ("strings_conv", infinite_gradient, check_gradients),
    ("strings_conv", gradient_without_a_number, check_gradients),
    ("strings_conv", forgets_lengths, check_lengths),
    ("strings_conv", forgets_the_generator, check_sample),
    ("strings_conv", says_it_stands_elsewhere, check_step),
    ("strings_conv", steps_by_whole_forwards, check_operations),
    ("strings_conv", changes_what_is_known, check_observed),
    # a leak: the window of every convolution one position late
    ("wavenet", ("F.pad(x, (0, 0, self.reach, 0))", "F.pad(x, (0, 0, self.reach - 1, 1))"),
     check_causality),
    # the step forgets the taps on earlier positions
    ("wavenet", ("weight[:, :, kept].permute", "(0 * weight[:, :, kept]).permute"), check_step),
    # it reads a wrong slot of the ring
    ("wavenet", ("slots = (newest[:, None] - self.age)",
                 "slots = (newest[:, None] + 1 - self.age)"), check_step),
    # a recorded step leaves the newest input where it was
    ("wavenet", ("step.x.copy_(x)", "pass"), check_step),
    # two branches of a state share what they keep
    ("wavenet", ("ring=self.ring.clone()", "ring=self.ring"), check_step),
    # a prompt is kept in the wrong slots
    ("wavenet", ("place % cache.size", "(place + 1) % cache.size"), check_prompts),
    # the keys of a prompt are not kept
    ("gpt2", ("self.keys[:, :, slots] = k[:, :, begin:end]", "pass"), check_prompts),
    # an output of green is computed by the weights of red
    ("pixelcnn", ("matrix, bias = self.groups[channel]", "matrix, bias = self.groups[0]"),
     check_step),
    # after a known run the sampler goes on from zeros
    ("gpt2", ("x[..., :number] if number else None", "0 * x[..., :number] if number else None"),
     check_observed),
    # every step evaluates all of the model twice
    ("strings_conv", ("return state.step(self, x_prev)",
                      "state.clone().step(self, x_prev); return state.step(self, x_prev)"),
     check_operations),
]  # fmt: skip


def label(value: Any) -> str:
    return str(value if isinstance(value, str) else getattr(value, "__name__", "text"))


def broken(trial: Trial, name: str, damage: Damage) -> Trial:
    """The trial with its model damaged."""
    if callable(damage):
        damage(trial)
        return trial
    right, wrong = damage
    text = compiler.emit(analysed(name))
    assert right in text, f"the emitted file has changed: {right}"
    model = load(text.replace(right, wrong), trial.model.__class__.__name__).double().eval()
    found = replace(trial, model=model)
    found.redraw(11)
    return found


@pytest.mark.parametrize(("name", "damage", "check"), BROKEN, ids=label)
def test_a_wrong_model_fails(
    name: str, damage: Damage, check: Callable[[Trial], Check | None]
) -> None:
    trial = trial_of(name)
    good = check(trial)
    assert good is not None
    assert good.passed
    bad = check(broken(trial, name, damage))
    assert bad is not None
    assert not bad.passed


def test_every_check_is_shown_to_fail() -> None:
    assert {check for _, _, check in BROKEN} == {*CHECKS} - {check_sampler}  # it only tells


def test_a_wrong_claim_fails() -> None:
    trial = trial_of("strings_conv")
    claim = trial.proof.receptive_field["time"]
    assert claim is not None
    for other in (claim - 1, claim + 1, None):
        proof = replace(trial.proof, receptive_field={"time": other})
        assert not check_receptive_field(replace(trial, proof=proof)).passed


SIDES = {
    "a maximum of a group": (
        ["a: {conv: 2, to: 4}", "b: {pool: 4, kind: max}", "c: {up: 4, of: b(time - 1)}", "out: c"],
        {ALWAYS, ONE},
        5,
    ),
    "a maximum so far": (
        ["a: {conv: 2, to: 4}", "out: {pool: prefix, kind: max}"],
        {ALWAYS, ONE},
        None,
    ),
    "a mean": (
        ["a: {conv: 2, to: 4}", "b: {pool: 4}", "out: {up: 4, of: b(time - 1)}"],
        {ALWAYS},
        5,
    ),
    "the first is lost outside the grid": (
        [
            "a: {linear: 4, of: y(time - 1)}",
            "b: {conv: {time: 2..2}}",
            "out: {gru: 4, of: b(time - 3)}",
        ],
        {ALWAYS},
        None,
    ),
    "far behind": (["out: {linear: 4, of: y(time - 60)}"], {ALWAYS}, 1),
    "or": (
        ["a: {conv: 2, to: 4}", "f: {linear: 4, of: y(time - 5)}", "out: a(time - 2) or f"],
        {ALWAYS, OUTSIDE},
        3,
    ),
    "or, of what is not drawn": (
        ["a: {conv: 2, to: 4}", "w: {weight: 4}", "out: a(time - 2) or w"],
        {ALWAYS},
        2,
    ),
}


@pytest.mark.parametrize(("lines", "kinds", "claim"), SIDES.values(), ids=SIDES)
def test_fields_behind_maxima_and_or(lines: list[str], kinds: set[str], claim: int | None) -> None:
    """Maxima are measured as exactly as the rest; of `or` its left side is."""
    text = "name: drawn\nvariables:\n  y: {features: 2, axes: [time]}\ngenerate: y\nnetwork:\n"
    text += "".join(f"  {line}\n" for line in lines) + "head: gaussian\n"
    trial = make_trial(compiler.analyse("-", {}, io.StringIO(text)))
    assert dependences(trial.graph) == kinds
    assert trial.proof.receptive_field["time"] == claim
    found = check_receptive_field(trial)
    assert found.passed, found.detail
    wrong = [40] if claim is None else [claim + 1, claim - 1 or None, None]
    for other in [] if OUTSIDE in kinds else wrong:
        proof = replace(trial.proof, receptive_field={"time": other})
        assert not check_receptive_field(replace(trial, proof=proof)).passed


def test_what_or_reads_inside_the_grid_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name: drawn\nvariables:\n  y: {features: 2, axes: [time]}\ngenerate: y\nnetwork:\n"
    text += "  a: {conv: 2, to: 4}\n  f: {linear: 4, of: y(time - 5)}\n  out: a(time - 2) or f\n"
    trial = make_trial(compiler.analyse("-", {}, io.StringIO(f"{text}head: gaussian\n")))
    assert "the others read at the border alone" in check_receptive_field(trial).detail
    monkeypatch.setattr(verify_reach, "_away_from_borders", lambda graph: {"time": 3})
    assert not check_receptive_field(trial).passed


# --- what a report says ---------------------------------------------------------------------------


def test_a_check_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_step(trial: Trial) -> Check:
        raise IndexError("there is no such slot")

    monkeypatch.setattr("arspec.verifier.CHECKS", (check_causality, check_step))
    report = verify(SPECS / "strings_conv.yaml")
    assert not report.passed
    assert report.checks[-1] == Check("step", False, "IndexError: there is no such slot")


def test_a_naive_sampler_is_named_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def unplanned(*_: Any) -> None:
        raise Unplanned("nothing is derived")

    from arspec import emit
    from arspec.stepping import Unplanned

    monkeypatch.setattr(emit, "plan", unplanned)
    report = verify(SPECS / "strings_conv.yaml")
    assert report.passed
    details = {check.name: check.detail for check in report.checks}
    assert details["sampler"].startswith("naive")
    assert "operations" not in details


def test_parameters_without_a_gradient_are_named() -> None:
    found = check_gradients(trial_of("wavenet"))
    last = (
        2 * 3 - 1
    )  # of two stacks with dilations 1, 2, 4: what its dense layer gives, nobody reads
    assert found.passed
    assert f"`layers.{last}.dense.weight`" in found.detail
    assert "0 of" not in found.detail


def test_the_json_has_figures_and_tolerances(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["verify", str(SPECS / "strings_conv.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "strings_conv"
    assert found["passed"] is True
    step = next(check for check in found["checks"] if check["name"] == "step = parallel")
    assert 0 <= step["figure"] <= step["tolerance"] == 1e-9


def test_a_figure_that_is_no_number_is_a_string_in_json() -> None:
    report = Report("some", (Check("step", False, "far", torch.inf, 1e-9),))
    assert report.to_json()["checks"][0]["figure"] == "inf"


# --- what it measures with ------------------------------------------------------------------------


def test_a_large_model_is_measured_with_smaller_widths() -> None:
    asked = compiler.analyse("wavenet", {"skip_width": "512"})
    found, changed = narrowed(asked)
    assert set(changed) == {"width", "classes", "speakers", "bands"}  # no depth, no dilation
    assert found.model.parameters < asked.model.parameters / 3
    assert found.proof.to_json() == asked.proof.to_json()
    small = analysed("wavenet")
    assert narrowed(small) == (small, {})


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (lambda: F.linear(torch.ones(2, 3, 5), torch.ones(7, 5)), 2 * 3 * 5 * 7),
        (lambda: torch.addmm(torch.ones(4), torch.ones(2, 3), torch.ones(3, 4)), 2 * 3 * 4),
        (lambda: torch.ones(2, 3, 4) @ torch.ones(2, 4, 5), 2 * 3 * 4 * 5),
        (lambda: torch.ones(3, 4) @ torch.ones(4), 3 * 4),
        (lambda: torch.einsum("bi,io->bo", torch.ones(2, 3), torch.ones(3, 4)), 2 * 3 * 4),
        (lambda: F.conv1d(torch.ones(2, 4, 9), torch.ones(6, 2, 3), None, 1, 0, 2, 2), 2 * 5 * 36),
        (lambda: F.conv2d(torch.ones(1, 2, 8, 8), torch.ones(3, 2, 3, 3), stride=2), 9 * 54),
        (lambda: F.conv_transpose1d(torch.ones(1, 2, 5), torch.ones(2, 3, 4)), 2 * 5 * 12),
        (lambda: torch.ones(5) * 2 + 1, 0),
    ],
)  # fmt: skip
def test_multiply_adds_are_counted(run: Callable[[], Tensor], count: int) -> None:
    with Operations() as operations:
        run()
    assert operations.kinds == {"by weights": count, "in attention": 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_counted_apart(dtype: torch.dtype) -> None:
    q, k, v = (torch.ones(2, 3, n, size, dtype=dtype) for n, size in ((4, 6), (5, 6), (5, 7)))
    with Operations() as operations:
        F.scaled_dot_product_attention(q, k, v)
    assert operations.kinds == {"by weights": 0, "in attention": 2 * 3 * 4 * 5 * (6 + 7)}


def test_a_difference_is_relative_and_nan_is_far() -> None:
    big = torch.tensor([1000.0, torch.inf])
    assert distance(torch.tensor([1001.0, torch.inf]), big) == 1e-3
    assert distance(torch.tensor([1000.0, torch.nan]), big) == torch.inf
    assert distance(torch.tensor([1000.0, 5.0]), big) == torch.inf


class Reads(nn.Module):
    """Symbols by an embedding, and the sum of two neighbours as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        pairs = (x + x.roll(2, 1)).double()
        out: Tensor = self.table(x).roll(1, 1) + pairs[..., None] * self.scale
        return out


def test_owners_of_what_is_read_are_found_by_digits_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.arange(14).reshape(2, 7) % 5
    eye = torch.eye(7, dtype=torch.bool)
    expected = eye | eye.roll(1, 0) | eye.roll(2, 0)
    assert measure.dependency(Reads(), x, classes=5).equal(expected)
    monkeypatch.setattr(measure, "_single_owners", lambda _, differs: [None] * len(differs(x[0])))
    assert measure.dependency(Reads(), x, classes=5, perturb=False).equal(expected)
