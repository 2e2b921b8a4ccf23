"""The measuring instrument itself: little modules whose dependencies are known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arspec.measure import dependency, randomise

T = 7
Rule = Callable[[int, int], bool]


def same(i: int, j: int) -> bool:
    return i == j


def upto(i: int, j: int) -> bool:
    return j <= i


def before(i: int, j: int) -> bool:
    return j < i


def everything(i: int, j: int) -> bool:
    return True


def offsets(*taps: int) -> Rule:
    return lambda i, j: j - i in taps


class Lambda(nn.Module):
    """A module made of a function of (module, x) and of parts, for brevity."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor, **conditions: Tensor) -> Tensor:
        return self.function(self, x, **conditions)


def conv(module: nn.Conv1d, x: Tensor, left: int, right: int = 0) -> Tensor:
    """(B, T) -> (B, T, C) by a 1-D convolution padded on both sides."""
    return module(F.pad(x[:, None], (left, right))).mT


def shifted(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0))[:, :-1]


def ahead(x: Tensor) -> Tensor:
    """x at t + 1."""
    return F.pad(x, (0, 1))[:, 1:]


def attend(m: Lambda, x: Tensor, causal: bool) -> Tensor:
    q, k, v = m.projection(x[..., None]).chunk(3, -1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class Masked(nn.Module):
    """A full convolution whose buffer hides the future: a random buffer would not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 1, 3))
        self.register_buffer("mask", torch.tensor([1.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x[:, None], self.weight * self.mask, padding=1).mT


class Halving(nn.Module):
    """Down by 2 and up again, with or without a delay of one coarse step."""

    def __init__(self, delay: bool) -> None:
        super().__init__()
        self.down = nn.Conv1d(1, 3, 2, stride=2)
        self.delay = delay

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.down(F.pad(x, (0, 1))[:, None])
        if self.delay:
            coarse = F.pad(coarse, (1, 0))[..., :-1]
        return coarse.repeat_interleave(2, -1)[..., : x.shape[1]].mT


def dead_relu(m: Lambda, x: Tensor) -> Tensor:
    """Silent for ordinary inputs: only a large step of x[t + 1] gets through."""
    return torch.stack([shifted(x), F.relu(ahead(x) - 20)], -1)


def switch(m: Lambda, x: Tensor) -> Tensor:
    return m.a(x[..., None]) + torch.where(shifted(x)[..., None] > 0, 1.0, -1.0)


def fft(m: Lambda, x: Tensor) -> Tensor:
    """A causal convolution by FFT: right, but every output carries rounding of every input."""
    n = 2 * x.shape[1]
    spectrum = torch.fft.rfft(x, n) * torch.fft.rfft(m.kernel, n)
    return torch.fft.irfft(spectrum, n)[:, : x.shape[1], None]


def one_hot(x: Tensor) -> Tensor:
    return F.one_hot(x, 5).double()


FLOATS: dict[str, tuple[nn.Module, Rule]] = {
    "pointwise": (Lambda(lambda m, x: m.a(x[..., None]), a=nn.Linear(1, 3)), same),
    "causal conv": (Lambda(lambda m, x: conv(m.c, x, 2), c=nn.Conv1d(1, 2, 3)), offsets(-2, -1, 0)),
    "strict conv": (
        Lambda(lambda m, x: conv(m.c, shifted(x), 1), c=nn.Conv1d(1, 2, 2)),
        offsets(-2, -1),
    ),
    "dilated conv": (
        Lambda(lambda m, x: conv(m.c, x, 3), c=nn.Conv1d(1, 2, 2, dilation=3)),
        offsets(-3, 0),
    ),
    "same padding": (
        Lambda(lambda m, x: conv(m.c, x, 1, 1), c=nn.Conv1d(1, 2, 3)),
        offsets(-1, 0, 1),
    ),
    "kernel 2, padded right": (
        Lambda(lambda m, x: conv(m.c, x, 0, 1), c=nn.Conv1d(1, 2, 2)),
        offsets(0, 1),
    ),
    "masked by a buffer": (Masked(), offsets(-1, 0)),
    "dead relu": (Lambda(dead_relu), offsets(-1, 1)),
    "zero projection": (
        Lambda(
            lambda m, x: x[..., None] + m.z * ahead(x)[..., None], z=nn.Parameter(torch.zeros(1))
        ),
        offsets(0, 1),
    ),
    "argmax": (
        Lambda(lambda m, x: (x.argmax(1, keepdim=True) + 0 * x.detach())[..., None]),
        everything,
    ),
    "where": (Lambda(switch, a=nn.Linear(1, 2)), offsets(-1, 0)),
    "detached": (Lambda(lambda m, x: (x + ahead(x).detach())[..., None]), offsets(0, 1)),
    "rounded": (Lambda(lambda m, x: shifted(x).round()[..., None]), offsets(-1)),
    "masked product": (
        Lambda(lambda m, x: (x[:, None] * torch.ones(T, T).tril()).sum(-1, keepdim=True)),
        upto,
    ),
    "batch coupled": (Lambda(lambda m, x: (x - x.mean(0))[..., None]), same),
    "causal attention": (
        Lambda(lambda m, x: attend(m, x, True), projection=nn.Linear(1, 12)),
        upto,
    ),
    "full attention": (
        Lambda(lambda m, x: attend(m, x, False), projection=nn.Linear(1, 12)),
        everything,
    ),
    "lstm": (
        Lambda(lambda m, x: m.r(shifted(x)[..., None])[0], r=nn.LSTM(1, 4, batch_first=True)),
        before,
    ),
    "bidirectional lstm": (
        Lambda(
            lambda m, x: m.r(x[..., None])[0],
            r=nn.LSTM(1, 4, batch_first=True, bidirectional=True),
        ),
        everything,
    ),
    "max pool": (
        Lambda(lambda m, x: F.max_pool1d(F.pad(x[:, None], (2, 0), value=-9.0), 3, 1).mT),
        offsets(-2, -1, 0),
    ),
    "group norm": (
        Lambda(lambda m, x: m.n(m.c(x[:, None])).mT, c=nn.Conv1d(1, 4, 1), n=nn.GroupNorm(2, 4)),
        everything,
    ),
    "layer norm": (
        Lambda(lambda m, x: m.n(m.a(x[..., None])), a=nn.Linear(1, 4), n=nn.LayerNorm(4)),
        same,
    ),
    "batch norm in eval": (
        Lambda(lambda m, x: m.n(m.c(x[:, None])).mT, c=nn.Conv1d(1, 4, 1), n=nn.BatchNorm1d(4)),
        same,
    ),
    "halving": (Halving(delay=False), lambda i, j: i // 2 == j // 2),
    "halving with a delay": (Halving(delay=True), lambda i, j: i // 2 - 1 == j // 2),
    "difference of sums": (
        Lambda(lambda m, x: (x.cumsum(1) - shifted(x.cumsum(1)))[..., None]),
        same,
    ),
    "fft": (Lambda(fft, kernel=nn.Parameter(torch.zeros(1, T))), upto),
    "dropout that is always on": (
        Lambda(lambda m, x: F.dropout(shifted(x), 0.3, training=True)[..., None]),
        offsets(-1),
    ),
    "weak beside strong": (
        Lambda(lambda m, x: torch.stack([x, 1e-7 * ahead(x)], -1)),
        offsets(0, 1),
    ),
    "softmax over the past": (
        Lambda(
            lambda m, x: (
                (x[:, None] * m.a)
                .expand(-1, T, -1)
                .masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
                .softmax(-1)
                @ x[..., None]
            ),
            a=nn.Parameter(torch.ones(1)),
        ),
        upto,
    ),
}

SYMBOLS: dict[str, tuple[nn.Module, Rule]] = {
    "embedding": (Lambda(lambda m, x: shifted_rows(m.e(x)), e=nn.Embedding(5, 4)), offsets(-1)),
    "one hot": (
        Lambda(lambda m, x: conv2(m.c, one_hot(x)), c=nn.Conv1d(5, 2, 3)),
        offsets(-2, -1, 0),
    ),
    "levels": (
        Lambda(lambda m, x: conv(m.c, x.double() / 2 - 1, 0, 1), c=nn.Conv1d(1, 2, 2)),
        offsets(0, 1),
    ),
    "table lookup": (Lambda(lambda m, x: m.e[x], e=nn.Parameter(torch.zeros(5, 3))), same),
    "token counts": (Lambda(lambda m, x: m.e(one_hot(x).cumsum(1)), e=nn.Linear(5, 2)), upto),
    "compared with a symbol": (
        Lambda(lambda m, x: (ahead(x) == 3).double()[..., None]),
        offsets(1),
    ),
}


def shifted_rows(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, 0))[:, :-1]


def conv2(module: nn.Conv1d, x: Tensor) -> Tensor:
    return module(F.pad(x.mT, (2, 0))).mT


def matrix(rule: Rule, n: int = T) -> Tensor:
    return torch.tensor([[rule(i, j) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("name", FLOATS)
def test_real_inputs(name: str) -> None:
    module, rule = FLOATS[name]
    assert torch.equal(dependency(module, torch.randn(2, T)), matrix(rule))


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols(name: str) -> None:
    module, rule = SYMBOLS[name]
    found = dependency(module, torch.randint(5, (2, T)), classes=5)
    assert torch.equal(found, matrix(rule))


def image_mask(kind: str) -> Tensor:
    """The mask of a 3x3 convolution: 1 above and to the left, at the centre only under B."""
    mask = torch.ones(3, 3)
    mask[1, 1 + (kind == "B") :] = 0
    mask[2] = 0
    return mask


@pytest.mark.parametrize("kind", ["A", "B"])
def test_masks_of_images(kind: str) -> None:
    weight = nn.Parameter(torch.ones(2, 1, 3, 3))
    mask = image_mask(kind)
    module = Lambda(
        lambda m, x: F.conv2d(x[:, None], m.w * mask, padding=1).movedim(1, -1), w=weight
    )
    found = dependency(module, torch.randn(1, 3, 4))
    for i in range(12):
        for j in range(12):
            row, col = j // 4 - i // 4, j % 4 - i % 4
            near = abs(row) <= 1 and abs(col) <= 1
            assert found[i, j] == (near and bool(mask[1 + row, 1 + col])), (i, j)


def test_ordered_channels_are_positions() -> None:
    """Channel c reads the channels before it: (batch, channels, time) in, the same order out."""

    def forward(m: Lambda, x: Tensor) -> Tensor:
        return torch.einsum("dc,bct->bdt", m.w.tril(-1), x)[..., None]

    module = Lambda(forward, w=nn.Parameter(torch.ones(3, 3)))
    found = dependency(module, torch.randn(2, 3, 2)).reshape(3, 2, 3, 2)
    for d in range(3):
        for t in range(2):
            expected = torch.zeros(3, 2, dtype=torch.bool)
            expected[:d, t] = True
            assert torch.equal(found[d, t], expected)


def test_joint_channels_are_one_position() -> None:
    module = Lambda(lambda m, x: conv2(m.c, x.mT), c=nn.Conv1d(3, 2, 3))
    found = dependency(module, torch.randn(2, 3, T), joint=True)
    assert torch.equal(found, matrix(offsets(-2, -1, 0)))


def test_conditions() -> None:
    """A condition on a clock of its own, and one without positions."""

    def forward(m: Lambda, x: Tensor, mel: Tensor, speaker: Tensor) -> Tensor:
        local = m.mel(mel.mT).repeat_interleave(4, 1)[:, : x.shape[1]]
        return x[..., None] + local + m.speaker(speaker)[:, None]

    module = Lambda(forward, mel=nn.Linear(2, 3), speaker=nn.Embedding(6, 3))
    conditions = {"mel": torch.randn(2, 2, 2), "speaker": torch.randint(6, (2,))}
    x = torch.randn(2, T)
    of_mel = dependency(module, x, conditions, of="mel", joint=True)
    of_speaker = dependency(module, x, conditions, of="speaker", classes=6)
    assert torch.equal(of_mel, torch.tensor([[t // 4 == f for f in range(2)] for t in range(T)]))
    assert torch.equal(of_speaker, torch.ones(T, 1, dtype=torch.bool))
    assert torch.equal(dependency(module, x, conditions), matrix(same))


def test_far_end_of_a_long_chain() -> None:
    """600 positions of a leaky sum: the far ones are below any rounding, and still counted."""

    def forward(m: Lambda, x: Tensor) -> Tensor:
        weights = 0.9 ** torch.arange(x.shape[1], dtype=x.dtype).flip(0)
        return (x * weights).sum(1)[:, None, None]

    x = torch.randn(1, 600)
    counted = dependency(Lambda(forward), x, faint=0.0, perturb=False, seeds=(1,))
    assert counted.all()
    assert not dependency(Lambda(forward), x, perturb=False, seeds=(1,)).all()


def test_symbols_too_have_a_far_end() -> None:
    module = Lambda(
        lambda m, x: (m.e(x) * (0.1 ** torch.arange(40.0).double())[:, None]).sum(1, keepdim=True),
        e=nn.Embedding(5, 3),
    )
    x = torch.randint(5, (1, 40))
    assert dependency(module, x, classes=5, faint=0.0, perturb=False, seeds=(1,)).all()


def test_the_module_and_the_generator_stay_as_they_are() -> None:
    module = FLOATS["lstm"][0].train()
    before_parameters = [p.clone() for p in module.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    dependency(module, torch.ones(1, T))
    assert torch.equal(torch.rand(1), expected)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    for p, q in zip(module.parameters(), before_parameters, strict=True):
        assert p.dtype == torch.float32
        assert torch.equal(p, q)


def test_randomise_moves_every_parameter_and_no_buffer() -> None:
    module = Masked()
    randomise(module, 1)
    assert (module.weight != 0).all()
    assert torch.equal(module.mask, torch.tensor([1.0, 1.0, 0.0]))
