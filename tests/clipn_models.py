"""Checkpoints of CLIPN with random weights, as the official trainer writes them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

State = dict[str, torch.Tensor]


def open_clip_layout(model: State, no_tower: State) -> State:
    """Write a CLIPModel and a "no" tower as the official trainer writes them."""
    state: State = {}

    def block(source: State, old: str, new: str) -> None:
        attention = f"{old}.self_attn"
        for kind in ("weight", "bias"):
            qkv = [source[f"{attention}.{letter}_proj.{kind}"] for letter in "qkv"]
            state[f"{new}.attn.in_proj_{kind}"] = torch.cat(qkv)
            state[f"{new}.attn.out_proj.{kind}"] = source[f"{attention}.out_proj.{kind}"]
            state[f"{new}.ln_1.{kind}"] = source[f"{old}.layer_norm1.{kind}"]
            state[f"{new}.ln_2.{kind}"] = source[f"{old}.layer_norm2.{kind}"]
            state[f"{new}.mlp.c_fc.{kind}"] = source[f"{old}.mlp.fc1.{kind}"]
            state[f"{new}.mlp.c_proj.{kind}"] = source[f"{old}.mlp.fc2.{kind}"]

    def blocks(source: State, old: str, new: str) -> None:
        layer = 0
        while f"{old}.{layer}.layer_norm1.weight" in source:
            block(source, f"{old}.{layer}", f"{new}.{layer}")
            layer += 1

    def text(source: State, suffix: str) -> None:
        embeddings = "text_model.embeddings"
        state[f"token_embedding{suffix}.weight"] = source[f"{embeddings}.token_embedding.weight"]
        state[f"positional_embedding{suffix}"] = source[f"{embeddings}.position_embedding.weight"]
        blocks(source, "text_model.encoder.layers", f"transformer{suffix}.resblocks")
        for kind in ("weight", "bias"):
            state[f"ln_final{suffix}.{kind}"] = source[f"text_model.final_layer_norm.{kind}"]
        state[f"text_projection{suffix}"] = source["text_projection.weight"].T.contiguous()

    vision = "vision_model.embeddings"
    state["visual.conv1.weight"] = model[f"{vision}.patch_embedding.weight"]
    state["visual.class_embedding"] = model[f"{vision}.class_embedding"]
    state["visual.positional_embedding"] = model[f"{vision}.position_embedding.weight"]
    for kind in ("weight", "bias"):
        state[f"visual.ln_pre.{kind}"] = model[f"vision_model.pre_layrnorm.{kind}"]
        state[f"visual.ln_post.{kind}"] = model[f"vision_model.post_layernorm.{kind}"]
    blocks(model, "vision_model.encoder.layers", "visual.transformer.resblocks")
    state["visual.proj"] = model["visual_projection.weight"].T.contiguous()
    text(model, "")
    text(no_tower, "_no")
    state["logit_scale"] = model["logit_scale"]
    if "prompt_no" in no_tower:
        state["prompt_no"] = no_tower["prompt_no"]
    return state


def save_checkpoint(path: Path, state: State, prefix: str = "module.") -> Path:
    content = {
        "epoch": 10,
        "name": "CLIPN_model_ViT-B-16",
        "state_dict": OrderedDict((prefix + name, tensor) for name, tensor in state.items()),
        "optimizer": {"state": {}, "param_groups": [{"lr": 3e-4, "params": [0, 1]}]},
        "scaler": {"scale": 65536.0, "growth_interval": 2000},
    }
    torch.save(content, path)
    return path


def small_towers(patch: int = 24) -> tuple[State, State]:
    """Random towers for the vocabulary, context and image size of the built-in encoder."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / 4

    def layers(prefix: str, width: int, number: int) -> State:
        tensors = {}
        for layer in range(number):
            here = f"{prefix}.{layer}"
            for norm in ("layer_norm1", "layer_norm2"):
                tensors[f"{here}.{norm}.weight"] = 1 + random(width)
                tensors[f"{here}.{norm}.bias"] = random(width)
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                tensors[f"{here}.self_attn.{part}.weight"] = random(width, width)
                tensors[f"{here}.self_attn.{part}.bias"] = random(width)
            for part, sizes in (("fc1", (2 * width, width)), ("fc2", (width, 2 * width))):
                tensors[f"{here}.mlp.{part}.weight"] = random(*sizes)
                tensors[f"{here}.mlp.{part}.bias"] = random(sizes[0])
        return tensors

    def text(width: int) -> State:
        return {
            "text_model.embeddings.token_embedding.weight": random(8189, width),
            "text_model.embeddings.position_embedding.weight": random(32, width),
            **layers("text_model.encoder.layers", width, 1),
            "text_model.final_layer_norm.weight": 1 + random(width),
            "text_model.final_layer_norm.bias": random(width),
            "text_projection.weight": random(24, width),
        }

    model = {
        "logit_scale": torch.tensor(np.log(100.0), dtype=torch.float32),
        "vision_model.embeddings.class_embedding": random(128),
        "vision_model.embeddings.patch_embedding.weight": random(128, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": random(5, 128),
        **layers("vision_model.encoder.layers", 128, 2),
        **{f"vision_model.pre_layrnorm.{k}": 1 + random(128) for k in ("weight", "bias")},
        **{f"vision_model.post_layernorm.{k}": 1 + random(128) for k in ("weight", "bias")},
        "visual_projection.weight": random(24, 128),
        **text(64),
    }
    return model, {**text(64), "prompt_no": random(16, 32, 64)}
