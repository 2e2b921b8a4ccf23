"""Drawing all positions does what one parallel forward does, counted and not predicted."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import Count, both, counted
from random_specs import random_spec
from shipped import SMALL, small_spec
from stepwise import Case, make_case, of_text, one_thread
from torch import nn
from torch.nn import functional as F

from arspec import compiler
from arspec.schedule import schedule
from arspec.schedule_counts import Operations, operations

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

FOLDER = Path(__file__).parent / "specs"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
LENGTHS = {"time": 64, "frame": 4, "row": 9, "col": 6}
MOST = 1.05


# ---------------------------------------------------------------------------------- the counting


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: F.linear(ones(2, 5, 3), ones(4, 3), ones(4)), 2 * 5 * 3 * 4),
        (lambda: F.linear(ones(2, 5, 3), ones(4, 3)), 2 * 5 * 3 * 4),
        (lambda: nn.Linear(3, 4)(ones(3)), 3 * 4),
        (lambda: ones(2, 3) @ ones(3, 4), 2 * 3 * 4),
        (lambda: ones(6, 2, 3) @ ones(6, 3, 4), 6 * 2 * 3 * 4),
        (lambda: torch.einsum("abc,cd->abd", ones(6, 2, 3), ones(3, 4)), 6 * 2 * 3 * 4),
        (lambda: torch.addmm(ones(4), ones(2, 3), ones(3, 4)), 2 * 3 * 4),
        (lambda: torch.baddbmm(ones(6, 1, 4), ones(6, 2, 3), ones(6, 3, 4)), 6 * 2 * 3 * 4),
        (lambda: F.conv2d(ones(2, 3, 7, 9), ones(4, 3, 2, 3), ones(4)), 2 * 4 * 6 * 7 * 3 * 6),
        (lambda: F.conv1d(ones(2, 3, 9), ones(4, 3, 2), dilation=3), 2 * 4 * 6 * 3 * 2),
        (lambda: F.conv1d(ones(2, 6, 9), ones(6, 1, 2), groups=6), 2 * 6 * 8 * 2),
        (lambda: ones(4, 5) * 3 + F.relu(ones(5)), 0),
    ],
)
def test_products_are_counted(compute: Any, expected: int) -> None:
    with counted() as count:
        compute()
    assert count == Count(weights=expected)


@pytest.mark.parametrize("kind", ["causal", "mask", "plain", "grouped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_counted_once_and_apart(kind: str, dtype: torch.dtype) -> None:
    q, k = ones(2, 4, 5, 8).to(dtype), ones(2, 2 if kind == "grouped" else 4, 7, 8).to(dtype)
    mask = torch.ones(5, 7, dtype=torch.bool) if kind == "mask" else None
    with counted() as count:
        F.scaled_dot_product_attention(
            q, k, k, attn_mask=mask, is_causal=kind == "causal", enable_gqa=kind == "grouped"
        )
    assert count == Count(attention=2 * 4 * 5 * 7 * 8 * 2)


# ------------------------------------------------------------------------------------- both counted


def check(this: Case, most: float = MOST) -> None:
    drawn, forward = both(this)
    assert drawn.weights <= most * forward.weights, (drawn, forward)
    assert drawn.attention <= forward.attention, (drawn, forward)


@cache
def shipped(name: str) -> Case:
    lengths = {**LENGTHS, "time": SMALL[name].get("context", LENGTHS["time"])}
    return make_case(small_spec(name), params=SMALL[name], lengths=lengths)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_shipped_specs(name: str) -> None:
    check(shipped(name))


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    check(make_case(FOLDER / f"{name}.yaml", lengths=LENGTHS))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_one_forward_per_position_would_be_noticed(name: str) -> None:
    """What a sampler costs that keeps nothing."""
    this = shipped(name)
    with counted() as naive:
        for _ in this.places:
            this.model(this.x, **this.conditions)
    _, forward = both(this)
    assert naive.weights == len(this.places) * forward.weights
    assert naive.weights > 20 * forward.weights


@pytest.mark.parametrize("name", sorted(SMALL))
def test_sample_does_no_more_than_its_steps(name: str) -> None:
    """Drawing itself multiplies no matrices; a prompt costs a forward once."""
    this = shipped(name)
    sample: Any = this.model.sample
    drawn, forward = both(this)
    with counted() as count:
        sample(len(this.x), shape=this.shape, **this.conditions)
    assert count.weights <= MOST * forward.weights
    assert count.attention == drawn.attention
    prompt = this.prompt(this.length // 2)
    with counted() as count:
        sample(len(this.x), shape=this.shape, prompt=prompt, **this.conditions)
    assert count.weights <= 2 * forward.weights


# ------------------------------------------------------------------------------------- random specs

COUNT = 30


def random_case(seed: int) -> Case | None:
    """A causal spec with a derived sampler, nothing otherwise."""
    text = random_spec(seed, safe=True)
    analysis = compiler.analyse("-", {}, io.StringIO(text))
    if not analysis.proof.causal:
        return None
    this = make_case(analysis, batch=1, lengths=LENGTHS)
    return this if this.derived else None


def check_random(seed: int) -> None:
    """What looks ahead is begun before the first position: some slabs more, in proportion."""
    this = random_case(seed)
    if this is not None:
        check(this, MOST + 4 / this.length)


@pytest.mark.parametrize("seed", range(COUNT))
def test_random_specs(seed: int) -> None:
    check_random(seed)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(COUNT, 500))
def test_more_random_specs(seed: int) -> None:
    check_random(seed)


# ------------------------------------------------------------------------------- what was predicted


def predicted(text: str, shape: tuple[int, ...]) -> Operations:
    """By the schedule, batch 1."""
    analysis = compiler.analyse("-", {}, io.StringIO(text))
    return operations(schedule(analysis.model.terms[0].graph), shape)


PLAIN = """
name: drawn
variables:
  y: {{classes: 4, axes: [{axes}]}}
