"""Formatting of emitted text, by ruff: unused imports out, imports sorted, lines wrapped."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

WIDTH = 100
_CHECK = ["check", "--isolated", "--quiet", "--fix-only", "--select", "F401,I001"]
_FORMAT = ["format", "--isolated", "--quiet"]


def tidy(text: str) -> str:
    """The same program as `ruff format` leaves it, at most 100 characters a line."""
    text = _ruff(_FORMAT, _ruff(_CHECK, text))
    if any(len(line) > WIDTH for line in text.splitlines()):
        text = _ruff(_FORMAT, "\n".join(_short(line) for line in text.splitlines()) + "\n")
    return text


def _short(line: str) -> str:
    """A line that its trailing comment makes too long gets the comment above it."""
    code, mark, comment = line.rpartition("  # ")
    if len(line) <= WIDTH or not mark or code.strip() in (")", "]", "}"):
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    return f"{indent}# {comment}\n{code}"


def _ruff(arguments: list[str], text: str) -> str:
    command = [*_binary(), *arguments, "--line-length", str(WIDTH), "--stdin-filename", "model.py"]
    done = subprocess.run([*command, "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ruff refused an emitted file: {done.stderr.strip()}")
    return done.stdout


@lru_cache(maxsize=1)
def _binary() -> list[str]:
    from ruff.__main__ import find_ruff_bin  # type: ignore[import-untyped]

    try:
        return [str(find_ruff_bin())]
    except FileNotFoundError:
        return [sys.executable, "-m", "ruff"]
