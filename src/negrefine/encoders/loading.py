"""From a name or directory to an encoder: `load_encoder`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.constraints import Boolean
from negrefine.encoders.clip_config import NO_TOWER
from negrefine.encoders.clip_family import CLIP_KIND, ModelFiles, without
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.encoders.families import find_family
from negrefine.encoders.names import EMBEDDED, advice, resolved, similar_ids
from negrefine.encoders.open_clip_config import is_open_clip
from negrefine.encoders.pixels import WHITE, Colour, check_background
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokenizer_files import tokenizer_files
from negrefine.errors import EncoderError, InputError
from negrefine.files.identity import file_digest, file_stamp
from negrefine.pretrained import hub
from negrefine.pretrained.loading import check_dtype, pick_device
from negrefine.pretrained.sizes import check_sizes, tensor_shapes
from negrefine.shown_text import is_utf8

# torch is imported once the arguments and the small files of a model are known to be right, and
# transformers for models alone that are unusual: each takes seconds.
if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder

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
        name_or_path: "builtin-photo" or "builtin" (the small models inside this package, for
            photographs and for drawings), a directory that holds an image-text model of
            `transformers` or of open_clip with safetensors weights, a hub id such as
            "openai/clip-vit-base-patch16", or a name of open_clip's such as
            "open_clip:ViT-B-16/laion2b_s34b_b88k"; docs/encoders.md has the families. A directory
            that `negrefine convert-clipn` wrote gives a `CLIPNEncoder`.
        device: "auto" (a GPU if there is one, otherwise the CPU) or a torch device.
        dtype: "auto" (float32), "float32", "float16" or "bfloat16".
        revision: Branch, tag or commit on the hub.
        resample: "bicubic" or "bilinear" instead of the filter in preprocessor_config.json. The
            official MCM, GL-MCM, NegLabel and CSP code resizes with "bilinear".
        exif_orientation: Turn images upright by their EXIF tag. The published runs did not.
        background: Composite transparent pixels over this RGB colour. None drops alpha, which shows
            the colours hidden below, as the published runs did.
        truncate: Cut texts longer than the model's context. None raises for models with OpenAI's
            context of 77 tokens or more, as published, and cuts with a warning for shorter ones.
        cache: Where prompt embeddings are kept between runs, so that a second `fit` encodes no text
            again: a file, an `EmbeddingCache`, True for "embeddings.sqlite" in `cache_directory()`
            ($NEGREFINE_CACHE or the user's cache directory, at most 4 GB), or False for none.
            Cached and computed numbers are equal up to rounding.
        compile_images: Run the vision tower through `torch.compile`, which needs a C++ compiler (on
            a GPU Triton) and a minute for the first batch; features differ by rounding. It has no
            effect on patch features.

    Raises:
        EncoderError: The model cannot be found, reached, read, or gives no features of images and
            texts in one space.
        InputError: Another argument is of a wrong type, such as `background` if it is no colour.

    Example:
        >>> encoder = negrefine.load_encoder("builtin", resample="bilinear")
        >>> encoder.encode_images(["cat.png"]).shape
        (1, 256)
        >>> encoder.encode_texts(["a photo of a cat"]).shape
        (1, 256)
    """
    # The keyword arguments: no other name is bound yet.
    settings = {key: value for key, value in locals().items() if key != "name_or_path"}
    settings["background"] = background = check_background(background)
    name = _checked(name_or_path, settings)
    check_dtype(dtype, EncoderError)
    directory = find_model_directory(name, revision)
    if name not in EMBEDDED and Path(name).is_dir():
        name = str(directory)
    check_is_model(directory, name)
    config, family = find_family(directory, name)
    if method := _quantisation(config):
        raise EncoderError(
            f"The model {name!r} is quantised ({method}), and only weights in plain numbers can be "
            "loaded: give the original model."
        )
    preprocessing = family.preprocessing(directory, config, name, resample)
    identity = {
        "config": without(config, _VOLATILE_CONFIG),
        "preprocessing": preprocessing.as_dict(),
        "exif_orientation": exif_orientation,
        "background": None if background is None else list(background),
    }
    weights = family.weights(directory, config, name)
    shapes = tensor_shapes(weights, name, EncoderError)
    check_sizes(config, shapes, name, EncoderError)
    fingerprint = _fingerprint(
        directory,
        weights,
        tokenizer_files(directory, name, clip=family.clip_tokenizer),
        identity,
        name,
    )
    model_files = ModelFiles(directory, name, config, weights, shapes)
    architecture = family.check(model_files)
    placement = pick_device(device, EncoderError)

    model = family.read(model_files, architecture, "float32" if dtype == "auto" else dtype)
    model = model.to(placement)
    if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
        raise EncoderError(
            f"The weights of {name!r} hold NaN or infinity: the file is damaged, download it again."
        )
    _check_image_size(preprocessing, model.config.vision_config.image_size, name)
    tokenizer = family.texts(model_files, model.config.text_config, truncate)
    encoder = family.encoder(model_files, model)
    return encoder(
        model,
        tokenizer,
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


def _checked(name_or_path: object, settings: Mapping[str, Any]) -> str:
    """Return the name of the model; EncoderError or InputError for arguments of other types."""
    name = os.fspath(name_or_path) if isinstance(name_or_path, os.PathLike) else name_or_path
    if not isinstance(name, str) or not name.strip():
        loaded = hasattr(name, "encode_images") and not isinstance(name, type)
        what = "a loaded encoder" if loaded else repr(name)[:60]
        raise EncoderError(
            f"load_encoder takes the name of an encoder, not {what}: give 'builtin', the directory "
            f"of a CLIPModel, or a hub id such as {CLIP_KIND.example!r}."
        )
    for key in ("exif_orientation", "truncate", "compile_images"):
        if key != "truncate" or settings[key] is not None:
            Boolean()(key, settings[key])
    if not isinstance(settings["revision"], (str, type(None))) or settings["revision"] == "":
        raise InputError(f"revision must be a string or None, not {settings['revision']!r}.")
    cache = settings["cache"]
    if not isinstance(cache, (EmbeddingCache, str, os.PathLike, bool, type(None))):
        raise InputError(f"cache must be a path, an EmbeddingCache, True or False, not {cache!r}.")
    return name


def find_model_directory(name: str, revision: str | None, *, weights: bool = True) -> Path:
    """Do what `hub.find_directory` does for the `name_or_path` of `load_encoder`."""
    if name in EMBEDDED:
        return Path(str(files("negrefine.encoders") / EMBEDDED[name] / "model"))
    there = os.path.exists(name)  # noqa: PTH110
    hub_id = name if there else resolved(name)
    better = advice(hub_id)
    if better is not None and not there:
        raise EncoderError(f"There is no encoder {name!r}: {better}")
    try:
        return hub.find_directory(CLIP_KIND, hub_id, revision, weights=weights)
    except EncoderError as error:
        meant = [] if there else similar_ids(hub_id)
        if not meant:
            raise
        raise EncoderError(f"{error} Did you mean {' or '.join(map(repr, meant))}?") from error


def _check_image_size(preprocessing: Preprocessing, side: int | None, name: str) -> None:
    """Raise EncoderError if images do not come out as `side` requires, None: all of one size."""
    size = preprocessing.output_size
    if side is None and size is None:
        raise EncoderError(
            f"The image preprocessing of {name!r} is unusable: its images come out in different "
            "sizes, and a batch needs one; correct size or crop_size."
        )
    if side is not None and size != (int(side), int(side)):
        raise EncoderError(
            f"The image preprocessing of {name!r} is unusable: its images come out as {size} and "
            f"the model takes {(int(side), int(side))}; correct crop_size."
        )


def _quantisation(config: Mapping[str, Any]) -> str:
    """Return the method by which a model or one of its towers is quantised, "" if none is."""
    for part in (config, config.get("text_config"), config.get("vision_config")):
        settings = part.get("quantization_config") if isinstance(part, dict) else None
        if settings is not None:
            method = settings.get("quant_method") if isinstance(settings, dict) else None
            return str(method or "quantization_config")
    return ""


def check_is_model(directory: Path, name: str) -> None:
    """Raise EncoderError if `hub.check_model` refuses a directory, or safetensors would."""
    hub.check_model(CLIP_KIND, directory, name, configured=is_open_clip(directory))
    if not is_utf8(str(directory)):
        raise EncoderError(
            f"{name!r} is in a folder whose name is not UTF-8, where safetensors reads no weights: "
            "rename the folder."
        )


def _fingerprint(
    directory: Path,
    weights: list[Path],
    tokenizer: list[Path],
    identity: dict[str, Any],
    name: str,
) -> Callable[[], str]:
    """Return a function that hashes `identity` and the loaded files, which must not change."""
    files = tokenizer
    no_tower = directory / NO_TOWER
    files += sorted([*weights, no_tower] if no_tower.exists() else weights)
    stamps = [file_stamp(file) for file in files]

    def fingerprint() -> str:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
        try:
            for file, stamp in zip(files, stamps, strict=True):
                place = file.relative_to(directory).as_posix()
                digest.update(place.encode() + file_digest(file))
                if file_stamp(file) != stamp:
                    raise FileNotFoundError(file)
        except OSError as error:
            raise EncoderError(
                f"The files of {name!r} were changed or removed after it was loaded: load the "
                "encoder again."
            ) from error
        return digest.hexdigest()

    return fingerprint
