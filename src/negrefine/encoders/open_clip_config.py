"""open_clip_config.json: the architecture and the image preprocessing of a model of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from negrefine.encoders.clip_config import CLIPArchitecture, TextConfig, VisionConfig, is_size
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.errors import EncoderError, InputError
from negrefine.pretrained.files import read_object

CONFIG = "open_clip_config.json"
OPEN_CLIP = "open_clip"
"""What stands for the model_type of these models, whose file has none."""

_EPSILON = 1e-5
# Fields that say how a model is trained, run or described.
_NO_EFFECT = {
    "model_cfg": {
        *("custom_text", "force_custom_text", "init_logit_scale", "init_logit_bias"),
        *("cast_dtype", "output_dict", "quick_gelu", "embed_dim", "vision_cfg", "text_cfg"),
    },
    "vision_cfg": {
        *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs"),
        *("patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"),
        *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"),
        "timm_drop_path",
    },
    "text_cfg": {
        *("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs"),
        *("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "pool_type", "eos_id"),
        *("pad_id", "output_tokens", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
        "text_mask",
    },
}
# Fields that change what is computed, with the values at which it is what CLIP computes.
_AS_IN_CLIP: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "model_cfg": {"nonscalar_logit_scale": (False,)},
    "vision_cfg": {
        "timm_model_name": (None, ""),
        "ls_init_value": (None,),
        "attentional_pool": (False,),
        "no_ln_pre": (False,),
        "pool_type": ("tok",),
        "global_average_pool": (False,),
        "input_patchnorm": (False,),
        "final_ln_after_pool": (False,),
        "pos_embed_type": ("learnable",),
        "act_kwargs": (None, {}),
    },
    "text_cfg": {
        "hf_model_name": (None, ""),
        "ls_init_value": (None,),
        "embed_cls": (False,),
        "no_causal_mask": (False,),
        "final_ln_after_pool": (False,),
        "proj_bias": (False,),
        "proj_type": ("linear",),
        "act_kwargs": (None, {}),
    },
}
_POOLS = ("argmax", "eos")


def is_open_clip(directory: Path) -> bool:
    """Return whether a directory holds a model in open_clip's layout and none in the usual one."""
    usual = (directory / "config.json").exists() and any(
        (directory / weights).exists()
        for weights in ("model.safetensors", "model.safetensors.index.json")
    )
    return (directory / CONFIG).exists() and not usual


def read_config(directory: Path, name: str) -> dict[str, Any]:
    """Return the content of open_clip_config.json, with a `model_type`.

    Raises EncoderError for a file without sensible parts.
    """
    config = read_object(directory / CONFIG, name, EncoderError)
    model = config.get("model_cfg")
    parts = [model, *(model.get(part) for part in ("vision_cfg", "text_cfg"))] if model else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise EncoderError(
            f"{CONFIG} of {name!r} has no model_cfg with vision_cfg and text_cfg: download it "
            "again."
        )
    return {**config, "model_type": OPEN_CLIP}


