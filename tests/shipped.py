"""The shipped specs in a size that a test can afford, and inputs for any spec."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import arspec
from arspec import compiler
from arspec.files import shipped_specs
from arspec.measure import randomise

SpecDict = dict[str, Any]


SMALL: dict[str, dict[str, Any]] = {
    "gated_pixelcnn": {"p": 6, "depth": 2, "top": 9, "levels": 8, "labels": 7},
    "gpt2": {"d": 8, "heads": 2, "depth": 2, "vocabulary": 29, "context": 32},
    "pixelcnn": {"h": 6, "depth": 2, "top": 9, "levels": 8},
    "wavenet": {
        "width": 5, "skip_width": 7, "stacks": 2, "longest": 4,
        "classes": 11, "speakers": 3, "bands": 9, "hop": 4,
    },
}  # fmt: skip
"""The params that make each shipped spec small."""

SIZES = {"time": 24, "row": 5, "col": 4}
"""The length of each axis in the tests: unlike any width, so that a mix-up shows."""


def small_spec(name: str) -> SpecDict:
    """The shipped spec as a dict."""
    spec: SpecDict = yaml.safe_load(shipped_specs()[name].read_text())
    return spec


@cache
def small_text(name: str) -> str:
    """The emitted file of the small model."""
    return arspec.generate(small_spec(name), **SMALL[name])


def small_model(name: str, seed: int = 3, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The small model in eval mode, every parameter drawn at random."""
    model = arspec.build(small_spec(name), **SMALL[name]).to(dtype).eval()
    randomise(model, seed)
    return model


def inputs(
    spec: arspec.SpecLike, batch: int = 2, seed: int = 5, **params: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """A random x and random conditions for a spec, `SIZES` long; real numbers in float64."""
    model = compiler.analyse(spec, params).model
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, v in model.variables.items():
        lengths = [-(-SIZES[axis] // int(stride)) for axis, stride in v.grid]
        count = int(v.count.value)
        if v.kind == "features":
            shape = (batch, count, *lengths)
            made[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        else:
            shape = (batch, *([v.channels] if v.channels > 1 else []), *lengths)
            made[name] = torch.randint(count, shape, generator=generator)
    x = made.pop(model.generated[0])
    return x, made


def small_inputs(name: str, batch: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    """An input of the small model."""
    return inputs(small_spec(name), batch, **SMALL[name])
