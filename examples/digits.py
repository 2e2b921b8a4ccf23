"""Train a compiled PixelCNN on real 8x8 digits with a plain PyTorch loop, then draw new ones.

    python examples/digits.py [--epochs 30] [--picture out/digits.png]

The model is `digits.yaml`, beside this file. About a minute on two cores.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from sklearn.datasets import load_digits

import arspec

SPEC = Path(__file__).with_name("digits.yaml")
PIXELS = 8 * 8
HELD_OUT = 297  # of 1,797 images


def load_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The images (1797, 8, 8) with values 0 to 16, and what they show (1797,), shuffled."""
    digits = load_digits()
    shuffle = torch.randperm(len(digits.target))
    images = torch.as_tensor(digits.images).long()
    return images[shuffle], torch.as_tensor(digits.target)[shuffle]


@torch.no_grad()
def bits_per_dimension(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Bits that the model needs per pixel, on average; log2(17) = 4.09 is pure guessing."""
    model.eval()
    return -model.log_prob(images, label=labels).mean().item() / (PIXELS * math.log(2))


def train(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Maximise the likelihood: nothing here knows that the model came from a spec."""
    batch = 50
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in track(range(epochs), description="training"):
        for chosen in torch.randperm(len(images)).split(batch):
            loss = -model.log_prob(images[chosen], label=labels[chosen]).mean() / PIXELS
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


def save_picture(images: torch.Tensor, path: Path) -> None:
    """Write (rows, columns, 8, 8) images as one picture, each pixel 5 x 5, ink on paper."""
    framed = torch.nn.functional.pad(images, (1, 1, 1, 1))
    rows, columns, height, width = framed.shape
    sheet = framed.transpose(1, 2).reshape(rows * height, columns * width)
    ink = (255 - sheet.numpy() * 255 / 16).astype(np.uint8).repeat(5, axis=0).repeat(5, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ink).save(path)


def main() -> None:
    """Build, train, compare, draw."""
    parser = argparse.ArgumentParser(description="Train a compiled PixelCNN on 8x8 digits.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--picture", type=Path, default=Path("out/digits.png"))
    options = parser.parse_args()

    torch.manual_seed(0)
    images, labels = load_images()
    held_out = images[:HELD_OUT], labels[:HELD_OUT]

    model = arspec.build(SPEC)
    before = bits_per_dimension(model, *held_out)
    train(model, images[HELD_OUT:], labels[HELD_OUT:], options.epochs)
    after = bits_per_dimension(model, *held_out)
    print(
        f"bits per dimension on {HELD_OUT} held-out digits: {before:.3f} before, {after:.3f} after"
    )

    shown = torch.arange(10).repeat_interleave(10)  # ten of each digit, a row each
    drawn = model.sample(len(shown), shape=(8, 8), label=shown)
    save_picture(drawn.view(10, 10, 8, 8), options.picture)
    print(f"a row of samples per digit: {options.picture}")


if __name__ == "__main__":
    main()
