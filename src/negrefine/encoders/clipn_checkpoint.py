"""From a CLIPN checkpoint in open_clip's layout to a directory for `load_encoder`."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from negrefine.encoders.clip_config import NO_TOWER
from negrefine.encoders.clipn import PROMPT_NO
from negrefine.encoders.families import load_preprocessing
from negrefine.encoders.loading import (
    check_is_model,
    find_model_directory,
    load_encoder,
)
from negrefine.encoders.open_clip_tensors import blocks_of, n_layers, renamed, tower_names
from negrefine.encoders.tokenizer_files import TOKENIZER_FILES
from negrefine.encoders.tokenizer_reading import load_tokenizer
from negrefine.errors import EncoderError
from negrefine.pretrained.files import check_files

Tensors: TypeAlias = dict[str, Tensor]

_PROCESSOR_FILES = ("special_tokens_map.json", "preprocessor_config.json", "processor_config.json")
# Not stored in checkpoints; the ViT-B and ViT-L of open_clip, which CLIPN was trained on, have it.
_HEAD_WIDTH = 64


def convert_clipn(
    checkpoint: str | os.PathLike[str],
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quick_gelu: bool = False,
) -> bool:
    """Convert a CLIPN checkpoint into a directory of safetensors and JSON.

    Only tensors are read from the checkpoint; one that holds any other Python object is refused,
    because loading it could run code. Returns whether the checkpoint has learned "no" embeddings
    (`prompt_no`), which the hand-crafted variant lacks.

    Args:
        checkpoint: epoch_N.pt of the official trainer, or a bare state dict in its layout.
        base: Directory or hub id of a CLIP model with the same image size, which gives tokenizer
            and image preprocessing. Its weights are not used.
        out: A directory that does not exist or is empty.
        quick_gelu: The towers use OpenAI's approximate GELU instead of the exact one of the LAION
            models that CLIPN was trained from.

    Raises EncoderError if the checkpoint cannot be read or lacks tensors, the base does not fit, or
    the directory cannot be written.
    """
    target = Path(out)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise EncoderError(f"{str(target)!r} exists and is not empty: choose another directory.")
    check_files([Path(checkpoint)], str(Path(checkpoint).parent), EncoderError)
    state = _read_checkpoint(Path(checkpoint))
    model, no_tower, config = _translate(state, str(checkpoint), quick_gelu)
    source = find_model_directory(os.fspath(base), None, weights=False)
    check_is_model(source, str(base))
    _check_base(source, str(base), config)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as staging:
            fresh = Path(staging, "new")
            fresh.mkdir()
            for name in (*TOKENIZER_FILES, *_PROCESSOR_FILES):
                if (source / name).is_file():
                    shutil.copyfile(source / name, fresh / name)
            (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            save_file(model, fresh / "model.safetensors", metadata={"format": "pt"})
            save_file(no_tower, fresh / NO_TOWER, metadata={"format": "pt"})
            try:
                load_encoder(fresh, device="cpu")
            except EncoderError as error:
                raise EncoderError(
                    f"The tensors of the checkpoint {str(checkpoint)!r} do not fit together as a "
                    "CLIPN model: get the file from the authors again."
                ) from error
            if target.exists():
                target.rmdir()
            fresh.rename(target)
    except (OSError, SafetensorError) as error:
        problem = getattr(error, "strerror", None) or error
        raise EncoderError(f"The model cannot be written to {str(target)!r}: {problem}.") from error
    return PROMPT_NO in no_tower


def _read_checkpoint(path: Path) -> Tensors:
    """Return the state dict of a checkpoint, without the "module." of distributed training."""
    try:
        with warnings.catch_warnings():
            # torch advises to relax its checks.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises many classes for files that are cut short or not checkpoints.
        problem = "is cut short, damaged or not a PyTorch file: download it again"
        if isinstance(error, FileNotFoundError):
            problem = "does not exist: check the path"
        # The name of torch's refusal is all that is used of this module.
        elif isinstance(error, pickle.UnpicklingError):
            problem = (
                "is damaged or holds Python objects that could run code when they are loaded, and "
                "was refused: get the file from the authors again"
            )
        raise EncoderError(f"The checkpoint {str(path)!r} {problem}.") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise EncoderError(f"The checkpoint {str(path)!r} holds no state dict: give epoch_N.pt.")
    return {
        str(name).removeprefix("module."): tensor
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }


def _translate(
    state: Mapping[str, Tensor], name: str, quick_gelu: bool
) -> tuple[Tensors, Tensors, dict[str, Any]]:
    """Return the tensors of a CLIPModel, those of the "no" tower, and its config.json."""
    model = {
        **tower_names(state, "vision_model"),
        **tower_names(state, "text_model"),
        "logit_scale": "logit_scale",
    }
    no_tower = tower_names(state, "text_model", "_no")
    if PROMPT_NO in state:
        no_tower[PROMPT_NO] = PROMPT_NO
    missing = [source for source in (*model, *no_tower) if source not in state]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise EncoderError(
            f"The checkpoint {name!r} lacks {', '.join(map(repr, missing[:3]))}{more}: "
            "it is not a CLIPN checkpoint in open_clip's layout, or only a part of one."
        )
    try:
        config = _config(state, quick_gelu)
        return renamed(state, model), renamed(state, no_tower), config
    except (IndexError, ValueError) as error:
        raise EncoderError(
            f"The tensors of the checkpoint {name!r} have impossible shapes: "
            "it is not a CLIPN checkpoint in open_clip's layout."
        ) from error


def _config(state: Mapping[str, Tensor], quick_gelu: bool) -> dict[str, Any]:
    vision_width, _, patch, _ = state["visual.conv1.weight"].shape
    vocabulary, text_width = state["token_embedding.weight"].shape
    dim = state["text_projection"].shape[1]
    grid = math.isqrt(state["visual.positional_embedding"].shape[0] - 1)

    def tower(name: str, width: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": state[f"{blocks_of(name)}.0.mlp.c_fc.weight"].shape[0],
            "projection_dim": dim,
            "num_hidden_layers": n_layers(state, name),
            "num_attention_heads": max(1, width // _HEAD_WIDTH),
            "hidden_act": "quick_gelu" if quick_gelu else "gelu",
            "layer_norm_eps": 1e-5,
        }

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": dim,
        "text_config": {
            "model_type": "clip_text_model",
            **tower("text_model", text_width),
            "vocab_size": vocabulary,
            "max_position_embeddings": state["positional_embedding"].shape[0],
            # CLIP's start and end tokens are the last two of its vocabulary.
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **tower("vision_model", vision_width),
            "num_channels": 3,
            "image_size": grid * patch,
            "patch_size": patch,
        },
    }


def _check_base(directory: Path, name: str, config: dict[str, Any]) -> None:
    size = config["vision_config"]["image_size"]
    given = load_preprocessing(directory, name, None).output_size
    if given != (size, size):
        raise EncoderError(
            f"The preprocessing of {name!r} makes images of size {given} and the checkpoint reads "
            f"{size} x {size}: give a CLIP model of that image size as base."
        )
    words = load_tokenizer(directory, name).get_vocab_size()
    if words != config["text_config"]["vocab_size"]:
        raise EncoderError(
            f"The tokenizer of {name!r} has {words} tokens and the checkpoint "
            f"{config['text_config']['vocab_size']}: give an OpenAI or LAION CLIP model as base."
        )
