"""Recorded steps: that they are made, that they are right, and that they compile to one graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import SMALL, small_spec
from stepwise import EXACT, Case, Draws, calm, check_recorded, make_case, of_text, one_thread
from torch import Tensor

FOLDER = Path(__file__).parent
FILES = {path.stem: path for path in sorted(FOLDER.glob("specs/*.yaml"))}
LENGTHS = {"time": 28, "frame": 5, "row": 7, "col": 5}

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def case(name: str) -> Case:
    spec: Any = small_spec(name) if name in SMALL else FILES[name]
    return calm(make_case(spec, params=SMALL.get(name), lengths=LENGTHS))


def emitted(this: Case) -> Any:
    """The module that was compiled for a case."""
    return sys.modules[type(this.model).__module__]


@pytest.mark.parametrize("name", [*SMALL, *FILES])
def test_steps_are_replayed(name: str) -> None:
    """Every kind of step that comes several times is a tape, and gives what the forward gives."""
    check_recorded(case(name))


BY_CHANNEL = """name: drawn
variables:
  y: {levels: 4, axes: [row, col], channels: 3}
generate: y
order: [row, col, channel]
network:
  stem: {conv: 3, to: 7}
  r: {lstm: 5, state: [{row: -1}, {col: -1}], reads: {row: 1, col: 3}, mask: B, of: stem}
  q: {gru: 5, state: [{row: -1}, {col: 1}], of: stem}
  out: r + q(row - 1)
head: categorical
"""
BY_STAGES = """name: drawn
variables:
  y: {features: 1, axes: [time]}
generate: y
network:
  theta: {weight: 1}
  sigma: {weight: 1, within: 0.., init: 1}
  level: 0.3 * y(time - 1) + theta * error(time - 1)
  error: y - level
head: {gaussian: 1, mean: level, scale: sigma}
"""
RECURRENT = {"channel by channel": BY_CHANNEL, "at two places": BY_STAGES}


@pytest.mark.parametrize("text", RECURRENT.values(), ids=RECURRENT)
def test_steps_of_recurrences_are_replayed(text: str) -> None:
    check_recorded(calm(of_text(text, lengths=LENGTHS)))


@pytest.mark.parametrize("text", RECURRENT.values(), ids=RECURRENT)
def test_recurrences_compile_to_one_graph_a_kind(text: str) -> None:
    check_compiled(lambda: calm(of_text(text, lengths=LENGTHS)))


def test_no_module_runs_in_a_replay() -> None:
    this = case("wavenet")
    state: Any = this.start()
    calls = []
    for number, _ in enumerate(this.stepped(0, state)):
        if number == 20:
            this.model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert not calls


@pytest.mark.parametrize("name", ["wavenet", "gpt2", "binary_pixelcnn"])
def test_under_autocast_steps_are_evaluated(name: str) -> None:
    this = case(name)
    this.model.float()
    state: Any = this.start()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parallel = this.parallel()
        for place, params in this.stepped(0, state):
            assert (params - parallel[place]).abs().max() < 0.1 * (1 + parallel[place].abs().max())
    assert not state.tapes.made


def test_parameters_of_a_step_are_ones_own() -> None:
    this = case("wavenet")
    found = list(this.stepped())
    parallel = this.parallel()
    assert all((params - parallel[place]).abs().max() < EXACT for place, params in found)


def run_of(this: Case, evaluate: Any, rounds: int) -> tuple[list[Tensor], Any]:
    """Some steps of one kind."""
    module = emitted(this)
    tapes = module.Tapes()
    given = [torch.tensor([float(k)]) for k in range(rounds)]
    results = [tapes.step(None, "kind", x, evaluate, module.replayed) for x in given]
    return results, tapes.made["kind"]


def test_steps_that_differ_are_evaluated() -> None:
    """What depends on a number of Python's, on new tensors or on what a tensor holds is no tape."""
    this = case("wavenet")
    count = [0]

    def counting(x: Tensor) -> Tensor:
        count[0] += 1
        return x + count[0]

    def fresh(x: Tensor) -> Tensor:
        count[0] += 1
        with torch._C.DisableTorchFunction():
            made = torch.full((1,), float(count[0]))
        return x * made

    def looking(x: Tensor) -> Tensor:
        return x + 1 if bool((x > 2).all()) else x - 1

    for evaluate in (counting, fresh, looking):
        count[0] = 0
        results, made = run_of(this, evaluate, 8)
        count[0] = 0
        wanted = [evaluate(torch.tensor([float(k)])) for k in range(8)]
        assert made is evaluate
        assert torch.equal(torch.stack(results), torch.stack(wanted))


