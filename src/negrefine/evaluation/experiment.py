"""The experiment of the papers: several methods on one in-distribution and several OOD sets."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import Detector
from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.registry import DETECTORS
from negrefine.detectors.saved_parameters import encode_parameter
from negrefine.encoders.base import FloatArray
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.images import find_images
from negrefine.errors import InputError
from negrefine.evaluation.ablation import ablation_scores
from negrefine.evaluation.bootstrap import METRICS, metrics_of_scores, resampled_metrics
from negrefine.evaluation.feature_store import StoredFeatures, store_features
from negrefine.evaluation.result_files import (
    MANIFEST,
    read_manifest,
    save_evaluation,
    set_directory,
)
from negrefine.evaluation.results import Evaluation, Measured, Result, Scores, SetScores
from negrefine.evaluation.score_store import store_scores
from negrefine.labels.class_names import check_class_names

ID = "ID"
METHODS = ("mcm", "glmcm", "neglabel", "csp", "negrefine")
"""Methods that every CLIP model with a vision transformer can run; "clipn" needs its checkpoint."""

_SEED_PARAMETERS = {"neglabel": "seed", "csp": "group_seed", "negrefine": "group_seed"}


@dataclass(frozen=True)
class ImageFolder:
    """One set of images.

    Attributes:
        name: Stands in tables; the in-distribution set is called "ID" there whatever this is.
        paths: n image files.
        labels: Index into the class names of each image's true class, -1 unknown; None for all.
        groups: Name of the part of the set that an image belongs to; None for none.
    """

    name: str
    paths: list[Path]
    labels: list[int] | None = None
    groups: list[str] | None = None


def image_folder(
    name: str, root: str | os.PathLike[str], class_names: Sequence[str] | None = None
) -> ImageFolder:
    """Find the images below a folder; the folder just below it is an image's group.

    Args:
        name: See `ImageFolder`.
        root: The folder.
        class_names: An image in a folder named like one of these, but for case and "_" for
            spaces, gets its label.

    Raises:
        InputError: The folder is missing or holds no image.
    """
    paths = find_images([root])
    inside = [path.relative_to(root).parts for path in paths]
    groups = [parts[0] if len(parts) > 1 else "" for parts in inside]
    if class_names is None:
        return ImageFolder(name, paths, None, groups)
    # Of equal names the first counts, as an argmax over classes takes it.
    number = {_plain(n): i for i, n in reversed(list(enumerate(class_names)))}
    return ImageFolder(name, paths, [number.get(_plain(group), -1) for group in groups], groups)


def check_evaluation(
    out: Path,
    methods: Sequence[str],
    ood_names: Sequence[str],
    seeds: Sequence[int],
    *,
    ablation: bool = False,
) -> None:
    """Raise InputError for what `evaluate` would refuse, before a model is loaded.

    Args:
        out: Folder for the results.
        methods: Names of methods.
        ood_names: Names of the OOD sets.
        seeds: Seeds of the groups.
        ablation: The ablation is wanted, too.
    """
    if not methods:
        raise InputError(f"No method is named: give some of {', '.join(DETECTORS)}.")
    unknown = [method for method in methods if method not in DETECTORS]
    if unknown:
        raise InputError(
            f"There is no method {unknown[0]!r}: give some of {', '.join(sorted(DETECTORS))}."
        )
    if not ood_names:
        raise InputError("There is no OOD set: give one at least.")
    taken = [ID, "mean", *ood_names]
    for position, name in enumerate(taken):
        if not name or name in taken[:position]:
            raise InputError(
                f"An OOD set cannot be called {name!r}: give each a name of its own, other than "
                f"{ID!r} and 'mean'."
            )
    for what, values in (("method", methods), ("seed", seeds)):
        if len(set(values)) < len(values):
            raise InputError(f"A {what} is named twice: {', '.join(map(str, values))}.")
    if not seeds or any(seed < 0 for seed in seeds):
        raise InputError("Seeds must be whole numbers of at least 0; give one at least.")
    if ablation and "negrefine" not in methods:
        raise InputError("The ablation is NegRefine's: add negrefine to the methods.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{str(out)!r} is a file: name a folder for the results.")
    known = (MANIFEST, "features", "scores", "detectors")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in known):
        raise InputError(f"{str(out)!r} holds other files: name an empty or a new folder.")


def evaluate(
    out: Path,
    class_names: Sequence[str],
    id_images: ImageFolder,
    ood_images: Sequence[ImageFolder],
    *,
    encoder: CLIPEncoder,
    methods: Sequence[str] = METHODS,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] = (0,),
    ablation: bool = False,
    n_bootstrap: int = 1000,
    title: str = "",
    notes: Sequence[str] = (),
    batch_size: int = 64,
    progress: bool = False,
) -> Evaluation:
    """Score every image with every method and measure; each image is decoded and encoded once.

    A rerun with the same folder takes finished work from there: it encodes no image again whose
    file has not changed, so other methods, seeds or intervals cost no encoding (but for GL-MCM,
    whose patch features are too large to keep).

    Args:
        out: Folder for features, scores, detectors, and evaluation.json.
        class_names: K names.
        id_images: The in-distribution set.
        ood_images: The OOD sets.
        encoder: From `load_encoder`.
        methods: Of mcm, glmcm, clipn, neglabel, csp, negrefine; the order of the tables.
        parameters: Method to keyword arguments of its detector.
        seeds: Of the random groups of NegLabel, CSP and NegRefine, their only randomness.
        ablation: Also measure NegRefine without NegFilter and without S_MM.
        n_bootstrap: Resamples for the 95 % intervals; 0 for none.
        title: A line for people.
        notes: What a reader of the numbers must know; stands beside them everywhere.
        batch_size: Images to encode at a time.
        progress: Draw progress bars on a terminal.

    Raises:
        InputError: An argument cannot be used, a set has no readable image, or `out` holds an
            evaluation of other classes or of another encoder.
    """
    check_evaluation(out, methods, [s.name for s in ood_images], seeds, ablation=ablation)
    names = check_class_names(class_names)
    for one in (id_images, *ood_images):
        _check_set(one, len(names))
    _check_same_run(out, names, encoder)
    out.mkdir(parents=True, exist_ok=True)
    detectors = {
        method: DETECTORS[method](encoder, **(parameters or {}).get(method, {})).fit(
            names, progress=progress
        )
        for method in methods
    }
    saved = {method: out / "detectors" / method for method in methods}
    for method, detector in detectors.items():
        detector.save(saved[method])
    patch = {name: detector for name, detector in detectors.items() if detector.uses_patches}
    sets = []
    for number, one in enumerate((id_images, *ood_images)):
        name = ID if number == 0 else one.name
        stored = store_features(
            out / "features" / set_directory(number, name),
            encoder,
            one.paths,
            patch,
            description=f"Encoding {name}",
            batch_size=batch_size,
            progress=progress,
        )
        if not len(stored.features):
            raise InputError(
                f"None of the {len(one.paths)} images of {name} can be read; the first: "
                f"{stored.errors[0]}"
            )
        long = _LongScores(out / "parts" / set_directory(number, name), name, progress)
        sets.append(_score_set(name, one, stored, detectors, seeds, ablation, long))
    variants = [name for name in sets[0].scores if name not in methods]
    evaluation = Evaluation(
        directory=out,
        title=title,
        class_names=names,
        methods=list(methods),
        id_set=sets[0],
        ood_sets=sets[1:],
        results=measure(sets[0], sets[1:], list(methods), n_bootstrap),
        ablation=measure(sets[0], sets[1:], variants, n_bootstrap),
        accuracy=_accuracy(sets[0], n_bootstrap),
        settings={
            "encoder": {
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "options": encoder.options,
                "dtype": str(encoder.dtype),
            },
            "methods": {
                method: {
                    key: encode_parameter(value)
                    for key, value in detector.get_params(deep=False).items()
                    if key != "encoder"
                }
                for method, detector in detectors.items()
            },
            "seeds": list(seeds),
            "n_bootstrap": n_bootstrap,
            "notes": list(notes),
            "versions": {
                name: version(name) for name in ("negrefine", "torch", "transformers", "numpy")
            }
            | {"python": platform.python_version()},
        },
        detectors=saved,
    )
    save_evaluation(evaluation)
    return evaluation


def measure(
    id_set: SetScores, ood_sets: Sequence[SetScores], methods: Sequence[str], n_bootstrap: int
) -> list[Result]:
    """Return one row for each method and OOD set, and "mean" over the sets for each method."""
    rows = []
    for method in methods:
        by_seed = []
        intervals = None
        for seed in id_set.scores[method]:
            inside = id_set.scores[method][seed][id_set.readable]
            outside = [one.scores[method][seed][one.readable] for one in ood_sets]
            by_seed.append(_with_mean(np.stack([metrics_of_scores(inside, o) for o in outside])))
            if n_bootstrap and intervals is None:
                drawn = _with_mean(resampled_metrics(inside, outside, n_bootstrap))
                intervals = np.quantile(drawn, (0.025, 0.975), axis=0)
        values = np.stack(by_seed)
        for i, name in enumerate([*(one.name for one in ood_sets), "mean"]):
            cells = [
                _measured(values[:, i, j], None if intervals is None else intervals[:, i, j])
                for j in range(len(METRICS))
            ]
            rows.append(Result(method, name, *cells))
    return rows


def _with_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the mean over the sets, the last axis but one."""
    return np.concatenate([values, values.mean(axis=-2, keepdims=True)], axis=-2)


