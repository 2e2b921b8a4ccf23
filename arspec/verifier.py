"""Measure on the compiled module what was proven from the spec, and what every model promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from arspec.measure import SEEDS, plain_kernels
from arspec.verify_density import check_gradients, check_lengths, check_log_prob
from arspec.verify_reach import (
    check_causality,
    check_conditions,
    check_prefix,
    check_receptive_field,
)
from arspec.verify_sampler import (
    check_observed,
    check_operations,
    check_prompts,
    check_sample,
    check_sampler,
    check_step,
)
from arspec.verify_trial import Check, Trial, make_trial


@dataclass(frozen=True, slots=True)
class Report:
    """Every measurement of one model."""

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """What `arspec verify --json` prints; a figure that is not finite as a string."""
        checks = [asdict(check) for check in self.checks]
        for check in checks:
            if check["figure"] is not None and not isfinite(check["figure"]):
                check["figure"] = str(check["figure"])
        return {"name": self.name, "passed": self.passed, "checks": checks}


CHECKS: tuple[Callable[[Trial], Check | None], ...] = (
    check_causality,
    check_conditions,
    check_receptive_field,
    check_prefix,
    check_log_prob,
    check_lengths,
    check_gradients,
    check_sampler,
    check_step,
    check_prompts,
    check_observed,
    check_operations,
    check_sample,
)
"""In the order of the report; None where there is nothing to measure."""


def verify(spec: Any, params: Mapping[str, Any] | None = None, /, **more: Any) -> Report:
    """Compile `spec`, its parameters changed as given, and measure it.

    A large model is measured with smaller widths, see `narrowed`.

    Raises: SpecError for a spec that is wrong, NotCausal for one that leaks.
    """
    from arspec import compiler
    from arspec.verify_shrink import narrowed

    asked = compiler.require_causal(compiler.analyse(spec, {**(params or {}), **more}))
    analysis, changed = narrowed(asked)
    found: list[Check | None] = [_widths(changed)] if changed else []
    trial = make_trial(analysis)
    with plain_kernels():
        for check in CHECKS:
            trial.redraw(SEEDS[0])
            found.append(_outcome(check, trial))
    return Report(asked.spec.name, tuple(check for check in found if check is not None))


def _outcome(check: Callable[[Trial], Check | None], trial: Trial) -> Check | None:
    """What a check finds; a model that raises has failed it."""
    try:
        return check(trial)
    except Exception as failure:
        first_line = f"{type(failure).__name__}: {failure}".splitlines()[0]
        return Check(check.__name__.removeprefix("check_"), False, first_line)


def _widths(changed: Mapping[str, int]) -> Check:
    """Which params were made smaller, as a line of the report."""
    values = ", ".join(f"{name} = {value}" for name, value in changed.items())
    return Check("widths", True, f"measured with {values}; what is --set stays")


__all__ = [
    "CHECKS",
    "Check",
    "Report",
    "Trial",
    "check_causality",
    "check_conditions",
    "check_gradients",
    "check_lengths",
    "check_log_prob",
    "check_observed",
    "check_operations",
    "check_prefix",
    "check_prompts",
    "check_receptive_field",
    "check_sample",
    "check_sampler",
    "check_step",
    "make_trial",
    "verify",
]
