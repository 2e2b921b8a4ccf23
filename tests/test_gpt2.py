"""The shipped gpt2 is GPT-2: the published sizes, and Hugging Face's own logits."""

import pytest
import torch
from torch import Tensor, nn

import arspec
from arspec import compiler

transformers = pytest.importorskip("transformers")


def test_published_sizes() -> None:
    small = compiler.analyse("gpt2")
    medium = compiler.analyse("gpt2", {"d": 1024, "heads": 16, "depth": 24})
    assert small.parameter_count == 124_439_808
    assert medium.parameter_count == 354_823_168
    with torch.device("meta"):
        model = arspec.build("gpt2")
    assert sum(p.numel() for p in model.parameters()) == 124_439_808


def copy_weights(hf: nn.Module, model: nn.Module, depth: int) -> None:
    """Hugging Face's Conv1D keeps its weights transposed; all else is a matter of names."""
    theirs = hf.state_dict()
    ours: dict[str, Tensor] = {
        "wte.weight": theirs["transformer.wte.weight"],
        "wpe.weight": theirs["transformer.wpe.weight"],
        "ln_f.weight": theirs["transformer.ln_f.weight"],
        "ln_f.bias": theirs["transformer.ln_f.bias"],
    }
    names = {
        "attn.0": "ln_1", "attn.1.qkv": "attn.c_attn", "attn.1.out": "attn.c_proj",
        "mlp.0": "ln_2", "mlp.1": "mlp.c_fc", "mlp.3": "mlp.c_proj",
    }  # fmt: skip
    for i in range(depth):
        for own, their in names.items():
            weight = theirs[f"transformer.h.{i}.{their}.weight"]
            linear = not their.startswith("ln")
            ours[f"layers.{i}.{own}.weight"] = weight.T if linear else weight
            ours[f"layers.{i}.{own}.bias"] = theirs[f"transformer.h.{i}.{their}.bias"]
    model.load_state_dict(ours)


def test_logits_equal_hugging_face() -> None:
    depth, vocabulary = 3, 211
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=64, n_embd=48, n_layer=depth, n_head=4
    )
    torch.manual_seed(0)
    hf = transformers.GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():  # biases start at zero, and zeros hide bugs
        for parameter in hf.parameters():
            parameter.normal_(std=0.3)
    model = arspec.build("gpt2", depth=depth, vocabulary=vocabulary, context=64, d=48, heads=4)
    model = model.double().eval()
    copy_weights(hf, model, depth)
    x = torch.randint(vocabulary, (3, 40))
    with torch.no_grad():
        ours, theirs = model(x)[:, 1:], hf(x).logits[:, :-1]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_log_prob_is_the_sum_of_the_next_token_losses() -> None:
    model = arspec.build("gpt2", depth=1, vocabulary=50, context=32, d=16, heads=2).double().eval()
    x = torch.randint(50, (2, 20))
    with torch.no_grad():
        logits = model(x)
        expected = -nn.functional.cross_entropy(logits.mT, x, reduction="none").sum(1)
        torch.testing.assert_close(model.log_prob(x), expected)
