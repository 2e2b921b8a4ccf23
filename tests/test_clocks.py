"""Slower clocks of what is drawn: what belongs to one is evaluated when it ticks, and once."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from stepwise import (
    EXACT,
    Case,
    Draws,
    calm,
    check_recorded,
    difference,
    make_case,
    of_text,
    one_thread,
)
from test_operations import MOST
from test_operations import check as check_operations
from test_sampler import check_branches, check_observed

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

LENGTH = 29  # no multiple of any rate here
PAPERS = Path(__file__).parent / "specs_papers"
BLOCK = """
blocks:
  layer(x, dilation, context=[]):
    f, g: {conv: 2, dilation: dilation, given: context}
    z: tanh(f) * sigmoid(g)
    out: x + z
"""
BODIES = {
    "a context": """
  coarse:  {conv: 6, stride: 4, to: 4, of: y}
  context: {use: layer, repeat: {dilation: [1, 2]}}
  stem:    {conv: 2, to: 4, of: y}
  out:     {use: layer, repeat: {dilation: [1, 2, 4]}, context: context}
""",
    "nested clocks": """
  twos:    {conv: 3, stride: 2, to: 4, of: y}
  fours:   {conv: 3, stride: 2}
  far:     {conv: 2}
  back:    {up: 2}
  mid:     {linear: 4, of: twos, given: back}
  out:     {conv: 2, to: 4, of: y, given: [far, mid]}
""",
    "clocks of two and three": """
  two:   {conv: 3, stride: 2, to: 4, of: y}
  three: {conv: {time: -4..-1}, stride: 3, to: 4, of: y}
  a:     {attention: 2, of: two}
  b:     {lstm: 4, of: three}
  out:   {conv: 2, to: 4, of: y, given: [a, b]}
""",
    "transposed": """
  slow: {conv: 3, stride: 2, to: 4, of: y}
  some: {deconv: 5, stride: 2, of: slow}
  few:  {deconv: 1, stride: 2, of: slow}
  ends: {deconv: {time: -1..2}, stride: 2, of: slow(time - 1)}
  out:  relu(some + few + ends)
""",
    "pools": """
  stem: {conv: 2, to: 4, of: y}
  most: {pool: 3, kind: max}
  some: {pool: 4, of: stem}
  a:    {up: 3, of: most(time - 1)}
  b:    {up: 4, of: some(time - 1)}
  out:  a + b
""",
    "summaries": """
  stem: {conv: 2, to: 4, of: y}
  some: {pool: prefix}
  most: {pool: prefix, kind: max, of: stem(time - 1)}
  slow: {pool: 3, of: stem}
  far:  [{pool: prefix, of: slow}]
  late: {up: 3, of: far(time - 1)}
  out:  some + most + late
""",
    "ticks ahead": """
  a:   {conv: {time: -5..-4}, to: 4, of: y}
  b:   {conv: {time: 0..1}, stride: 3, of: a}
  c:   {conv: {time: -1..1}, of: b(time - 1)}
  d:   {deconv: {time: -1..4}, stride: 3, of: c(time - 1)}
  e:   {up: 3, of: b}
  f:   {conv: {time: -1..1}, of: e(time - 2)}
  out: d + f
""",
    "tiers of recurrences": """
  top:    [{conv: 8, stride: 8, to: 4, of: y}, {gru: 4}]
  top_up: {deconv: 4, stride: 4}
  mid:    [{conv: 2, stride: 2, to: 4, of: y, given: top_up}, {gru: 4}]
  mid_up: {deconv: 2, stride: 2}
  low:    {conv: 2, to: 4, of: y}
  out:    relu(low + mid_up)
""",
    "one block at two clocks": """
  stem: {conv: 1, to: 4, of: y}
  fast: {use: layer, dilation: 2}
  slow: [{conv: 4, stride: 4, of: stem}]
  deep: {use: layer, of: slow, dilation: 2}
  out:  {linear: 4, of: fast, given: deep}
""",
    "a recursion": """
  slow: {conv: 4, stride: 4, to: 4, of: y}
  sums: 0.5 * sums(time - 1) + slow
  out:  {up: 4, of: sums}
