"""Train two small convolutional networks, which learn drawings with far fewer samples than a ViT.

They are teachers only: the image tower imitates the mean of their features, and they are not
shipped. One is trained on lightly and one on strongly augmented images. Their mean classifies more
drawings of a new style correctly than either.
"""

from __future__ import annotations

from pathlib import Path

import torch
from augment import LIGHT, STRONG
from device import DEVICE
from image_training import Bank, Plan, ShapeTeacher, train
from images import Images
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

WIDTH = 64
PLANS = {
    "light": Plan(steps=2800, muon_rate=1e-2, adam_rate=3e-3, strengths=(LIGHT,)),
    "strong": Plan(steps=3000, muon_rate=1e-2, adam_rate=3e-3, strengths=(STRONG,)),
}


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a skip connection (a residual block)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.short_cut = nn.Identity()
        if stride > 1:
            self.short_cut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
            )
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next layer (n, after, height / stride, width / stride)."""
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.short_cut(x))


class ShapeNetwork(nn.Module):
    """A residual network of 1.3 M parameters: 16 x 16, 8 x 8 and 4 x 4 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 7, 4, 3, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTH)
        self.blocks = nn.Sequential(
            _Block(WIDTH, WIDTH, 1), _Block(WIDTH, 2 * WIDTH, 2), _Block(2 * WIDTH, 4 * WIDTH, 2)
        )
        self.projection = nn.Linear(4 * WIDTH, 256, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, 256) of length one, and the map (n, 256, 4, 4) they are means of."""
        pixels = pixels.to(memory_format=torch.channels_last)
        shapes = self.blocks(F.relu(self.stem_norm(self.stem(pixels))))
        return F.normalize(self.projection(shapes.mean((2, 3))).float(), dim=-1), shapes


def main(work: Path) -> None:
    """Write WORK/shape_teacher_light.safetensors and WORK/shape_teacher_strong.safetensors."""
    images = Images(work)
    bank = Bank(work, images, ("{}",))
    for name, plan in PLANS.items():
        torch.manual_seed(plan.seed)
        model = ShapeNetwork().to(DEVICE, memory_format=torch.channels_last)
        path = work / f"shape_teacher_{name}.safetensors"
        scale = train(path.with_suffix(".pt"), model, model, images, bank, plan)
        tensors = {key: t.cpu().contiguous().clone() for key, t in model.state_dict().items()}
        save_file({**tensors, "scale": torch.tensor(scale)}, path)


def load(work: Path) -> ShapeTeacher:
    """Return the mean of both networks' features, and their maps side by side."""
    models, scales = [], []
    for name in PLANS:
        tensors = load_file(work / f"shape_teacher_{name}.safetensors")
        scales.append(float(tensors.pop("scale")))
        model = ShapeNetwork()
        model.load_state_dict(tensors)
        models.append(model.eval().to(DEVICE, memory_format=torch.channels_last))

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = [model(pixels) for model in models]
        features = F.normalize(torch.stack([f for f, _ in found]).sum(0), dim=-1)
        return features, torch.cat([shapes for _, shapes in found], 1)

    return ShapeTeacher(encode, sum(scales) / len(scales), 2 * 4 * WIDTH)
