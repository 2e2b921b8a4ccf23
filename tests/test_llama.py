"""Rotary positions, grouped heads and RMS norms: Llama's logits are Hugging Face's."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import arspec

transformers = pytest.importorskip("transformers")
SPEC = Path(__file__).parent / "specs_papers" / "llama.yaml"


def test_logits_equal_hugging_face() -> None:
    depth, vocabulary, width = 2, 151, 32
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=depth,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    hf: Any = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.normal_(std=0.3)
    spec = yaml.safe_load(SPEC.read_text(encoding="utf-8"))
    del spec["variables"]["tokens"]["end"]
    spec["defaults"]["norm"]["eps"] = 1e-5  # PyYAML reads 1e-5 as text
    sizes = {"d": width, "heads": 4, "kv_heads": 2, "inner": 48, "depth": depth}
    model = arspec.build(spec, **sizes, vocabulary=vocabulary).double().eval()
    theirs = {name.removeprefix("model."): w for name, w in hf.state_dict().items()}
    ours = {
        "embedding.weight": theirs["embed_tokens.weight"],
        "norm.weight": theirs["norm.weight"],
        "head.weight": theirs["lm_head.weight"],
    }
    for i in range(depth):
        layer = f"layers.{i}"
        attention = f"{layer}.self_attn"
        qkv = [theirs[f"{attention}.{part}_proj.weight"] for part in "qkv"]
        ours |= {
            f"{layer}.attention_norm.weight": theirs[f"{layer}.input_layernorm.weight"],
            f"{layer}.attention.qkv.weight": torch.cat(qkv),
            f"{layer}.attention.out.weight": theirs[f"{attention}.o_proj.weight"],
            f"{layer}.ffn_norm.weight": theirs[f"{layer}.post_attention_layernorm.weight"],
            f"{layer}.gate_up.weight": torch.cat(
                [theirs[f"{layer}.mlp.{part}_proj.weight"] for part in ("gate", "up")]
            ),
            f"{layer}.down.weight": theirs[f"{layer}.mlp.down_proj.weight"],
        }
    model.load_state_dict(ours)
    x = torch.randint(vocabulary, (3, 24))
    with torch.no_grad():
        got, expected = model(x)[:, 1:], hf(x).logits[:, :-1]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
