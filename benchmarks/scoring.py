"""Speed, memory and exactness of NegRefine against plain ways of computing the same.

    python benchmarks/scoring.py [--quick] [--only a,c] [--reference DIR] [--tokenizer DIR]
                                 [--out FILE]

Prints a Markdown table. The cases:

a  throughput of NegRefine as a share of the image encoder's, new and known pair texts
b  against one image at a time, 200 padded texts per image and a loop over the groups
c  encoding lexicon prompts against plain batches padded to the context
d  the second fit against the first, each in its own process
e  peak memory of `score_samples` as the number of images grows
f  bfloat16 against float32
g  where the time goes

The built-in encoder is small, so everything else takes a larger share of the time than with a real
one. ViT-B/16 has random weights here: its speed is that of the real model, its scores are
meaningless. The labels are those of the published ImageNet run if they are in the folder of
--reference, otherwise words of WordNet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPConfig, CLIPModel

from negrefine import Lexicon, NegRefine, load_encoder
from negrefine.benchmarks.bundled import ID_SET, demo_class_names, demo_images
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.images import read_image
from negrefine.encoders.loading import find_model_directory
from negrefine.encoders.names import BUILTIN
from negrefine.judges.replay import ReplayJudge
from negrefine.labels.lexicon import LexiconEntry
from negrefine.labels.prompts import CSP_PROMPTS
from negrefine.metrics import auroc

DEFAULT_REFERENCE = Path("../shared/reference/negrefine_imagenet_seed0")
DEFAULT_TOKENIZER = Path("../shared/golden/open/model")
CASES = "abcdefg"
N_CLASSES = 1000
N_GROUPS = 100
K = 5
# The plain side gets batches that fit into the CPU cache.
PLAIN_BATCH = 40
MAX_MEMORY_SECONDS = 240

FloatArray = NDArray[np.float32]


@dataclass
class Row:
    """One line of the table."""

    case: str
    measure: str
    value: float
    shown: str
    goal: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Labels:
    """Class names and negative labels, and their source."""

    names: list[str]
    entries: list[LexiconEntry]
    source: str

    def lexicon(self, count: int | None = None) -> Lexicon:
        """Return `count` entries spread over the whole list."""
        if count is None or count >= len(self.entries):
            return Lexicon(tuple(self.entries), self.source)
        places = np.linspace(0, len(self.entries) - 1, count).astype(int)
        return Lexicon(tuple(self.entries[i] for i in places), self.source)


@dataclass(frozen=True)
class Setting:
    """The inputs of all cases."""

    quick: bool
    labels: Labels
    tokenizer: Path
    folder: Path

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def read_labels(reference: Path) -> Labels:
    """Return 1,000 class names, the demo's among them, and the negatives of the published run."""
    wordnet = Lexicon.wordnet(min_frequency=1).select("official-csp")
    logs = [reference / f"llm_process_{pos}.txt.gz" for pos in ("noun", "adj")]
    lists = {pos: reference / f"neg_labels_{pos}.txt" for pos in ("noun", "adj")}
    names = demo_class_names()
    if all(path.is_file() for path in (*logs, *lists.values())):
        candidates = ReplayJudge(*logs).candidates.values()
        names += sorted({name for some in candidates for name in some})
        entries = [
            LexiconEntry(word.strip(), f"{pos}.{'artifact' if pos == 'noun' else 'all'}", pos)
            for pos, path in lists.items()
            for word in path.read_text(encoding="utf-8").splitlines()
            if word.strip()
        ]
        source = "published ImageNet labels"
    else:
        entries = list(wordnet.entries[:6370])
        source = "WordNet words, since the published labels are absent"
    names += [e.word for e in reversed(wordnet.entries) if e.pos == "noun"]
    return Labels(list(dict.fromkeys(names))[:N_CLASSES], entries, source)


def given_negatives(
    encoder: CLIPEncoder, names: Sequence[str], lexicon: Lexicon, **parameters: Any
) -> NegRefine:
    """Fit NegRefine so that exactly the words of `lexicon` are its negative labels."""
    detector = NegRefine(
        encoder,
        lexicon=lexicon,
        lexicon_files="full",
        judge="none",
        top_fraction=1.0,
        superclasses=(),
        exclude_class_names="off",
        n_groups=N_GROUPS,
        k=K,
        **parameters,
    )
    return detector.fit(names)


