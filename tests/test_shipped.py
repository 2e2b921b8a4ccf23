"""The shipped models stay what they are: sizes, keys of the weights, outputs and emitted files."""

from __future__ import annotations

import difflib

import pytest
import torch
from make_checkpoints import CHECKPOINTS, GOLDEN, outputs, part
from safetensors.torch import load_file
from shipped import SMALL, small_model, small_text

import arspec
from arspec import compiler
from arspec.files import shipped_specs

SHIPPED = sorted(shipped_specs())
TOLERANCE = 1e-6
REMAKE = "if that is meant: python tests/make_checkpoints.py"

# Counted by hand from the papers' tables; GPT-2's are published.
PARAMETERS = {
    "gated_pixelcnn": None,
    "gpt2": 124_439_808,
    "pixelcnn": None,
    "wavenet": (256 * 2 + 1) * 32  # the stem
    + 30 * ((32 * 2 + 1) * 64 + (109 + 1) * 64 + (80 + 1) * 64 + 33 * 256 + 33 * 32)
    + 257 * 256 * 2,  # two linear maps behind the skips
}

LAYER_KEYS = {
    "gated_pixelcnn": {
        "v_tanh_v_gate": (12, 6, 3, 5),
        "v_tanh_v_gate_label": (12, 7),
        "h_tanh_h_gate": (12, 6, 1, 3),
        "h_tanh_h_gate_label": (12, 7),
        "h_tanh_h_gate_v_tanh": (12, 6),
        "h_tanh_h_gate_v_gate": (12, 6),
        "dense": (6, 6),
    },
    "gpt2": {
        "attn.0": (8,),
        "attn.1.qkv": (24, 8),
        "attn.1.out": (8, 8),
        "mlp.0": (8,),
        "mlp.1": (32, 8),
        "mlp.3": (8, 32),
    },
    "pixelcnn": {"body.1": (6, 12), "body.3": (6, 6, 2, 3), "body.5": (12, 6)},
    "wavenet": {
        "filter_gate": (10, 5, 2),
        "filter_gate_speaker": (10, 3),
        "filter_gate_mel": (10, 9),
        "skip": (7, 5),
        "dense": (5, 5),
    },
}
"""The weights of one repetition of the small models, by the paths of the spec; each has a bias."""

OTHER_KEYS = {
    "gated_pixelcnn": {"v": (6, 3, 3, 7), "h": (6, 3, 1, 4), "out.0": (9, 6), "head": (24, 9)},
    "gpt2": {"wte": (29, 8), "wpe": (32, 8), "ln_f": (8,)},
    "pixelcnn": {"stem": (12, 3, 4, 7), "out.1": (9, 12), "out.3": (9, 9), "head": (24, 9)},
    "wavenet": {"stem": (5, 11, 2), "out.1": (7, 7), "head": (11, 7)},
}
DEAD = {"wavenet": {"layers.5.dense.weight", "layers.5.dense.bias"}}
"""The residual of the last layer goes nowhere, in the paper's figure as well."""

WITHOUT_BIAS = {"wte", "wpe"}
REPEATS = {"gated_pixelcnn": 2, "gpt2": 2, "pixelcnn": 2, "wavenet": 6}


@pytest.mark.parametrize("name", SHIPPED)
def test_keys_are_the_paths_of_the_spec(name: str) -> None:
    weights = dict(OTHER_KEYS[name])
    for i in range(REPEATS[name]):
        weights |= {f"layers.{i}.{key}": shape for key, shape in LAYER_KEYS[name].items()}
    expected = {f"{key}.weight": shape for key, shape in weights.items()}
    for key, shape in weights.items():
        if key not in WITHOUT_BIAS:
            expected[f"{key}.bias"] = shape[:1]
    found = {key: tuple(value.shape) for key, value in small_model(name).state_dict().items()}
    assert found == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_published_size(name: str) -> None:
    """Counted from the spec and from the module; the weights themselves are never made."""
    analysis = compiler.analyse(name)
    with torch.device("meta"):
        model = arspec.build(name)
    count = sum(p.numel() for p in model.parameters())
    assert analysis.parameter_count == count
    assert PARAMETERS[name] in (None, count)


@pytest.mark.parametrize("name", SHIPPED)
def test_outputs_are_those_of_the_checkpoint(name: str) -> None:
    tensors = load_file(CHECKPOINTS / f"{name}.safetensors")
    assert (CHECKPOINTS / f"{name}.safetensors").stat().st_size < 30_000
    assert part(tensors, "weight/").keys() == small_model(name).state_dict().keys(), REMAKE
    expected = part(tensors, "output/")
    found = outputs(small_model(name), tensors)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m: f"{m}\n{REMAKE}"
        )


@pytest.mark.parametrize("name", SHIPPED)
def test_every_weight_of_a_checkpoint_matters(name: str) -> None:
    """A weight that the outputs do not depend on would be no witness of anything."""
    tensors = load_file(CHECKPOINTS / f"{name}.safetensors")
    model, expected = small_model(name), part(tensors, "output/")
    generator = torch.Generator().manual_seed(1)
    still = set()
    for key, value in part(tensors, "weight/").items():
        other = value + 0.1 * torch.randn(value.shape, generator=generator)
        changed = outputs(model, tensors | {f"weight/{key}": other})
        if max((changed[kind] - expected[kind]).abs().max() for kind in expected) < 100 * TOLERANCE:
            still.add(key)
    assert still == DEAD.get(name, set())


@pytest.mark.parametrize("name", SHIPPED)
def test_emitted_file_is_the_golden_one(name: str) -> None:
    golden = (GOLDEN / f"{name}.py.txt").read_text()
    text = small_text(name)
    difference = list(difflib.unified_diff(golden.splitlines(), text.splitlines(), "golden", "now"))
    if difference:
        pytest.fail("\n".join([f"{REMAKE} --golden", *difference]), pytrace=False)


def test_every_shipped_spec_has_a_checkpoint_and_a_golden_file() -> None:
    assert sorted(SMALL) == SHIPPED
    assert sorted(path.stem for path in CHECKPOINTS.iterdir()) == SHIPPED
    assert sorted(path.name.partition(".")[0] for path in GOLDEN.iterdir()) == SHIPPED
