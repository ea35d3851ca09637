"""CLIP models as a family: their files checked, read and given to an encoder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.encoders.clip_config import CLIPArchitecture, plain_architecture
from negrefine.encoders.clip_sizes import check_clip_sizes
from negrefine.encoders.names import BUILTIN_PHOTO
from negrefine.errors import EncoderError
from negrefine.pretrained import hub
from negrefine.pretrained.loading import load_weights, loading
from negrefine.pretrained.sizes import Shapes

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder

CLIP_KIND = hub.ModelKind(
    noun="CLIPModel",
    example="openai/clip-vit-base-patch16",
    builtin=BUILTIN_PHOTO,
    advice="the files are damaged or do not belong together",
    files=("*.json", "vocab.*", "merges.txt"),
    error=EncoderError,
)
# Fields of config.json that say how a model is run, not what it is.
_OUTPUT_CONFIG = frozenset(
    {
        *("return_dict", "use_return_dict", "output_hidden_states", "output_attentions"),
        *("_attn_implementation", "attn_implementation", "_attn_implementation_internal"),
    }
)


@dataclass(frozen=True)
class ModelFiles:
    """A model directory whose small files are read.

    Attributes:
        directory: Where the files are.
        name: What `load_encoder` was given, for messages.
        config: The content of config.json.
        weights: The safetensors files.
        shapes: Of their tensors, by name.
    """

    directory: Path
    name: str
    config: dict[str, Any]
    weights: list[Path]
    shapes: Shapes


def check_clip(files: ModelFiles) -> Any:
    """Return the architecture, a `CLIPArchitecture` or of an unusual model a `CLIPConfig`.

    Raises:
        EncoderError: config.json makes no sense or is not of these weights.
    """
    plain = plain_architecture(files.config)
    architecture: Any = plain or _any_architecture(files.config, files.name)
    n_channels = architecture.vision_config.num_channels
    if n_channels != 3:
        raise EncoderError(
            f"The model {files.name!r} takes images of {n_channels} channels, and only models for "
            "three, red, green and blue, can be loaded."
        )
    sizes = asdict(plain) if plain else architecture.to_dict()
    check_clip_sizes(sizes, files.config, files.shapes, files.name)
    return architecture


def read_clip(files: ModelFiles, architecture: Any, dtype: str) -> Any:
    """Return the model on the CPU; EncoderError if its weights cannot be loaded."""
    from negrefine.encoders.clip_model import read_plain_model

    model: Any = None
    if isinstance(architecture, CLIPArchitecture):
        model = read_plain_model(files.weights, architecture, dtype)
    return _load_any_model(files, dtype) if model is None else model


def clip_encoder(files: ModelFiles, model: Any) -> Callable[..., CLIPEncoder]:
    """Return what makes the encoder of a loaded model: CLIPN's if it has a "no" tower."""
    from negrefine.encoders.clip import CLIPEncoder
    from negrefine.encoders.clipn import CLIPNEncoder, load_no_tower

    no_model = load_no_tower(files.directory, model, files.name)
    return CLIPEncoder if no_model is None else partial(CLIPNEncoder, no_model=no_model)


def decisive(config: Any) -> Any:
    """Return a configuration without what says how a model is run."""
    return without(config, _OUTPUT_CONFIG)


def without(config: Any, names: Collection[str]) -> Any:
    """Return a configuration without some fields at every level."""
    if isinstance(config, dict):
        return {k: without(v, names) for k, v in config.items() if k not in names}
    return config


def _any_architecture(config: Mapping[str, Any], name: str) -> Any:
    """Return the `CLIPConfig` of a model."""
    from transformers import CLIPConfig

    failure = f"config.json of {name!r} is unusable"
    with loading(failure, "correct it, or download it again", EncoderError):
        return CLIPConfig.from_dict(decisive(config))


def _load_any_model(files: ModelFiles, dtype: str) -> Any:
    """Return a `CLIPModel`, or raise EncoderError that says what is wrong with it."""
    from transformers import CLIPModel

    return load_weights(
        *(CLIPModel, CLIP_KIND, files.directory, files.name, dtype),
        config=_any_architecture(files.config, files.name),
        attn_implementation="sdpa",
    )
