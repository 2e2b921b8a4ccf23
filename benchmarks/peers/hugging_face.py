"""Hugging Face's `GPT2LMHeadModel.generate`, with its default cache and attention."""

import torch
from torch import Tensor, nn

from peers import Peer


def hugging_face(model: nn.Module, depth: int, heads: int, temperature: float) -> Peer:
    """`model` is a compiled `gpt2`; a `temperature` of 0 takes the likeliest token."""
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    vocabulary, width = model.wte.weight.shape
    config = GPT2Config(
        n_layer=depth, n_embd=width, n_head=heads, vocab_size=vocabulary,
        n_positions=len(model.wpe.weight),
        activation_function="gelu_pytorch_tanh",  # gelu_new, but fused
    )  # fmt: skip
    module = GPT2LMHeadModel(config).eval()
    module.load_state_dict(weights(model.state_dict(), depth))

    def logits(x: Tensor) -> Tensor:
        return module(x).logits[:, :-1]

    def draw(batch: int, tokens: int) -> Tensor:
        """From the whole softmax, no token cut off, none ends the text."""
        how = {"do_sample": False} if temperature == 0 else {"do_sample": True, "top_k": 0}
        start = torch.zeros(batch, 1, dtype=torch.long)
        config = GenerationConfig(
            **how, max_new_tokens=tokens, eos_token_id=None, pad_token_id=0, bos_token_id=0
        )
        return module.generate(
            start, attention_mask=torch.ones_like(start), generation_config=config
        )

    return Peer("Hugging Face", module, logits, draw)


def weights(ours: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Its `state_dict`: its linear maps are kept transposed."""
    theirs = {f"transformer.{n}": ours[n] for n in ("wte.weight", "wpe.weight")}
    theirs |= {f"transformer.{n}": ours[n] for n in ("ln_f.weight", "ln_f.bias")}
    theirs["lm_head.weight"] = ours["wte.weight"]
    names = {
        "attn.0": "ln_1", "attn.1.qkv": "attn.c_attn", "attn.1.out": "attn.c_proj",
        "mlp.0": "ln_2", "mlp.1": "mlp.c_fc", "mlp.3": "mlp.c_proj",
    }  # fmt: skip
    for i in range(depth):
        for own, their in names.items():
            weight = ours[f"layers.{i}.{own}.weight"]
            theirs[f"transformer.h.{i}.{their}.weight"] = weight.T if weight.dim() > 1 else weight
            theirs[f"transformer.h.{i}.{their}.bias"] = ours[f"layers.{i}.{own}.bias"]
    return theirs
