"""What a compiled model was built from, and how a weights file keeps that: no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arspec import __version__
from arspec.diagnostics import SpecError, error
from arspec.files import Source

if TYPE_CHECKING:
    from arspec.compiler import Analysis

ORIGIN = "_arspec_origin"
"""The attribute of a model from `build` that holds its `Origin`: no spec can use such a name."""

METADATA_KEY = "arspec"
"""One key for everything: safetensors writes several in random order."""


@dataclass(frozen=True)
class Origin:
    """The text of a spec, what was set from outside, and the hash of both together."""

    text: str
    hash: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """The metadata of a safetensors file."""
        held = {
            "version": __version__,
            "hash": self.hash,
            "settings": dict(self.settings),
            "spec": self.text,
        }
        return {METADATA_KEY: json.dumps(held, ensure_ascii=False)}

    @property
    def options(self) -> str:
        """The settings as they are given to a command: `--set width=64`."""
        return " ".join(f"--set {name}={value}" for name, value in self.settings.items())


def origin_of(analysis: Analysis) -> Origin:
    """A spec that was given as a dict has no text: it is written as JSON, which is YAML too."""
    from arspec.emit import spec_hash
    from arspec.source import plain

    text = analysis.source.text
    if not text:
        text = json.dumps(plain(analysis.spec.tree), ensure_ascii=False)
    return Origin(text, spec_hash(analysis.model), dict(analysis.model.settings))


def from_metadata(metadata: Mapping[str, str], filename: str) -> Origin | None:
    """What `to_metadata` wrote, or None where there is none of it. Raises SpecError AR609."""
    if METADATA_KEY not in metadata:
        return None
    try:
        match json.loads(metadata[METADATA_KEY]):
            case {"spec": str(text), "hash": str(hash_), "settings": dict(settings)}:
                return Origin(text, hash_, settings)
    except (ValueError, RecursionError):
        pass
    raise SpecError([error("AR609", None, name=filename, reason="it is garbled")], filename)


def analyse(origin: Origin, filename: str) -> Analysis:
    """Read the spec again, as strictly as one from a file. Raises SpecError, AR609 among them."""
    from arspec import compiler

    analysis = compiler.analyse(Source(filename, origin.text), _checked(origin, filename))
    if origin_of(analysis).hash != origin.hash:
        reason = "its hash is not that with which the weights were saved"
        raise SpecError([error("AR609", None, name=filename, reason=reason)], filename)
    return analysis


def _checked(origin: Origin, filename: str) -> dict[str, Any]:
    """The settings, within the bounds of what a spec may hold."""
    from arspec.source import from_plain, plain

    try:
        settings: dict[str, Any] = plain(from_plain(dict(origin.settings)))
    except SpecError as found:
        raise SpecError(found.diagnostics, filename) from None
    return settings
