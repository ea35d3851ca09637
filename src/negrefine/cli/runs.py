"""The commands that evaluate several methods at once: their options, fitting and results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from negrefine.cli.bundles import option
from negrefine.cli.method_options import (
    LABEL_OPTIONS,
    MethodOptions,
    check_methods,
    parameters_for,
)
from negrefine.cli.options import BATCH_SIZE, BOOTSTRAP, LabelOptions, split_list
from negrefine.cli.output import print_tables, say, warn, warn_unreadable
from negrefine.cli.propose_options import ProposeOptions, check_proposed
from negrefine.cli.stream_options import StreamChoice, seed_numbers
from negrefine.detectors import DETECTORS, Detector, NegRefine
from negrefine.encoders.base import gives_patches
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.encoders import Encoder
    from negrefine.evaluation.results import Evaluation

REPORT = "report.html"
NO_METHODS = "none"
"""The --methods of a run with saved detectors alone."""
_COMPARED = ",".join(method for method, cls in DETECTORS.items() if cls.compared)
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is evaluated and how the results are written."""

    methods: str = option(
        _COMPARED,
        f"Methods, separated by commas, out of {', '.join(DETECTORS)}.",
        "LIST",
    )
    seeds: str | None = option(
        None,
        "Seeds of the methods' random draws, such as '0', '0,1,2' or '0-9'; default: 0.",
        "LIST",
    )
    bootstrap: int = BOOTSTRAP
    baseline: str | None = option(
        None,
        "One of the methods: also show by how much each other is better, with intervals of a "
        "paired bootstrap.",
        "METHOD",
    )
    judge: ProposeOptions
    labels: LabelOptions
    filtering: Annotated[MethodOptions, LABEL_OPTIONS]
    batch_size: int = BATCH_SIZE
    report: bool | None = option(
        None,
        "Write report.html with plots and galleries; by default if the extra 'report' is "
        "installed.",
        name="--report/--no-report",
    )

    def prepare(self, device: str, *, ablation: bool = False, saved: Sequence[str] = ()) -> Run:
        """Check the options before an encoder is loaded; a judge will run on `device`.

        `saved` are rows of saved detectors, with which there need be no methods.
        """
        from negrefine.evaluation.baseline import check_baseline

        report = self._with_report()
        seeds = self._seed_numbers()
        without = bool(saved) and self.methods == NO_METHODS
        methods = [] if without else split_list("--methods", self.methods)
        check_methods(methods)
        for row in saved:
            if row in methods:
                raise InputError(f"{row!r} is one of --methods: give --detector another name.")
        if self.baseline is not None:
            check_baseline(self.baseline, [*saved, *methods], self.bootstrap)
        if (
            self.seeds is not None
            and methods
            and not any(DETECTORS[m].seed_parameter for m in methods)
        ):
            noun, verb = ("method", "draws") if len(methods) == 1 else ("methods", "draw")
            raise InputError(
                f"--seeds has no effect on the {noun} {', '.join(map(repr, methods))}, which "
                f"{verb} nothing: leave it out."
            )
        if ablation and NegRefine.method not in methods:
            raise InputError("The ablation is NegRefine's: add negrefine to --methods.")
        given = {**self.judge.given(device), **self.labels.given(), **self.filtering.given()}
        check_proposed(given, methods)
        return Run(self, parameters_for(methods, given), seeds, ablation, report)

    def _seed_numbers(self) -> list[int]:
        return [0] if self.seeds is None else seed_numbers("--seeds", self.seeds)

    def _with_report(self) -> bool:
        from negrefine.report.templates import check_report_packages

        try:
            check_report_packages()
        except InputError as error:
            if self.report:
                raise
            if self.report is None:
                warn(f"no report.html will be written. {error}")
            return False
        return self.report is not False


