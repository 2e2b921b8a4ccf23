"""Orders of drawing: a variable's axes are loops in that order, wherever its tensors have them.

A spec whose axes are declared in other places, and drawn as before, is the same model of permuted
tensors.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from random_specs import AXES, random_spec
from stepwise import EXACT, Case, Draws, calm, difference, of_text, one_thread
from torch import Tensor

from arspec import cli

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SEEDS = range(24)


def turned(text: str, seed: int) -> tuple[str, dict[str, list[int]]]:
    """The spec with the axes of its variables declared in other places, drawn in the old order.

    And where each variable's new axes were.
    """
    draw, axes = random.Random(seed), dict[str, list[int]]()
    found = re.findall(r"^  (\w+): \{.*axes: \[(.*)\]", text, re.MULTILINE)
    drawn = found[0][1]
    for name, listed in found:
        own = [part.strip() for part in listed.split(",")]
        places = list(range(len(own)))
        while len(own) > 1 and places == sorted(places):
            draw.shuffle(places)
        axes[name] = places
        form = rf"^(  {name}: \{{.*axes: \[){re.escape(listed)}\]"
        text = re.sub(form, rf"\g<1>{', '.join(own[k] for k in places)}]", text, flags=re.MULTILINE)
    if "order:" not in text:
        text = text.replace("\nblocks:", f"\norder: [{drawn}]\nblocks:", 1)
        if "order:" not in text:
            text = text.replace("\nnetwork:", f"\norder: [{drawn}]\nnetwork:", 1)
    return text, axes


def moved(x: Tensor, places: list[int], behind: int = 0) -> Tensor:
    """A tensor of the first spec as one of the second; `behind` the axes it has more dimensions."""
    first = x.dim() - behind - len(places)
    kept, last = list(range(first)), list(range(x.dim() - behind, x.dim()))
    return x.permute(*kept, *(first + k for k in places), *last)


def pair(seed: int) -> tuple[Case, Case, list[int]]:
    """The same model of two layouts, with the same parameters, x and conditions."""
    text = random_spec(seed, True)
    other, axes = turned(text, seed)
    one, two = calm(of_text(text)), of_text(other)
    two.model.load_state_dict(one.model.state_dict())
    name = next(iter(axes))
    two.x.copy_(moved(one.x, axes[name]))
    for key, value in one.conditions.items():
        two.conditions[key].copy_(moved(value, axes.get(key, [])))
    return one, two, axes[name]


def seeds() -> list[int]:
    """Of random specs of several axes."""
    grids = tuple(f"axes: [{', '.join(axes)}]" for axes in AXES.values() if len(axes) > 1)
    several = (s for s in range(10_000) if any(grid in random_spec(s, True) for grid in grids))
    return [next(several) for _ in SEEDS]


each = pytest.mark.parametrize("seed", seeds())


@each
def test_the_axes_of_tensors_may_stand_in_any_order(seed: int) -> None:
    one, two, places = pair(seed)
    assert two.derived == one.derived
    with torch.no_grad():
        first, second = one.model(one.x, **one.conditions), two.model(two.x, **two.conditions)
    assert (moved(first, places, 1) - second).abs().max() < EXACT
    for slabs in range(two.length):
        assert difference(two, slabs) < EXACT


@each
def test_draws_are_the_same(seed: int) -> None:
    one, two, places = pair(seed)
    half = torch.rand(one.x.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    for settings in ({}, {"prompt": one.x, "observed": half}):
        again = {key: moved(value, places) for key, value in settings.items()}
        draws = Draws(two)
        x, y = Draws(one)(**settings), draws(**again)
        assert y.shape == two.x.shape
        assert torch.allclose(moved(x, places).double(), y.double(), atol=1e-6)
        draws.check(y)


SPEC = """
name: drawn
variables:
  y: {levels: 4, axes: [row, col]}
generate: y
network:
  n: {conv: {row: 3, col: 5}, to: 4, of: y}
  out: relu(n)
head: categorical
"""


def test_a_shape_is_given_as_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first spec is drawn row by row; the second is the same with other places of its axes."""
    other, _ = turned(SPEC, 1)
    assert "axes: [col, row]" in other
    printed = []
    for text, size in ((SPEC, "5 x 9"), (other, "9 x 5")):
        (tmp_path / "drawn.yaml").write_text(text)
        shape = size.replace(" ", "")
        assert cli.run(["show", str(tmp_path / "drawn.yaml"), "--schedule", "--shape", shape]) == 0
        said = capsys.readouterr().out
        assert f"to draw {size}:" in said
        printed.append(said.replace(size, ""))
    assert printed[0] == printed[1]


def test_a_prompt_is_whole_slabs_of_the_outermost_axis() -> None:
    this = of_text(SPEC.replace("network:", "order: [col, row]\nnetwork:"))
    assert this.derived
    start: Any = this.model.start
    start(len(this.x), this.x[:, :, :1], shape=this.shape)
    with pytest.raises(ValueError, match="whole slabs of `col`"):
        start(len(this.x), this.x[:, :1], shape=this.shape)
