"""From a name or directory to an encoder: `load_encoder`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from negrefine import hub
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.clipn import CLIPNEncoder, load_no_tower
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.encoders.pixels import WHITE, Colour, check_background
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokens import TextTokenizer
from negrefine.errors import EncoderError
from negrefine.files import file_stamp
from negrefine.shown_text import is_utf8

BUILTIN = "builtin"
_CLIP = hub.ModelKind(
    noun="CLIPModel",
    example="openai/clip-vit-base-patch16",
    builtin=BUILTIN,
    advice="the files are damaged or do not belong together",
    files=("*.json", "vocab.*", "merges.txt"),
    error=EncoderError,
)
_OPENAI_CONTEXT = 77
# Sizes and patches of OpenAI's vision transformers on the hub.
_OPENAI_MODELS = (("base", "32"), ("base", "16"), ("large", "14"), ("large", "14-336"))
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
# Fields of config.json that say how a model is run, not what it is.
_OUTPUT_CONFIG = frozenset(
    {
        *("return_dict", "use_return_dict", "output_hidden_states", "output_attentions"),
        *("_attn_implementation", "attn_implementation", "_attn_implementation_internal"),
    }
)
# Fields of config.json that change without a change of features.
_VOLATILE_CONFIG = {
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
}


def load_encoder(
    name_or_path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    resample: str | None = None,
    exif_orientation: bool = True,
    background: Colour | None = WHITE,
    truncate: bool | None = None,
    cache: EmbeddingCache | str | os.PathLike[str] | bool = True,
    compile_images: bool = False,
) -> CLIPEncoder:
    """Load an image-text encoder.

    Args:
        name_or_path: "builtin" (the small model inside this package), a directory that holds a
            Hugging Face `CLIPModel` with safetensors weights, or a hub id such as
            "openai/clip-vit-base-patch16". A directory that `negrefine convert-clipn` wrote gives
            a `CLIPNEncoder`.
        device: "auto" (a GPU if there is one, otherwise the CPU) or a torch device.
        dtype: "auto" (float32), "float32", "float16" or "bfloat16".
        revision: Branch, tag or commit on the hub.
        resample: "bicubic" or "bilinear" instead of the filter in preprocessor_config.json. The
            official MCM, GL-MCM, NegLabel and CSP code resizes with "bilinear".
        exif_orientation: Turn images upright by their EXIF tag. The published runs did not.
        background: Composite transparent pixels over this RGB colour. None drops alpha, which shows
            the colours hidden below, as the published runs did.
        truncate: Cut texts longer than the model's context. None raises for models with OpenAI's
            context of 77 tokens, as published, and cuts with a warning for shorter contexts.
        cache: Where prompt embeddings are kept between runs, so that a second `fit` encodes no text
            again: a file, an `EmbeddingCache`, True for "embeddings.sqlite" in `cache_directory()`
            ($NEGREFINE_CACHE or the user's cache directory, at most 4 GB), or False for none.
            Cached and computed numbers are equal up to rounding.
        compile_images: Run the vision tower through `torch.compile`, which needs a C++ compiler (on
            a GPU Triton) and a minute for the first batch; features differ by rounding. It has no
            effect on patch features.

    Raises:
        EncoderError: The model cannot be found, reached, read, or is not a CLIP model.
        InputError: `background` is not a colour.
    """
    # The keyword arguments: no other name is bound yet.
    settings = {key: value for key, value in locals().items() if key != "name_or_path"}
    settings["background"] = background = check_background(background)
    name = os.fspath(name_or_path)
    directory = find_model_directory(name, revision)
    if name != BUILTIN and Path(name).is_dir():
        name = str(directory)
    _check_is_model(directory, name)
    if not is_utf8(str(directory)):
        raise EncoderError(
            f"{name!r} is in a folder whose name is not UTF-8, where safetensors reads no weights: "
            "rename the folder."
        )
    config = _read_json(directory / "config.json", name)
    if config.get("model_type") != "clip":
        raise EncoderError(
            f"{name!r} holds a {config.get('model_type', 'nameless')!r} model, "
            "and only Hugging Face CLIPModel directories (model_type 'clip') can be loaded."
        )
    preprocessing = load_preprocessing(directory, name, resample)
    identity = {
        "config": _without(config, _VOLATILE_CONFIG),
        "preprocessing": preprocessing.as_dict(),
        "exif_orientation": exif_orientation,
        "background": None if background is None else list(background),
    }
    fingerprint = _fingerprint(directory, identity, name)
    hub.check_dtype(dtype, EncoderError)
    placement = hub.pick_device(device, EncoderError)
    weights_dtype = "float32" if dtype == "auto" else dtype
    with hub.loading(f"config.json of {name!r} is unusable", _CLIP.advice, EncoderError):
        architecture = CLIPConfig.from_dict(_without(config, _OUTPUT_CONFIG))
    n_channels = architecture.vision_config.num_channels
    if n_channels != 3:
        raise EncoderError(
            f"The model {name!r} takes images of {n_channels} channels, and only models for three, "
            "red, green and blue, can be loaded."
        )
    model = hub.load_weights(
        *(CLIPModel, _CLIP, directory, name, weights_dtype),
        config=architecture,
        attn_implementation="sdpa",
    ).to(placement)
    if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
        raise EncoderError(
            f"The weights of {name!r} hold NaN or infinity: the file is damaged, download it again."
        )
    context_length = int(model.config.text_config.max_position_embeddings)
    cut = context_length < _OPENAI_CONTEXT if truncate is None else truncate
    side = int(model.config.vision_config.image_size)
    if preprocessing.output_size != (side, side):
        raise EncoderError(
            f"The image preprocessing of {name!r} is unusable: its images come out as "
            f"{preprocessing.output_size} and the model takes {(side, side)}; correct crop_size."
        )
    vocabulary = load_tokenizer(directory, name)
    n_ids = vocabulary.get_vocab_size()
    if n_ids > int(model.config.text_config.vocab_size):
        raise EncoderError(
            f"The tokenizer of {name!r} has {n_ids} tokens and the model embeds "
            f"{model.config.text_config.vocab_size}: the files do not belong together."
        )
    no_model = load_no_tower(directory, model, name)
    encoder = CLIPEncoder if no_model is None else partial(CLIPNEncoder, no_model=no_model)
    return encoder(
        model,
        TextTokenizer(vocabulary, context_length, truncate=cut),
        preprocessing,
        name=name,
        settings=settings,
        fingerprint=fingerprint,
        reload=reload_encoder,
    )


def reload_encoder(name: str, settings: Mapping[str, Any], fingerprint: str | None) -> CLIPEncoder:
    """Load a pickled encoder; EncoderError if its fingerprint was known and differs."""
    encoder = load_encoder(name, **settings)
    if fingerprint is not None and encoder.fingerprint != fingerprint:
        raise EncoderError(
            f"The model {name!r} has changed since this encoder was pickled (fingerprint "
            f"{encoder.fingerprint[:12]}, not {fingerprint[:12]}): restore its files, or load and "
            "pickle it again."
        )
    return encoder


def find_model_directory(name: str, revision: str | None, *, weights: bool = True) -> Path:
    """Do what `hub.find_directory` does for the `name_or_path` of `load_encoder`."""
    if name == BUILTIN:
        return Path(str(files("negrefine.encoders") / "builtin" / "model"))
    meant = _meant(name)
    if meant is not None and not Path(name).exists():
        raise EncoderError(f"There is no encoder {name!r}: did you mean {meant!r}?")
    return hub.find_directory(_CLIP, name, revision, weights=weights)


def _meant(name: str) -> str | None:
    """Return the encoder that a name of OpenAI's or a misspelt one stands for, if it is another."""

    def simple(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    meant = {simple(BUILTIN): BUILTIN}
    for model, patch in _OPENAI_MODELS:
        hub_id = f"openai/clip-vit-{model}-patch{patch}"
        short = f"vit{model[0]}{patch.replace('-', '')}"
        names = (hub_id, hub_id.partition("/")[2], short, f"clip{short}", f"openai{short}")
        meant |= {simple(each): hub_id for each in names}
    found = meant.get(simple(name))
    return None if found == name else found


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EncoderError(
            f"{name!r} holds no {path.name}: a Hugging Face CLIPModel directory is needed."
        ) from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path.name} of {name!r} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path.name} of {name!r} must hold a JSON object.")
    return content


