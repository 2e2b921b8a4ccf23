"""A bar with the time left, on terminals."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Report = Callable[[int, int], None]
"""Told (done, total) after every drawn step."""

INTERVAL = 0.1  # seconds between two updates


@contextlib.contextmanager
def bar(description: str) -> Iterator[Report | None]:
    """What to tell of every step; None where nobody watches."""
    from arspec.console import wants_color

    if not (sys.stderr.isatty() and wants_color(sys.stderr)):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)
        last = 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > INTERVAL or done == total:
                last = now
                progress.update(task, completed=done, total=total)

        yield report
