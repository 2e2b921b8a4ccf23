"""`arspec sample`: what it writes for which variable, and that every wrong input is an error."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import arspec as package
from arspec import cli
from arspec.sampling import formats, png, progress, run

IMAGE = """\
name: image
params: {levels: 4, channels: 1, width: 6}
variables:
  picture: {levels: levels, axes: [row, col], channels: channels}
  label:   {classes: 3}
generate: picture
network:
  stem: {conv: 3, to: width, given: label}
  out:  [relu, {linear: 8}, relu]
head: categorical
"""
COLOURS = IMAGE.replace("generate: picture", "generate: picture\norder: [row, col, channel]")
AUDIO = """\
name: audio
variables:
  sound: {classes: 256, axes: [time], codec: mu_law}
  style: {features: 2}
  pitch: {features: 1, axes: [time / 10], known: all}
generate: sound
network:
  stem: {conv: 2, to: 8, given: [style, pitch]}
head: categorical
"""
PLAIN_AUDIO = """\
name: plain
variables:
  sound: {classes: 256, axes: [time], codec: mu_law}
generate: sound
network:
  stem: {conv: 2, to: 8}
head: categorical
"""
TEXT = """\
name: text
params: {context: 40}
variables:
  text: {classes: 257, axes: [time], codec: bytes, end: 256}
generate: text
network:
  place: {embed: 8, of: time, size: context}
  stem:  {embed: 8, of: text(time - 1)}
  out:   stem + place
head: categorical
"""
SERIES = """\
name: series
variables:
  values: {features: 2, axes: [time]}
generate: values
network:
  stem: {conv: 2, to: 4}