""",
    "one line for two clocks": """
  stem:  {conv: 2, to: 4, of: y}
  far_0: tanh(stem)
  far:   [{conv: 4, stride: 4}, {gru: 4}, {conv: 2}, {up: 4}, tanh, {conv: 2}]
  more:  [{conv: 4, stride: 2, of: stem}, {norm: layer}, {conv: 3, stride: 2}]
  most:  [{gru: 4}, {deconv: 4, stride: 4}]
  out:   {linear: 4, of: far_0, given: [far, most]}
""",
    "a clock that is read late": """
  slow: {conv: 4, stride: 3, to: 4, of: y}
  more: {conv: 4, stride: 2, to: 4, of: y}
  stem: {conv: {time: -3..-1}, to: 4, of: y}
  late: {conv: {time: -1..1}, of: stem, given: [slow, more]}
  out:  tanh(late(time - 1))
""",
    "a repetition of which one phase is read": """
  a:   {conv: 2, stride: 2, to: 4, of: y}
  b:   {conv: {time: 0..2}, dilation: 3}
  c:   {conv: 4, stride: 3}
  d:   [{conv: [{time: -5}, {time: -1..0}], stride: 2}, relu, {up: 4}]
  e:   {conv: {time: -1}, stride: 4}
  out: {conv: 2, to: 4, of: y, given: e}
""",
    "given conditions": """
  slow: {conv: 4, stride: 2, to: 4, of: y, given: [mel, voice]}
  next: {linear: 4, of: slow, given: mel(time - 1)}
  out:  {conv: 2, to: 4, of: y, given: next}
""",
}
GRIDS = {
    "rows alone": """
  a:   {conv: {row: -2..-1, col: -1..1}, stride: {row: 2}, to: 4, of: y}
  b:   {up: {row: 2}}
  out: {conv: 3, to: 4, of: y, given: b}
""",
    "columns alone": """
  a:   {conv: 3, stride: {col: 2}, to: 4, of: y}
  b:   {up: {col: 2}}
  c:   {pool: {col: 2}, kind: max, of: a}
  d:   {deconv: 2, stride: {col: 4}, of: c(col - 1)}
  out: {conv: 3, to: 4, of: y, given: [b, d]}
""",
    "a stack of rows": """
  a:   {conv: {row: -2..-1, col: -1..1}, to: 4, of: y}
  b:   {conv: {row: -1..0, col: -1..1}, stride: 2, of: a}
  c:   {deconv: {row: 0..1, col: -1..1}, stride: 2}
  d:   {up: 2, of: b}
  out: {conv: 3, to: 4, of: y, given: [b, c, d]}
""",
    "pixel by pixel": """
  a:   {conv: 3, stride: 2, to: 4, of: y}
  b:   {conv: 3, stride: {row: 2}}
  c:   {deconv: {row: 3, col: 2}, stride: {row: 4, col: 2}}
  d:   {up: 2, of: a}
  out: {conv: 3, of: c + d}
""",
    "pools of rows": """
  a:   {conv: 3, to: 4, of: y}
  b:   {pool: 2}
  c:   {pool: {row: 2}, kind: max, of: a}
  d:   {up: 2, of: b(row - 1)}
  e:   {up: {row: 2}, of: c(row - 1)}
  f:   {pool: prefix, of: a}
  out: d + e + f
""",
    "a pixel of four": """
  a:   {conv: 3, stride: 2, to: 2, of: y}
  out: {up: 2}
""",
    "given along some axes": """
  a:   {conv: {row: -2..-1, col: -1..1}, stride: {row: 2}, to: 4, of: y}
  b:   {conv: 3, stride: {col: 2}, to: 4, of: y}
  c:   {conv: 3, to: 4, of: y, given: [a, b]}
  out: [relu, {conv: 3}]
""",
    "columns of columns": """
  a:   [{conv: 3, stride: {col: 3}, to: 4}, {conv: {col: 0}, stride: {col: 2}}, {up: {col: 3}}]
  b:   {conv: {row: -3}, stride: {row: 3}, to: 4, of: y}
  c:   [{conv: {row: -1, col: -1..1}, stride: 3, of: y, to: 4}, {conv: 1, stride: 2}]
  d:   {conv: {row: -1, col: -1..0}, stride: {row: 3}, of: y, given: [b, c], to: 4}
  e:   [{conv: {row: -1, col: -1..1}, stride: {col: 3}, of: y, to: 4}, {conv: 1, stride: {col: 2}}]
  f:   {up: {col: 3}}
  out: {conv: {row: 0, col: -1}, to: 4, of: y, given: [a, d, f]}
