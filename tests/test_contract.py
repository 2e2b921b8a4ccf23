"""The contract of every compiled model: `model(x)`, `log_prob` and `sample`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import SMALL, inputs, small_spec
from torch import Tensor, nn

import arspec
from arspec import compiler
from arspec.measure import randomise
from arspec.model import Declared

SPECS = Path(__file__).parent / "specs"
OTHERS = [
    "binary_pixelcnn",
    "levels_logistic",
    "series_gaussian",
    "strings_attention",
    "conditioned",
]
NAMES = [*SMALL, *OTHERS]
SYMBOLIC = [name for name in NAMES if name != "series_gaussian"]
CATEGORICAL = [*SMALL, "strings_attention", "conditioned"]
LENGTHS = {"time": 6, "row": 2, "col": 2}
"""How much is drawn: one forward per position takes its time."""


@dataclass(frozen=True)
class Case:
    """A small model in float64 with random weights, an input, and what the spec says of it."""

    spec: Any
    target: Declared
    x: Tensor
    conditions: dict[str, Tensor]
    original: nn.Module

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """A copy that the test may change."""
        return copy.deepcopy(self.original).to(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a draw, without the batch and the channels."""
        return tuple(LENGTHS[axis] for axis in self.target.axes)

    def given(self, batch: int) -> dict[str, Tensor]:
        """The conditions for so many rows, no longer than a draw where they must match it."""
        rows = {k: v[torch.arange(batch) % len(v)] for k, v in self.conditions.items()}
        if "humidity" in rows:
            rows["humidity"] = rows["humidity"][:, :, : LENGTHS["time"]]
        return rows

    def sample(self, model: nn.Module, batch: int = 2, **options: Any) -> Tensor:
        options = {"shape": self.shape, **self.given(batch), **options}
        drawn = model.sample(batch, **options)  # type: ignore[operator]
        assert isinstance(drawn, Tensor)
        return drawn

    @property
    def parameters(self) -> int:
        """Of the distribution at one position."""
        count = int(self.target.count.value)
        return {"binary_pixelcnn": 1, "levels_logistic": 6, "series_gaussian": 2 * count}.get(
            self.spec.stem if isinstance(self.spec, Path) else "", count
        )

    @property
    def layout(self) -> tuple[int, ...]:
        """Channels that are drawn separately, before the axes."""
        return (self.target.channels,) if self.target.channels > 1 else ()


@cache
def case(name: str) -> Case:
    spec: Any = small_spec(name) if name in SMALL else SPECS / f"{name}.yaml"
    params = dict(SMALL[name]) if name in SMALL else {}
    model = compiler.analyse(spec, params).model
    x, conditions = inputs(spec, batch=3, **params)
    target = model.variables[model.generated[0]]
    built = arspec.build(spec, **params).double().eval()
    randomise(built, 7)
    if target.kind == "features":
        with torch.no_grad():  # a log scale that grows with x would let a draw explode
            for parameter in built.parameters():
                parameter.mul_(0.4)
    return Case(spec, target, x, conditions, built)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -------------------------------------------------------------------------------------- log_prob


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_params_and_log_prob(name: str) -> None:
    one = case(name)
    model = one.model()
    params = model(one.x, **one.conditions)
    axes = one.x.shape[-len(one.target.axes) :]
    assert params.shape == (3, *one.layout, *axes, one.parameters)
    total = model.log_prob(one.x, **one.conditions)  # type: ignore[operator]
    each = model.log_prob(one.x, **one.conditions, reduce=False)  # type: ignore[operator]
    assert total.shape == (3,)
    assert each.shape == (3, *one.layout, *axes)
    torch.testing.assert_close(each.flatten(1).sum(1), total)
    rows = [
        model.log_prob(one.x[i : i + 1], **{k: v[i : i + 1] for k, v in one.conditions.items()})  # type: ignore[operator]
        for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(rows), total)  # the rows of a batch are independent


@pytest.mark.parametrize("name", CATEGORICAL)
@torch.no_grad()
def test_log_prob_is_the_log_softmax_at_x(name: str) -> None:
    one = case(name)
    model = one.model()
    logits = model(one.x, **one.conditions)
    each = model.log_prob(one.x, **one.conditions, reduce=False)  # type: ignore[operator]
    expected = -nn.functional.cross_entropy(logits.movedim(-1, 1), one.x, reduction="none")
    torch.testing.assert_close(each, expected)


