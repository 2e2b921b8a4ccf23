"""`arspec.save` and `arspec.load`: what comes back, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import arspec
from arspec import weights
from arspec.diagnostics import SpecError
from arspec.measure import randomise
from arspec.origin import METADATA_KEY
from tests.shipped import SMALL, small_inputs, small_model

SPEC = """\
name: tiny
params: {width: 8, symbols: 16}
variables:
  audio: {classes: symbols, axes: [time]}
generate: audio
network:
  stem: {conv: 2, to: width}
  out:  [relu, {linear: 2 * width}, relu]
head: categorical
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    return tmp_path


def saved(path: Path, **params: Any) -> nn.Module:
    model = arspec.build("tiny.yaml", **params)
    arspec.save(model, path)
    return model


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """The code and the whole report of the one error that the call raises."""
    with pytest.raises(SpecError) as failure:
        call()
    (found,) = failure.value.diagnostics
    return found.code, str(failure.value)


# --- what comes back ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_loaded_model_gives_the_same_numbers(folder: Path, name: str, dtype: torch.dtype) -> None:
    model = small_model(name, dtype=dtype)
    arspec.save(model, "model.safetensors")
    loaded = arspec.load("model.safetensors").eval()
    x, conditions = small_inputs(name)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert all(p.requires_grad for p in loaded.parameters())
    assert torch.equal(model(x, **conditions), loaded(x, **conditions))


def test_saving_again_gives_the_same_bytes(folder: Path) -> None:
    saved(folder / "one.safetensors", width=5, symbols="4 * 4")
    arspec.save(arspec.load("one.safetensors"), "two.safetensors")
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


def test_a_spec_given_as_a_dict_is_stored_too(folder: Path) -> None:
    spec = {
        "name": "inline",
        "paper": 'of "quotes", \\ and \u00fcml\u00e4uts \U0001f600: 1e-4, no',
        "variables": {"audio": {"classes": 4, "axes": ["time"]}},
        "generate": "audio",
        "network": {"stem": {"conv": 2, "to": 8}, "out": "stem * 0.5"},
        "head": "categorical",
    }
    model = arspec.build(spec)
    arspec.save(model, "inline.safetensors")
    x = torch.randint(4, (2, 7))
    assert torch.equal(arspec.load("inline.safetensors")(x), model(x))


def test_the_model_itself_is_as_before(folder: Path) -> None:
    """What it was built from is no part of its state; copies and pickles keep it."""
    model = arspec.build("tiny.yaml")
    assert all(name.split(".")[0] in ("stem", "out", "head") for name in model.state_dict())
    twin = arspec.build("tiny.yaml")
    for number, other in enumerate([copy.deepcopy(model), pickle.loads(pickle.dumps(model)), twin]):
        arspec.save(other, f"{number}.safetensors")
        arspec.load(f"{number}.safetensors")


def test_tensors_that_share_memory_are_all_there(folder: Path) -> None:
    model = arspec.build("tiny.yaml", width=8, symbols=16)
    model.head.weight = model.out[1].weight  # both (16, ...): 2 * width and symbols
    arspec.save(model, "tied.safetensors")
    assert {*load_file("tied.safetensors")} == {*model.state_dict()}


def test_a_model_compiled_by_torch_is_saved_by_its_own_names(folder: Path) -> None:
    model = arspec.build("tiny.yaml")
    arspec.save(torch.compile(model), "model.safetensors")
    assert {*load_file("model.safetensors")} == {*model.state_dict()}


def test_what_was_loaded_does_not_change_with_the_file(folder: Path) -> None:
    saved(folder / "model.safetensors")
    loaded = arspec.load("model.safetensors")
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    size = os.path.getsize("model.safetensors")
    with open("model.safetensors", "r+b") as file:
        file.seek(size - 1000)
        file.write(b"\x41" * 1000)
    assert all(torch.equal(before[name], t) for name, t in loaded.state_dict().items())


# --- what is refused ------------------------------------------------------------------


def test_a_model_that_arspec_did_not_build_cannot_be_saved(folder: Path) -> None:
    code, report = refused(lambda: arspec.save(nn.Linear(2, 2), "model.safetensors"))
    assert code == "AR610"
    assert "`Linear`" in report
    assert os.listdir(folder) == ["tiny.yaml"]


@pytest.mark.parametrize("target", ["missing/model.safetensors", "."])
def test_where_nothing_can_be_written(folder: Path, target: str) -> None:
    model = arspec.build("tiny.yaml")
    assert refused(lambda: arspec.save(model, target))[0] == "AR605"


