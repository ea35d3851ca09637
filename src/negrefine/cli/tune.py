"""`negrefine tune`: parameters of the score, chosen on a validation set that is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from negrefine.cli.add_vision import BAND_TEXT, K_TEXT, WEIGHT_TEXT
from negrefine.cli.alpha_images import ALPHA_IMAGES, find_alpha_images
from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.cli.method_options import MethodOptions, method_options
from negrefine.cli.options import (
    AS_JSON,
    BATCH_SIZE,
    BOOTSTRAP,
    VALIDATION_TEXT,
    SavedDetector,
    named_folders,
)
from negrefine.cli.output import print_json, say, warn_builtin, warn_unreadable
from negrefine.cli.tune_tables import numbers, on_tests, print_candidates, sentences
from negrefine.detectors import NegRefine, VisionChecked
from negrefine.errors import InputError
from negrefine.evaluation.tunables import tunables_of

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.detectors.selected import Selected
    from negrefine.evaluation.results import Difference
    from negrefine.evaluation.tune import TuningResult
    from negrefine.evaluation.tune_vision import SeenImages
    from negrefine.evaluation.tuning_images import TuningImages

_GRID = method_options([NegRefine], only=tuple(tunables_of(NegRefine)), lists=True)
# Names in a VisionChecked detector; its alpha is that of NegRefine.
_VISION = {"band": "--band", "k": "--vision-k", "weight": "--vision-weight"}


def _list(text: str, default: str) -> Any:
    return option(None, f"{text} Values separated by commas; default: {default}.", "LIST")


@dataclass(frozen=True, kw_only=True)
class VisionGrid:
    """What is tuned of a detector with a vision model, beside alpha."""

    vision_weight: str | None = _list(WEIGHT_TEXT, "0.5")
    vision_k: str | None = _list(K_TEXT, "2")
    band: str | None = _list(BAND_TEXT, "none")

    def given(self) -> dict[str, Given]:
        """Return what was given by the names of the detector."""
        texts = {"band": self.band, "k": self.vision_k, "weight": self.vision_weight}
        return {n: Given(_VISION[n], each) for n, each in texts.items() if each is not None}


def tune(
    *,
    saved: SavedDetector,
    id_images: list[str] = option(
        ...,
        "In-distribution images: files, folders or quoted patterns; may be given several times.",
        "IMAGES",
        name="--id",
    ),
    validation: str = option(..., VALIDATION_TEXT, "NAME=IMAGES"),
    alpha_images: list[str] = ALPHA_IMAGES,
    grid: Annotated[MethodOptions, _GRID],
    vision_grid: VisionGrid,
    test_id: list[str] = option(
        [],
        "Also measure the choice on other images, these in-distribution ones and --ood; may be "
        "given several times.",
        "IMAGES",
    ),
    ood_images: list[str] = option(
        [],
        "An OOD set: a folder, file or quoted pattern; may be given several times.",
        "NAME=IMAGES",
        name="--ood",
    ),
    best: bool = option(
        False, "Save the best candidate even if it is not clearly better.", name="--best"
    ),
    out: Path | None = option(None, "Where to save it; default: in its place.", "DETECTOR_DIR"),
    bootstrap: int = BOOTSTRAP,
    as_json: bool = AS_JSON,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Choose alpha, its rule and k of a saved detector on a validation set, which is recorded.

    Of a detector with a vision model: alpha, the weight of its answers, its k and its band. It is
    asked once for all candidates, whose questions are shown beside AUROC and FPR95.
    Without options for parameters a few values of each are tried; with some, only those vary. The
    detector keeps its values, and its threshold, unless a candidate is better by more than the best
    of so many would be by chance. It then says what was tuned, on which images and among how many
    candidates, and refuses these images where it is calibrated or tested.
    """
    from negrefine.detectors.bundle import check_target, version_of

    for given in (grid.given(), vision_grid.given()):
        for name, each in given.items():
            _values(name, each)
    if bool(test_id) != bool(ood_images):
        raise InputError("A test needs both --test-id and --ood: give both or neither.")
    if bootstrap < 1:
        raise InputError("Tuning needs resamples: give --bootstrap 1 or more.")
    images = _find(id_images, validation, alpha_images, test_id, ood_images)
    images.check()
    if out is not None:
        check_target(out)
    version = version_of(saved.detector_dir)
    detector = saved.load()
    values = _grid_of(detector, saved, grid.given(), vision_grid.given(), bool(alpha_images))
    assert isinstance(detector, (NegRefine, VisionChecked))  # noqa: S101 - `_grid_of` says so
    images.check_tests(detector)
    warn_builtin(detector.encoder, [*images.inside, *images.outside])
    encode = partial(_encode, detector, batch_size)
    inside, outside = encode(images.inside, "in-distribution"), encode(images.outside, images.name)
    alphas = encode(images.alphas, "--alpha-images") if images.alphas else None
    result = _tuned(detector, inside, outside, values, alphas, bootstrap)
    position = result.best if best or result.improved else 0
    chosen = images.recorded(detector, result, position, [inside.features, outside.features])
    target = out or saved.detector_dir
    # Another process may have saved a detector there while the images were scored.
    chosen.save(target, replacing=version if out is None else None)
    # After saving: a test set that cannot be read must not cost the choice.
    differences: list[Difference] = []
    if position and images.tests:
        tests = {name: encode(paths, name) for name, paths in images.tests.items()}
        test_inside = encode(images.test_inside, "--test-id")
        differences = _differences(detector, chosen, test_inside, tests, bootstrap)
    if as_json:
        content = {"validation": images.name, **numbers(result)}
        content |= {"chosen": position, "tuning": chosen.tuning_ and chosen.tuning_.as_dict()}
        print_json({**content, "tests": [asdict(each) for each in differences]})
        return
    print_candidates(result, images.name)
    say(*sentences(result, position, images.name), *on_tests(differences, position, images.tests))
    lost = detector.offset_ is not None and chosen.offset_ is None
    had = " It has no threshold now: calibrate it with other images." if lost else ""
    say(f"Saved {chosen.method} to {target}.{had}")