GARBAGE: dict[bool, list[float]] = {False: [-1, 10**6, -(2**40)], True: [-1e3, 1e30]}


def beyond(one: Case, lengths: list[int]) -> Tensor:
    """Where x lies at or beyond the length of its row, on the first axis."""
    place = torch.arange(one.x.shape[-len(one.target.axes)])
    outside = place >= torch.tensor(lengths)[:, None]
    shape = [len(lengths), *[1] * (one.x.dim() - len(one.target.axes) - 1), len(place)]
    return outside.view(*shape, *[1] * (len(one.target.axes) - 1)).expand_as(one.x)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_beyond_its_length_a_row_counts_and_influences_nothing(name: str) -> None:
    check_lengths(name, GARBAGE[name == "series_gaussian"])


@torch.no_grad()
def test_padding_of_nan_influences_nothing() -> None:
    check_lengths("series_gaussian", [math.nan, math.inf])


def check_lengths(name: str, garbage: list[float]) -> None:
    one = case(name)
    model = one.model()
    full = one.x.shape[-len(one.target.axes)]
    lengths = [full, full // 2, 0]
    outside = beyond(one, lengths)
    clean = model.log_prob(  # type: ignore[operator]
        one.x, torch.tensor(lengths), **one.conditions, reduce=False
    )
    hidden = outside[:, 0] if name == "series_gaussian" else outside
    assert (clean[hidden] == 0).all()
    assert (clean[~hidden] != 0).all()
    for symbol in garbage:
        x = one.x.masked_fill(outside, symbol)
        each = model.log_prob(x, torch.tensor(lengths), **one.conditions, reduce=False)  # type: ignore[operator]
        assert torch.equal(each, clean)
        total = model.log_prob(x, lengths=torch.tensor(lengths), **one.conditions)  # type: ignore[operator]
        torch.testing.assert_close(total, clean.flatten(1).sum(1))


@pytest.mark.parametrize("name", SYMBOLIC)
@torch.no_grad()
def test_a_length_is_a_shorter_row(name: str) -> None:
    one = case(name)
    model = one.model()
    axis = one.x.dim() - len(one.target.axes)
    full = one.x.shape[axis]
    everything = torch.full((3,), full)
    for length in (1, full // 2, full):
        lengths = torch.tensor([length, full, 0])
        total = model.log_prob(one.x, lengths, **one.conditions)  # type: ignore[operator]
        short = model.log_prob(one.x.narrow(axis, 0, length), **one.conditions)  # type: ignore[operator]
        torch.testing.assert_close(total[0], short[0])
        assert total[2] == 0
    torch.testing.assert_close(
        model.log_prob(one.x, everything, **one.conditions),  # type: ignore[operator]
        model.log_prob(one.x, **one.conditions),  # type: ignore[operator]
    )


# ---------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_dtype_follows_the_parameters(name: str, dtype: torch.dtype) -> None:
    """Densities stay in float32 or better. A loss backpropagates to every parameter in use."""
    one = case(name)
    model = one.model(dtype)
    params = model(one.x, **one.conditions)
    assert params.dtype == dtype
    log_prob = model.log_prob(one.x, **one.conditions)  # type: ignore[operator]
    least = torch.float64 if one.x.is_floating_point() else torch.float32
    assert log_prob.dtype == torch.promote_types(dtype, least)
    exact = one.model().log_prob(one.x, **one.conditions)  # type: ignore[operator]
    error = ((log_prob - exact) / exact).abs().max().item()
    assert error < {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    log_prob.sum().backward()
    used = [p for p in model.parameters() if p.grad is not None]
    assert len(used) >= 0.8 * len(list(model.parameters()))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_densities_are_float32_under_autocast(name: str) -> None:
    one = case(name)
    model = one.model(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        params = model(one.x, **one.conditions)
        each = model.log_prob(one.x, **one.conditions, reduce=False)  # type: ignore[operator]
    assert each.dtype in (torch.float32, torch.float64)
    x = one.x.movedim(1, -1) if name == "series_gaussian" else one.x
    exact = model.distribution.log_prob(params.double(), x)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(each.double(), exact, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------- sample


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_has_the_shape_and_type_of_x(name: str, dtype: torch.dtype) -> None:
    one = case(name)
    model = one.model(dtype)
    drawn = one.sample(model)
    assert drawn.shape == (2, *one.x.shape[1 : -len(one.shape)], *one.shape)
    if one.x.is_floating_point():
        assert drawn.dtype == dtype
    else:
        assert drawn.dtype == torch.int64
        assert 0 <= drawn.min() <= drawn.max() < one.target.count.value
    assert not drawn.requires_grad
    assert torch.is_grad_enabled()
    given = one.given(2)
    assert model.log_prob(drawn, **given).isfinite().all()  # type: ignore[operator]


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_decides_the_sample(name: str) -> None:
    one = case(name)
    model = one.model()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = one.sample(model, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's numbers are used
    assert torch.equal(first, one.sample(model, generator=seeded(1)))
    assert not torch.equal(first, one.sample(model, generator=seeded(2)))
    free = [one.sample(model) for _ in range(2)]
    torch.manual_seed(0)
    assert torch.equal(free[0], one.sample(model))
    assert not torch.equal(*free)


@torch.no_grad()
def is_likeliest(one: Case, model: nn.Module, x: Tensor) -> bool:
    """Whether each symbol has the largest logit, given x before it; there may be ties."""
    logits = model(x, **one.given(len(x)))
    own = logits.gather(-1, x[..., None])[..., 0]
    return torch.equal(own, logits.max(-1).values)


@torch.no_grad()
def likeliest(one: Case, model: nn.Module, x: Tensor) -> Tensor:
    """What the model prefers at each position, given x before it."""
    params = model(x, **one.given(len(x)))
    if one.x.is_floating_point():
        return params.chunk(2, dim=-1)[0].movedim(-1, 1)  # type: ignore[no-any-return]
    if params.shape[-1] == 1:
        return (params[..., 0] > 0).long()  # type: ignore[no-any-return]
    return params.argmax(-1)  # type: ignore[no-any-return]


GREEDY = [name for name in NAMES if name != "levels_logistic"]


@pytest.mark.parametrize("name", GREEDY)
def test_temperature_zero_takes_the_likeliest(name: str) -> None:
    one = case(name)
    model = one.model()
    drawn = one.sample(model, temperature=0.0)
    torch.testing.assert_close(drawn, likeliest(one, model, drawn))
    assert torch.equal(drawn, one.sample(model, temperature=0.0))


@pytest.mark.parametrize("name", CATEGORICAL)
def test_top_k_and_top_p(name: str) -> None:
    one = case(name)
    model = one.model()
    assert is_likeliest(one, model, one.sample(model, top_k=1))
    assert is_likeliest(one, model, one.sample(model, top_p=1e-9))
    assert is_likeliest(one, model, one.sample(model, top_k=3, top_p=1e-9, temperature=2.0))
    two = one.sample(model, 3, top_k=2, temperature=5.0, generator=seeded(1))
    with torch.no_grad():
        logits = model(two, **one.given(3))
    allowed = logits.topk(2).indices
    assert (allowed == two[..., None]).any(-1).all()
    assert not is_likeliest(one, model, two)  # the second one is taken as well
    half = one.sample(model, 3, top_p=0.5, generator=seeded(1))
    with torch.no_grad():
        probabilities = model(half, **one.given(3)).softmax(-1)
    own = probabilities.gather(-1, half[..., None])
    assert (torch.where(probabilities > own, probabilities, 0).sum(-1) < 0.5).all()
    assert torch.equal(
        one.sample(model, top_k=10**6, top_p=1.0, generator=seeded(1)),
        one.sample(model, generator=seeded(1)),
    )
    for wrong in ({"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            one.sample(model, **wrong)


@pytest.mark.parametrize("name", GREEDY)
def test_a_prompt_is_kept_and_continued(name: str) -> None:
    one = case(name)
    model = one.model()
    axis = one.x.dim() - len(one.shape)
    start = one.x[:2]
    for i, length in enumerate(one.shape):
        start = start.narrow(axis + i, 0, length)
    for length in (0, 1, one.shape[0]):
        prompt = start.narrow(axis, 0, length).clone()
        before = prompt.clone()
        drawn = one.sample(model, prompt=prompt, temperature=0.0)
        torch.testing.assert_close(drawn.narrow(axis, 0, length), prompt)
        expected = likeliest(one, model, drawn)
        rest = one.shape[0] - length
        torch.testing.assert_close(
            drawn.narrow(axis, length, rest), expected.narrow(axis, length, rest)
        )
        assert torch.equal(prompt, before)


@pytest.mark.parametrize("name", GREEDY)
def test_a_partly_observed_input_is_completed(name: str) -> None:
    one = case(name)
    model = one.model()
    known = one.sample(model, generator=seeded(3))
    observed = torch.rand(known.shape, generator=seeded(4)) < 0.5
    if one.x.is_floating_point():
        observed = observed[:, :1].expand_as(known)  # features are drawn together
    hidden = known.masked_fill(~observed, 0)
    drawn = one.sample(model, prompt=hidden, observed=observed, temperature=0.0)
    torch.testing.assert_close(drawn[observed], known[observed])
    expected = likeliest(one, model, drawn)
    torch.testing.assert_close(drawn[~observed], expected[~observed])
    again = one.sample(model, prompt=hidden, observed=observed & False, temperature=0.0)
    torch.testing.assert_close(again, one.sample(model, temperature=0.0))


@pytest.mark.parametrize("name", ["gpt2", "wavenet"])
def test_what_is_not_observed_may_hold_anything(name: str) -> None:
    one = case(name)
    model = one.model()
    known = one.sample(model, generator=seeded(3))
    observed = torch.rand(known.shape, generator=seeded(4)) < 0.5
    hidden = known.masked_fill(~observed, -1)
    expected = one.sample(model, prompt=known, observed=observed, temperature=0.0)
    drawn = one.sample(model, prompt=hidden, observed=observed, temperature=0.0)
    assert torch.equal(drawn, expected)


def wrong_prompts(one: Case) -> dict[str, dict[str, Any]]:
    start = one.sample(one.model())
    return {
        "fewer rows than the batch": {"prompt": start[:1]},
        "longer than the shape": {"prompt": torch.cat([start, start], 1)},
        "a mask without a prompt": {"observed": torch.ones_like(start, dtype=torch.bool)},
        "a mask of another shape": {"prompt": start, "observed": torch.ones(2, 1).bool()},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "fewer rows than the batch",
        "longer than the shape",
        "a mask without a prompt",
        "a mask of another shape",
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(wrong: str) -> None:
    one = case("strings_attention")
    options = wrong_prompts(one)[wrong]
    with pytest.raises((ValueError, RuntimeError)):
        one.sample(one.model(), **options)


@pytest.mark.parametrize("training", [True, False])
def test_sample_runs_in_eval_mode_and_restores_the_mode(training: bool) -> None:
    one = case("gpt2")  # it has dropout
    model = one.model()
    expected = one.sample(model, temperature=0.0)
    model.train(training)
    assert torch.equal(one.sample(model, temperature=0.0), expected)
    assert all(module.training is training for module in model.modules())


def test_an_exception_restores_the_mode() -> None:
    one = case("gpt2")
    model = one.model().train()
    with pytest.raises(ValueError, match="top_k"):
        one.sample(model, top_k=0)
    assert all(module.training for module in model.modules())


def test_a_frozen_part_stays_in_eval_mode() -> None:
    one = case("gpt2")
    model = one.model().train()
    model.layers[0].eval()  # type: ignore[index, union-attr]
    modes = [module.training for module in model.modules()]
    one.sample(model)
    assert [module.training for module in model.modules()] == modes


# ------------------------------------------------------------- draws have the model's distribution


def everything(symbols: int, shape: tuple[int, ...]) -> Tensor:
    """Every tensor of that shape over the symbols 0, 1, ..., one per row."""
    count = math.prod(shape)
    return torch.tensor(list(product(range(symbols), repeat=count))).reshape(-1, *shape)


def chi_square(drawn: Tensor, space: Tensor, probabilities: Tensor) -> float:
    """How many standard deviations the statistic lies above its mean; 5 are very improbable."""
    symbols = int(space.max()) + 1
    digits = symbols ** torch.arange(space[0].numel())
    codes = (space.flatten(1) * digits).sum(1)
    found = (drawn.flatten(1) * digits).sum(1)
    counts = (found[:, None] == codes).sum(0).double()
    assert counts.sum() == len(drawn)
    expected = probabilities.double() * len(drawn)
    rare = expected < 5  # together, for the approximation to hold
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    if expected[-1] == 0:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    freedom = len(expected) - 1
    statistic = ((observed - expected) ** 2 / expected).sum().item()
    return (statistic - freedom) / math.sqrt(2 * freedom)


DRAWS = 4000


def telling(name: str) -> nn.Module:
    """A model whose symbols depend much on each other."""
    model = arspec.build(SPECS / f"{name}.yaml").double().eval()
    randomise(model, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model


@pytest.mark.parametrize(
    ("name", "shape", "channels", "symbols"),
    [
        ("strings_conv", (2,), 1, 5),
        ("strings_attention", (2,), 1, 5),
        ("strings_window", (2,), 1, 5),
        ("binary_pixelcnn", (2, 3), 1, 2),
        ("levels_logistic", (1, 2), 1, 8),
        ("rgb", (1, 1), 3, 3),
    ],
)
@torch.no_grad()
def test_draws_have_the_probabilities_of_the_model(
    name: str, shape: tuple[int, ...], channels: int, symbols: int
) -> None:
    model = telling(name)
    full = (channels, *shape) if channels > 1 else shape
    space = everything(symbols, full)
    probabilities = model.log_prob(space).exp()  # type: ignore[operator]
    drawn = model.sample(DRAWS, shape=shape, generator=seeded(11))  # type: ignore[operator]
    assert chi_square(drawn, space, probabilities) < 5
    uniform = torch.full_like(probabilities, 1 / len(probabilities))
    assert chi_square(drawn, space, uniform) > 50  # so the test can tell


@torch.no_grad()
def test_draws_behind_a_prompt_have_the_conditional_probabilities() -> None:
    model = telling("strings_attention")
    space = torch.cat([torch.full((25, 1), 3), everything(5, (2,))], 1)
    log_prob = model.log_prob(space, reduce=False)[:, 1:].sum(1)  # type: ignore[operator]
    prompt = torch.full((DRAWS, 1), 3)
    drawn = model.sample(DRAWS, shape=(3,), prompt=prompt, generator=seeded(12))  # type: ignore[operator]
    assert chi_square(drawn[:, 1:], space[:, 1:], log_prob.exp()) < 5


@torch.no_grad()
def test_draws_under_a_condition_have_its_probabilities() -> None:
    label = torch.tensor([2])
    model = telling("binary_gated")
    space = everything(2, (2, 2))
    log_prob = model.log_prob(space, label=label.expand(16))  # type: ignore[operator]
    other = model.log_prob(space, label=torch.zeros(16, dtype=torch.long))  # type: ignore[operator]
    drawn = model.sample(DRAWS, shape=(2, 2), generator=seeded(13), label=label.expand(DRAWS))  # type: ignore[operator]
    assert chi_square(drawn, space, log_prob.exp()) < 5
    assert chi_square(drawn, space, other.exp()) > 5


def tempered(p: Tensor) -> Tensor:
    return (p.log() / 0.6).softmax(-1)


def top_two(p: Tensor) -> Tensor:
    kept = torch.where(p >= p.topk(2).values[-1], p, 0)
    return kept / kept.sum()


def nucleus(p: Tensor) -> Tensor:
    """The fewest classes that have 0.8 of the probability at temperature 2."""
    q = (p.log() / 2).softmax(-1)
    values, order = q.sort(descending=True)
    values[values.cumsum(0) - values >= 0.8] = 0
    kept = torch.zeros_like(q).scatter(0, order, values)
    return kept / kept.sum()


@pytest.mark.parametrize(
    ("options", "meaning"),
    [
        ({"temperature": 0.6}, tempered),
        ({"top_k": 2}, top_two),
        ({"top_p": 0.8, "temperature": 2.0}, nucleus),
    ],
)
@torch.no_grad()
def test_temperature_top_k_and_top_p_mean_what_they_say(
    options: dict[str, Any], meaning: Callable[[Tensor], Tensor]
) -> None:
    model = telling("strings_conv")
    space = torch.arange(5)[:, None]
    plain = model.log_prob(space).exp()  # type: ignore[operator]
    drawn = model.sample(DRAWS, shape=(1,), generator=seeded(14), **options)  # type: ignore[operator]
    assert chi_square(drawn, space, meaning(plain)) < 5
    assert chi_square(drawn, space, plain) > 5


@torch.no_grad()
def test_real_draws_are_normal_with_the_model_s_moments() -> None:
    one = case("series_gaussian")
    model = one.model()
    batch = 1000
    drawn = one.sample(model, batch, generator=seeded(15))
    means, log_scales = model(drawn, **one.given(batch)).movedim(-1, 1).chunk(2, dim=1)
    z = ((drawn - means) / log_scales.exp()).flatten()
    ordered = z.sort().values
    normal = torch.special.ndtr(ordered)
    uniform = (torch.arange(len(z)) + 0.5) / len(z)
    assert (normal - uniform).abs().max() * math.sqrt(len(z)) < 2  # Kolmogorov: p < 1e-3
    cold = one.sample(model, batch, temperature=0.5, generator=seeded(16))
    means, log_scales = model(cold, **one.given(batch)).movedim(-1, 1).chunk(2, dim=1)
    assert ((cold - means) / log_scales.exp()).std() == pytest.approx(0.5, rel=0.05)


# ------------------------------------------------------------------------------------ conditions


@pytest.mark.parametrize("name", ["wavenet", "gated_pixelcnn", "series_gaussian"])
def test_conditions_are_required_and_named(name: str) -> None:
    one = case(name)
    model = one.model()
    calls: list[Callable[..., Any]] = [model, model.log_prob]  # type: ignore[list-item]
    calls = [lambda f=f, **given: f(one.x, **given) for f in calls]
    calls.append(lambda **given: model.sample(3, shape=one.shape, **given))  # type: ignore[operator]
    for call in calls:
        for missing in one.conditions:
            rest = {k: v for k, v in one.given(3).items() if k != missing}
            with pytest.raises(TypeError, match=rf"missing.*'{missing}'"):
                call(**rest)
        with pytest.raises(TypeError, match=r"unexpected.*'colour'"):
            call(**one.given(3), colour=torch.zeros(3))
    with pytest.raises(TypeError, match="positional"):
        model(one.x, *one.conditions.values())


def changed(name: str, **other: Tensor) -> Callable[[], Any]:
    """A call of a model with other conditions than those that fit."""
    one = case(name)
    return lambda: one.model()(one.x, **{**one.conditions, **other})


@cache
def wrong_conditions() -> dict[str, Callable[[], Any]]:
    mel = case("wavenet").conditions["mel"]
    return {
        "another batch size": changed("wavenet", speaker=torch.tensor([0, 1])),
        "a class that does not exist": changed("wavenet", speaker=torch.tensor([0, 1, 3])),
        "a negative class": changed("wavenet", speaker=torch.tensor([0, 1, -1])),
        "a class that is no integer": changed("wavenet", speaker=torch.tensor([0.0, 1, 2])),
        "too few frames": changed("wavenet", mel=mel[:, :, :5]),
        "frames before features": changed("wavenet", mel=mel.mT),
        "one feature less": changed("wavenet", mel=mel[:, :8]),
    }


@pytest.mark.parametrize("what", wrong_conditions())
def test_conditions_that_do_not_fit_are_refused(what: str) -> None:
    with pytest.raises((ValueError, RuntimeError, TypeError, IndexError)):
        wrong_conditions()[what]()


def test_too_few_frames_are_called_by_their_name() -> None:
    with pytest.raises(ValueError, match="mel: 5 frames cover 20 of 24"):
        wrong_conditions()["too few frames"]()


UNCHECKED = ("levels_logistic", "binary_pixelcnn")
"""Densities without a table to index: a check of their range would wait for the device."""


@pytest.mark.parametrize("name", [n for n in SYMBOLIC if n not in UNCHECKED])
@pytest.mark.parametrize("symbol", [-1, 10**6])
def test_a_symbol_that_does_not_exist_is_refused(name: str, symbol: int) -> None:
    """In `log_prob`, at a position that counts."""
    one = case(name)
    x = one.x.clone()
    x.view(-1)[-1] = symbol
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        one.model().log_prob(x, **one.conditions)  # type: ignore[operator]


# ----------------------------------------------------------------------------------------- codecs


@pytest.mark.parametrize(
    ("name", "classes"),
    [pytest.param("conditioned", 16, id="16"), pytest.param("wavenet", 11, id="11")],
)
def test_the_codec_has_the_classes_of_the_variable(name: str, classes: int) -> None:
    model = case(name).model()
    wave = torch.linspace(-1, 1, 201)
    symbols = model.encode(wave)  # type: ignore[operator]
    assert (symbols.min(), symbols.max()) == (0, classes - 1)
    again = model.encode(model.decode(torch.arange(classes)))  # type: ignore[operator]
    assert torch.equal(again, torch.arange(classes))
