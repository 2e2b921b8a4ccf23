"""Multiply-adds that a computation really does, read off the shapes of what PyTorch is asked for.

Knows nothing of specs, schedules or layers. Whatever multiplies matrices ends up in a handful of
kernels; attention is told apart from the rest by the function that is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


@dataclass
class Count:
    """Multiply-adds: `weights` of all matrix products and convolutions, `attention` of the rest.

    An attention of q queries with k keys, each in d dimensions, counts 2 q k d per head: scores and
    sum of values, dense, whatever its mask hides.
    """

    weights: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.attention


@contextmanager
def counted() -> Iterator[Count]:
    """Counts what is done inside."""
    count = Count()
    with torch.no_grad(), _Attention(count) as attention, _Kernels(count, attention):
        yield count


class _Attention(TorchFunctionMode):
    """Counts calls of attention, and says when one is going on."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count
        self.inside = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not F.scaled_dot_product_attention or self.inside:
            return func(*args, **(kwargs or {}))
        q, k, v = args[:3]
        heads = prod(q.shape[:-2])
        self.count.attention += heads * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        self.inside = True
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.inside = False


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products and convolutions, those inside an attention excepted."""

    def __init__(self, count: Count, attention: _Attention) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count, self.attention = count, attention

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.attention.inside:
            self.count.weights += _multiply_adds(func.overloadpacket, args, out)
        return out


def _multiply_adds(kernel: Any, args: tuple[Any, ...], out: Tensor) -> int:
    if kernel in (aten.mm, aten.bmm, aten.mv, aten.dot):  # (..., inner) with (..., inner, n)
        return out.numel() * int(args[0].shape[-1])
    if kernel in (aten.addmm, aten.baddbmm, aten.addmv, aten.addbmm):
        return out.numel() * int(args[1].shape[-1])
    if kernel in (aten.linear, aten.mkldnn_linear):
        return out.numel() * int(args[0].shape[-1])
    if kernel in (aten.convolution, aten.mkldnn_convolution, aten._convolution):
        weight: Tensor = args[1]  # (outputs, inputs of a group, *taps)
        return out.numel() * prod(weight.shape[1:])
    return 0
