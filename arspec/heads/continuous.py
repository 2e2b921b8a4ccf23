"""Distributions over real features."""

from __future__ import annotations

from typing import ClassVar

from arspec.heads.base import Drawn, Head, HeadFacts, Number
from arspec.layers.base import Nodes
from arspec.values import Num, product_text


class Gaussian(Head):
    """A normal distribution, or a mixture of `gaussian` diagonal ones over all features."""

    key: ClassVar[str] = "gaussian"
    kinds: ClassVar[tuple[str, ...]] = ("features",)
    parameters: ClassVar[tuple[str, ...]] = ("mean", "scale")
    gaussian: Number = 1
    mean: Nodes | None = None
    scale: Nodes | None = None

    def facts(self, drawn: Drawn, components: Num) -> HeadFacts:
        features = drawn.count
        if components.value == 1:
            size = Num(2 * int(features.value), product_text(2, features.text))
            return HeadFacts(size, False, f"Gaussian({features.text})")
        n = int(components.value)
        size = Num(
            n * (1 + 2 * int(features.value)), f"{components.text} * (1 + 2 * {features.text})"
        )
        return HeadFacts(size, False, f"MixtureOfGaussians({components.text}, {features.text})")


class StudentT(Head):
    """Student's t, for returns with heavy tails (Bollerslev 1987)."""

    key: ClassVar[str] = "student_t"
    kinds: ClassVar[tuple[str, ...]] = ("features",)
    parameters: ClassVar[tuple[str, ...]] = ("mean", "scale", "df")
    student_t: Number = 1
    mean: Nodes | None = None
    scale: Nodes | None = None
    df: Nodes | None = None

    def facts(self, drawn: Drawn, components: Num) -> HeadFacts:
        features = drawn.count
        size = Num(3 * int(features.value), product_text(3, features.text))
        missing = None if components.value == 1 else "a mixture of Student's t"
        return HeadFacts(size, False, f"StudentT({features.text})", missing)
