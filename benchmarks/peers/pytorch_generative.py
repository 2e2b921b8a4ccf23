"""pytorch-generative (Eugen Hotaj): PixelCNN and Gated PixelCNN, one full forward per pixel.

The library is in no package index, so this is its algorithm written anew: the same layers in the
same order with the same paddings, and the same loop over pixels. Two traits of it are kept: a
layer of its PixelCNN adds its input twice, and masks are applied to the weights at every forward.
Every forward is over the whole image, so all pixels cost the same, and a sample of them will do.
"""

import torch
from torch import Tensor, nn

from peers import Peer


class MaskedConv2d(nn.Conv2d):
    """A square convolution of the rows above and of what is to the left, or `and_itself`."""

    def __init__(self, inputs: int, outputs: int, size: int, *, and_itself: bool) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        mask = torch.zeros(size, size)
        mask[: size // 2] = 1
        mask[size // 2, : size // 2 + and_itself] = 1
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class PixelCNN(nn.Module):
    """(B, 1, H, W) to logits of the same shape."""

    def __init__(self, depth: int, half: int, top: int) -> None:
        super().__init__()
        self.stem = MaskedConv2d(1, 2 * half, 7, and_itself=False)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(2 * half, half, 1),
                nn.ReLU(), MaskedConv2d(half, half, 3, and_itself=True),
                nn.ReLU(), nn.Conv2d(half, 2 * half, 1),
            )
            for _ in range(depth)
        )  # fmt: skip
        self.head = head(2 * half, top)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = x + (x + layer(x))
        return self.head(x)


class GatedLayer(nn.Module):
    """The vertical and the horizontal stack; the `first` layer leaves its own pixel out."""

    def __init__(self, inputs: int, width: int, size: int, *, first: bool) -> None:
        super().__init__()
        half, self.first = size // 2, first
        self.wide = nn.Conv2d(inputs, width, (1, size), padding=(0, half))
        self.tall = nn.Conv2d(width, 2 * width, (half + 1, 1), padding=(half + 1, 0))
        self.point = nn.Conv2d(inputs, 2 * width, 1)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.left = nn.Conv2d(inputs, 2 * width, (1, half + 1), padding=(0, half + first))
        self.dense = nn.Conv2d(width, width, 1)
        self.skip = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tall = self.tall(self.wide(v))[:, :, : v.shape[2]]  # only rows above
        z = gate(self.link(tall) + self.left(h)[..., : h.shape[3]])
        dense = self.dense(z)
        return gate(tall + self.point(v)), dense if self.first else dense + h, self.skip(z)


class GatedPixelCNN(nn.Module):
    """(B, 1, H, W) to logits of the same shape."""

    def __init__(self, depth: int, width: int, top: int) -> None:
        super().__init__()
        self.first = GatedLayer(1, width, 7, first=True)
        self.layers = nn.ModuleList(GatedLayer(width, width, 3, first=False) for _ in range(depth))
        self.head = head(width, top)

    def forward(self, x: Tensor) -> Tensor:
        v, h, skips = self.first(x, x)
        for layer in self.layers:
            v, h, skip = layer(v, h)
            skips += skip
        return self.head(skips)


def head(width: int, top: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(width, top, 1), nn.ReLU(), nn.Conv2d(top, 1, 1))


def gate(x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return torch.tanh(left) * torch.sigmoid(right)


@torch.no_grad()
def draw(module: nn.Module, batch: int, shape: tuple[int, int], pixels: int) -> Tensor:
    """Draw `pixels` of all, evenly spread; what is not drawn yet is -1."""
    height, width = shape
    image = torch.full((batch, 1, height, width), -1.0)
    for i in range(pixels):
        row, col = divmod(i * height * width // pixels, width)
        logits = module(image)[:, :, row, col]
        drawn = torch.distributions.Bernoulli(logits=logits).sample()
        now = image[:, :, row, col]
        image[:, :, row, col] = torch.where(now < 0, drawn, now)
    return image


def pixelcnn(model: nn.Module, shape: tuple[int, int], pixels: int) -> Peer:
    """`model` is a compiled `pixelcnn_mnist`."""
    top, wide = model.out[1].weight.shape
    module = PixelCNN(len(model.layers), wide // 2, top)
    names = {"stem": "stem", **HEAD}
    for i in range(len(model.layers)):
        names |= {f"layers.{i}.{part}": f"layers.{i}.body.{part}" for part in (1, 3, 5)}
    return peer(module, model, names, shape, pixels)


def gated_pixelcnn(model: nn.Module, shape: tuple[int, int], pixels: int) -> Peer:
    """`model` is a compiled `gated_pixelcnn_mnist`."""
    top, width = model.out[0].weight.shape
    module = GatedPixelCNN(len(model.layers), width, top)
    names = HEAD | {"first.skip": "skip", "first.dense": "h", "head.1": "out.0"}
    stacks = {
        "wide": "wide", "tall": "v_f_v_g", "point": "p_f_p_g",
        "link": "h_f_h_g_v_f", "left": "h_f_h_g",
    }  # fmt: skip
    names |= {f"first.{their}": f"gates.{own}" for their, own in stacks.items()}
    for i in range(len(model.layers)):
        layer = f"layers.{i}"
        names |= {f"{layer}.{their}": f"{layer}.gates.{own}" for their, own in stacks.items()}
        names |= {f"{layer}.{part}": f"{layer}.{part}" for part in ("skip", "dense")}
    return peer(module, model, names, shape, pixels)


HEAD = {"head.1": "out.1", "head.3": "head"}


def peer(
    module: nn.Module, model: nn.Module, names: dict[str, str], shape: tuple[int, int], pixels: int
) -> Peer:
    """With the weights of `model`; `names` says which of its layers each of the module's is."""
    ours, theirs = model.state_dict(), module.state_dict()
    masked = 0
    for their, own in names.items():
        weight, kept = theirs[f"{their}.weight"], ours[f"{own}.weight"]
        kept = kept.reshape(*kept.shape, *[1] * (4 - kept.dim()))  # a linear map is a 1x1
        weight.zero_()[:, :, : kept.shape[2], : kept.shape[3]] = kept
        masked += weight.numel() - kept.numel()
        theirs[f"{their}.bias"].copy_(ours[f"{own}.bias"])
    unset = {name.rsplit(".", 1)[0] for name, _ in module.named_parameters()} - names.keys()
    assert not unset, unset
    return Peer(
        "pytorch-generative",
        module.eval(),
        lambda x: module(2.0 * x[:, None] - 1)[:, 0, ..., None],  # ours reads 0 and 1 as -1 and 1
        lambda batch, pixels: draw(module, batch, shape, pixels),
        masked=masked,
        sampled=pixels,
    )
