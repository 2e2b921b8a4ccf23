"""Self-attention along one axis."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .caches_attention import KeyCache
from .state import Offset, State


def prefix_mask(queries: int, keys: int, device: torch.device) -> Tensor | None:
    """Which keys a query sees that are not later than it, the last query being the last key.

    Aligned bottom-right: query i is position keys - queries + i. With is_causal=True, which aligns
    top-left, a single query would see key 0 only. None: one query sees all.
    """
    if queries == 1:
        return None
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def unseen(age: Tensor, like: Tensor) -> Tensor:
    """What is added to the scores of keys by their age: those to come, age < 0, are not seen."""
    return torch.zeros_like(age, dtype=like.dtype).masked_fill(age < 0, -torch.inf)


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention on (B, T, width) (Vaswani et al. 2017): output t sees x[<= t]."""

    _place: str = ""
    latest: int | None = None  # how far back it sees

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
        dropout = self.dropout if self.training else 0.0
        mask = prefix_mask(q.shape[2], k.shape[2], q.device)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    def bias_of(self, age: Tensor) -> Tensor:
        """What is added to the scores of keys by their age in a step."""
        return unseen(age, self.qkv.weight)

    def meet(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """One query and the keys of a cache, some of them to come."""
        if bias is None:  # before the first position
            return torch.zeros_like(q)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])

    def cache(self, source: Offset, output: Offset) -> KeyCache:
        """What a sampler keeps of x: its keys and values."""
        return KeyCache(source, output, self.latest)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        q, k, v = self.project(x)
        if past is not None and not past.filling:
            keys = KeyCache.of(self, past)
            if keys.single(past):
                return self.merge(self.meet(q, *keys.put(self, k, v, past)))
            return self.merge(self.attend(q, *keys.extend(k, v, past)))
        if past is not None:
            KeyCache.of(self, past).keep_all(q, k, v, past)
        dropout = self.dropout if self.training else 0.0
        # As many queries as keys, so query t sees the keys <= t.
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.merge(y)


