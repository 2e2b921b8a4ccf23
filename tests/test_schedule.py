"""Schedules against a reference executor, and against samplers that are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf

import click
import pytest
from click.testing import CliRunner
from executor import Executor, Values
from random_graphs import Builder, random_graph

from arspec import schedule_moments as moments
from arspec.causality import prove
from arspec.cli import cli
from arspec.compiler import analyse
from arspec.graph import (
    ALL,
    BEFORE,
    EVERYWHERE,
    PAST,
    PRESENT,
    SAME,
    UPTO,
    Bound,
    Box,
    Graph,
    Stencil,
    Sweep,
)
from arspec.schedule import Schedule, schedule
from arspec.schedule_counts import Grid, operations, ratio

# --------------------------------------------------------------------- against the parallel forward


def causal_graph(seed: int) -> tuple[Graph, tuple[int, ...]] | None:
    graph, size = random_graph(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arspec.blindspots.SIZE", 2)  # blind spots do not matter here
        return (graph, size) if prove(graph).causal else None


def run(graph: Graph, size: tuple[int, ...], plan: Schedule | None = None) -> Executor:
    """Draw a sample out of caches, and compare with all places computed at once."""
    executor = Executor(plan or schedule(graph), Values(graph, size))
    executor.run()
    forward = executor.numbers.forward(executor.sample)
    for place, value in executor.values.items():
        assert abs(forward[place] - value) < 1e-9, place
    for place in executor.brute.places(graph.target):
        parameter = forward[executor.numbers.parameter(place)]
        assert abs(executor.numbers.draw(place, parameter) - executor.sample[place]) < 1e-9
    return executor


def check(graph: Graph, size: tuple[int, ...]) -> Executor:
    """Exact, every place once, memory as declared, operations as counted."""
    plan = schedule(graph)
    executor, grid = run(graph, size, plan), Grid(plan, size)
    evaluated = Counter(node for node, _, _ in executor.values)
    for node in {entry.node for entry in plan.entries} - {graph.target}:
        assert evaluated[node] == sum(map(grid.evaluations, plan.entries_of(node)))
    kept = {cache.source: grid.kept(cache.source, cache.until) for cache in plan.caches}
    assert {n: k for n, k in kept.items() if k} == {n: k for n, k in executor.kept.items() if k}
    counted, dense = measured_operations(executor)
    found = operations(plan, size)
    assert (found.sampler, found.parallel) == (round(counted), round(dense))
    assert found.ratio <= 1
    return executor


def measured_operations(executor: Executor) -> tuple[float, float]:
    graph, brute = executor.graph, executor.brute
    counted = dense = 0.0
    for node in {entry.node for entry in executor.schedule.entries} - executor.schedule.inputs:
        share = 1 / len(brute.groups(node))
        counted += share * (executor.taps[node] + 2 * executor.pairs[node])
        for read in graph.nodes[node].reads:
            reach = read.reach
            if isinstance(reach, Sweep):
                whole = replace(reach, until=EVERYWHERE, window=None, every=None)
                fibres = (brute._sweep(node, read.source, whole, i)[1] for i in brute.grid(node))
                dense += 2 * sum(map(len, fibres))
            else:
                dense += len(brute.grid(node)) * sum(map(taps, reach.boxes))
    return counted, dense


def taps(box: Box) -> int:
    count = 1
    for lo, hi, step in zip(box.lo, box.hi, box.step, strict=True):
        count *= len(range(lo, hi + 1, step))
    return count


@pytest.mark.parametrize("block", range(20))
def test_random_graphs(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        if found := causal_graph(seed):
            check(*found)


@pytest.mark.fuzz
@pytest.mark.parametrize("block", range(20, 1000))
def test_many_random_graphs(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        if found := causal_graph(seed):
            check(*found)


# --------------------------------------------------------------- rules that do not work are noticed


def fails(graph: Graph, size: tuple[int, ...], change: object = None) -> bool:
    try:
        plan = schedule(graph)
        run(graph, size, change(plan) if callable(change) else plan)
    except (AssertionError, ValueError, KeyError):
        return True
    return False


def some_graphs(count: int) -> list[tuple[Graph, tuple[int, ...]]]:
    return [found for seed in range(count) if (found := causal_graph(seed))]


def test_level_from_the_sign_of_nearest_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is known a row ahead can still be read at the same moment as it is due."""
    build = Builder(2)
    u = build.add((0, build.at(-1, 1)), name="u")  # nearest (-1, 1)
    graph = build.graph(build.add((u, build.at(1, -2)), name="w"))  # nearest (0, -1)
    check(graph, (5, 6))
    assert levels(schedule(graph))["u"] == "position"

    def by_sign(nearest: tuple[float, ...], *_: object) -> int:
        return 0 if nearest[0] < 0 else moments.level_of(nearest)

    monkeypatch.setattr(moments, "_coarsest", by_sign)
    assert fails(graph, (5, 6))


