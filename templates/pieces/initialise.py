"""How weights start."""

import torch
from torch import Tensor


def fan_in_uniform_(weight: Tensor, bias: Tensor | None, fan_in: int | Tensor) -> None:
    """Fill both from U(-b, b), b = 1 / sqrt(fan_in), as nn.Linear and nn.Conv2d do.

    `fan_in` counts the live taps, of all outputs alike or of each: a masked tap adds no variance.
    """
    bound = torch.as_tensor(fan_in, device=weight.device).clamp(min=1).rsqrt()
    bound = bound.expand(weight.shape[0])
    with torch.no_grad():
        weight.uniform_(-1, 1).mul_(bound.view(-1, *[1] * (weight.dim() - 1)))
        if bias is not None:
            bias.uniform_(-1, 1).mul_(bound)
