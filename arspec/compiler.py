"""The pipeline as one straight function: text -> spec -> model -> proof -> source text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from arspec.causality import Proof, diagnostics, prove
from arspec.diagnostics import Diagnostic, SpecError
from arspec.files import Source, find_spec
from arspec.model import Model, expand
from arspec.source import from_plain
from arspec.spec import Spec, from_tree, parse_spec

if TYPE_CHECKING:
    from arspec.table import Row


class NotCausal(SpecError):
    """The spec is valid, and some output of it sees its future."""


@dataclass(frozen=True)
class Analysis:
    """All that is known of a spec without running it."""

    source: Source
    model: Model
    proof: Proof

    @property
    def spec(self) -> Spec:
        return self.model.spec

    @property
    def notes(self) -> tuple[Diagnostic, ...]:
        from arspec.advice import strict_masks

        return (*self.model.notes, *(n for term in self.model.terms for n in strict_masks(term)))

    @property
    def parameter_count(self) -> int:
        return self.model.parameters

    def table(self) -> list[Row]:
        """The rows of `arspec show`."""
        from arspec.table import rows

        return rows(self.model)


def read(
    ref: str | os.PathLike[str] | Mapping[str, Any] | Source, stdin: IO[str] | None = None
) -> Source:
    """The text that `ref` means: a path, the name of a shipped spec, or `-`."""
    if isinstance(ref, Source):
        return ref
    if isinstance(ref, Mapping):
        return Source(str(ref.get("name", "<dict>")), "")
    return find_spec(os.fspath(ref), stdin)


def analyse(
    ref: str | os.PathLike[str] | Mapping[str, Any] | Source,
    params: Mapping[str, Any] | None = None,
    stdin: IO[str] | None = None,
) -> Analysis:
    """Read, validate, expand and prove a spec. Raises SpecError; a leak is no error here."""
    source = read(ref, stdin)
    if isinstance(ref, Mapping):
        spec = from_tree(from_plain(dict(ref)), source.name, "")
    else:
        spec = parse_spec(source.text, source.name)
    model = expand(spec, params)
    proof = Proof(spec.name, tuple(prove(term.graph) for term in model.terms))
    return Analysis(source, model, proof)


def generate(
    ref: str | os.PathLike[str] | Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> str:
    """The text of the standalone module. Raises SpecError, or NotCausal where the spec leaks."""
    return emit(require_causal(analyse(ref, params)))


def require_causal(analysis: Analysis) -> Analysis:
    """The analysis itself, if it is causal. Raises NotCausal with every leak."""
    if not analysis.proof.causal:
        raise NotCausal(diagnostics(analysis.proof), analysis.source.name, analysis.source.text)
    return analysis


def emit(analysis: Analysis) -> str:
    """The text of the module, whatever the verdict was."""
    from arspec.emit import emit as emit_text

    return emit_text(analysis.model, analysis.proof)