def test_a_tick_on_multiples_of_the_stride_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a slower node ticks depends on its anchor, not on the position being drawn."""
    build = Builder(1)
    down = Stencil((Box((-1,), (0,), (1,)),), (2,), (1,))
    slow = build.add((0, down), strides=(2,))
    up = build.add((slow, Stencil((Box((0,), (0,), (1,)),), (1,), (2,))), strides=(1,))
    graph = build.graph(build.add((up, build.at(-1))))
    assert not fails(graph, (12,))
    moment = Executor.moment

    def late(self: Executor, place: tuple, due: tuple[float, ...]) -> int:
        stride = self.graph.nodes[place[0]].strides[0]
        return -(-moment(self, place, due) // stride) * stride

    monkeypatch.setattr(Executor, "moment", late)
    assert fails(graph, (12,))


def sooner(key: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The moment before, in the last component that counts."""
    if key is None or key[0] == inf:
        return key
    last = moments.level_of(key)
    return (*key[:last], key[last] - 1, *key[last + 1 :])


def test_every_cache_is_needed_and_no_deeper_than_needed() -> None:
    """In one dimension and far from its end, one position less is one too few."""
    count = 0
    for graph in [graph for graph, _ in some_graphs(600) if len(graph.axes) == 1]:
        plan = schedule(graph)
        if plan.unit > 1 or abs(plan.order[0][0]) > 1:
            continue  # moments are farther apart
        for k, cache in enumerate(plan.caches):
            if cache.until[0] < inf and graph.channels == 1:
                less = replace(cache, until=sooner(cache.until))
                caches = (*plan.caches[:k], less, *plan.caches[k + 1 :])
                assert fails(graph, (40,), lambda p, c=caches: replace(p, caches=c)), cache
                count += 1
    assert count > 10


def test_nothing_can_be_evaluated_sooner_than_nearest_says() -> None:
    """One key earlier, a node that is due as soon as it is known reads what is not there yet."""
    build = Builder(1)
    x = build.add((0, build.at()))
    graph = build.graph(build.add((x, build.conv(((-2, -1),)))))

    def early(plan: Schedule) -> Schedule:
        return replace(
            plan,
            entries=tuple(
                replace(e, due=sooner(e.due)) if e.node == 1 else e for e in plan.entries
            ),
        )

    assert not fails(graph, (8,))
    assert fails(graph, (8,), early)


def test_a_leak_has_no_schedule() -> None:
    build = Builder(1)
    with pytest.raises(ValueError, match="not causal"):
        schedule(build.graph(build.add((0, build.at()))))


# ------------------------------------------------------------------------------------ one dimension


def dues(plan: Schedule) -> dict[str, object]:
    """By name; only for nodes with one entry."""
    return {plan.graph.nodes[e.node].name: e.due for e in plan.entries}


def depths(plan: Schedule) -> dict[str, tuple[float, ...]]:
    return {plan.graph.nodes[c.source].name: c.depth for c in plan.caches}


def test_wavenet() -> None:
    """Queues of (kernel - 1) * dilation positions; a final shift by one costs no cache."""
    build = Builder(1)
    h = build.add((0, build.at(-1)), name="stem")
    for d in (1, 2, 4):
        conv = build.conv(((-2 * d, 0),), step=d)
        h = build.add((h, conv), (h, build.at()), name=f"h{d}")
    plan = schedule(check(build.graph(h), (30,)).graph)
    assert set(dues(plan).values()) == {(0,), (-1,)}
    assert depths(plan) == {"stem": (2,), "h1": (4,), "h2": (8,)}
    assert ratio(plan, (1000,)) == 1


def test_mask_b_and_a_final_shift() -> None:
    """Nodes that see x[t] itself are evaluated at t - 1 in the step that draws t."""
    build = Builder(1)
    h = build.add((0, build.conv(((-1, 0),))), name="first")
    h = build.add((h, build.conv(((-1, 0),))), name="second")
    graph = build.graph(build.add((h, build.at(-1)), name="shift"))
    check(graph, (9,))
    plan = schedule(graph)
    assert dues(plan) == {"x": (0,), "first": (0,), "second": (0,), "shift": (-1,)}
    assert depths(plan) == {"x": (1,), "first": (1,)}
    assert ratio(plan, (9,)) == pytest.approx((2 * 8 + 2 * 8 + 9) / (5 * 9))  # the last: never


