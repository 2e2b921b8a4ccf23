"""Drawing samples: compiled models against the samplers of well-known libraries.

    pip install -c constraints.txt -e '.[benchmarks]'
    python benchmarks/sampling.py [--only wavenet gpt] [--batch 1 16] [--threads 2] [--json FILE]

| contest    | architecture                                      | against                      |
| ---------- | ------------------------------------------------- | ---------------------------- |
| wavenet    | 30 layers, dilations 1 .. 512, 64/128/256 wide    | wavenet_vocoder              |
| gpt        | 6 layers, 384 wide, vocabulary 50,257, 512 tokens | Hugging Face, x-transformers |
| gpt-greedy | the same, the likeliest token instead of a draw   | Hugging Face, x-transformers |
| pixelcnn   | 15 blocks of 32 channels, 28 x 28 binary images   | pytorch-generative           |
| gated      | 10 gated layers of 128 channels, the same images  | pytorch-generative           |

All compute the same function: every library's module gets the compiled model's weights, the numbers
of parameters are compared, and so are the logits, before anything is timed. All draw from the whole
distribution in float32, without gradients, start-up of the sampler included. The contenders take
turns within every repeat, so that whatever else the machine does falls on all of them alike, and
the medians are printed. A first round, in which `compile=True` compiles, is not counted.

Two allowances. wavenet_vocoder draws a batch of one only; a larger one it is spared the draw.
pytorch-generative computes a whole forward for every pixel: some are timed, the rest extrapolated.
"""

import argparse
import copy
import inspect
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import Peer
from peers.hugging_face import hugging_face
from peers.pytorch_generative import gated_pixelcnn, pixelcnn
from peers.wavenet_vocoder import wavenet_vocoder
from peers.x_transformers import x_transformers
from torch import nn

import arspec

SPECS = Path(__file__).parent / "specs"
GPT = {"depth": 6, "d": 384, "heads": 6, "vocabulary": 50_257, "context": 1024, "drop": 0}


