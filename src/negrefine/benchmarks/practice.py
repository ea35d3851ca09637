"""What a dry run of `negrefine reproduce` works on: random weights and generated images.

The folders have the layouts of the real data sets, with a few images each; the words are WordNet's,
a few hundred of them; the recorded answers are made up. Nothing that is measured on them means
anything.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from negrefine.benchmarks.catalogue import class_list, wordnet_ids
from negrefine.encoders.clip_config import NO_TOWER
from negrefine.labels.lexicon import Lexicon

RANDOM_WEIGHTS = "RANDOM_WEIGHTS"
"""Name of a file in a directory of a model with random weights."""
_WIDTH, _LAYERS, _SIZE, _PATCH = 32, 1, 32, 8
# Enough for a hundred groups of labels.
_N_NOUNS, _N_ADJECTIVES = 1100, 100
# Where the images of each set are, how many folders below, and how many images in each.
_FOLDERS = {
    "iNaturalist/images": (0, 4),
    "openimage_o/images": (0, 4),
    "NINCO/NINCO_popular_datasets_subsamples": (3, 1),
    "NINCO/NINCO_OOD_classes": (5, 1),
    "SUN/images": (0, 4),
    "Places/images": (0, 4),
    "dtd/images": (4, 1),
}
_N_CLASSES = 24


@dataclass(frozen=True)
class Practice:
    """The parts of a dry run.

    Attributes:
        data: Folder that holds the data sets.
        encoder: Directory of the model.
        clipn: Directory of the same model with CLIPN's second text tower.
        prompts: One template for CLIPN, whose 128 take long.
        lexicon: The words, .tsv.
        answers: Logs of recorded answers, in the official format.
        proper_nouns: The words that the answers call proper nouns.
    """

    data: Path
    encoder: Path
    clipn: Path
    prompts: Path
    lexicon: Path
    answers: tuple[Path, ...]
    proper_nouns: frozenset[str]


def make_practice(folder: Path) -> Practice:
    """Write everything below a folder; the same bytes each time, in a second."""
    words = _write_words(folder / "words.tsv")
    proper_nouns = frozenset(words["noun"][::5])
    answers = tuple(
        _write_answers(folder / f"llm_process_{pos}.txt.gz", words[pos], proper_nouns)
        for pos in ("noun", "adj")
    )
    _write_images(folder / "data")
    prompts = folder / "prompts.json"
    prompts.write_text(json.dumps({"class_name": ["a photo of a {}."]}) + "\n", encoding="utf-8")
    return Practice(
        data=folder / "data",
        encoder=write_random_clip(folder / "random-clip"),
        clipn=write_random_clip(folder / "random-clipn", no_tower=True),
        prompts=prompts,
        lexicon=folder / "words.tsv",
        answers=answers,
        proper_nouns=proper_nouns,
    )


def has_random_weights(model: str | Path | None) -> bool:
    """Return whether a directory is one that `write_random_clip` wrote."""
    return model is not None and (Path(model) / RANDOM_WEIGHTS).is_file()


def write_random_clip(target: Path, *, no_tower: bool = False) -> Path:
    """Write a tiny CLIP model with random weights, and return its directory.

    With `no_tower`, it has a second text tower, the negated first one, for CLIPN.
    """
    built_in = files("negrefine.encoders") / "builtin" / "model"
    target.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        content = (built_in / name).read_text(encoding="utf-8")
        (target / name).write_text(content, encoding="utf-8")
    given = json.loads((built_in / "config.json").read_text(encoding="utf-8"))
    image_size = given["vision_config"]["image_size"]
    tower = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_attention_heads": 2,
        "num_hidden_layers": _LAYERS,
        "projection_dim": _WIDTH,
    }
    text = given["text_config"] | tower
    vision = given["vision_config"] | tower
    config = {
        **{name: given[name] for name in ("architectures", "model_type")},
        "projection_dim": _WIDTH,
        "logit_scale_init_value": float(np.log(100)),
        "text_config": text,
        "vision_config": vision,
    }
    (target / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    n_patches = (image_size // vision["patch_size"]) ** 2
    shapes = dict(_shapes(text, vision, n_patches))
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in tensors:
        if "norm" in name and name.endswith("weight"):
            tensors[name] += 1
    tensors["logit_scale"] = np.array(np.log(100), dtype=np.float32)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    if no_tower:
        negated = {name: -each for name, each in tensors.items() if name.startswith("text_")}
        save_file(negated, target / NO_TOWER, {"format": "pt"})
    (target / RANDOM_WEIGHTS).write_text(
        "Random weights: numbers mean nothing.\n", encoding="utf-8"
    )
    return target


def _shapes(
    text: dict[str, int], vision: dict[str, int], n_patches: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of the tensors of a CLIPModel."""
    embeddings = "text_model.embeddings"
    yield f"{embeddings}.token_embedding.weight", (text["vocab_size"], _WIDTH)
    yield f"{embeddings}.position_embedding.weight", (text["max_position_embeddings"], _WIDTH)
    embeddings = "vision_model.embeddings"
    yield f"{embeddings}.class_embedding", (_WIDTH,)
    patch = vision["patch_size"]
    yield f"{embeddings}.patch_embedding.weight", (_WIDTH, vision["num_channels"], patch, patch)
    yield f"{embeddings}.position_embedding.weight", (n_patches + 1, _WIDTH)
    norms = ["text_model.final_layer_norm", "vision_model.pre_layrnorm"]
    norms.append("vision_model.post_layernorm")
    linear: dict[str, tuple[int, int]] = {}
    for tower in ("text_model", "vision_model"):
        for i in range(_LAYERS):
            layer = f"{tower}.encoder.layers.{i}"
            norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                linear[f"{layer}.self_attn.{part}"] = (_WIDTH, _WIDTH)
            linear[f"{layer}.mlp.fc1"] = (2 * _WIDTH, _WIDTH)
            linear[f"{layer}.mlp.fc2"] = (_WIDTH, 2 * _WIDTH)
    for name in norms:
        yield f"{name}.weight", (_WIDTH,)
        yield f"{name}.bias", (_WIDTH,)
    for name, shape in linear.items():
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]
    yield "text_projection.weight", (_WIDTH, _WIDTH)
    yield "visual_projection.weight", (_WIDTH, _WIDTH)