def test_functions_without_an_out_are_replayed_too() -> None:
    this = case("wavenet")
    kept = torch.zeros(3)

    def evaluate(x: Tensor) -> Tensor:
        y = torch.nn.functional.elu(x.expand(3)) // 2
        kept.add_(y)
        low, high = torch.stack([y, kept]).to(torch.float64).chunk(2)
        values, _ = (low + high).topk(2)
        return torch.nn.functional.one_hot(values.long(), 80).sum(-2) + kept.mean()

    results, made = run_of(this, evaluate, 8)
    assert made is not evaluate
    kept.zero_()
    wanted = [evaluate(torch.tensor([float(k)])) for k in range(8)]
    assert torch.equal(torch.stack(results), torch.stack(wanted))


def test_products_are_added_up_where_their_sum_is() -> None:
    """Only where nobody else reads the product, and what it is added to is like it."""
    this, linear = case("wavenet"), torch.nn.functional.linear
    draw = torch.Generator().manual_seed(0)
    weight, bias, row = (torch.randn(n, dtype=torch.float64, generator=draw) for n in (25, 5, 5))
    weight, bias = weight.view(5, 5), torch.nn.Parameter(bias)

    def evaluate(x: Tensor) -> Tensor:
        h = torch.outer(torch.arange(1.0, 5.0, dtype=torch.float64), row) + x
        h = h + linear(h, weight, bias)  # these two are
        h = linear(h.tanh(), weight) + h
        h = row + linear(h.tanh(), weight, bias)
        h = 0.5 + linear(h.tanh(), weight, bias)
        h = h.mT.contiguous().mT + linear(h.tanh(), weight)
        h = h.contiguous().float() + linear(h.tanh(), weight, bias)
        h = torch.add(h, linear(h.tanh(), weight, bias), alpha=2)
        h = h.contiguous()[:, None] + linear(h.tanh(), weight, bias)
        h = h.sum(1)
        other = linear(h.tanh(), weight, bias)
        h = 1 + h
        h = h + other.tanh()
        twice = linear(h.tanh(), weight, bias)
        h = h + twice
        return h + twice + linear(h.tanh().mT.contiguous().mT, weight)

    with torch.no_grad():
        results, made = run_of(this, evaluate, 8)
        wanted = [evaluate(torch.tensor([float(k)])) for k in range(8)]
    assert made is not evaluate
    assert (torch.stack(results) - torch.stack(wanted)).abs().max() < EXACT

    module = emitted(this)
    with torch.no_grad(), module.Tape() as tape:
        made = evaluate(torch.zeros(1))
    names = [call.name for call in module.accumulated(tape.calls, made)]
    before = [call.name for call in tape.calls]
    assert before.count("linear") == names.count("linear")
    assert before.count("add") - names.count("add") == 1  # of the two, that without a bias


def test_tapes_of_an_open_end_do_not_pile_up() -> None:
    """Attention meets more keys from block to block; tapes of earlier blocks are let go."""
    this = of_text(
        "name: drawn\nvariables:\n  y: {classes: 4, axes: [time]}\ngenerate: y\nnetwork:\n"
        "  n0: {embed: 4, of: y(time - 1)}\n  out: {attention: 2}\nhead: categorical\n",
        lengths={"time": 300},
    )
    start: Any = this.model.start
    state = start(len(this.x))
    parallel = this.parallel()
    for place, params in this.stepped(0, state):
        assert (params - parallel[place]).abs().max() < EXACT, place
        assert len(state.tapes.made) <= 1


@pytest.mark.parametrize("name", SMALL)
def test_each_kind_of_step_compiles_to_one_graph(name: str) -> None:
    check_compiled(lambda: case(name))


def check_compiled(make: Callable[[], Case]) -> None:
    """No graph break (fullgraph), none compiled again at other positions, in a longer draw."""
    this, eager = make(), make()
    x = Draws(eager)()
    draws = Draws(this)
    drawn = draws(compile=True)
    real = x.is_floating_point()
    assert torch.allclose(drawn, x, rtol=0, atol=EXACT) if real else torch.equal(drawn, x)
    draws.check(drawn)
    stats = torch._dynamo.utils.counters["stats"]
    graphs = stats["unique_graphs"]
    assert emitted(this).Graph.compiled
    again = Draws(this)(compile=True, generator=torch.Generator().manual_seed(7))
    assert again.shape == x.shape
    assert stats["unique_graphs"] == graphs
