"""`verify` itself: it passes what is right, and each of its checks can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from arspec import compiler
from arspec.verifier import (
    CHECKS,
    Check,
    Trial,
    check_causality,
    check_conditions,
    check_gradients,
    check_lengths,
    check_log_prob,
    check_prefix,
    check_receptive_field,
    check_sample,
    make_trial,
    verify,
)

SPECS = Path(__file__).parent / "specs"


def trial_of(name: str) -> Trial:
    return make_trial(compiler.analyse(SPECS / f"{name}.yaml"))


@pytest.mark.parametrize(
    "name",
    ["strings_conv", "strings_window", "binary_gated", "rgb", "conditioned", "series_gaussian"],
)
def test_a_right_model_passes(name: str) -> None:
    report = verify(SPECS / f"{name}.yaml")
    assert [check for check in report.checks if not check.passed] == []
    assert report.passed
    assert {"causality", "receptive field", "log-density"} <= {c.name for c in report.checks}


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


Broken = tuple[str, Callable[[Trial], None], Callable[[Trial], Check | None]]
BROKEN: list[Broken] = [
    ("strings_conv", sees_ahead, check_causality),
    ("strings_conv", sees_less, check_receptive_field),
    ("series_gaussian", sees_conditions_ahead, check_conditions),
    ("strings_conv", depends_on_the_length, check_prefix),
    ("strings_conv", wrong_density, check_log_prob),
    ("strings_conv", infinite_gradient, check_gradients),
    ("strings_conv", forgets_lengths, check_lengths),
    ("strings_conv", forgets_the_generator, check_sample),
]


@pytest.mark.parametrize(
    ("name", "damage", "check"), BROKEN, ids=lambda v: getattr(v, "__name__", v)
)
def test_a_wrong_model_fails(
    name: str, damage: Callable[[Trial], None], check: Callable[[Trial], Check | None]
) -> None:
    trial = trial_of(name)
    good = check(trial)
    assert good is not None
    assert good.passed
    damage(trial)
    bad = check(trial)
    assert bad is not None
    assert not bad.passed


def test_every_check_is_shown_to_fail() -> None:
    assert {check for _, _, check in BROKEN} == set(CHECKS)


def test_a_wrong_claim_fails() -> None:
    trial = trial_of("strings_conv")
    claim = trial.proof.receptive_field["time"]
    assert claim is not None
    for other in (claim - 1, claim + 1, None):
        proof = replace(trial.proof, receptive_field={"time": other})
        assert not check_receptive_field(replace(trial, proof=proof)).passed
