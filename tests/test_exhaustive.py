"""The probabilities of a whole small space sum to one: causal and normalised, both at once.

A model that sees its own future, or whose head is not a distribution, gives another sum. Every
parameter is drawn at random, for biases that start at zero hide much.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import arspec
from arspec.measure import randomise

SPECS = Path(__file__).parent / "specs"


def everything(symbols: int, shape: tuple[int, ...]) -> Tensor:
    """Every tensor of that shape over the symbols 0, 1, ..., one per row."""
    count = int(torch.tensor(shape).prod())
    return torch.tensor(list(product(range(symbols), repeat=count))).reshape(-1, *shape)


def compiled(name: str, **params: object) -> nn.Module:
    model = arspec.build(SPECS / f"{name}.yaml", **params).double().eval()
    randomise(model, 5)
    return model


IMAGES = [
    ("binary_pixelcnn", {}, (3, 3), 2),
    ("binary_gated", {"label": torch.tensor([1])}, (3, 3), 2),
    ("rgb", {}, (3, 2, 1), 3),
    ("rgb", {}, (3, 1, 2), 3),
    ("levels_logistic", {}, (2, 2), 8),
    ("strings_conv", {}, (4,), 5),
    ("strings_scaled", {}, (4,), 5),
    ("strings_attention", {}, (4,), 5),
    ("strings_window", {}, (4,), 5),
]


@pytest.mark.parametrize(("name", "conditions", "shape", "symbols"), IMAGES)
def test_probabilities_sum_to_one(
    name: str, conditions: dict[str, Tensor], shape: tuple[int, ...], symbols: int
) -> None:
    model = compiled(name)
    space = everything(symbols, shape)
    given = {key: value.expand(len(space)) for key, value in conditions.items()}
    with torch.no_grad():
        log_p = model.log_prob(space, **given)
    assert log_p.dtype == torch.float64
    assert log_p.std() > 0.1  # a uniform distribution would show nothing
    assert abs(log_p.exp().sum().item() - 1) < 1e-9


@pytest.mark.parametrize("name", ["strings_conv", "strings_attention"])
def test_a_leak_would_show(name: str) -> None:
    """Let every position see its successor: the sum is off by much more than rounding."""
    model = compiled(name)
    space = everything(5, (4,))
    forward = model.forward

    def leaky(x: Tensor) -> Tensor:
        return forward(x.roll(-1, 1))  # type: ignore[no-any-return]

    model.forward = leaky  # type: ignore[method-assign]
    with torch.no_grad():
        assert abs(model.log_prob(space).exp().sum().item() - 1) > 1e-3