def _measured(values: NDArray[np.float64], interval: NDArray[np.float64] | None) -> Measured:
    low, high = (None, None) if interval is None else map(float, interval)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return Measured(float(values.mean()), low, high, std)


def _accuracy(id_set: SetScores, n_bootstrap: int) -> Measured | None:
    known = id_set.readable & (id_set.labels >= 0)
    if not known.any():
        return None
    right = (id_set.predictions == id_set.labels)[known].astype(np.float64)
    if not n_bootstrap:
        return Measured(float(right.mean()))
    rng = np.random.default_rng(0)
    means = rng.binomial(len(right), right.mean(), n_bootstrap) / len(right)
    low, high = np.quantile(means, (0.025, 0.975))
    return Measured(float(right.mean()), float(low), float(high))


@dataclass(frozen=True)
class _LongScores:
    """Scores of one image set that encode pair texts, kept on disk."""

    directory: Path
    set_name: str
    progress: bool

    def of(
        self,
        detector: NegRefine,
        name: str,
        features: FloatArray,
        score: Callable[[FloatArray], Mapping[str, NDArray[np.float64]]],
    ) -> dict[str, NDArray[np.float64]]:
        return store_scores(
            self.directory,
            name,
            detector.identity(),
            features,
            score,
            description=f"Scoring {self.set_name} ({name})",
            progress=self.progress,
        )


