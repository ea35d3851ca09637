"""From a name or directory to an encoder: `load_encoder`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.constraints import Boolean
from negrefine.encoders.clip_config import NO_TOWER, plain_architecture
from negrefine.encoders.clip_sizes import check_clip_sizes
from negrefine.encoders.clip_tokenizer import read_plain_tokenizer
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.encoders.names import BUILTIN, advice
from negrefine.encoders.pixels import WHITE, Colour, check_background
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokenizer_files import tokenizer_files
from negrefine.encoders.tokens import TextTokenizer
from negrefine.errors import EncoderError, InputError
from negrefine.files.identity import file_digest, file_stamp
from negrefine.pretrained import hub
from negrefine.pretrained.files import read_object, weight_files
from negrefine.pretrained.loading import check_dtype, load_weights, loading, pick_device
from negrefine.pretrained.sizes import check_sizes, tensor_shapes
from negrefine.shown_text import is_utf8

# torch is imported once the arguments and the small files of a model are known to be right, and
# transformers for models alone that are unusual: each takes seconds.
if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder

_CLIP = hub.ModelKind(
    noun="CLIPModel",
    example="openai/clip-vit-base-patch16",
    builtin=BUILTIN,
    advice="the files are damaged or do not belong together",
    files=("*.json", "vocab.*", "merges.txt"),
    error=EncoderError,
)
_OPENAI_CONTEXT = 77
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
        InputError: Another argument is of a wrong type, such as `background` if it is no colour.
    """
    # The keyword arguments: no other name is bound yet.
    settings = {key: value for key, value in locals().items() if key != "name_or_path"}
    settings["background"] = background = check_background(background)
    name = _checked(name_or_path, settings)
    check_dtype(dtype, EncoderError)
    directory = find_model_directory(name, revision)
    if name != BUILTIN and Path(name).is_dir():
        name = str(directory)
    check_is_model(directory, name)
    config = read_object(directory / "config.json", name, EncoderError)
    if config.get("model_type") != "clip":
        raise EncoderError(
            f"{name!r} holds a {config.get('model_type', 'nameless')!r} model, "
            "and only Hugging Face CLIPModel directories (model_type 'clip') can be loaded."
        )
    if method := _quantisation(config):
        raise EncoderError(
            f"The model {name!r} is quantised ({method}), and only weights in plain numbers can be "
            "loaded: give the original model."
        )
    preprocessing = load_preprocessing(directory, name, resample)
    identity = {
        "config": _without(config, _VOLATILE_CONFIG),
        "preprocessing": preprocessing.as_dict(),
        "exif_orientation": exif_orientation,
        "background": None if background is None else list(background),
    }
    weights = weight_files(directory, config, name, EncoderError)
    shapes = tensor_shapes(weights, name, EncoderError)
    check_sizes(config, shapes, name, EncoderError)
    fingerprint = _fingerprint(directory, weights, identity, name)
    plain = plain_architecture(config)
    architecture: Any = plain or _any_architecture(config, name)
    n_channels = architecture.vision_config.num_channels
    if n_channels != 3:
        raise EncoderError(
            f"The model {name!r} takes images of {n_channels} channels, and only models for three, "
            "red, green and blue, can be loaded."
        )
    sizes = asdict(plain) if plain else architecture.to_dict()
    check_clip_sizes(sizes, config, shapes, name)
    placement = pick_device(device, EncoderError)

    from negrefine.encoders.clip import CLIPEncoder
    from negrefine.encoders.clip_model import read_plain_model
    from negrefine.encoders.clipn import CLIPNEncoder, load_no_tower

    weights_dtype = "float32" if dtype == "auto" else dtype
    model: Any = plain and read_plain_model(weights, plain, weights_dtype)
    if model is None:
        model = _load_any_model(directory, config, name, weights_dtype)
    model = model.to(placement)
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


def _any_architecture(config: dict[str, Any], name: str) -> Any:
    """Return the `CLIPConfig` of a model."""
    from transformers import CLIPConfig

    failure = f"config.json of {name!r} is unusable"
    with loading(failure, "correct it, or download it again", EncoderError):
        return CLIPConfig.from_dict(_without(config, _OUTPUT_CONFIG))


def _load_any_model(directory: Path, config: dict[str, Any], name: str, dtype: str) -> Any:
    """Return a `CLIPModel`, or raise EncoderError that says what is wrong with it."""
    from transformers import CLIPModel

    return load_weights(
        *(CLIPModel, _CLIP, directory, name, dtype),
        config=_any_architecture(config, name),
        attn_implementation="sdpa",
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
            f"of a CLIPModel, or a hub id such as {_CLIP.example!r}."
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
    if name == BUILTIN:
        return Path(str(files("negrefine.encoders") / "builtin" / "model"))
    better = advice(name)
    if better is not None and not os.path.exists(name):  # noqa: PTH110
        raise EncoderError(f"There is no encoder {name!r}: {better}")
    return hub.find_directory(_CLIP, name, revision, weights=weights)


def load_tokenizer(directory: Path, name: str) -> Any:
    """Return the `tokenizers.Tokenizer` of a model directory; EncoderError if it has none."""
    plain = read_plain_tokenizer(directory)
    if plain is not None:
        return plain
    from transformers import AutoTokenizer

    advice = "tokenizer.json, or vocab.json with merges.txt, is needed"
    with loading(f"The tokenizer of {name!r} cannot be loaded", advice, EncoderError):
        # Without these files transformers would make up a tokenizer that knows no words.
        if not (directory / "tokenizer.json").is_file():
            for file in ("vocab.json", "merges.txt"):
                (directory / file).stat()
        return AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        ).backend_tokenizer


def load_preprocessing(directory: Path, name: str, resample: str | None) -> Preprocessing:
    """Return the image preprocessing of a model directory; EncoderError if it has none."""
    path = directory / "preprocessor_config.json"
    newer = directory / "processor_config.json"
    file = newer if newer.exists() and not path.exists() else path
    config = read_object(file, name, EncoderError)
    try:
        return Preprocessing.from_config(config, resample=resample)
    except ValueError as error:
        raise EncoderError(f"The image preprocessing of {name!r} is unusable: {error}") from error


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
    hub.check_model(_CLIP, directory, name)
    if not is_utf8(str(directory)):
        raise EncoderError(
            f"{name!r} is in a folder whose name is not UTF-8, where safetensors reads no weights: "
            "rename the folder."
        )


def _without(config: Any, names: Collection[str]) -> Any:
    """Return a configuration without some fields at every level."""
    if isinstance(config, dict):
        return {k: _without(v, names) for k, v in config.items() if k not in names}
    return config


def _fingerprint(
    directory: Path, weights: list[Path], identity: dict[str, Any], name: str
) -> Callable[[], str]:
    """Return a function that hashes `identity` and the loaded files, which must not change."""
    files = tokenizer_files(directory, name)
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
