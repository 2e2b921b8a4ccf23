"""The output distributions: FACTS, no torch. One line here per head."""

from arspec.heads.base import Drawn, Head, HeadFacts
from arspec.heads.continuous import Gaussian, StudentT
from arspec.heads.discrete import Bernoulli, Categorical, Logistic

HEADS: dict[str, type[Head]] = {
    head.key: head for head in (Categorical, Bernoulli, Logistic, Gaussian, StudentT)
}

__all__ = ["HEADS", "Drawn", "Head", "HeadFacts"]
