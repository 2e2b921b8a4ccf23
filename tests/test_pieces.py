"""The layers of emitted files: against brute-force references, by dependency, and in chunks."""

# ruff: noqa: I001  (pieces_path comes first: it makes `pieces` importable)
import ast
import builtins
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pieces_path import TEMPLATES, Layer, double, randomised  # noqa: F401, a fixture
from pieces.attention import (
    AlibiCausalSelfAttention,
    CausalSelfAttention,
    RotaryCausalSelfAttention,
    StrictCausalSelfAttention,
    WindowedSelfAttention,
    rotate,
)
from pieces.codec import bytes_decode, bytes_encode, mu_law_decode, mu_law_encode
from pieces.conv1d import CausalConv1d, StrictlyCausalConv1d, WindowConv1d
from pieces.conv2d import MaskedConv2dA, MaskedConv2dB, WindowConv2d
from pieces.conv3d import MaskedConv3dA, MaskedConv3dB, WindowConv3d
from pieces.conv_boxes import BoxConv, TransposedConv
from pieces.embedding import Embedding, PositionEmbedding, sinusoidal
from pieces.functions import concat_elu, repeat, scale_levels, shift
from pieces.caches2d import channel_groups
from pieces.pools import max_pool, max_so_far, mean_pool, mean_so_far
from pieces.subpixel import (
    SubpixelConv1dA,
    SubpixelConv1dB,
    SubpixelConv2dA,
    SubpixelConv2dB,
    SubpixelConv3dA,
    SubpixelConv3dB,
    SubpixelLinear,
)

INPUTS, OUTPUTS = [0, 0, 1, 1, 2], [0, 1, 1, 2]  # layouts of channel groups
LENGTH, HEIGHT, WIDTH = 9, 6, 7
VOLUME = 3, 4, 5

Offset = tuple[int, ...]


def groups(kind: str) -> Tensor:
    rows = [[i < o if kind == "A" else i <= o for i in INPUTS] for o in OUTPUTS]
    return torch.tensor(rows).double()


