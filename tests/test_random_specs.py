"""The proof against the compiled module, on random specs: no verdict and no extent may differ.

The proof reads the spec, the measurement nothing but the module's behaviour; they share no code.
"""

from __future__ import annotations

import io

import pytest
from random_specs import random_spec

from arspec import compiler
from arspec.verifier import (
    Check,
    check_causality,
    check_conditions,
    check_lengths,
    check_prefix,
    check_receptive_field,
    make_trial,
)

COUNT = 50


def analysed(text: str) -> compiler.Analysis:
    return compiler.analyse("-", {}, io.StringIO(text))


def compare(seed: int) -> bool:
    """Compare one spec; whether it is causal."""
    text = random_spec(seed)
    analysis = analysed(text)
    trial = make_trial(analysis)
    assert sum(p.numel() for p in trial.model.parameters()) == analysis.parameter_count, text
    own = check_causality(trial)
    of_conditions = check_conditions(trial) or Check("conditions", True, "")
    causal = own.passed and of_conditions.passed
    assert causal == analysis.proof.causal, f"{own.detail}; {of_conditions.detail}\n{text}"
    if own.passed:  # what a leak reads cannot lie in the interior of a grid that ends at its output
        field = check_receptive_field(trial)
        assert field.passed, f"{field.detail}\n{text}"
    if causal:
        for check in (check_prefix(trial), check_lengths(trial)):
            assert check is None or check.passed, f"{check.name}: {check.detail}\n{text}"
    return causal


@pytest.mark.parametrize("seed", range(COUNT))
def test_proof_agrees_with_measurement(seed: int) -> None:
    compare(seed)


def test_both_verdicts_occur() -> None:
    verdicts = [analysed(random_spec(seed)).proof.causal for seed in range(COUNT)]
    assert COUNT / 5 < sum(verdicts) < COUNT * 4 / 5


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(COUNT, 2000))
def test_more_of_them(seed: int) -> None:
    compare(seed)