class StrictCausalSelfAttention(CausalSelfAttention):
    """Causal self-attention one position later: output t sees x[< t], its query is that of t - 1.

    Position 0 sees nothing: zeros before the output projection.
    """

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None and not past.filling:
            return self.merge(self.newest(x, KeyCache.of(self, past), past))
        if past is not None:
            KeyCache.of(self, past).keep_all(*self.project(x), past)
        q, k, v = self.project(x[:, :-1])
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        # One zero in front: output t is what t - 1 attends to, so it sees x[<= t - 1].
        return self.merge(F.pad(y, (0, 0, 1, 0)))

    def cache(self, source: Offset, output: Offset) -> KeyCache:
        """What a sampler keeps of x: its keys and values, and the query that comes too early."""
        cache = super().cache(source, output)
        if source == output:
            cache.moving = (*cache.moving, "queries")
        return cache

    def newest(self, x: Tensor, keys: KeyCache, past: State) -> Tensor:
        """What the newest outputs attend to."""
        q, k, v = self.project(x)
        if not past.inside(past.to(keys.source)):
            return torch.zeros_like(q)
        alone = keys.single(past)
        if keys.source != keys.output:  # x is position t - 1
            if alone:
                return self.meet(q, *keys.put(self, k, v, past))
            return self.attend(q, *keys.extend(k, v, past))
        before, n = keys.queries, q.shape[2]
        if alone:
            k, v, bias = keys.put(self, k, v, past, before=1)
            if before is None:  # position 0 sees nothing
                keys.queries = q.clone()
                return torch.zeros_like(q)
            y = self.meet(before, k, v, bias)
            before.copy_(q)
            return y
        keys.queries = q[:, :, -1:]
        k, v = keys.extend(k, v, past)
        q = q[:, :, :-1] if before is None else torch.cat([before, q[:, :, :-1]], dim=2)
        if not q.shape[2]:
            return torch.zeros_like(keys.queries)
        y = self.attend(q, k[:, :, :-1], v[:, :, :-1])
        return F.pad(y, (0, 0, n - y.shape[2], 0))  # position 0 sees nothing


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
        self.latest = self.reach = window

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries are the last positions of the keys, as after a cached prefix."""
        n, m = q.shape[2], min(k.shape[2], q.shape[2] - 1 + self.reach)
        k, v = k[:, :, k.shape[2] - m :], v[:, :, v.shape[2] - m :]
        mask = prefix_mask(n, m, q.device)
        if mask is not None:
            mask = mask.triu(m - n - self.reach + 1)  # neither later nor `window` positions back
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        q, k, v = self.project(x)
        if past is not None and not past.filling:
            keys = KeyCache.of(self, past)
            if keys.single(past):
                return self.merge(self.meet(q, *keys.put(self, k, v, past)))
            return self.merge(self.newest(q, *keys.extend(k, v, past)))
        if past is not None:
            KeyCache.of(self, past).keep_all(q, k, v, past)
        length = x.shape[1]
        size = min(self.reach, length)
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
        mask = (key <= query) & (key > query - self.reach) & (first + key >= 0)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        y = torch.unflatten(y, 0, (-1, self.heads)).flatten(2, 3)
        return self.merge(y[:, :, :length])

    def newest(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries are the last positions of the keys; each block of them sees its window."""
        before, n = k.shape[2] - q.shape[2], q.shape[2]
        ends = [min(start + self.reach, n) for start in range(0, n, self.reach)]
        starts = [max(start + before - self.reach + 1, 0) for start in range(0, n, self.reach)]
        blocks = [
            self.attend(
                q[:, :, i * self.reach : end],
                k[:, :, start : before + end],
                v[:, :, start : before + end],
            )
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)


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
        scores = self.bias_of(key[m - n :, None] - key)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=scores, dropout_p=dropout)

    def bias_of(self, age: Tensor) -> Tensor:
        """(heads, ..., keys): what is added to the scores of keys by their age, (..., keys)."""
        slopes = self.slopes.view(-1, *[1] * age.dim())
        return -slopes * age + unseen(age, self.slopes)

    def meet(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """One query and the keys of a cache, some of them to come."""
        return super().meet(q, k, v, None if bias is None else bias[:, None])

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        q, k, v = self.project(x)
        if past is not None and past.filling:
            KeyCache.of(self, past).keep_all(q, k, v, past)
        elif past is not None:
            keys = KeyCache.of(self, past)
            if keys.single(past):
                return self.merge(self.meet(q, *keys.put(self, k, v, past)))
            k, v = keys.extend(k, v, past)
        return self.merge(self.attend(q, k, v))


def rotate(x: Tensor, base: float, first: int | Tensor = 0) -> Tensor:
    """Rotary positions first, first + 1, ... on (B, heads, T, D) (Su et al. 2021, RoFormer).

    Feature i turns with feature i + D / 2 by position / base^(2i / D), as in Llama.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=dtype, device=x.device) / half)
    positions = torch.arange(x.shape[2], dtype=dtype, device=x.device) + first
    angles = positions[:, None] * frequencies
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class RotaryCausalSelfAttention(nn.Module):
    """Causal self-attention with rotary positions on (B, T, width): output t sees x[<= t].

    Each of `kv_heads` keys and values serves heads / kv_heads queries (Ainslie et al. 2023, GQA).
    """

    _place: str = ""

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

    def project(self, x: Tensor, first: int | Tensor = 0) -> tuple[Tensor, Tensor, Tensor]:
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
        dropout = self.dropout if self.training else 0.0
        mask = prefix_mask(q.shape[2], k.shape[2], q.device)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, enable_gqa=True
        )

    def bias_of(self, age: Tensor) -> Tensor:
        """What is added to the scores of keys by their age in a step."""
        return unseen(age, self.qkv.weight)

    def meet(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """One query and the keys of a cache, some of them to come."""
        if bias is None:  # before the first position
            return torch.zeros_like(q)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], enable_gqa=True)

    def cache(self, source: Offset, output: Offset) -> KeyCache:
        """What a sampler keeps of x: its keys, turned by their positions, and values."""
        return KeyCache(source, output)

    def forward(self, x: Tensor, past: State | None = None) -> Tensor:
        if past is not None and not past.filling:
            keys = KeyCache.of(self, past)
            if keys.single(past):
                q, k, v = self.project(x, keys.newest(past).clamp(0))
                return self.merge(self.meet(q, *keys.put(self, k, v, past)))
            q, k, v = self.project(x, max(keys.start(past), 0))
            return self.merge(self.attend(q, *keys.extend(k, v, past)))
        q, k, v = self.project(x)
        if past is not None:
            KeyCache.of(self, past).keep_all(q, k, v, past)
        dropout = self.dropout if self.training else 0.0
        # As many queries as keys, so query t sees the keys <= t.
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=True
        )
        return self.merge(y)