def test_nearest_gives_the_position() -> None:
    """Evaluated at t - max(0, n + 1) in the step that draws t, unless a reader needs it sooner."""
    build = Builder(1)
    a = build.add((0, build.at(3)), name="ahead")  # n = 3
    b = build.add((a, build.at(-9)), name="late")  # n = -6
    c = build.add((b, build.conv(((0, 2),))), name="needs it sooner")  # n = -4
    plan = schedule(check(build.graph(build.add((c, build.at()), name="head")), (20,)).graph)
    assert dues(plan) == {
        "x": (0,),
        "ahead": (3,),
        "late": (-3,),
        "needs it sooner": (-1,),
        "head": (-1,),
    }


def test_a_mask_a_convolution_keeps_its_window() -> None:
    build = Builder(1)
    graph = build.graph(build.add((0, build.conv(((-5, -1),)))))
    assert depths(schedule(graph)) == {"x": (4,)}  # beside x[t - 1], which the step is given
    check(graph, (12,))


@pytest.mark.parametrize(("window", "depth"), [(None, inf), (1, 0), (7, 6)])
def test_attention(window: int | None, depth: float) -> None:
    build = Builder(1)
    x = build.add((0, build.at(-1)), name="keys")
    y = build.add((x, build.at()), (x, Sweep((True,), PRESENT, window)))
    graph = build.graph(y)
    check(graph, (20,))
    plan = schedule(graph)
    assert depths(plan) == ({"keys": (depth,)} if depth else {})
    assert ratio(plan, (1000,)) < (0.6 if window is None else 0.1)


def test_recurrence() -> None:
    build = Builder(1)
    x = build.add((0, build.at(-1)), (1, build.at(-1)), name="lstm")
    graph = build.graph(build.add((x, build.at())))
    check(graph, (9,))
    assert depths(schedule(graph)) == {"lstm": (1,)}


def test_a_recursion_that_looks_ahead_of_itself() -> None:
    """Two lines that read each other: one a position later, the other two earlier."""
    build = Builder(1)
    a = build.add((0, build.at(-5)), (2, build.at(-2)), name="a")
    b = build.add((a, build.at(1)), name="b")
    graph = build.graph(build.add((b, build.at())))
    check(graph, (14,))
    assert dues(schedule(graph))["a"] == (-2,)


def test_rates() -> None:
    """Down by 4, up by 4, delayed by a coarse step: the slow node ticks once in four steps."""
    build = Builder(1)
    down = Stencil((Box((0,), (3,), (1,)),), (4,), (1,))
    slow = build.add((0, down), strides=(4,), name="slow")
    delayed = build.add((slow, build.at(-1)), name="delayed")
    up = build.add((delayed, Stencil((Box((0,), (0,), (1,)),), (1,), (4,))), strides=(1,))
    graph = build.graph(up)
    check(graph, (21,))
    plan = schedule(graph)
    assert dues(plan)["slow"] == (3,)  # the window's last position is drawn
    assert dues(plan)["delayed"] == (-1,)  # at the opening of its own position
    assert depths(plan) == {"x": (3,), "delayed": (1,)}


# -------------------------------------------------------------------------------------- conditions


def test_conditions() -> None:
    """What is known whole is computed once; what arrives with time, as it arrives."""
    build = Builder(1)
    label = build.node("label", (0,))
    mel = build.node("mel", (4,))
    now = build.node("now", (1,))
    build.bounds[now] = Bound(0)
    then = build.node("then", (1,))
    build.bounds[then] = Bound(0, strict=True)
    soon = build.node("soon", (1,))
    build.bounds[soon] = Bound(3)
    up = Stencil((Box((0,), (0,), (1,)),), (1,), (4,))
    project = build.add((mel, build.at()), (label, build.at()), name="project")
    x = build.add(
        (0, build.at(-1)),
        (project, up),
        (now, build.at()),
        (then, build.at(-1)),
        (soon, build.conv(((-1, 3),))),
        strides=(1,),
        name="out",
    )
    graph = build.graph(x)
    check(graph, (14,))
    plan = schedule(graph)
    found = dues(plan)
    assert [found[name] for name in ("label", "mel", "project")] == [None] * 3
    assert (found["now"], found["then"], found["soon"]) == ((-1,), (0,), (-4,))
    assert plan.inputs == {0, now, then, soon}
    assert depths(plan) == {"project": (inf,), "soon": (4,)}


# ------------------------------------------------------------------------------- several dimensions