def architecture(config: Mapping[str, Any], name: str) -> CLIPArchitecture:
    """Return the architecture of a model; EncoderError if it is not CLIP's with a transformer."""
    model = config["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    if isinstance(vision.get("layers"), list):
        raise EncoderError(
            f"{name!r} has a ResNet as image tower, and only vision transformers can be loaded: "
            "give a model with one."
        )
    for part, fields in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        _check_usual(part, fields, name)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    if text.get("pool_type", "argmax") not in _POOLS:
        raise _unusual("text_cfg", "pool_type", text["pool_type"], name)
    try:
        return CLIPArchitecture(
            TextConfig(
                **_tower(text, width=512),
                num_attention_heads=_size(text, "heads", 8),
                hidden_act=activation,
                vocab_size=_size(text, "vocab_size", 49408),
                max_position_embeddings=_size(text, "context_length", 77),
            ),
            VisionConfig(
                **_tower(vision, width=768),
                num_attention_heads=_heads(vision),
                hidden_act=activation,
                image_size=_side(vision, "image_size", 224),
                patch_size=_side(vision, "patch_size", 16),
                num_channels=3,
            ),
            _size(model, "embed_dim", None),
        )
    except ValueError as error:
        raise EncoderError(f"{CONFIG} of {name!r} is unusable: {error}; correct it.") from error


def preprocessing(config: Mapping[str, Any], name: str, resample: str | None) -> Preprocessing:
    """Return the image preprocessing of a model; EncoderError if a field makes no sense."""
    given = config.get("preprocess_cfg") or {}
    fields = {
        "size": config["model_cfg"]["vision_cfg"].get("image_size", 224),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
        **{key: value for key, value in given.items() if value is not None},
    }
    mode, interpolation = fields["resize_mode"], fields["interpolation"]
    try:
        side = _side(fields, "size", None)
        if fields.get("mode", "RGB") != "RGB":
            raise ValueError(f"its mode is {fields['mode']!r}, and only RGB is known")
        if mode not in ("shortest", "longest", "squash"):
            raise ValueError(
                f"its resize_mode is {mode!r}, and shortest, longest, squash are known"
            )
        # What is "random" in training is bicubic otherwise.
        filter_name = resample or ("bicubic" if interpolation == "random" else interpolation)
        colours: dict[str, Any] = {
            part: tuple(fields[part]) if isinstance(fields[part], list) else (fields[part],) * 3
            for part in ("mean", "std")
            if part in fields
        }
        return Preprocessing(
            resize=(side, side) if mode == "squash" else side,
            crop=None if mode == "squash" else (side, side),
            resample=filter_name,
            whole=mode == "longest",
            fill=fields["fill_color"] if mode == "longest" else 0,
            **colours,
        )
    except (InputError, TypeError, ValueError) as error:
        raise EncoderError(f"The image preprocessing of {name!r} is unusable: {error}") from error


def _check_usual(part: str, fields: Mapping[str, Any], name: str) -> None:
    """Raise EncoderError for a field that makes the model another one than CLIP's, or may do so."""
    for field, value in fields.items():
        known = field in _NO_EFFECT[part]
        usual = _AS_IN_CLIP[part].get(field)
        if not known and (usual is None or value not in usual):
            raise _unusual(part, field, value, name)


def _unusual(part: str, field: str, value: object, name: str) -> EncoderError:
    advice = "give a conversion of the model to the layout of transformers, if there is one"
    if "siglip" in str(value).lower():
        advice = "the same weights are on the hub as google/siglip-... and google/siglip2-..."
    return EncoderError(
        f"{CONFIG} of {name!r} has {field} {str(value)[:60]!r} in {part}, and of open_clip's "
        f"models only those with CLIP's own transformers can be loaded: {advice}."
    )


def _tower(fields: Mapping[str, Any], width: int) -> dict[str, Any]:
    size = _size(fields, "width", width)
    ratio = fields.get("mlp_ratio", 4.0)
    if not isinstance(ratio, (int, float)) or not 0 < ratio < 1000:
        raise ValueError(f"it gives mlp_ratio as {ratio!r}")
    epsilon = (fields.get("norm_kwargs") or {}).get("eps", _EPSILON)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(f"it gives eps as {epsilon!r}")
    return {
        "hidden_size": size,
        "intermediate_size": int(size * ratio),
        "num_hidden_layers": _size(fields, "layers", 12),
        "layer_norm_eps": epsilon,
    }


def _heads(vision: Mapping[str, Any]) -> int:
    width, each = _size(vision, "width", 768), _size(vision, "head_width", 64)
    if width % each:
        raise ValueError(f"a width of {width} makes no heads of {each}")
    return width // each


def _side(fields: Mapping[str, Any], name: str, default: int | None) -> int:
    """Return the side of a square, which may be given twice."""
    value = fields.get(name, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return _size({name: value}, name, None)


def _size(fields: Mapping[str, Any], name: str, default: int | None) -> int:
    value = fields.get(name, default)
    if not is_size(value):
        raise ValueError(f"it gives {name} as {value!r}")
    size: int = value
    return size
