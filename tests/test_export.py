"""The step exported, with what it keeps going in and out: by torch, AOTInductor and to ONNX."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import SMALL, small_spec
from stepwise import Case, calm, make_case, of_text, one_thread
from torch import Tensor

import arspec

FOLDER = Path(__file__).parent
SPECS = {path.stem: path for path in [*FOLDER.glob("specs/*.yaml"), *FOLDER.glob("specs_papers/*")]}
LLAMA = {"d": 8, "heads": 4, "kv_heads": 2, "inner": 9, "depth": 2, "vocabulary": 300}
TEXTS = {
    "strict": """
name: strict
variables:
  tokens: {classes: 5, axes: [time]}
generate: tokens
network:
  stem: {conv: 2, to: 4}
  near: {conv: 1, to: 4, of: tokens(time - 1)}
  seen: {attention: 2, mask: A, of: stem}
  out:  near + seen
head: categorical
""",
    "both": """
name: both
variables:
  tokens:  {classes: 5, axes: [time]}
  speaker: {classes: 3}
generate: tokens
network:
  stem:    {conv: 2, to: 4}
  wide:    {conv: 2, dilation: 2, given: speaker}
  far:     wide(time - 3)
  mixed:   {attention: 2, of: far}
  out:     wide + mixed
head: categorical
""",
    "ahead": """
name: ahead
variables:
  bits: {levels: 2, axes: [time]}
generate: bits
network:
  late:  {conv: {time: -4..-3}, to: 4, of: bits}
  out:   {conv: {time: 1..2}, of: late}
head: bernoulli
""",
    "arriving": """
name: arriving
variables:
  tokens: {classes: 5, axes: [time]}
  pedal:  {classes: 3, axes: [time], known: present}
  force:  {features: 1, axes: [time], known: past}
generate: tokens
network:
  stem:  {conv: 2, to: 4, of: tokens}
  steps: {conv: 3, to: 4, of: pedal}
  load:  {attention: 2, of: steps}
  out:   {gru: 4, of: stem + load, given: force(time - 2)}
head: categorical
""",
    "condition": """
name: condition
variables:
  wave: {features: 2, axes: [time]}
  mel:  {features: 4, axes: [time], known: all}
  who:  {features: 4}
generate: wave
network:
  stem: {conv: 3, to: 4}
  out:  stem + mel + who
