"""Symbols and positions as vectors."""

import torch
from torch import Tensor, nn

from .state import Place


class Embedding(nn.Embedding):
    """A vector per symbol: integers (...) -> (..., width). Starts from N(0, 1 / width)."""

    def __init__(self, symbols: int, width: int) -> None:
        super().__init__(symbols, width)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)


class PositionEmbedding(nn.Module):
    """A learned vector per position, `size` of them. Starts from N(0, 0.02)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, length: int, first: int | Place = 0) -> Tensor:
        """Those of `length` positions from `first` on."""
        size, end = len(self.weight), length
        if isinstance(first, int):
            if length <= size:
                return self.weight[:length]
        elif first.before(size):
            return self.weight.index_select(0, first.tensor)
        else:
            end = first.number + 1
        raise ValueError(f"{end} positions, but only {size} have an embedding")


class SinusoidalPositions(nn.Module):
    """The table of `sinusoidal`, on the device and in the type of the module."""

    like: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, length: int, first: int | Place = 0) -> Tensor:
        """Those of `length` positions from `first` on."""
        return sinusoidal(length, self.width, self.like.device, self.like.dtype, first)


def sinusoidal(
    length: int,
    width: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    first: int | Place = 0,
) -> Tensor:
    """Positions as sines and cosines, (length, width) (Vaswani et al. 2017, section 3.5).

    Feature 2i of position p is sin(p / 10000^(2i / width)), feature 2i + 1 the cosine of the same.
    """
    features = torch.arange(width, dtype=torch.float64, device=device)
    even = features - features % 2
    positions = torch.arange(length, dtype=torch.float64, device=device)
    if not isinstance(first, int):
        positions = first.tensor.to(torch.float64)
    angles = positions[:, None] / 10000 ** (even / width)
    return torch.where(features % 2 == 0, angles.sin(), angles.cos()).to(device, dtype)