""",
    "read in rows and held": """
  a:   {conv: {col: 3}, stride: {row: 2}, to: 4, of: y}
  b:   {deconv: {row: 1..2}, stride: {row: 2}, to: 4, of: a}
  out: {linear: 4, of: b, given: [a]}
""",
    "recurrences of pixels": """
  a:   {conv: 3, stride: 2, to: 4, of: y}
  b:   {lstm: 4, state: [{row: -1}, {col: -1}]}
  c:   {conv: {row: -2..-1, col: -1..1}, stride: 2, to: 4, of: y}
  d:   {gru: 4, state: {row: -1}}
  out: {conv: 3, to: 4, of: y, given: [b, d]}
""",
    "recurrences of rows and columns": """
  a:   {conv: {row: -2..-1, col: -1..1}, stride: {row: 2}, to: 4, of: y}
  b:   {lstm: 4, state: {row: -1, col: -1..1}}
  c:   {conv: 3, stride: {col: 2}, to: 4, of: y}
  d:   {gru: 4, state: {col: -1}}
  out: {conv: 3, to: 4, of: y, given: [b, d]}
""",
}
FRAMES = """
name: frames
variables:
  y: {levels: 3, axes: [frame, row, col]}
generate: y
network:
  slow: {conv: {frame: -2..-1, row: -1..1, col: -1..1}, stride: {frame: 2}, to: 4, of: y}
  past: {conv: {frame: -1, row: -1..1, col: -1..1}, stride: {row: 2, col: 2}, to: 4, of: y}
  cell: {lstm: 4, state: {frame: -1, row: -1..1, col: -1..1}}
  back: {deconv: {row: 0..1, col: 0..1}, stride: {row: 2, col: 2}}
  far:  {gru: 4, state: {frame: -1}, of: slow}
  out:  {conv: 3, to: 4, of: y, given: [back, slow, far]}
head: categorical
"""
ROWS = """
name: rows
variables:
  y: {levels: 3, axes: [frame, row, col]}
generate: y
network:
  a:   {conv: {row: -2..-1, col: -1..1}, stride: {row: 2, col: 2}, to: 4, of: y}
  b:   {deconv: {row: 0..1, col: -1..1}, stride: {row: 2, col: 2}}
  c:   {conv: {row: -1, col: -1..1}, stride: {col: 2}, to: 4, of: y}
  d:   {gru: 4, state: {row: -1}}
  out: {conv: {row: 3, col: 3}, to: 4, of: y, given: [b, d]}
head: categorical
"""
"""Slower clocks of the loop between frames and pixels."""
TWICE = """
name: twice
variables:
  y: {levels: 4, axes: [frame, row, col]}
generate: y
network:
  a:   {conv: {frame: -1..0, row: -1..0, col: 0}, stride: 2, to: 4, of: y}
  b:   {conv: {frame: -1, row: -1..0, col: -1..1}, stride: {col: 3}}
  c:   {deconv: {frame: 1..2, row: -1..1, col: 0..2}, stride: {frame: 2, col: 2}, to: 4, of: a}
  d:   {conv: {col: -2..-1}, to: 4, of: y}
  out: {linear: 4, of: d, given: [b, c]}
head: categorical
"""
"""A node that is read at two clocks, between whose ticks prompts end."""
PACES = """
name: paces
variables:
  y: {features: 2, axes: [row, col]}
  c: {features: 2, axes: [row], known: +1}
generate: y
network:
  a:   {conv: {row: -2..-1, col: -1..0}, to: 4, of: y}
  b:   {conv: {col: 3}, stride: {row: 2, col: 3}, to: 4, of: y}
  d:   {conv: {row: -3..-1, col: -1..0}, stride: {row: 2}, of: b}
  e:   {deconv: {row: 0..0, col: 0..2}, stride: {row: 2, col: 3}, to: 4, of: d}
  f1:  {conv: {row: 3, col: 3}, stride: {row: 2}, of: e}
  f2:  {conv: {row: -3..-1, col: -1..0}, stride: {col: 3}}
  g:   {deconv: {row: 0..3, col: 0..2}, stride: {row: 4, col: 3}, to: 4}
  h:   [{linear: 4, of: e(col - 2)}, relu, {up: {row: 2}}, {conv: 3, stride: {col: 2}}]
  out: {linear: 4, of: a, given: [c, g, h]}
