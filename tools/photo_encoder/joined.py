"""Join the parts into WORK/model: float16 weights, config.json and preprocessing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from backbone import MARGIN, read_backbone
from image_side import BACKBONE
from safetensors.torch import load_file, save_file
from text_side import CONFIG

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
    tensors |= {f"vision_model.{name}": t for name, t in backbone.network.state_dict().items()}
    stored = {name: t.to(torch.float16).contiguous() for name, t in sorted(tensors.items())}
    save_file(stored, target / "model.safetensors", metadata={"format": "pt"})
    text = CONFIG.to_dict()
    _write(
        target / "config.json",
        {
            "model_type": PHOTO,
            "projection_dim": CONFIG.projection_dim,
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
    files = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    print(files, f"{sum(files.values()) / 1e6:.2f} MB", flush=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
