"""The experiment of the papers: several detectors on one in-distribution and several OOD sets."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from negrefine.detectors import Detector
from negrefine.detectors.parameters import encode_parameter
from negrefine.encoders.base import Encoder
from negrefine.errors import InputError, NotFittedError
from negrefine.evaluation.baseline import check_baseline
from negrefine.evaluation.images import ImageSet, SourceSet
from negrefine.evaluation.measure import measure, measure_accuracy, small_sets
from negrefine.evaluation.origins import origin_of, provenance_of
from negrefine.evaluation.overlap import check_apart, check_contents_apart
from negrefine.evaluation.paired import differences_from
from negrefine.evaluation.results import (
    ID,
    MANIFEST,
    MEAN,
    Evaluation,
    detector_directory,
    read_manifest,
    save_evaluation,
    set_directory,
)
from negrefine.evaluation.scored_sets import score_sets, scored_features, scorers_by_seed
from negrefine.evaluation.seen_scores import check_seen
from negrefine.evaluation.store import Block, Scorer, SetStore
from negrefine.evaluation.stream_tables import check_stream_tables
from negrefine.evaluation.streams import StreamPlan, evaluate_streams
from negrefine.evaluation.tables import check_tables
from negrefine.evaluation.tuned import check_unseen_sets, tuning_notes
from negrefine.files.lock import lock_directory
from negrefine.files.writing import naming
from negrefine.shown_text import is_utf8
from negrefine.sources.bounded import content_digest

# What a run writes before its manifest.
_UNFINISHED = frozenset({"features", "parts", "scores", "detectors"})

_PACKAGES = ("negrefine", "torch", "transformers", "numpy")


def check_evaluation(out: Path, ood_names: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise InputError for what `evaluate` would refuse, before a model is loaded."""
    if not ood_names:
        raise InputError("There is no OOD set: give at least one.")
    _check_names("An OOD set", [ID, MEAN, *ood_names])
    if len(set(seeds)) < len(seeds):
        raise InputError(f"A seed is named twice: {', '.join(map(str, seeds))}.")
    if not seeds or any(seed < 0 for seed in seeds):
        raise InputError("Seeds must be whole numbers of at least 0; give at least one.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{str(out)!r} is a file: name a folder for the results.")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    # A killed run has no manifest; temporary files begin with a dot.
    others = {name for name in names - _UNFINISHED if not name.startswith(".")}
    if others and MANIFEST not in names:
        raise InputError(f"{str(out)!r} holds other files: name an empty or a new folder.")
    check_tables(out)
    check_stream_tables(out)


