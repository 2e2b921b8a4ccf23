"""A training step of the compiled `gpt2` against Hugging Face's and against one written by hand.

    python benchmarks/training_step.py [--rounds 15] [--device cpu]

Same size (6 layers, 384 wide, 6 heads, a vocabulary of 50,257), same data (8 x 256 tokens), same
work: forward, loss, backward, AdamW, no dropout. The three take turns within every round, so that
whatever else the machine does falls on all of them alike; medians and ratios are printed. What is
timed is the whole step, zeroing the gradients included.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import arspec

DEPTH, WIDTH, HEADS, VOCABULARY = 6, 384, 6, 50_257
POSITIONS = 1024  # that could be embedded, as in GPT-2
BATCH, LENGTH = 8, 256


class Attention(nn.Module):
    """Causal self-attention, all heads in one product."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        heads = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS))  # (B, T, 3, H, C / H)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A Transformer layer, norms first."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class HandWritten(nn.Module):
    """GPT-2 as one would write it (after karpathy/nanoGPT), with a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """The mean negative log-likelihood of tokens (B, T), the first given."""
        positions = self.positions(torch.arange(x.shape[1], device=x.device))
        h = self.norm(self.blocks(self.tokens(x) + positions))
        logits = F.linear(h, self.tokens.weight)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())


def compiled(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The compiled `gpt2` and its loss on `x`."""
    model = arspec.build(
        "gpt2", depth=DEPTH, d=WIDTH, heads=HEADS, vocabulary=VOCABULARY, context=POSITIONS, drop=0
    ).to(x.device)
    return model, lambda: -model.log_prob(x).mean() / x.shape[1]


def hugging_face(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Hugging Face's GPT-2 of the same size and its loss on `x`."""
    config = GPT2Config(
        n_layer=DEPTH, n_embd=WIDTH, n_head=HEADS, vocab_size=VOCABULARY,
        n_positions=POSITIONS, activation_function="gelu_pytorch_tanh",  # gelu_new, but fused
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).to(x.device)
    return model, lambda: model(x, labels=x, use_cache=False).loss


def hand_written(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The module above and its loss on `x`."""
    model = HandWritten().to(x.device)
    return model, lambda: model(x)


def training_step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    """A function that makes one step and returns the seconds it took."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    device = next(model.parameters()).device

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return step


def main() -> None:
    """Print the medians, and the ratio of each to the better of the two baselines."""
    parser = argparse.ArgumentParser(description="Compare training steps of GPT-2.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.manual_seed(0)
    x = torch.randint(VOCABULARY, (BATCH, LENGTH), device=options.device)
    contenders = {"compiled": compiled, "Hugging Face": hugging_face, "by hand": hand_written}
    steps = {}
    for name, make in contenders.items():
        model, loss = make(x)
        count = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name:<14} {count:>12,} parameters")
        steps[name] = training_step(model, loss)

    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.warm_up + options.rounds):
        for name in list(steps)[turn % 3 :] + list(steps)[: turn % 3]:  # nobody is always first
            seconds = steps[name]()
            if turn >= options.warm_up:
                times[name].append(seconds)

    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    better = min(medians["Hugging Face"], medians["by hand"])
    print(f"\n{'':<14} {'median, ms':>12} {'ratio to the better baseline':>40}")
    for name, seconds in medians.items():
        print(f"{name:<14} {seconds * 1e3:>12.1f} {seconds / better:>40.3f}")


if __name__ == "__main__":
    main()