def levels(plan: Schedule) -> dict[str, str]:
    return {plan.graph.nodes[e.node].name: plan.level_name(e.level) for e in plan.entries}


def gated_pixelcnn(build: Builder) -> Graph:
    """Two stacks (van den Oord et al. 2016b): the vertical one a row at a time."""
    v = build.add((0, build.conv(((-2, -1), (-2, 2)))), name="v0")
    h = build.add((0, build.at(0, -1)), name="h0")
    for k in (1, 2):
        v = build.add((v, build.conv(((-1, 0), (-1, 1)))), name=f"v{k}")
        h = build.add((h, build.conv(((0, 0), (-1, 0)))), (v, build.at()), name=f"h{k}")
    build.add((v, build.at()), name="dead")
    return build.graph(build.add((h, build.at()), name="head"))


def test_gated_pixelcnn() -> None:
    graph = gated_pixelcnn(Builder(2))
    check(graph, (6, 7))
    plan = schedule(graph)
    assert plan.levels == ("row", "position")
    assert levels(plan) == {
        "x": "position",
        **dict.fromkeys(("v0", "v1", "v2"), "row"),
        **dict.fromkeys(("h0", "h1", "h2", "head"), "position"),
    }
    assert depths(plan) == {
        "x": (2, inf),  # the row in progress, and the one above
        "v0": (1, inf),
        "v1": (1, inf),  # of this row for the horizontal stack, of the last for the next
        "v2": (1, inf),
        "h0": (0, 1),
        "h1": (0, 1),
    }
    assert ratio(plan, (28, 28)) == 1


def test_a_flush_when_the_row_closes() -> None:
    """Two columns ahead within the row: the last two positions are due when the row is complete."""
    build = Builder(2)
    u = build.add((0, build.at(0, 2)), name="u")
    w = build.add((u, build.conv(((0, 0), (-3, -3)), ((-1, -1), (-1, 1)))), name="w")
    graph = build.graph(w)
    executor = check(graph, (5, 6))
    assert dues(schedule(graph))["u"] == (0, 2)
    assert sum(node == 1 for node, _, _ in executor.values) == 4 * 6 + 3  # not those of no use


def test_a_row_that_is_needed_before_its_own() -> None:
    """Three rows late, then read a row ahead, by what goes position by position."""
    build = Builder(2)
    u = build.add((0, build.at(-3, 0)), name="u")
    w = build.add((u, build.conv(((1, 1), (-1, 1)))), (0, build.at(0, -1)), name="w")
    graph = build.graph(w)
    check(graph, (7, 4))
    assert dues(schedule(graph))["u"] == (-2, inf)


def test_frames_rows_positions() -> None:
    """Video: a full 2-D convolution over the frame before, row caches within the frame."""
    build = Builder(3)
    f = build.add((0, build.conv(((-1, -1), (-1, 1), (-1, 1)))), name="frames")
    v = build.add((0, build.conv(((0, 0), (-1, -1), (-1, 1)))), (f, build.at()), name="rows")
    h = build.add((0, build.at(0, 0, -1)), (v, build.at()), name="positions")
    graph = build.graph(h)
    check(graph, (3, 4, 4))
    plan = schedule(graph)
    assert plan.levels == ("frame", "row", "position")
    named = levels(plan)
    assert (named["frames"], named["rows"], named["positions"]) == ("frame", "row", "position")
    assert depths(plan)["frames"] == (1, inf, inf)
    assert depths(plan)["rows"] == (0, 1, inf)


def test_channels() -> None:
    """Red, green, blue: masks A and B on the channel groups, one entry for all channels."""
    build = Builder(2, 3)

    def masked(groups: str) -> Stencil:
        boxes = (
            *build.conv(((-1, -1), (-1, 1)), ((0, 0), (-1, -1)), groups=ALL).boxes,
            *build.at(groups=groups).boxes,
        )
        return Stencil(boxes, (1, 1), (1, 1))

    a = build.add((0, masked(BEFORE)), name="a")
    b = build.add((a, masked(UPTO)), name="b")
    graph = build.graph(build.add((b, build.at(groups=SAME)), name="head"))
    check(graph, (4, 5))
    plan = schedule(graph)
    assert plan.levels == ("row", "position", "channel")
    assert dues(plan) == {"x": (0, 0, 0), **dict.fromkeys(("a", "b", "head"), (0, 0, -1))}
    assert depths(plan) == {"x": (2, inf, inf), "a": (2, inf, inf)}


