"""Importing this makes `pieces` importable: the folder is a template, not part of the package."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)
TEMPLATES = Path(__file__).parents[1] / "templates"

if str(TEMPLATES) not in sys.path:
    sys.path.insert(0, str(TEMPLATES))


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """In every file that imports it, numbers are float64 and drawn anew."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def randomised(module: Layer) -> Layer:
    """In eval mode, every parameter drawn at random."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.eval()
