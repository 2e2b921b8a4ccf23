"""Source text -> nn.Module: the text that `generate` writes is executed, nothing else."""

from __future__ import annotations

import hashlib
import linecache
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from arspec import compiler
from arspec.compiler import Analysis
from arspec.library import model_class
from arspec.origin import ORIGIN, origin_of


def build(ref: Any, params: Mapping[str, Any] | None = None) -> nn.Module:
    """The compiled model of a spec, with random weights."""
    return instantiate(compiler.require_causal(compiler.analyse(ref, params)))


def instantiate(analysis: Analysis) -> nn.Module:
    """The model of a causal analysis. It knows what it was built from, for `arspec.save`."""
    model = load(compiler.emit(analysis), analysis.spec.name)
    model.__dict__[ORIGIN] = origin_of(analysis)
    return model


def load(text: str, name: str) -> nn.Module:
    """Instantiate the model that an emitted text defines.

    The text is registered with `linecache`, so that tracebacks and debuggers show it, and as a
    module, so that the model can be pickled within this process.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    filename = f"<arspec {name} {digest}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    full_name = f"arspec.compiled.{name}_{digest}"
    if full_name not in sys.modules:  # the same text is the same class, as `pickle` expects
        module = ModuleType(full_name)
        module.__file__ = filename
        exec(compile(text, filename, "exec"), module.__dict__)
        sys.modules[full_name] = module
    model = getattr(sys.modules[full_name], model_class(name))()
    assert isinstance(model, nn.Module)
    return model
