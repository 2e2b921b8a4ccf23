"""Recursions by equation: against plain loops, and their steps against the forward."""

import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import both
from stepwise import EXACT, Case, Draws, calm, difference, make_case, of_text, one_thread
from test_sampler import check_branches, masks
from torch import Tensor, nn

from arspec import compiler
from arspec.diagnostics import SpecError

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
PAPERS = Path(__file__).parent / "specs_papers"
CLOSE = 1e-12


def paper(name: str, **params: Any) -> Case:
    return make_case(PAPERS / f"{name}.yaml", params=params, lengths={"time": 12})


def worst(this: Case) -> float:
    """The largest difference between steps behind any prompt and the forward."""
    return max(difference(this, slabs) for slabs in range(this.length))


def parameters(this: Case) -> Tensor:
    with torch.no_grad():
        params: Tensor = this.model(this.x)
    return params


def test_arma() -> None:
    """Box and Jenkins: level(t) = c + phi1 y(t-1) + phi2 y(t-2) + theta error(t-1)."""
    this = paper("arma")
    m: Any = this.model
    with torch.no_grad():
        m.theta.mul_(0.3)
    found = parameters(this)
    c, phi1, phi2, theta = (p.item() for p in (m.c, m.phi1, m.phi2, m.theta))
    for row, y in enumerate(this.x[:, 0].tolist()):
        error = 0.0
        for t in range(len(y)):
            level = c + phi1 * (y[t - 1] if t else 0) + phi2 * (y[t - 2] if t > 1 else 0)
            level += theta * error
            error = y[t] - level
            assert abs(found[row, t, 0].item() - level) < CLOSE
    assert this.derived  # `error` is evaluated a step later than `level`
    assert worst(this) < EXACT


def test_garch() -> None:
    """Bollerslev: h(t) = omega + alpha shock(t-1)^2 + beta h(t-1), h(-1) its mean."""
    this = paper("garch")
    m: Any = this.model
    found = parameters(this)
    mu, omega, alpha, share, nu = (
        x.item() for x in (m.mu, m.omega(), m.alpha(), m.share(), m.nu())
    )
    beta = share * (1 - alpha)
    for row, r in enumerate(this.x[:, 0].tolist()):
        variance = omega / (1 - alpha - beta)
        for t in range(len(r)):
            shock = r[t - 1] - mu if t else 0.0
            variance = omega + alpha * shock**2 + beta * variance
            scale = (variance * (nu - 2) / nu) ** 0.5
            wanted = torch.tensor([mu, math.log(scale), math.log(nu)], dtype=torch.float64)
            assert (found[row, t] - wanted).abs().max() < CLOSE
    assert this.derived
    assert worst(this) < EXACT


def test_elman_is_a_plain_network_of_torch() -> None:
    this = paper("elman", n=5)
    m: Any = this.model
    other = nn.RNN(5, 5, batch_first=True).double()
    with torch.no_grad():
        other.weight_ih_l0.copy_(m.a.weight)
        other.weight_hh_l0.copy_(m.b.weight)
        other.bias_ih_l0.copy_(m.b.bias)
        other.bias_hh_l0.zero_()
        wanted = m.head(other(m.x_shift(m.x(this.x)))[0])
    assert (parameters(this) - wanted).abs().max() < CLOSE
    assert this.derived
    assert worst(this) < EXACT


