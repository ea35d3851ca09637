"""False-alarm rates of thresholds by class and of one threshold, by simulation.

    python benchmarks/class_thresholds.py --draws 4000

Each draw calibrates a detector on scores of classes that differ in difficulty, once with one
threshold and once with `by="class"`. The scores are normal (rounded, for ties), so that the
false-alarm rate of a threshold among the images of a class is known and not sampled: the only
errors are those of the mean over draws, given as one standard error. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from negrefine import MCM, load_encoder
from negrefine.detectors.conformal import images_needed

Rates = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What is drawn.

    Attributes:
        title: What it shows.
        n: Calibration images of all classes together.
        fpr: As in `Detector.calibrate`, like `delta`.
        classes: Mean score (the deviation is 1) and share of the images of each class, by name.
        grid: Scores are multiples of it; 0 for scores without ties.
    """

    title: str
    n: int
    fpr: float = 0.05
    delta: float | None = None
    classes: tuple[tuple[str, float, float], ...] = (
        ("easy", 3.0, 0.4),
        ("medium", 1.5, 0.3),
        ("hard", 0.0, 0.24),
        ("rare, hard", 0.3, 0.02),
        ("rare, medium", 1.0, 0.015),
        ("rare, easy", 2.5, 0.015),
        ("rare, very hard", -0.5, 0.01),
    )
    grid: float = 0.0

    @property
    def means(self) -> Rates:
        """Mean score of each class, (K,)."""
        return np.array([mean for _, mean, _ in self.classes])

    @property
    def shares(self) -> Rates:
        """Share of each class among in-distribution images, (K,)."""
        return np.array([share for _, _, share in self.classes])

    def draw(self, rng: np.random.Generator) -> tuple[Rates, NDArray[np.intp]]:
        """Return the scores (n,) and predicted classes (n,) of n images."""
        classes = rng.choice(len(self.shares), size=self.n, p=self.shares)
        scores = rng.normal(self.means[classes])
        return (np.round(scores / self.grid) * self.grid if self.grid else scores), classes

    def below(self, thresholds: Rates) -> Rates:
        """Return P(score < threshold) of each class (K,) at its threshold (K,)."""
        # A score is below a multiple of the grid if it was below the middle of the cell before.
        return np.asarray(norm.cdf(thresholds - self.grid / 2 - self.means))


NEAR_THE_LIMIT = Setting(
    "90 images, 20 classes of which five hard ones have just about enough images",
    90,
    fpr=0.1,
    classes=(*[("hard", -1.0, 0.1)] * 5, *[("easy", 3.0, 0.5 / 15)] * 15),
)
SETTINGS = (
    Setting("800 images", 800),
    Setting("200 images", 200, fpr=0.1),
    Setting("60 images", 60, fpr=0.1),
    Setting("800 images, scores with ties (multiples of 0.5)", 800, grid=0.5),
    Setting("800 images, delta = 0.1", 800, delta=0.1, fpr=0.1),
    NEAR_THE_LIMIT,
    replace(NEAR_THE_LIMIT, n=220, delta=0.1, title="The same with 220 images, delta = 0.1"),
)
# Lines of fewer draws than that say little.
_FEWEST = 0.05


@dataclass(frozen=True, eq=False)
class Outcome:
    """What happened in each of D draws.

    Attributes:
        plain: False-alarm rate of each class at the one threshold, (D, K).
        by_class: The same at its threshold by class, (D, K).
        kinds: Kind of the group of each class, str (D, K).
        exact: rank / (n + 1) of the group of each class, (D, K): what the rate is in the mean over
            draws, without ties.
    """

    setting: Setting
    plain: Rates
    by_class: Rates
    kinds: NDArray[np.str_]
    exact: Rates

    def rate(self, of: Rates, weights: Rates) -> tuple[float, float]:
        """Return a weighted mean of (D, K) rates and its standard error over draws."""
        top, bottom = (of * weights).sum(axis=1), weights.sum(axis=1)
        mean = top.mean() / bottom.mean()
        error = (top - mean * bottom).std() / bottom.mean() / np.sqrt(len(top))
        return float(mean), float(error)

    def images_of(self, kind: str) -> Rates:
        """Return the shares of images that belong to groups of a kind, (D, K)."""
        return np.where(self.kinds == kind, self.setting.shares, 0.0)

    def class_images(self, index: int) -> Rates:
        """Return the share of a class in draws in which it has its own threshold, (D, K)."""
        images = np.zeros_like(self.plain)
        images[:, index] = self.images_of("class")[:, index]
        return images


