"""What a directory holds that is no model in the layout of `save_pretrained`."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SAVE = "load it with its own library and write it with save_pretrained"
# The first that is there decides. Of each the patterns of files, what they are, and what to do.
_FORMATS = (
    (
        ("adapter_config.json", "adapter_model.*"),
        "an adapter (LoRA), which is a part of a model",
        "merge it with its base model (merge_and_unload of peft) and give what save_pretrained "
        "writes then",
    ),
    (
        ("open_clip_*.safetensors", "open_clip_*.bin"),
        "weights in the layout of open_clip without open_clip_config.json",
        "download it too, or give a conversion to CLIPModel",
    ),
    (
        ("model-*-of-*.safetensors",),
        "weights in several files without model.safetensors.index.json, which says what is where",
        "download it too",
    ),
    (
        ("*.safetensors",),
        "safetensors weights, but none called model.safetensors",
        "give the original directory, or rename the file if it has the whole model",
    ),
    # `weight_files` says what to do with pickled weights.
    (("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt"), "", ""),
    (("*.gguf",), "a model in GGUF, the format of llama.cpp", "give the original model"),
    (("*.onnx", "onnx/*.onnx"), "a model in ONNX", "give the original model"),
    (
        ("tf_model.h5", "flax_model.msgpack", "saved_model.pb"),
        "weights of TensorFlow or Flax",
        _SAVE,
    ),
)
# Of these there is more to say than that a file is missing, even without weights.
_NO_CONFIG = ("adapter_config.json", "*.gguf", "*.onnx", "open_clip_*.safetensors")
_MAX_ENTRIES = 20_000
# From HF_HOME: hub/models--org--name/snapshots/hash.
_MAX_DEPTH = 4


def is_adapter(directory: Path) -> bool:
    """Return whether a directory holds an adapter, whole model or not."""
    return (directory / "adapter_config.json").exists()


def other_format(directory: Path, *, with_config: bool) -> str | None:
    """Return what a directory holds in place of weights that can be loaded, and what to do.

    None if it has nothing of the kind. `with_config` tells that it has a config.json.
    """
    for patterns, what, advice in _FORMATS:
        known = with_config or patterns[0] in _NO_CONFIG
        if known and any(next(directory.glob(pattern), None) for pattern in patterns):
            return f"{what}: {advice}" if what else None
    return None


def models_inside(directory: Path) -> list[Path]:
    """Return the folders inside that hold a config.json, in the order of people.

    Searched are four levels and 20,000 entries, level by level; links are not followed.
    """
    found: list[Path] = []
    level, n_entries = [str(directory)], 0
    for _ in range(_MAX_DEPTH):
        below: list[str] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        n_entries += 1
                        if n_entries > _MAX_ENTRIES:
                            break
                        if entry.is_dir(follow_symlinks=False):
                            below.append(entry.path)
            except OSError:
                continue
        found += [Path(each) for each in below if os.path.exists(f"{each}/config.json")]  # noqa: PTH110
        level = sorted(below)
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort checkpoint-500 before checkpoint-1000."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]