def load_tokenizer(directory: Path, name: str) -> Any:
    """Return the `tokenizers.Tokenizer` of a model directory; EncoderError if it has none."""
    advice = "tokenizer.json, or vocab.json with merges.txt, is needed"
    with hub.loading(f"The tokenizer of {name!r} cannot be loaded", advice, EncoderError):
        # Without these files transformers would make up a tokenizer that knows no words.
        if not (directory / "tokenizer.json").is_file():
            for file in ("vocab.json", "merges.txt"):
                (directory / file).stat()
        return AutoTokenizer.from_pretrained(directory, local_files_only=True).backend_tokenizer


def load_preprocessing(directory: Path, name: str, resample: str | None) -> Preprocessing:
    """Return the image preprocessing of a model directory; EncoderError if it has none."""
    path = directory / "preprocessor_config.json"
    newer = directory / "processor_config.json"
    config = _read_json(newer if newer.exists() and not path.exists() else path, name)
    try:
        return Preprocessing.from_config(config, resample=resample)
    except ValueError as error:
        raise EncoderError(f"The image preprocessing of {name!r} is unusable: {error}") from error


def _check_is_model(directory: Path, name: str) -> None:
    """Raise EncoderError for a directory that holds a model in a folder inside only."""
    if (directory / "config.json").exists():
        return
    patterns = ("*/config.json", "*/*/config.json", "*/*/*/config.json")
    inside = sorted(path.parent for pattern in patterns for path in directory.glob(pattern))
    if inside:
        more = f" or one of {len(inside) - 1} others" if len(inside) > 1 else ""
        raise EncoderError(
            f"{name!r} holds no config.json, a folder inside does: give {str(inside[0])!r}{more}."
        )


def _without(config: Any, names: Collection[str]) -> Any:
    """Return a configuration without some fields at every level."""
    if isinstance(config, dict):
        return {k: _without(v, names) for k, v in config.items() if k not in names}
    return config


def _fingerprint(directory: Path, identity: dict[str, Any], name: str) -> Callable[[], str]:
    """Return a function that hashes `identity` and the model's files, which must not change."""
    files = [file for part in TOKENIZER_FILES if (file := directory / part).exists()]
    files += sorted(directory.glob(hub.WEIGHTS))
    stamps = [file_stamp(file) for file in files]

    def fingerprint() -> str:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
        try:
            for file, stamp in zip(files, stamps, strict=True):
                digest.update(file.name.encode() + hub.file_digest(file))
                if file_stamp(file) != stamp:
                    raise FileNotFoundError(file)
        except OSError as error:
            raise EncoderError(
                f"The files of {name!r} were changed or removed after it was loaded: load the "
                "encoder again."
            ) from error
        return digest.hexdigest()

    return fingerprint
