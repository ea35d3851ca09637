"""Models in open_clip's own layout as a family: a CLIP under other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.encoders import open_clip_config
from negrefine.encoders.clip_config import CLIPArchitecture
from negrefine.encoders.clip_family import ModelFiles
from negrefine.encoders.clip_sizes import check_clip_sizes
from negrefine.encoders.open_clip_tensors import renamed, renamed_shapes, tower_names
from negrefine.encoders.tokenizer_reading import (
    canonical,
    check_vocabulary,
    cuts,
    load_tokenizer,
    read_tokenizer,
)
from negrefine.encoders.tokens import TextTokenizer, clean_text
from negrefine.errors import EncoderError
from negrefine.pretrained.files import check_files

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder

_WEIGHTS = "open_clip_model.safetensors"
_PICKLED = "open_clip_pytorch_model.bin"
_SCALE, _BIAS = "logit_scale", "logit_bias"
_OPENAI_TOKENIZER = "openai/clip-vit-base-patch32"
# Masks that older checkpoints hold, which no model reads.
_COUNTED = frozenset({"attn_mask"})


def open_clip_weights(directory: Path, config: Mapping[str, Any], name: str) -> list[Path]:
    """Return the file of the weights; EncoderError if there is none in safetensors."""
    del config
    file = directory / _WEIGHTS
    if not file.exists() and (directory / _PICKLED).exists():
        raise EncoderError(
            f"{name!r} holds pickled weights ({_PICKLED}), which are never loaded: in its folder, "
            'convert them once with python -c "import torch; from safetensors.torch import '
            f"save_file; save_file(torch.load('{_PICKLED}', weights_only=True), '{_WEIGHTS}')\"."
        )
    if not file.exists():
        raise EncoderError(f"{name!r} holds no {_WEIGHTS}: download the model again.")
    check_files([file], name, EncoderError)
    return [file]


def check_open_clip(files: ModelFiles) -> CLIPArchitecture:
    """Return the architecture; EncoderError if it is not CLIP's or not of these weights."""
    found = open_clip_config.architecture(files.config, files.name)
    shapes = {_plain(name): shape for name, shape in files.shapes.items()}
    expected = _names(shapes)
    missing = [name for name in expected if name not in shapes]
    unknown = sorted(set(shapes) - set(expected) - _COUNTED - {_BIAS})
    if missing or unknown:
        what = f"lack {missing[0]!r}" if missing else f"have {unknown[0]!r} besides"
        raise EncoderError(
            f"The weights of {files.name!r} are not those of a CLIP model in open_clip's layout: "
            f"they {what}; give another model, or download it again."
        )
    sizes = asdict(found)
    given: dict[str, Any] = {"text_config": {}, "vision_config": {}}
    check_clip_sizes(sizes, given, renamed_shapes(shapes, expected), files.name)
    return found


def read_open_clip(files: ModelFiles, architecture: CLIPArchitecture, dtype: str) -> Any:
    """Return the model on the CPU; EncoderError if its weights cannot be loaded."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from negrefine.encoders.clip_model import PlainCLIPModel

    with torch.device("meta"):
        model = PlainCLIPModel(architecture)
    try:
        state = {_plain(name): each for name, each in load_file(files.weights[0]).items()}
        bias = state.pop(_BIAS, None)
        tensors = renamed(state, _names(state))
        to = getattr(torch, dtype)
        if not all(tensor.is_floating_point() for tensor in tensors.values()):
            raise ValueError("it holds whole numbers")
        tensors[_SCALE] = tensors[_SCALE].reshape(())
        model.load_state_dict({n: each.to(to) for n, each in tensors.items()}, assign=True)
        if bias is not None:
            model.logit_bias = torch.nn.Parameter(bias.reshape(()).to(to))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]
        raise EncoderError(
            f"The weights of {files.name!r} and its {open_clip_config.CONFIG} do not belong "
            f"together, or a file is damaged ({reason}): download both again."
        ) from error
    return model.eval().requires_grad_(False)


def open_clip_encoder(files: ModelFiles, model: Any) -> Callable[..., CLIPEncoder]:  # noqa: ARG001
    """Return what makes the encoder of a loaded model."""
    from negrefine.encoders.clip import CLIPEncoder

    return CLIPEncoder


def open_clip_texts(files: ModelFiles, config: Any, truncate: bool | None) -> TextTokenizer:
    """Do what `tokenizer_reading.clip_texts` does with the tokenizer that the model names."""
    text = files.config["model_cfg"]["text_cfg"]
    options = dict(text.get("tokenizer_kwargs") or {})
    kind = str(options.get("clean") or "whitespace")
    cleaning = {
        "whitespace": clean_text,
        "canonicalize": _canonical,
        "lower": _lower,
    }
    unknown = sorted(set(options) - {"clean"})
    if unknown or kind not in cleaning:
        raise EncoderError(
            f"The tokenizer of {files.name!r} has the option {(unknown or [kind])[0]!r}, which is "
            "not known here: give another model."
        )
    there = any((files.directory / part).exists() for part in ("tokenizer.json", "vocab.json"))
    if text.get("hf_tokenizer_name"):
        tokenizer, _, _ = read_tokenizer(files.directory, {}, files.name)
    elif there:
        tokenizer = load_tokenizer(files.directory, files.name)
    else:
        raise EncoderError(
            f"{files.name!r} holds no tokenizer: put tokenizer.json and tokenizer_config.json of "
            f"{_OPENAI_TOKENIZER!r}, which open_clip has built in, into its folder."
        )
    check_vocabulary(tokenizer, config, files.name)
    length = int(config.max_position_embeddings)
    texts = TextTokenizer(tokenizer, length, truncate=cuts(length, truncate), clean=cleaning[kind])
    _check_end(texts, tokenizer, text, files.name)
    return texts


def _check_end(texts: TextTokenizer, tokenizer: Any, config: Mapping[str, Any], name: str) -> None:
    """Raise EncoderError if texts do not end with the token at which the text tower is pooled."""
    (ids,) = texts(["a"])
    pooled = config.get("eos_id", 2)
    if config.get("pool_type", "argmax") == "argmax":
        pooled = max(tokenizer.get_vocab().values())
    if ids[-1] != pooled:
        raise EncoderError(
            f"The tokenizer of {name!r} ends texts with the token {ids[-1]}, and the model is "
            f"pooled at {pooled}: the files do not belong together."
        )


def _names(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of all tensors in open_clip and in a CLIPModel."""
    towers = {**tower_names(tensors, "vision_model"), **tower_names(tensors, "text_model")}
    return {**towers, _SCALE: _SCALE}


def _plain(name: str) -> str:
    """Return a tensor's name without what some checkpoints put before it."""
    return name.removeprefix("module.").removeprefix("text.")


def _lower(text: str) -> str:
    return clean_text(text).lower()


def _canonical(text: str) -> str:
    return canonical(clean_text(text).replace("_", " "))
