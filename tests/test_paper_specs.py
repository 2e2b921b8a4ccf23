"""Models of the field, written in the language: proven, counted, and with leaks planted in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import arspec
from arspec import compiler
from arspec.causality import diagnostics
from arspec.diagnostics import SpecError

FOLDER = Path(__file__).parent / "specs_papers"
SPECS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def path(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


@pytest.mark.parametrize("name", SPECS)
def test_causal(name: str) -> None:
    analysis = compiler.analyse(path(name))
    assert analysis.proof.causal
    assert analysis.spec.name == name
    assert analysis.spec.paper
    assert all(note.code.startswith("AR9") for note in analysis.notes)


@pytest.mark.parametrize("name", SPECS)
def test_short(name: str) -> None:
    """Every published model fits in about sixty lines."""
    assert len(path(name).read_text().splitlines()) <= 65


@pytest.mark.parametrize("name", SPECS)
def test_what_has_no_code_is_refused_with_one_code(name: str) -> None:
    """Either there is a text, or AR501 says on the user's own lines what has no code yet."""
    analysis = compiler.analyse(path(name))
    try:
        text = compiler.emit(analysis)
    except SpecError as refusal:
        lines = len(path(name).read_text().splitlines())
        assert {found.code for found in refusal.diagnostics} == {"AR501"}  # noqa: PT017
        for found in refusal.diagnostics:
            assert found.span is not None
            assert 1 <= found.span.line <= lines
        return
    compile(text, name, "exec")


# ---------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("name", "params", "count"),
    [
        ("llama", {}, 8_030_261_248),  # Llama 3 8B
        ("llama", {"kv_heads": 32, "inner": 11008, "vocabulary": 32000},
         6_738_415_616),  # Llama 2 7B
        ("pixelcnnpp", {}, 53_659_080),  # openai/pixel-cnn, weight norm with V, g and b
        ("lstm_lm", {}, 19_775_200),  # by hand: 20,000 * 650 + 8 * 650 * 1,301 + 10,000
        ("elman", {}, 53_277),  # by hand: 27 * 150, 150 * 150 twice and 150, 27 * 151
        ("arma", {}, 5),
        ("arch", {}, 4),
    ],
)  # fmt: skip
def test_parameter_counts(name: str, params: dict[str, Any], count: int) -> None:
    assert compiler.analyse(path(name), params).parameter_count == count


def test_transformer_base_is_about_as_large_as_published() -> None:
    """Vaswani et al. 2017, table 3, say 65 million, for another vocabulary."""
    assert compiler.analyse(path("transformer")).parameter_count == pytest.approx(63.1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("tcn", {}, {"time": 29}),  # 1 + 2 (k - 1) (2^3 - 1), Bai et al. 2018
        ("bytenet", {}, {"time": 1 + 6 * 2 * (1 + 2 + 4 + 8 + 16)}),
        # the clock's ticks, the coarse layers on it, the layers, the farthest phase in a tick
        ("wavenet_context", {}, {"time": 512 + 2 * 127 * 256 + 2 * 1023 + 255 - 1}),
        ("arch", {}, {"time": 1}),
        ("arma", {}, {"time": None}),
        ("garch", {}, {"time": None}),
        ("elman", {}, {"time": None}),
        ("llama", {}, {"time": None}),
        ("row_lstm", {}, {"row": None, "col": None}),
    ],
)
def test_receptive_fields(name: str, params: dict[str, Any], field: dict[str, int | None]) -> None:
    proof = arspec.check_causality(path(name), **params)
    assert proof.terms[-1].receptive_field == field


def test_row_lstm_has_the_triangle_of_its_paper_and_the_bilstm_does_not() -> None:
    """Van den Oord et al. 2016, figure 2: the Row LSTM misses part of the rows above."""
    rows = arspec.check_causality(path("row_lstm"), h=8).terms[0].blind_spots
    diagonals = arspec.check_causality(path("pixelrnn_diagonal_bilstm"), h=8).terms[0].blind_spots
    assert rows is not None
    assert diagonals is not None
    assert rows > 1000
    assert diagonals <= 1


# ------------------------------------------------------------------------------------------ leaks

