"""Distributions of real variables. Parameters are the last dimension, one set a position.

Log-densities are in nats and computed in float32 or better, whatever the type of the parameters.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .discrete import draw


class Gaussian:
    """Independent normals. Parameters: (..., 2 * features), means and log scales.

    x: (..., features); its log-density is summed over the features.
    """

    def __init__(self, features: int) -> None:
        self.features = features
        self.parameters = 2 * features

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        means, log_scales = params.chunk(2, dim=-1)
        z = (x - means) * torch.exp(-log_scales)
        return (-0.5 * z**2 - log_scales - 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Temperature multiplies the scales."""
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        means, log_scales = params.chunk(2, dim=-1)
        noise = torch.randn(
            means.shape, dtype=means.dtype, device=means.device, generator=generator
        )
        return means + temperature * log_scales.exp() * noise


class StudentT:
    """Independent Student's t. Parameters: (..., 3 * features): means, log scales, log degrees.

    x: (..., features); its log-density is summed over the features.
    """

    def __init__(self, features: int) -> None:
        self.features = features
        self.parameters = 3 * features

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        means, log_scales, log_degrees = params.chunk(3, dim=-1)
        degrees = log_degrees.exp()
        z = (x - means) * torch.exp(-log_scales)
        constant = torch.lgamma((degrees + 1) / 2) - torch.lgamma(degrees / 2)
        constant = constant - 0.5 * (log_degrees + math.log(math.pi)) - log_scales
        return (constant - (degrees + 1) / 2 * torch.log1p(z**2 / degrees)).sum(-1)

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """By the polar method (Bailey 1994). Temperature multiplies the scales."""
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        means, log_scales, log_degrees = params.chunk(3, dim=-1)
        u, angle = torch.rand(
            (2, *means.shape), dtype=means.dtype, device=means.device, generator=generator
        )
        u, degrees = 1 - u, log_degrees.exp()  # u in (0, 1]
        tail = (-2 / degrees * torch.log(u)).clamp(max=80)  # finite in float32
        radius = torch.sqrt(degrees * torch.expm1(tail))
        z = radius * torch.cos(2 * math.pi * angle)
        return means + temperature * log_scales.exp() * z


class MixtureOfGaussians:
    """Mixture of diagonal normals (Bishop 1994, mixture density networks). x: (..., features).

    Parameters: (..., components * (1 + 2 * features)), the mixture's logits, then the means of
    each component in turn, then the log scales likewise.
    """

    def __init__(self, components: int, features: int) -> None:
        self.components, self.features = components, features
        self.parameters = components * (1 + 2 * features)

    def split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (..., components); means and log scales (..., components, features)."""
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        size = self.components * self.features
        logits, means, log_scales = torch.split(params, [self.components, size, size], dim=-1)
        each = (self.components, self.features)
        return logits, torch.unflatten(means, -1, each), torch.unflatten(log_scales, -1, each)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, means, log_scales = self.split(params)
        z = (x[..., None, :] - means) * torch.exp(-log_scales)
        normal = (-0.5 * z**2 - log_scales - 0.5 * math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(F.log_softmax(logits, dim=-1) + normal, dim=-1)

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Temperature divides the mixture's logits and multiplies the scales."""
        logits, means, log_scales = self.split(params)
        component = draw(logits, temperature, generator)[..., None, None]
        mean = means.take_along_dim(component, dim=-2)[..., 0, :]
        log_scale = log_scales.take_along_dim(component, dim=-2)[..., 0, :]
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        return mean + temperature * log_scale.exp() * noise


class LogisticMixture:
    """Mixture of logistics over one real feature. x: (..., 1).

    Parameters: (..., 3 * components), the mixture's logits, means and log scales.
    """

    def __init__(self, components: int) -> None:
        self.components = components
        self.parameters = 3 * components

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        logits, means, log_scales = params.chunk(3, dim=-1)
        z = (x - means) * torch.exp(-log_scales)
        logistic = F.logsigmoid(z) + F.logsigmoid(-z) - log_scales
        return torch.logsumexp(F.log_softmax(logits, dim=-1) + logistic, dim=-1)

    def sample(
        self,
        params: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Temperature divides the mixture's logits and multiplies the scales."""
        params = params.to(torch.promote_types(params.dtype, torch.float32))
        logits, means, log_scales = params.chunk(3, dim=-1)
        component = draw(logits, temperature, generator)[..., None]
        mean, log_scale = means.gather(-1, component), log_scales.gather(-1, component)
        uniform = torch.rand(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        return mean + temperature * log_scale.exp() * torch.logit(uniform, eps=1e-7)
