"""Windows of every kind, and pools: what is proven is what the code reads, and steps agree."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
import torch
from stepwise import EXACT, difference, make_case, one_thread

from arspec import compiler
from arspec.diagnostics import SpecError
from arspec.verifier import check_causality, check_receptive_field, make_trial

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

VARIABLES = {
    "audio": "{classes: 5, axes: [time]}",
    "series": "{features: 2, axes: [time]}",
    "image": "{levels: 4, axes: [row, col]}",
    "video": "{levels: 4, axes: [frame, row, col]}",
    "rgb": "{levels: 3, axes: [row, col], channels: 3}",
    "mel": "{features: 3, axes: [time / 4], known: all}",
    "low": "{features: 3, axes: [row / 2, col / 2], known: all}",
    "source": "{classes: 6, axes: [place]}",
    "table": "{features: 3, axes: [high, wide]}",
}
LENGTHS = {"time": 13, "row": 5, "col": 4, "place": 7, "high": 3, "wide": 5}


@dataclass(frozen=True)
class Windows:
    """The lines of a network, the pieces that they become, and whether a step is derived."""

    of: str
    lines: str
    pieces: str
    derived: bool = True
    order: str = ""

    @property
    def text(self) -> str:
        named = [name for name in VARIABLES if name == self.of or name in self.lines]
        variables = "".join(f"  {name}: {VARIABLES[name]}\n" for name in named)
        order = f"order: {self.order}\n" if self.order else ""
        lines = "".join(f"  {line.strip()}\n" for line in self.lines.strip().splitlines())
        head = "gaussian" if self.of == "series" else "categorical"
        return (
            f"name: windows\nvariables:\n{variables}generate: {self.of}\n{order}"
            f"network:\n{lines}head: {head}\n"
        )


CASES = {
    "three axes": Windows(
        "video",
        """
        stem: {conv: 3, to: 6}
        past: {conv: {frame: -2..-1, row: -1..1, col: -1..1}, to: 6, of: video}
        here: {conv: {row: 3, col: 3}, dilation: {col: 2}, to: 6, of: video}
        both: {conv: 3, of: stem + past + here}
        out: [relu, {conv: {col: 5}}]
        """,
        "MaskedConv3dA MaskedConv3dB WindowConv3d",
    ),
    "a union": Windows(
        "video",
        """
        stem: {conv: [{frame: -1, row: -1..1}, {row: -1, col: -1..1}, {col: -2..-1}], to: 6}
        out: {conv: [{frame: -1}, {col: -1..0}]}
        """,
        "BoxConv",
    ),
    "groups": Windows(
        "audio",
        """
        stem: {conv: 2, to: 6}
        a: {conv: 3, groups: 2, dilation: 2}
        out: {conv: 2, groups: 6, bias: false}
        """,
        "BoxConv",
    ),
    "a mask on a literal window": Windows(
        "image",
        """
        stem: {conv: {row: -1..1, col: -2..1}, mask: A, to: 6}
        out: {conv: {row: -1..1, col: -1..1}, mask: B, groups: 2}
        """,
        "BoxConv",
    ),
    "strides": Windows(
        "series",
        """
        stem: {conv: 5, stride: 3, to: 6}
        next: {conv: {time: -1..2}, stride: 2}
        back: {up: 6, of: next(time - 2)}
        fine: {deconv: 4, stride: 3, of: stem}
        out: back + fine
        """,
        "StridedConv SpreadingConv",
    ),
    "strides of an image": Windows(
        "image",
        """
        stem: {conv: 3, stride: 2, to: 6}
        next: {conv: 3, stride: {row: 2}}
        back: {deconv: {row: 3, col: 2}, stride: {row: 4, col: 2}}
        out: {conv: 3}
        """,
        "GridStridedConv GridSpreadingConv",
    ),
    "pools": Windows(
        "audio",
        """
        stem: {conv: 2, to: 6}
        most: {pool: 3, kind: max}
        some: {pool: 4, of: stem}
        far: {pool: prefix, of: stem}
        farthest: {pool: prefix, kind: max, of: stem}
        a: {up: 3, of: most(time - 1)}
        b: {up: 4, of: some(time - 1)}
        out: a + b + far + farthest
        """,
        "MaxPool MeanPool MeanSoFar MaxSoFar",
    ),
    "of conditions": Windows(
        "audio",
        """
        s: [{conv: 3, to: 6, of: source}, {conv: 3, stride: 2}, {deconv: 4, stride: 2}]
        t: {pool: all, kind: max, of: s}
        u: [{conv: {high: 3, wide: 3}, stride: {wide: 2}, to: 6, of: table}, {pool: 2}]
        v: {pool: all, of: u}
        w: {deconv: {time: -3..5}, stride: 4, to: 6, of: mel}
        x: {pool: 2, of: mel, kind: max}
        y: {conv: [-2, 0..1], of: mel}
        out: {conv: 2, to: 6, of: audio, given: [t, v, w, x, y]}
        """,
        "BoxConv TransposedConv max_pool mean_pool",
    ),
    "of a known image": Windows(
        "image",
        """
        fine: {deconv: 4, stride: 2, to: 6, of: low}
        near: {conv: {row: 1, col: 3}, stride: {col: 2}, to: 6, of: low}
        out: {conv: 3, to: 6, of: image, given: [fine, near]}
        """,
        "BoxConv TransposedConv MaskedConv2dA",
    ),
    "an order that is not the raster": Windows(
        "image",
        "stem: {conv: 3, to: 6}\nout: {conv: 5, dilation: {col: 2}}",
        "BoxConv",
        derived=False,
        order="[row + col, row]",
    ),
    "whole pixels of ordered channels": Windows(
        "rgb",
        """
        stem: {conv: 3, to: 6}
        above: {conv: [{row: -1, col: -1..1}, {row: -2}], to: 6, of: rgb}
        out: {linear: 6, of: stem, given: above}
        """,
        "BoxConv SubpixelConv2dA SubpixelLinear",
        order="[row, col, channel]",
    ),
}
each_case = pytest.mark.parametrize("name", CASES)


def analysed(text: str) -> compiler.Analysis:
    return compiler.analyse("-", {}, io.StringIO(text))


@each_case
def test_what_is_proven_is_what_is_read(name: str) -> None:
    trial = make_trial(analysed(CASES[name].text))
    count = sum(parameter.numel() for parameter in trial.model.parameters())
    assert count == analysed(CASES[name].text).parameter_count
    for check in (check_causality(trial), check_receptive_field(trial)):
        assert check.passed, check.detail


@each_case
def test_steps_equal_the_forward(name: str) -> None:
    case = make_case(analysed(CASES[name].text), lengths=LENGTHS)
    assert case.derived == CASES[name].derived
    for piece in CASES[name].pieces.split():
        assert f"{piece}(" in case.text.partition("class Windows(")[2]
    slab_by_slab = case.places == sorted(case.places)
    for slabs in range(case.length if slab_by_slab else 1):  # what is known comes first
        assert difference(case, slabs) < EXACT


def test_what_a_clock_lacks_is_outside() -> None:
    """Neither a last group that is not whole nor a stride beyond the end changes what is before."""
    case = make_case(analysed(CASES["pools"].text), lengths=LENGTHS)
    whole = case.model(case.x)
    for length in range(1, 13):
        part = case.model(case.x[:, :length])
        torch.testing.assert_close(part, whole[:, :length], rtol=0, atol=1e-12)


def refused(text: str) -> list[str]:
    with pytest.raises(SpecError) as refusal:
        compiler.emit(analysed(text))
    assert {found.code for found in refusal.value.diagnostics} == {"AR501"}
    return [found.message for found in refusal.value.diagnostics]


REPEATED = """
name: repeated
variables:
  audio: {classes: 5, axes: [time]}