head: gaussian
""",
}
NAMES = [
    "gpt2", "wavenet", "alone", "llama", "bytenet", "arch", "series_gaussian", "strings_attention",
    "strings_conv", "strings_scaled", "strings_window", *TEXTS,
]  # fmt: skip
"""Every kind of layer that keeps something along one axis. `alone`: no conditions."""

ARRIVES = {"humidity": 2, "force": -1}
"""How far ahead of the position drawn the newest value of a condition stands."""
KNOWN = 5
pytestmark = pytest.mark.usefixtures(one_thread.__name__)

Run = Callable[..., Sequence[Tensor]]


def without_conditions() -> dict[str, Any]:
    """The WaveNet of audio alone."""
    spec = small_spec("wavenet")
    spec["variables"] = {"audio": spec["variables"]["audio"]}
    for line in ("speakers", "bands", "hop"):
        del spec["params"][line]
    del spec["blocks"]["layer(x, dilation)"]["filter, gate"]["given"]
    return spec


@cache
def case(name: str) -> Case:
    """A small model in float64, and what it is told."""
    if name in TEXTS:
        return of_text(TEXTS[name], lengths={"time": 16})
    params: dict[str, Any] = {"llama": LLAMA, "bytenet": {"d": 3, "sets": 1}}.get(name, {})
    spec: Any = SPECS.get(name)
    if name in SMALL:
        spec, params = small_spec(name), SMALL[name]
    if name == "alone":
        spec = without_conditions()
        params = {k: v for k, v in SMALL["wavenet"].items() if k in spec["params"]}
    this = make_case(spec, params=params, lengths={"time": 24})
    return calm(this) if this.x.is_floating_point() else this


def single(this: Case) -> Case:
    """The same in float32."""
    conditions = {k: v.float() if v.is_floating_point() else v for k, v in this.conditions.items()}
    x = this.x.float() if this.x.is_floating_point() else this.x
    return replace(this, model=deepcopy(this.model).float(), x=x, conditions=conditions)


def difference(this: Case, step: Any, run: Run, known: int = KNOWN) -> float:
    """Between the steps of a model and of an export that is fed what it returned, relatively."""
    x_prev, position, *tensors = step.inputs(this.start(known))
    worst, largest = 0.0, 0.0
    for (place,), expected in this.stepped(known):
        if place > step.last:
            break
        x_prev = this.value((place - 1,)).contiguous()
        for number, name in enumerate(step.arriving_names, start=len(step.kept_names)):
            newest = this.conditions[name][..., place + ARRIVES.get(name, 0)]
            tensors[number] = newest.contiguous()
        before = [tensor.clone() for tensor in tensors]
        params, *kept = run(x_prev, torch.full_like(position, place), *tensors)
        assert all(map(torch.equal, before, tensors)), "an input was written to"
        tensors[: len(kept)] = kept
        worst = max(worst, (params - expected).abs().max().item())
        largest = max(largest, expected.abs().max().item())
    assert largest > 0.01, "nothing was compared"
    return worst / largest


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_step_equals_the_step_at_every_position(name: str) -> None:
    this = case(name)
    step, inputs = arspec.exportable(this.model, this.start(KNOWN))
    program = torch.export.export(step, inputs)
    assert difference(this, step, program.module()) < 1e-12
    names = [*step.kept_names, *step.arriving_names, *step.given_names]
    assert len(names) == len(set(names)) == len(inputs) - 2


def test_a_program_is_not_bound_to_its_prompt_or_conditions() -> None:
    for name in ("wavenet", "condition"):
        this = case(name)
        other = this.row(1)
        step, inputs = arspec.exportable(other.model, other.start(KNOWN))
        program = torch.export.export(step, inputs).module()
        assert difference(this.row(0), step, program, known=KNOWN + 4) < 1e-12


def test_what_arrives_is_an_input_of_its_own() -> None:
    this = case("arriving")
    step, inputs = arspec.exportable(this.model, this.start(KNOWN))
    assert (step.arriving_names, step.given_names) == (["pedal", "force"], [])
    pedal, force = inputs[-2:]
    assert pedal.equal(this.conditions["pedal"][:, KNOWN])
    assert force.equal(this.conditions["force"][:, :, KNOWN - 1])
    model: Any = this.model
    state = model.start(2, this.prompt(KNOWN), shape=this.shape, **{
        name: value[..., :KNOWN] for name, value in this.conditions.items()
    })  # fmt: skip
    with pytest.raises(ValueError, match="`pedal` at position 5 is needed to draw position 5"):
        arspec.exportable(model, state)


def test_conditions_are_inputs_where_a_step_reads_them() -> None:
    step, _ = arspec.exportable(case("condition").model, case("condition").start(KNOWN))
    assert step.given_names == ["mel", "who"]
    step, _ = arspec.exportable(case("wavenet").model, case("wavenet").start(KNOWN))
    assert len(step.given_names) == 2 * 6  # what both contribute to each layer
    step, _ = arspec.exportable(case("alone").model, case("alone").start(KNOWN))
    assert not step.given_names


@pytest.mark.parametrize(("name", "last"), [("gpt2", 23), ("ahead", 13)])
def test_no_position_outside_is_drawn(name: str, last: int) -> None:
    """`ahead`: what stands two positions ahead is not there at the last two of 16."""
    this = case(name)
    step, inputs = arspec.exportable(this.model, this.start(KNOWN))
    program = torch.export.export(step, inputs).module()
    assert (step.first, step.last) == (KNOWN, last)
    for position in (KNOWN - 1, last + 1):
        with pytest.raises(RuntimeError):
            program(inputs[0], torch.tensor([position]), *inputs[2:])


def test_what_cannot_be_exported_is_said() -> None:
    this = case("gpt2")
    model: Any = this.model
    with pytest.raises(ValueError, match="a prompt of 1 is too short"):
        arspec.exportable(model, this.start(1))
    with pytest.raises(ValueError, match="a prompt of 0 is too short"):
        arspec.exportable(model, this.start(0))
    with pytest.raises(ValueError, match="the length is not known"):
        arspec.exportable(model, model.start(2, this.prompt(KNOWN)))
    state = this.start(KNOWN)
    model.step(None, state)
    with pytest.raises(ValueError, match="has made a step"):
        arspec.exportable(model, state)
    image = make_case(small_spec("pixelcnn"), params=SMALL["pixelcnn"])
    with pytest.raises(ValueError, match="one axis"):
        arspec.exportable(image.model, image.start(1))
    with pytest.raises(ValueError, match="training mode"):
        arspec.exportable(this.model.train(), this.start(KNOWN))
    this.model.eval()


def require_onnx() -> Any:
    """Skip without the extra `export`."""
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason="needs the extra `export`")
    return pytest.importorskip("onnxruntime", reason="needs the extra `export`")


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_onnx()
    monkeypatch.chdir(tmp_path)
    page = (FOLDER.parent / "docs" / "export.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if "aoti" not in block:  # compiles for half a minute
            exec(block, scope)
    assert len(scope["drawn"]) == 20
    assert (tmp_path / "step.onnx").exists()


@pytest.mark.parametrize("name", ["gpt2", "wavenet", "alone"])
def test_onnxruntime_draws_the_same(name: str, tmp_path: Path) -> None:
    onnxruntime = require_onnx()
    this = single(case(name))
    step, inputs = arspec.exportable(this.model, this.start(KNOWN))
    entering = ["x_prev", "position", *step.kept_names, *step.given_names]
    leaving = ["params", *(f"next.{name}" for name in step.kept_names)]
    path = tmp_path / "step.onnx"
    torch.onnx.export(
        step, inputs, path, dynamo=True, verbose=False, input_names=entering, output_names=leaving
    )
    session = onnxruntime.InferenceSession(path)
    assert [put.name for put in session.get_inputs()] == entering
    assert [put.name for put in session.get_outputs()] == leaving

    def run(*tensors: Tensor) -> list[Tensor]:
        arrays = {name: t.numpy() for name, t in zip(entering, tensors, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    assert difference(this, step, run) < 1e-6


@pytest.mark.parametrize(
    "name",
    ["both", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "wavenet"))],
)
def test_aotinductor_draws_the_same(name: str, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("AOTInductor needs a C++ compiler")
    this = single(case(name))
    step, inputs = arspec.exportable(this.model, this.start(KNOWN))
    package = torch._inductor.aoti_compile_and_package(
        torch.export.export(step, inputs),
        package_path=str(tmp_path / "step.pt2"),
        inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},  # half the time
    )
    assert difference(this, step, torch._inductor.aoti_load_package(package)) < 1e-6
