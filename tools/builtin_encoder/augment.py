"""Drawings on backgrounds: random places, sizes, colours and outlines, a batch at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def augment(squares: Tensor, plain: Tensor, generator: torch.Generator) -> Tensor:
    """Return pixels (n, 3, 64, 64) as the model takes them.

    Args:
        squares: uint8 (n, 64, 64, 4), RGBA.
        plain: bool (n,), drawn without added outlines.
        generator: Draws everything.
    """
    n = len(squares)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    def chance(share: float) -> Tensor:
        return torch.rand(n, generator=generator) < share

    colours = squares.permute(0, 3, 1, 2).float() / 255
    alpha = colours[:, 3:]
    rgb = _recolour(colours[:, :3], uniform, chance)
    # Outlines around those drawn without, sometimes.
    ring = F.max_pool2d(alpha, 3, 1, 1) * (plain & chance(0.15)).view(n, 1, 1, 1)
    covered = torch.maximum(alpha, ring)
    rgb = torch.where(covered > alpha, rgb * alpha / covered.clamp_min(1e-6), rgb)
    layers = torch.cat([rgb * covered, covered], 1)
    # An affine grid looks the source up: a larger factor makes the drawing smaller.
    factor = 1 / uniform(0.62, 1.04)
    turn = uniform(-0.2, 0.2) * chance(0.5)
    mirror = torch.where(chance(0.35), -1.0, 1.0)
    stretch = uniform(0.93, 1.07)
    room = (1 - 1 / factor).clamp_min(0.03)
    cosine, sine = torch.cos(turn) * factor, torch.sin(turn) * factor
    matrix = torch.stack(
        [
            torch.stack([cosine * mirror * stretch, -sine * mirror, uniform(-1, 1) * room], 1),
            torch.stack([sine, cosine / stretch, uniform(-1, 1) * room], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, [n, 4, 64, 64], align_corners=False)
    layers = F.grid_sample(layers, grid, align_corners=False, padding_mode="zeros")
    pixels = layers[:, :3] + _backgrounds(n, uniform, generator) * (1 - layers[:, 3:])
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear")
    pixels = torch.where((chance(0.12)).view(n, 1, 1, 1), soft, pixels)
    return (pixels.clamp(0, 1) - MEAN) / STD


def on_white(squares: Tensor, scale: float = 0.92) -> Tensor:
    """Return pixels of drawings on white with a margin, nothing random."""
    colours = squares.permute(0, 3, 1, 2).float() / 255
    layers = torch.cat([colours[:, :3] * colours[:, 3:], colours[:, 3:]], 1)
    matrix = torch.tensor([[[1 / scale, 0, 0], [0, 1 / scale, 0]]]).expand(len(squares), 2, 3)
    grid = F.affine_grid(matrix, [len(squares), 4, 64, 64], align_corners=False)
    layers = F.grid_sample(layers, grid, align_corners=False, padding_mode="zeros")
    return (layers[:, :3] + 1 - layers[:, 3:] - MEAN) / STD


def _recolour(rgb: Tensor, uniform, chance) -> Tensor:  # type: ignore[no-untyped-def]
    n = len(rgb)
    grey = rgb.mean(1, keepdim=True)
    saturation = torch.where(chance(0.1), 0.0, uniform(0.6, 1.5)).view(n, 1, 1, 1)
    rgb = grey + (rgb - grey) * saturation
    rgb = _turn_hue(rgb, uniform(-0.25, 0.25) * chance(0.4))
    # White stays white and black stays black: gamma, not gain.
    gamma = torch.exp(uniform(-0.35, 0.35, 1)).view(n, 1, 1, 1)
    rgb = rgb.clamp(1e-4, 1) ** (gamma * torch.exp(uniform(-0.15, 0.15, 3)).view(n, 3, 1, 1))
    levels = 3.0
    flat = torch.round(rgb * levels) / levels
    return torch.where(chance(0.08).view(n, 1, 1, 1), flat, rgb)


def _turn_hue(rgb: Tensor, angle: Tensor) -> Tensor:
    """Turn colours about the grey axis by angles in turns."""
    cosine, sine = torch.cos(2 * math.pi * angle), torch.sin(2 * math.pi * angle)
    third, root = (1 - cosine) / 3, sine / math.sqrt(3)
    same = cosine + third
    matrix = torch.stack(
        [
            torch.stack([same, third - root, third + root], 1),
            torch.stack([third + root, same, third - root], 1),
            torch.stack([third - root, third + root, same], 1),
        ],
        1,
    )
    return torch.einsum("nij,njhw->nihw", matrix, rgb)


def _backgrounds(n: int, uniform, generator: torch.Generator) -> Tensor:  # type: ignore[no-untyped-def]
    kind = torch.rand(n, generator=generator).view(n, 1, 1, 1)
    first, second = uniform(0, 1, 3).view(n, 3, 1, 1), uniform(0, 1, 3).view(n, 3, 1, 1)
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1)
    gradient = first + (second - first) * ramp
    noise = torch.rand(n, 3, 8, 8, generator=generator)
    noise = F.interpolate(noise, size=(64, 64), mode="bilinear")
    ground = torch.ones(n, 3, 64, 64)
    ground = torch.where(kind < 0.38, first.expand(n, 3, 64, 64), ground)
    ground = torch.where(kind < 0.16, gradient.expand(n, 3, 64, 64), ground)
    return torch.where(kind < 0.07, noise, ground)