@dataclass(frozen=True)
class Run:
    """An evaluation whose options have been checked.

    `parameters` has for each method, in table order, the parameters that were given.
    """

    options: RunOptions
    parameters: Mapping[str, Mapping[str, Any]]
    seeds: list[int]
    ablation: bool
    report: bool

    def _possible(self, encoder: Encoder) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters without methods that nobody asked for and the encoder lacks."""
        if self.options.methods != _COMPARED or gives_patches(encoder):
            return self.parameters
        left_out = [method for method in self.parameters if DETECTORS[method].uses_patches]
        if left_out:
            warn(
                f"{', '.join(left_out)} is left out: the encoder {encoder.name!r} gives no patch "
                "features, which it needs."
            )
        return {m: given for m, given in self.parameters.items() if m not in left_out}

    def evaluate(
        self,
        encoder: Encoder,
        class_names: Sequence[str],
        out: Path,
        evaluate: Callable[..., _T],
        defaults: Callable[[str], Mapping[str, Any]] = lambda _: {},
        streams: StreamChoice | None = None,
        draws: Sequence[int] = (),
        saved: Mapping[str, Detector] | None = None,
    ) -> _T:
        """Fit the detectors and evaluate them, also over streams if some were chosen.

        `evaluate` is `evaluation.experiment.evaluate` with its images, or `run_benchmark`;
        `defaults` gives for a method the parameters that hold unless others were given. Methods
        that draw words are fitted once for each seed of `draws`, if there are any. Detectors that
        are `saved` have the first rows.
        """
        from negrefine.benchmarks.draws import drawn_row, draws_words
        from negrefine.evaluation.ablation import ablation_of
        from negrefine.report.page import check_report

        if self.report:
            check_report(out / REPORT)
        detectors: dict[str, Detector] = {**(saved or {})}
        for row, each in detectors.items():
            if each.class_names_ != list(class_names):
                raise InputError(
                    f"The detector {row!r} was not fitted on the class names of --classes: give "
                    "those, in their order."
                )
        variants: dict[str, Detector] = {}
        for method, given in self._possible(encoder).items():
            kind = DETECTORS[method]
            seeds = draws if draws and draws_words(kind) else (None,)
            for seed in seeds:
                own = {} if seed is None else {"seed": seed}
                named = partial(drawn_row, seed=seed or 0, first=seeds[0] or 0)
                fitted = kind(encoder, **{**defaults(method), **given, **own})
                fitted.fit(class_names, progress=True)
                detectors[named(method)] = fitted
                if self.ablation and isinstance(fitted, NegRefine):
                    variants |= {named(row): each for row, each in ablation_of(fitted).items()}
        return evaluate(
            detectors,
            out=out,
            ablation=variants or None,
            seeds=self.seeds,
            n_bootstrap=self.options.bootstrap,
            batch_size=self.options.batch_size,
            baseline=self.options.baseline,
            progress=True,
            **({} if streams is None else {"streams": streams.plan(detectors)}),
        )

    def write_results(self, evaluation: Evaluation, encoder: Encoder) -> None:
        """Write the tables and the report beside an evaluation, and print the tables."""
        from negrefine.evaluation import paired
        from negrefine.evaluation.seen_scores import FAILED
        from negrefine.evaluation.stream_tables import rich_stream_tables, write_stream_tables
        from negrefine.evaluation.tables import rich_tables, write_tables
        from negrefine.report.page import write_report

        for image_set in evaluation.sets:
            errors = [error for error in image_set.errors if error is not None]
            # The notes count these.
            errors = [error for error in errors if not error.startswith(FAILED)]
            warn_unreadable(errors, len(image_set.paths), image_set.name)
        paths = write_tables(evaluation)
        if evaluation.streams:
            paths += write_stream_tables(evaluation)
        if self.report:
            paths.append(write_report(evaluation, evaluation.directory / REPORT, encoder=encoder))
        print_tables(rich_tables(evaluation))
        if evaluation.streams:
            print_tables(rich_stream_tables(evaluation))
        say(*paired.sentences(evaluation))
        for note in evaluation.settings["notes"]:
            say(f"Note: {note}")
        names = ", ".join(path.name for path in paths)
        say(f"Wrote {names} to {evaluation.directory}.", err=True)
