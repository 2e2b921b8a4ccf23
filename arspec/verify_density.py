"""The log-density and its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from arspec.verify_sizes import small_lengths
from arspec.verify_trial import EXACT, Check, Trial, distance, within

ENUMERATED = 1024
"""Symbols up to which the probabilities of all of them are summed."""
NAMED = 6
"""Parameters without a gradient that are listed by name."""


def check_log_prob(trial: Trial) -> Check:
    """log p(x) is the sum over positions, and of a discrete variable each term is normalised."""
    x, conditions = trial.inputs(small_lengths(trial))
    with torch.no_grad():
        whole = trial.model.log_prob(x, **conditions)
        terms = trial.model.log_prob(x, **conditions, reduce=False)
        error = distance(whole, terms.flatten(1).sum(1))
        what = f"off the sum over {terms[0].numel()} positions"
        summed = within("log-density", error, EXACT, what)
        if not whole.isfinite().all():
            return Check("log-density", False, "not finite")
        if not summed.passed or trial.target.joint or not 0 < trial.target.count <= ENUMERATED:
            return summed
        if trial.target.classes is None:
            return summed
        off = max(abs(total - 1) for total in _totals(trial, x, conditions))
    return within("log-density", max(error, off), EXACT, f"{what}, and each of them off 1 in total")


def _totals(trial: Trial, x: Tensor, conditions: dict[str, Tensor]) -> Iterator[float]:
    """The probabilities of all symbols at some positions of the first row, summed."""
    symbols = torch.arange(trial.target.count)
    given = {
        name: value[:1].expand(len(symbols), *value.shape[1:]) for name, value in conditions.items()
    }
    count = x[0].numel()
    for position in sorted({0, count // 2, count - 1}):
        rows = x[:1].flatten(1).repeat(len(symbols), 1)
        rows[:, position] = symbols
        terms = trial.model.log_prob(rows.reshape(-1, *x.shape[1:]), **given, reduce=False)
        yield float(terms.flatten(1)[:, position].double().exp().sum())


def check_lengths(trial: Trial) -> Check | None:
    """What lies at or beyond a row's length counts nothing and influences nothing."""
    if len(trial.graph.axes) > 1:
        return None
    lengths = small_lengths(trial)
    n = lengths[trial.graph.axes[0]]
    x, conditions = trial.inputs(lengths)
    other, _ = trial.inputs(lengths, seed=1)
    kept = torch.tensor([n // 2, n])
    inside = torch.arange(n) < kept[:, None]
    if trial.target.channels is not None:
        inside = inside[:, None]
    with torch.no_grad():
        terms = trial.model.log_prob(x, **conditions, reduce=False).reshape(len(x), -1, n)
        expected = (terms * inside.reshape(len(x), 1, n)).flatten(1).sum(1)
        cut = trial.model.log_prob(torch.where(inside, x, other), kept, **conditions)
    return within("lengths", distance(cut, expected), EXACT, f"rows of {n // 2} and {n} in a batch")


def check_gradients(trial: Trial) -> Check:
    """Every gradient of the mean log-density is finite. Those that are missing are named.

    A parameter without any, or with zeros alone at every redraw, is no defect of the compiled
    code: nothing that is drawn depends on it.
    """
    x, conditions = trial.inputs(small_lengths(trial))
    alive: set[str] = set()
    wrong: set[str] = set()
    names = [name for name, _ in trial.model.named_parameters()]
    for seed in trial.seeds:
        trial.redraw(seed)
        trial.model.zero_grad()
        trial.model.log_prob(x, **conditions).mean().backward()
        for name, parameter in trial.model.named_parameters():
            gradient = parameter.grad
            if gradient is not None and not gradient.isfinite().all():
                wrong.add(name)
            elif gradient is not None and gradient.any():
                alive.add(name)
    trial.model.zero_grad()
    if wrong:
        return Check("gradients", False, f"not finite: {_listed(sorted(wrong))}", len(wrong), 0)
    dead = [name for name in names if name not in alive]
    detail = f"finite; {len(alive)} of {len(names)} parameters have one"
    if dead:
        detail += f", not {_listed(dead)}"
    return Check("gradients", bool(alive), detail, 0, 0)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:NAMED]) + more
