"""Recurrences: against PyTorch's own layers and plain loops, their steps against the forward."""

# ruff: noqa: I001  (pieces_path comes first: it makes `pieces` importable)
import io
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pieces_path import double, randomised  # noqa: F401, a fixture
from counting import both
from pieces.recurrent import (
    Gru,
    Lstm,
    Recurrence,
    StrictSubpixelGru,
    SubpixelLstm,
)
from pieces.windows import box
from stepwise import EXACT, difference, of_text, one_thread

from arspec import compiler
from arspec.diagnostics import SpecError

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
CLOSE = 1e-12
INPUTS, WIDTH = 3, 4
OFFSETS: list[tuple[list[tuple[int, ...]], tuple[int, ...]]] = [
    ([(-1,)], (1,)),
    ([(1,)], (-1,)),
    ([(-2,)], (1,)),
    ([(-1,), (-3,)], (1,)),
    ([(0, -1)], (0, 1)),
    ([(0, 1)], (0, -1)),
    ([(1, 0)], (-1, 0)),
    ([(0, -2)], (0, 1)),
    (box((-1, -1), (-1, 1)), (1, 0)),  # Row LSTM
    ([(-1, 0), (0, -1)], (1, 1)),  # Diagonal BiLSTM
    ([(-1, 0), (0, 1)], (1, -1)),
    ([(-1, 1), (0, -1)], (2, 1)),
    (box((-1, -1), (-1, 1), (-1, 1)), (1, 0, 0)),
    ([(0, 0, -1), (0, -1, 0), (-1, 0, 0)], (1, 1, 1)),
]


def copied(layer: Recurrence, other: Any, suffix: str = "") -> None:
    """The weights of a layer in PyTorch's own, whose second bias is zero."""
    with torch.no_grad():
        getattr(other, f"weight_ih{suffix}").copy_(layer.weight_input)
        getattr(other, f"weight_hh{suffix}").copy_(layer.weight_state)
        getattr(other, f"bias_ih{suffix}").copy_(layer.bias)
        getattr(other, f"bias_hh{suffix}").zero_()


@pytest.mark.parametrize(("kind", "theirs"), [(Lstm, nn.LSTM), (Gru, nn.GRU)])
def test_along_time_as_torch_has_it(kind: Any, theirs: Any) -> None:
    layer, other = randomised(kind(INPUTS, WIDTH)), theirs(INPUTS, WIDTH, batch_first=True)
    copied(layer, other, "_l0")
    x = torch.randn(2, 11, INPUTS)
    wanted = other(x)[0]
    assert (layer(x) - wanted).abs().max() < CLOSE
    scanned = layer.scan(layer.project(x, None))[..., :WIDTH]
    assert (scanned - wanted).abs().max() < CLOSE


@pytest.mark.parametrize(("kind", "theirs"), [(Lstm, nn.LSTMCell), (Gru, nn.GRUCell)])
def test_a_cell_as_torch_has_it(kind: Any, theirs: Any) -> None:
    layer, other = randomised(kind(INPUTS, WIDTH)), theirs(INPUTS, WIDTH)
    copied(layer, other)
    x, state = torch.randn(5, INPUTS), torch.randn(5, layer.parts * WIDTH)
    new = layer.advance(layer.project(x, None), [state])
    before = state.split(WIDTH, dim=-1)
    after = other(x, before if len(before) > 1 else before[0])
    wanted = torch.cat(after, dim=-1) if isinstance(after, tuple) else after
    assert (new - wanted).abs().max() < CLOSE


def looped(layer: Recurrence, x: Tensor, given: Tensor | float = 0.0) -> Tensor:
    """Every position by itself, by the equations of the papers."""
    grid, w = x.shape[1:-1], layer.width
    states: dict[tuple[int, ...], Tensor] = {}
    zero = x.new_zeros(len(x), layer.parts * w)
    inside = set(itertools.product(*map(range, grid)))
    bias: Any = 0.0 if layer.bias is None else layer.bias
    weight = layer.input_weight().view(-1, len(layer.reads), x.shape[-1])
    extra = torch.as_tensor(given).expand(*x.shape[:-1], layer.gates * w)
    for p in sorted(inside, key=lambda p: sum(a * b for a, b in zip(layer.order, p, strict=True))):
        a = bias + extra[(slice(None), *p)]
        for k, d in enumerate(layer.reads):
            q = tuple(i + j for i, j in zip(p, d, strict=True))
            if q in inside:
                a = a + x[(slice(None), *q)] @ weight[:, k].T
        found = [
            states.get(tuple(i + j for i, j in zip(p, d, strict=True)), zero) for d in layer.state
        ]
        b = torch.cat([s[:, :w] for s in found], dim=1) @ layer.weight_state.T
        kept = found[layer.nearest]
        if layer.gates == 4:
            i, f, g, o = (a + b).view(len(x), 4, w).unbind(1)
            c = f.sigmoid() * kept[:, w:] + i.sigmoid() * g.tanh()
            states[p] = torch.cat([o.sigmoid() * c.tanh(), c], dim=1)
        else:
            r, z = (a + b)[:, : 2 * w].sigmoid().view(len(x), 2, w).unbind(1)
            n = (a[:, 2 * w :] + r * b[:, 2 * w :]).tanh()
            states[p] = (1 - z) * n + z * kept
    values = torch.stack([states[p][:, :w] for p in itertools.product(*map(range, grid))], dim=1)
    return values.view(len(x), *grid, w)