def _write_words(target: Path) -> dict[str, list[str]]:
    """Write common words of WordNet as a lexicon, and return those of each part of speech."""
    target.parent.mkdir(parents=True, exist_ok=True)
    entries = Lexicon.wordnet(min_frequency=5).select("official-csp").entries
    kept = {"noun": _N_NOUNS, "adj": _N_ADJECTIVES}
    chosen = [e for pos, n in kept.items() for e in [e for e in entries if e.pos == pos][:n]]
    rows = [f"{each.word}\t{each.lexname}\t{each.pos}" for each in chosen]
    target.write_text("\n".join(["word\tlexname\tpos", *rows]) + "\n", encoding="utf-8")
    return {pos: [each.word for each in chosen if each.pos == pos] for pos in kept}


def _write_answers(target: Path, words: list[str], proper_nouns: frozenset[str]) -> Path:
    """Write a log in the official format: yes to some proper nouns, no to one class name."""
    first = class_list("imagenet-1k")[0]
    lines = [
        f"{word} | proper noun " if word in proper_nouns else f"{word} | {first} | "
        for word in dict.fromkeys(words)
    ]
    lines += ["-" * 45, f"n_proper: {len(proper_nouns)}", "n_same: 0", "n_subcatgeory: 0"]
    target.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode("utf-8"), mtime=0))
    return target


def _write_images(root: Path) -> None:
    """Write noise in the layouts of the real data sets."""
    rng = np.random.default_rng(0)
    ids = wordnet_ids("imagenet-1k") or []
    chosen = ids[:: len(ids) // _N_CLASSES][:_N_CLASSES]
    places = [root / "ImageNet" / "val" / wnid for wnid in chosen]
    targets = [place / f"ILSVRC2012_val_{i:08}.JPEG" for i, place in enumerate(places, 1)]
    for folder, (n_below, n_images) in _FOLDERS.items():
        below = [root / folder / f"part_{i}" for i in range(n_below)] or [root / folder]
        targets += [place / f"image_{i:05}.jpg" for place in below for i in range(n_images)]
    for file in targets:
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((2 * _SIZE, 2 * _SIZE))
        picture.save(file, format="JPEG")