head: gaussian
"""
"""A node that is read at its own clock, a slower and a faster one."""
GIVEN = """
name: given
variables:
  y:    {levels: 3, axes: [row, col], channels: 2}
  rows: {features: 2, axes: [row / 2, col], known: all}
  cols: {classes: 3, axes: [row, col / 2], known: all}
generate: y
network:
  a:   {conv: {row: -2..-1, col: -1..1}, stride: 2, to: 6, of: y}
  b:   {conv: 3, mask: A, to: 6, of: y, given: [a, rows, cols]}
  out: [relu, {linear: 4}]
head: categorical
order: [row, col, channel]
"""
"""Ordered channels, and conditions that are slower on one axis."""
POOLED = """
name: pooled
variables:
  y: {levels: 3, axes: [frame, row, col], channels: 2}
generate: y
network:
  a:   {pool: {frame: 2}, of: y}
  b:   {up: {frame: 2}, of: a(frame - 1)}
  c:   {pool: {row: 2, col: 2}, kind: max, of: y}
  d:   {up: {row: 2, col: 2}, of: c(frame - 1)}
  e:   {conv: {row: 3, col: 3}, to: 4, of: y, given: [b, d]}
  out: [relu, {linear: 4}]
head: categorical
order: [frame, row, col, channel]
"""
"""What pools ordered channels has them all at once."""
TWO_STACKS = """
name: two_stacks

params:
  width: 3
  above: {row: -1..0, col: -1..1}
  left:  {row: -1..0, col: -1..0}

variables:
  y: {levels: 4, axes: [row, col]}

generate: y

blocks:
  resnet(x, window, aux=[]):
    c1:   [concat_elu, {conv: window, to: width, given: aux}, concat_elu]
    a, b: {conv: window, to: width}
    out:  x + a * sigmoid(b)

  down(u, l):
    u_out: {use: resnet, of: u, window: above}
    l_out: {use: resnet, of: l, window: left, aux: concat_elu(u_out)}
    out:   u_out, l_out

  up(u, l, u_skip, l_skip):
    u_out: {use: resnet, of: u, window: above, aux: concat_elu(u_skip)}
    l_out: {use: resnet, of: l, window: left, aux: concat_elu(u_out ++ l_skip)}
    out:   u_out, l_out

  shrink(u, l):
    u_out: {conv: above, stride: 2, of: u}
    l_out: {conv: left, stride: 2, of: l}
    out:   u_out, l_out

  grow(u, l, u_skip, l_skip):
    u_big: {deconv: {row: 0..1, col: -1..1}, stride: 2, of: u}
    l_big: {deconv: {row: 0..1, col: 0..1}, stride: 2, of: l}
    out:   {use: up, of: [u_big, l_big], u_skip: u_skip, l_skip: l_skip}

network:
  u_in:    {conv: {row: -2..-1, col: -1..1}, to: width, of: y ++ 1}
  l_above: {conv: {row: -1, col: -1..1}, to: width, of: y}
  l_left:  {conv: {row: -1..0, col: -1}, to: width, of: y}
  down1:   {use: down, of: [u_in, l_above + l_left], repeat: 2}
  halved:  {use: shrink}
  down2:   {use: down, repeat: 2}
  quarter: {use: shrink}
  down3:   {use: down, repeat: 2}
  up3:     {use: up, repeat: {u_skip: reversed(down3.u), l_skip: reversed(down3.l)}}
  full2:   {use: grow, u_skip: quarter.u, l_skip: quarter.l}
  up2:     {use: up, repeat: {u_skip: reversed(down2.u), l_skip: reversed(down2.l)}}
  full1:   {use: grow, u_skip: halved.u, l_skip: halved.l}
  up1:     {use: up, repeat: {u_skip: reversed(down1.u), l_skip: reversed(down1.l)}}
  u_end, l_end: up1
  out:     elu(l_end)