# The leak is marked where the offset from the variable last rises to 0 or more. Where a spec shifts
# only at its end, or begins with an equation of the variable, that is its first line.
LEAKS = [
    # spec, text, its replacement, the line where the leak enters, code
    ("llama", "norm(time - 1)", "norm(time)", "embedding:", "AR201"),
    ("llama", "    ffn_norm:  {norm: rms}", "    ffn_norm:  {norm: batch}", "ffn_norm:", "AR201"),
    ("musicgen_delay", "codes(time - 1)", "codes(time)", "stem:", "AR201"),
    ("musicgen_delay", "{attention: heads, over: memory}", "{attention: heads, over: x1}",
     "over: x1", "AR201"),
    ("pixelcnnpp", "above: {row: -1..0", "above: {row: -1..1", "{conv: window, to: width, given",
     "AR201"),
    ("pixelcnnpp", "{row: -2..-1, col: -1..1}, to", "{row: -1..0, col: -1..1}, to", "u_in:",
     "AR201"),
    ("pixelcnnpp", "l_left:  {conv: {row: -1..0, col: -1}", "l_left:  {conv: {row: -1..0, col: 0}",
     "x: ", "AR201"),
    ("pixelrnn_diagonal_bilstm", "right(row - 1)", "right(row)", "state: [{row: -1}, {col: 1}]",
     "AR201"),
    ("pixelrnn_multiscale", "right(row - 1)", "right(row)", "state: [{row: -1}, {col: 1}]",
     "AR201"),
    ("row_lstm", "reads: {row: 1, col: 3}, mask: B", "reads: {row: 0, col: -1..1}", "lstm:",
     "AR201"),
    ("row_lstm", "mask: A", "mask: B", "stem:", "AR201"),
    ("speech_with_stop", "mel(time - 1)", "mel(time)", "prenet:", "AR201"),
    ("speech_with_stop", "{linear: d}]\n  decoder", "{linear: d}, {conv: -1..1}]\n  decoder",
     "{conv: -1..1}", "AR201"),
    ("tcn", "text(time - 1)", "text(time)", "stem:", "AR201"),
    ("tcn", "{conv: 3, dilation: dilation}, relu, {dropout: drop}]",
     "{conv: -1..1, dilation: dilation}, relu, {dropout: drop}]", "conv: -1..1", "AR201"),
    ("transformer", "target(time - 1)", "target(time)", "shifted:", "AR201"),
    ("transformer", "x2:  {norm: layer,", "x2:  {norm: group,", "{norm: group", "AR201"),
    ("video_pixel_network", "past(frame - 1)", "past", "frames:", "AR201"),
    ("video_pixel_network", "{row: 3, col: 3}", "{row: -1..1, col: -1..1}", "{conv: window",
     "AR201"),
    ("wavenet_context", "{conv: 512, stride: 256", "{conv: -511..0, stride: 256", "coarse:",
     "AR201"),
    ("bytenet", "target(time - 1)", "target(time)", "shifted:", "AR201"),
    ("bytenet", "{conv: 3, dilation: dilation}", "{conv: -1..1, dilation: dilation}", "conv: -1..1",
     "AR201"),
    ("bytenet", "known: all", "known: past", "letters:", "AR202"),
    ("sparse_transformer", "pixels(time - 1)", "pixels(time)", "symbols:", "AR201"),
    ("sparse_transformer", "x1:  x + a", "x1:  x + a(time + 1)", "x + a(time + 1)", "AR201"),
    ("pixelsnail", "left: {row: -1..0, col: -1..0}", "left: {row: -1..0, col: -1..1}",
     "{conv: left, to: width, given", "AR201"),
    ("pixelsnail", "{attention: 1, dim: 16}", "{attention: 1, dim: 16, mask: none}", "mask: none",
     "AR201"),
    ("arch", "square(time - 1)", "square(time)", "(r - mu)", "AR201"),
    ("lstm_lm", "words(time - 1)", "words(time)", "stem:", "AR201"),
    ("arma", "y(time - 2)", "y(time)", "y(time)", "AR201"),
    ("arma", "error(time - 1)", "error(time)", "error(time)", "AR203"),
    ("garch", "shock(time - 1)", "shock(time)", "shock:", "AR201"),
    ("garch", "variance(time - 1)", "variance(time)", "variance(time)", "AR203"),
    ("elman", "letters(time - 1)", "letters(time)", "x: {embed", "AR201"),
    ("elman", "h(time - 1)", "h(time)", "b: {linear", "AR203"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "place", "code"), LEAKS, ids=[f"{x[0]}-{i}" for i, x in enumerate(LEAKS)]
)
def test_planted_leak(name: str, old: str, new: str, place: str, code: str, tmp_path: Path) -> None:
    """One line is changed; the leak is found, on the line where it enters."""
    text = path(name).read_text()
    assert text.count(old) >= 1
    leaky = tmp_path / f"{name}.yaml"
    leaky.write_text(text.replace(old, new))
    found = diagnostics(compiler.analyse(leaky).proof)
    assert code in {one.code for one in found}
    lines = leaky.read_text().splitlines()
    named = {lines[one.span.line - 1] for one in found if one.code == code and one.span}
    assert any(place in line for line in named), named
    with pytest.raises(compiler.NotCausal):
        compiler.generate(leaky)


def test_every_spec_has_a_planted_leak() -> None:
    assert {leak[0] for leak in LEAKS} == set(SPECS)


# --------------------------------------------------------------------------------------- compiled


def test_arch_is_its_textbook_likelihood() -> None:
    """Engle 1982: independent normals given the past, in double precision."""
    torch.manual_seed(0)
    model: Any = arspec.build(path("arch")).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
        r = torch.randn(3, 50, dtype=torch.float64)
        mu = model.mu.item()
        omega, alpha, before = (getattr(model, n)().item() for n in ("omega", "alpha", "before"))
        expected = []
        for row in r.tolist():
            total, square = 0.0, before
            for x in row:
                variance = omega + alpha * square
                square = (x - mu) ** 2
                total -= 0.5 * (math.log(2 * math.pi * variance) + square / variance)
            expected.append(total)
        torch.testing.assert_close(
            model.log_prob(r), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
        )


def test_bytenet_sees_its_whole_source_and_only_the_past_of_its_target() -> None:
    torch.manual_seed(0)
    model: Any = arspec.build(path("bytenet"), d=4, sets=1).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        source, target = torch.randint(296, (1, 20)), torch.randint(296, (1, 20))
        before = model(target, source=source)
        target[0, 12] = (target[0, 12] + 1) % 296
        changed = (model(target, source=source) != before).any(-1)[0]
        assert changed.tolist() == [t > 12 for t in range(20)]
        source[0, 19] = (source[0, 19] + 1) % 296
        assert (model(target, source=source) != before).any(-1).all()