def simulate(setting: Setting, draws: int, seed: int = 0) -> Outcome:
    """Calibrate `draws` times, both ways, through the public interface."""
    names = [f"class {k}" for k in range(len(setting.shares))]
    detector = MCM(load_encoder("builtin", device="cpu")).fit(names)
    rng = np.random.default_rng(seed)
    plain, by_class, kinds, exact = [], [], [], []
    for _ in range(draws):
        scores, classes = setting.draw(rng)
        with warnings.catch_warnings():
            # With ties all scores of a small group may be equal.
            warnings.simplefilter("ignore")
            detector.calibrate_scores(
                scores, setting.fpr, delta=setting.delta, by="class", classes=classes
            )
        plain.append(setting.below(np.full(len(names), detector.offset_)))
        by_class.append(setting.below(detector.image_thresholds(np.arange(len(names)))))
        kind, rank = np.empty(len(names), dtype="U6"), np.empty(len(names))
        for group in detector.threshold_groups():
            kind[list(group.classes)] = group.kind
            rank[list(group.classes)] = group.rank / (group.n + 1)
        kinds.append(kind)
        exact.append(rank)
    return Outcome(setting, *map(np.array, (plain, by_class, kinds, exact)))


def exceeded(outcome: Outcome, of: Rates, weights: Rates) -> float:
    """Return the fraction of draws, of those with images, whose rate is above fpr."""
    has = weights.sum(axis=1) > 0
    rates = (of * weights).sum(axis=1)[has] / weights.sum(axis=1)[has]
    return float(np.mean(rates > outcome.setting.fpr))


def table(outcome: Outcome) -> list[str]:
    """Return the lines of a Markdown table; each line compares the same images and draws."""
    setting = outcome.setting
    needed = images_needed(setting.fpr, setting.delta)
    head = ["predicted class", "share", "draws", "one threshold", "by class", "rank / (n + 1)"]
    if setting.delta is not None:
        head += ["one threshold above fpr", "by class above fpr"]
    names = [name for name, _, _ in setting.classes]
    groups = {}
    if len(set(names)) == len(names):
        groups = {name: outcome.class_images(k) for k, name in enumerate(names)}
    groups["all with their own threshold"] = outcome.images_of("class")
    groups["all in a pool"] = outcome.images_of("pooled")
    groups["all without a pool"] = outcome.images_of("all")
    groups["all"] = np.broadcast_to(setting.shares, outcome.plain.shape)
    rows = []
    for name, images in groups.items():
        has = images.sum(axis=1) > 0
        if has.mean() < _FEWEST:
            continue
        cells = [
            name,
            f"{images.sum(axis=1).mean():.1%}",
            f"{has.mean():.0%}",
            "{:.2%} ± {:.2%}".format(*outcome.rate(outcome.plain, images)),
            "{:.2%} ± {:.2%}".format(*outcome.rate(outcome.by_class, images)),
            f"{outcome.rate(outcome.exact, images)[0]:.2%}" if name != "all" else "",
        ]
        if setting.delta is not None:
            above = [exceeded(outcome, of, images) for of in (outcome.plain, outcome.by_class)]
            cells += [f"{each:.1%}" for each in above]
        rows.append(cells)
    title = f"{setting.title}, fpr = {setting.fpr:g} (a threshold of its own needs {needed} images)"
    lines = [head, ["---"] * len(head), *rows]
    return [title, "", *(f"| {' | '.join(cells)} |" for cells in lines), ""]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for setting in SETTINGS:
        print(*table(simulate(setting, options.draws, options.seed)), sep="\n")


if __name__ == "__main__":
    main()
