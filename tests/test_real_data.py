"""Real data: `log_prob` equals an independent computation, and meets numbers known from elsewhere.

The data lies beside the checkout, in ``shared/data``; where it does not, these tests are skipped.
The independent computations take a model's weights and nothing else of it: numpy, loops, and the
definitions in the papers.
"""

from __future__ import annotations

import csv
import io
import math
import tarfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shipped import SMALL
from torch import Tensor, nn

import arspec
from arspec.measure import randomise

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no shared/data beside the checkout")

Array = np.ndarray[Any, Any]


def compiled(spec: Any, **params: Any) -> nn.Module:
    model = arspec.build(spec, **params).double().eval()
    randomise(model, 17)
    return model


def weights(model: nn.Module) -> dict[str, Array]:
    return {key: value.detach().numpy() for key, value in model.state_dict().items()}


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def affine(x: Array, w: dict[str, Array], name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", np.zeros(1))


# ------------------------------------------------------------------------------------------ audio


def spoken_digit(length: int) -> Array:
    """The loudest stretch of a recording, 8 kHz, in [-1, 1]."""
    with tarfile.open(DATA / "audio" / "fsdd_idx0-9_600wav.tar.gz") as archive:
        file = archive.extractfile("7_jackson_3.wav")
        assert file is not None
        with wave.open(io.BytesIO(file.read())) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2") / 2**15
    start = max(int(np.abs(samples).argmax()) - length // 2, 0)
    return np.asarray(samples[start : start + length])


def mu_law(audio: Array) -> Array:
    """ITU-T G.711 as in section 2.2 of the WaveNet paper, to the nearest of 256 values."""
    companded = np.sign(audio) * np.log(1 + 255 * np.abs(audio)) / np.log(256)
    return np.asarray(np.rint((companded + 1) / 2 * 255).astype(int))


def wavenet_logits(w: dict[str, Array], audio: Array, speaker: int, mel: Array) -> Array:
    """(T,) and (features, frames) -> (T, 256): the published stack, tap by tap."""

    def tap(x: Array, back: int) -> Array:
        return np.concatenate([np.zeros((min(back, len(x)), x.shape[1])), x])[: len(x)]

    def conv(x: Array, name: str, backs: list[int]) -> Array:
        taps = w[f"{name}.weight"]
        total = sum(tap(x, back) @ taps[:, :, k].T for k, back in enumerate(backs))
        return np.asarray(total + w[f"{name}.bias"])

    frames = mel.T[np.arange(len(audio)) // 256]
    x = conv(np.eye(256)[audio], "stem", [2, 1])
    skips = np.zeros(1)
    for i in range(30):
        name, dilation = f"layers.{i}", 2 ** (i % 10)
        both = conv(x, f"{name}.filter_gate", [dilation, 0])
        both = both + affine(np.eye(109)[speaker], w, f"{name}.filter_gate_speaker")
        both = both + affine(frames, w, f"{name}.filter_gate_mel")
        half = both.shape[1] // 2
        z = np.tanh(both[:, :half]) * sigmoid(both[:, half:])
        skips = skips + affine(z, w, f"{name}.skip")
        x = x + affine(z, w, f"{name}.dense")
    return affine(relu(affine(relu(skips), w, "out.1")), w, "head")


def test_wavenet_on_speech() -> None:
    """The shipped spec with its 30 layers, only narrower, on more than its receptive field."""
    length = 3200
    model = compiled("wavenet", width=3, skip_width=4)
    audio = spoken_digit(length)
    assert len(audio) == length
    symbols = mu_law(audio)
    assert len(set(symbols.tolist())) > 100
    encoded = model.encode(torch.from_numpy(audio.copy()))  # type: ignore[operator]
    assert encoded.tolist() == symbols.tolist()
    mel = np.random.default_rng(0).normal(size=(80, math.ceil(length / 256)))
    log_p = log_softmax(wavenet_logits(weights(model), symbols, 41, mel))
    expected = log_p[np.arange(length), symbols]
    with torch.no_grad():
        each = model.log_prob(  # type: ignore[operator]
            encoded[None],
            speaker=torch.tensor([41]),
            mel=torch.from_numpy(mel)[None],
            reduce=False,
        )
    np.testing.assert_allclose(each[0].numpy(), expected, rtol=1e-9, atol=1e-9)


# ----------------------------------------------------------------------------------------- images


def groups(features: int, copies: int = 1) -> Array:
    """Red, green, blue: contiguous and as equal as possible, the larger groups first."""
    sizes = [features // 3 + (c < features % 3) for c in range(3)]
    return np.tile(np.repeat(np.arange(3), sizes), copies)


def pixel_linear(
    x: Array, w: dict[str, Array], name: str, copies: tuple[int, int] = (1, 1)
) -> Array:
    """A pointwise map whose output features see the channel groups up to their own."""
    weight = w[f"{name}.weight"]
    out, into = groups(weight.shape[0] // copies[0], copies[0]), groups(weight.shape[1])
    return np.asarray(x @ (weight * (into <= out[:, None])).T + w[f"{name}.bias"])


def pixel_conv(
    x: Array,
    w: dict[str, Array],
    name: str,
    taps: list[tuple[int, int]],
    mask: str | None,
    copies: int = 1,
) -> Array:
    """(H, W, C): the sum over taps (row, column); `mask` rules the channels at (0, 0).

    The weight holds the box around the taps, its last row the lowest one.
    """
    weight = w[f"{name}.weight"]
    top, left = min(r for r, _ in taps), min(c for _, c in taps)
    height, width, _ = x.shape
    total = np.zeros((height, width, weight.shape[0])) + w[f"{name}.bias"]
    out, into = groups(weight.shape[0] // copies, copies)[:, None], groups(weight.shape[1])
    for row, col in taps:
        tap = weight[:, :, row - top, col - left]
        if (row, col) == (0, 0) and mask is not None:
            tap = tap * ((into < out) if mask == "A" else (into <= out))
        for r in range(max(0, -row), height + min(0, -row)):
            for c in range(max(0, -col), width + min(0, -col)):
                total[r, c] += tap @ x[r + row, c + col]
    return total


def square(size: int) -> list[tuple[int, int]]:
    """The taps of a masked square: the rows above, and this one up to its middle."""
    half = size // 2
    above = [(r, c) for r in range(-half, 0) for c in range(-half, half + 1)]
    return above + [(0, c) for c in range(-half, 1)]


def row_of(size: int) -> list[tuple[int, int]]:
    return [(0, c) for c in range(-(size // 2), 1)]


def pixelcnn_logits(w: dict[str, Array], image: Array, layers: int) -> Array:
    """(3, H, W) in 0..255 -> (H, W, 3, 256): table 1 of the paper."""
    x = image.transpose(1, 2, 0) / 127.5 - 1
    x = pixel_conv(x, w, "stem", square(7), "A")
    for i in range(layers):
        y = pixel_linear(relu(x), w, f"layers.{i}.body.1")
        y = pixel_conv(relu(y), w, f"layers.{i}.body.3", square(3), "B")
        x = x + pixel_linear(relu(y), w, f"layers.{i}.body.5")
    x = relu(pixel_linear(relu(pixel_linear(relu(x), w, "out.1")), w, "out.3"))
    logits = pixel_linear(x, w, "head")
    return logits.reshape(*logits.shape[:2], 3, 256)


def gated_logits(w: dict[str, Array], image: Array, label: int, layers: int) -> Array:
    """(3, H, W) in 0..255 -> (H, W, 3, 256): figure 2 of the paper."""

    def gated(both: Array) -> Array:
        half = both.shape[-1] // 2
        return np.asarray(np.tanh(both[..., :half]) * sigmoid(both[..., half:]))

    image = image.transpose(1, 2, 0) / 127.5 - 1
    above = [(r, c) for r in range(-3, 0) for c in range(-3, 4)]
    window = [(r, c) for r in range(-2, 1) for c in range(-2, 3)]
    v = pixel_conv(image, w, "v", above, None)
    h = pixel_conv(image, w, "h", row_of(7), "A")
    classes = w["layers.0.v_tanh_v_gate_label.weight"].shape[1]
    for i in range(layers):
        name = f"layers.{i}"
        vertical = pixel_conv(v, w, f"{name}.v_tanh_v_gate", window, None)
        vertical = vertical + affine(np.eye(classes)[label], w, f"{name}.v_tanh_v_gate_label")
        half = vertical.shape[-1] // 2
        both = pixel_conv(h, w, f"{name}.h_tanh_h_gate", row_of(5), "B", copies=2)
        both = both + affine(np.eye(classes)[label], w, f"{name}.h_tanh_h_gate_label")
        both = both + affine(vertical[..., :half], w, f"{name}.h_tanh_h_gate_v_tanh")
        both = both + affine(vertical[..., half:], w, f"{name}.h_tanh_h_gate_v_gate")
        h = h + pixel_linear(gated(both), w, f"{name}.dense")
        v = gated(vertical)
    logits = pixel_linear(relu(pixel_linear(relu(h), w, "out.0")), w, "head")
    return logits.reshape(*logits.shape[:2], 3, 256)


def cifar(row: int) -> tuple[Array, int]:
    """A crop of a picture (3, 9, 8) with much in it, and its label."""
    with np.load(DATA / "images" / "cifar10_train_first2000_lossless.npz") as file:
        picture, label = file["x"][row], int(file["y"][row])
    return picture[12:21, 12:20].transpose(2, 0, 1).astype(int), label


def check_image(model: nn.Module, image: Array, logits: Array, **conditions: Tensor) -> None:
    chosen = np.take_along_axis(log_softmax(logits), image.transpose(1, 2, 0)[..., None], -1)
    expected = chosen[..., 0].transpose(2, 0, 1)
    x = torch.from_numpy(image)[None]
    with torch.no_grad():
        each = model.log_prob(x, **conditions, reduce=False)  # type: ignore[operator]
        total = model.log_prob(x, **conditions)  # type: ignore[operator]
    np.testing.assert_allclose(each[0].numpy(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(total[0].item(), expected.sum(), rtol=1e-9)


def all_levels(name: str) -> dict[str, Any]:
    """The params of a small shipped spec, but with 256 levels."""
    return {**SMALL[name], "levels": 256}


@pytest.mark.parametrize("row", [0, 7])
def test_pixelcnn_on_cifar(row: int) -> None:
    image, _ = cifar(row)
    model = compiled(
        "pixelcnn", **{**all_levels("pixelcnn"), "h": 7}
    )  # channel groups that are not equal
    check_image(model, image, pixelcnn_logits(weights(model), image, 2))


def test_gated_pixelcnn_on_cifar() -> None:
    image, label = cifar(3)
    model = compiled("gated_pixelcnn", **{**all_levels("gated_pixelcnn"), "p": 7})
    logits = gated_logits(weights(model), image, label % 7, 2)
    check_image(model, image, logits, label=torch.tensor([label % 7]))


def mnist(count: int) -> Array:
    """Binarized digits, (count, 28, 28)."""
    with np.load(DATA / "images" / "binarized_mnist_static_packbits.npz") as file:
        return np.unpackbits(file["test"][:count], axis=1).reshape(-1, 28, 28)


BINARY = {
    "name": "digits",
    "variables": {"image": {"levels": 2, "axes": ["row", "col"]}},
    "generate": "image",
    "network": {
        "stem": {"conv": 5, "mask": "A", "to": 3},
        "more": [{"conv": 3, "mask": "B"}, "relu"],
    },
    "head": "bernoulli",
}


def test_masked_convolutions_on_binarized_mnist() -> None:
    """One channel: every tap of mask A lies before the pixel, mask B has the pixel as well."""
    model = compiled(BINARY)
    w = weights(model)
    for digit in mnist(2):
        x = 2.0 * digit[..., None] - 1
        x = plain_conv(x, w, "stem", square(5)[:-1])
        x = relu(plain_conv(x, w, "more.0", square(3)))
        logit = affine(x, w, "head")[..., 0]
        expected = -np.log1p(np.exp(np.where(digit == 1, -logit, logit)))
        with torch.no_grad():
            each = model.log_prob(torch.from_numpy(digit)[None].long(), reduce=False)  # type: ignore[operator]
        np.testing.assert_allclose(each[0].numpy(), expected, rtol=1e-9, atol=1e-9)


def plain_conv(x: Array, w: dict[str, Array], name: str, taps: list[tuple[int, int]]) -> Array:
    """The same as `pixel_conv`, without channel groups."""
    weight = w[f"{name}.weight"]
    half = weight.shape[3] // 2
    height, width, _ = x.shape
    total = np.zeros((height, width, weight.shape[0])) + w[f"{name}.bias"]
    for row, col in taps:
        for r in range(max(0, -row), height):
            for c in range(max(0, -col), width + min(0, -col)):
                total[r, c] += weight[:, :, row - 1, col + half] @ x[r + row, c + col]
    return total


# ------------------------------------------------------------------------------------------- text


def gpt2_logits(w: dict[str, Array], tokens: Array, heads: int, depth: int) -> Array:
    """(T,) -> (T, vocabulary), the distribution of token t at t (Radford et al. 2019)."""

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])

    def gelu(x: Array) -> Array:
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for i in range(depth):
        name = f"layers.{i}"
        q, k, v = np.split(affine(norm(x, f"{name}.attn.0"), w, f"{name}.attn.1.qkv"), 3, axis=-1)
        size = q.shape[1] // heads
        merged = np.zeros_like(q)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            for t in range(len(tokens)):
                scores = k[: t + 1, own] @ q[t, own] / math.sqrt(size)
                merged[t, own] = np.exp(log_softmax(scores)) @ v[: t + 1, own]
        x = x + affine(merged, w, f"{name}.attn.1.out")
        hidden = gelu(affine(norm(x, f"{name}.mlp.0"), w, f"{name}.mlp.1"))
        x = x + affine(hidden, w, f"{name}.mlp.3")
    x = norm(x, "ln_f")
    return np.concatenate([np.zeros((1, x.shape[1])), x[:-1]]) @ w["wte.weight"].T


def shakespeare() -> bytes:
    return (DATA / "text" / "tinyshakespeare.txt").read_bytes()


def test_gpt2_on_shakespeare() -> None:
    """Bytes of the text, behind a first one that nothing is known of."""
    settings = {**SMALL["gpt2"], "vocabulary": 256, "context": 96}
    model = compiled("gpt2", **settings)
    tokens = np.frombuffer(shakespeare()[1000:1096], dtype=np.uint8).astype(int)
    logits = gpt2_logits(weights(model), tokens, heads=2, depth=2)
    expected = log_softmax(logits)[np.arange(96), tokens]
    assert expected[0] == pytest.approx(-math.log(256))
    with torch.no_grad():
        each = model.log_prob(torch.from_numpy(tokens)[None], reduce=False)  # type: ignore[operator]
    np.testing.assert_allclose(each[0].numpy(), expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------- numbers from elsewhere

LOG_COUNTS = {
    "name": "log_counts",
    "variables": {"text": {"classes": 65, "axes": ["time"]}},
    "generate": "text",
    "network": {"scores": {"embed": 65, "of": "text(time - 1)"}},
    "head": "categorical",
}


def symbols() -> tuple[Array, int]:
    """Tiny Shakespeare as 0 .. 64 in the order of the characters."""
    text = np.frombuffer(shakespeare(), dtype=np.uint8)
    _, found = np.unique(text, return_inverse=True)
    return found, int(found.max()) + 1


def test_bigram_entropy_of_shakespeare() -> None:
    """An embedding of the last character into as many logits, set to the log counts."""
    found, count = symbols()
    assert count == 65
    model = compiled(LOG_COUNTS)
    pairs = np.zeros((count, count))
    np.add.at(pairs, (found[:-1], found[1:]), 1)
    with torch.no_grad(), np.errstate(divide="ignore"):
        log_counts = torch.from_numpy(np.log(pairs)).clamp(min=-1e3)
        model.scores.weight.copy_(log_counts)  # type: ignore[union-attr, operator]
        model.head.weight.copy_(torch.eye(count))  # type: ignore[union-attr, operator]
        model.head.bias.zero_()  # type: ignore[union-attr, operator]
        each = model.log_prob(torch.from_numpy(found)[None], reduce=False)  # type: ignore[operator]
    assert -each[0, 1:].mean().item() == pytest.approx(2.45257, abs=6e-6)


def test_unigram_entropy_of_shakespeare() -> None:
    """The same spec without a look at the past: what the bias of the head says."""
    found, count = symbols()
    model = compiled(LOG_COUNTS)
    with torch.no_grad():
        model.head.weight.zero_()  # type: ignore[union-attr, operator]
        counts = torch.bincount(torch.from_numpy(found), minlength=count)
        model.head.bias.copy_(counts.log())  # type: ignore[union-attr, operator]
        nats = -model.log_prob(torch.from_numpy(found)[None])  # type: ignore[operator]
    assert nats.item() / len(found) == pytest.approx(3.31280, abs=6e-6)


def test_uniform_and_independent_pixels_of_mnist() -> None:
    """All weights zero: ln 2 a pixel. Independent pixels look up a rate by their own number,

    which is given as a condition.
    """
    spec = {
        "name": "independent",
        "variables": {
            "image": {"levels": 2, "axes": ["row", "col"]},
            "pixel": {"classes": 784, "axes": ["row", "col"], "known": "all"},
        },
        "generate": "image",
        "network": {"rate": {"embed": 1, "of": "pixel"}},
        "head": "bernoulli",
    }
    model = compiled(spec)
    with np.load(DATA / "images" / "binarized_mnist_static_packbits.npz") as file:
        train = np.unpackbits(file["train"], axis=1)
        test = np.unpackbits(file["test"], axis=1).reshape(-1, 28, 28)
    pixel = torch.arange(784).view(1, 28, 28)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        x = torch.from_numpy(test).long()
        nats = -model.log_prob(x[:10], pixel=pixel.expand(10, -1, -1))  # type: ignore[operator]
        assert nats.mean().item() == pytest.approx(543.427, abs=6e-4)
        rates = (train.sum(0) + 1) / (len(train) + 2)  # Laplace's rule: never 0 or 1
        logits = torch.from_numpy(np.log(rates / (1 - rates)))[:, None]
        model.rate.weight.copy_(logits)  # type: ignore[union-attr, operator]
        model.head.weight.fill_(1)  # type: ignore[union-attr, operator]
        nats = -model.log_prob(x, pixel=pixel.expand(len(x), -1, -1))  # type: ignore[operator]
    assert nats.mean().item() == pytest.approx(205.793, abs=5e-4)


AUTOREGRESSION = {
    "name": "ar2",
    "paper": "Box and Jenkins 1970",
    "variables": {"y": {"features": 1, "axes": ["time"]}},
    "generate": "y",
    "network": {
        "c": {"weight": 1},
        "phi1": {"weight": 1},
        "phi2": {"weight": 1},
        "sigma": {"weight": 1, "within": "0..", "init": 1},
        "level": "c + phi1 * y(time - 1) + phi2 * y(time - 2)",
    },
    "head": {"gaussian": 1, "mean": "level", "scale": "sigma"},
}


def sunspots() -> Array:
    with open(DATA / "timeseries" / "sunspots.csv") as file:
        return np.array([float(row["SUNACTIVITY"]) for row in csv.DictReader(file)])


def test_autoregression_on_sunspots() -> None:
    """The conditional log-likelihood of statsmodels' AutoReg(2)."""
    model = compiled(AUTOREGRESSION)
    y = torch.from_numpy(sunspots())[None, None]
    assert y.shape == (1, 1, 309)
    numbers = {"c": 14.907148, "phi1": 1.391805, "phi2": -0.690287}
    sigma = math.sqrt(275.4363)
    with torch.no_grad():
        own = dict(model.named_parameters())
        for name, value in numbers.items():
            (parameter,) = [p for key, p in own.items() if key.split(".")[0] == name]
            parameter.fill_(value)
        (raw,) = [p for key, p in own.items() if key.split(".")[0] == "sigma"]
        raw.fill_(sigma + math.log(-math.expm1(-sigma)))  # the inverse of softplus
        each = model.log_prob(y, reduce=False)  # type: ignore[operator]
    assert each.shape == (1, 309)
    assert each[0, 2:].sum().item() == pytest.approx(-1298.0318, abs=2e-4)
