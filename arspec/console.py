"""Tables and verdicts: coloured on a terminal, plain text in a pipe, aligned in both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 10_000
"""In a pipe nothing is wrapped or cut: another program, or a file, is reading."""


def wants_color(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal and nobody asked for plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    color = wants_color(stream)
    return Console(
        file=stream,
        force_terminal=color,
        no_color=not color,
        width=None if stream.isatty() else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def table(
    stream: IO[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    caption: str = "",
) -> None:
    """Print aligned columns; those named in `right` hold numbers."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        justify: Any = "right" if column in right else "left"
        grid.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    console = _console(stream)
    with console.capture() as capture:
        console.print(grid)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    print(*lines, sep="\n", file=stream)
    if caption:
        print(caption, file=stream)


def facts(stream: IO[str], title: str, good: bool, pairs: Iterable[tuple[str, str]]) -> None:
    """Print a verdict and, below it, what is known: aligned pairs of name and value."""
    print(_style(title, "1;32" if good else "1;31", stream), file=stream)
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"  {_style(name.ljust(width), '2', stream)}  {value}", file=stream)


def _style(text: str, code: str, stream: IO[str]) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if wants_color(stream) else text