def write_jittered(folder: Path, count: int, seed: int) -> list[Path]:
    """Write `count` PNG files: the demo's pictures in turn, each slightly rotated and cropped."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    pictures = [read_image(picture.path) for picture in demo_images()]
    paths = []
    for i in range(count):
        image = pictures[i % len(pictures)]
        corner = image.getpixel((0, 0))
        turned = image.rotate(
            float(rng.uniform(-12, 12)), Image.Resampling.BICUBIC, fillcolor=corner
        )
        left, top, right, bottom = rng.integers(0, max(2, image.width // 12), size=4)
        cut = turned.crop((left, top, image.width - right, image.height - bottom))
        paths.append(folder / f"{i:05}.png")
        cut.save(paths[-1])
    return paths


def make_vit_b16(folder: Path, tokenizer: Path) -> Path:
    """Write a CLIPModel of ViT-B/16 sizes with random weights, and a tokenizer."""
    target = folder / "vit-b16"
    if target.exists():
        return target
    source = tokenizer if (tokenizer / "tokenizer.json").is_file() else builtin_directory()
    target.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (target / name).write_bytes((source / name).read_bytes())
    given = json.loads((source / "config.json").read_text(encoding="utf-8"))["text_config"]
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    config = CLIPConfig(
        text_config={"vocab_size": 49408, **{key: given[key] for key in tokens}},
        vision_config={"patch_size": 16},
        projection_dim=512,
        logit_scale_init_value=float(np.log(100)),
    )
    torch.manual_seed(0)
    with quiet():
        CLIPModel(config).save_pretrained(target)
    side = {"height": 224, "width": 224}
    preprocessing = {
        "do_resize": True,
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": side,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return target


def builtin_directory() -> Path:
    return find_model_directory(BUILTIN, None)


class quiet(warnings.catch_warnings):  # noqa: N801
    """Silence warnings, such as that of the built-in encoder about a truncated text."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


