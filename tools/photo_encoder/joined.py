"""Join the parts into WORK/model: float16 weights, config.json and preprocessing.

The matrices of the text tower and of the head are rounded to multiples of about a sixteenth of
their root mean square: a wheel and a clone compress them to half, and a vector of such numbers
moves by an angle of one degree.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from backbone import MARGIN, read_backbone
from image_side import BACKBONE, class_means
from safetensors.torch import load_file, save_file
from text_model import CONFIG, DIMENSIONS
from torch import Tensor

from negrefine.encoders.photo_family import PHOTO

_TEXT_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "vocab_size",
    "max_position_embeddings",
)


def main(work: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json beside the tokenizer."""
    target = work / "model"
    backbone = read_backbone(work, BACKBONE)
    tensors = load_file(work / "text_side.safetensors") | load_file(work / "image_side.safetensors")
    tensors["visual_projection.weight"] = class_means(work).T
    tensors = {name: _rounded(t) if t.ndim == 2 else t for name, t in tensors.items()}
    tensors |= {f"vision_model.{name}": t for name, t in backbone.network.state_dict().items()}
    stored = {name: t.to(torch.float16).contiguous() for name, t in sorted(tensors.items())}
    save_file(stored, target / "model.safetensors", metadata={"format": "pt"})
    text = asdict(CONFIG)
    _write(
        target / "config.json",
        {
            "model_type": PHOTO,
            "projection_dim": DIMENSIONS,
            "text_config": {field: text[field] for field in _TEXT_FIELDS},
            "vision_config": asdict(backbone.config),
        },
    )
    side = backbone.config.image_size
    _write(
        target / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": side + MARGIN},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [127 / 255] * 3,
            "image_std": [128 / 255] * 3,
        },
    )
    tokenizer = target / "tokenizer.json"
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    tokenizer.write_text(compact + "\n", encoding="utf-8")
    files = {path.name: path.read_bytes() for path in sorted(target.iterdir())}
    for kind, sizes in (
        ("installed", [len(content) for content in files.values()]),
        ("compressed", [len(zlib.compress(content)) for content in files.values()]),
    ):
        print(f"{kind}: {sum(sizes) / 1e6:.2f} MB", flush=True)


def _rounded(matrix: Tensor) -> Tensor:
    step = 2.0 ** torch.round(torch.log2(matrix.square().mean().sqrt() / 16))
    return (matrix / step).round() * step


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
