"""Normalisation and dropout."""

from __future__ import annotations

from typing import ClassVar, Literal

from arspec.graph import ALL, EVERYWHERE, SAME, Reach
from arspec.layers.base import Facts, Flag, Number, Op
from arspec.layers.site import Site
from arspec.values import DERIVED


class Norm(Op):
    """`layer` and `rms` normalise one position over all its features; `batch` and `group` take
    their statistics over every position, and so read all of them."""

    key: ClassVar[str] = "norm"
    norm: Literal["layer", "rms", "batch", "group"]
    eps: Number = 1e-5
    groups: Number = 1
    bias: Flag = True

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        if self.norm == "rms":
            site.without_effect("bias")
        if self.norm != "group":
            site.without_effect("groups")
        eps = site.number("eps", 0, whole=False)
        text = x.features.text
        tail = "" if eps.value == 1e-5 else f", eps={eps.text}"
        reach: Reach = site.frame.point(ALL)
        missing = None
        construct = f"nn.RMSNorm({text}, eps={eps.text})"
        parameters = x.features.width
        if self.norm == "layer":
            bias = "" if self.bias else ", bias=False"
            construct = f"nn.LayerNorm({text}{tail}{bias})"
            parameters *= 1 + bool(self.bias)
        elif self.norm in ("batch", "group"):
            reach = site.frame.prefix(EVERYWHERE, groups=SAME if self.norm == "batch" else ALL)
            missing = f"`norm: {self.norm}`"
            parameters *= 2
        return Facts(
            grid=x.grid,
            features=x.features,
            reads=((site.x, reach),),
            due=min(x.due, DERIVED),
            construct=construct,
            call=f"{{self}}({site.x.code})",
            parameters=parameters,
            missing=missing,
        )


class Dropout(Op):
    """Zeroes features with probability p while training (Srivastava et al. 2014)."""

    key: ClassVar[str] = "dropout"
    dropout: Number

    def facts(self, site: Site) -> Facts:
        x = site.x.info
        rate = site.number("dropout", 0, whole=False)
        if rate.value >= 1:
            site.fail("AR312", "dropout", setting="dropout", value=rate.value, need="below 1")
        return Facts(
            grid=x.grid,
            features=x.features,
            reads=((site.x, site.frame.point()),),
            due=x.due,
            construct=f"nn.Dropout({rate.text})",
            call=f"{{self}}({site.x.code})",
        )