head: categorical
"""
"""PixelCNN++ (Salimans et al. 2017) but for weight normalisation and its head."""
VIDEO = """
name: video
variables:
  y: {levels: 3, axes: [frame, row, col]}
generate: y
network:
  past: {conv: {frame: -1, row: -1..1, col: -1..1}, stride: {row: 2, col: 2}, to: 4, of: y}
  deep: {conv: {frame: -1..0, row: -1..1, col: -1..1}}
  back: {deconv: {frame: 0, row: 0..1, col: 0..1}, stride: {row: 2, col: 2}}
  slow: {pool: {frame: 2}, of: back}
  far:  {up: {frame: 2}, of: slow(frame - 1)}
  out:  {conv: 3, to: 4, of: y, given: [back, far]}
head: categorical
"""
NAMES = [*BODIES, "wavenet_context"]
each = pytest.mark.parametrize("name", NAMES)


def text_of(name: str, kind: str) -> str:
    body = BODIES[name]
    blocks = BLOCK if "{use:" in body else ""
    given = "  mel: {features: 3, axes: [time / 2], known: all}\n  voice: {classes: 3}\n"
    given = given if "mel" in body else ""
    head = "gaussian" if "features" in kind else "categorical"
    return (
        f"name: drawn\nvariables:\n  y: {{{kind}, axes: [time]}}\n{given}"
        f"generate: y\n{blocks}\nnetwork:{body}\nhead: {head}\n"
    )


@cache
def case(name: str, kind: str = "classes: 4", length: int = LENGTH, batch: int = 2) -> Case:
    if name == "wavenet_context":
        params = {"width": 4, "skip_width": 4, "context_width": 3}
        path = PAPERS / f"{name}.yaml"
        return make_case(path, params=params, lengths={"time": length}, batch=batch)
    return of_text(text_of(name, kind), lengths={"time": length}, batch=batch)


@each
def test_steps_behind_any_prompt(name: str) -> None:
    """Also behind those that end between two ticks."""
    this = case(name)
    assert this.derived
    for known in range(LENGTH):
        assert difference(this, known) < EXACT, known


def test_ticks_of_a_long_clock() -> None:
    """Of 256: steps before, at and behind the second tick."""
    this = case("wavenet_context", length=520)
    parallel = this.parallel()
    for known in (0, 200, 256, 300, 512):
        for place, params in itertools.islice(this.stepped(known), 0, 300 if known else 520):
            assert (params - parallel[place]).abs().max() < EXACT, (known, place)


@pytest.mark.parametrize("name", BODIES)
def test_series(name: str) -> None:
    this = calm(case(name, "features: 2"))
    assert this.derived
    for known in (0, 7, 8):
        assert difference(this, known) < EXACT


@each
def test_rows_of_a_batch_and_clones(name: str) -> None:
    this = case(name, batch=3)
    together = dict(this.stepped())
    for place, params in this.row(1).stepped():
        assert (params[0] - together[place][1]).abs().max() < EXACT
    check_branches(case(name))


@each
def test_a_clone_between_ticks(name: str) -> None:
    this = case(name)
    wanted, state = this.parallel(), this.start()
    steps = this.stepped(state=state)
    for place, _ in itertools.islice(steps, 11):
        last = place
    kept = state.clone()
    rest = dict(steps)  # the original moves on first
    for place in this.places[11:]:
        params, kept = this.model.step(this.value(last), kept)  # type: ignore[operator]
        assert torch.equal(params, rest[place]) or (params - rest[place]).abs().max() < EXACT
        assert (params - wanted[place]).abs().max() < EXACT, place
        last = place


@each
def test_what_is_observed_is_kept_and_seen(name: str) -> None:
    check_observed(calm(case(name, length=17)))


@each
def test_nothing_is_done_twice(name: str) -> None:
    this = case(name, length=64)
    begun = 0 if "lead=0)" in this.text else 4 / 64  # what looks ahead begins before the first
    check_operations(this, MOST + begun)


@each
def test_steps_are_recorded_by_what_ticks(name: str) -> None:
    """A tape for every set of clocks that tick together, whatever the rates."""
    this = case(name, length=120 if name != "wavenet_context" else 1100)
    parallel, state = this.parallel(), this.start()
    ticking = set()
    for number, (place, params) in enumerate(this.stepped(0, state)):
        assert (params - parallel[place]).abs().max() < EXACT, place
        if number > 20:
            ticking.add(tuple(ticks.ticking for ticks in state.slower.values()))
    made = {kind[-len(state.slower) :]: run for kind, run in state.tapes.made.items()}
    assert made.keys() == ticking
    assert all(run.__qualname__.startswith("replayed") for run in made.values())


@each
def test_memory_does_not_grow(name: str) -> None:
    if name in ("clocks of two and three", "given conditions"):
        pytest.skip("attention keeps all keys, and conditions are given whole")

    def kept(length: int) -> int:
        this, size = case(name, length=length), 0
        state = this.start()
        for _ in this.stepped(0, state):
            size = sum(x.numel() for x in state.moving())
        return size

    assert kept(40) == kept(80)


@pytest.mark.parametrize("name", ["a context", "transposed", "tiers of recurrences"])
def test_compiled_steps(name: str) -> None:
    """One graph for every set of clocks that tick together."""
    this = calm(case(name, length=70))
    x = Draws(this)()
    draws = Draws(this)
    assert torch.equal(draws(compile=True), x)
    draws.check(x)
    stats: Any = torch._dynamo.utils.counters["stats"]
    graphs = stats["unique_graphs"]
    Draws(this)(compile=True, generator=torch.Generator().manual_seed(7))
    assert stats["unique_graphs"] == graphs


WHOLE = {
    "two stacks": TWO_STACKS,
    "video": VIDEO,
    "frames": FRAMES,
    "rows": ROWS,
    "twice": TWICE,
    "paces": PACES,
    "ordered channels": GIVEN,
    "pools of ordered channels": POOLED,
}
SHAPES = [(5, 4), (6, 3), (4, 5), (7, 3)]


@cache
def grid(name: str, shape: tuple[int, ...]) -> Case:
    body = GRIDS.get(name)
    text = WHOLE.get(name) or (
        "name: drawn\nvariables:\n  y: {levels: 4, axes: [row, col]}\n"
        f"generate: y\nnetwork:{body}\nhead: categorical\n"
    )
    return of_text(text, lengths=dict(zip(("row", "col", "frame"), shape, strict=False)))


each_grid = pytest.mark.parametrize("name", [*GRIDS, *WHOLE])


@each_grid
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_behind_any_rows(name: str, shape: tuple[int, ...]) -> None:
    this = grid(name, (*shape, 5))
    assert this.derived
    for rows in range(this.length):
        assert difference(this, rows) < EXACT, rows


@each_grid
def test_what_is_observed_of_images(name: str) -> None:
    """Draws begin at any pixel, and within rows."""
    check_observed(calm(grid(name, (5, 4, 3))))


@each_grid
def test_clones_and_operations_of_images(name: str) -> None:
    check_branches(grid(name, (5, 4, 4)))
    this = grid(name, (8, 8, 4))
    # What looks ahead begins before the first row, with a tick of each clock.
    check_operations(this, MOST + (0 if "lead=0)" in this.text else 2 / 8))


@each_grid
def test_steps_of_images_are_recorded(name: str) -> None:
    check_recorded(grid(name, (18, 9, 4)))


@pytest.mark.parametrize(("name", "shape"), [("a pixel of four", (9, 6)), ("frames", (6, 4, 4))])
def test_compiled_steps_of_images(name: str, shape: tuple[int, ...]) -> None:
    sizes = (*shape[1:], shape[0]) if len(shape) > 2 else shape
    this = calm(grid(name, sizes))
    x = Draws(this)()
    draws = Draws(this)
    assert torch.equal(draws(compile=True), x)
    draws.check(x)


def test_uses_of_a_block_in_other_loops_are_classes_of_their_own() -> None:
    text = grid("two stacks", (4, 5, 5)).text
    assert text.count("class Resnet") > 3


def test_lines_of_one_clock_stand_together() -> None:
    """As one would write it: a method for what is computed when a clock ticks."""
    text = case("a context").text
    assert text.count("slower(past, (4,))") == 2  # the model's and the layers'
    assert "def _per_position_every_4(" in text
    assert "class Clocked" in text