@dataclass(frozen=True)
class Case:
    """A layer with what its description promises, written out independently of its code."""

    layer: nn.Module
    taps: dict[Offset, Tensor]  # offset -> the features it connects, (outputs, inputs) of 0 and 1
    places: tuple[list[int], ...]  # the offsets that its weight has a place for, per axis

    @property
    def name(self) -> str:
        shape = "x".join(map(str, self.layer.get_parameter("weight").shape))
        steps = ",".join(f"{p[0]}:{p[-1]}" for p in self.places)
        return f"{type(self.layer).__name__}-{shape}-{steps}"

    @property
    def grid(self) -> tuple[int, ...]:
        return [(LENGTH,), (HEIGHT, WIDTH), VOLUME][len(self.places) - 1]

    def input(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        return torch.randn(batch, *grid, self.layer.get_parameter("weight").shape[1])


def one_dimensional() -> Iterator[Case]:
    for kernel, dilation in [(1, 1), (2, 1), (3, 2), (2, 5), (3, 7)]:
        latest = [-j * dilation for j in reversed(range(kernel))]
        strict = [-1 - j * dilation for j in reversed(range(kernel))]
        full, wide = torch.ones(4, 3), torch.ones(4, 5)
        causal = CausalConv1d(3, 4, kernel, dilation)
        yield Case(causal, {(o,): full for o in latest}, (latest,))
        past = StrictlyCausalConv1d(3, 4, kernel, dilation)
        yield Case(past, {(o,): full for o in strict}, (strict,))
        before: dict[Offset, Tensor] = {(o,): wide for o in latest if o < 0}
        mask_a = SubpixelConv1dA(INPUTS, OUTPUTS, kernel, dilation)
        yield Case(mask_a, {**before, (0,): groups("A")}, (latest,))
        mask_b = SubpixelConv1dB(INPUTS, OUTPUTS, kernel, dilation)
        yield Case(mask_b, {**before, (0,): groups("B")}, (latest,))
    for first, last in [(-1, 1), (-2, 0), (-4, -2), (1, 3), (0, 0), (-12, -11), (10, 12)]:
        for dilation in (1, 2):
            literal = [k * dilation for k in range(first, last + 1)]
            window = WindowConv1d(3, 4, first, last, dilation)
            yield Case(window, {(o,): full for o in literal}, (literal,))
    yield Case(CausalConv1d(3, 4, 2, bias=False), {(-1,): full, (0,): full}, ([-1, 0],))


def masked(
    layer: nn.Module, kernel: Offset, step: Offset, present: Tensor | None, right: int
) -> Case:
    """PixelCNN's window: all of the rows above, what is left in this one, `present` at the centre.

    `right`: the last column that the weight has a place for.
    """
    up, side = kernel[0] // 2, kernel[1] // 2
    offsets = itertools.product(range(-up, 1), range(-side, side + 1))
    full = torch.ones_like(layer.get_parameter("weight")[:, :, 0, 0])
    taps: dict[Offset, Tensor] = {o: full for o in offsets if o < (0, 0)}
    if present is not None:
        taps[0, 0] = present
    rows = [r * step[0] for r in range(-up, 1)]
    cols = [c * step[1] for c in range(-side, right + 1)]
    scaled: dict[Offset, Tensor] = {(o[0] * step[0], o[1] * step[1]): taps[o] for o in taps}
    return Case(layer, scaled, (rows, cols))


def two_dimensional() -> Iterator[Case]:
    full = torch.ones(4, 3)
    for kernel in [(3, 3), (5, 3), (1, 5), (3, 1), (1, 3), (7, 7)]:
        side, row = kernel[1] // 2, kernel[0] == 1
        for step in [(1, 1), (1, 2), (2, 1)]:
            mask_a = MaskedConv2dA(3, 4, kernel, step)
            yield masked(mask_a, kernel, step, None, -1 if row else side)
            mask_b = MaskedConv2dB(3, 4, kernel, step)
            yield masked(mask_b, kernel, step, full, 0 if row else side)
    yield masked(MaskedConv2dB(3, 4, (1, 1)), (1, 1), (1, 1), full, 0)
    for kernel in [(3, 3), (1, 3), (1, 1)]:
        right = 0 if kernel[0] == 1 else kernel[1] // 2
        for step in [(1, 1), (2, 2)]:
            group_a = SubpixelConv2dA(INPUTS, OUTPUTS, kernel, step[0])
            yield masked(group_a, kernel, step, groups("A"), right)
            group_b = SubpixelConv2dB(INPUTS, OUTPUTS, kernel, step[0])
            yield masked(group_b, kernel, step, groups("B"), right)
    spans = [((-2, -1), (-1, 1)), ((-1, 0), (-1, 0)), ((0, 0), (-2, 2)), ((1, 2), (1, 3))]
    spans += [((-9, -8), (0, 1)), ((0, 1), (-9, -8)), ((8, 9), (9, 9))]
    for (top, bottom), (left, right) in spans:
        for down, over in [(1, 1), (2, 3)]:
            rows = [r * down for r in range(top, bottom + 1)]
            cols = [c * over for c in range(left, right + 1)]
            window = WindowConv2d(3, 4, (top, bottom), (left, right), (down, over))
            yield Case(window, dict.fromkeys(itertools.product(rows, cols), full), (rows, cols))


def before_in(kernel: Offset) -> list[Offset]:
    """The offsets of a centred window that come before the present in raster order."""
    offsets = itertools.product(*(range(-(size // 2), size // 2 + 1) for size in kernel))
    return [offset for offset in offsets if offset < (0,) * len(kernel)]


def masked_volume(
    layer: nn.Module, kernel: Offset, step: Offset, present: Tensor | None, last: Offset
) -> Case:
    """The same over frames, rows and columns; `last`: where the weight's places end."""
    full = torch.ones_like(layer.get_parameter("weight")[:, :, 0, 0, 0])
    taps: dict[Offset, Tensor] = dict.fromkeys(before_in(kernel), full)
    if present is not None:
        taps[0, 0, 0] = present
    places = tuple(
        [k * s for k in range(-(size // 2), end + 1)]
        for size, s, end in zip(kernel, step, last, strict=True)
    )
    scaled = {tuple(k * s for k, s in zip(o, step, strict=True)): taps[o] for o in taps}
    return Case(layer, scaled, places)


def three_dimensional() -> Iterator[Case]:
    full = torch.ones(4, 3)
    for kernel, last in [
        ((3, 3, 3), (0, 1, 1)), ((3, 1, 1), (0, 0, 0)), ((1, 3, 3), (0, 0, 1)),
        ((1, 1, 3), (0, 0, None)), ((3, 1, 3), (0, 0, 1)), ((1, 5, 1), (0, 0, 0)),
    ]:  # fmt: skip
        for step in [(1, 1, 1), (1, 2, 3)]:
            ends = [tuple(end if o is None else o for o in last) for end in (-1, 0)]
            yield masked_volume(MaskedConv3dA(3, 4, kernel, step), kernel, step, None, ends[0])
            yield masked_volume(MaskedConv3dB(3, 4, kernel, step), kernel, step, full, ends[1])
            group_a = SubpixelConv3dA(INPUTS, OUTPUTS, kernel, step)
            yield masked_volume(group_a, kernel, step, groups("A"), ends[1])
            group_b = SubpixelConv3dB(INPUTS, OUTPUTS, kernel, step)
            yield masked_volume(group_b, kernel, step, groups("B"), ends[1])
    yield masked_volume(MaskedConv3dB(3, 4, (1, 1, 1)), (1, 1, 1), (1, 1, 1), full, (0, 0, 0))
    for spans in [
        ((-2, -1), (-1, 1), (0, 1)),
        ((0, 0), (-5, -4), (1, 1)),
        ((1, 3), (0, 0), (6, 7)),
    ]:
        window = WindowConv3d(3, 4, *spans, dilation=(1, 2, 1))
        steps = zip(spans, (1, 2, 1), strict=True)
        places = tuple([k * s for k in range(low, high + 1)] for (low, high), s in steps)
        yield Case(window, dict.fromkeys(itertools.product(*places), full), places)


CONVS = [*one_dimensional(), *two_dimensional(), *three_dimensional()]
each_convolution = pytest.mark.parametrize("case", CONVS, ids=lambda case: case.name)


def at(*index: int | slice) -> Any:
    """An index behind the batch."""
    return (slice(None), *index)


def neighbours(case: Case, grid: tuple[int, ...]) -> Iterator[tuple[Offset, Offset, Offset]]:
    """Each output position with each tap and the input position there, if inside the grid."""
    for position in itertools.product(*map(range, grid)):
        for offset in case.taps:
            source = tuple(p + d for p, d in zip(position, offset, strict=True))
            if all(0 <= i < n for i, n in zip(source, grid, strict=True)):
                yield position, offset, source


@each_convolution
def test_convolution_equals_brute_force(case: Case) -> None:
    layer = randomised(case.layer).double()
    weight = layer.get_parameter("weight").flatten(2)
    order = list(itertools.product(*case.places))
    assert len(order) == weight.shape[2]
    x = case.input(2, case.grid)
    y = torch.zeros(*x.shape[:-1], weight.shape[0])
    for position, offset, source in neighbours(case, case.grid):
        tap = weight[:, :, order.index(offset)] * case.taps[offset]
        y[at(*position)] += x[at(*source)] @ tap.T
    y += dict(layer.named_parameters()).get("bias", torch.zeros(()))
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-12)


def dependencies(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Which entry of the output depends on which of the input: bool (*axes, O, *axes, C)."""
    jacobian: Tensor = torch.func.jacrev(lambda x: function(x)[0])(x)
    return jacobian.squeeze(x.dim() - 1) != 0


@each_convolution
def test_convolution_reads_exactly_its_taps(case: Case) -> None:
    layer = randomised(case.layer).double()
    reads = dependencies(layer, case.input(1, case.grid))
    expected = torch.zeros_like(reads)[None]
    for position, offset, source in neighbours(case, case.grid):
        expected[at(*position, slice(None), *source)] = case.taps[offset].bool()
    assert torch.equal(reads[None], expected)


@each_convolution
def test_convolution_of_a_chunk_with_its_context_is_a_slice_of_forward(case: Case) -> None:
    layer: Any = randomised(case.layer).double()
    length = 90 if len(case.places) < 3 else 28
    x, middle = case.input(2, (length,) * len(case.places)), length // 2
    whole = layer(x)
    assert whole.shape[:-1] == x.shape[:-1]
    for size in (1, 3):
        chunk = [slice(middle + p[0], middle + size + p[-1]) for p in case.places]
        part = [slice(middle, middle + size) for _ in case.places]
        y = layer.window(x[at(*chunk)])
        torch.testing.assert_close(y, whole[at(*part)], rtol=0, atol=1e-12)


# Any set of taps, strides, groups of features; and the way back

BOXES: dict[str, list[Any]] = {
    "a span": [((-2, 1),)],
    "ahead": [((11, 12),)],
    "steps": [((-5, -1, 4),), ((0, 0),)],
    "two spans": [((-5, -4),), ((-5, 0),)],
    "a square": [((-1, 1), (-1, 1))],
    "before in raster order": [((-1, -1), (-1, 1)), ((0, 0), (-1, -1))],
    "on diagonals": [((-2, -2), (-2, 2, 2)), ((0, 0), (-2, 0, 2))],
    "far apart": [((-7, -7), (0, 0)), ((0, 0), (8, 8))],
    "a volume": [
        ((-1, -1), (-1, 1), (0, 1)),
        ((0, 0), (-1, -1), (-1, 1)),
        ((0, 0), (0, 0), (0, 0)),
    ],
}


def listed(boxes: list[Any]) -> list[Offset]:
    """The taps of all boxes, in raster order."""
    spans = [[range(t[0], t[1] + 1, *t[2:]) for t in box] for box in boxes]
    return sorted({tap for box in spans for tap in itertools.product(*box)})


def strided_neighbours(
    taps: list[Offset], grid: Offset, stride: Offset
) -> Iterator[tuple[Offset, int, Offset]]:
    """Each output position with each tap's number and the input position there, if there is one."""
    counts = [-(-n // s) for n, s in zip(grid, stride, strict=True)]
    for position in itertools.product(*map(range, counts)):
        for k, tap in enumerate(taps):
            ends = zip(position, stride, tap, strict=True)
            source = tuple(s * i + d for i, s, d in ends)
            if all(0 <= i < n for i, n in zip(source, grid, strict=True)):
                yield position, k, source


@pytest.mark.parametrize("groups_of", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, (3, 2, 1)], ids=str)
@pytest.mark.parametrize("name", BOXES)
def test_a_convolution_over_boxes_equals_brute_force(
    name: str, stride: int | Offset, groups_of: int
) -> None:
    taps = listed(BOXES[name])
    axes = len(taps[0])
    steps = (stride,) * axes if isinstance(stride, int) else stride[:axes]
    layer = randomised(BoxConv(4, 6, BOXES[name], steps, groups_of))
    weight = layer.get_parameter("weight")
    assert weight.shape == (6, 4 // groups_of, len(taps))
    own = torch.block_diag(*torch.ones(groups_of, 6 // groups_of, 4 // groups_of))
    grid = [(LENGTH,), (HEIGHT, WIDTH), VOLUME][axes - 1]
    x = torch.randn(2, *grid, 4)
    counts = [-(-n // s) for n, s in zip(grid, steps, strict=True)]
    y = torch.zeros(2, *counts, 6) + layer.get_parameter("bias")
    expected = torch.zeros(*counts, 6, *grid, 4, dtype=torch.bool)
    for position, k, source in strided_neighbours(taps, grid, steps):
        tap = weight[:, :, k].repeat(1, groups_of) * own
        y[at(*position)] += x[at(*source)] @ tap.T
        expected[(*position, slice(None), *source)] = own.bool()
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-12)
    assert torch.equal(dependencies(layer, x[:1]), expected)


@pytest.mark.parametrize(
    ("spans", "stride"),
    [
        ([(0, 7)], 4), ([(-1, 2)], 2), ([(-3, 5)], (4,)), ([(2, 3)], 3), ([(0, 0)], 2),
        ([(-9, -8)], 1), ([(0, 1), (0, 2)], 2), ([(-1, 2), (1, 2)], (2, 1)),
        ([(0, 1), (-1, 1), (0, 2)], (1, 2, 2)),
    ],
)  # fmt: skip
def test_a_transposed_convolution_equals_brute_force(
    spans: list[tuple[int, int]], stride: int | Offset
) -> None:
    layer = randomised(TransposedConv(3, 4, spans, stride))
    steps = (stride,) * len(spans) if isinstance(stride, int) else stride
    grid = [(LENGTH,), (HEIGHT, WIDTH), VOLUME][len(spans) - 1]
    frames = [-(-n // s) for n, s in zip(grid, steps, strict=True)]
    x = torch.randn(2, *frames, 3)
    y = torch.zeros(2, *grid, 4) + layer.get_parameter("bias")
    places = list(itertools.product(*(range(low, high + 1) for low, high in spans)))
    weight = layer.get_parameter("weight").flatten(2)
    for source, (k, d) in itertools.product(
        itertools.product(*map(range, frames)), enumerate(places)
    ):
        position = tuple(q * s + o for q, s, o in zip(source, steps, d, strict=True))
        if all(0 <= i < n for i, n in zip(position, grid, strict=True)):
            y[at(*position)] += x[at(*source)] @ weight[:, :, k].T
    torch.testing.assert_close(layer(x, *grid), y, rtol=0, atol=1e-12)


def test_a_transposed_convolution_needs_enough_frames() -> None:
    with pytest.raises(ValueError, match="2 frames cover 8 of 9 positions at 4 each"):
        TransposedConv(3, 4, [(0, 7)], 4)(torch.randn(1, 2, 3), 9)


# Pools


@pytest.mark.parametrize("rates", [(1,), (4,), (9,), (20,), (2, 3), (1, 4), (2, 3, 2)], ids=str)
def test_pools_equal_those_of_torch(rates: Offset) -> None:
    grid = [(LENGTH,), (HEIGHT, WIDTH), VOLUME][len(rates) - 1]
    x = torch.randn(2, *grid, 3)
    sides = [(0, -n % r) for n, r in zip(grid, rates, strict=True)]
    around = [0, 0, *itertools.chain(*reversed(sides))]
    for pool, torchs, outside in [
        (mean_pool, (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), 0.0),
        (max_pool, (F.max_pool1d, F.max_pool2d, F.max_pool3d), -torch.inf),
    ]:
        padded = F.pad(x, around, value=outside).movedim(-1, 1)
        wanted = torchs[len(rates) - 1](padded, rates).movedim(1, -1)  # type: ignore[operator]
        torch.testing.assert_close(pool(x, *rates), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", [(LENGTH,), (HEIGHT, WIDTH), VOLUME], ids=str)
def test_what_is_pooled_so_far(grid: Offset) -> None:
    x = torch.randn(2, *grid, 3)
    mean, most = mean_so_far(x), max_so_far(x)
    for number, place in enumerate(itertools.product(*map(range, grid)), start=1):
        seen = x.flatten(1, -2)[:, :number]
        torch.testing.assert_close(mean[at(*place)], seen.mean(1), rtol=0, atol=1e-12)
        assert torch.equal(most[at(*place)], seen.amax(1))


def live_weight(layer: nn.Module) -> Tensor:
    weight = layer.get_parameter("weight")
    return weight * dict(layer.named_buffers()).get("mask", torch.ones(()))


def wide_layers() -> Iterator[tuple[nn.Module, Tensor]]:
    """Layers with many weights per output, and each output's number of live taps."""
    ins, outs = [0] * 70 + [1] * 50 + [2] * 40, [0] * 8 + [1] * 8 + [2] * 8
    upto = torch.tensor([[70, 120, 160][g] for g in outs])
    before = torch.tensor([[0, 70, 120][g] for g in outs])
    ones = torch.ones(24)
    yield CausalConv1d(160, 24, 3, 4), 3 * 160 * ones
    yield StrictlyCausalConv1d(160, 24, 2), 2 * 160 * ones
    yield WindowConv1d(160, 24, -1, 1), 3 * 160 * ones
    yield WindowConv2d(160, 24, (-2, -1), (-1, 1)), 6 * 160 * ones
    yield MaskedConv2dA(160, 24, (3, 3)), 4 * 160 * ones
    yield MaskedConv2dB(160, 24, (3, 3)), 5 * 160 * ones
    yield MaskedConv2dA(160, 24, (1, 5)), 2 * 160 * ones
    yield MaskedConv2dB(160, 24, (1, 5)), 3 * 160 * ones
    yield SubpixelLinear(ins, outs), upto
    yield SubpixelConv1dA(ins, outs, 2), 160 + before
    yield SubpixelConv1dB(ins, outs, 2), 160 + upto
    yield SubpixelConv2dA(ins, outs, (3, 3)), 4 * 160 + before
    yield SubpixelConv2dB(ins, outs, (3, 3)), 4 * 160 + upto
    yield SubpixelConv2dB(ins, outs, (1, 1)), upto
    yield WindowConv3d(160, 24, (-1, 0), (0, 0), (-1, 1)), 6 * 160 * ones
    yield MaskedConv3dA(160, 24, (3, 3, 3)), 13 * 160 * ones
    yield MaskedConv3dB(160, 24, (1, 1, 5)), 3 * 160 * ones
    yield SubpixelConv3dA(ins, outs, (3, 1, 1)), 160 + before
    yield BoxConv(160, 24, [((-2, -1), (0, 0)), ((0, 0), (-1, -1))]), 3 * 160 * ones
    yield BoxConv(160, 24, [((-2, 0),)], groups=4), 3 * 40 * ones


@pytest.mark.parametrize("case", range(20))
def test_initial_spread_follows_the_live_taps_of_each_output(case: int) -> None:
    layer, fan_in = list(wide_layers())[case]
    weight = live_weight(layer).detach().flatten(1)
    bound = fan_in.double().rsqrt()
    assert torch.equal((weight != 0).sum(1).double(), fan_in.double())
    std = (weight.square().sum(1) / fan_in).sqrt()  # over the live taps
    torch.testing.assert_close(std, bound / 3**0.5, rtol=0.15, atol=0)
    assert (weight.abs().amax(1) <= bound).all()
    bias = layer.get_parameter("bias").abs()
    assert (bias <= bound).all()
    assert (bias / bound).max() > 0.7


def test_initial_spread_is_that_of_torch() -> None:
    ours, theirs = CausalConv1d(64, 64, 3), nn.Conv1d(64, 64, 3)
    torch.testing.assert_close(ours.weight.std(), theirs.weight.std(), rtol=0.03, atol=0)
    torch.testing.assert_close(ours.weight.max(), theirs.weight.max(), rtol=0.01, atol=0)


def test_an_output_without_taps_starts_finite_and_is_its_bias() -> None:
    layer = SubpixelConv1dA([0, 1], [0, 1], 1)
    y = layer(torch.randn(1, 4, 2))
    assert torch.equal(y[0, :, 0], layer.get_parameter("bias")[0].expand(4))


def test_weight_shapes() -> None:
    def shape(layer: nn.Module) -> tuple[int, ...]:
        return tuple(layer.get_parameter("weight").shape)

    assert shape(CausalConv1d(3, 4, 2)) == (4, 3, 2)
    assert shape(MaskedConv2dA(3, 4, (7, 7))) == (4, 3, 4, 7)
    assert shape(MaskedConv2dB(3, 4, (5, 3))) == (4, 3, 3, 3)
    assert shape(MaskedConv2dA(3, 4, (1, 5))) == (4, 3, 1, 2)
    assert shape(MaskedConv2dB(3, 4, (1, 5))) == (4, 3, 1, 3)
    assert shape(MaskedConv3dA(3, 4, (3, 3, 5))) == (4, 3, 2, 3, 5)
    assert shape(MaskedConv3dA(3, 4, (1, 3, 5))) == (4, 3, 1, 2, 5)
    assert shape(MaskedConv3dA(3, 4, (1, 1, 5))) == (4, 3, 1, 1, 2)
    assert shape(MaskedConv3dB(3, 4, (1, 1, 5))) == (4, 3, 1, 1, 3)
    assert shape(SubpixelConv2dA(INPUTS, OUTPUTS, (1, 5))) == (4, 5, 1, 3)
    assert shape(SubpixelConv2dB(INPUTS, OUTPUTS, (7, 7))) == (4, 5, 4, 7)


def test_state_dicts_hold_weights_and_biases_only() -> None:
    for case in CONVS:
        assert set(case.layer.state_dict()) <= {"weight", "bias"}
    assert set(CausalConv1d(3, 4, 2, bias=False).state_dict()) == {"weight"}
    assert set(SubpixelLinear(INPUTS, OUTPUTS).state_dict()) == {"weight", "bias"}
    assert set(AlibiCausalSelfAttention(8, 2).state_dict()) == {
        "qkv.weight",
        "qkv.bias",
        "out.weight",
        "out.bias",
    }


@pytest.mark.parametrize("kernel", [(2, 3), (3, 2), (4, 4)])
def test_an_even_masked_window_is_refused(kernel: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="even"):
        MaskedConv2dB(3, 4, kernel)


def test_mask_a_of_a_single_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="reads nothing"):
        MaskedConv2dA(3, 4, (1, 1))


def test_subpixel_linear_reads_its_own_group_and_earlier_ones() -> None:
    layer = randomised(SubpixelLinear(INPUTS, OUTPUTS))
    x, live = torch.randn(2, 3, 5), layer.get_parameter("weight") * groups("B")
    torch.testing.assert_close(layer(x), F.linear(x, live, layer.get_parameter("bias")))
    reads = dependencies(layer, torch.randn(1, 5)[:, None])[0, :, 0]
    assert torch.equal(reads, groups("B").bool())


def test_channel_groups() -> None:
    assert channel_groups(256, 3) == [0] * 86 + [1] * 85 + [2] * 85
    assert channel_groups(7, 5) == [0, 0, 1, 1, 2, 3, 4]
    assert channel_groups(3, 3) == [0, 1, 2]
    assert channel_groups(4, 1) == [0] * 4


# Attention

WIDE, HEADS = 8, 4


def attentions() -> dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], bool]]]:
    """A layer, and whether its output t reads x[s]."""
    return {
        "causal": (lambda: CausalSelfAttention(WIDE, HEADS), lambda t, s: s <= t),
        "strict": (lambda: StrictCausalSelfAttention(WIDE, HEADS), lambda t, s: s < t),
        "windowed": (lambda: WindowedSelfAttention(WIDE, HEADS, 3), lambda t, s: t - 3 < s <= t),
        "window of one": (lambda: WindowedSelfAttention(WIDE, HEADS, 1), lambda t, s: s == t),
        "long window": (lambda: WindowedSelfAttention(WIDE, HEADS, 99), lambda t, s: s <= t),
        "alibi": (lambda: AlibiCausalSelfAttention(WIDE, HEADS), lambda t, s: s <= t),
        "rotary": (lambda: RotaryCausalSelfAttention(WIDE, HEADS, 2), lambda t, s: s <= t),
    }


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's batched backward
@pytest.mark.parametrize("name", attentions())
@pytest.mark.parametrize("length", [1, 2, 10])
def test_attention_reads_exactly_its_positions(name: str, length: int) -> None:
    make, visible = attentions()[name]
    reads = dependencies(randomised(make()), torch.randn(1, length, WIDE)).any(-1).any(1)
    expected = [[visible(t, s) for s in range(length)] for t in range(length)]
    assert reads.tolist() == expected


def reference_attention(
    layer: CausalSelfAttention, x: Tensor, visible: Callable[[int, int], bool]
) -> Tensor:
    """Query by query, key by key."""
    weight, bias = layer.qkv.weight, layer.qkv.bias
    size = WIDE // HEADS
    rows = []
    for t in range(x.shape[1]):
        heads = []
        for h in range(HEADS):
            part = [slice(i * WIDE + h * size, i * WIDE + (h + 1) * size) for i in range(3)]
            q, k, v = (x @ weight[p].T + bias[p] for p in part)
            keys = [s for s in range(x.shape[1]) if visible(t, s)]
            scores = torch.stack([(q[:, t] * k[:, s]).sum(-1) for s in keys], -1) / size**0.5
            if isinstance(layer, AlibiCausalSelfAttention):
                slope = 2.0 ** (-8 * (h + 1) / HEADS)
                scores = scores - slope * torch.tensor([t - s for s in keys])
            chances = scores.softmax(-1)
            heads.append(sum(chances[:, i, None] * v[:, s] for i, s in enumerate(keys)))
        rows.append(torch.cat([torch.as_tensor(head) for head in heads], -1))
    result: Tensor = layer.out(torch.stack(rows, 1))
    return result


@pytest.mark.parametrize("name", ["causal", "windowed", "long window", "window of one", "alibi"])
@pytest.mark.parametrize("length", [1, 3, 7])
def test_attention_equals_brute_force(name: str, length: int) -> None:
    make, visible = attentions()[name]
    layer = randomised(make())
    assert isinstance(layer, CausalSelfAttention)
    x = torch.randn(2, length, WIDE)
    torch.testing.assert_close(layer(x), reference_attention(layer, x, visible))


def test_strict_attention_is_causal_attention_one_later_and_zeros_first() -> None:
    strict = randomised(StrictCausalSelfAttention(WIDE, HEADS))
    causal = CausalSelfAttention(WIDE, HEADS)
    causal.load_state_dict(strict.state_dict())
    x = torch.randn(2, 6, WIDE)
    y = strict(x)
    torch.testing.assert_close(y[:, 1:], causal(x)[:, :-1])
    torch.testing.assert_close(y[:, 0], strict.out.bias.expand(2, -1))


@pytest.mark.parametrize("name", [*attentions()])
def test_attention_in_chunks_equals_forward(name: str) -> None:
    layer = randomised(attentions()[name][0]())
    assert isinstance(layer, CausalSelfAttention | RotaryCausalSelfAttention)
    x = torch.randn(2, 10, WIDE)
    whole = layer(x)
    for start, stop in itertools.pairwise([0, 1, 2, 5, 6, 10]):
        if isinstance(layer, RotaryCausalSelfAttention):
            q, _, _ = layer.project(x[:, start:stop], start)
        else:
            q, _, _ = layer.project(x[:, start:stop])
        _, k, v = layer.project(x[:, :stop])
        if name == "strict":  # the keys end one position earlier
            k, v = k[:, :, :-1], v[:, :, :-1]
            if start == 0:
                continue
        if name == "strict":  # and so do the queries
            q, _, _ = layer.project(x[:, start - 1 : stop - 1])
        torch.testing.assert_close(layer.merge(layer.attend(q, k, v)), whole[:, start:stop])


def test_rotary_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(1, 1, 1, 6), torch.randn(1, 1, 1, 6)

    def score(t: int, s: int) -> Tensor:
        return (rotate(q, 100.0, t) * rotate(k, 100.0, s)).sum()

    torch.testing.assert_close(score(7, 3), score(104, 100))
    assert not torch.isclose(score(7, 3), score(7, 4))
    torch.testing.assert_close(rotate(q, 100.0), q)


def test_rotary_is_that_of_llama() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    q, k = torch.randn(2, HEADS, 5, 6), torch.randn(2, 2, 5, 6)
    frequencies = 10000.0 ** (-torch.arange(0, 6, 2) / 6)
    angles = torch.arange(5)[:, None] * torch.cat([frequencies, frequencies])
    theirs = llama.apply_rotary_pos_emb(q, k, angles.cos()[None], angles.sin()[None])
    torch.testing.assert_close(rotate(q, 10000.0), theirs[0])
    torch.testing.assert_close(rotate(k, 10000.0), theirs[1])


def test_rotary_keys_of_a_later_chunk_are_those_of_the_whole() -> None:
    layer = randomised(RotaryCausalSelfAttention(WIDE, HEADS, 2))
    x = torch.randn(2, 9, WIDE)
    for part, whole in zip(layer.project(x[:, 4:7], 4), layer.project(x), strict=True):
        torch.testing.assert_close(part, whole[:, :, 4:7])


def test_grouped_queries_share_keys() -> None:
    layer = randomised(RotaryCausalSelfAttention(WIDE, HEADS, 2, bias=False))
    assert layer.qkv.weight.shape == ((HEADS + 2 * 2) * 2, WIDE)
    x = torch.randn(2, 5, WIDE)
    q, k, v = layer.project(x)
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(layer(x), layer.merge(y))


@pytest.mark.parametrize("heads", [1, 2, 6, 12])
def test_alibi_slopes(heads: int) -> None:
    slopes = AlibiCausalSelfAttention(12, heads).slopes.tolist()
    published = {
        1: [2**-8],
        2: [2**-4, 2**-8],
        6: [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3],
        12: [2**-i for i in range(1, 9)] + [2 ** -(i + 0.5) for i in range(4)],
    }
    assert slopes == pytest.approx(published[heads])


@pytest.mark.parametrize("name", attentions())
def test_attention_dropout_is_for_training_only_and_outputs_set_the_width(name: str) -> None:
    kind = type(attentions()[name][0]())
    extra = {"windowed": [3], "window of one": [1], "long window": [99], "rotary": [2]}.get(
        name, []
    )
    layer = kind(WIDE, HEADS, *extra, dropout=0.5, outputs=5)
    x = torch.randn(2, 6, WIDE)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert layer(x).shape == (2, 6, 5)


# Embeddings and functions


def test_embedding_starts_with_unit_vectors() -> None:
    embedding = Embedding(500, 64)
    assert embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert embedding(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3, 64)
    assert set(embedding.state_dict()) == {"weight"}


def test_position_embedding_is_a_table_of_bounded_length() -> None:
    table = PositionEmbedding(6, 5)
    assert torch.equal(table(4), table.weight[:4])
    with pytest.raises(ValueError, match="7 positions, but only 6"):
        table(7)


@pytest.mark.parametrize("width", [1, 6, 7])
def test_sinusoidal(width: int) -> None:
    table = sinusoidal(50, width, dtype=torch.float64)
    for p, f in itertools.product(range(50), range(width)):
        angle = torch.tensor(p / 10000 ** ((f - f % 2) / width))
        expected = angle.sin() if f % 2 == 0 else angle.cos()
        torch.testing.assert_close(table[p, f], expected, rtol=0, atol=1e-12)
    single = sinusoidal(100_000, 8)
    assert single.dtype == torch.float32
    exact = sinusoidal(100_000, 8, dtype=torch.float64)
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("by", [-9, -4, -1, 0, 1, 3, 4, 9])
@pytest.mark.parametrize("features", [True, False])
def test_shift(axis: int, by: int, features: bool) -> None:
    x = torch.randn(2, 4, 4, 3) if features else torch.randint(1, 9, (2, 4, 4))
    y = shift(x, axis, by)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    for i in range(4):
        expected = (
            x.select(axis, i - by) if 0 <= i - by < 4 else torch.zeros_like(x.select(axis, 0))
        )
        assert torch.equal(y.select(axis, i), expected)


def test_repeat() -> None:
    x = torch.randn(2, 3, 4, 5)
    y = repeat(x, 3, 7, axis=1)
    assert y.shape == (2, 7, 4, 5)
    assert all(torch.equal(y[:, i], x[:, i // 3]) for i in range(7))
    assert torch.equal(repeat(x, 2, 8, axis=2)[:, :, 7], x[:, :, 3])
    with pytest.raises(ValueError, match="mel: 3 frames cover 768 of 1000 positions"):
        repeat(x, 256, 1000, axis=1, name="mel")


def test_concat_elu() -> None:
    y = concat_elu(torch.tensor([[-1.0, 2.0]]))
    torch.testing.assert_close(y, torch.tensor([[math.expm1(-1), 2.0, 1.0, math.expm1(-2)]]))


def test_scale_levels() -> None:
    for dtype in (torch.uint8, torch.long):
        x = torch.arange(256).to(dtype)
        y = scale_levels(x, 256)
        assert y.dtype == torch.float32
        assert (y[0].item(), y[255].item()) == (-1, 1)
        torch.testing.assert_close(y.double(), torch.linspace(-1, 1, 256), rtol=0, atol=1e-7)
    y = scale_levels(torch.arange(8), 8, torch.float64)
    torch.testing.assert_close(y, torch.linspace(-1, 1, 8), rtol=0, atol=1e-15)


@pytest.mark.parametrize("classes", [16, 256, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mu_law_round_trip(classes: int, dtype: torch.dtype) -> None:
    mu = classes - 1

    def compand(x: Tensor) -> Tensor:
        x = x.double()
        return x.sign() * torch.log1p(mu * x.abs()) / torch.log1p(torch.tensor(float(mu)))

    symbols = torch.arange(classes)
    assert torch.equal(mu_law_encode(mu_law_decode(symbols, classes), classes), symbols)
    audio = torch.cat([torch.linspace(-1, 1, 10_001), torch.randn(1000) * 1e-3]).to(dtype)
    codes = mu_law_encode(audio, classes)
    assert codes.dtype == torch.long
    error = compand(mu_law_decode(codes, classes)) - compand(audio)
    assert error.abs().max() <= 1 / mu + 1e-5  # half of a step of 2 / mu
    ends = torch.tensor([-1.0, 1.0], dtype=dtype)
    assert mu_law_encode(ends, classes).tolist() == [0, mu]
    assert mu_law_decode(torch.tensor([0, mu]), classes).tolist() == [-1, 1]
    assert mu_law_encode(3 * ends, classes).tolist() == [0, mu]


# What lets the text of a piece stand in another file


STANDARD = {
    "Any", "BLOCK", "CONVOLUTIONS", "Callable", "ClassVar", "DRAWS", "Hashable", "Index",
    "Iterable", "Iterator", "LAYOUT", "Mapping", "NamedTuple", "Offset", "Outside", "PRODUCTS",
    "Result", "SLOW", "Sequence", "Span", "Table", "Taps", "TorchFunctionMode", "copy",
    "dataclass", "fx", "accumulate", "itertools", "operator", "partial", "product", "re", "replace",
    "suppress",
}  # fmt: skip


@cache
def definitions() -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for path in sorted((TEMPLATES / "pieces").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                assert node.name not in found, f"{node.name} is defined twice"
                found[node.name] = node
            else:
                assert isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign), (
                    ast.unparse(node)
                )
    return found


@pytest.mark.parametrize("name", definitions())
def test_a_piece_refers_to_other_pieces_and_torch_only(name: str) -> None:
    node = definitions()[name]
    known = {"torch", "nn", "F", "math", "Tensor", *STANDARD, *definitions(), *dir(builtins)}
    bound = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    bound |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
    bound |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
    assert {n.id for n in names} - bound <= known
    assert not [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("name", definitions())
def test_a_piece_says_what_it_does_in_a_few_lines(name: str) -> None:
    node = definitions()[name]
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    text = ast.get_docstring(node)
    assert text
    assert len([line for line in text.splitlines() if line]) <= 4


def test_bytes_round_trip() -> None:
    text = bytes(range(256)) + "größer".encode()
    symbols = bytes_encode(text)
    assert symbols.dtype == torch.long
    assert symbols.tolist() == list(text)
    assert bytes_decode(torch.cat([symbols, torch.tensor([256])])) == text
    assert bytes_decode(bytes_encode(b"")) == b""
