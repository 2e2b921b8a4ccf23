"""Attention: every position weighs the ones that it may see (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

from arspec.graph import ALL, EVERYWHERE, PAST, PRESENT
from arspec.layers.base import Axes, Facts, Flag, Nodes, Number, Weighted
from arspec.layers.linear import missing_setting, settings
from arspec.layers.site import Site
from arspec.marks import ITEM, KEEPS
from arspec.values import DERIVED


class Attention(Weighted):
    """Multi-head attention over the prefix, or over a whole `memory`.

    `window: n` sees the n latest positions, `every: k` each k-th one, `along: axis` those that
    differ on that axis alone (`along: col` is the same row). `rope` is the base of rotary
    positions (Su et al. 2021), `alibi` adds linear biases (Press et al. 2022), `drop` drops
    attention weights.
    """

    key: ClassVar[str] = "attention"
    attention: Number
    over: Nodes | None = None
    kv_heads: Number | None = None
    dim: Number | None = None
    window: Number | None = None
    every: Number | None = None
    along: Axes | None = None
    rope: Number | None = None
    alibi: Flag = False
    drop: Number = 0

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        heads = site.number("attention", 1)
        width = site.width()
        kv_heads = site.number("kv_heads", 1) if self.kv_heads is not None else heads
        if self.dim is not None:
            dim = int(site.number("dim", 1).value)
        elif x.features.width % heads.value:
            site.fail("AR310", "attention", width=x.features.width, parts=heads.value)
        else:
            dim = x.features.width // int(heads.value)
        if heads.value % kv_heads.value:
            site.fail("AR310", "kv_heads", width=heads.value, parts=kv_heads.value)
        keys, reach, mask = self._keys(site)
        out = site.output(width, grouped=False)
        inner = dim * int(heads.value)
        inner_kv = dim * int(kv_heads.value)
        source_width = keys.info.features.width
        bias = bool(self.bias)
        parameters = (
            inner * (x.features.width + bias)
            + 2 * inner_kv * (source_width + bias)
            + out.width * (inner + bias)
        )
        piece, arguments, missing = self._code(site, mask, dim)
        same = "" if width.text == x.features.text else f", outputs={out.text}"
        return Facts(
            grid=x.grid,
            features=out,
            # under mask A the query is that of the position before: it must not see its own
            reads=((site.x, reach if mask == "A" else site.frame.point(ALL)), (keys, reach)),
            due=DERIVED if max(x.due, keys.info.due) >= DERIVED else max(x.due, keys.info.due),
            construct=f"{piece}({x.features.text}, {heads.text}{arguments}{same}{settings(self)})",
            call=_call(site),
            parameters=parameters,
            missing=missing_setting(self) or missing,
            mask=mask if mask != "none" else "",
        )

    def _keys(self, site: Site) -> tuple[Any, Any, str]:
        window = int(site.number("window", 1).value) if self.window is not None else None
        every = int(site.number("every", 1).value) if self.every is not None else None
        along = None if self.along is None else _listed(self.along)
        for axis in along or ():
            if axis not in site.axes:
                site.fail("AR308", "along", axis=axis, axes=", ".join(site.axes))
        if self.over is not None:
            site.without_effect("mask")
            memory = site.resolve_node(self.over, "over")
            return memory, site.frame.prefix(EVERYWHERE, window, every, along), "none"
        mask = site.mask()
        until = {"none": EVERYWHERE, "B": PRESENT, "A": PAST}[mask]
        return site.x, site.frame.prefix(until, window, every, along), mask

    def _code(self, site: Site, mask: str, dim: int) -> tuple[str, str, str | None]:
        """The piece, the arguments of its own, and what of the settings has no code yet."""
        drop = site.number("drop", 0, whole=False)
        if drop.value >= 1:
            site.fail("AR312", "drop", setting="drop", value=drop.value, need="below 1")
        dropout = f", dropout={drop.text}" if drop.value else ""
        if self.over is not None:
            return "", "", "attention over a memory"
        if mask == "none":
            return "", "", "attention without a mask"
        if self.along is not None:
            return "", "", "attention along some axes only"
        if len(site.axes) > 1 and not site.raster:
            return "", "", "attention over several axes that are not in raster order"
        if len(site.axes) > 1 and not (site.x.code.isidentifier() or site.x.code == ITEM):
            return "", "", "attention over several axes of an expression, not of a line"
        if self.every is not None:
            return "", "", "strided attention"
        if self.dim is not None:
            return "", "", "attention with a `dim` of its own"
        plain = self.window is None and mask == "B"
        if self.rope is not None or self.kv_heads is not None:
            if self.rope is None or self.alibi or not plain:
                return "", "", "grouped query heads or `rope` with these settings"
            kv_heads = site.resolve_number(self.kv_heads or self.attention, "kv_heads")
            base = site.number("rope", 1, whole=False)
            if dim % 2:
                site.fail("AR310", "rope", width=dim, parts=2)
            return "RotaryCausalSelfAttention", f", {kv_heads.text}, {base.text}{dropout}", None
        if self.alibi:
            missing = None if plain else "`alibi` with these settings"
            return "AlibiCausalSelfAttention", dropout, missing
        if self.window is not None:
            missing = None if mask == "B" else "windowed attention under mask A"
            window = site.number("window", 1)
            return "WindowedSelfAttention", f", {window.text}{dropout}", missing
        piece = "CausalSelfAttention" if mask == "B" else "StrictCausalSelfAttention"
        return piece, dropout, None


def _call(site: Site) -> str:
    """Several axes are one sequence, in raster order."""
    x, axes = site.x.code, len(site.axes)
    if axes < 2:
        return f"{{self}}({x}{KEEPS})"
    return f"{{self}}({x}.flatten(1, {axes}){KEEPS}).unflatten(1, {x}.shape[1:{axes + 1}])"


def _listed(axes: Any) -> list[str]:
    return [axes] if isinstance(axes, str) else list(axes)
