"""Writes what later versions must reproduce. Run it only when a model is meant to change.

    python tests/make_checkpoints.py            # tests/checkpoints: weights, inputs and outputs
    python tests/make_checkpoints.py --golden   # tests/golden: the emitted files

Without a name, those of all shipped specs; with names (`wavenet gpt2`), those alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from shipped import SMALL, small_inputs, small_model, small_text
from torch import Tensor, nn

HERE = Path(__file__).parent
CHECKPOINTS = HERE / "checkpoints"
GOLDEN = HERE / "golden"


def checkpoint(name: str) -> dict[str, Tensor]:
    """Weights (``weight/...``, float32), an input (``input/...``) and its outputs in float64."""
    model = small_model(name, dtype=torch.float32)
    tensors = {f"weight/{key}": value for key, value in model.state_dict().items()}
    x, conditions = small_inputs(name)
    given = {"x": x, **conditions}
    tensors |= {f"input/{key}": narrow(value) for key, value in given.items()}
    tensors |= {f"output/{key}": value for key, value in outputs(model, tensors).items()}
    return tensors


def narrow(value: Tensor) -> Tensor:
    """Symbols in a byte each, numbers in float32."""
    return value.float() if value.is_floating_point() else value.to(torch.uint8)


def outputs(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model of today makes of the weights and the input of a checkpoint, in float64."""
    model = model.double().eval()
    model.load_state_dict(part(tensors, "weight/"))
    given = {key: widen(value) for key, value in part(tensors, "input/").items()}
    x = given.pop("x")
    with torch.no_grad():
        params = model(x, **given)
        log_prob = model.log_prob(x, **given, reduce=False)  # type: ignore[operator]
    # Two rows of the parameters are enough: every weight has its part in them.
    return {"params": params.flatten(1, -2)[:, -2:].float(), "log_prob": log_prob.flatten(1)}


def widen(value: Tensor) -> Tensor:
    """As the model takes it: int64 and float64."""
    return value.double() if value.is_floating_point() else value.long()


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def main(arguments: list[str]) -> None:
    golden = "--golden" in arguments
    for name in [a for a in arguments if a != "--golden"] or SMALL:
        if golden:
            path = GOLDEN / f"{name}.py.txt"  # not .py: linters and pytest leave it alone
            path.parent.mkdir(exist_ok=True)
            path.write_text(small_text(name))
        else:
            path = CHECKPOINTS / f"{name}.safetensors"
            path.parent.mkdir(exist_ok=True)
            tensors = {k: v.contiguous() for k, v in checkpoint(name).items()}
            save_file(tensors, path)
        print(f"wrote {path.relative_to(HERE)}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
