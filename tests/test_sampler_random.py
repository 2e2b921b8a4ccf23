"""The derived sampler on random specs: the same parameters as the parallel forward, at every step.

What one spec is put through depends on its seed alone, and so do all numbers in it.
"""

from __future__ import annotations

import io
import random
import re
from functools import cache

import pytest
import torch
from random_specs import random_spec
from stepwise import EXACT, Case, Draws, calm, difference, make_case, one_thread

from arspec import compiler

COUNT = 220
MORE = 4000

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@cache
def analysed(seed: int) -> compiler.Analysis:
    return compiler.analyse("-", {}, io.StringIO(random_spec(seed, safe=True)))


@cache
def random_case(seed: int) -> Case | None:
    """A model with a grid of some lengths, nothing if the spec leaks after all."""
    if not analysed(seed).proof.causal:
        return None
    draw = random.Random(seed)
    lengths = {
        "time": draw.choice([5, 9, 13]),
        "frame": draw.choice([2, 3]),
        "row": draw.choice([2, 4, 5]),
        "col": draw.choice([1, 3, 4]),
    }
    return make_case(analysed(seed), seed, lengths=lengths)


def check(seed: int) -> None:
    """Steps from the start and behind prompts; draws with some positions known."""
    text = random_spec(seed, safe=True)
    this = random_case(seed)
    if this is None:
        return
    if this.narrow:
        with pytest.raises(ValueError, match="looks ahead"):
            this.start()
        return
    for slabs in range(this.length):
        assert difference(this, slabs) < EXACT, f"{slabs} slabs known\n{text}"
        if this.arriving:
            assert difference(this, slabs, told=True) < EXACT, f"{slabs} slabs known, told\n{text}"
    calm(this)
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand((), generator=generator)  # of what is known
    observed = torch.rand(this.x.shape, generator=generator) < share
    draws = Draws(this)
    x = draws(prompt=this.x, observed=observed)
    assert torch.equal(x[observed], this.x[observed]), text
    draws.check(x)


@pytest.mark.parametrize("seed", range(COUNT))
def test_steps_equal_the_forward(seed: int) -> None:
    check(seed)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(COUNT, MORE))
def test_more_of_them(seed: int) -> None:
    check(seed)


# ------------------------------------------------------------------------------ what occurs in them

OCCUR = {
    "one axis": r"axes: \[time\]",
    "two axes": r"axes: \[row, col\]",
    "three axes": r"axes: \[frame, row, col\]",
    "ordered channels": r"order: .*channel\]",
    "channels drawn together": r"channels: 2[^$]*generate: y\n\n",
    "real features": r"y: \{features: 2",
    "attention": r"\{attention: \d",
    "attention on images": r"axes: \[row, col\][^$]*\{attention: \d, of",
    "a window of attention": r"attention: 2, window",
    "rotary positions": r"rope",
    "grouped queries": r"kv_heads",
    "linear biases": r"alibi",
    "strict attention": r"attention: 2, mask: A",
    "recursions by equation": r"(n\d+): [^\n]*\b\1\(time",
    "recurrences": r"\{(lstm|gru): ",
    "recurrences with two states": r"\{(lstm|gru): 4, state: (\[|-2\.\.)",
    "recurrences of rows": r"\{(lstm|gru): 4, state: \{row: -1, col: -1\.\.1",
    "recurrences with a window": r"\{(lstm|gru): 4[^}]*reads: ",
    "recurrences given something": r"\{(lstm|gru): 4.*, given",
    "recurrences of a condition": r"\{gru: 4, state: \{\w+: 1\}, of: c\d",
    "slower clocks": r"(time|row|frame) / \d",
    "repetition written": r"\{up: ",
    "known whole": r"known: all",
    "known to the present": r"known: present",
    "known of the past": r"known: past",
    "known ahead": r"known: \+",
    "a condition without axes": r"c\d: \{\w+: \d\}",
    "a condition along one axis": r"c\d: \{\w+: \d, axes: \[(row|col|frame)( / \d)?\]",
    "or": r"\) or ",
    "a shift along the rows": r"\(row - ",
    "a shift along the columns": r"\(col - ",
    "a shift along the frames": r"\(frame - ",
    "a shift along two axes": r"\(row - \d\)\(col [-+]",
    "windows that look ahead": r"0\.\.[12]",
    "a literal window of rows above": r"row: -1, col: -1\.\.1",
    "stacks": r"repeat: ",
    "schedules of dilations": r"repeat: \{dilation",
    "two stacks": r"v_out, h_out",
    "sums over a stack": r"sum\(n\d+\.skip\)",
    "dilated windows": r"dilation: (2|\{row)",
    "one op for two names": r"p\d+, q\d+:",
    "tables of positions": r"size: 64|sinusoidal",
    "learned numbers": r"\{weight: ",
    "features side by side": r" \+\+ ",
    "a window over three axes": r"frame, row, col\][^$]*\{conv: 3",
    "ordered channels in a volume": r"frame, row, col\], channels[^$]*order[^$]*\{conv: 3",
    "frames before": r"\{conv: \{frame: -1",
    "unions of windows": r"conv: \[",
    "groups of features": r", groups: ",
    "a mask on a literal window": r"(\.\.|\})\S*, mask: ",
    "strides": r"\{conv: [^}]*\}?, stride: ",
    "strides that read ahead": r"\{conv: \{\w+: -1\.\.[12]\}, stride: ",
    "transposed convolutions": r"\{deconv: ",
    "of a condition": r"\{deconv: [^$]*of: c\d_read",
    "pools of what is drawn": r"\{pool: .*of: n",
    "pools of a condition": r"\{pool: \d",
    "the whole of a condition": r"\{pool: all",
    "maxima": r"kind: max",
    "summaries so far": r"\{pool: prefix",
}


def test_what_is_meant_to_occur_does() -> None:
    causal = [random_spec(seed, safe=True) for seed in range(COUNT) if analysed(seed).proof.causal]
    assert len(causal) > 0.85 * COUNT
    missing = [what for what, form in OCCUR.items() if not any(re.search(form, t) for t in causal)]
    assert not missing


def slower(text: str) -> bool:
    """Whether a spec has slower clocks of what is drawn."""
    return re.search(r"n\d+: \{conv: .*stride|\{pool: .*of: n|deconv: .*of: n", text) is not None


def test_conditions_arrive() -> None:
    """Those that share the clock of what is drawn, on any axes and however far they are known."""
    cases = [case for seed in range(COUNT) if (case := random_case(seed)) and case.arriving]
    assert len([case for case in cases if case.derived]) > COUNT / 15
    assert {len(case.shape) for case in cases if case.derived} == {1, 2, 3}
    words = {known.word for case in cases if case.derived for known in case.arriving.values()}
    assert words == {"past", "present", "+1", "+2"}


def test_nearly_all_have_a_derived_sampler() -> None:
    """The others draw by one forward per position, and are compared all the same."""
    texts = [random_spec(seed, safe=True) for seed in range(COUNT)]
    cases = [(text, this) for seed, text in enumerate(texts) if (this := random_case(seed))]
    clocked = [this.derived for text, this in cases if slower(text)]
    assert len(clocked) > 0.2 * COUNT
    assert sum(clocked) > 0.92 * len(clocked)
    assert sum(this.derived for _, this in cases) > 0.93 * len(cases)
