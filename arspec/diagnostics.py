"""Diagnostics: spans, codes, message texts and their rendering, all in one room."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A place in the user's text. Lines and columns count from 1; `length` in characters."""

    line: int = 1
    column: int = 1
    length: int = 1
