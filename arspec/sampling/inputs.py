"""Prompts, masks and conditions: read from files or from the command line, and checked.

Every array has the layout of the compiled models, (rows, [channels,] *axes), where one row stands
for every sample unless there is one for each.
"""

from __future__ import annotations

import os
import re
import wave
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from arspec.declarations import Declared
from arspec.diagnostics import SpecError, error
from arspec.sampling import png

MAX_BYTES = 400_000_000

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """What is given of a variable. `wave`: sound in [-1, 1] that is still to be encoded.

    `batched`: whether there is a row for every sample; `rate`: samples a second, of a WAV file.
    """

    array: Array
    batched: bool
    wave: bool = False
    rate: int | None = None

    @property
    def rows(self) -> int | None:
        return len(self.array) if self.batched else None

    def lengths(self, variable: Declared) -> tuple[int, ...]:
        """How long it is on each axis of the variable."""
        return tuple(self.array.shape[self.array.ndim - len(variable.axes) :])


@dataclass(frozen=True)
class _Raw:
    array: Array
    wave: bool = False
    rate: int | None = None


# --- what a variable looks like -------------------------------------------------------


def has_channels(variable: Declared) -> bool:
    """Whether its tensors have a dimension for channels or features."""
    return variable.channels > 1 or variable.kind == "features"


def channel_count(variable: Declared) -> int:
    """How long that dimension is."""
    return int(variable.count.value) if variable.kind == "features" else variable.channels


def is_picture(variable: Declared) -> bool:
    """Whether it can be seen: two axes, one grey value or three colours, or black and white."""
    shades = variable.kind == "levels" or (variable.kind == "classes" and variable.count.value == 2)
    return shades and len(variable.axes) == 2 and variable.channels in (1, 3)


def describe(variable: Declared) -> str:
    """In words: "109 classes", "80 features along time / 256"."""
    along = f" along {', '.join(clocks(variable))}" if variable.axes else ""
    channels = f", {variable.channels} channels" if variable.channels > 1 else ""
    return f"{variable.count.value} {variable.kind}{channels}{along}"


def clocks(variable: Declared) -> list[str]:
    """Its axes as the spec writes them: `time / 256`."""
    return [axis if stride == 1 else f"{axis} / {stride}" for axis, stride in variable.grid]


# --- the three kinds of input ---------------------------------------------------------

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
_NUMBERS = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*")


def condition(variable: Declared, text: str) -> Value:
    """`--given NAME=text`: numbers separated by commas, or else a file."""
    option = f"`--given {variable.name}`"
    if not _NUMBERS.fullmatch(text):
        return from_file(option, variable, text)
    words = [word.strip() for word in text.split(",")]
    whole = all(re.fullmatch(r"[-+]?\d{1,18}", word) for word in words)
    numbers = np.array([int(word) if whole else float(word) for word in words])
    alone = len(numbers) == 1 and not has_channels(variable) and not variable.axes
    return _fitted(option, variable, _Raw(numbers[0] if alone else numbers))


