"""What `arspec sample` is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from arspec.diagnostics import Diagnostic


@dataclass(frozen=True)
class Options:
    """The command line. What is None was not given."""

    spec: str
    params: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    number: int | None = None
    output: str | None = None
    format: str | None = None
    shape: tuple[int, ...] = ()
    prompt: str | None = None
    observed: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    seed: int | None = None
    rate: int | None = None
    device: str = "cpu"
    compile: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was drawn and written: a title, pairs of name and value, and what to know of it."""

    title: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[Diagnostic, ...] = ()