def _score_set(
    name: str,
    images: ImageFolder,
    stored: StoredFeatures,
    detectors: Mapping[str, Detector],
    seeds: Sequence[int],
    ablation: bool,
    long: _LongScores,
) -> SetScores:
    readable = np.array([error is None for error in stored.errors], dtype=np.bool_)
    n = len(images.paths)

    def spread(values: NDArray[np.float64]) -> Scores:
        everywhere = np.full(n, np.nan)
        everywhere[readable] = values
        return everywhere

    scores: dict[str, dict[int, Scores]] = {}
    parts: dict[str, dict[str, Scores]] = {}
    for method, detector in detectors.items():
        by_seed, first = _seed_scores(detector, stored, method, seeds, long)
        scores[method] = {seed: spread(values) for seed, values in by_seed.items()}
        parts[method] = {part: spread(values) for part, values in first.items()}
    refining = detectors.get("negrefine")
    if ablation and isinstance(refining, NegRefine):
        found = long.of(
            refining, "ablation", stored.features, lambda some: ablation_scores(refining, some)
        )
        for variant, values in found.items():
            scores[variant] = {0: spread(values)}
    # Class features of the first method: all of them classify zero-shot.
    classes = next(iter(detectors.values())).class_features_
    predictions = np.full(n, -1, dtype=np.int64)
    predictions[readable] = _nearest(stored.features, classes)
    return SetScores(
        name,
        [str(path) for path in images.paths],
        np.array(images.labels if images.labels is not None else [-1] * n, dtype=np.int64),
        predictions,
        stored.errors,
        images.groups if images.groups is not None else [""] * n,
        scores,
        parts,
    )


def _seed_scores(
    detector: Detector,
    stored: StoredFeatures,
    method: str,
    seeds: Sequence[int],
    long: _LongScores,
) -> tuple[dict[int, Scores], dict[str, Scores]]:
    """Return scores for each seed and the components of the first; S_MM has no randomness."""
    if method in stored.parts:
        parts = dict(stored.parts[method])
        return {0: detector.combine(parts)}, parts
    if isinstance(detector, NegRefine):
        parts = long.of(detector, method, stored.features, detector.score_feature_parts)
    else:
        parts = detector.score_feature_parts(stored.features)
    if method not in _SEED_PARAMETERS:
        return {0: detector.combine(parts)}, parts
    scores: dict[int, Scores] = {}
    first: dict[str, Scores] = {}
    for seed in seeds:
        variant = copy(detector)
        setattr(variant, _SEED_PARAMETERS[method], seed)
        if isinstance(variant, NegRefine):
            variant.alpha = 0
        some = {**parts, **variant.score_feature_parts(stored.features)}
        scores[seed] = detector.combine(some)
        first = first or some
    return scores, first


def _nearest(features: FloatArray, classes: FloatArray) -> NDArray[np.int64]:
    # Rows need no length one: it scales all classes alike.
    blocks = [
        np.argmax(rows.astype(np.float64) @ classes.T.astype(np.float64), axis=1)
        for rows in np.split(features, range(1024, max(len(features), 1), 1024))
    ]
    return np.concatenate(blocks).astype(np.int64)


def _check_set(images: ImageFolder, n_classes: int) -> None:
    if not images.paths:
        raise InputError(f"{images.name} has no images: give one at least.")
    for what, values in (("labels", images.labels), ("groups", images.groups)):
        if values is not None and len(values) != len(images.paths):
            raise InputError(
                f"{images.name} has {len(images.paths)} images and {len(values)} {what}."
            )
    if images.labels and not all(-1 <= label < n_classes for label in images.labels):
        raise InputError(f"A label of {images.name} is not in -1 to {n_classes - 1}.")


def _check_same_run(out: Path, class_names: list[str], encoder: CLIPEncoder) -> None:
    before = read_manifest(out)
    if before is None:
        return
    same_encoder = before["settings"]["encoder"]["fingerprint"] == encoder.fingerprint
    if before["class_names"] != class_names or not same_encoder:
        other = "another encoder" if not same_encoder else "another list of classes"
        raise InputError(f"{str(out)!r} holds an evaluation with {other}: name another folder.")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