@pytest.mark.parametrize("kind", [Lstm, Gru])
@pytest.mark.parametrize(("state", "order"), OFFSETS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_plain_loop(kind: Any, state: Any, order: Any, bias: bool) -> None:
    axes = len(order)
    for reads in ([], [(0,) * axes, (-1,) * axes, (*[1] * (axes - 1), -2)]):
        layer = randomised(kind(INPUTS, WIDTH, state, order, reads, bias))
        x = torch.randn(2, *(4, 5, 3)[:axes], INPUTS)
        assert (layer(x) - looped(layer, x)).abs().max() < CLOSE
        given = torch.randn(*x.shape[:-1], layer.gates * WIDTH)
        assert (layer(x, given) - looped(layer, x, given)).abs().max() < CLOSE


@pytest.mark.parametrize(
    ("state", "nearest"),
    [
        ([(-1, -1), (-1, 0), (-1, 1)], (-1, 0)),  # both as in PixelRNN
        ([(-1, 0), (0, -1)], (0, -1)),
        ([(-1, 0), (0, 1)], (0, 1)),
        ([(-3,), (-1,), (-2,)], (-1,)),
    ],
)
def test_what_is_carried_on_is_the_nearest_state(state: Any, nearest: Any) -> None:
    layer = Lstm(1, 1, state, (1,) * len(nearest))
    assert layer.state[layer.nearest] == nearest


@pytest.mark.parametrize(("kind", "strict"), [(SubpixelLstm, 0), (StrictSubpixelGru, 1)])
def test_channels_see_those_before_them(kind: Any, strict: int) -> None:
    inputs, outputs = [0, 0, 1, 2], [0, 1, 1, 2]
    layer = randomised(kind(inputs, outputs, [(0, -1)], (0, 1), [(0, 0), (-1, 0)]))
    x = torch.randn(1, 2, 3, 4)
    assert (layer(x) - looped(layer, x)).abs().max() < CLOSE
    jacobian: Any = torch.autograd.functional.jacobian(layer, x)
    reads = jacobian[0, :, :, :, 0].abs() > 0  # (row, col, output, row, col, input)
    for o, i in itertools.product(range(4), range(4)):
        assert reads[1, 1, o, 1, 1, i] == (inputs[i] <= outputs[o] - strict)
        assert reads[1, 1, o, 0, 1, i]


def test_gradients_reach_every_parameter() -> None:
    for kind in (Lstm, Gru):
        layer = randomised(kind(INPUTS, WIDTH, [(-1, 0), (0, -1)], (1, 1)))
        assert torch.autograd.gradcheck(layer, torch.randn(1, 2, 3, INPUTS, requires_grad=True))
        layer(torch.randn(1, 2, 3, INPUTS)).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


# ------------------------------------------------------------------------------------------ steps

TIME = """name: drawn
variables:
  y: {classes: 5, axes: [time]}
  c: {features: 2, axes: [time], known: all}
generate: y
network:
  z: {linear: 4, of: c}
"""
GRID = TIME.replace("[time]", "[row, col]")
BODIES = [
    (TIME, "  s: {embed: 6, of: y(time - 1)}\n  r: {OP: 4}\n"),
    (TIME, "  s: {embed: 6, of: y}\n  q: {OP: 4}\n  r: tanh(q(time - 1))\n"),
    (TIME, "  s: {embed: 6, of: y(time - 1)}\n  r: {OP: 4, bias: false, given: [c, s]}\n"),
    (TIME, "  s: {conv: 2, to: 6, of: y}\n  r: {OP: 4, reads: 3, state: -2, given: z}\n"),
    (TIME, "  r: {OP: 4, reads: 3, state: [-1, -3], of: y}\n"),
    (TIME, "  q: {OP: 4, reads: {time: -1..1}, of: y}\n  r: q(time - 2)\n"),
    (TIME, "  q: {OP: 4, state: 1, of: c}\n  r: {OP: 4, given: q, of: y(time - 1)}\n"),
    (GRID, "  s: {conv: 3, to: 6, of: y}\n  r: {OP: 4}\n"),
    (
        GRID,
        "  s: {conv: 3, to: 6, of: y}\n"
        "  r: {OP: 4, reads: {row: 1, col: 3}, state: {row: -1, col: -1..1}, given: c}\n",
    ),
    (
        GRID,
        "  s: {conv: 3, to: 6, of: y}\n  r: {OP: 4, reads: 3, state: [{row: -1}, {col: -1}]}\n",
    ),
    (
        GRID,
        "  s: {conv: 3, to: 6, of: y}\n  q: {OP: 4, state: [{row: -1}, {col: 1}]}\n"
        "  r: q(row - 1)\n",
    ),
    (
        GRID,
        "  s: {conv: {row: -1, col: -1..1}, to: 6, of: y}\n  t: {conv: 3, to: 4, of: y}\n"
        "  q: {OP: 4, reads: {row: -1..0, col: -1..1}, state: {row: -1, col: -1..1}, of: s}\n"
        "  r: q + t\n",
    ),
]


def spec(start: str, body: str, op: str) -> str:
    return f"{start}{body.replace('OP', op)}  out: r + z\nhead: categorical\n"


@pytest.mark.parametrize("op", ["lstm", "gru"])
@pytest.mark.parametrize(("start", "body"), BODIES)
def test_steps_equal_the_forward(start: str, body: str, op: str) -> None:
    """Behind any prompt, and for no more multiply-adds than a forward."""
    this = of_text(spec(start, body, op))
    assert this.derived
    assert max(difference(this, slabs) for slabs in range(this.length)) < EXACT
    drawn, forward = both(this)
    assert drawn.weights <= forward.weights


class Recorded(TorchDispatchMode):
    """The operations that run, with every argument that is not a tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shown = [tuple(a.shape) if isinstance(a, Tensor) else repr(a) for a in args]
        shown = [s if "tensor" not in str(s) else "tensors" for s in shown]
        self.calls.append(f"{func} {shown} {kwargs}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("op", ["lstm", "gru"])
@pytest.mark.parametrize(("start", "body"), BODIES)
def test_a_step_does_the_same_at_every_position(start: str, body: str, op: str) -> None:
    """On the same tensors, so that it can be recorded: the position is not among the numbers."""
    this = of_text(spec(start, body, op))
    state: Any = this.start()
    seen: set[tuple[str, ...]] = set()
    where = {}
    for name, cache in state.caches.items():
        step = getattr(cache, "step", None)
        if step is None:
            continue
        where[name] = pointers(cache)

        def recorded(*args: Any, name: str = name, step: Any = step) -> Any:
            with Recorded() as calls:
                result = step(*args)
            if args[-1].at[0] >= 2:
                seen.add((name, *calls.calls))
            return result

        cache.step = recorded
    list(this.stepped(state=state))
    assert where
    assert len(seen) == len(where)
    assert all(pointers(state.caches[name]) == before for name, before in where.items())


def pointers(cache: Any) -> list[int]:
    """Where the tensors that move lie."""
    kept = [getattr(cache, name) for name in cache.moving]
    return [tensor.data_ptr() for tensor in kept]


def test_a_clone_moves_on_its_own() -> None:
    for start, body in BODIES:
        this = of_text(spec(start, body, "lstm"))
        state: Any = this.start(2)
        branch = state.clone()
        wanted = [params for _, params in this.stepped(2, state)]
        found = [params for _, params in this.stepped(2, branch)]
        assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_parameters_are_those_that_are_stated() -> None:
    this = of_text(spec(GRID, "  r: {lstm: 4, reads: {row: 1, col: 3}, given: c, of: y}\n", "lstm"))
    taps = 1  # of three: mask A leaves the one to the left
    layer: Any = this.model.r
    assert sum(p.numel() for p in layer.parameters()) == 4 * 4 * (taps * 5 + 4 + 1)
    given: Any = this.model.r_c
    assert given.weight.shape == (16, 2)  # the input of all gates


@pytest.mark.parametrize("state", ["", ", state: 1", ", state: [-1, -2]"])
def test_along_an_axis_of_a_condition(state: str) -> None:
    """What is drawn has no such axis: there is nothing to leak."""
    memory = f"  m: {{lstm: 4{state}, of: c}}\n  n: {{lstm: 4}}\n"
    text = spec(TIME, memory + "  r: {attention: 2, over: n, of: z}\n", "")
    text = text.replace("c: {features: 2, axes: [time]", "c: {features: 2, axes: [place]")
    text = text.replace("z: {linear: 4, of: c}", "z: {linear: 4, of: y(time - 1)}")
    analysis = compiler.analyse("-", {}, io.StringIO(text))
    assert analysis.proof.causal


def test_of_the_other_settings_only_those_with_an_effect() -> None:
    with pytest.raises(SpecError, match="AR313"):
        of_text(spec(TIME, "  r: {lstm: 4, to: 4, of: y(time - 1)}\n", ""))
