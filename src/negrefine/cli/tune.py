"""`negrefine tune`: parameters of the score, chosen on a validation set that is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from negrefine.cli.output import print_json, print_table, say, warn_builtin, warn_unreadable
from negrefine.detectors import NegRefine
from negrefine.errors import InputError
from negrefine.evaluation.tunables import tunables_of

if TYPE_CHECKING:
    from negrefine.encoders.base import FloatArray
    from negrefine.evaluation.results import Difference, Measured
    from negrefine.evaluation.tune import TuningResult
    from negrefine.evaluation.tuning_images import TuningImages

_GRID = method_options([NegRefine], only=tuple(tunables_of(NegRefine)), lists=True)


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

    Without options for parameters a few values of each are tried; with some, only those vary. The
    detector keeps its values, and its threshold, unless a candidate is better by more than the best
    of so many would be by chance. It then says what was tuned, on which images and among how many
    candidates, and refuses these images where it is calibrated or tested.
    """
    from negrefine.detectors.bundle import check_target, version_of
    from negrefine.evaluation.tune import tune as tune_parameters
    from negrefine.evaluation.tuning_images import differences_on_tests

    values = {name: _values(name, each) for name, each in grid.given().items()} or None
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
    if not isinstance(detector, NegRefine):
        raise InputError(
            f"{str(saved.detector_dir)!r} holds a {detector.method!r} detector: only "
            f"{NegRefine.method!r} has parameters that are tuned."
        )
    images.check_tests(detector)
    warn_builtin(detector.encoder, [*images.inside, *images.outside])
    encode = partial(_encode, detector, batch_size)
    inside, outside = encode(images.inside, "in-distribution"), encode(images.outside, images.name)
    result = tune_parameters(
        detector,
        inside,
        outside,
        values,
        alpha_features=encode(images.alphas, "--alpha-images") if images.alphas else None,
        alpha_marks=images.alpha_marks() if images.alphas else None,
        n_bootstrap=bootstrap,
        progress=True,
    )
    position = result.best if best or result.improved else 0
    chosen = images.recorded(detector, result, position, [inside, outside])
    target = out or saved.detector_dir
    # Another process may have saved a detector there while the images were scored.
    chosen.save(target, replacing=version if out is None else None)
    # After saving: a test set that cannot be read must not cost the choice.
    differences: list[Difference] = []
    if position and images.tests:
        tests = {name: encode(paths, name) for name, paths in images.tests.items()}
        test_inside = encode(images.test_inside, "--test-id")
        differences = differences_on_tests(detector, chosen, test_inside, tests, bootstrap)
    if as_json:
        content = {"validation": images.name, **_numbers(result)}
        content |= {"chosen": position, "tuning": chosen.tuning_ and chosen.tuning_.as_dict()}
        print_json({**content, "tests": [asdict(each) for each in differences]})
        return
    _print(result, images.name)
    say(*_sentences(result, position, images.name), *_on_tests(differences, position, images.tests))
    lost = detector.offset_ is not None and chosen.offset_ is None
    had = " It has no threshold now: calibrate it with other images." if lost else ""
    say(f"Saved {chosen.method} to {target}.{had}")


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
    kind = _GRID.declared[name].option_type
    try:
        return [kind(part.strip()) for part in given.value.split(",")]
    except ValueError as error:
        noun = "whole numbers" if kind is int else "numbers"
        raise InputError(
            f"{given.option} takes {noun} separated by commas, not {given.value!r}."
        ) from error


def _encode(detector: NegRefine, batch_size: int, paths: Sequence[Path], shown: str) -> FloatArray:
    from negrefine.evaluation.images import encode_readable

    features, errors = encode_readable(
        detector.encoder,
        paths,
        description=f"Encoding {shown}",
        batch_size=batch_size,
        progress=True,
    )
    warn_unreadable(errors, len(paths), shown)
    return features


def _numbers(result: TuningResult) -> dict[str, Any]:
    rows = [asdict(row) for row in result.rows]
    return {"candidates": rows, "best": result.best, "p_value": result.p_value}


def _print(result: TuningResult, name: str) -> None:
    from rich.text import Text

    from negrefine.detectors.tuning import shown
    from negrefine.evaluation.tables import FPR95_NOTE

    varied = [
        name for name in result.rows[0].values if len({row.values[name] for row in result.rows}) > 1
    ]
    rows = []
    for i, row in enumerate(result.rows):
        measured = (row.auroc, row.auroc_gain, row.fpr95, row.fpr95_gain)
        cells = [Text(_percent(each, "\n")) for each in measured]
        values = ", ".join(f"{name} {shown(row.values[name])}" for name in varied)
        marks = [text for text, on in (("as it was", i == 0), ("best", i == result.best)) if on]
        said = f"\n({', '.join(marks)})" if marks else ""
        if "alpha_rule" in varied:
            values = values.removeprefix("alpha_rule ").replace(", ", "\n", 1)
        rows.append([Text(f"{values}{said}"), *cells])
    print_table(
        ["candidate", "AUROC", "gain", "FPR95", "change"],
        rows,
        title=f"Against the validation set {name}",
        caption="In percent with 95 % intervals over images; gains and changes are from the first "
        f"row, on the same images, each by itself. {FPR95_NOTE}.",
    )


def _percent(measured: Measured | None, between: str = " ") -> str:
    if measured is None:
        return ""
    text = f"{100 * measured.value:.2f}"
    if measured.low is None or measured.high is None:
        return text
    return f"{text}{between}[{100 * measured.low:.1f}, {100 * measured.high:.1f}]"


def _sentences(result: TuningResult, position: int, name: str) -> list[str]:
    from negrefine.detectors.tuning import shown

    n, best = len(result.rows), result.rows[result.best]
    values = ", ".join(f"{each} {shown(value)}" for each, value in best.values.items())
    if result.best == 0:
        return [f"No candidate of {n} has a higher AUROC on {name} than the detector as it was."]
    luck = f"p = {result.p_value:.2g}, which allows for the choice among {n} candidates"
    found = f"The best on {name} is {values}: {_percent(best.auroc_gain)} points of AUROC"
    if result.improved:
        kept = f"Chosen on {name}, where it looks better than it is."
    elif position:
        kept = f"Chosen on {name} as you asked (--best)."
    else:
        kept = "The detector keeps its values; --best takes the best one all the same."
    clear = "clearly better" if result.improved else "not clearly better"
    return [f"{found}, {clear} ({luck}). {kept}"]


def _on_tests(
    differences: Sequence[Difference], position: int, tests: Mapping[str, Any]
) -> list[str]:
    from negrefine.evaluation.results import MEAN

    if tests and not position:
        return ["Nothing was chosen, so there is nothing to test."]
    return [
        f"On {'the mean of the test sets' if each.ood_set == MEAN else each.ood_set}, which had no "
        f"part in it: {_percent(each.auroc)} points of AUROC and {_percent(each.fpr95)} of FPR95."
        for each in differences
        if len(tests) > 1 or each.ood_set != MEAN
    ]
