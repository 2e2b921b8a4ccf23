"""Leaks and mismatches of real projects, as small specs: `leaks/<group>/<case>.yaml`.

Each names its source and what is expected of it: `leak` (the line ends in ``# <- leak``), `causal`,
`blind` (causal, but positions that could be read are not) or `error`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import arspec
from arspec import compiler
from arspec.compiler import NotCausal
from arspec.diagnostics import SpecError
from arspec.verifier import check_causality, check_conditions, make_trial

CASES = sorted(Path(__file__).parent.glob("leaks/*/*.yaml"))
EXPECTED = {"future": {"leak"}, "strict": {"blind", "error"}, "fine": {"causal"}}


def expectation(text: str) -> str:
    found = re.search(r"^# expect: (\w+)$", text, re.MULTILINE)
    assert found, "a case says what is expected of it"
    return found[1]


def marked_line(text: str, mark: str) -> int:
    lines = [n for n, line in enumerate(text.splitlines(), 1) if line.endswith(f"# <- {mark}")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(path: Path) -> None:
    text = path.read_text()
    expected = expectation(text)
    assert text.startswith("# source: ")
    assert expected in EXPECTED[path.parent.name]

    if expected == "error":
        with pytest.raises(SpecError) as refusal:
            arspec.check_causality(path)
        assert not isinstance(refusal.value, NotCausal)
        assert refusal.value.diagnostics[0].span.line == marked_line(text, "error")
        return

    proof = arspec.check_causality(path)
    term = proof.terms[-1]
    assert proof.causal == (expected != "leak")
    assert bool(term.leaks) == (expected == "leak")
    if expected == "leak":
        assert term.leaks[0].entering.line == marked_line(text, "leak")
        assert term.leaks[0].path
        with pytest.raises(NotCausal) as refusal:
            arspec.build(path)
        assert refusal.value.diagnostics[0].code == (
            "AR202" if term.leaks[0].condition else "AR201"
        )
        assert refusal.value.diagnostics[0].span.line == marked_line(text, "leak")
    if expected == "blind":
        assert term.blind_spots > 0


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_measured(path: Path) -> None:
    """The compiled module does what the verdict says, where there is code for all of its ops."""
    expected = expectation(path.read_text())
    if expected == "error":
        pytest.skip("not a valid spec")
    try:
        trial = make_trial(compiler.analyse(path))
    except SpecError as refusal:
        assert {found.code for found in refusal.diagnostics} == {"AR501"}  # noqa: PT017
        pytest.skip("an op without code yet")
    conditions = check_conditions(trial)
    causal = check_causality(trial).passed and (conditions is None or conditions.passed)
    assert causal == (expected != "leak")


@pytest.mark.parametrize("name", ["gated_pixelcnn", "wavenet_1x1"])
def test_no_blind_spot(name: str) -> None:
    """What `blind` means is not empty: these have none."""
    path = Path(__file__).parent / "leaks" / "fine" / f"{name}.yaml"
    assert arspec.check_causality(path).terms[-1].blind_spots == 0


def test_every_group_has_its_cases() -> None:
    count = {group: sum(path.parent.name == group for path in CASES) for group in EXPECTED}
    assert count["future"] >= 10
    assert count["strict"] >= 4
    assert count["fine"] >= 10