head: gaussian
"""
LEAK = SERIES.replace("conv: 2", "conv: {time: -1..1}").replace("name: series", "name: leak")
SPECS = {
    "image": IMAGE, "colours": COLOURS, "audio": AUDIO, "plain": PLAIN_AUDIO,
    "text": TEXT, "series": SERIES, "leak": LEAK,
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str
    raw: bytes


Run = Callable[..., Result]


@pytest.fixture
def sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Run:
    """Run `arspec sample ...` in a directory that holds the specs above."""
    monkeypatch.chdir(tmp_path)
    for name, text in SPECS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    np.save("pitch.npy", np.zeros((1, 5), np.float32))

    def sample(line: str) -> Result:
        capfdbinary.readouterr()
        status = cli.run(["sample", *line.split()])
        printed = capfdbinary.readouterr()
        out, err = printed.out.decode(errors="replace"), printed.err.decode()
        assert "Traceback" not in err
        assert "internal error" not in err
        assert not [name for name in os.listdir() if name.endswith(".tmp")]
        return Result(status, out, err, printed.out)

    return sample


def fine(result: Result) -> Result:
    assert result.status == 0, result.err
    return result


# --- what is written ------------------------------------------------------------------


def test_images_become_one_picture_in_a_grid(sample: Run) -> None:
    result = fine(sample("image.yaml --given label=1 -n 5 --shape 6x4 --seed 1"))
    assert "wrote  image.png" in result.out
    fine(sample("image.yaml --given label=1 -n 5 --shape 6x4 --seed 1 -o image.npy"))
    with Image.open("image.png") as picture:
        assert (picture.mode, picture.size) == ("L", (3 * 6 + 2, 2 * 8 + 2))
        pixels = np.asarray(picture)
    x = np.load("image.npy")
    assert x.shape == (5, 6, 4)
    assert x.dtype == np.int64
    assert len(np.unique(x)) == 4
    assert (pixels[2:8, 2:6] == x[0] * 85).all()
    assert (pixels[10:16, 8:12] == x[4] * 85).all()
    assert (pixels[10:16, 14:18] == png.GAP_COLOUR).all()


def test_one_image_is_the_picture_itself_in_colours(sample: Run) -> None:
    common = "colours.yaml --set channels=3 --given label=1 --shape 6x4 --seed 1"
    fine(sample(f"{common} -o a.png"))
    fine(sample(f"{common} -o a.npy"))
    with Image.open("a.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (4, 6))
        assert (np.asarray(picture) == np.moveaxis(np.load("a.npy")[0], 0, -1) * 85).all()


def test_audio_goes_through_its_codec(sample: Run) -> None:
    fine(sample("plain.yaml -n 3 --shape 50 --rate 8000 --seed 1 -o sound.wav"))
    fine(sample("plain.yaml -n 3 --shape 50 --seed 1 -o sound.npy"))
    x = torch.from_numpy(np.load("sound.npy"))
    model = package.build("plain.yaml")
    for i, row in enumerate(x):
        with wave.open(f"sound-{i}.wav") as file:
            assert file.getparams()[:4] == (1, 2, 8000, 50)
            heard = np.frombuffer(file.readframes(50), "<i2")
        assert np.abs(heard / 32767 - model.decode(row).numpy()).max() < 1e-4
    fine(sample("plain.yaml --shape 50"))
    with wave.open("plain.wav") as file:
        assert file.getframerate() == 16_000


def test_text_ends_at_its_end_mark(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written = torch.tensor([[*b"one", 256, 7, 7], [*b"two \xff", 65]])
    monkeypatch.setattr(run, "_draw", lambda *_: written)
    fine(sample("text.yaml -n 2 --shape 6"))
    assert Path("text.txt").read_bytes() == (
        b"=== sample 0 ===\none\n\n=== sample 1 ===\ntwo \xffA\n"
    )
    monkeypatch.setattr(run, "_draw", lambda *_: written[1:])
    assert fine(sample("text.yaml --shape 6 -o -")).raw == b"two \xffA"


def test_everything_else_is_an_array(sample: Run) -> None:
    fine(sample("series.yaml -n 3 --shape 7 --seed 2"))
    x = np.load("series.npy")
    assert x.shape == (3, 2, 7)
    assert x.dtype == np.float32
    result = fine(sample("series.yaml -n 3 --shape 7 --seed 2 -o -"))
    assert np.array_equal(np.load(io.BytesIO(result.raw)), x)


@pytest.mark.parametrize(
    ("output", "written"),
    [("out", "out.npy"), ("out.NPY", "out.NPY"), ("x.y --format npy", "x.y"), ("", "series.npy")],
)
def test_the_name_of_the_output(sample: Run, output: str, written: str) -> None:
    fine(sample(f"series.yaml --shape 3 {'-o ' + output if output else ''}"))
    assert np.load(written).shape == (1, 2, 3)


def test_an_earlier_output_is_replaced(sample: Run) -> None:
    Path("series.npy").write_bytes(b"old")
    fine(sample("series.yaml --shape 3"))
    assert np.load("series.npy").shape == (1, 2, 3)


# --- what it is drawn from ------------------------------------------------------------


def test_without_weights_it_says_that_parameters_are_random(sample: Run) -> None:
    assert "AR903" in fine(sample("series.yaml --shape 3")).err


def test_a_saved_model_needs_nothing_else(sample: Run) -> None:
    model = package.build("image.yaml", levels=2, width=3)
    package.save(model, "model.safetensors")
    Path("image.yaml").unlink()
    result = fine(sample("model.safetensors --given label=2 --shape 5x5 --seed 4 -o a.npy"))
    assert result.err == ""
    drawn = model.sample(
        1, shape=(5, 5), label=torch.tensor([2]), generator=torch.Generator().manual_seed(4)
    )
    assert np.array_equal(np.load("a.npy"), drawn.numpy())


def test_weights_of_any_origin_fit_by_name(sample: Run) -> None:
    model = package.build("series.yaml")
    save_file(model.state_dict(), "bare.safetensors")
    fine(sample("series.yaml --weights bare.safetensors --shape 5 --seed 4 -o a.npy"))
    drawn = model.sample(1, shape=(5,), generator=torch.Generator().manual_seed(4))
    assert np.array_equal(np.load("a.npy"), drawn.numpy())
    package.save(model, "saved.safetensors")
    assert fine(sample("series.yaml --weights saved.safetensors --shape 5")).err == ""
    Path("series.yaml").write_text(SERIES.replace("{conv: 2, to: 4}", "[{conv: 2, to: 4}]"))
    other = sample("series.yaml --weights saved.safetensors --shape 5")
    assert "AR607" in other.err
    assert "their file holds it" in other.err
    Path("series.yaml").write_text(SERIES.replace("generate:", "paper: changed\ngenerate:"))
    assert "AR904" in fine(sample("series.yaml --weights saved.safetensors --shape 5")).err


def test_the_same_seed_draws_the_same_and_is_printed(sample: Run) -> None:
    first = fine(sample("plain.yaml --shape 30 -o a.npy"))
    seed = first.out.split("seed")[1].split()[0]
    fine(sample(f"plain.yaml --shape 30 --seed {seed} -o b.npy"))
    fine(sample(f"plain.yaml --shape 30 --seed {int(seed) + 1} -o c.npy"))
    assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
    assert not np.array_equal(np.load("a.npy"), np.load("c.npy"))


def test_controls_reach_the_sampler(sample: Run) -> None:
    for control in ("--top-k 1", "--temperature 0", "--top-p 1e-9"):
        fine(sample(f"plain.yaml --shape 30 --seed 1 -n 2 {control} -o a.npy"))
        first, second = np.load("a.npy")
        assert np.array_equal(first, second), control


class Sampler:
    """Looks like a model, and remembers how it was called."""

    def sample(
        self,
        batch: int,
        *,
        shape: Any,
        compile: bool = False,  # noqa: A002, as in a compiled model
        min_length: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        self.called = {**locals()}
        return torch.zeros(batch, *shape, dtype=torch.long)


def test_later_controls_are_passed_to_samplers_that_take_them(
    sample: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Sampler()
    monkeypatch.setattr(run, "_model", lambda *_: model)
    monkeypatch.setattr(run, "bar", lambda _: contextlib.nullcontext(lambda *_: None))
    fine(sample("text.yaml --compile --min-length 3 --max-length 9 -o a.npy"))
    assert model.called["compile"] is True
    assert model.called["min_length"] == 3
    assert model.called["shape"] == (9,)
    assert model.called["progress"] is not None


def test_a_sampler_that_lacks_a_control_refuses_it(
    sample: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only(self: object, batch: int, *, shape: Any, generator: Any, temperature: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(run, "_model", lambda *_: SimpleNamespace(sample=only.__get__(0)))
    for option in ("--compile", "--min-length 3", "--top-k 2", "--top-p 0.5"):
        result = sample(f"text.yaml {option}")
        assert result.status == 2
        assert "AR617" in result.err
        assert option.split()[0] in result.err


# --- conditions, prompts, masks -------------------------------------------------------


def drawn_with(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the model's `sample` is called with, instead of a call."""
    called: dict[str, Any] = {}

    def draw(model: Any, planned: Any, *_: object) -> torch.Tensor:
        called.update(planned.conditions, batch=planned.batch, shape=planned.shape)
        channels = (planned.target.channels,) if planned.target.channels > 1 else ()
        return torch.zeros(planned.batch, *channels, *planned.shape, dtype=torch.long)

    monkeypatch.setattr(run, "_draw", draw)
    return called