def from_file(option: str, variable: Declared, path: str) -> Value:
    """The value that a file holds for every sample, or one for each. Raises AR612, AR613."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".npy":
        raw = _Raw(_read(option, path, _npy))
    elif variable.codec == "bytes":
        raw = _Raw(_read(option, path, _bytes))
    elif variable.codec == "mu_law" and suffix == ".wav":
        raw = _read(option, path, _wav)
    elif is_picture(variable) and suffix == ".png":
        pixels = _read(option, path, lambda name: png.read(name, variable.channels))
        raw = _Raw(np.rint(pixels * ((int(variable.count.value) - 1) / 255)).astype(np.int64))
    else:
        kinds = _kinds(variable)
        reason = f"{describe(variable)} are given as {kinds}"
        help = None if os.path.exists(path) else "there is no such file either"
        raise _unreadable(option, path, reason, help)
    return _fitted(option, variable, raw)


def mask(variable: Declared, path: str) -> Value:
    """`--observed`: true where the prompt holds. One without channels is for all of them."""
    option = "`--observed`"
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".png" and len(variable.axes) == 2:
        array = _read(option, path, lambda name: png.read(name, 1)) > 127
    elif suffix == ".npy":
        array = _read(option, path, _npy)
    else:
        pictures = " or `.png`" if len(variable.axes) == 2 else ""
        raise _unreadable(option, path, f"a mask is a `.npy` file{pictures}")
    if array.dtype != bool and not (array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()):
        raise _misfit(option, variable, "a mask holds truth values, or 0 and 1")
    array = array.astype(bool)
    if has_channels(variable) and array.ndim == len(variable.axes):
        array = np.stack([array] * channel_count(variable))
    array, batched = _rows(option, variable, array)
    return Value(array, batched)


def _kinds(variable: Declared) -> str:
    kinds = ["a `.npy` file"]
    if variable.codec == "mu_law":
        kinds.append("`.wav`")
    if is_picture(variable):
        kinds.append("`.png`")
    return " or ".join(kinds)


# --- files to arrays ------------------------------------------------------------------


def _read(option: str, path: str, reader: Callable[[str], T]) -> T:
    """What `reader` makes of a file; whatever is wrong with it is AR612."""
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(21, "it is a directory")
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return reader(path)
    except ImportError:
        help = "`pip install pillow`, or give a `.npy` file"
        raise _unreadable(option, path, "PNG files are read by Pillow", help) from None
    except (OSError, ValueError, EOFError, MemoryError, OverflowError, wave.Error) as found:
        words = getattr(found, "strerror", None) or str(found) or "it ends too early"
        raise _unreadable(option, path, words[:1].lower() + words[1:]) from None


def _npy(path: str) -> Array:
    with open(path, "rb") as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _bytes(path: str) -> Array:
    with open(path, "rb") as file:
        return np.frombuffer(file.read(MAX_BYTES), dtype=np.uint8).astype(np.int64)


def _wav(path: str) -> _Raw:
    """Samples in [-1, 1], (channels, length) or (length,) where there is one channel."""
    with wave.open(path, "rb") as file:
        channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
        data = file.readframes(file.getnframes())
    if width not in (1, 2, 4):
        raise ValueError(f"samples of {8 * width} bits are not understood, only of 8, 16 and 32")
    whole = data[: len(data) // (width * channels) * width * channels]
    kind = {1: "u1", 2: "<i2", 4: "<i4"}[width]
    numbers = np.frombuffer(whole, dtype=kind).astype(np.float64)
    numbers = (numbers - 128) / 128 if width == 1 else numbers / 2.0 ** (8 * width - 1)
    sound: Array = numbers.astype(np.float32).reshape(-1, channels).T
    return _Raw(sound[0] if channels == 1 else sound, wave=True, rate=rate)


# --- checks ---------------------------------------------------------------------------


def _fitted(option: str, variable: Declared, raw: _Raw) -> Value:
    """The value, if dimensions, channels and values are the variable's. Raises AR613."""
    array = raw.array
    if raw.wave and array.ndim != len(variable.axes) + has_channels(variable):
        channels = 1 if array.ndim == 1 else len(array)
        reason = f"it has {channels} channels, the variable {channel_count(variable)}"
        raise _misfit(option, variable, reason)
    if not raw.wave:
        array = _checked(option, variable, array)
    single = variable.kind == "features" and channel_count(variable) == 1
    if single and array.ndim == len(variable.axes):
        array = array[None]
    array, batched = _rows(option, variable, array)
    return Value(array, batched, raw.wave, raw.rate)


def _checked(option: str, variable: Declared, array: Array) -> Array:
    """The values in the type that the model takes, within their range."""
    if variable.kind == "features":
        if array.dtype.kind not in "fiu":
            raise _misfit(option, variable, f"features are real numbers, not {array.dtype}")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise _misfit(option, variable, "it holds infinities or not-a-number")
        return array
    if array.dtype.kind not in "iub":
        raise _misfit(option, variable, f"{variable.kind} are whole numbers, not {array.dtype}")
    count = int(variable.count.value)
    if not array.size:
        return array.astype(np.int64)
    wrong = next((int(n) for n in (array.min(), array.max()) if not 0 <= int(n) < count), None)
    if wrong is not None:
        raise _misfit(option, variable, f"{wrong} is not in 0 .. {count - 1}")
    return array.astype(np.int64)


def _rows(option: str, variable: Declared, array: Array) -> tuple[Array, bool]:
    """The array with rows first, and whether they were there."""
    dimensions = len(variable.axes) + has_channels(variable)
    if array.ndim not in (dimensions, dimensions + 1):
        expected = _layout(variable)
        raise _misfit(option, variable, f"expected {expected}, got the shape {array.shape}")
    batched = array.ndim > dimensions
    array = array if batched else array[None]
    if has_channels(variable) and array.shape[1] != channel_count(variable):
        expected = _layout(variable)
        found = array.shape if batched else array.shape[1:]
        raise _misfit(option, variable, f"expected {expected}, got the shape {found}")
    if batched and not len(array):
        raise _misfit(option, variable, "it has no rows")
    return array, batched


def _layout(variable: Declared) -> str:
    """In words: `(3, row, col)`."""
    channels = [str(channel_count(variable))] if has_channels(variable) else []
    parts = [*channels, *clocks(variable)]
    return f"({', '.join(parts)})" if parts else "one number"


def _unreadable(option: str, path: str, reason: str, help: str | None = None) -> SpecError:
    found = error("AR612", None, name=path, option=option, reason=reason, help=help)
    return SpecError([found], path)


def _misfit(option: str, variable: Declared, reason: str) -> SpecError:
    found = error("AR613", None, option=option, variable=variable.name, reason=reason)
    return SpecError([found])
