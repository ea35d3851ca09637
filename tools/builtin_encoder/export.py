"""Join both towers into WORK/model: an ordinary CLIPModel directory in float16."""

from __future__ import annotations

from pathlib import Path

import text_tower
import torch
import vision_tower
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel


def main(work: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json beside the tokenizer."""
    text = load_file(work / "text_tower.safetensors")
    vision = load_file(work / "vision_tower.safetensors")
    config = CLIPConfig(
        text_config=text_tower.CONFIG.to_dict(),
        vision_config=vision_tower.CONFIG.to_dict(),
        projection_dim=256,
        logit_scale_init_value=float(vision["logit_scale"]),
    )
    model = CLIPModel(config)
    missing, unexpected = model.load_state_dict({**text, **vision}, strict=False)
    if missing or unexpected:
        raise SystemExit(f"The towers do not fit: {missing} missing, {unexpected} unexpected.")
    model.to(torch.float16).save_pretrained(work / "model")
    side = vision_tower.CONFIG.image_size
    CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    ).save_pretrained(work / "model")
    total = sum(path.stat().st_size for path in (work / "model").iterdir())
    print(f"{total / 1e6:.2f} MB, logit scale {vision['logit_scale'].exp():.1f}")