def evaluate(
    detectors: Mapping[str, Detector],
    id_images: ImageSet | SourceSet,
    ood_images: Sequence[ImageSet | SourceSet],
    *,
    out: str | os.PathLike[str],
    ablation: Mapping[str, Detector] | None = None,
    seeds: Sequence[int] = (0,),
    n_bootstrap: int = 1000,
    title: str = "",
    notes: Sequence[str] = (),
    batch_size: int = 64,
    streams: StreamPlan | None = None,
    baseline: str | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score every image with every detector and measure; each image is decoded and encoded once.

    A rerun with the same folder takes finished work from there: it encodes no image again whose
    file has not changed, so other detectors, seeds or intervals cost no encoding. The exception are
    new detectors on patch features, which are too large to keep.

    Args:
        detectors: Row of the tables to detector, all fitted on the same class names with the same
            encoder. A row named like its detector's `method` is shown with the `title`.
        out: Folder for features, scores, detectors, and evaluation.json.
        ablation: Further detectors, shown in a table of their own and scored with their own seed;
            `ablation_of` makes those of the NegRefine paper.
        seeds: Values of each detector's `seed_parameter`.
        n_bootstrap: Resamples for the 95 % intervals; 0 for none.
        notes: What a reader of the numbers must know; shown beside them everywhere.
        streams: Also run methods that learn over streams of the images, beside the first seed of
            each of `detectors`; `write_stream_tables` writes what is measured.
        baseline: Row of `detectors` from which the differences of all others are measured too, with
            paired intervals.

    Raises NotFittedError for a detector that is not fitted, and InputError if an argument cannot be
    used, a set has no readable image, or `out` is of other classes or of another encoder.

    Example:
        >>> done = negrefine.evaluate({"nr": refine}, animal_set, [food_set], out="results")
        >>> done.results[0].auroc.value > 0.7
        True
    """
    out = Path(out)
    _check_sets(id_images, ood_images)
    check_evaluation(out, [image_set.name for image_set in ood_images], seeds)
    first = _check_detectors(detectors, ablation or {})
    if baseline is not None:
        check_baseline(baseline, list(detectors), n_bootstrap)
    for image_set in (id_images, *ood_images):
        image_set.check(len(first.class_names_))
    image_sets = [replace(id_images, name=ID), *ood_images]
    check_seen({**detectors, **(ablation or {})}, image_sets)
    _check_same_run(out, first)
    of_files = [each for each in image_sets if isinstance(each, ImageSet)]
    if len(of_files) == len(image_sets):
        check_apart(of_files[0].paths, {each.name: each.paths for each in of_files[1:]})
    with naming(out):
        out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        saved = {row: out / "detectors" / detector_directory(row) for row in detectors}
        for row, detector in detectors.items():
            detector.save(saved[row])
        scorers = {row: scorers_by_seed(detector, seeds) for row, detector in detectors.items()}
        scorers |= {
            row: scorers_by_seed(detector, ()) for row, detector in (ablation or {}).items()
        }
        used = [s for by_seed in scorers.values() for wanted in by_seed.values() for s in wanted]
        on_patches = {s.identity: s for s in used if s.detector.uses_patches}
        stores, blocks = [], []
        for number, image_set in enumerate(image_sets):
            store = SetStore(out, set_directory(number, image_set.name), image_set.name, progress)
            how = first.encoder, list(on_patches.values()), batch_size
            stores.append(store)
            blocks.append(_encoded(store, image_set, *how))
        if len(of_files) < len(image_sets):
            _check_contents_apart(image_sets, blocks)
        check_unseen_sets(detectors, image_sets, blocks)
        scored, asked = score_sets(image_sets, stores, blocks, scorers, first.class_features_)
        id_set, *ood_sets = scored
        results = {}
        for row in scorers:
            ood_scores = {ood_set.name: ood_set.readable_scores(row) for ood_set in ood_sets}
            results[row] = measure(row, id_set.readable_scores(row), ood_scores, n_bootstrap)
        stream_rows, stream_settings = [], {}
        if streams is not None:
            static = {row: [each.readable_scores(row)[0] for each in scored] for row in detectors}
            names = [each.name for each in ood_sets]
            features = [scored_features(*each) for each in zip(blocks, scored, strict=True)]
            stream_rows = evaluate_streams(streams, features, names, static, progress=progress)
            stream_settings = {"streams": {"seeds": list(streams.seeds), "fpr": streams.fpr}}
        known = id_set.readable & (id_set.labels >= 0)
        evaluation = Evaluation(
            directory=out,
            title=title,
            class_names=first.class_names_,
            methods=list(detectors),
            id_set=id_set,
            ood_sets=ood_sets,
            results=[result for row in detectors for result in results[row]],
            ablation=[result for row in ablation or {} for result in results[row]],
            accuracy=measure_accuracy((id_set.predictions == id_set.labels)[known], n_bootstrap),
            settings={
                "encoder": {
                    "name": first.encoder.name,
                    "fingerprint": first.encoder.fingerprint,
                    "options": first.encoder.options,
                    "dtype": str(getattr(first.encoder, "dtype", "")),
                },
                "methods": {
                    row: {
                        name: encode_parameter(value)
                        for name, value in detector.get_params(deep=False).items()
                        if name != "encoder"
                    }
                    for row, detector in detectors.items()
                },
                "seeds": list(seeds),
                "n_bootstrap": n_bootstrap,
                "notes": [
                    *notes,
                    *tuning_notes(detectors),
                    *asked,
                    *small_sets(scored),
                ],
                "versions": {name: version(name) for name in _PACKAGES}
                | {"python": platform.python_version()},
                **stream_settings,
            },
            detectors=saved,
            titles={row: d.title for row, d in detectors.items() if row == d.method and d.title},
            streams=stream_rows,
            provenance=provenance_of(
                detectors,
                [
                    origin_of(*each, progress=progress)
                    for each in zip(image_sets, stores, blocks, scored, strict=True)
                ],
            ),
        )
        if baseline is not None:
            differences = differences_from(evaluation, baseline, n_bootstrap)
            evaluation = replace(evaluation, differences=differences)
        save_evaluation(evaluation)
        return evaluation


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Raise InputError while another process evaluates into a folder: the results would mix."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_directory(out, wait=0))
        except TimeoutError as error:
            raise InputError(
                f"Another process is evaluating into {str(out)!r}: wait for it, or name another "
                "folder."
            ) from error
        yield


def _check_detectors(
    detectors: Mapping[str, Detector], ablation: Mapping[str, Detector]
) -> Detector:
    """Return the first detector, after a check that all can be compared."""
    if not isinstance(detectors, Mapping):
        raise InputError(
            "detectors must map the name of each row to a fitted detector, such as "
            f"{{'mine': detector}}, and not be a {type(detectors).__name__}."
        )
    if not detectors:
        raise InputError("There is no detector: give at least one.")
    _check_names("A detector", [*detectors, *ablation])
    first_row, first = next(iter(detectors.items()))
    for row, detector in {**detectors, **ablation}.items():
        if not hasattr(detector, "class_names_"):
            raise NotFittedError(
                f"The detector {row!r} is not fitted: call fit(class_names) first."
            )
        same_names = detector.class_names_ == first.class_names_
        if not same_names or detector.encoder.fingerprint != first.encoder.fingerprint:
            what = "encoder" if same_names else "class names"
            raise InputError(
                f"The detectors {first_row!r} and {row!r} were not fitted with the same {what}: "
                "evaluate them separately."
            )
    return first


def _check_sets(id_images: object, ood_images: object) -> None:
    """Raise InputError for what is no `ImageSet`, and no list of them."""
    if not isinstance(ood_images, Sequence) or isinstance(ood_images, str):
        what = type(ood_images).__name__
        raise InputError(
            f"ood_images must be a list of ImageSets, not of type {what}: wrap sets in []."
        )
    for name, each in (
        ("id_images", id_images),
        *((f"ood_images[{i}]", each) for i, each in enumerate(ood_images)),
    ):
        if not isinstance(each, (ImageSet, SourceSet)):
            raise InputError(
                f"{name} must be an ImageSet, not a {type(each).__name__}: "
                "negrefine.evaluation.images.find_image_set(name, folder) makes one."
            )


def _check_names(what: str, names: Sequence[str]) -> None:
    for position, name in enumerate(names):
        if not name or name in names[:position]:
            reserved = f", other than {ID!r} and {MEAN!r}" if names[0] == ID else ""
            raise InputError(
                f"{what} cannot be called {name!r}: give each a name of its own{reserved}."
            )
        if not is_utf8(name):
            raise InputError(f"The name {name!r} is not valid Unicode: give another one.")


def _check_same_run(out: Path, detector: Detector) -> None:
    before = read_manifest(out)
    if before is None:
        return
    same_encoder = before["settings"]["encoder"]["fingerprint"] == detector.encoder.fingerprint
    if before["class_names"] != detector.class_names_ or not same_encoder:
        other = "another encoder" if not same_encoder else "another list of classes"
        raise InputError(f"{str(out)!r} holds an evaluation with {other}: name another folder.")


def _encoded(
    store: SetStore,
    image_set: ImageSet | SourceSet,
    encoder: Encoder,
    patch_scorers: Sequence[Scorer],
    batch_size: int,
) -> list[Block]:
    if isinstance(image_set, SourceSet):
        return store.encode_shards(encoder, image_set.shards, patch_scorers, batch_size)
    return store.encode(encoder, image_set.paths, patch_scorers, batch_size)


def _check_contents_apart(
    image_sets: Sequence[ImageSet | SourceSet], blocks: Sequence[Sequence[Block]]
) -> None:
    """Do what `check_apart` does, when the images of some sets were read once."""
    contents: list[tuple[list[str], list[bytes]]] = []
    for image_set, encoded in zip(image_sets, blocks, strict=True):
        if isinstance(image_set, ImageSet):
            pairs = [(str(path), content_digest(path)) for path in image_set.paths]
        else:
            pairs = [(n, bytes.fromhex(c)) for block in encoded for n, c in block.images]
        readable = [pair for pair in pairs if pair[1]]
        contents.append(([name for name, _ in readable], [content for _, content in readable]))
    names = [image_set.name for image_set in image_sets]
    check_contents_apart(contents[0][1], dict(zip(names[1:], contents[1:], strict=True)))