START = """name: drawn
variables:
  y: {classes: 5, axes: [time]}
  c: {features: 2, axes: [time], known: all}
generate: y
"""
BODIES = {
    "taps on lines of their own": "network:\n  s: {embed: 4, of: y(time - 1)}\n"
    "  a: {linear: 4, of: h(time - 1)}\n  b: {linear: 4, of: h(time - 2)}\n"
    "  h: tanh(s + a + b)\n",
    "a chain that is no part of it": "network:\n  chained: [{linear: 4, of: c}, {pool: all}]\n"
    "  s: {linear: 4, of: y_read, given: chained}\n  y_read: {embed: 4, of: y(time - 1)}\n"
    "  out: tanh(s + 0.5 * out(time - 1))\n",
    "two positions back": "network:\n  s: {embed: 4, of: y(time - 1)}\n"
    "  out: tanh(s + 0.5 * out(time - 2))\n",
    "in the order of need": "network:\n  b: tanh(a(time - 1)) + d\n  a: sigmoid(b) * s(time - 1)\n"
    "  d: {linear: 4, of: c}\n  s: {embed: 4, of: y(time - 1)}\n  out: a + b\n",
    "no cycle after all": "network:\n  b: tanh(a(time - 1))\n  a: {embed: 4, of: y}\n  out: b\n",
    "outside": "network:\n  s: {embed: 4, of: y(time - 1)}\n  z: {weight: 4}\n"
    "  out: tanh(s + (out(time - 1) or z) * (out(time - 3) or s))\n",
    "given": "network:\n  s: {embed: 4, of: y(time - 1)}\n"
    "  b: {linear: 4, of: h(time - 1), given: [c, s]}\n  h: tanh(s + b)\n",
    "in blocks": "blocks:\n  layer(x):\n    b: {linear: 4, of: h(time - 1)}\n    h: tanh(x + b)\n"
    "network:\n  s: {embed: 4, of: y(time - 1)}\n  out: {use: layer, repeat: 2}\n",
    "names": "network:\n  earlier: {embed: 4, of: y(time - 1)}\n  earlier_t: {linear: 4, of: c}\n"
    "  out: tanh(earlier + earlier_t + 0.5 * out(time - 1))\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_steps_equal_the_forward(name: str) -> None:
    body = BODIES[name]
    if "c" not in re.findall(r"\bc\b", body):
        body += "  end: {linear: 4, given: c}\n"
    this = of_text(f"{START}{body}head: categorical\n")
    assert this.derived
    assert worst(this) < EXACT


SERIES = """name: drawn
variables:
  y: {features: WIDTH, axes: [time]}
  c: {features: 2, axes: [time], known: all}
generate: y
network:
  x: {linear: WIDTH, of: c}
  sigma: {weight: WIDTH, within: 0.., init: 1}
  theta: {weight: 1}
"""
GIVEN = "head: {gaussian: 1, mean: level, scale: sigma}\n"
STAGED = {
    "a moving average of vectors": (
        2,
        "  a: {linear: 2, of: y(time - 1), given: c}\n"
        "  b: {linear: 2, of: error(time - 1), bias: false}\n"
        "  level: x + a + b * theta\n  error: y - level\n" + GIVEN,
    ),
    "differences": (
        1,
        "  change: y(time - 1) - y(time - 2)\n"
        "  level: x + y(time - 1) + 0.2 * change + theta * error(time - 1) - error(time - 3)\n"
        "  error: y - level\n" + GIVEN,
    ),
    "the risk in the mean": (
        1,
        "  omega: {weight: 1, within: 0.., init: 1}\n"
        "  h: omega + 0.3 * shock(time - 1) ** 2 + 0.4 * (h(time - 1) or omega)\n"
        "  level: x + theta * sqrt(h)\n  shock: y - level\n"
        "head: {gaussian: 1, mean: level, scale: sqrt(h) + sigma}\n",
    ),
    "outside": (
        1,
        "  level: x + theta * (error(time - 2) or 0.5) + 0.3 * (level(time - 1) or x)\n"
        "  error: y - level\n" + GIVEN,
    ),
    "exponential smoothing": (
        1,
        "  level: (base(time - 1) or 0.1) + (slope(time - 1) or theta) + x\n"
        "  error: y - level\n  base: level + 0.3 * error\n"
        "  slope: (slope(time - 1) or theta) + 0.2 * error\n" + GIVEN,
    ),
    "three lines, read by others": (
        1,
        "  level: x + 0.3 * error(time - 1) + 0.1 * third(time - 2)\n"
        "  error: tanh(y - level)\n  third: error * level + 0.2 * third(time - 1)\n"
        "  m: {conv: 3, of: error, to: 4, mask: A}\n  n: {linear: 4, of: third(time - 1)}\n"
        "  out: m + n + level * sigma * theta\nhead: gaussian\n",
    ),
}


def staged(name: str) -> Case:
    width, lines = STAGED[name]
    return calm(of_text((SERIES + lines).replace("WIDTH", str(width))))


@pytest.mark.parametrize("name", STAGED)
def test_lines_of_a_recursion_stand_at_several_places(name: str) -> None:
    """What needs the value drawn is evaluated a step later than what does not."""
    this = staged(name)
    assert "StagedRecursion" in this.text
    assert this.derived
    assert worst(this) < EXACT
    check_branches(this)
    drawn, forward = both(this)
    assert drawn.weights <= forward.weights


@pytest.mark.parametrize("name", STAGED)
def test_they_start_anywhere(name: str) -> None:
    this = staged(name)
    for _, observed in masks(this):
        draws = Draws(this)
        draws.check(draws(prompt=this.x, observed=observed))


STACKED = """name: drawn
variables:
  y: {features: 1, axes: [time]}
generate: y
blocks:
  layer(x):
    level: 0.2 * x(time - 1) + 0.3 * error(time - 1)
    error: tanh(x - level)
    out: level(time - 1) + error
network:
  r: {use: layer, of: y, repeat: 2}
  out: {linear: 4, of: r(time - 1)}
head: gaussian
"""


def test_stacked() -> None:
    this = of_text(STACKED)
    assert this.derived
    assert worst(this) < EXACT


REFUSED = {
    "a block": (["b: {use: layer, of: h(time - 1)}", "h: tanh(s + b)"], "a block", "b"),
    "a window": (["b: {conv: 2, of: h(time - 1)}", "h: tanh(s + b)"], "a window", "b"),
    "a window, literal": (["h: tanh(s + b)", "b: {conv: {time: -2..-1}, of: h}"], "a window", "b"),
    "states": (["h: tanh(s + b)", "b: {gru: 4, of: h(time - 1)}"], "a window", "b"),
    "a chain": (
        ["b: [{linear: 4, of: h(time - 1)}, relu]", "h: tanh(s + b)"],
        "several parts",
        "b",
    ),
    "a shift ahead": (["h: tanh(s + b(time - 2))", "b: tanh(h(time + 1))"], "a shift ahead", "b"),
}


@pytest.mark.parametrize(("lines", "what", "where"), REFUSED.values(), ids=REFUSED)
def test_what_a_loop_over_time_cannot_hold_is_refused(
    lines: list[str], what: str, where: str
) -> None:
    """On its own line, whichever of the lines stands first: no guess of it is judged."""
    body = "".join(f"  {line}\n" for line in [*lines, "end: tanh(h)"])
    blocks = "blocks:\n  layer(x):\n    out: {linear: 4}\n" if what == "a block" else ""
    text = (
        f"{START}network:\n  s: {{embed: 4, of: y(time - 1), given: c}}\n{body}"
        f"head: categorical\n{blocks}"
    )
    found = compiler.analyse("-", {}, io.StringIO(text))
    assert found.proof.causal
    with pytest.raises(SpecError) as refusal:
        compiler.emit(found)
    (only,) = refusal.value.diagnostics
    assert (only.code, only.span and text.splitlines()[only.span.line - 1].split(":")[0]) == (
        "AR501",
        f"  {where}",
    )
    assert what in only.message
    assert "recursion" in only.message


def test_a_window_over_a_recursion_without_an_axis_is_refused_all_the_same() -> None:
    text = (
        f"{START}network:\n  w: {{weight: 4}}\n  b: {{conv: 2, of: h}}\n  h: tanh(w + b)\n"
        "  out: {embed: 4, of: y(time - 1), given: [c, h]}\nhead: categorical\n"
    )
    with pytest.raises(SpecError, match="AR308"):
        compiler.analyse("-", {}, io.StringIO(text))
