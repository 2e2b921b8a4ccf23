"""PNG pictures of 8 bits: written here, read by Pillow where it is installed."""

from __future__ import annotations

import math
import struct
import zlib
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 50_000_000
GAP, GAP_COLOUR = 2, 128  # pixels between the pictures of a grid; grey is seen beside any of them


def grid(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, rows, columns, channels) side by side, as square a grid as can be; one is left alone."""
    n, rows, columns, channels = pictures.shape
    if n == 1:
        return pictures.reshape(rows, columns, channels)
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    height, width = rows + GAP, columns + GAP
    size = (down * height + GAP, across * width + GAP, channels)
    sheet = np.full(size, GAP_COLOUR, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // across * height + GAP, i % across * width + GAP
        sheet[top : top + rows, left : left + columns] = picture
    return sheet


def encode(picture: NDArray[np.uint8]) -> bytes:
    """(rows, columns, 1 or 3) as the bytes of a PNG file, grey or RGB (ISO/IEC 15948)."""
    rows, columns, channels = picture.shape
    colour = {1: 0, 3: 2}[channels]
    unfiltered = np.zeros((rows, 1), dtype=np.uint8)  # each line begins with its filter: none
    lines = np.hstack([unfiltered, picture.reshape(rows, -1)]).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def read(path: str, channels: int) -> NDArray[np.uint8]:
    """A picture as (rows, columns) or, with 3 channels, (3, rows, columns).

    Raises ImportError without Pillow, OSError and ValueError where it is no such picture.
    """
    image: Any = import_module("PIL.Image")
    try:
        with image.open(path, formats=["PNG"]) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS:,} pixels")
            if opened.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                raise ValueError(f"its pixels are not of 8 bits (mode {opened.mode})")
            pixels = np.asarray(opened.convert("L" if channels == 1 else "RGB"))
    except (image.DecompressionBombError, SyntaxError, EOFError) as found:  # as Pillow has it
        raise ValueError(str(found)) from None
    return pixels if channels == 1 else np.moveaxis(pixels, -1, 0)
