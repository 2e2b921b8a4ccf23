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
from arspec.names import class_name


def build(ref: Any, params: Mapping[str, Any] | None = None) -> nn.Module:
    """The compiled model of a spec, with random weights."""
    analysis = compiler.require_causal(compiler.analyse(ref, params))
    return load(compiler.emit(analysis), analysis.spec.name)


def load(text: str, name: str) -> nn.Module:
    """Instantiate the model that an emitted text defines.

    The text is registered with `linecache`, so that tracebacks and debuggers show it, and as a
    module, so that the model can be pickled within this process.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    filename = f"<arspec {name} {digest}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    module = ModuleType(f"arspec.compiled.{name}_{digest}")
    module.__file__ = filename
    sys.modules[module.__name__] = module
    exec(compile(text, filename, "exec"), module.__dict__)
    model = getattr(module, class_name(name))()
    assert isinstance(model, nn.Module)
    return model
