"""From the files of a model directory to what makes tokens of texts."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrefine.encoders.clip_family import ModelFiles
from negrefine.encoders.clip_tokenizer import read_plain_tokenizer
from negrefine.encoders.tokens import TextTokenizer
from negrefine.errors import EncoderError
from negrefine.pretrained.files import read_object
from negrefine.pretrained.loading import loading

_OPENAI_CONTEXT = 77
# What `transformers` writes for a tokenizer without a limit is far above.
_NO_LIMIT = 1_000_000
_SIGLIP_END = "</s>"
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Padding:
    """How a model that is not CLIP's has texts filled up.

    Attributes:
        token: The id that fills up.
        left: Before the text instead of after it.
        length: Every text has so many tokens, which the model all reads; None to fill up to the
            longest of a batch and to mask what was added.
    """

    token: int
    left: bool = False
    length: int | None = None


class PaddedTokenizer(TextTokenizer):
    """A `TextTokenizer` that says how its texts are padded."""

    def __init__(self, *parts: Any, padding: Padding, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.padding = padding


def clip_texts(files: ModelFiles, config: Any, truncate: bool | None) -> TextTokenizer:
    """Return what makes tokens for a model with CLIP's tokenizer.

    `config` is of the text tower, with `vocab_size` and `max_position_embeddings`, and `truncate`
    is that of `load_encoder`. Raises EncoderError if the files do not belong together.
    """
    tokenizer = load_tokenizer(files.directory, files.name)
    length = int(config.max_position_embeddings)
    check_vocabulary(tokenizer, config, files.name)
    return TextTokenizer(tokenizer, length, truncate=cuts(length, truncate))


def plain_texts(files: ModelFiles, config: Any, truncate: bool | None) -> TextTokenizer:
    """Do what `clip_texts` does with a model's own tokenizer, to which texts go as they are."""
    tokenizer, _, settings = read_tokenizer(files.directory, files.config, files.name)
    length = min(int(config.max_position_embeddings), _longest(settings))
    check_vocabulary(tokenizer, config, files.name)
    return TextTokenizer(tokenizer, length, truncate=cuts(length, truncate), clean=as_it_is)


def padded_texts(files: ModelFiles, config: Any, truncate: bool | None) -> PaddedTokenizer:
    """Do what `clip_texts` does for a tower that takes padded texts.

    `config` has two fields more: `pad_token_id`, which counts where the tokenizer names none, and
    `pads_fully` of a tower that reads the padding and needs it, as SigLIP's does.
    """
    tokenizer, clean, settings = read_tokenizer(files.directory, files.config, files.name)
    length = min(int(config.max_position_embeddings), _longest(settings))
    check_vocabulary(tokenizer, config, files.name)
    token = settings.get("pad_token_id", config.pad_token_id)
    left = config.pads_fully and settings.get("padding_side") == "left"
    return PaddedTokenizer(
        *(tokenizer, length),
        truncate=cuts(length, truncate),
        clean=clean,
        padding=Padding(int(token or 0), left, length if config.pads_fully else None),
    )


def cuts(length: int, truncate: bool | None) -> bool:
    """Return whether longer texts are cut; None means those that a usual CLIP would take."""
    return length < _OPENAI_CONTEXT if truncate is None else truncate


def as_it_is(text: str) -> str:
    """Return a text unchanged."""
    return text


def canonical(text: str) -> str:
    """Return a text in lower case without ASCII punctuation and superfluous space, as SigLIP does.

    It is `canonicalize_text` of the code that trained SigLIP (arXiv 2303.15343).
    """
    return _without_punctuation(text.lower())


def _without_punctuation(text: str) -> str:
    return re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip()


def check_vocabulary(tokenizer: Any, config: Any, name: str) -> None:
    """Raise EncoderError for a tokenizer with more tokens than the text tower embeds."""
    n_ids = tokenizer.get_vocab_size()
    if n_ids > int(config.vocab_size):
        raise EncoderError(
            f"The tokenizer of {name!r} has {n_ids} tokens and the model embeds "
            f"{config.vocab_size}: the files do not belong together."
        )


