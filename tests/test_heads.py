"""The distributions of emitted files: densities against references, draws by their counts."""

# ruff: noqa: I001  (pieces_path comes first: it makes `pieces` importable)
from collections.abc import Callable
from decimal import Decimal, getcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import pieces_path  # noqa: F401
from pieces.continuous import Gaussian, LogisticMixture, MixtureOfGaussians, StudentT
from pieces.discrete import Bernoulli, Categorical, DiscretizedLogisticMixture

distributions: Any = torch.distributions  # untyped
DRAWS = 20_000


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_frequencies(counts: Tensor, probabilities: Tensor) -> None:
    """Pearson's chi-square, 5 standard deviations wide; bins expecting less than 5 are pooled."""
    expected = probabilities.double() * counts.sum()
    assert counts[expected == 0].sum() == 0
    rare = expected < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    used = expected > 0
    statistic = ((counts - expected)[used] ** 2 / expected[used]).sum()
    freedom = int(used.sum()) - 1
    assert statistic <= freedom + 5 * (2 * freedom) ** 0.5, f"{statistic} on {freedom}"


def assert_uniform(u: Tensor) -> None:
    counts = torch.histc(u.double(), 40, 0, 1)
    assert_frequencies(counts, torch.full((40,), 1 / 40))


# Categorical


def test_categorical_density() -> None:
    head, params = Categorical(7), 5 * torch.randn(3, 4, 7).double()
    x = torch.randint(0, 7, (3, 4))
    reference = distributions.Categorical(logits=params).log_prob(x)
    torch.testing.assert_close(head.log_prob(params, x), reference)
    assert head.parameters == 7
    total = torch.stack([head.log_prob(params, torch.full((3, 4), c)) for c in range(7)])
    torch.testing.assert_close(total.exp().sum(0), torch.ones(3, 4).double())


