"""Train the image tower against the frozen text tower and the shape teacher's features."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import shape_teacher
import torch
from augment import LIGHT, STRONG, augment
from device import DEVICE
from image_training import Bank, Plan, train
from images import Images
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

PLAN = Plan(steps=2700, muon_rate=6e-3, adam_rate=2e-3, strengths=(LIGHT, STRONG))
TEMPLATES = ("{}", "a photo of a {}", "the nice {}", "a photo of the nice {}.")
CONFIG = CLIPVisionConfig(
    hidden_size=192,
    intermediate_size=768,
    projection_dim=256,
    num_hidden_layers=5,
    num_attention_heads=6,
    image_size=48,
    patch_size=8,
    hidden_act="quick_gelu",
)
CONFIG._attn_implementation = "eager"
_GRID = CONFIG.image_size // CONFIG.patch_size
_WAVES = 4
"""Frequencies of the position code, for each of the two coordinates."""
_SHARPNESS = 0.5
"""Of the initial attention, of which nine tenths go to the neighbour."""


class ImageTower(nn.Module):
    """CLIP's image tower with the features of its patches, to compare with the shape teacher's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.clip = CLIPVisionModelWithProjection(CONFIG)
        self.places_projection = nn.Linear(CONFIG.hidden_size, channels)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, 256) of length one and the patches before the last layer."""
        found = self.clip(pixel_values=_resized(pixels), output_hidden_states=True)
        patches = found.hidden_states[-2][:, 1:]
        return F.normalize(found.image_embeds.float(), dim=-1), self.places_projection(patches)


def main(work: Path) -> None:
    """Write WORK/vision_tower.safetensors."""
    images = Images(work)
    bank, teacher = Bank(work, images, TEMPLATES), shape_teacher.load(work)
    torch.manual_seed(PLAN.seed)
    model = ImageTower(teacher.channels)
    generator = torch.Generator().manual_seed(PLAN.seed)
    start_as_convolution(model.clip, _some_pixels(images), generator)
    model.to(DEVICE)
    scale = train(work / "vision_tower.pt", model, model, images, bank, PLAN, teacher)
    tensors = {name: t.cpu().contiguous().clone() for name, t in model.clip.state_dict().items()}
    save_file(
        {**tensors, "logit_scale": torch.tensor(math.log(scale))},
        work / "vision_tower.safetensors",
    )


def _resized(pixels: Tensor) -> Tensor:
    size = (CONFIG.image_size, CONFIG.image_size)
    if pixels.shape[2:] == size:
        return pixels
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True)


def _some_pixels(images: Images) -> Tensor:
    rng = np.random.default_rng(PLAN.seed)
    some = torch.from_numpy(rng.choice(len(images.rows), 3000, p=images.probabilities))
    generator = torch.Generator().manual_seed(PLAN.seed)
    return _resized(augment(images.squares[some], images.plain[some], generator, LIGHT))


@torch.no_grad()
def start_as_convolution(
    model: CLIPVisionModelWithProjection, pixels: Tensor, generator: torch.Generator
) -> None:
    """Initialise every head to attend to one neighbour, like one weight of a 3 x 3 filter.

    The first dimensions of the hidden states are sines and cosines of the patch's row and column. A
    phase shift is a linear map, so a query can be the code of the neighbour's position and each key
    the code of its own. Patch filters start as whitened principal components of patches of
    `pixels`. A ViT with this start learns far faster from small data sets than one with random
    attention.
    """
    width, heads = CONFIG.hidden_size, CONFIG.num_attention_heads
    size, coded = width // heads, 4 * _WAVES
    place = torch.arange(_GRID).float()
    frequency = math.pi / _GRID * torch.arange(1, _WAVES + 1)
    waves = torch.cat([(place[:, None] * frequency).cos(), (place[:, None] * frequency).sin()], 1)
    rows = waves.repeat_interleave(_GRID, 0)
    columns = waves.repeat(_GRID, 1)
    amplitude = 1.6
    embeddings = model.vision_model.embeddings
    embeddings.position_embedding.weight.zero_()
    embeddings.position_embedding.weight[1:, :coded] = amplitude * torch.cat([rows, columns], 1)
    filters = torch.zeros(width, 3 * CONFIG.patch_size**2)
    filters[coded:] = 0.7 * _whitened_components(pixels)[: width - coded]
    embeddings.patch_embedding.weight.copy_(filters.view_as(embeddings.patch_embedding.weight))
    neighbours = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    strength = (_SHARPNESS * size**0.5) ** 0.5 / amplitude
    for number, layer in enumerate(model.vision_model.encoder.layers):
        attention = layer.self_attn
        attention.q_proj.weight.normal_(0, 0.02, generator=generator)
        attention.k_proj.weight.normal_(0, 0.02, generator=generator)
        attention.v_proj.weight.normal_(0, width**-0.5, generator=generator)
        attention.out_proj.weight.normal_(0, 0.5 * width**-0.5, generator=generator)
        attention.out_proj.weight[:coded] = 0
        layer.mlp.fc2.weight[:coded] = 0
        for head in range(heads):
            away = neighbours[2 * (heads * number + head) % len(neighbours)]
            turn = torch.block_diag(*(_turned(frequency * steps) for steps in away))
            block = slice(head * size, head * size + coded)
            attention.q_proj.weight[block, :coded] = strength * turn
            attention.k_proj.weight[block, :coded] = strength * torch.eye(coded)


def _turned(angles: Tensor) -> Tensor:
    """Return the map of (cos wx, sin wx) to (cos (wx + angle), sin (wx + angle))."""
    cosine, sine = torch.diag(angles.cos()), torch.diag(angles.sin())
    return torch.cat([torch.cat([cosine, -sine], 1), torch.cat([sine, cosine], 1)])


def _whitened_components(pixels: Tensor) -> Tensor:
    patches = F.unfold(pixels, CONFIG.patch_size, stride=CONFIG.patch_size)
    patches = patches.transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(0)
    values, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
    return (axes / (values + 0.01 * values.max()).sqrt()).T.flip(0)