def load_tokenizer(directory: Path, name: str) -> Any:
    """Return CLIP's `tokenizers.Tokenizer` in a directory; EncoderError if it has none."""
    plain = read_plain_tokenizer(directory)
    if plain is not None:
        return plain
    advice = "tokenizer.json, or vocab.json with merges.txt, is needed"
    with loading(f"The tokenizer of {name!r} cannot be loaded", advice, EncoderError):
        # Without these files transformers would make up a tokenizer that knows no words.
        if not (directory / "tokenizer.json").is_file():
            for file in ("vocab.json", "merges.txt"):
                (directory / file).stat()
        return _any_tokenizer(directory).backend_tokenizer


def read_tokenizer(
    directory: Path, config: Mapping[str, Any], name: str
) -> tuple[Any, Callable[[str], str], dict[str, Any]]:
    """Return the `tokenizers.Tokenizer` of any model, what prepares a text for it, and settings.

    It is the tokenizer that `transformers.AutoTokenizer` makes. The settings are
    `model_max_length`, `padding_side` and `pad_token_id`. `config` is the content of config.json.

    Raises:
        EncoderError: There is none, or only a sentencepiece file.
    """
    file = directory / "tokenizer_config.json"
    settings = read_object(file, name, EncoderError) if file.exists() else {}
    kind = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if kind is None and config.get("model_type") == "siglip":
        kind = "SiglipTokenizer"
    whole = (directory / "tokenizer.json").is_file()
    pieces = sorted(path.name for path in directory.glob("*.model"))
    listed = any((directory / part).is_file() for part in ("vocab.txt", "vocab.json"))
    if not whole and pieces and not listed:
        raise EncoderError(
            f"The tokenizer of {name!r} is a sentencepiece file ({pieces[0]}) alone, and a "
            "tokenizer.json is needed: take a revision that has one, or convert it once with "
            "convert_slow_tokenizer of transformers."
        )
    if not whole and not listed:
        raise EncoderError(
            f"{name!r} holds no tokenizer.json: give the directory of a model with all its files."
        )
    failure, advice = f"The tokenizer of {name!r} cannot be loaded", "download its files again"
    with loading(failure, advice, EncoderError):
        if whole and isinstance(kind, str) and kind.startswith("SiglipTokenizer"):
            return _siglip_tokenizer(directory, settings)
        tokenizer = _any_tokenizer(directory)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"{type(tokenizer).__name__} is none of the library tokenizers")
    # Some classes do not heed what the file says of lower case.
    normaliser = backend.normalizer
    keeps_case = normaliser is None or normaliser.normalize_str("A") != normaliser.normalize_str(
        "a"
    )
    clean = str.lower if settings.get("do_lower_case") is True and keeps_case else as_it_is
    used = {
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
    }
    if tokenizer.pad_token_id is not None:
        used["pad_token_id"] = tokenizer.pad_token_id
    return backend, clean, used


def _siglip_tokenizer(
    directory: Path, settings: Mapping[str, Any]
) -> tuple[Any, Callable[[str], str], dict[str, Any]]:
    """Return what `transformers.SiglipTokenizer` is, which itself reads sentencepiece files."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    end, pad = (_content(settings.get(key, _SIGLIP_END)) for key in ("eos_token", "pad_token"))
    ids = {token: tokenizer.token_to_id(token) for token in (end, pad)}
    if None in ids.values():
        raise ValueError(f"tokenizer.json lacks {end} or {pad}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, ids[end])]
    )
    clean = canonical if settings.get("do_lower_case", True) else _without_punctuation
    used = {
        "model_max_length": settings.get("model_max_length", 64),
        "padding_side": settings.get("padding_side", "right"),
        "pad_token_id": ids[pad],
    }
    return tokenizer, clean, used


def _content(token: Any) -> str:
    return str(token.get("content") if isinstance(token, Mapping) else token)


def _longest(settings: Mapping[str, Any]) -> int:
    """Return the longest text of a tokenizer in tokens."""
    given = settings.get("model_max_length")
    usable = isinstance(given, int) and not isinstance(given, bool) and given > 0
    return int(given) if usable and given is not None else _NO_LIMIT


def _any_tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedConfig

    # Without it the class of the tokenizer is that of tokenizer_config.json alone.
    there = (directory / "config.json").is_file()
    options = {} if there else {"config": PreTrainedConfig()}
    return AutoTokenizer.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False, **options
    )