def draw_many(params: Tensor, **settings: Any) -> Tensor:
    head = Categorical(params.shape[-1])
    x = head.sample(params.expand(DRAWS, -1), generator=generator(), **settings)
    assert x.dtype == torch.long
    return torch.bincount(x, minlength=params.shape[-1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_categorical_draws(temperature: float) -> None:
    params = torch.randn(12) * 2
    counts = draw_many(params, temperature=temperature)
    assert_frequencies(counts, (params / temperature).softmax(-1))


@pytest.mark.parametrize("k", [1, 3, 12, 99])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_top_k_keeps_the_k_largest(k: int, temperature: float) -> None:
    params = torch.randn(12)
    kept = params.argsort(descending=True)[:k]
    expected = torch.zeros(12)
    expected[kept] = (params[kept] / temperature).softmax(-1)
    assert_frequencies(draw_many(params, top_k=k, temperature=temperature), expected)


def test_top_k_keeps_k_of_equals() -> None:
    assert (draw_many(torch.zeros(9), top_k=4) > 0).sum() == 4


@pytest.mark.parametrize(
    ("p", "kept"), [(1e-9, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4), (1.0, 4)]
)
def test_top_p_keeps_the_smallest_nucleus(p: float, kept: int) -> None:
    probabilities = torch.tensor([0.3, 0.1, 0.4, 0.2])
    largest = probabilities.argsort(descending=True)[:kept]
    expected = torch.zeros(4)
    expected[largest] = probabilities[largest] / probabilities[largest].sum()
    assert_frequencies(draw_many(probabilities.log(), top_p=p), expected)


def test_top_p_follows_the_temperature_and_comes_after_top_k() -> None:
    params = torch.tensor([0.0, -1.0, -2.0, -3.0])
    assert (draw_many(params, top_p=0.8) > 0).sum() == 2  # 0.64, 0.24, 0.09, 0.03
    assert (draw_many(params, top_p=0.8, temperature=0.5) > 0).sum() == 1  # 0.86, ...
    assert (draw_many(params, top_p=0.95) > 0).sum() == 3
    assert (draw_many(params, top_p=0.95, top_k=2) > 0).sum() == 2
    assert (draw_many(params, top_p=0.7, top_k=2) > 0).sum() == 1  # 0.73, 0.27 of the two left


@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_temperature_zero_takes_the_largest(settings: dict[str, Any]) -> None:
    params = torch.randn(50, 8)
    x = Categorical(8).sample(params, temperature=0.0, **settings)
    assert torch.equal(x, params.argmax(-1))


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_senseless_restrictions_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="top_"):
        Categorical(4).sample(torch.zeros(4), **settings)


# Bernoulli


def test_bernoulli_density() -> None:
    logits = torch.cat([torch.randn(50) * 5, torch.tensor([0.0, 30.0, -30.0])]).double()
    for x in (torch.zeros(53).long(), torch.ones(53).long()):
        reference = distributions.Bernoulli(logits=logits).log_prob(x.double())
        torch.testing.assert_close(Bernoulli().log_prob(logits[:, None], x), reference)


def test_bernoulli_is_stable_far_out() -> None:
    logits = torch.tensor([1e4, -1e4], requires_grad=True)
    right = Bernoulli().log_prob(logits[:, None], torch.tensor([1, 0]))
    wrong = Bernoulli().log_prob(logits[:, None], torch.tensor([0, 1]))
    assert right.tolist() == [0, 0]
    assert wrong.tolist() == [-1e4, -1e4]
    (gradient,) = torch.autograd.grad(wrong.sum(), logits)
    assert gradient.tolist() == [-1, 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_bernoulli_draws(temperature: float) -> None:
    params = torch.tensor([0.8]).expand(DRAWS, 1)
    x = Bernoulli().sample(params, temperature, generator())
    p = torch.tensor([-0.8, 0.8]).div(temperature).sigmoid()
    assert x.dtype == torch.long
    assert_frequencies(torch.bincount(x, minlength=2), p)


def test_bernoulli_at_temperature_zero() -> None:
    params = torch.randn(100, 1)
    assert torch.equal(Bernoulli().sample(params, 0.0), (params[:, 0] > 0).long())


# Discretized mixture of logistics


def exact_logistic_bin(level: int, levels: int, mean: float, log_scale: float) -> float:
    """log of the probability of a bin of one logistic, from the definition, in 60 digits."""
    getcontext().prec = 60
    scale = Decimal(log_scale).exp()

    def cdf(edge: Decimal) -> Decimal:
        return 1 / (1 + (-(edge - Decimal(mean)) / scale).exp())

    centre, half = Decimal(2 * level) / (levels - 1) - 1, Decimal(1) / (levels - 1)
    # A mirrored bin has the same probability, without 1 - cdf of a long upper tail.
    if centre > Decimal(mean):
        return exact_logistic_bin(levels - 1 - level, levels, -mean, log_scale)
    upper = Decimal(1) if level == levels - 1 else cdf(centre + half)
    lower = Decimal(0) if level == 0 else cdf(centre - half)
    return float((upper - lower).ln())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_logistic_is_exact(dtype: torch.dtype) -> None:
    """Absolute error <= 1e-4 in float32, beside the rounding of a number of that size."""
    head = DiscretizedLogisticMixture(1, 256)
    for log_scale in torch.linspace(-7, 7, 15).tolist():
        for mean in (-3.0, -1.0, -0.7, 0.003921569, 0.1, 0.99, 1.0, 2.2, 3.0):
            params = torch.tensor([0.0, mean, log_scale], dtype=dtype)
            given = params.double().tolist()
            levels = [0, 1, 2, 38, 64, 127, 128, 200, 253, 254, 255]
            got = head.log_prob(params.expand(len(levels), 3), torch.tensor(levels))
            assert got.dtype == dtype
            exact = [exact_logistic_bin(level, 256, given[1], given[2]) for level in levels]
            absolute, relative = (1e-4, 5e-7) if dtype == torch.float32 else (1e-11, 1e-14)
            assert got.tolist() == pytest.approx(exact, abs=absolute, rel=relative)


def random_mixture(batch: int, components: int) -> Tensor:
    logits, means = torch.randn(2, batch, components).double()
    log_scales = torch.rand(batch, components).double() * 14 - 7
    return torch.cat([logits, 1.5 * means, log_scales], -1)


@pytest.mark.parametrize("levels", [2, 3, 32, 256])
@pytest.mark.parametrize("components", [1, 5])
def test_discretized_mixture_sums_to_one(levels: int, components: int) -> None:
    head, params = DiscretizedLogisticMixture(components, levels), random_mixture(40, components)
    assert params.shape[-1] == head.parameters
    x = torch.arange(levels)[:, None].expand(-1, 40)
    total = head.log_prob(params.expand(levels, -1, -1), x).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(40).double(), rtol=0, atol=1e-12)
    single = head.log_prob(params.float().expand(levels, -1, -1), x).exp().sum(0)
    torch.testing.assert_close(single, torch.ones(40), rtol=0, atol=1e-4)


def test_discretized_mixture_is_the_mixture_of_its_bins() -> None:
    head, params = DiscretizedLogisticMixture(3, 16), random_mixture(5, 3)
    weights = params[:, :3].softmax(-1)
    for b, level in ((b, level) for b in range(5) for level in (0, 1, 7, 15)):
        bins = [
            exact_logistic_bin(level, 16, params[b, 3 + k].item(), params[b, 6 + k].item())
            for k in range(3)
        ]
        expected = (weights[b] * torch.tensor(bins).double().exp()).sum().log()
        torch.testing.assert_close(head.log_prob(params[b], torch.tensor(level)), expected)


def test_discretized_mixture_in_float32_is_that_in_float64() -> None:
    head = DiscretizedLogisticMixture(10, 256)
    params = random_mixture(2000, 10).float()
    x = torch.randint(0, 256, (2000,))
    torch.testing.assert_close(
        head.log_prob(params, x).double(), head.log_prob(params.double(), x), rtol=5e-7, atol=1e-4
    )


def test_discretized_mixture_has_finite_gradients_and_clamps_its_scales() -> None:
    head = DiscretizedLogisticMixture(1, 256)
    means = torch.linspace(-9, 9, 19)[:, None].expand(-1, 29)
    scales = torch.linspace(-50, 20, 29).expand(19, -1)
    params = torch.stack([torch.zeros_like(means), means, scales], -1).requires_grad_()
    clamped = torch.stack([torch.zeros_like(means), means, scales.clamp(min=-7)], -1)
    for level in (0, 1, 128, 254, 255):
        x = torch.full(means.shape, level)
        value = head.log_prob(params, x)
        (gradient,) = torch.autograd.grad(value.sum(), params)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert torch.equal(value, head.log_prob(clamped, x))


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_discretized_mixture_draws(temperature: float) -> None:
    head = DiscretizedLogisticMixture(2, 32)
    params = torch.tensor([0.3, -0.4, -0.9, 0.5, -1.2, -3.0]).double()
    x = head.sample(params.expand(DRAWS, -1), temperature, generator())
    assert x.dtype == torch.long
    tempered = params.clone()
    tempered[:2] /= temperature
    tempered[4:] += torch.tensor(temperature).log()
    levels = torch.arange(32)
    probabilities = head.log_prob(tempered.expand(32, -1), levels).exp()
    assert_frequencies(torch.bincount(x, minlength=32), probabilities)


def test_discretized_mixture_at_temperature_zero() -> None:
    head = DiscretizedLogisticMixture(2, 256)
    params = torch.tensor([0.0, 1.0, -0.5, 0.5, 5.0, 5.0]).expand(100, -1)
    assert (head.sample(params, 0.0) == 191).all()  # (0.5 + 1) / 2 * 255 = 191.25


# Real variables


def test_gaussian_density() -> None:
    head, params = Gaussian(3), torch.randn(4, 5, 6).double()
    x = torch.randn(4, 5, 3).double()
    normal = distributions.Normal(params[..., :3], params[..., 3:].exp())
    torch.testing.assert_close(head.log_prob(params, x), normal.log_prob(x).sum(-1))
    assert head.parameters == 6


def mixture_of_gaussians(params: Tensor) -> Any:
    means, scales = params[..., 2:8].reshape(-1, 2, 3), params[..., 8:].reshape(-1, 2, 3).exp()
    parts = distributions.Independent(distributions.Normal(means, scales), 1)
    return distributions.MixtureSameFamily(distributions.Categorical(logits=params[..., :2]), parts)


def test_student_t_density() -> None:
    head, params = StudentT(3), torch.randn(4, 5, 9).double()
    mean, scale, degrees = params[..., :3], params[..., 3:6].exp(), params[..., 6:].exp()
    x = 3 * torch.randn(4, 5, 3).double()
    reference = distributions.StudentT(degrees, mean, scale).log_prob(x).sum(-1)
    torch.testing.assert_close(head.log_prob(params, x), reference)
    assert head.parameters == 9


@pytest.mark.parametrize("degrees", [1.0, 2.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_student_t_draws(degrees: float, temperature: float) -> None:
    """One and two degrees of freedom have distribution functions in closed form."""
    params = torch.tensor([0.7, -0.3, degrees]).double()
    params[2] = params[2].log()
    x = StudentT(1).sample(params.expand(DRAWS, -1), temperature, generator())[..., 0]
    z = (x - 0.7) / (temperature * params[1].exp())
    u = 0.5 + torch.atan(z) / torch.pi if degrees == 1 else 0.5 + z / (2 * (2 + z**2).sqrt())
    assert_uniform(u)


def test_mixture_of_gaussians_density() -> None:
    head, params = MixtureOfGaussians(2, 3), torch.randn(50, 14).double()
    x = torch.randn(50, 3).double()
    torch.testing.assert_close(head.log_prob(params, x), mixture_of_gaussians(params).log_prob(x))
    assert head.parameters == 14


def logistic(means: Tensor, scales: Tensor) -> Any:
    uniform = distributions.Uniform(torch.zeros_like(means), torch.ones_like(means))
    loc_scale = distributions.AffineTransform(means, scales)
    return distributions.TransformedDistribution(
        uniform, [distributions.SigmoidTransform().inv, loc_scale]
    )


def logistic_mixture(params: Tensor) -> Any:
    logits, means, log_scales = params.chunk(3, -1)
    parts = logistic(means, log_scales.exp())
    return distributions.MixtureSameFamily(distributions.Categorical(logits=logits), parts)


def test_logistic_mixture_density() -> None:
    head, params = LogisticMixture(4), torch.randn(50, 12).double()
    x = torch.randn(50, 1).double()
    reference = logistic_mixture(params).log_prob(x[:, 0])
    torch.testing.assert_close(head.log_prob(params, x), reference)
    assert head.parameters == 12


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_gaussian_draws(temperature: float) -> None:
    params = torch.tensor([0.5, -2.0, 0.3, -1.0]).double().expand(DRAWS, 4)
    x = Gaussian(2).sample(params, temperature, generator())
    normal = distributions.Normal(params[:, :2], temperature * params[:, 2:].exp())
    u = normal.cdf(x)
    assert_uniform(u[:, 0])
    assert_uniform(u[:, 1])
    assert_uniform((u[:, 0] + u[:, 1]) % 1)  # independent


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_mixture_draws(temperature: float) -> None:
    logistics = torch.tensor([0.5, -0.5, -1.0, 2.0, 0.2, -0.7]).double()
    tempered = torch.cat([logistics[:2] / temperature, logistics[2:4], logistics[4:]])
    tempered[4:] += torch.tensor(temperature).log()
    x = LogisticMixture(2).sample(logistics.expand(DRAWS, -1), temperature, generator())
    assert x.shape == (DRAWS, 1)
    assert_uniform(logistic_mixture(tempered.expand(DRAWS, -1)).cdf(x[:, 0]))

    gaussians = torch.tensor([0.5, -0.5, -1.0, 2.0, 0.2, -0.7]).double()
    x = MixtureOfGaussians(2, 1).sample(gaussians.expand(DRAWS, -1), temperature, generator())
    parts = distributions.Normal(tempered[2:4], tempered[4:].exp())
    choice = distributions.Categorical(logits=tempered[:2])
    assert_uniform(distributions.MixtureSameFamily(choice, parts).cdf(x[:, 0]))


def test_a_mixture_draws_all_features_from_one_component() -> None:
    means = torch.tensor([-5.0, -5.0, 5.0, 5.0])
    params = torch.cat([torch.zeros(2), means, torch.full((4,), -3.0)])
    x = MixtureOfGaussians(2, 2).sample(params.expand(500, -1))
    assert (x[:, 0].sign() == x[:, 1].sign()).all()
    assert set(x[:, 0].sign().tolist()) == {-1.0, 1.0}
    mode = MixtureOfGaussians(2, 2).sample(params + torch.tensor([0.0, 1.0] + [0.0] * 8), 0.0)
    assert mode.tolist() == [5.0, 5.0]


def test_a_mixture_draws_each_feature_with_its_own_mean_and_scale() -> None:
    means, log_scales = torch.tensor([-5.0, 1.0, 5.0, 9.0]), torch.tensor([-3.0, -1.0, 0.0, -2.0])
    params = torch.cat([torch.zeros(2), means, log_scales]).double()
    x = MixtureOfGaussians(2, 2).sample(params.expand(DRAWS, -1), generator=generator())
    for component, rows in enumerate((x[x[:, 0] < 0], x[x[:, 0] > 0])):
        part = slice(2 * component, 2 * component + 2)
        normal = distributions.Normal(means[part].double(), log_scales[part].double().exp())
        u = normal.cdf(rows)
        assert_uniform(u[:, 0])
        assert_uniform(u[:, 1])


# All of them

HEADS: list[tuple[Any, Callable[[], Tensor]]] = [
    (Categorical(16), lambda: torch.randint(0, 16, (2, 3))),
    (Bernoulli(), lambda: torch.randint(0, 2, (2, 3))),
    (DiscretizedLogisticMixture(2, 16), lambda: torch.randint(0, 16, (2, 3))),
    (Gaussian(2), lambda: torch.randn(2, 3, 2)),
    (StudentT(2), lambda: torch.randn(2, 3, 2)),
    (MixtureOfGaussians(2, 2), lambda: torch.randn(2, 3, 2)),
    (LogisticMixture(2), lambda: torch.randn(2, 3, 1)),
]
each_head = pytest.mark.parametrize(
    ("head", "some"), HEADS, ids=lambda value: type(value).__name__.removesuffix("function")
)


@each_head
def test_a_draw_has_the_form_of_the_variable(head: Any, some: Callable[[], Tensor]) -> None:
    x = head.sample(torch.randn(2, 3, head.parameters), generator=generator())
    assert x.shape == some().shape
    assert x.dtype == some().dtype


@each_head
def test_draws_follow_the_generator(head: Any, some: Callable[[], Tensor]) -> None:
    params = torch.randn(200, head.parameters)
    first, again, other = (head.sample(params, generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    before = torch.get_rng_state()
    head.sample(params, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), before)


@each_head
def test_temperature_zero_is_deterministic(head: Any, some: Callable[[], Tensor]) -> None:
    params = torch.randn(200, head.parameters)
    assert torch.equal(head.sample(params, temperature=0.0), head.sample(params, temperature=0.0))


@each_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_float32(
    head: Any, some: Callable[[], Tensor], dtype: torch.dtype
) -> None:
    params, x = torch.randn(2, 3, head.parameters).to(dtype), some()
    value = head.log_prob(params, x)
    assert value.dtype == torch.float32
    assert torch.equal(value, head.log_prob(params.float(), x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(value, head.log_prob(params, x))
