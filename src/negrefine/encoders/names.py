"""What people call encoders elsewhere, and what these names stand for here."""

from __future__ import annotations

import re

from negrefine.similar_names import plain_name

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
_HUB_PREFIX = re.compile(r"(?:hf-hub:|hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)+")
_RESNET = re.compile(r"(?:openai|clip)?rn(?:50|101)(?:x\d+)?(?:openai|quickgelu|yfcc15m|cc12m)*")


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
            f"models of {library} are loaded by the hub id of their conversion to CLIPModel, "
            f"{_EXAMPLES}."
        )
    if _RESNET.fullmatch(plain_name(name)):
        return (
            "CLIP models with a ResNet cannot be loaded, those with a vision transformer can, "
            f"{_EXAMPLES}."
        )
    meant = _meant(name)
    return None if meant in (None, name) else f"did you mean {meant!r}?"


def _meant(name: str) -> str | None:
    """Return the encoder that a name of OpenAI's or LAION's, or a misspelt one, stands for."""
    meant = {plain_name(name): name for name in EMBEDDED}
    for model, patch in _OPENAI_MODELS:
        hub_id = f"openai/clip-vit-{model}-patch{patch}"
        short = f"vit{model[0]}{patch.replace('-', '')}"
        names = (hub_id, hub_id.partition("/")[2], short)
        meant |= {plain_name(each): hub_id for each in names}
    meant |= _LAION_MODELS
    simple = plain_name(name)
    # Such as clip-ViT-B-32 of sentence-transformers, ViT-B-32-quickgelu, ViT-L/14@336px.
    core = re.sub(r"^(?:sentencetransformers|openai|clip)*|(?:quickgelu|openai|px)*$", "", simple)
    return meant.get(simple) or meant.get(core)