def test_row_attention_and_whole_rows() -> None:
    build = Builder(2)
    x = build.add((0, build.at(0, -1)), name="keys")
    y = build.add((x, Sweep((False, True), PRESENT)), name="row attention")
    above = build.add((0, build.at(-1, 0)), name="above")
    z = build.add((above, Sweep((False, True), EVERYWHERE)), name="whole row")
    graph = build.graph(build.add((y, build.at()), (z, build.at()), name="head"))
    check(graph, (5, 6))
    plan = schedule(graph)
    assert levels(plan)["whole row"] == "row"
    assert depths(plan)["keys"] == (0, inf)  # its prefix within the row
    assert ratio(plan, (16, 16)) < 1


def test_diagonal_bilstm() -> None:
    """The stream from right to left is done a row at a time, once the row above is complete."""
    build = Builder(2)
    x = build.add((0, build.conv(((0, 0), (-1, -1)))))
    left = build.add((x, build.at()), (2, build.at(-1, 0)), (2, build.at(0, -1)), name="left")
    right = build.add((x, build.at()), (3, build.at(-1, 0)), (3, build.at(0, 1)), name="right")
    both = build.add((left, build.at()), (right, build.at(-1, 0)), name="both")
    graph = build.graph(both)
    check(graph, (5, 6))
    assert levels(schedule(graph))["right"] == "row"
    assert levels(schedule(graph))["left"] == "position"


def test_positions_drawn_together() -> None:
    """Codebooks under a delay pattern: key = time + codebook."""
    build = Builder(2, order=((1, 1),))
    x = build.add((0, build.conv(((-2, -1), (0, 0)))), (0, Sweep((True, True), PAST)))
    graph = build.graph(x)
    executor = check(graph, (6, 4))
    assert len(executor.keys) == 9
    assert schedule(graph).levels == ("step",)


def test_dead_phases_are_pruned() -> None:
    """A transposed convolution that reads every second position of what it is given."""
    build = Builder(1)
    x = build.add((0, build.at(-1)), name="x1")
    half = build.add((x, Stencil((Box((0,), (0,), (1,)),), (2,), (1,))), strides=(2,))
    up = build.add((half, Stencil((Box((0,), (0,), (1,)),), (1,), (2,))), strides=(1,))
    build.add((x, build.at()), name="dead")
    plan = schedule(build.graph(up))
    assert "dead" not in dues(plan)
    check(build.graph(up), (9,))


def test_ten_thousand_layers() -> None:
    build = Builder(1)
    x = build.add((0, build.at(-1)))
    for k in range(10_000):
        x = build.add((x, build.conv(((-(2 ** (k % 10)), 0),), step=2 ** (k % 10))))
    plan = schedule(build.graph(x))
    assert len(plan.caches) == 10_000
    assert {e.level for e in plan.entries} == {0}


# -------------------------------------------------------------------------------------- whole specs


@pytest.mark.parametrize(
    ("name", "shape"),
    [("wavenet", (2000,)), ("gpt2", (512,)), ("pixelcnn", (12, 12)), ("gated_pixelcnn", (12, 12))],
)
def test_shipped_specs(name: str, shape: tuple[int, ...]) -> None:
    for term in analyse(name).model.terms:
        plan = schedule(term.graph)
        assert ratio(plan, shape) <= 1
        assert {plan.graph.nodes[entry.node].name for entry in plan.entries} >= {"head"}


def test_wavenet_keeps_its_receptive_field() -> None:
    (term,) = analyse("wavenet").model.terms
    plan = schedule(term.graph)
    queues = [int(c.depth[0]) for c in plan.caches if c.depth[0] < inf]
    assert sorted(queues[1:]) == sorted([2**i for i in range(10)] * 3)  # the first is the audio
    assert 1 + sum(queues) == prove(term.graph).receptive_field["time"]


def show(*arguments: str) -> str:
    found = CliRunner().invoke(cli, ["show", *arguments], standalone_mode=False)
    assert found.exception is None, found.exception
    return found.output


def test_show_schedule() -> None:
    text = show("gated_pixelcnn", "--schedule", "--shape", "28x28")
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["v"][1:5] == ["per", "row", "2", "rows"]
    assert lines["v"][5] == f"{2 * 28 * 384:,}"
    assert "to draw 28 x 28:" in text
    assert "1.000 of the operations of one parallel forward" in text
    assert "512 positions" in show("wavenet", "--schedule")


@pytest.mark.parametrize(
    "wrong", [("--shape", "3"), ("--schedule", "--shape", "3x3"), ("--schedule", "--shape", "0")]
)
def test_a_wrong_shape_is_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        CliRunner().invoke(
            cli, ["show", "gpt2", *wrong], standalone_mode=False, catch_exceptions=False
        )
