"""`negrefine fit`: from class names to a saved detector."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negrefine.cli.calibrate import describe, warn_unreadable
from negrefine.cli.judges import (
    Answers,
    Concurrency,
    JudgeKey,
    JudgeMode,
    JudgeName,
    JudgeUrl,
    Mode,
    parse_judge,
)
from negrefine.cli.options import BatchSize, Device, Dtype
from negrefine.cli.refine import show_summary
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.evaluation.image_scores import CalibrationReport


class Method(str, Enum):
    """The detectors by their names on the command line."""

    NEGREFINE = "negrefine"
    CSP = "csp"
    NEGLABEL = "neglabel"
    MCM = "mcm"
    GLMCM = "glmcm"
    CLIPN = "clipn"


def fit(
    classes: Annotated[
        Path, typer.Option(metavar="FILE", help="Text file with one class name per line.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DETECTOR_DIR", help="Where to save the fitted detector.")
    ],
    encoder: Annotated[
        str,
        typer.Option(
            metavar="ID_OR_DIR",
            help=(
                "Hub id such as 'openai/clip-vit-base-patch16', a CLIPModel directory, or "
                "'builtin' (a toy that knows emoji and icons, not photographs)."
            ),
        ),
    ],
    method: Annotated[Method, typer.Option(help="The published method.")] = Method.NEGREFINE,
    judge: JudgeName = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="In-distribution images that set the threshold; may be given several times.",
        ),
    ] = None,
    fpr: Annotated[
        float, typer.Option(help="False-alarm rate at which --calibrate sets the threshold.")
    ] = 0.05,
    lexicon: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Words to mine instead of WordNet 3.1: .tsv[.gz] with word, lexname, pos.",
        ),
    ] = None,
    lexicon_files: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET",
            help=(
                "'official' (no animals, no food, as published), 'full', 'official-neglabel', "
                "'official-csp', or lexicographer files separated by commas."
            ),
        ),
    ] = None,
    min_frequency: Annotated[
        int,
        typer.Option(
            min=0,
            help="Mine only WordNet words seen this often in its tagged texts: 1 is five times "
            "faster and keeps the common words.",
        ),
    ] = 0,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompt templates instead of the published ones: JSON lists by name "
            "(class_name, noun, adjective, no).",
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words the filter must not remove.")
    ] = None,
    drop: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words to remove without asking.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of S_MM.")] = None,
    k: Annotated[int | None, typer.Option(help="Names and labels that S_MM pairs.")] = None,
    n_candidates: Annotated[
        int | None, typer.Option(help="Class names the filter asks about for each label.")
    ] = None,
    n_groups: Annotated[int | None, typer.Option(help="Groups of negative labels.")] = None,
    top_fraction: Annotated[float | None, typer.Option(help="Fraction of words to mine.")] = None,
    quantile: Annotated[
        float | None, typer.Option(help="Quantile over classes that ranks words.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of MCM and GL-MCM.")
    ] = None,
    local_weight: Annotated[
        float | None,
        typer.Option(help="GL-MCM's weight of patches; 0.5 in the official ImageNet script."),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="CLIPN's score: 'atd' (agreeing to differ) or 'ctw' (competing to win)."),
    ] = None,
    logit_scale: Annotated[
        float | None, typer.Option(help="Factor on cosines; default: the encoder's own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the method's random draws.")] = None,
    all_labels: Annotated[
        bool,
        typer.Option(
            "--all-labels",
            help="Use every label in groups; the official code drops the last few.",
        ),
    ] = False,
    resample: Annotated[
        str | None,
        typer.Option(help="'bicubic' or 'bilinear' instead of the model's own resize filter."),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            help="Keep prompt embeddings in $NEGREFINE_CACHE or the user's cache directory (at "
            "most 4 GB), so that the next fit with this encoder is quick."
        ),
    ] = True,
    judge_url: JudgeUrl = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
    concurrency: Concurrency = 16,
    judge_mode: Mode = JudgeMode.PROBABILITY,
    answers: Answers = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
) -> None:
    """Fit a detector on class names, optionally set its threshold, and save it."""
    from negrefine.labels.class_names import read_class_names
    from negrefine.labels.prompts import Prompts

    if not 0 < fpr < 1:
        raise InputError(f"--fpr must lie strictly between 0 and 1, not {fpr}.")
    class_names = read_class_names(classes)

    from negrefine.detectors import DETECTORS
    from negrefine.detectors.bundle import check_target
    from negrefine.encoders import find_images, load_encoder
    from negrefine.evaluation.image_scores import calibrate_files, check_enough

    check_target(out)
    images = find_images(calibrate) if calibrate else []
    if images:
        check_enough(len(images), fpr, None)
    given: dict[str, Any] = {
        "lexicon": read_lexicon(lexicon, min_frequency),
        "lexicon_files": _split_files(lexicon_files),
        "judge": parse_judge(
            judge,
            url=judge_url,
            key=judge_key,
            concurrency=concurrency,
            mode=judge_mode,
            answers=answers,
            device=device,
        ),
        "prompts": Prompts.from_json(prompts) if prompts else None,
        "keep": read_class_names(keep) if keep else None,
        "drop": read_class_names(drop) if drop else None,
        "alpha": alpha,
        "k": k,
        "n_candidates": n_candidates,
        "n_groups": n_groups,
        "top_fraction": top_fraction,
        "quantile": quantile,
        "temperature": temperature,
        "local_weight": local_weight,
        "rule": rule,
        "logit_scale": logit_scale,
        "seed": seed,
        "official": False if all_labels else None,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    cls = DETECTORS[method.value]
    unknown = sorted(set(parameters) - set(cls._get_param_names()))
    if unknown:
        option = "all-labels" if unknown[0] == "official" else unknown[0].replace("_", "-")
        raise InputError(f"--{option} means nothing to the method {method.value!r}: leave it out.")
    loaded = load_encoder(encoder, device=device, dtype=dtype, resample=resample, cache=cache)
    detector = cls(loaded, **parameters).fit(class_names, progress=True)
    report = None
    if images:
        try:
            report = calibrate_files(detector, images, fpr, batch_size=batch_size, progress=True)
        except InputError as error:
            # Mining may have taken minutes.
            detector.save(out)
            raise InputError(
                f"{error} The detector was saved to {str(out)!r} without a threshold; "
                "'negrefine calibrate' sets it."
            ) from error
        warn_unreadable(report.errors, len(images))
    detector.save(out)
    if hasattr(parameters.get("judge"), "usage"):
        show_summary(detector)  # type: ignore[arg-type]
    _report(detector, out, report)


def _split_files(text: str | None) -> str | list[str] | None:
    """Return a preset's name, or the list of lexicographer files, whose names hold a dot."""
    if text is None or "." not in text:
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def read_lexicon(path: Path | None, min_frequency: int) -> Any:
    """Return what --lexicon and --min-frequency mean to a detector."""
    from negrefine.labels.lexicon import Lexicon

    if path is not None:
        if min_frequency:
            raise InputError("--min-frequency works on WordNet only: leave it or --lexicon out.")
        return Lexicon.from_tsv(path)
    return Lexicon.wordnet(min_frequency=min_frequency) if min_frequency else None


def _report(detector: Any, out: Path, report: CalibrationReport | None) -> None:
    words = f"{len(detector.class_names_)} class names"
    labels = getattr(detector, "negative_labels_", None)
    if labels is not None:
        kept = sum(label.kept for label in labels)
        words += f", {kept} negative labels ({len(labels) - kept} removed)"
    if report is not None:
        words += f", {describe(report)}"
    typer.echo(f"Saved {detector.method} to {out}: {words}.")
