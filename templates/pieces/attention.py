"""Self-attention along one axis."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention on (B, T, width) (Vaswani et al. 2017): output t sees x[<= t]."""

    def __init__(
        self,
        width: int,
        heads: int,
        bias: bool = True,
        dropout: float = 0.0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, outputs or width, bias=bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, heads, T, width / heads)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def merge(self, y: Tensor) -> Tensor:
        """(B, heads, T, width / heads) -> (B, T, outputs)."""
        merged: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return merged

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries are the last positions of the keys, as after a cached prefix."""
        n, m = q.shape[2], k.shape[2]
        # Aligned bottom-right: query i is position m - n + i. With is_causal=True, which aligns
        # top-left, a single query would see key 0 only.
        mask = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        dropout = self.dropout if self.training else 0.0
        # As many queries as keys, so query t sees the keys <= t.
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.merge(y)


class StrictCausalSelfAttention(CausalSelfAttention):
    """Causal self-attention one position later: output t sees x[< t], its query is that of t - 1.

    Position 0 sees nothing: zeros before the output projection.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x[:, :-1])
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        # One zero in front: output t is what t - 1 attends to, so it sees x[<= t - 1].
        return self.merge(F.pad(y, (0, 0, 1, 0)))


class WindowedSelfAttention(CausalSelfAttention):
    """Causal self-attention to the latest `window` positions: output t sees x[t - window + 1 .. t].

    Time and memory grow with T * window (Beltagy et al. 2020, Longformer, section 3).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        bias: bool = True,
        dropout: float = 0.0,
        outputs: int | None = None,
    ) -> None:
        super().__init__(width, heads, bias, dropout, outputs)
        self.latest = window

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries are the last positions of the keys, as after a cached prefix."""
        n, m = q.shape[2], k.shape[2]
        prefix = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
        mask = prefix.triu(m - n - self.latest + 1)  # neither later nor `window` positions back
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        length = x.shape[1]
        size = min(self.latest, length)
        blocks = math.ceil(length / size)
        q, k, v = (
            torch.unflatten(F.pad(s, (0, 0, 0, blocks * size - length)), 1, (blocks, size))
            for s in (q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
        )
        # Each block of queries meets its own keys and the block before: no query sees further back.
        k, v = (torch.cat([F.pad(s, (0, 0, 0, 0, 1, 0))[:, :-1], s], dim=2) for s in (k, v))
        query = torch.arange(size, device=x.device)[:, None]
        key = torch.arange(-size, size, device=x.device)  # relative to the start of the block
        first = size * torch.arange(blocks, device=x.device)[:, None, None]
        # Query t sees the keys t - window + 1 .. t, and none before position 0.
        mask = (key <= query) & (key > query - self.latest) & (first + key >= 0)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        y = torch.unflatten(y, 0, (-1, self.heads)).flatten(2, 3)
        return self.merge(y[:, :, :length])


class AlibiCausalSelfAttention(CausalSelfAttention):
    """Causal self-attention with linear biases (Press et al. 2022): output t sees x[<= t].

    Head h subtracts slope_h * (t - s) from the score of key s; slopes are a geometric sequence.
    """

    slopes: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        bias: bool = True,
        dropout: float = 0.0,
        outputs: int | None = None,
    ) -> None:
        super().__init__(width, heads, bias, dropout, outputs)
        power = 2 ** int(math.log2(heads))
        exponents = [8 * (h + 1) / power for h in range(power)]
        exponents += [4 * (2 * h + 1) / power for h in range(heads - power)]
        slopes = 2.0 ** -torch.tensor(exponents)
        self.register_buffer("slopes", slopes, persistent=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries are the last positions of the keys, as after a cached prefix."""
        n, m = q.shape[2], k.shape[2]
        key = torch.arange(m, device=q.device)
        distance = key[m - n :, None] - key
        scores = -self.slopes[:, None, None] * distance
        scores = scores.masked_fill(distance < 0, -torch.inf).to(q.dtype)  # later keys: unseen
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=scores, dropout_p=dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(self.attend(*self.project(x)))


def rotate(x: Tensor, base: float, first: int = 0) -> Tensor:
    """Rotary positions first, first + 1, ... on (B, heads, T, D) (Su et al. 2021, RoFormer).

    Feature i turns with feature i + D / 2 by position / base^(2i / D), as in Llama.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=dtype, device=x.device) / half)
    positions = torch.arange(first, first + x.shape[2], dtype=dtype, device=x.device)
    angles = positions[:, None] * frequencies
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class RotaryCausalSelfAttention(nn.Module):
    """Causal self-attention with rotary positions on (B, T, width): output t sees x[<= t].

    Each of `kv_heads` keys and values serves heads / kv_heads queries (Ainslie et al. 2023, GQA).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        base: float = 10000.0,
        bias: bool = True,
        dropout: float = 0.0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.base, self.dropout = heads, kv_heads, base, dropout
        size = width // heads
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * size, bias=bias)
        self.out = nn.Linear(heads * size, outputs or width, bias=bias)

    def project(self, x: Tensor, first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, heads, T, size), keys and values (B, kv_heads, T, size).

        x[:, 0] is position `first` of the sequence.
        """
        split = self.heads, self.kv_heads, self.kv_heads
        qkv = self.qkv(x).unflatten(-1, (sum(split), -1)).transpose(1, 2)
        q, k, v = qkv.split(split, dim=1)
        return rotate(q, self.base, first), rotate(k, self.base, first), v

    def merge(self, y: Tensor) -> Tensor:
        """(B, heads, T, size) -> (B, T, outputs)."""
        merged: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return merged

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries are the last positions of the keys, as after a cached prefix."""
        n, m = q.shape[2], k.shape[2]
        # Aligned bottom-right: query i is position m - n + i. With is_causal=True, which aligns
        # top-left, a single query would see key 0 only.
        mask = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, enable_gqa=True
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        dropout = self.dropout if self.training else 0.0
        # As many queries as keys, so query t sees the keys <= t.
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=True
        )
        return self.merge(y)