class PlainCLIP:
    """The plain way: `transformers`, every text padded to the model's whole context."""

    def __init__(self, directory: Path) -> None:
        with quiet():
            self.model = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.context = int(self.model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return float32 (m, d), not normalised."""
        parts = []
        for start in range(0, len(texts), PLAIN_BATCH):
            batch = list(texts[start : start + PLAIN_BATCH])
            rows = [encoding.ids for encoding in self.tokenizer.encode_batch(batch)]
            cut = [r if len(r) <= self.context else [*r[: self.context - 1], r[-1]] for r in rows]
            padded = torch.tensor([r + r[-1:] * (self.context - len(r)) for r in cut])
            pooled = self.model.text_model(input_ids=padded).pooler_output
            parts.append(self.model.text_projection(pooled))
        return torch.cat(parts)

    @torch.inference_mode()
    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 (n, d), not normalised."""
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        features: torch.Tensor = self.model.visual_projection(pooled)
        return features

    def score(self, feature: torch.Tensor, detector: NegRefine, scale: float) -> float:
        """Score one image feature (d,): S_NL group by group, then 25 pairs by 8 templates."""
        x = feature.double() / feature.double().norm()
        classes = torch.from_numpy(detector.class_features_).double() @ x
        negatives = torch.from_numpy(detector.negative_features_).double() @ x
        positive = (scale * (classes - 1)).exp().sum()
        s_nl = 0.0
        for group in detector.groups_:
            s_nl += float(positive / (positive + (scale * (negatives[group] - 1)).exp().sum()))
        s_nl /= len(detector.groups_)
        best, worst = classes.topk(K).indices, negatives.topk(K).indices
        words = detector.kept_negative_labels_
        pairs = [f"{detector.class_names_[i]} and {words[j].text}" for i in best for j in worst]
        prompts = [t.replace("{}", pair) for pair in pairs for t in CSP_PROMPTS.noun]
        embedded = self.texts(prompts).reshape(len(pairs), len(CSP_PROMPTS.noun), -1).mean(dim=1)
        embedded = embedded.double() / embedded.double().norm(dim=-1, keepdim=True)
        up = (scale * (embedded @ x).reshape(K, K)).exp()
        s_mm = float((up / (up + (scale * negatives[worst]).exp())).max())
        return s_nl + detector.alpha * s_mm


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def pair_codes(detector: NegRefine, features: FloatArray) -> set[tuple[int, int]]:
    """Return the pairs that S_MM uses for these image features."""
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    best = np.argsort(-(x @ detector.class_features_.T), axis=1)[:, :K]
    worst = np.argsort(-(x @ detector.negative_features_.T), axis=1)[:, :K]
    return {(int(i), int(j)) for bs, ws in zip(best, worst, strict=True) for i in bs for j in ws}


def share_row(case: str, measure: str, value: float, goal: float, note: str) -> Row:
    return Row(case, measure, value, f"{value:.2f}", f">= {goal:g}", value >= goal, note)


def times_row(case: str, measure: str, value: float, goal: float, note: str) -> Row:
    return Row(case, measure, value, f"{value:.1f} x", f">= {goal:g} x", value >= goal, note)


def small_row(case: str, measure: str, value: float, goal: float | None, note: str) -> Row:
    limit = "" if goal is None else f"<= {goal:g}"
    return Row(case, measure, value, f"{value:.1e}", limit, goal and value <= goal, note)


def throughput(setting: Setting, wanted: set[str]) -> list[Row]:
    """Cases a and g."""
    count = setting.pick(2000, 300)
    first, second, third = (
        write_jittered(setting.folder / f"jitter-{seed}", count, seed) for seed in range(3)
    )
    encoder = load_encoder(BUILTIN, device="cpu", cache=False)
    labels = setting.labels
    fit_s, detector = seconds(lambda: given_negatives(encoder, labels.names, labels.lexicon()))
    encoder.encode_images(first[:128])
    alone_1, features_1 = seconds(lambda: encoder.encode_images(first))
    cold, _ = seconds(lambda: detector.score_samples(first))
    alone_2, features_2 = seconds(lambda: encoder.encode_images(second))
    steady, _ = seconds(lambda: detector.score_samples(second))
    again, _ = seconds(lambda: detector.score_samples(second))
    seen, now = pair_codes(detector, features_1), pair_codes(detector, features_2)
    deciding = given_negatives(encoder, labels.names, labels.lexicon())
    inside = np.array([p.set_name == ID_SET for p in demo_images()])
    inside = np.resize(inside, count)  # the pictures repeat in turn
    deciding.calibrate_scores(detector.score_features(features_1[inside]))
    verdicts, _ = seconds(lambda: deciding.predict(first))
    spared = 1 - len(deciding._embed_pairs()) / len(seen)
    rows = []
    if "a" in wanted:
        size = f"{len(labels.names):,} class names, {len(detector.negative_features_):,} negatives"
        about = f"{count:,} images, {size} ({labels.source})"
        new = len(now - seen)
        rows = [
            Row("a", "image encoder alone, images/s", count / alone_2, f"{count / alone_2:.0f}"),
            share_row(
                "a",
                "NegRefine / image encoder alone, second pass over other jitters",
                alone_2 / steady,
                0.7,
                f"{about}; {count / steady:.0f} images/s, {new:,} new pairs ({new / count:.1f} an "
                "image)",
            ),
            share_row(
                "a",
                "the same, no pair known yet",
                alone_1 / cold,
                0.25,
                f"{count / cold:.0f} images/s, {len(seen):,} pairs ({len(seen) / count:.1f} an "
                f"image; fit took {fit_s:.1f} s)",
            ),
            Row(
                "a",
                "verdicts only (`predict` at 5 % false alarms), no pair known yet",
                alone_1 / verdicts,
                f"{alone_1 / verdicts:.2f}",
                note=f"{count / verdicts:.0f} images/s; {spared:.0%} of the pairs were skipped",
            ),
            Row(
                "a",
                "the same scores, every pair known",
                alone_2 / again,
                f"{alone_2 / again:.2f}",
                note=f"{count / again:.0f} images/s",
            ),
        ]
    if "g" in wanted:
        rows += profile(encoder, detector, third)
    return rows


def profile(encoder: CLIPEncoder, detector: NegRefine, paths: Sequence[Path]) -> list[Row]:
    """Case g, on images that are new to a detector that has scored others."""
    read, pixels = seconds(lambda: [encoder.preprocessing(read_image(path)) for path in paths])
    batches = [torch.from_numpy(np.stack(pixels[i : i + 64])) for i in range(0, len(pixels), 64)]
    plain = PlainCLIP(builtin_directory())
    plain.pixels(batches[0])
    tower, _ = seconds(lambda: [plain.pixels(batch) for batch in batches])
    features = encoder.encode_images(paths)
    bare = copy(detector).set_params(alpha=0)
    bare.score_features(features[:64])
    s_nl, _ = seconds(lambda: bare.score_features(features))
    both, _ = seconds(lambda: detector.score_features(features))
    parts = {
        "reading and preprocessing images": read,
        "vision tower": tower,
        "S_NL": s_nl,
        "S_MM": max(0.0, both - s_nl),
    }
    total = sum(parts.values())
    notes = {
        "reading and preprocessing images": "one thread here; `encode_images` reads ahead in "
        "threads in parallel with the tower",
        "S_MM": "after two passes over other jitters of the same pictures",
    }
    return [
        Row(
            "g",
            f"share of {name}",
            value / total,
            f"{value / total:.0%}",
            note="; ".join(
                filter(None, [f"{1e3 * value / len(paths):.2f} ms per image", notes.get(name)])
            ),
        )
        for name, value in parts.items()
    ]


def against_plain(setting: Setting, _: set[str]) -> list[Row]:
    """Case b."""
    labels = setting.labels
    rows = []
    builtin_size = (labels.names, labels.lexicon(setting.pick(len(labels.entries), 1500)))
    small = (labels.names[: setting.pick(200, 40)], labels.lexicon(setting.pick(1000, 200)))
    for title, directory, (names, lexicon), n_plain, n_own in (
        ("built-in", builtin_directory(), builtin_size, setting.pick(16, 4), setting.pick(512, 64)),
        (
            "ViT-B/16 sizes",
            make_vit_b16(setting.folder, setting.tokenizer),
            small,
            setting.pick(4, 1),
            setting.pick(64, 8),
        ),
    ):
        name = BUILTIN if title == "built-in" else str(directory)
        encoder = load_encoder(name, device="cpu", truncate=True, cache=False)
        detector = given_negatives(encoder, names, lexicon)
        plain = PlainCLIP(directory)
        paths = write_jittered(setting.folder / f"plain-{directory.name}-{title[0]}", n_own, 7)
        # Spread over the pictures, because the demo's order is that of its sets.
        paths = [paths[i] for i in np.random.default_rng(0).permutation(n_own)]

        def official(
            path: Path,
            plain: PlainCLIP = plain,
            encoder: CLIPEncoder = encoder,
            detector: NegRefine = detector,
        ) -> float:
            pixels = encoder.preprocessing(read_image(path))
            feature = plain.pixels(torch.from_numpy(pixels[None]))[0]
            return plain.score(feature, detector, encoder.logit_scale)

        plain_s, plain_scores = seconds(lambda: [official(p) for p in paths[:n_plain]])  # noqa: B023
        cold_s, own = seconds(lambda: detector.score_samples(paths))  # noqa: B023
        warm_s, _ = seconds(lambda: detector.score_samples(paths))  # noqa: B023
        n_pairs = len(pair_codes(detector, encoder.encode_images(paths)))
        about = (
            f"{title}, texts padded to {plain.context} tokens, {len(names)} class names, "
            f"{len(lexicon)} negatives; plain {plain_s / n_plain:.2f} s per image "
            f"({n_plain} images)"
        )
        per_image = plain_s / n_plain * n_own
        coincide = "; with random weights images share their top labels" if "V" in title else ""
        rows += [
            times_row(
                "b",
                f"{title}: against one image at a time, no pair known yet",
                per_image / cold_s,
                30,
                f"{about}; {n_own} images, {n_pairs / n_own:.1f} distinct pairs per image"
                f"{coincide}",
            ),
            times_row(
                "b",
                f"{title}: the same, every pair known",
                per_image / warm_s,
                30,
                f"{1e3 * warm_s / n_own:.1f} ms per image",
            ),
            small_row(
                "b",
                f"{title}: largest score difference",
                float(np.abs(np.array(plain_scores) - own[:n_plain]).max()),
                1e-4,
                f"{n_plain} images",
            ),
        ]
        if "V" in title:
            encode_s, _ = seconds(lambda: encoder.encode_images(paths))  # noqa: B023
            rows += worst_case(setting, encoder, detector, plain, encode_s / n_own)
    return rows


def worst_case(
    setting: Setting, encoder: CLIPEncoder, detector: NegRefine, plain: PlainCLIP, image_s: float
) -> list[Row]:
    """Random directions as image features, whose top labels differ; scoring stage only.

    `image_s` are the seconds that the image encoder takes for one image.
    """
    n_plain, n_own = 1, setting.pick(48, 4)
    rng = np.random.default_rng(1)
    # Text features of random weights are in a narrow cone, so directions are drawn around it.
    centre = detector.class_features_.mean(axis=0)
    spread = rng.standard_normal((n_own, encoder.dim)) / np.sqrt(encoder.dim)
    features = (centre + spread).astype(np.float32)
    n_pairs = len(pair_codes(detector, features))
    # `fit` clears the pairs, and the time does not depend on the number of groups or labels.
    detector.fit(detector.class_names_)
    plain_s, plain_scores = seconds(
        lambda: [
            plain.score(torch.from_numpy(x), detector, encoder.logit_scale)
            for x in features[:n_plain]
        ]
    )
    cold_s, own = seconds(lambda: detector.score_features(features))
    warm_s, _ = seconds(lambda: detector.score_features(features))
    per_image = plain_s / n_plain * n_own
    title = "ViT-B/16 sizes, random directions as features"
    return [
        share_row(
            "a",
            "NegRefine / image encoder alone, ViT-B/16 sizes, every image with its own pairs",
            image_s / (image_s + cold_s / n_own),
            0.25,
            f"{1e3 * image_s:.0f} ms for the image, {1e3 * cold_s / n_own:.0f} ms for the score",
        ),
        share_row(
            "a",
            "the same, every pair known",
            image_s / (image_s + warm_s / n_own),
            0.7,
            f"{1e3 * warm_s / n_own:.2f} ms for the score",
        ),
        Row(
            "b",
            f"{title}: no pair known yet",
            per_image / cold_s,
            f"{per_image / cold_s:.1f} x",
            note=f"scoring stage only, {n_pairs / n_own:.1f} distinct pairs per image of "
            f"{K * K}: images that share no labels; {n_own} rows",
        ),
        Row(
            "b",
            f"{title}: every pair known",
            per_image / warm_s,
            f"{per_image / warm_s:.0f} x",
            note="scoring stage only",
        ),
        small_row(
            "b",
            f"{title}: largest score difference",
            float(np.abs(np.array(plain_scores) - own[:n_plain]).max()),
            1e-4,
            f"{n_plain} row",
        ),
    ]


def lexicon_prompts(setting: Setting, _: set[str]) -> list[Row]:
    """Case c."""
    directory = make_vit_b16(setting.folder, setting.tokenizer)
    encoder = load_encoder(str(directory), device="cpu", truncate=True, cache=False)
    plain = PlainCLIP(directory)
    count, n_sample = setting.pick(20_000, 1_000), setting.pick(400, 80)
    templates = CSP_PROMPTS.noun
    entries = Lexicon.wordnet().select("official-csp").entries
    places = np.linspace(0, len(entries) - 1, count // len(templates)).astype(int)
    words = dict.fromkeys(entries[i].word.replace("_", " ") for i in places)
    texts = [template.replace("{}", word) for word in words for template in templates]
    encoder.encode_texts(texts[:64])
    own_s, own = seconds(lambda: encoder.encode_texts(texts))
    chosen = np.random.default_rng(0).choice(len(texts), n_sample, replace=False)
    sample = [texts[i] for i in chosen]
    plain.texts(sample[:PLAIN_BATCH])
    plain_s, features = seconds(lambda: plain.texts(sample))
    reference = features.numpy()
    apart = np.linalg.norm(own[chosen] - reference, axis=1) / np.linalg.norm(reference, axis=1)
    whole = plain_s / n_sample * len(texts)
    return [
        times_row(
            "c",
            "lexicon prompts against padded batches",
            whole / own_s,
            6,
            f"ViT-B/16 text tower, {len(texts):,} prompts in {own_s:.0f} s "
            f"({len(texts) / own_s:.0f}/s); padded to {plain.context}: {n_sample / plain_s:.0f}/s, "
            f"{whole:.0f} s extrapolated from {n_sample} of them in batches of {PLAIN_BATCH}",
        ),
        small_row(
            "c",
            "largest distance of features relative to their length",
            float(apart.max()),
            1e-5,
            f"on the {n_sample}",
        ),
    ]


def second_fit(setting: Setting, _: set[str]) -> list[Row]:
    """Case d."""
    wordnet: dict[str, Any] = {"encoder": BUILTIN, "min_frequency": 0, "n_words": None}
    if setting.quick:
        settings = [("built-in, common words", {**wordnet, "min_frequency": 1, "n_words": 5000})]
    else:
        vit = str(make_vit_b16(setting.folder, setting.tokenizer))
        settings = [
            ("built-in, all of WordNet", wordnet),
            (
                "ViT-B/16 sizes, common words",
                {"encoder": vit, "min_frequency": 1, "n_words": 2500},
            ),
        ]
    rows = []
    for title, arguments in settings:
        with tempfile.TemporaryDirectory() as cache:
            first, second = (child("fit", arguments, {"NEGREFINE_CACHE": cache}) for _ in range(2))
        same = "same" if first["checksum"] == second["checksum"] else "DIFFERENT"
        rows.append(
            times_row(
                "d",
                f"{title}: first fit / second fit",
                first["seconds"] / second["seconds"],
                50,
                f"{first['n_texts']:,} prompts of words; {first['seconds']:.1f} s, then "
                f"{second['seconds']:.2f} s in a new process; {same} labels",
            )
        )
    return rows


def child_fit(encoder: str, min_frequency: int, n_words: int | None) -> dict[str, Any]:
    lexicon = Lexicon.wordnet(min_frequency=min_frequency).select("official-csp")
    if n_words is not None and n_words < len(lexicon):
        places = np.linspace(0, len(lexicon) - 1, n_words).astype(int)
        lexicon = Lexicon(tuple(lexicon.entries[i] for i in places), "selection")
    model = load_encoder(encoder, device="cpu", truncate=True)
    detector = NegRefine(model, lexicon=lexicon, lexicon_files="full", n_groups=N_GROUPS)
    with quiet():
        took, _ = seconds(lambda: detector.fit(demo_class_names()))
    words = {(e.pos, e.word) for e in lexicon.entries}
    templates = {"noun": len(CSP_PROMPTS.noun), "adj": len(CSP_PROMPTS.adjective)}
    kept = [label.text for label in detector.kept_negative_labels_]
    return {
        "seconds": took,
        "n_texts": sum(templates[pos] for pos, _ in words),
        "checksum": [len(kept), kept[:50], kept[-50:]],
    }


class Generated(Sequence[Image.Image]):
    """Images of two random colours, made on access."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        rng = np.random.default_rng(index)
        pixels = np.empty((64, 64, 3), dtype=np.uint8)
        pixels[:] = rng.integers(0, 256, 3)
        x, y = rng.integers(0, 48, 2)
        pixels[y : y + 24, x : x + 24] = rng.integers(0, 256, 3)
        return Image.fromarray(pixels)


def memory(setting: Setting, _: set[str]) -> list[Row]:
    """Case e."""
    tiny = setting.tokenizer
    encoder = str(tiny) if (tiny / "model.safetensors").is_file() else BUILTIN
    lexicon = setting.labels.lexicon(500)
    shared = {
        "encoder": encoder,
        "names": setting.labels.names[:20],
        "words": [[e.word, e.lexname, e.pos] for e in lexicon.entries],
    }
    few, many = setting.pick(5_000, 500), setting.pick(100_000, 3_000)
    small = child("memory", {**shared, "count": few})
    rate = few / small["seconds"]
    asked = many
    if many / rate > MAX_MEMORY_SECONDS:
        many = max(few, int(rate * MAX_MEMORY_SECONDS))
    large = child("memory", {**shared, "count": many})
    growth = large["peak_mb"] / small["peak_mb"] - 1
    which = "built-in encoder" if encoder == BUILTIN else "tiny encoder"
    fewer = "" if many == asked else f" ({asked:,} would take more than 4 minutes)"
    return [
        Row(
            "e",
            f"growth of peak memory, {few:,} to {many:,} images{fewer}",
            growth,
            f"{growth:+.1%}",
            "<= 10 %",
            growth <= 0.1,
            f"{which}, d = {small['dim']}; {small['before_mb']:.0f} MB before scoring, peaks of "
            f"{small['peak_mb']:.0f} and {large['peak_mb']:.0f} MB, {rate:.0f} images/s",
        )
    ]


def child_memory(
    encoder: str, names: list[str], words: list[list[str]], count: int
) -> dict[str, Any]:
    model = load_encoder(encoder, device="cpu", truncate=True, cache=False)
    with quiet():
        lexicon = Lexicon(tuple(LexiconEntry(*word) for word in words), "given")
        detector = given_negatives(model, names, lexicon)
        before = peak_mb()
        took, scores = seconds(lambda: detector.score_samples(Generated(count)))
    if len(scores) != count:
        raise RuntimeError(f"{len(scores)} scores for {count} images.")
    return {"seconds": took, "before_mb": before, "peak_mb": peak_mb(), "dim": model.dim}


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {"fit": child_fit, "memory": child_memory}


def child(task: str, arguments: dict[str, Any], env: dict[str, str] | None = None) -> Any:
    """Run one of `CHILDREN` in its own process."""
    command = [sys.executable, __file__, "--child", task]
    done = subprocess.run(
        command,
        input=json.dumps(arguments),
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def half_precision(setting: Setting, _: set[str]) -> list[Row]:
    """Case f."""
    pictures = demo_images()
    inside = np.array([picture.set_name == ID_SET for picture in pictures])
    paths = [picture.path for picture in pictures]
    lexicon = setting.labels.lexicon(setting.pick(len(setting.labels.entries), 1500))
    scores, took = {}, {}
    for dtype in ("float32", "bfloat16"):
        encoder = load_encoder(BUILTIN, device="cpu", dtype=dtype, cache=False)
        detector = given_negatives(encoder, demo_class_names(), lexicon)
        scores[dtype] = detector.score_samples(paths)
        took[dtype] = min(seconds(lambda: encoder.encode_images(paths))[0] for _ in range(3))  # noqa: B023
    areas = {dtype: auroc(s[inside], s[~inside]) for dtype, s in scores.items()}
    ratio = took["float32"] / took["bfloat16"]
    return [
        small_row(
            "f",
            "bfloat16: largest score difference",
            float(np.abs(scores["bfloat16"] - scores["float32"]).max()),
            None,
            f"{len(paths)} demo images, {len(lexicon):,} negatives; scores lie in [0, 3]",
        ),
        Row(
            "f",
            "bfloat16: AUROC difference",
            areas["bfloat16"] - areas["float32"],
            f"{areas['bfloat16'] - areas['float32']:+.4f}",
            note=f"{areas['float32']:.4f} in float32",
        ),
        Row("f", "bfloat16: image encoding, times faster", ratio, f"{ratio:.2f} x"),
    ]


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = [li for li in info.read_text().splitlines() if li.startswith("model name")]
        model = found[0].partition(":")[2].strip() if found else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def show(rows: Sequence[Row]) -> str:
    met = {True: "yes", False: "no", None: ""}
    lines = ["| case | measure | value | goal | met | how |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r.case} | {r.measure} | {r.shown} | {r.goal} | {met[r.met]} | {r.note} |" for r in rows
    ]
    return "\n".join(lines)


RUNNERS: tuple[tuple[str, Callable[[Setting, set[str]], list[Row]]], ...] = (
    ("ag", throughput),
    ("b", against_plain),
    ("c", lexicon_prompts),
    ("d", second_fit),
    ("e", memory),
    ("f", half_precision),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller numbers, under 90 seconds")
    parser.add_argument("--only", default=",".join(CASES), help="cases, such as a,c")
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE)
    parser.add_argument("--tokenizer", type=Path, default=DEFAULT_TOKENIZER)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child](**json.load(sys.stdin))))
        return
    wanted = {case.strip() for case in options.only.split(",")}
    if unknown := sorted(wanted - set(CASES)):
        parser.error(f"--only has an unknown case {unknown[0]!r}: choose from {', '.join(CASES)}.")
    rows: list[Row] = []
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, quiet():
        labels = read_labels(options.reference)
        setting = Setting(options.quick, labels, options.tokenizer, Path(folder))
        for cases, run in RUNNERS:
            if wanted & set(cases):
                took[cases], some = seconds(lambda: run(setting, wanted))  # noqa: B023
                rows += some
                print(f"{cases}: {took[cases]:.0f} s", file=sys.stderr, flush=True)
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    print(show(rows))
    if options.out:
        result = {
            "machine": about,
            "quick": options.quick,
            "seconds": took,
            "rows": [asdict(row) for row in rows],
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
