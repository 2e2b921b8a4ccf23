"""wavenet_vocoder 0.1.1 (Ryuichi Yamamoto), the package: `WaveNet.incremental_forward`.

Its layers scale their outputs by sqrt(1/2), which ours do not: the factors go into the weights.
"""

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peers import Peer

CLASSES, LAYERS, STACKS, WIDTH, GATES, SKIP = 256, 30, 3, 64, 128, 256


def wavenet_vocoder(model: nn.Module) -> Peer:
    """`model` is a compiled `wavenet_plain`."""
    from wavenet_vocoder import WaveNet

    with warnings.catch_warnings():  # its weight norm is a deprecated one, and removed below
        warnings.simplefilter("ignore", FutureWarning)
        module = WaveNet(
            out_channels=CLASSES, layers=LAYERS, stacks=STACKS, residual_channels=WIDTH,
            gate_channels=GATES, skip_out_channels=SKIP, kernel_size=2, legacy=False,
        )  # fmt: skip
    module.make_generation_fast_()
    module.load_state_dict(weights(model.state_dict()))
    module.eval()

    def logits(x: Tensor) -> Tensor:
        """(B, T) to (B, T, classes): step t is told the sample before."""
        before = F.pad(F.one_hot(x, CLASSES).mT[..., :-1].float(), (1, 0))  # (B, classes, T)
        out = module.incremental_forward(
            test_inputs=before, T=x.shape[1], softmax=False, quantize=False
        )
        return out.mT

    def draw(batch: int, steps: int) -> Tensor:
        """Its own draw knows a batch of one; a larger one is fed its probabilities, undrawn."""
        start = torch.zeros(batch, CLASSES, 1)
        return module.incremental_forward(test_inputs=start, T=steps, quantize=batch == 1)

    return Peer("wavenet_vocoder", module, logits, draw)


def weights(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its `state_dict`, which computes the same logits: its layer l holds x * sqrt(1/2) ** l."""
    theirs = {"first_conv.weight": ours["stem.weight"][..., None]}
    theirs["first_conv.bias"] = ours["stem.bias"]
    for layer in range(LAYERS):
        scale = math.sqrt(0.5) ** layer
        own, their = f"layers.{layer}", f"conv_layers.{layer}"
        theirs[f"{their}.conv.weight"] = ours[f"{own}.filter_gate.weight"] / scale
        theirs[f"{their}.conv.bias"] = ours[f"{own}.filter_gate.bias"]
        theirs[f"{their}.conv1x1_out.weight"] = ours[f"{own}.dense.weight"][..., None] * scale
        theirs[f"{their}.conv1x1_out.bias"] = ours[f"{own}.dense.bias"] * scale
        theirs[f"{their}.conv1x1_skip.weight"] = ours[f"{own}.skip.weight"][..., None]
        theirs[f"{their}.conv1x1_skip.bias"] = ours[f"{own}.skip.bias"]
    for own, their in ("out.1", "last_conv_layers.1"), ("head", "last_conv_layers.3"):
        theirs[f"{their}.weight"] = ours[f"{own}.weight"][..., None]
        theirs[f"{their}.bias"] = ours[f"{own}.bias"]
    return theirs