generate: audio
blocks:
  layer(x, k):
    out: {conv: WINDOW}
network:
  stem: {conv: 2, to: 4}
  out:  {use: layer, repeat: {k: [1, 2]}}
head: categorical
"""


def test_repetitions_share_a_class_or_are_refused() -> None:
    """A loop calls all repetitions alike: their windows have to be the same text."""
    for window in ("2, dilation: k", "2, groups: 2, dilation: k", "k + 1", "{time: -k..0}"):
        case = make_case(analysed(REPEATED.replace("WINDOW", window)))
        assert case.text.count("class Layer") == 1
        assert difference(case) < EXACT
    assert refused(REPEATED.replace("WINDOW", "[-1 - k, 0]")) == [
        "a `repeat` over windows that differ cannot be compiled yet"
    ]


OF_A_CONDITION = """
name: repeated
variables:
  audio: {classes: 5, axes: [time]}
  mel: {features: 4, axes: [time], known: all}
generate: audio
blocks:
  layer(x, k):
    out: {conv: k}
network:
  mels: {use: layer, of: mel, repeat: {k: [1, 5]}}
  out:  {conv: 2, to: 4, of: audio, given: mels}
head: categorical
"""


def test_a_centred_size_of_a_block_keeps_its_name() -> None:
    """It was written out as a number: all repetitions had the window of the last."""
    model = make_case(analysed(OF_A_CONDITION)).model
    kernels = [model.get_parameter(f"mels.{k}.out.weight").shape[2] for k in range(2)]
    assert kernels == [1, 5]


def test_a_stride_under_the_mask_of_ordered_channels_is_refused() -> None:
    text = Windows(
        "rgb", "a: {conv: 3, stride: 2, to: 6}\nout: {up: 2}", "", False, "[row, col, channel]"
    )
    assert "ordered channels" in refused(text.text)[0]