def test_an_interrupted_save_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(folder / "model.safetensors")
    before = Path("model.safetensors").read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        saved(folder / "model.safetensors", width=3)
    assert Path("model.safetensors").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["model.safetensors", "tiny.yaml"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("out.1.bias"), "`out.1.bias` (16) is missing"),
        (lambda t: t.update({"zoo": torch.zeros(3)}), "`zoo` (3) is not in the model"),
        (
            lambda t: t.update({"stem.weight": torch.zeros(8, 16, 3)}),
            "`stem.weight` is (8, 16, 3) in the file and (8, 16, 2) in the model",
        ),
        (
            lambda t: t.update({"stem.bias": torch.zeros(8, dtype=torch.int64)}),
            "`stem.bias` is I64 in the file and F32 in the model",
        ),
        (lambda t: t.clear(), "`stem.weight` (8, 16, 2) is missing"),
    ],
)
def test_the_first_difference_is_named(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    saved(folder / "model.safetensors")
    rewritten(change)
    code, report = refused(lambda: arspec.load("model.safetensors"))
    assert code == "AR607"
    assert words in report


def test_a_misspelt_name_is_proposed(folder: Path) -> None:
    saved(folder / "model.safetensors")
    rewritten(lambda t: t.update({"stem.wieght": t.pop("stem.weight")}))
    report = refused(lambda: arspec.load("model.safetensors"))[1]
    assert "2 names differ" in report
    assert "did you mean `stem.wieght`?" in report


def rewritten(change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of model.safetensors, not its metadata."""
    header = weights.read_header("model.safetensors")
    tensors = load_file("model.safetensors")
    change(tensors)
    assert header.origin is not None
    save_file(tensors, "model.safetensors", metadata=header.origin.to_metadata())


def stored(change: Callable[[dict[str, Any]], object]) -> None:
    """Change what model.safetensors says of its spec."""
    header = weights.read_header("model.safetensors")
    assert header.origin is not None
    held = json.loads(header.origin.to_metadata()[METADATA_KEY])
    change(held)
    metadata = {METADATA_KEY: json.dumps(held)}
    save_file(load_file("model.safetensors"), "model.safetensors", metadata=metadata)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m: m.update(spec=m["spec"].replace("relu, {", "tanh, {")), "AR609"),
        (lambda m: m.update(hash="0" * 64), "AR609"),
        (lambda m: m.update(settings={"width": 9}), "AR609"),
        (lambda m: m.update(settings={"widht": 9}), "AR122"),
        (lambda m: m.update(settings={"width": float("nan")}), "AR014"),
        (lambda m: m.update(settings={"width": {"a": [[]] * 3}}), None),
        (lambda m: m.update(settings=[]), "AR609"),
        (lambda m: m.pop("spec"), "AR609"),
        (lambda m: m.update(spec="name: [tiny"), "AR004"),
        (lambda m: m.update(spec="a: &a [*a]"), "AR010"),
        (lambda m: m.update(spec="[" * 5000), "AR012"),
        (lambda m: m.update(spec="x" * 2_000_000), "AR002"),
        (lambda m: m.update(spec=""), None),
        (lambda m: m.update(spec=SPEC.replace("conv: 2", "conv: {time: 0..1}")), None),
    ],
)
def test_a_stored_spec_is_read_as_strictly_as_any(
    folder: Path, change: Callable[[dict[str, Any]], object], code: str | None
) -> None:
    saved(folder / "model.safetensors")
    stored(change)
    with pytest.raises(SpecError) as failure:
        arspec.load("model.safetensors")
    codes = [found.code for found in failure.value.diagnostics]
    assert code is None or code in codes, codes


def test_a_huge_stored_spec_is_refused_before_memory_is_spent(folder: Path) -> None:
    saved(folder / "model.safetensors")
    header = weights.read_header("model.safetensors")
    assert header.origin is not None
    from arspec import compiler
    from arspec.origin import origin_of

    huge = origin_of(compiler.analyse("tiny.yaml", {"width": 4_000_000}))
    save_file(load_file("model.safetensors"), "model.safetensors", metadata=huge.to_metadata())
    code, report = refused(lambda: arspec.load("model.safetensors"))
    assert code == "AR607"
    assert "(4000000, 16, 2) in the model" in report


def garbage(path: Path) -> dict[str, bytes]:
    """Files that are not what they should be."""
    good = path.read_bytes()
    torch.save({"a": torch.zeros(3)}, "pickle.pt")
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 99]}}).encode()
    return {
        "empty": b"",
        "short": good[:5],
        "cut header": good[:60],
        "cut data": good[:-4],
        "longer": good + b"1234",
        "noise": os.urandom(500),
        "pickle": Path("pickle.pt").read_bytes(),
        "old pickle": pickle.dumps({"a": 1}),
        "text": SPEC.encode(),
        "huge header": struct.pack("<Q", 2**62) + b"{}",
        "wrong offsets": struct.pack("<Q", len(header)) + header + b"\0" * 8,
        "no header": struct.pack("<Q", 2) + b"[]",
    }


def test_what_is_no_weights_file_is_refused(folder: Path) -> None:
    saved(folder / "model.safetensors")
    for what, data in garbage(folder / "model.safetensors").items():
        (folder / "bad.safetensors").write_bytes(data)
        code, report = refused(lambda: arspec.load("bad.safetensors"))
        assert code == "AR606", what
        assert ("it is a pickle" in report) == ("pickle" in what), what
    for name in ("none.safetensors", ".", "a\0b", ""):
        assert refused(lambda name=name: arspec.load(name))[0] == "AR606"


def test_every_cut_and_every_flipped_byte_is_an_error_or_fine(folder: Path) -> None:
    saved(folder / "model.safetensors", width=1)
    good = Path("model.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", good[:8])[0]
    changed = [good[:n] for n in range(0, len(good), 97)]
    changed += [good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :] for n in range(0, header, 23)]
    for data in changed:
        (folder / "bad.safetensors").write_bytes(data)
        with contextlib.suppress(SpecError):
            arspec.load("bad.safetensors")


def test_a_file_without_a_spec_says_how_to_use_it(folder: Path) -> None:
    save_file(arspec.build("tiny.yaml").state_dict(), "model.safetensors")
    assert refused(lambda: arspec.load("model.safetensors"))[0] == "AR608"


def test_nothing_is_ever_unpickled() -> None:
    root = Path(weights.__file__).parent
    for path in [root / "weights.py", root / "origin.py", *(root / "sampling").glob("*.py")]:
        text = path.read_text()
        assert "torch.load" not in text.replace("save_file(torch.load(...), FILE)", "")
        assert "allow_pickle=True" not in text
        assert "import pickle" not in text


def test_random_parameters_are_kept_exactly(folder: Path) -> None:
    model = arspec.build("tiny.yaml")
    randomise(model, 7)
    arspec.save(model, "model.safetensors")
    for name, tensor in arspec.load("model.safetensors").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
