"""Blind spots and positions read, for models whose sets are known."""

from __future__ import annotations

import time

import pytest
from random_graphs import Builder

from arspec.blindspots import blind_spots, reached
from arspec.causality import prove
from arspec.graph import ALL, BEFORE, PRESENT, SAME, UPTO, Graph, Stencil, Sweep
from arspec.moves import resolve

ABOVE, LEFT = ((-1, -1), (-1, 1)), ((0, 0), (-1, -1))


def pixelcnn(layers: int, channels: int = 1) -> Graph:
    """A 3x3 convolution with mask A, then `layers` of them with mask B."""
    build = Builder(2, channels)
    x = build.target
    for layer in range(layers + 1):
        x = build.add((x, masked(build, "A" if not layer else "B")))
    return build.graph(x)


def masked(build: Builder, mask: str) -> Stencil:
    """3x3, the rows above and the present one up to the centre."""
    earlier = build.conv(ABOVE, LEFT, groups=ALL)
    if build.channels == 1 and mask == "A":
        return earlier
    centre = build.at(groups=BEFORE if mask == "A" else UPTO)
    return Stencil(earlier.boxes + centre.boxes, earlier.down, earlier.up)


def gated_pixelcnn(layers: int, channels: int = 1) -> Graph:
    """Two stacks of 3x3: the vertical one reads rows above, the horizontal one its row and it."""
    build = Builder(2, channels)
    point = build.at(groups=UPTO)
    first = build.at(0, -1, groups=ALL)
    if channels > 1:
        first = Stencil(first.boxes + build.at(groups=BEFORE).boxes, first.down, first.up)
    left = build.conv(LEFT, groups=ALL)
    left = Stencil(left.boxes + point.boxes, left.down, left.up)
    v = h = build.target
    for layer in range(layers):
        v = build.add((v, build.conv(((-1, 0), (-1, 1)) if layer else ABOVE, groups=ALL)))
        gate = build.add((v, point))
        side = build.add((gate, build.at(groups=ALL)))
        mixed = build.add((h, left if layer else first), (side, build.at()))
        out = build.add((mixed, point))
        h = build.add((out, build.at()), (h, build.at())) if layer else out
        v = gate
    return build.graph(build.add((h, point)))


def test_pixelcnn_is_blind() -> None:
    # row -r is read from column -n to r' where each step up allows one step to the right: the cone
    # (r rows up, at most r columns right) is all that a stack sees on the right
    for layers in (1, 3, 6):
        depth = layers + 1
        read = {
            (-r, c) for r in range(depth + 1) for c in range(-depth, r + 1) if (r, c) < (1, 0) or r
        } - {(0, c) for c in range(depth + 1)}
        graph = pixelcnn(layers)
        found = {(r - 63, c - 32) for r, c in reached(graph, (63, 32))}
        assert found == read
        window = {
            (r, c) for r in range(-depth, 1) for c in range(-depth, depth + 1) if (r, c) < (0, 0)
        }
        assert prove(graph).blind_spots == len(window - read) > 0
        assert prove(graph).causal


def test_gated_pixelcnn_is_not() -> None:
    for channels in (1, 3):
        proof = prove(gated_pixelcnn(6, channels))
        assert proof.causal
        assert proof.blind_spots == 0


def test_shifted_vertical_convolutions_are_as_blind() -> None:
    """pytorch-generative's GatedPixelCNN: every vertical convolution reads strictly above."""
    build = Builder(2)
    v = h = build.target
    for layer in range(5):
        v = build.add((v, build.conv(ABOVE)))
        row = ((0, 0), (-1, 0)) if layer else LEFT
        h = build.add((h, build.conv(row)), (v, build.at()))
    assert prove(build.graph(h)).blind_spots == prove(pixelcnn(4)).blind_spots


def test_mask_that_hides_red_from_green() -> None:
    def model(centre: str) -> Graph:
        build = Builder(2, 3)
        earlier = build.conv(ABOVE, LEFT, groups=ALL)
        box = build.at(groups=centre).boxes
        first = build.add((build.target, Stencil(earlier.boxes + box, earlier.down, earlier.up)))
        return build.graph(build.add((first, build.at(groups=SAME))))

    hidden = Builder(2, 3)
    nothing = hidden.graph(hidden.add((hidden.target, hidden.conv(ABOVE, LEFT, groups=ALL))))
    assert prove(model(BEFORE)).blind_spots == 0
    assert prove(nothing).blind_spots == 2  # blue sees neither red nor green
    assert not prove(model(UPTO)).causal


def test_attention_reads_everything() -> None:
    build = Builder(2)
    shifted = build.add((build.target, build.at(0, -1)))
    out = build.add((shifted, Sweep((True, True), PRESENT)))
    graph = build.graph(out)
    # the shift drops the last column of every row but the present one
    assert {(r, c) for r in range(63) for c in range(63)} < reached(graph, (63, 32))
    assert prove(graph).nearest == (0, -1)


def test_dilation_without_depth_has_gaps() -> None:
    build = Builder(1)
    proof = prove(build.graph(build.add((build.target, build.conv(((-12, -4),), step=4)))))
    assert proof.receptive_field == {"time": 9}
    assert proof.blind_spots == 9  # -12 .. -1 without -12, -8, -4


def test_clipped_to_the_grid() -> None:
    build = Builder(1)
    proof = prove(build.graph(build.add((build.target, build.conv(((-400, -400),))))))
    assert proof.blind_spots == 0
    proof = prove(build.graph(build.add((build.target, build.conv(((-400, -1),), step=3)))))
    assert (
        proof.blind_spots == 61 - 21
    )  # 62, 59, .. 2 are read, and what is before 2 does not count


def test_windowed_attention_on_two_axes() -> None:
    build = Builder(2)
    graph = build.graph(build.add((build.target, Sweep((True, True), "past", window=5, every=7))))
    read = reached(graph, (2, 1), size=(4, 4))
    flat = sorted(r * 4 + c for r, c in read)
    assert flat == [2, 4, 5, 6, 7, 8]  # position 9: the 5 latest, and 9 - 7


@pytest.mark.parametrize(
    ("graph", "limit"),
    [(gated_pixelcnn(20, 3), 0.3), (gated_pixelcnn(60), 0.3)],
    ids=["rgb", "deep"],
)
def test_fast_enough(graph: Graph, limit: float) -> None:
    resolved = resolve(graph)
    started = time.process_time()
    blind_spots(resolved)
    assert time.process_time() - started < limit


def test_video_grid_is_feasible() -> None:
    build = Builder(3)
    x = build.add(
        (build.target, build.conv(((-1, -1), (-1, 1), (-1, 1)), ((0, 0), (0, 0), (-1, -1))))
    )
    for _ in range(30):
        frames = build.conv(((-1, -1), (-1, 1), (-1, 1)))
        rows = build.conv(((0, 0), (-1, -1), (-1, 1)), ((0, 0), (0, 0), (-1, 0)))
        x = build.add((x, Stencil(frames.boxes + rows.boxes, frames.down, frames.up)))
    resolved = resolve(build.graph(x))
    started = time.process_time()
    assert blind_spots(resolved) is not None
    assert time.process_time() - started < 5