generate: y
defaults: {{linear: {{bias: false}}, conv: {{bias: false}}, attention: {{bias: false}}}}
network:{body}
head: {{categorical: 1, bias: false}}
"""

BODIES = {
    "one convolution": (("time",), "\n  out: {conv: 2, to: 3, of: y}"),
    "dilated convolutions": (
        ("time",),
        "\n  n0: {conv: 2, to: 3, of: y}\n  n1: {conv: 3, dilation: 4, to: 5}\n"
        "  out: {linear: 6, given: n0}",
    ),
    "rows and pixels": (
        ("row", "col"),
        "\n  v: {conv: {row: -2..-1, col: -1..1}, to: 5, of: y}\n"
        "  v1: {conv: {row: -1..0, col: -1..1}}\n"
        "  h: {conv: {row: 0, col: -2..-1}, to: 4, of: y, given: v1}\n"
        "  out: {linear: 7}",
    ),
}


@pytest.mark.parametrize(("axes", "body"), BODIES.values(), ids=BODIES)
def test_what_is_done_is_what_was_predicted(axes: tuple[str, ...], body: str) -> None:
    """To the last multiply-add, where nothing has a bias; equations count nothing here."""
    text = PLAIN.format(axes=", ".join(axes), body=body)
    this = of_text(text, batch=1, lengths=LENGTHS)
    drawn, forward = both(this)
    wanted = predicted(text, this.shape)
    assert (drawn.weights, forward.weights) == (wanted.sampler, wanted.parallel)


ATTENTION = "\n  n0: {{conv: 1, of: y}}\n  out: {{attention: 2{settings}}}"


@pytest.mark.parametrize("settings", ["", ", window: 5"])
def test_attention_is_what_was_predicted(settings: str) -> None:
    """Every query meets the keys that it may see, and what is missing to a block of 64 of them."""
    text = PLAIN.format(axes="time", body=ATTENTION.format(settings=settings))
    length = 160
    this = of_text(text, batch=1, lengths={"time": length})
    drawn, forward = both(this)
    wanted = predicted(text, this.shape)
    steps = range(1, length + 1)
    # A window has as many places as it is long, those before the first position empty.
    met = [5 if settings else min(-(-k // 64) * 64, length) for k in steps]
    seen = [min(k, 5) if settings else k for k in steps]
    pair = (wanted.sampler - drawn.weights) // sum(seen)
    assert wanted.sampler == drawn.weights + pair * sum(seen)
    assert drawn.attention == pair * sum(met) <= forward.attention
