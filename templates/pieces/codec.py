"""Audio and text as symbols."""

import math

import torch
from torch import Tensor


def mu_law_encode(audio: Tensor, classes: int = 256) -> Tensor:
    """Audio in [-1, 1] to integers 0 .. classes - 1 (ITU-T G.711; WaveNet, section 2.2).

    The nearest of `classes` evenly spaced values of sign(x) ln(1 + mu |x|) / ln(1 + mu).
    """
    mu = classes - 1
    audio = audio.clamp(-1, 1)
    companded = audio.sign() * torch.log1p(mu * audio.abs()) / math.log1p(mu)
    return ((companded + 1) / 2 * mu).round().long()


def mu_law_decode(symbols: Tensor, classes: int = 256) -> Tensor:
    """Integers 0 .. classes - 1 to audio in [-1, 1]: the inverse of `mu_law_encode`."""
    mu = classes - 1
    companded = 2 * symbols.float() / mu - 1
    return companded.sign() * ((1 + mu) ** companded.abs() - 1) / mu


def bytes_encode(text: bytes) -> Tensor:
    """Bytes to integers 0 .. 255, (len(text),)."""
    return torch.tensor(list(text), dtype=torch.long)


def bytes_decode(symbols: Tensor) -> bytes:
    """Integers (n,) to bytes; symbols that are no byte, such as an end mark, are left out."""
    return bytes(symbol for symbol in symbols.tolist() if symbol < 256)
