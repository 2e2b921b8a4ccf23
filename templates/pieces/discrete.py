"""Distributions of discrete variables. Parameters are the last dimension, one set a position.

Log-densities are in nats and computed in float32 or better, whatever the type of the parameters.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def draw(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """An index from softmax(logits / temperature), by its distribution function; 0: the largest."""
    if temperature == 0:
        return logits.argmax(-1)
    if temperature != 1:
        logits = logits / temperature
    below = logits.softmax(-1).cumsum(-1)
    total = below[..., -1:]
    uniform = torch.rand(total.shape, dtype=total.dtype, device=total.device, generator=generator)
    # In (0, total]: the first index that gets as far is never one of probability 0.
    return torch.searchsorted(below, (uniform.neg() + 1) * total)[..., 0]


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k largest logits, the others at -inf."""
    if k < 1:
        raise ValueError(f"top_k is at least 1, not {k}")
    values, kept = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, values)


def keep_nucleus(logits: Tensor, p: float, temperature: float) -> Tensor:
    """The fewest classes that together have probability p, the others at -inf.

    Probabilities are softmax(logits / temperature) (Holtzman et al. 2020). One class always stays.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p is in (0, 1], not {p}")
    values, order = logits.sort(dim=-1, descending=True)
    probabilities = F.softmax(values / temperature, dim=-1)
    before = probabilities.cumsum(-1) - probabilities  # of the classes more probable than this one
    values = values.masked_fill(before >= p, -torch.inf)
    return torch.empty_like(logits).scatter(-1, order, values)


class Categorical:
    """One of `classes` symbols. Parameters: (..., classes) logits; x: (...) integers."""

    def __init__(self, classes: int) -> None:
        self.classes = self.parameters = classes

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits = params.to(torch.promote_types(params.dtype, torch.float32))
        return F.log_softmax(logits, dim=-1).gather(-1, x.long()[..., None])[..., 0]

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        logits = params.to(torch.promote_types(params.dtype, torch.float32))
        if top_k is not None:
            logits = keep_top_k(logits, top_k)
        if top_p is not None and temperature > 0:
            logits = keep_nucleus(logits, top_p, temperature)
        return draw(logits, temperature, generator)


class Bernoulli:
    """0 or 1. Parameters: (..., 1), the logit of 1; x: (...) integers."""

    parameters = 1

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logit = params[..., 0].to(torch.promote_types(params.dtype, torch.float32))
        return F.logsigmoid((2 * x.to(logit.dtype) - 1) * logit)

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        logit = params[..., 0].to(torch.promote_types(params.dtype, torch.float32))
        uniform = torch.rand(
            logit.shape, dtype=logit.dtype, device=logit.device, generator=generator
        )
        # logit(u) is a draw from the logistic distribution, the difference of two Gumbels.
        return (logit > temperature * torch.logit(uniform, eps=1e-7)).long()


class DiscretizedLogisticMixture:
    """Mixture of logistics over 0 .. levels - 1 (Salimans et al. 2017, PixelCNN++, section 2.1).

    Parameters: (..., 3 * components), the mixture's logits, means and log scales (clamped at -7)
    on the levels rescaled to [-1, 1]; x: (...) integers. The outermost bins reach to infinity.
    """

    def __init__(self, components: int, levels: int) -> None:
        self.components, self.levels = components, levels
        self.parameters = 3 * components

    def split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means, log scales, each (..., components)."""
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        logits, means, log_scales = params.chunk(3, dim=-1)
        return logits, means, log_scales.clamp(min=-7)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, means, log_scales = self.split(params)
        x = x[..., None]
        half = 1 / (self.levels - 1)  # of a bin's width
        centre = (2 * x.to(means.dtype) - (self.levels - 1)) / (self.levels - 1) - means
        precision = torch.exp(-log_scales)
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no cancellation, so no
        # special case in the tails. An edge at infinity has its sigmoid at 1.
        below = F.logsigmoid((centre + half) * precision).masked_fill(x == self.levels - 1, 0)
        above = F.logsigmoid((half - centre) * precision).masked_fill(x == 0, 0)
        inside = torch.log(-torch.expm1(-2 * half * precision))
        inside = inside.masked_fill((x == 0) | (x == self.levels - 1), 0)
        return torch.logsumexp(F.log_softmax(logits, dim=-1) + below + above + inside, dim=-1)

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Temperature divides the mixture's logits and multiplies the scales."""
        logits, means, log_scales = self.split(params)
        component = draw(logits, temperature, generator)[..., None]
        mean, log_scale = means.gather(-1, component), log_scales.gather(-1, component)
        uniform = torch.rand(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        value = mean + temperature * log_scale.exp() * torch.logit(uniform, eps=1e-7)
        level = (value[..., 0] + 1) / 2 * (self.levels - 1)
        return level.round().clamp(0, self.levels - 1).long()
