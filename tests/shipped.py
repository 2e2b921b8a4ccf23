"""The shipped specs in a size that a test can afford, and inputs for any spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Small:
    """A shipped spec made small: by its params, and where it has none for it, in its text."""

    params: Mapping[str, Any]
    edits: Mapping[str, str] = field(default_factory=dict)


SMALL = {
    "gated_pixelcnn": Small(
        {"p": 6},
        {"classes: 1000": "classes: 7", "levels: 256": "levels: 8", "1024": "9", "20}": "2}"},
    ),
    "gpt2": Small({"d": 8, "heads": 2, "depth": 2, "vocabulary": 29, "context": 32}),
    "pixelcnn": Small(
        {"h": 6},
        {"levels: 256": "levels: 8", "1024": "9", "repeat: 15": "repeat: 2"},
    ),
    "wavenet": Small(
        {"width": 5, "skip_width": 7},
        {
            "classes: 256": "classes: 11",
            "classes: 109": "classes: 3",
            "features: 80": "features: 9",
            "time / 256": "time / 4",
            "1..512": "1..4",
            "times: 3": "times: 2",
        },
    ),
}

SIZES = {"time": 24, "row": 5, "col": 4}
"""The length of each axis in the tests: unlike any width, so that a mix-up shows."""


def small_spec(name: str) -> SpecDict:
    """The shipped spec as a dict, small once built with `SMALL[name].params`."""
    text = shipped_specs()[name].read_text()
    for published, tiny in SMALL[name].edits.items():
        assert published in text, f"{name} says `{published}` no more: bring SMALL along"
        text = text.replace(published, tiny)
    spec: SpecDict = yaml.safe_load(text)
    return spec


@cache
def small_text(name: str) -> str:
    """The emitted file of the small model."""
    return arspec.generate(small_spec(name), **SMALL[name].params)


def small_model(name: str, seed: int = 3, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The small model in eval mode, every parameter drawn at random."""
    model = arspec.build(small_spec(name), **SMALL[name].params).to(dtype).eval()
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
    return inputs(small_spec(name), batch, **SMALL[name].params)
