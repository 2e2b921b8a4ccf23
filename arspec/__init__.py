"""arspec: a compiler for deep autoregressive models.

A spec (YAML) is validated, proven causal and compiled into a PyTorch module and one standalone
Python file. Importing this package imports neither torch nor any part of the compiler.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from arspec.causality import Proof
    from arspec.exporting import Step
    from arspec.verifier import Report

__version__ = "0.1.0"

SpecLike = str | os.PathLike[str] | dict[str, Any]
"""A path, the name of a shipped spec, or the spec itself as a dict."""


def check_causality(spec: SpecLike, /, **params: Any) -> Proof:
    """Prove that no output of the spec depends on its own future, or find where one does.

    Parameters of the spec are changed by keyword. Needs no torch.

    Raises: SpecError if it is not a valid spec.
    """
    from arspec import compiler

    return compiler.analyse(spec, params).proof


def generate(spec: SpecLike, /, **params: Any) -> str:
    """The text of the standalone Python module of a spec.

    Raises: SpecError if it is not a valid spec, NotCausal (a SpecError) if it leaks.
    """
    from arspec import compiler

    return compiler.generate(spec, params)


def build(spec: SpecLike, /, **params: Any) -> nn.Module:
    """The compiled model, an `nn.Module`: what the text of `generate` defines, instantiated.

    Raises: as `generate`.
    """
    from arspec import builder

    return builder.build(spec, params)


def verify(spec: SpecLike, /, **params: Any) -> Report:
    """Compile the spec and measure what was proven: causality, receptive field, gradients."""
    from arspec import compiler

    compiler.analyse(spec, params)  # a wrong spec is told before torch is imported
    from arspec import verifier

    return verifier.verify(spec, params)


def save(model: nn.Module, path: str | os.PathLike[str], /) -> None:
    """Write the weights of a model from `build` or `load` with the spec that they belong to.

    The file is safetensors, with the names and shapes of `model.state_dict()`. It is written whole
    or not at all.

    Raises: SpecError AR610 if the model was not built by arspec, AR605 if nothing can be written.
    """
    from arspec import weights

    weights.save(model, path)


def load(path: str | os.PathLike[str], /) -> nn.Module:
    """The model that `save` wrote, on the CPU, each weight with the dtype that it was saved in.

    Raises: SpecError if the file cannot be read (AR606), holds no spec (AR608) or another one than
    it was saved with (AR609), or if weights and spec do not fit (AR607).
    """
    from arspec import weights

    return weights.load(path)


def exportable(model: nn.Module, state: Any, /) -> tuple[Step, tuple[Tensor, ...]]:
    """One step of a model as a module without memory, for `torch.export` and ONNX, and its inputs.

    It is `forward(x_prev, position, *kept, *arriving, *given) -> (params, *kept)`; the inputs
    continue `state`, which is that of `model.start(batch, prompt, shape=(length,), ...)`.

    Raises: ValueError if the model has several axes or no schedule, or is in training mode; if the
    prompt is too short or the length not known.
    """
    from arspec import exporting

    return exporting.exportable(model, state)


__all__ = [
    "__version__",
    "build",
    "check_causality",
    "exportable",
    "generate",
    "load",
    "save",
    "verify",
]
