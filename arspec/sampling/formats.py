"""Samples as files: PNG, WAV, text, or NumPy's own."""

from __future__ import annotations

import io
import os
import sys
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arspec.declarations import Declared
from arspec.diagnostics import SpecError, error
from arspec.files import STDIN
from arspec.sampling import png
from arspec.sampling.inputs import is_picture

SUFFIXES = {"png": ".png", "wav": ".wav", "text": ".txt", "npy": ".npy"}
STDOUT = STDIN

Array = NDArray[Any]
Decode = Callable[[Array], Any]
"""One sample to what its codec stands for: sound in [-1, 1], or bytes."""


# --- which one ------------------------------------------------------------------------


def choose(target: Declared, kind: str | None, output: str | None, name: str) -> tuple[str, str]:
    """The format, and the path of the file. Raises SpecError AR618.

    The format is the one asked for, else that of the suffix, else the one that suits the variable;
    a path without a suffix gets one.
    """
    stem, suffix = os.path.splitext(output or "")
    if kind is None and suffix:
        known = {s: f for f, s in SUFFIXES.items()}
        if suffix.lower() not in known:
            reason = f"a suffix is one of {', '.join(known)}"
            raise _unsuitable(target, f"`{suffix}`", reason)
        kind = known[suffix.lower()]
    kind = kind or suits(target)
    reason = unsuitable(target, kind)
    if reason:
        raise _unsuitable(target, kind, reason)
    if output is None:
        return kind, f"{name}{SUFFIXES[kind]}"
    if output == STDOUT or suffix or not os.path.basename(stem):
        return kind, output
    return kind, f"{output}{SUFFIXES[kind]}"


def suits(target: Declared) -> str:
    """The format in which a person sees or hears most of it."""
    if target.codec == "bytes":
        return "text"
    if target.codec == "mu_law" and len(target.axes) == 1:
        return "wav"
    return "png" if is_picture(target) else "npy"


def unsuitable(target: Declared, kind: str) -> str:
    """Why the variable cannot be written in a format; "" if it can."""
    if kind == "png" and not is_picture(target):
        return "it is no image of levels, grey or in three colours"
    if kind == "text" and target.codec != "bytes":
        return "it has no `codec: bytes`"
    if kind in ("text", "wav") and len(target.axes) != 1:
        return f"it has the axes {', '.join(target.axes)}"
    if kind == "wav" and target.codec != "mu_law" and target.kind == "classes":
        return "it has no `codec: mu_law`"
    return ""


def paths(target: Declared, kind: str, output: str, batch: int) -> tuple[str, ...]:
    """One file, or for several WAVs `out-0.wav`, `out-1.wav`, ..., aligned. Raises AR618."""
    several = kind == "wav" and batch > 1
    if output == STDOUT and several:
        raise _unsuitable(target, "wav", "standard output holds one sample; take `-n 1`")
    if output == STDOUT and kind != "text" and sys.stdout.isatty():
        raise _unsuitable(target, kind, "standard output is a terminal")
    if not several:
        return (output,)
    stem, suffix = os.path.splitext(output)
    width = len(str(batch - 1))
    return tuple(f"{stem}-{i:0{width}}{suffix}" for i in range(batch))


# --- what is in them ------------------------------------------------------------------


def contents(target: Declared, kind: str, x: Array, decode: Decode, rate: int) -> list[bytes]:
    """The bytes of each file for the samples x, (batch, [channels,] *axes).

    One file for all of them, but for WAV: there each sample is a file.
    """
    if kind == "npy":
        return [_npy(x)]
    if kind == "png":
        return [png.encode(png.grid(_pixels(target, x)))]
    rows = [_until_end(target, row) for row in x]
    if kind == "text":
        return [_text([decode(row) for row in rows])]
    return [_wav(_sound(target, row, decode), rate) for row in rows]


def _npy(x: Array) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array(held, x, allow_pickle=False)
    return held.getvalue()


def _pixels(target: Declared, x: Array) -> NDArray[np.uint8]:
    """(n, rows, columns, channels), the highest level as 255."""
    bright = np.rint(x * (255 / (int(target.count.value) - 1))).astype(np.uint8)
    return bright[..., None] if target.channels == 1 else np.moveaxis(bright, 1, -1)


def _until_end(target: Declared, row: Array) -> Array:
    """The sample before its end mark, if it has one."""
    if not isinstance(target.end, int) or row.ndim > 1:
        return row
    ends = np.flatnonzero(row == target.end)
    return row[: ends[0]] if len(ends) else row


def _text(samples: list[bytes]) -> bytes:
    """One as it is; several each under a line with its number."""
    if len(samples) == 1:
        return samples[0]
    lines = [b"=== sample %d ===\n%s\n" % (i, text) for i, text in enumerate(samples)]
    return b"\n".join(lines)


def _sound(target: Declared, row: Array, decode: Decode) -> Array:
    """(length,) or (channels, length), in [-1, 1]."""
    if target.codec == "mu_law":
        return np.asarray(decode(row))
    if target.kind == "levels":
        return np.asarray(2 * row / (int(target.count.value) - 1) - 1)
    return row


def _wav(sound: Array, rate: int) -> bytes:
    """16 bits a sample; what is louder than 1 is cut."""
    loudness = np.rint(np.clip(np.atleast_2d(sound), -1, 1) * 32767).astype("<i2")
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(len(loudness))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(loudness.T.tobytes())
    return held.getvalue()


def _unsuitable(target: Declared, kind: str, reason: str) -> SpecError:
    return SpecError([error("AR618", None, variable=target.name, format=kind, reason=reason)])
