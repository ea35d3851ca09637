"""What people call encoders elsewhere, and what these names stand for here."""

from __future__ import annotations

import re

from negrefine.encoders.recommended import likely_id
from negrefine.similar_names import plain_name, similar_names

BUILTIN = "builtin"
BUILTIN_PHOTO = "builtin-photo"
EMBEDDED = {BUILTIN: "builtin", BUILTIN_PHOTO: "builtin_photo"}
"""Encoders that come with the package, and the folders beside this file that hold them."""
_OPENAI_EXAMPLE = "openai/clip-vit-base-patch16"
_EXAMPLES = f"such as {_OPENAI_EXAMPLE!r} or 'laion/CLIP-ViT-B-32-laion2B-s34B-b79K'"
# Sizes and patches of OpenAI's vision transformers on the hub.
_OPENAI_MODELS = (("base", "32"), ("base", "16"), ("large", "14"), ("large", "14-336"))
# Models that others have trained in open_clip's names, on the hub.
_LAION_MODELS = {
    "vith14": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "vitg14": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "vitbigg14": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}
# What people call all models of one kind.
_FAMILIES = frozenset({"clip", "openclip", "siglip", "siglip2", "metaclip"})
# How like a misspelt name must be.
_LIKE = 0.8
_HUB_PREFIX = re.compile(r"(?:hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)+")
_RESNET = re.compile(r"(?:openai|clip)?rn(?:50|101)(?:x\d+)?(?:openai|quickgelu|yfcc15m|cc12m)*")


_OPEN_CLIP_HUB = "hf-hub:"
# The names of weights in open_clip, and the hub ids of its models with them. {model} is a name such
# as ViT-B-16.
_OPEN_CLIP_WEIGHTS = (
    (r"laion2b_s(\d+)b_b(\d+)k", "laion/CLIP-{model}-laion2B-s{0}B-b{1}K"),
    (r"datacomp_xl_s(\d+)b_b(\d+)k", "laion/CLIP-{model}-DataComp.XL-s{0}B-b{1}K"),
    (r"dfn([25])b", "apple/DFN{0}B-CLIP-{model}"),
    (r"openai", "{openai}"),
    (r"webli", "{siglip}"),
)
# Those whose hub id follows no rule.
_OPEN_CLIP_OTHERS = {
    ("vitbigg14", "laion2b_s39b_b160k"): "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}
_SIGLIP = re.compile(r"ViT-(B|L|SO400M)-(14|16|32)-SigLIP(2?)(-i18n)?(?:-(\d+))?", re.IGNORECASE)
_SIGLIP_SIZES = {"b": "base", "l": "large", "so400m": "so400m"}


def resolved(name: str) -> str:
    """Return the hub id that a name of open_clip's stands for, other names as they are.

    "hf-hub:laion/..." and "open_clip:ViT-B-16/laion2b_s34b_b88k" are such names.
    """
    if name.startswith(_OPEN_CLIP_HUB):
        return name.removeprefix(_OPEN_CLIP_HUB)
    library, colon, rest = name.partition(":")
    model, slash, weights = rest.partition("/")
    if not (colon and slash and library == "open_clip"):
        return name
    known = _OPEN_CLIP_OTHERS.get((plain_name(model), weights))
    if known is not None:
        return known
    for pattern, hub_id in _OPEN_CLIP_WEIGHTS:
        if match := re.fullmatch(pattern, weights):
            facts = {
                "model": model.removesuffix("-quickgelu"),
                "openai": _meant(model) or "",
                "siglip": _siglip(model) or "",
            }
            return hub_id.format(*match.groups(), **facts) or name
    return name


def _siglip(model: str) -> str | None:
    """Return the hub id of Google's conversion of a SigLIP, which open_clip has under a name."""
    match = _SIGLIP.fullmatch(model)
    if match is None:
        return None
    size, patch, version, languages, side = match.groups()
    if languages and version:
        return None
    side = side or ("256" if patch == "32" else "224")
    family = f"siglip{version}-{_SIGLIP_SIZES[size.lower()]}-patch{patch}"
    return f"google/{family}-{side}" if not languages else f"google/{family}-{side}-multilingual"


def advice(name: str) -> str | None:
    """Return what to give in place of a name from elsewhere or a misspelt one, None for others."""
    if prefix := _HUB_PREFIX.match(name):
        hub_id = "/".join(name[prefix.end() :].strip("/").split("/")[:2])
        return f"did you mean {hub_id!r}?" if hub_id else None
    library, colon, rest = name.partition(":")
    if colon and library.lower() in ("open_clip", "openclip", "timm", "clip", "openai"):
        model, *weights = re.split(r"[:/,]+", rest)
        meant = _meant(model)
        if meant is not None and weights in ([], ["openai"]):
            return f"did you mean {meant!r}?"
        return (
            f"models of {library} are loaded by their hub id, {_EXAMPLES}; those with weights of "
            "LAION, DataComp, DFN, OpenAI and SigLIP by names such as "
            "'open_clip:ViT-B-16/laion2b_s34b_b88k', too."
        )
    if _RESNET.fullmatch(plain_name(name)):
        return (
            "CLIP models with a ResNet cannot be loaded, those with a vision transformer can, "
            f"{_EXAMPLES}."
        )
    meant = _meant(name)
    if meant is None and "/" not in name:
        if plain_name(name) in _FAMILIES:
            return f"that is a family: give a model, {_EXAMPLES} ('negrefine encoders' lists more)."
        meant = likely_id(name) or next(iter(similar_names(name, EMBEDDED, _LIKE)), None)
    return None if meant in (None, name) else f"did you mean {meant!r}?"


def similar_ids(name: str) -> list[str]:
    """Return ids that a hub id which is nowhere may have been meant for, the likeliest first."""
    likely = likely_id(name)
    similar = [likely] if likely else similar_names(name, _openai_ids(), _LIKE)[:2]
    return [] if name in similar else similar


def _openai_ids() -> list[str]:
    return [f"openai/clip-vit-{model}-patch{patch}" for model, patch in _OPENAI_MODELS]


def _meant(name: str) -> str | None:
    """Return the encoder that a name of OpenAI's or LAION's, or a misspelt one, stands for."""
    meant = {plain_name(name): name for name in EMBEDDED}
    for (model, patch), hub_id in zip(_OPENAI_MODELS, _openai_ids(), strict=True):
        short = f"vit{model[0]}{patch.replace('-', '')}"
        names = (hub_id, hub_id.partition("/")[2], short)
        meant |= {plain_name(each): hub_id for each in names}
    meant |= _LAION_MODELS
    simple = plain_name(name)
    # Such as clip-ViT-B-32 of sentence-transformers, ViT-B-32-quickgelu, ViT-L/14@336px.
    core = re.sub(r"^(?:sentencetransformers|openai|clip)*|(?:quickgelu|openai|px)*$", "", simple)
    return meant.get(simple) or meant.get(core)
