"""Distributions over symbols and levels."""

from __future__ import annotations

from typing import ClassVar

from arspec.heads.base import Drawn, Head, HeadFacts, Number
from arspec.layers.base import Flag
from arspec.values import Num, product_text


class Categorical(Head):
    """A softmax over every class or level (the main argument is 1: one component)."""

    key: ClassVar[str] = "categorical"
    kinds: ClassVar[tuple[str, ...]] = ("classes", "levels")
    categorical: Number = 1

    def facts(self, drawn: Drawn, components: Num) -> HeadFacts:
        missing = None if components.value == 1 else "a mixture of categoricals"
        text = f"Categorical({drawn.count.text})"
        return HeadFacts(drawn.count, True, text, missing, truncated=True)


class Bernoulli(Head):
    """One logit for a variable with two values."""

    key: ClassVar[str] = "bernoulli"
    kinds: ClassVar[tuple[str, ...]] = ("classes", "levels")
    bernoulli: Number = 1

    def misfit(self, drawn: Drawn) -> str | None:
        if drawn.count.value != 2:
            return f"`bernoulli` describes two values, not {drawn.count.value}"
        return super().misfit(drawn)

    def facts(self, drawn: Drawn, components: Num) -> HeadFacts:
        missing = None if components.value == 1 else "a mixture of Bernoullis"
        return HeadFacts(Num(1, "1"), True, "Bernoulli()", missing)


class Logistic(Head):
    """A mixture of logistics (Salimans et al. 2017): discretised for `levels`.

    `coupled`: the means of later channels are linear in the earlier ones, as in PixelCNN++.
    """

    key: ClassVar[str] = "logistic"
    kinds: ClassVar[tuple[str, ...]] = ("levels", "features")
    logistic: Number = 1
    coupled: Flag = False

    def facts(self, drawn: Drawn, components: Num) -> HeadFacts:
        n = int(components.value)
        if self.coupled:
            per_component = 1 + 2 * drawn.channels + drawn.channels * (drawn.channels - 1) // 2
            size = Num(n * per_component, product_text(per_component, components.text))
            return HeadFacts(size, False, "", "a coupled mixture of logistics")
        size = Num(3 * n, product_text(3, components.text))
        text = f"DiscretizedLogisticMixture({components.text}, {drawn.count.text})"
        missing = None if drawn.kind == "levels" else "a mixture of logistics over real features"
        return HeadFacts(size, True, text, missing)
