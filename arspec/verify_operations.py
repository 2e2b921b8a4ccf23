"""Multiply-adds, counted while code runs: from the shapes that its products are called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


def _product(out: Tensor, first: Tensor, *_: Any) -> int:
    """(..., n, k) @ (..., k, m)."""
    return out.numel() * first.shape[-1]


def _added(out: Tensor, _: Tensor, first: Tensor, *rest: Any) -> int:
    return _product(out, first)


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """Weight: (outputs, inputs / groups, *taps); transposed: (inputs, outputs / groups, *taps)."""
    transposed = rest[4]
    return (x if transposed else out).numel() * weight[0].numel()


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """query (..., n, size) on key (..., m, size) and value (..., m, other size)."""
    return query[..., 0].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])


PRODUCTS: Mapping[Any, Callable[..., int]] = {
    aten.mm: _product,
    aten.bmm: _product,
    aten.mv: _product,
    aten.dot: _product,
    aten.linear: _product,
    aten.matmul: _product,
    aten.addmm: _added,
    aten.baddbmm: _added,
    aten.addmv: _added,
    aten.convolution: _convolution,
}


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-adds of products and convolutions. Sums and functions are not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        cost = PRODUCTS.get(func.overloadpacket)
        if cost is not None:
            self.count += cost(out, *args)
        return out


class Operations(TorchFunctionMode):
    """Multiply-adds of what runs within: by weights, and in attention, scores and values.

    Attention is what `scaled_dot_product_attention` is called for, whichever kernel runs: every
    pair of the query and key that it gets counts, masked or not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = Products()
        self.attention = 0

    @property
    def kinds(self) -> dict[str, int]:
        """The multiply-adds by kind."""
        return {"by weights": self.products.count, "in attention": self.attention}

    def __enter__(self) -> Operations:
        self.products.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        self.products.__exit__(*failure)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        before = self.products.count
        out: Tensor = func(*args, **(kwargs or {}))
        self.products.count = before
        self.attention += _attention(*args, **(kwargs or {}))
        return out