def _grid_of(
    detector: Detector,
    saved: SavedDetector,
    of_base: Mapping[str, Given],
    of_vision: Mapping[str, Given],
    has_alpha_images: bool,
) -> dict[str, list[Any]] | None:
    """Return the values that were given for a detector; InputError for what it does not have."""
    if not isinstance(detector, (NegRefine, VisionChecked)):
        raise InputError(
            f"{str(saved.detector_dir)!r} holds a {detector.method!r} detector: only "
            f"{NegRefine.method!r} and {VisionChecked.method!r} have parameters that are tuned."
        )
    given, without, instead = {**of_base}, of_vision, "'negrefine add-vision' adds a vision model"
    if isinstance(detector, VisionChecked):
        given = {n: g for n, g in of_base.items() if n == "alpha"} | {**of_vision}
        without = {n: g for n, g in of_base.items() if n != "alpha"}
        instead = "tune its NegRefine before 'negrefine add-vision'"
        if has_alpha_images:
            without["alpha_images"] = Given("--alpha-images", None)
    for each in without.values():
        raise InputError(
            f"{each.option} has no effect on a {detector.method!r} detector: leave it out; "
            f"{instead}."
        )
    return {name: _values(name, each) for name, each in given.items()} or None


def _tuned(
    detector: NegRefine | VisionChecked,
    inside: SeenImages,
    outside: SeenImages,
    values: Mapping[str, Sequence[Any]] | None,
    alphas: SeenImages | None,
    bootstrap: int,
) -> TuningResult:
    from negrefine.detectors.selection import marks_of_images
    from negrefine.evaluation.tune import tune as tune_parameters
    from negrefine.evaluation.tune_vision import tune_vision

    if isinstance(detector, VisionChecked):
        return tune_vision(detector, inside, outside, values, n_bootstrap=bootstrap, progress=True)
    return tune_parameters(
        detector,
        inside.features,
        outside.features,
        values,
        alpha_features=None if alphas is None else alphas.features,
        alpha_marks=None if alphas is None else marks_of_images(alphas.images),
        n_bootstrap=bootstrap,
        progress=True,
    )


def _differences(
    detector: NegRefine | VisionChecked,
    chosen: Selected,
    inside: SeenImages,
    tests: Mapping[str, SeenImages],
    bootstrap: int,
) -> list[Difference]:
    from negrefine.evaluation.tune_vision import vision_differences_on_tests
    from negrefine.evaluation.tuning_images import differences_on_tests

    if isinstance(detector, VisionChecked) and isinstance(chosen, VisionChecked):
        return vision_differences_on_tests(detector, chosen, inside, tests, bootstrap)
    features = {name: each.features for name, each in tests.items()}
    return differences_on_tests(detector, chosen, inside.features, features, bootstrap)


def _find(
    id_images: list[str],
    validation: str,
    alpha_images: list[str],
    test_id: list[str],
    ood_images: list[str],
) -> TuningImages:
    from negrefine.encoders import find_images
    from negrefine.evaluation.tuning_images import TuningImages

    ((name, folder),) = named_folders("--validation", [validation]).items()
    tests = named_folders("--ood", ood_images)
    if name in tests:
        raise InputError(
            f"{name!r} is a test set (--ood): a setting that is chosen on it looks better there "
            "than it is. Give another validation set."
        )
    return TuningImages(
        find_images(id_images),
        name,
        find_images([folder]),
        find_alpha_images(alpha_images),
        find_images(test_id) if test_id else [],
        {test: find_images([images]) for test, images in tests.items()},
    )


def _values(name: str, given: Given) -> list[Any]:
    kind = float if given.option in _VISION.values() else _GRID.declared[name].option_type
    if given.option == _VISION["k"]:
        kind = int
    texts = [part.strip() for part in given.value.split(",")]
    try:
        # Without a band, every image is asked about.
        return [None if (name, text) == ("band", "none") else kind(text) for text in texts]
    except ValueError as error:
        noun = "whole numbers" if kind is int else "numbers"
        raise InputError(
            f"{given.option} takes {noun} separated by commas, not {given.value!r}."
        ) from error


def _encode(detector: Detector, batch_size: int, paths: Sequence[Path], shown: str) -> SeenImages:
    """Return the images that can be read, with a warning about the others."""
    from negrefine.evaluation.images import encode_or_fail
    from negrefine.evaluation.tune_vision import SeenImages

    features, errors = encode_or_fail(
        detector.encoder,
        paths,
        description=f"Encoding {shown}",
        batch_size=batch_size,
        progress=True,
    )
    warn_unreadable([error for error in errors if error is not None], len(paths), shown)
    readable = [path for path, error in zip(paths, errors, strict=True) if error is None]
    return SeenImages(features, readable, shown)
