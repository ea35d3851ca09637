"""Augment batches of drawings: random positions, sizes, colours, outlines and backgrounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

MEAN = torch.tensor(OPENAI_CLIP_MEAN).view(3, 1, 1)
STD = torch.tensor(OPENAI_CLIP_STD).view(3, 1, 1)


@dataclass(frozen=True)
class Strength:
    """Strength of the random changes to images.

    Attributes:
        hue: Largest rotation of the hue, in full turns, and the share of images rotated.
        grey: Share of images without colour.
        tones: Largest change of the logarithm of gamma, of all channels and of each.
        smallest: Smallest size, as a fraction.
        turn: Largest rotation in radians, and the share of images rotated.
        mirrored: Share of images that are mirrored.
        stretch: Largest change of the logarithm of width over height, halved.
        slant: Largest shear, as a tangent; half of the images are sheared.
        bend: Size of a smooth deformation, in half images; 60 % of the images are deformed.
        covered: Share of images with a rectangle of one colour on them.
        mixed: Share of images blended with another one of the batch (mixup).
    """

    hue: tuple[float, float]
    grey: float
    tones: tuple[float, float]
    smallest: float
    turn: tuple[float, float]
    mirrored: float
    stretch: float
    slant: float
    bend: float
    covered: float
    mixed: float


LIGHT = Strength((0.08, 0.4), 0.08, (0.3, 0.12), 0.66, (0.2, 0.4), 0.3, 0.06, 0, 0, 0, 0)
STRONG = Strength((0.1, 0.5), 0.1, (0.4, 0.2), 0.64, (0.3, 0.5), 0.4, 0.18, 0.2, 0.12, 0.2, 0.3)


class _Draws:
    """Random numbers for a batch, drawn on the CPU, so that they are the same on every device."""

    def __init__(self, n: int, generator: torch.Generator, device: torch.device) -> None:
        self.n, self.generator, self.device = n, generator, device

    def uniform(self, low: float, high: float, *shape: int, n: int | None = None) -> Tensor:
        """Return (n, *shape) numbers between two bounds."""
        drawn = torch.rand(self.n if n is None else n, *shape, generator=self.generator)
        return (drawn * (high - low) + low).to(self.device)

    def around(self, largest: float, share: float = 1.0) -> Tensor:
        """Return (n,) numbers around zero for a share of the rows, and zero for the others."""
        return self.uniform(-largest, largest) * self.chance(share)

    def chance(self, share: float) -> Tensor:
        """Return (n,) booleans, true for a share of the rows."""
        return self.uniform(0, 1) < share


def augment(
    squares: Tensor, plain: Tensor, generator: torch.Generator, strength: Strength
) -> Tensor:
    """Return pixels (n, 3, 64, 64) as the model takes them.

    Args:
        squares: uint8 (n, 64, 64, 4), RGBA.
        plain: bool (n,), drawn without added outlines.
        generator: Source of all random numbers; on the CPU.
        strength: Strength of the changes.
    """
    draws = _Draws(len(squares), generator, squares.device)
    colours = squares.permute(0, 3, 1, 2).float() / 255
    alpha = colours[:, 3:]
    layers = torch.cat([_recolour(colours[:, :3], draws, strength) * alpha, alpha], 1)
    # Outlines around some of the drawings that have none.
    ringed = (plain & draws.chance(0.12)).nonzero().flatten()
    layers[ringed, 3:] = F.max_pool2d(alpha[ringed], 3, 1, 1)
    layers = _move(layers, draws, strength)
    uncovered = 1 - layers[:, 3:]
    pixels = layers[:, :3] + uncovered
    kind = draws.uniform(0, 1)
    grounded = (kind < 0.35).nonzero().flatten()
    ground = _backgrounds(kind[grounded], draws)
    pixels[grounded] += uncovered[grounded] * (ground - 1)
    soft = draws.chance(0.12).nonzero().flatten()
    halved = F.avg_pool2d(pixels[soft], 2)
    pixels[soft] = F.interpolate(halved, scale_factor=2, mode="bilinear")
    if strength.covered:
        _cover(pixels, draws, strength)
    return _normalised(pixels.clamp(0, 1))


def on_white(squares: Tensor, scale: float = 0.92) -> Tensor:
    """Return pixels of drawings on white with a margin, without random changes."""
    colours = squares.permute(0, 3, 1, 2).float() / 255
    layers = torch.cat([colours[:, :3] * colours[:, 3:], colours[:, 3:]], 1)
    matrix = torch.tensor([[[1 / scale, 0, 0], [0, 1 / scale, 0]]], device=squares.device)
    layers = _looked_up(layers, matrix.expand(len(squares), 2, 3))
    return _normalised(layers[:, :3] + 1 - layers[:, 3:])


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels - MEAN.to(pixels.device)) / STD.to(pixels.device)


def _recolour(rgb: Tensor, draws: _Draws, strength: Strength) -> Tensor:
    """Change saturation and hue a little (grey and any hue for a few), then the tones."""
    n = len(rgb)
    saturation = torch.exp(draws.uniform(-0.35, 0.35))
    saturation = torch.where(draws.chance(strength.grey), 0.0, saturation).view(n, 1, 1)
    turn = draws.around(*strength.hue)
    turn = torch.where(draws.chance(0.06), draws.uniform(-0.5, 0.5), turn)
    eye = torch.eye(3, device=rgb.device)
    matrix = _hue_turn(turn) @ (saturation * eye + (1 - saturation) / 3)
    rgb = torch.bmm(matrix, rgb.reshape(n, 3, -1)).view_as(rgb)
    # White stays white and black stays black: gamma, not gain.
    every, each = strength.tones
    gamma = torch.exp(draws.uniform(-every, every, 1) + draws.uniform(-each, each, 3))
    rgb.clamp_(1e-4, 1).pow_(gamma.view(n, 3, 1, 1))
    flat = draws.chance(0.1).nonzero().flatten()
    rgb[flat] = torch.round(rgb[flat] * 3) / 3
    return rgb


def _hue_turn(turn: Tensor) -> Tensor:
    """Return matrices (n, 3, 3) that rotate colours about the grey axis; 1 is a full turn."""
    cosine, sine = torch.cos(2 * math.pi * turn), torch.sin(2 * math.pi * turn)
    third, root = (1 - cosine) / 3, sine / math.sqrt(3)
    same = cosine + third
    rows = (
        (same, third - root, third + root),
        (third + root, same, third - root),
        (third - root, third + root, same),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _move(layers: Tensor, draws: _Draws, strength: Strength) -> Tensor:
    """Shrink, rotate, mirror, stretch, shift, shear and deform."""
    # An affine grid maps target to source: a larger factor makes the drawing smaller.
    factor = 1 / draws.uniform(strength.smallest, 1.02)
    turn = draws.around(*strength.turn)
    mirror = torch.where(draws.chance(strength.mirrored), -1.0, 1.0)
    stretch = torch.exp(draws.around(strength.stretch))
    room = 0.7 * (factor - 1).clamp_min(0.03)
    right, down = draws.uniform(-1, 1) * room, draws.uniform(-1, 1) * room
    slant = draws.around(strength.slant, 0.5) if strength.slant else torch.zeros_like(turn)
    cosine, sine = torch.cos(turn) * factor, torch.sin(turn) * factor
    across = [cosine * mirror * stretch, (slant * cosine - sine) * mirror, right]
    along = [sine * stretch, (slant * sine + cosine) / stretch, down]
    matrix = torch.stack([torch.stack(across, 1), torch.stack(along, 1)], 1)
    if not strength.bend:
        return _looked_up(layers, matrix)
    bend = draws.uniform(-strength.bend, strength.bend, 2, 4, 4)
    return _looked_up(layers, matrix, bend * draws.chance(0.6).view(-1, 1, 1, 1))


def _looked_up(layers: Tensor, matrix: Tensor, bend: Tensor | None = None) -> Tensor:
    grid = F.affine_grid(matrix, list(layers.shape), align_corners=False)
    if bend is not None:
        field = F.interpolate(bend, size=grid.shape[1:3], mode="bilinear", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    return F.grid_sample(layers, grid, align_corners=False, padding_mode="zeros")


def _cover(pixels: Tensor, draws: _Draws, strength: Strength) -> None:
    """Cover a part of some images with a rectangle, white or of one colour."""
    some = draws.chance(strength.covered).nonzero().flatten()
    n = len(some)
    centre, half = draws.uniform(0, 64, 2, n=n), draws.uniform(5, 14, 2, n=n)
    away = (torch.arange(64, device=pixels.device) - centre[:, :, None]).abs() < half[:, :, None]
    inside = away[:, 0, :, None] & away[:, 1, None, :]
    colour = draws.uniform(0, 1, 3, 1, 1, n=n)
    colour = torch.where(draws.uniform(0, 1, 1, 1, 1, n=n) < 0.5, 1.0, colour)
    pixels[some] = torch.where(inside[:, None], colour, pixels[some])


def _backgrounds(kind: Tensor, draws: _Draws) -> Tensor:
    """Return clouds (kind below 0.06), gradients (below 0.15) or one colour, (n, 3, 64, 64)."""
    n = len(kind)
    first, second = draws.uniform(0, 1, 3, 1, 1, n=n), draws.uniform(0, 1, 3, 1, 1, n=n)
    ramp = torch.linspace(0, 1, 64, device=kind.device).view(1, 1, 64, 1)
    ground = (first + (second - first) * ramp * (kind < 0.15).view(n, 1, 1, 1)).repeat(1, 1, 1, 64)
    clouds = (kind < 0.06).nonzero().flatten()
    noise = draws.uniform(0, 1, 3, 8, 8, n=len(clouds))
    ground[clouds] = F.interpolate(noise, size=(64, 64), mode="bilinear")
    return ground
