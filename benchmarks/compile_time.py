"""Seconds from spec to source text, for every shipped spec at its published size, without torch.

    python benchmarks/compile_time.py [--repeats 5]

The proof alone is timed beside it. Start-up (imports) is measured once, in processes of their own.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import arspec
from arspec.files import shipped_specs


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """The median time of `work`, after one call that warms it up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def start_up_seconds(command: str, repeats: int) -> float:
    """The median time of a whole process that runs `arspec <command>`."""
    arguments = [sys.executable, "-c", "from arspec.cli import main; main()", *command.split()]
    return median_seconds(
        lambda: subprocess.run(arguments, capture_output=True, check=True), repeats
    )


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser(description="Time the compiler on every shipped spec.")
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats

    print(f"{'spec':<20} {'proof, ms':>12} {'source, ms':>12} {'lines':>8}")
    for name in shipped_specs():
        proof = median_seconds(lambda name=name: arspec.check_causality(name), repeats)
        source = median_seconds(lambda name=name: arspec.generate(name), repeats)
        lines = arspec.generate(name).count("\n")
        print(f"{name:<20} {proof * 1e3:>12.1f} {source * 1e3:>12.1f} {lines:>8,}")
    if "torch" in sys.modules:
        raise SystemExit("torch was imported: this is not the time that it claims to be")

    print()
    for command in ("--help", "check-causality wavenet"):
        seconds = start_up_seconds(command, repeats)
        print(f"whole process, arspec {command:<24} {seconds * 1e3:>8.0f} ms")


if __name__ == "__main__":
    main()
