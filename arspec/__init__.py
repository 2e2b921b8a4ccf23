"""arspec: a compiler for deep autoregressive models.

A spec (YAML) is validated, proven causal and compiled into a PyTorch module and one standalone
Python file. Importing this package imports neither torch nor any part of the compiler.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from arspec.causality import Proof
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


__all__ = ["__version__", "build", "check_causality", "generate", "verify"]