@dataclass(frozen=True)
class Contest:
    """One architecture, and who draws from it."""

    spec: str | Path
    peers: tuple[Callable[[nn.Module], Peer], ...]
    shape: tuple[int, ...]
    values: int  # of one position
    batches: tuple[int, ...]
    settings: Mapping[str, int] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def positions(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Contender:
    """`draw(batch)` draws `positions` positions of each."""

    name: str
    draw: Callable[[int], object]
    positions: int


def contests(quick: bool, pixels: int) -> dict[str, Contest]:
    """By name. The libraries' image samplers draw `pixels` pixels of an image."""
    steps, tokens, image = (100, 32, (4, 28)) if quick else (1000, 512, (28, 28))
    pixels = min(pixels, math.prod(image))

    def gpt(temperature: float) -> Contest:
        depth, heads = GPT["depth"], GPT["heads"]
        peers = tuple(
            partial(peer, depth=depth, heads=heads, temperature=temperature)
            for peer in (hugging_face, x_transformers)
        )
        return Contest("gpt2", peers, (tokens,), GPT["vocabulary"], (1, 16), GPT, temperature)

    def images(name: str, peer: Callable[..., Peer], pixels: int) -> Contest:
        peers = (partial(peer, shape=image, pixels=pixels),)
        return Contest(SPECS / f"{name}.yaml", peers, image, 2, (16,))

    return {
        "wavenet": Contest(
            SPECS / "wavenet_plain.yaml", (wavenet_vocoder,), (steps,), 256, (1, 16)
        ),
        "gpt": gpt(1.0),
        "gpt-greedy": gpt(0.0),
        "pixelcnn": images("pixelcnn_mnist", pixelcnn, pixels),
        "gated": images("gated_pixelcnn_mnist", gated_pixelcnn, max(1, pixels // 8)),
    }


@torch.no_grad()
def compiled_model(contest: Contest) -> nn.Module:
    """With weights that are all random: a bias of zero would hide that somebody leaves it out."""
    torch.manual_seed(0)
    model = arspec.build(contest.spec, **contest.settings).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


@torch.no_grad()
def check(contest: Contest, model: nn.Module, peer: Peer) -> None:
    """The same function: print and compare the numbers of parameters and the logits."""
    reference = copy.deepcopy(model)
    for name in peer.lacks:
        reference.get_parameter(name).zero_()
    ours, theirs = (sum(p.numel() for p in m.parameters()) for m in (model, peer.module))
    lacking = sum(model.get_parameter(name).numel() for name in peer.lacks)
    length, *rest = contest.shape
    x = torch.randint(contest.values, (2, min(length, 64), *rest))
    got = peer.logits(x)
    wanted = reference(x)[:, -got.shape[1] :]
    error = ((got - wanted).abs().max() / wanted.abs().max()).item()
    notes = [f"{theirs:,} parameters"]
    notes += [f"{lacking:,} biases fewer"] if lacking else []
    notes += [f"{peer.masked:,} masked ones more"] if peer.masked else []
    notes += [f"logits differ by {error:.0e} of the largest"]
    print(f"{peer.name:<22} {', '.join(notes)}")
    if theirs - peer.masked != ours - lacking or not error < 1e-4:
        raise SystemExit(f"{peer.name} does not compute the same function")


def contenders(contest: Contest, model: Any) -> list[Contender]:
    """The compiled model, compiled by torch too where it can be, and the libraries."""

    ours = partial(model.sample, shape=contest.shape, temperature=contest.temperature)

    found = [Contender("arspec", ours, contest.positions)]
    if "compile" in inspect.signature(model.sample).parameters:
        both = partial(ours, compile=True)
        found.append(Contender("arspec, compile=True", both, contest.positions))
    else:
        print("arspec, compile=True   skipped: this `sample` does not compile")
    for make in contest.peers:
        try:
            peer = make(model)
        except ModuleNotFoundError as missing:
            print(f"a peer is left out: {missing}")
            continue
        check(contest, model, peer)
        positions = peer.sampled or contest.positions
        draw = partial(on_positions, peer.draw, positions)
        found.append(Contender(peer.name, draw, positions))
    return found


def on_positions(draw: Callable[[int, int], object], positions: int, batch: int) -> object:
    return draw(batch, positions)


@torch.no_grad()
def measure(
    field: list[Contender],
    batch: int,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per position of each contender, one number a repeat."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in field}
    for turn in range(1 + repeats):
        first = turn % len(field)
        for contender in field[first:] + field[:first]:  # nobody is always first
            start = clock()
            contender.draw(batch)
            took = clock() - start
            if turn > 0:
                seconds[contender.name].append(took / contender.positions)
            elif "compile" in contender.name:
                print(f"  the first draw of `{contender.name}`, which compiles: {took:.1f} s")
    return seconds


def report(
    title: str, contest: Contest, field: list[Contender], seconds: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """Print one table; the same as rows."""
    ours = [c.name for c in field if c.name.startswith("arspec")]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    header = "".join(f"{name + ' is':>24}" for name in ours)
    print(f"\n{title:<24}{'ms a position':>14}{'s in all':>12} {header}")
    rows = []
    for contender in field:
        each = medians[contender.name]
        sampled = contender.positions < contest.positions
        ratios = {name: each / medians[name] for name in ours}
        shown = "".join(f"{ratio:>14.3g}x as fast" for ratio in ratios.values())
        if contender.name in ours:
            shown = ""
        print(
            f"{contender.name:<24}{each * 1e3:>14.3f}{each * contest.positions:>12.2f}"
            f"{'*' if sampled else ' '}{shown}"
        )
        if sampled:
            print(f"  * from {contender.positions} of {contest.positions} positions")
        rows.append(
            {
                "contender": contender.name,
                "ms_per_position": each * 1e3,
                "seconds": each * contest.positions,
                "positions_measured": contender.positions,
                "positions": contest.positions,
                "repeats_ms_per_position": [value * 1e3 for value in seconds[contender.name]],
            }
        )
    print()
    return rows


def main() -> None:
    """Print a table for each contest and batch."""
    names = list(contests(quick=False, pixels=1))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--batch", nargs="+", type=int, help="batch sizes (1 and 16; 16 for images)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="counted ones (5)")
    parser.add_argument("--threads", type=int, help="of torch, for all contenders (its default)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="the process's instead of the wall's; with `--threads 1`, for a busy machine",
    )
    parser.add_argument(
        "--pixels",
        type=int,
        default=64,
        help="of each image that pytorch-generative draws in a repeat, an eighth as many for its "
        "gated network; the rest is extrapolated (64; 784 is all)",
    )
    parser.add_argument("--quick", action="store_true", help="short draws: does it all run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    options = parser.parse_args()

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, on the CPU")
    clock = time.process_time if options.cpu_time else time.perf_counter
    rows = []
    for name, contest in contests(options.quick, options.pixels).items():
        if name not in options.only:
            continue
        model = compiled_model(contest)
        count = sum(p.numel() for p in model.parameters())
        print(f"\n{name}\n{'arspec':<22} {count:,} parameters")
        field = contenders(contest, model)
        for batch in options.batch or contest.batches:
            seconds = measure(field, batch, options.repeats, clock)
            about = {
                "contest": name,
                "batch": batch,
                "threads": torch.get_num_threads(),
                "clock": clock.__name__,
            }
            rows += [
                about | row for row in report(f"{name}, batch {batch}", contest, field, seconds)
            ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
