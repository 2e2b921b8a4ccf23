"""x-transformers (Phil Wang): `AutoregressiveWrapper.generate`, with its KV cache and SDPA."""

import torch
from torch import Tensor, nn

from peers import Peer


def x_transformers(model: nn.Module, depth: int, heads: int, temperature: float) -> Peer:
    """`model` is a compiled `gpt2`; a `temperature` of 0 takes the likeliest token.

    The library has no biases in attention and in norms.
    """
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    vocabulary, width = model.wte.weight.shape
    module = TransformerWrapper(
        num_tokens=vocabulary,
        max_seq_len=len(model.wpe.weight),
        tie_embedding=True,
        tie_embedding_scale=1.0,
        attn_layers=Decoder(
            dim=width, depth=depth, heads=heads, attn_dim_head=width // heads, attn_flash=True,
            ff_custom_activation=nn.GELU(approximate="tanh"),
        ),
    ).eval()  # fmt: skip
    module.load_state_dict(weights(model.state_dict(), depth))
    wrapper = AutoregressiveWrapper(module).eval()

    def logits(x: Tensor) -> Tensor:
        return module(x)[:, :-1]

    def draw(batch: int, tokens: int) -> Tensor:
        """From the whole softmax, no token cut off."""
        start = torch.zeros(batch, 1, dtype=torch.long)
        return wrapper.generate(
            start, tokens, temperature=temperature, filter_logits_fn=lambda logits: logits
        )

    return Peer("x-transformers", module, logits, draw, lacks(model))


def lacks(model: nn.Module) -> frozenset[str]:
    """The biases of attention and of norms."""
    parts = "attn.0.bias", "attn.1.qkv.bias", "attn.1.out.bias", "mlp.0.bias", "ln_f.bias"
    return frozenset(name for name, _ in model.named_parameters() if name.endswith(parts))


def weights(ours: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Its `state_dict`: attention and feed-forward are layers of their own.

    Positions are scaled, norms multiply by 1 + gamma.
    """
    width = ours["wte.weight"].shape[1]
    theirs = {
        "token_emb.emb.weight": ours["wte.weight"],
        "pos_emb.emb.weight": ours["wpe.weight"] * width**0.5,
        "attn_layers.final_norm.gamma": ours["ln_f.weight"] - 1,
    }
    for i in range(depth):
        own, layers = f"layers.{i}", "attn_layers.layers"
        attention, feed = f"{layers}.{2 * i}", f"{layers}.{2 * i + 1}"
        theirs[f"{attention}.0.0.gamma"] = ours[f"{own}.attn.0.weight"] - 1
        for part, weight in zip("qkv", ours[f"{own}.attn.1.qkv.weight"].chunk(3), strict=True):
            theirs[f"{attention}.1.to_{part}.weight"] = weight
        theirs[f"{attention}.1.to_out.weight"] = ours[f"{own}.attn.1.out.weight"]
        theirs[f"{feed}.0.0.gamma"] = ours[f"{own}.mlp.0.weight"] - 1
        for own_part, their_part in ("mlp.1", "ff.0.0"), ("mlp.3", "ff.2"):
            for kind in "weight", "bias":
                theirs[f"{feed}.1.{their_part}.{kind}"] = ours[f"{own}.{own_part}.{kind}"]
    return theirs