def test_conditions_from_the_line_and_from_files(
    sample: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = drawn_with(monkeypatch)
    fine(sample("audio.yaml --given style=0.5,-1e-1 --given pitch=pitch.npy"))
    assert (called["batch"], called["shape"]) == (1, (50,))
    assert called["style"].array.tolist() == [[0.5, np.float32(-0.1)]]
    np.save("pitch.npy", np.zeros(5))
    np.save("styles.npy", np.zeros((4, 2), np.float16))
    fine(sample("audio.yaml --given style=styles.npy --given pitch=pitch.npy --shape 41"))
    assert (called["batch"], called["shape"]) == (4, (41,))
    assert called["pitch"].array.shape == (1, 1, 5)
    fine(sample("image.yaml --given label=0,2,1 --shape 2x2"))
    assert called["batch"] == 3
    assert called["label"].array.tolist() == [0, 2, 1]


def test_a_table_of_positions_says_the_shape(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called = drawn_with(monkeypatch)
    fine(sample("text.yaml --set context=12"))
    assert called["shape"] == (12,)


def test_a_greatest_length_bounds_the_shape(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called = drawn_with(monkeypatch)
    for line, length in (("", 9), ("--shape 7", 7), ("--shape 30", 9)):
        fine(sample(f"plain.yaml --max-length 9 {line}"))
        assert called["shape"] == (length,)


def test_a_prompt_is_how_every_sample_begins(sample: Run) -> None:
    Path("begin.md").write_bytes("Öl".encode())
    fine(sample("text.yaml --prompt begin.md -n 2 --shape 9 -o a.npy"))
    assert np.load("a.npy")[:, :3].tolist() == [[0xC3, 0x96, 0x6C]] * 2
    np.save("rows.npy", np.array([[1, 2], [3, 4]], np.uint8))
    fine(sample("text.yaml --prompt rows.npy --shape 9 -o a.npy"))
    assert np.load("a.npy")[:, :2].tolist() == [[1, 2], [3, 4]]


def test_a_wav_is_encoded_and_gives_the_rate(sample: Run) -> None:
    fine(sample("plain.yaml --shape 40 --rate 22050 --seed 3 -o a.wav"))
    fine(sample("plain.yaml --prompt a.wav --shape 60 --seed 5 -o b.wav"))
    with wave.open("a.wav") as first, wave.open("b.wav") as second:
        assert second.getframerate() == 22_050
        assert first.readframes(40) == second.readframes(40)
    result = sample("plain.yaml --prompt a.wav --shape 60 --rate 8000")
    assert result.status == 2
    assert "22050 samples a second" in result.err


def test_inpainting_keeps_what_was_observed(sample: Run) -> None:
    known = np.random.default_rng(0).integers(4, size=(6, 4))
    Image.fromarray((known * 85).astype(np.uint8)).save("known.png")
    mask = np.zeros((6, 4), np.uint8)
    mask[1:3] = 255
    Image.fromarray(mask).save("mask.png")
    fine(sample("image.yaml --given label=0 --prompt known.png --observed mask.png -n 9 -o a.npy"))
    x = np.load("a.npy")
    assert x.shape == (9, 6, 4)
    assert (x[:, 1:3] == known[1:3]).all()
    assert (x != known).any()
    np.save("mask.npy", mask > 0)
    colours = np.stack([known] * 3)
    np.save("known.npy", colours)
    common = "colours.yaml --set channels=3 --given label=0 --prompt known.npy"
    fine(sample(f"{common} --observed mask.npy -o a.npy"))
    assert (np.load("a.npy")[0, :, 1:3] == colours[:, 1:3]).all()


def test_a_picture_prompt_is_the_first_rows(sample: Run) -> None:
    known = np.random.default_rng(0).integers(4, size=(2, 4))
    Image.fromarray((known * 85).astype(np.uint8)).convert("RGBA").save("known.png")
    fine(sample("image.yaml --given label=0 --prompt known.png --shape 6x4 -o a.npy"))
    assert (np.load("a.npy")[0, :2] == known).all()


# --- what is refused: status 2, a code, nothing written -------------------------------


def make_wrong_inputs() -> None:
    """Files that fit nothing."""
    Path("note.txt").write_text("0.5")
    Path("empty.npy").touch()
    Path("noise.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xffnoise")
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    whole = io.BytesIO()
    np.save(whole, np.zeros((1, 50)))
    Path("cut.npy").write_bytes(whole.getvalue()[:-9])
    np.savez("zip.npy", a=np.zeros(3))
    Path("zip.npy.npz").rename("zip.npy")
    huge = whole.getvalue().replace(b"(1, 50), }       ", b"(9, 9999999999)} ")
    assert len(huge) == len(whole.getvalue())
    Path("huge.npy").write_bytes(huge)
    np.save("nan.npy", np.full((1, 5), np.nan))
    np.save("text.npy", np.array(["a", "b"]))
    np.save("short.npy", np.zeros((1, 4)))
    np.save("wide.npy", np.zeros((3, 5)))
    np.save("rows.npy", np.zeros((3, 1, 5)))
    np.save("none.npy", np.zeros((0, 1, 5)))
    np.save("symbols.npy", np.arange(5))
    np.save("real.npy", np.zeros(5))
    np.save("high.npy", np.full(5, 256))
    np.save("deep.npy", np.zeros((1, 2, 3, 4), int))
    np.save("square.npy", np.zeros((4, 4), int))
    np.save("ones.npy", np.ones((4, 4), bool))
    np.save("zeros.npy", np.zeros((4, 4), bool))
    np.save("twos.npy", np.full((4, 4), 2))
    Path("bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnoise")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save("deep.png")
    Path("bad.wav").write_bytes(b"RIFF1234WAVEnoise")
    with wave.open("stereo.wav", "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(40))
    with wave.open("bits24.wav", "wb") as file:
        file.setparams((1, 3, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(30))


AUDIO_LINE = "audio.yaml --given style=0,0 --given pitch="
IMAGE_LINE = "image.yaml --given label=0"
WRONG = [
    # conditions
    ("image.yaml --shape 4x4", "AR614", "3 classes"),
    ("image.yaml --given lable=1 --shape 4x4", "AR615", "did you mean `label`?"),
    ("series.yaml --given label=1 --shape 4", "AR615", "it has none"),
    ("image.yaml --given label=3 --shape 4x4", "AR613", "3 is not in 0 .. 2"),
    ("image.yaml --given label=-1 --shape 4x4", "AR613", "-1 is not in"),
    ("image.yaml --given label=1.5 --shape 4x4", "AR613", "whole numbers"),
    ("image.yaml --given label=two --shape 4x4", "AR612", "no such file"),
    ("image.yaml --given label=nan --shape 4x4", "AR612", "no such file"),
    ("image.yaml --given label=0,1 -n 3 --shape 4x4", "AR613", "2 rows, and 3"),
    ("image.yaml --given label=99999999999999999999 --shape 4x4", "AR613", "whole numbers"),
    ("audio.yaml --given style=1 --given pitch=pitch.npy", "AR613", "expected (2)"),
    ("audio.yaml --given style=1e999,0 --given pitch=pitch.npy", "AR613", "infinities"),
    (AUDIO_LINE + "none", "AR612", "no such file"),
    (AUDIO_LINE + ".", "AR612", "given as"),
    (AUDIO_LINE + "folder.npy", "AR612", "it is a directory"),
    (AUDIO_LINE + "note.txt", "AR612", "1 features along time / 10"),
    (AUDIO_LINE + "missing.npy", "AR612", "no such file"),
    (AUDIO_LINE + "empty.npy", "AR612", ""),
    (AUDIO_LINE + "noise.npy", "AR612", ""),
    (AUDIO_LINE + "objects.npy", "AR612", ""),
    (AUDIO_LINE + "cut.npy", "AR612", ""),
    (AUDIO_LINE + "zip.npy", "AR612", ""),
    (AUDIO_LINE + "huge.npy", "AR612", ""),
    (AUDIO_LINE + "nan.npy", "AR613", "not-a-number"),
    (AUDIO_LINE + "text.npy", "AR613", "real numbers"),
    (AUDIO_LINE + "wide.npy", "AR613", "(1, time / 10)"),
    (AUDIO_LINE + "none.npy", "AR613", "no rows"),
    (AUDIO_LINE + "short.npy --shape 50", "AR613", "covers 40 positions"),
    (AUDIO_LINE + "rows.npy -n 2", "AR613", "3 rows"),
    (AUDIO_LINE + "pitch.npy -o pitch.npy", "AR621", "pitch.npy"),
    # shapes
    ("series.yaml", "AR616", "--shape 1000"),
    (IMAGE_LINE, "AR616", "--shape 28x28"),
    (IMAGE_LINE + " --shape 4", "AR616", "row, col"),
    ("text.yaml --shape 41", "AR616", "40 positions"),
    ("text.yaml --shape 41x2", "AR616", ""),
    ("text.yaml --max-length 41", "AR616", "40 positions"),
    (IMAGE_LINE + " --shape 1000x1000 -n 1000", "AR616", "numbers"),
    # prompts and masks
    ("plain.yaml --prompt symbols.npy", "AR616", ""),
    ("plain.yaml --prompt symbols.npy --shape 5", "AR613", "nothing is left"),
    ("plain.yaml --prompt symbols.npy --shape 3", "AR613", "5 of 3"),
    ("plain.yaml --prompt real.npy --shape 9", "AR613", "whole numbers"),
    ("plain.yaml --prompt high.npy --shape 9", "AR613", "256 is not in"),
    ("plain.yaml --prompt deep.npy --shape 9", "AR613", "got the shape (1, 2, 3, 4)"),
    ("plain.yaml --prompt bad.wav --shape 9", "AR612", ""),
    ("plain.yaml --prompt stereo.wav --shape 99", "AR613", "it has 2 channels"),
    ("plain.yaml --prompt bits24.wav --shape 99", "AR612", "24 bits"),
    ("plain.yaml --prompt note.txt --shape 99", "AR612", ".wav"),
    (IMAGE_LINE + " --prompt bad.png --shape 4x4", "AR612", ""),
    (IMAGE_LINE + " --prompt deep.png --shape 8x4", "AR612", "8 bits"),
    (IMAGE_LINE + " --prompt square.npy --shape 9x9", "AR613", "the first rows"),
    (IMAGE_LINE + " --observed zeros.npy --shape 4x4", "AR617", "--prompt"),
    (IMAGE_LINE + " --prompt square.npy --observed ones.npy", "AR613", "nothing is left"),
    (IMAGE_LINE + " --prompt square.npy --observed twos.npy", "AR613", "truth values"),
    (IMAGE_LINE + " --prompt square.npy --observed symbols.npy", "AR613", "truth values"),
    (IMAGE_LINE + " --prompt square.npy --observed note.txt", "AR612", ".png"),
    (IMAGE_LINE + " --prompt square.npy --observed zeros.npy --shape 5x4", "AR613", "5x4"),
    # formats and outputs
    ("series.yaml --shape 4 -o a.png", "AR618", "no image"),
    ("series.yaml --shape 4 -o a.txt", "AR618", "codec: bytes"),
    ("series.yaml --shape 4 -o a.jpg", "AR618", ".png, .wav"),
    ("image.yaml --given label=0 --shape 4x4 --format wav", "AR618", "axes row, col"),
    ("text.yaml --format wav", "AR618", "mu_law"),
    ("plain.yaml --shape 9 -n 2 -o -", "AR618", "one sample"),
    ("series.yaml --shape 4 -o missing/a.npy", "AR605", "no such file"),
    ("series.yaml --shape 4 -o folder.npy", "AR605", "directory"),
    ("series.yaml --shape 4 -o note.txt/a.npy", "AR605", ""),
    ("series.yaml --shape 4 -o series.yaml --format npy", "AR621", ""),
    ("series.yaml --shape 4 --rate 8000", "AR617", "npy, not wav"),
    # controls
    ("series.yaml --shape 4 --top-k 3", "AR617", "--top-k"),
    ("plain.yaml --shape 4 --min-length 3", "AR617", "no `end`"),
    (IMAGE_LINE + " --shape 4x4 --max-length 3", "AR617", "several axes"),
    ("plain.yaml --shape 4 --device tpu9", "AR620", "tpu9"),
    ("plain.yaml --shape 4 --device meta", "AR620", "meta"),
    # weights
    ("plain.yaml --shape 4 --weights none.safetensors", "AR606", "no such file"),
    ("plain.yaml --shape 4 --weights note.txt", "AR606", ""),
    ("plain.yaml --shape 4 --weights folder.npy", "AR606", "directory"),
    ("note.safetensors --shape 4", "AR606", ""),
    ("plain.yaml --shape 4 --weights series.safetensors", "AR607", "`stem.weight`"),
    ("series.safetensors --shape 4 --set a=1", "AR617", "--set"),
    ("series.safetensors --shape 4 --weights series.safetensors", "AR617", "--weights"),
    ("bare.safetensors --shape 4", "AR608", ""),
    ("nan.safetensors --shape 4", "AR611", "`stem.bias`"),
    # the spec
    ("none.yaml --shape 4", "AR602", ""),
    ("wavnet --shape 4", "AR601", ""),
    ("series.yaml --shape 4 --set widht=3", "AR122", ""),
]


@pytest.fixture(scope="module")
def wrong_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    with contextlib.chdir(folder):
        make_wrong_inputs()
        (folder / "folder.npy").mkdir()
        (folder / "note.safetensors").write_text("note")
        (folder / "series.yaml").write_text(SERIES)
        model = package.build("series.yaml")
        package.save(model, "series.safetensors")
        save_file(model.state_dict(), "bare.safetensors")
        model.stem.bias.data[1] = torch.nan
        package.save(model, "nan.safetensors")
    return folder


@pytest.mark.parametrize(("line", "code", "words"), WRONG)
def test_a_wrong_input_is_an_error_with_a_code(
    sample: Run, wrong_inputs: Path, line: str, code: str, words: str
) -> None:
    for path in wrong_inputs.iterdir():
        with contextlib.suppress(FileExistsError):
            Path(path.name).symlink_to(path)
    before = sorted(os.listdir())
    result = sample(line)
    assert result.status == 2
    assert f"error[{code}]" in result.err
    assert words in result.err
    assert result.out == ""
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        "",
        "series.yaml --shape 0",
        "series.yaml --shape 4xx4",
        "series.yaml --shape 99999999",
        "series.yaml --shape 4 -n 0",
        "series.yaml --shape 4 -n many",
        "series.yaml --shape 4 --format jpg",
        "series.yaml --shape 4 --temperature -1",
        "series.yaml --shape 4 --temperature nan",
        "series.yaml --shape 4 --temperature inf",
        "plain.yaml --shape 4 --top-p 0",
        "plain.yaml --shape 4 --top-p nan",
        "plain.yaml --shape 4 --top-p 1.5",
        "plain.yaml --shape 4 --top-k 0",
        "plain.yaml --shape 4 --seed -1",
        "plain.yaml --shape 4 --seed 99999999999999999999999",
        "plain.yaml --shape 4 --rate 0",
        "image.yaml --shape 4x4 --given label",
        "image.yaml --shape 4x4 --given label=1 --given label=2",
    ],
)
def test_wrong_usage(sample: Run, line: str) -> None:
    result = sample(line)
    assert result.status == 2
    assert result.err
    assert result.out == ""


def test_a_leak_is_exit_status_1(sample: Run) -> None:
    result = sample("leak.yaml --shape 4")
    assert result.status == 1
    assert "AR201" in result.err


def test_what_stops_torch_is_an_error(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("can't allocate memory: " + "you tried " * 30)

    monkeypatch.setattr(run, "_draw", full)
    result = sample("series.yaml --shape 4")
    assert result.status == 2
    assert "error[AR619]: sampling failed: can't allocate memory" in result.err
    assert not Path("series.npy").exists()


def test_samples_that_are_not_finite_are_not_written(sample: Run) -> None:
    model = package.build("series.yaml")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3e38)
    package.save(model, "wild.safetensors")
    result = sample("wild.safetensors --shape 4")
    assert result.status == 2
    assert "not finite" in result.err


def test_without_pillow_a_picture_is_refused_kindly(
    sample: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").touch()
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    result = sample(IMAGE_LINE + " --prompt a.png --shape 9x9")
    assert result.status == 2
    assert "pip install pillow" in result.err


# --- interrupts and terminals ---------------------------------------------------------

TOLD = """
import sys
from arspec import cli
from arspec.sampling import run
bar = run.bar
def told(description):
    print("drawing", flush=True)
    return bar(description)
run.bar = told
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(PLAIN_AUDIO)
    root = str(Path(cli.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", TOLD, "sample", "plain.yaml", "--shape", "200000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "drawing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")
    assert os.listdir(tmp_path) == ["plain.yaml"]


def test_ctrl_c_while_writing_leaves_whole_files_only(
    sample: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, count = os.replace, iter(range(9))

    def interrupted(*paths: Any) -> None:
        if next(count) == 1:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    result = sample("plain.yaml -n 3 --shape 20 -o a.wav")
    assert result.status == 130
    assert [name for name in os.listdir() if name.startswith((".a", "a-"))] == ["a-0.wav"]
    with wave.open("a-0.wav") as file:
        assert file.getnframes() == 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_steps_and_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress.bar("drawing") as report:
        assert report is not None
        for done in range(1, 41):
            report(done, 40)
            time.sleep(0.01)
    assert "drawing" in screen.getvalue()
    assert "/40" in screen.getvalue()
    assert "0:00:0" in screen.getvalue()


def test_there_is_no_bar_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.bar("drawing") as report:
        assert report is None


def test_text_cannot_steer_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    run._print(b"a\x1b[2Jb\nc\xff\x00")
    assert screen.getvalue() == "a\\x1b[2Jb\nc\\xff\\x00\n"


# --- small facts ----------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_read_as_it_was_written(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(1).integers(256, size=(7, 5, channels)).astype(np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(png.encode(pixels))
    read = png.read(str(path), channels)
    assert np.array_equal(read, pixels[..., 0] if channels == 1 else np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize(
    ("n", "across", "down"), [(2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (16, 4, 4)]
)
def test_the_grid_is_nearly_square(n: int, across: int, down: int) -> None:
    sheet = png.grid(np.zeros((n, 10, 20, 3), np.uint8))
    assert sheet.shape == (down * 12 + 2, across * 22 + 2, 3)


def test_several_waves_sort_by_their_number() -> None:
    target: Any = SimpleNamespace(name="x", codec="mu_law")
    made = formats.paths(target, "wav", "dir.d/out.wav", 11)
    assert made[:2] == ("dir.d/out-00.wav", "dir.d/out-01.wav")
    assert list(made) == sorted(made)


def test_the_command_line_offers_every_control_of_the_sampler(sample: Run) -> None:
    takes = set(inspect.signature(package.build("text.yaml").sample).parameters)
    own = {"batch", "shape", "prompt", "observed", "generator", "progress"}
    offered = {parameter.name for parameter in cli.cli.commands["sample"].params}
    assert takes - own <= {name.rstrip("_") if name else "" for name in offered}


def test_weights_keep_their_dtype(sample: Run) -> None:
    package.save(package.build("series.yaml").double(), "double.safetensors")
    fine(sample("double.safetensors --shape 3 -o a.npy"))
    assert np.load("a.npy").dtype == np.float64
    assert {t.dtype for t in load_file("double.safetensors").values()} == {torch.float64}
