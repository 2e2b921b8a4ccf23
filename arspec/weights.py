"""Weights in safetensors files, with the spec that they belong to. Never pickles.

The names and shapes of a file are read without torch and compared with the model's before any of
its numbers are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arspec.diagnostics import SpecError, did_you_mean, error
from arspec.files import replacing
from arspec.origin import ORIGIN, Origin, analyse, from_metadata

if TYPE_CHECKING:
    from torch import Tensor, nn

    from arspec.compiler import Analysis

SUFFIX = ".safetensors"

_PICKLE = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_REALS = {"F64", "F32", "F16", "BF16"}
_DTYPE_NAMES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.bool": "BOOL",
}


@dataclass(frozen=True)
class Header:
    """What a weights file holds: the shape and the dtype of each name, and perhaps its spec."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    origin: Origin | None

    @property
    def numbers(self) -> int:
        from math import prod

        return sum(prod(shape) for shape in self.shapes.values())


# --- the three public functions -------------------------------------------------------


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model's weights and what it was built from. Raises SpecError AR605, AR610.

    Names that share memory are written each in full, so that every reader finds them.
    """
    from safetensors.torch import save_file

    model = getattr(model, "_orig_mod", model)  # compiled by torch.compile
    origin = model.__dict__.get(ORIGIN)
    if origin is None:
        raise SpecError([error("AR610", None, type=type(model).__name__)])
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        whole = tensor.detach().cpu().contiguous()
        memory = whole.untyped_storage().data_ptr()
        tensors[name] = whole.clone() if memory in seen else whole
        seen.add(memory)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=origin.to_metadata())


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The model that `save` wrote. Raises SpecError AR606 to AR609, or as reading a spec does."""
    header = read_header(os.fspath(path))
    analysis = stored_analysis(header)
    refuse_hopeless(header, analysis)
    from arspec import builder

    model = builder.instantiate(analysis)
    fill(model, header, analysis.spec.name)
    return model


def stored_analysis(header: Header) -> Analysis:
    """The spec in a weights file, read, proven and causal. Raises SpecError AR608, AR609."""
    from arspec.compiler import require_causal

    if header.origin is None:
        raise SpecError([error("AR608", None, name=header.name)], header.name)
    return require_causal(analyse(header.origin, header.name))


# --- reading --------------------------------------------------------------------------


def read_header(name: str) -> Header:
    """Names, shapes and origin of a weights file, without its numbers. Raises SpecError AR606."""
    from safetensors import SafetensorError, safe_open

    try:
        if os.path.isdir(name):
            raise IsADirectoryError(21, "it is a directory")
        with open(name, "rb") as raw:
            start = raw.read(8)
        with safe_open(name, framework="numpy") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118, no mapping
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            dtypes = {key: str(part.get_dtype()) for key, part in slices.items()}
            metadata = file.metadata() or {}
    except SafetensorError as found:
        if start.startswith(_PICKLE):
            raise unreadable(name, "it is a pickle, which can hold any program", _CONVERT) from None
        raise unreadable(name, f"no whole safetensors file ({_short(found)})") from None
    except (OSError, ValueError) as found:
        raise unreadable(name, _short(found)) from None
    return Header(name, shapes, dtypes, from_metadata(metadata, name))


_CONVERT = "where you trust it: `safetensors.torch.save_file(torch.load(...), FILE)`"


def unreadable(name: str, reason: str, help: str | None = None) -> SpecError:
    """AR606 for a weights file."""
    return SpecError([error("AR606", None, name=name, reason=reason, help=help)], name)


def _short(found: Exception) -> str:
    words = getattr(found, "strerror", None) or str(found)
    words = words.removeprefix("Error while deserializing header: ")
    return words[:1].lower() + words[1:]


def refuse_hopeless(header: Header, analysis: Analysis) -> None:
    """Raise AR607 for a model that the file cannot fill, before memory is spent on it."""
    needed = analysis.parameter_count
    if needed <= header.numbers:
        return
    import torch

    from arspec import builder

    name, spec = header.name, analysis.spec.name
    try:
        with torch.device("meta"):  # names and shapes without numbers
            model = builder.instantiate(analysis)
    except RuntimeError:  # something in it needs numbers to be built
        what = f"has {needed:,} parameters, and the file holds {header.numbers:,} numbers"
        found = error("AR607", None, name=name, spec=spec, first=spec, what=what)
        raise SpecError([found], name) from None
    _compare(header, spec, model)


def fill(model: nn.Module, header: Header, spec_name: str) -> None:
    """Give the model the weights of a file. Raises SpecError AR607 naming the first difference.

    Weights keep the dtype that they have in the file.
    """
    from safetensors import SafetensorError, safe_open

    _compare(header, spec_name, model)
    try:
        with safe_open(header.name, framework="pt") as file:
            # copies: the numbers of a model must not change with the file
            weights = {name: file.get_tensor(name).clone() for name in header.shapes}
    except (SafetensorError, OSError) as found:
        raise unreadable(header.name, _short(found)) from None
    model.load_state_dict(weights, assign=True)


def _compare(header: Header, spec: str, model: nn.Module) -> None:
    """Raise AR607 with the first name in which file and model differ, if there is one."""
    state: dict[str, Tensor] = model.state_dict()
    differences = list(_differences(header, state))
    if not differences:
        return
    (first, what), *others = differences
    notes = [f"{len(differences):,} names differ"] if others else []
    held, built = header.origin, model.__dict__.get(ORIGIN)
    if held is not None and built is not None and held.hash != built.hash:
        settings = f" with `{held.options}`" if held.options else ""
        notes.append(f"the weights were saved for another spec{settings}; their file holds it")
    help = did_you_mean(first, header.shapes.keys() - state.keys())
    name = header.name
    found = error(
        "AR607", None, notes=notes, help=help, name=name, spec=spec, first=first, what=what
    )
    raise SpecError([found], name)


def _differences(header: Header, state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names and what differs: in the order of the model, then what only the file has."""
    for name, tensor in state.items():
        expected, wanted = tuple(tensor.shape), _DTYPE_NAMES.get(str(tensor.dtype), "")
        if name not in header.shapes:
            yield name, f"{_size(expected)} is missing"
        elif header.shapes[name] != expected:
            found = _size(header.shapes[name])
            yield name, f"is {found} in the file and {_size(expected)} in the model"
        elif not _compatible(header.dtypes[name], wanted):
            yield name, f"is {header.dtypes[name]} in the file and {wanted} in the model"
    for name in sorted(header.shapes.keys() - state.keys()):
        yield name, f"{_size(header.shapes[name])} is not in the model"


def _compatible(found: str, wanted: str) -> bool:
    return found == wanted or {found, wanted} <= _REALS


def _size(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
