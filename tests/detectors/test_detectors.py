"""The detectors: formulas against plain renderings of them, and what users do with the objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import AutoTokenizer, CLIPModel

from conftest import CLASS_NAMES, LetterJudge
from negrefine import (
    CSP,
    MCM,
    Answer,
    Detector,
    Lexicon,
    NegLabel,
    NegRefine,
    Prompts,
    load_encoder,
)
from negrefine.detectors.scores import (
    group_negatives,
    mcm_score,
    multi_match_score,
    neglabel_score,
    stable_topk,
)
from negrefine.encoders import CLIPEncoder
from negrefine.errors import ImageError, InputError, NotFittedError

Floats = npt.NDArray[np.float64]
short = settings(max_examples=60, deadline=None)
cosine = st.floats(-1, 1, allow_subnormal=False)


def matrix(rows: int, columns: int) -> st.SearchStrategy[Floats]:
    return hnp.arrays(np.float64, (rows, columns), elements=cosine)


# ---------------------------------------------------------------------------------- formulas


def naive_neglabel(
    s: Floats, n: Floats, groups: Iterable[Iterable[int]], scale: float
) -> list[float]:
    """1/G sum_g [ sum_k e^(c s_k) / (sum_k e^(c s_k) + sum_(j in g) e^(c n_j)) ], term by term."""
    scores = []
    for s_row, n_row in zip(s, n, strict=True):
        positive = math.fsum(math.exp(scale * float(x)) for x in s_row)
        terms = []
        for group in groups:
            negative = math.fsum(math.exp(scale * float(n_row[j])) for j in group)
            terms.append(positive / (positive + negative))
        scores.append(math.fsum(terms) / len(terms))
    return scores


@short
@given(st.data(), st.integers(1, 4), st.integers(1, 9), st.integers(1, 6), st.booleans())
def test_neglabel_score_is_the_formula(
    data: st.DataObject, k: int, m: int, n_groups: int, official: bool
) -> None:
    s, n = data.draw(matrix(2, k)), data.draw(matrix(2, m))
    groups = group_negatives(m, n_groups, seed=3, official=official)
    members = [[j for j in row if j >= 0] for row in groups.tolist()]
    score = neglabel_score(torch.from_numpy(s), torch.from_numpy(n), groups, 100.0)
    np.testing.assert_allclose(score, naive_neglabel(s, n, members, 100.0), rtol=1e-9)
    assert ((score >= 0) & (score <= 1)).all()


@short
@given(st.integers(1, 300), st.integers(2, 130), st.integers(0, 5))
def test_groups_of_the_official_rule(m: int, n_groups: int, seed: int) -> None:
    groups = group_negatives(m, n_groups, seed=seed, official=True)
    assert groups.shape == (n_groups, m // n_groups)
    # The last M mod G labels are left out, every other one is in one group.
    assert sorted(groups.flatten().tolist()) == list(range(m - m % n_groups))
    again = group_negatives(m, n_groups, seed=seed, official=True)
    assert torch.equal(groups, again)


def test_groups_are_those_of_a_seeded_permutation() -> None:
    torch.manual_seed(0)
    expected = torch.randperm(12).reshape(4, 3)
    assert torch.equal(group_negatives(14, 4), expected)


@short
@given(st.integers(1, 300), st.integers(2, 130))
def test_groups_of_all_labels(m: int, n_groups: int) -> None:
    groups = group_negatives(m, n_groups, official=False)
    assert len(groups) == min(m, n_groups)
    sizes = (groups >= 0).sum(dim=1)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.min() >= 1
    assert sorted(groups[groups >= 0].tolist()) == list(range(m))


@short
@given(st.data(), st.integers(1, 4), st.integers(1, 4))
def test_multi_match_score_is_the_formula(data: st.DataObject, i: int, j: int) -> None:
    pairs = data.draw(hnp.arrays(np.float64, (2, i, j), elements=cosine))
    n = data.draw(matrix(2, j))
    expected = [
        max(
            math.exp(100 * pairs[row, a, b])
            / (math.exp(100 * pairs[row, a, b]) + math.exp(100 * n[row, b]))
            for a in range(i)
            for b in range(j)
        )
        for row in range(2)
    ]
    score = multi_match_score(torch.from_numpy(pairs), torch.from_numpy(n), 100.0)
    np.testing.assert_allclose(score, expected, rtol=1e-9)


@short
@given(st.data(), st.integers(1, 6), st.sampled_from([0.01, 1.0, 50.0]))
def test_mcm_score_is_the_formula(data: st.DataObject, k: int, temperature: float) -> None:
    s = data.draw(matrix(2, k))
    expected = [
        max(math.exp(x / temperature) for x in row)
        / math.fsum(math.exp(x / temperature) for x in row)
        for row in s.tolist()
    ]
    score = mcm_score(torch.from_numpy(s), temperature)
    np.testing.assert_allclose(score, expected, rtol=1e-9)
    assert (score >= 1 / k - 1e-12).all()


@short
@given(st.data())
def test_large_scales_do_not_overflow(data: st.DataObject) -> None:
    s, n = data.draw(matrix(3, 4)), data.draw(matrix(3, 8))
    pairs = data.draw(hnp.arrays(np.float64, (3, 2, 8), elements=cosine))
    groups = group_negatives(8, 2)
    for scale in (1000.0, 1e6):
        for score in (
            neglabel_score(torch.from_numpy(s), torch.from_numpy(n), groups, scale),
            multi_match_score(torch.from_numpy(pairs), torch.from_numpy(n), scale),
            mcm_score(torch.from_numpy(s), 1 / scale),
        ):
            assert torch.isfinite(score).all()
            assert ((score >= 0) & (score <= 1)).all()


@short
@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(0, 5), st.integers(1, 12)), elements=st.integers(0, 3)
    ),
    st.integers(1, 15),
)
def test_top_k_takes_ties_in_column_order(values: Floats, k: int) -> None:
    tensor = torch.from_numpy(values.astype(np.float64))
    expected = torch.argsort(tensor, dim=-1, descending=True, stable=True)[:, :k]
    assert torch.equal(stable_topk(tensor, k), expected)


# ------------------------------------------------------------------------ one image at a time


NOUN = [
    "a close-up photo of the nice {}.",
    "a photo with the nice {}.",
    "a good photo with the nice {}.",
    "a photo of the nice {}.",
    "{}",
    "the {}",
    "the good {}",
    "the nice {}",
]


def test_negrefine_equals_the_paper_one_image_at_a_time(
    detectors: dict[str, Detector], builtin_dir: Path, demo_pictures: list[Path]
) -> None:
    """25 pairs x 8 templates at full padding for each image, as a reader of the paper writes it."""
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    model = CLIPModel.from_pretrained(builtin_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(builtin_dir)
    scale = float(model.logit_scale.detach().exp())

    def embed(name: str, templates: Sequence[str] = NOUN) -> torch.Tensor:
        texts = [template.replace("{}", name) for template in templates]
        inputs = tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")
        with torch.inference_mode():
            features = model.get_text_features(**inputs).pooler_output.mean(dim=0)
        return features / features.norm()

    adjective = ["{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}"]
    kept = detector.kept_negative_labels_
    assert {label.pos for label in kept} == {"noun", "adj"}
    classes = torch.stack([embed(name) for name in CLASS_NAMES])
    negatives = torch.stack(
        [embed(label.text, NOUN if label.pos == "noun" else adjective) for label in kept]
    )
    torch.manual_seed(0)
    used = len(kept) - len(kept) % 4
    groups = torch.randperm(used).reshape(4, used // 4)

    pictures = demo_pictures[:6]
    features = torch.from_numpy(detector.encoder.encode_images(pictures))
    expected, expected_mm = [], []
    for x in features / features.norm(dim=1, keepdim=True):
        s, n = x @ classes.T, x @ negatives.T
        label_score = 0.0
        for group in groups:
            both = torch.softmax(scale * torch.cat([s, n[group]]), dim=0)
            label_score += float(both[: len(s)].sum()) / 4
        best = 0.0
        for i in s.topk(5).indices:
            for j in n.topk(5).indices:
                pair = torch.exp(scale * (x @ embed(f"{CLASS_NAMES[i]} and {kept[j].text}")))
                best = max(best, float(pair / (pair + torch.exp(scale * n[j]))))
        expected.append(label_score + 2 * best)
        expected_mm.append(best)
    np.testing.assert_allclose(detector.score_samples(pictures), expected, atol=1e-5)
    np.testing.assert_allclose(
        detector.score_parts(pictures)["multi_match"], expected_mm, atol=1e-5
    )


# ---------------------------------------------------------------------------------- behaviour


METHODS = ["mcm", "neglabel", "csp", "negrefine"]


@pytest.fixture(scope="module")
def features(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> npt.NDArray[np.float32]:
    return builtin_encoder.encode_images(demo_pictures)


@pytest.fixture(scope="module")
def mining(small_lexicon: Lexicon) -> dict[str, Any]:
    return {
        "lexicon": small_lexicon,
        "lexicon_files": "full",
        "top_fraction": 0.8,
        "n_groups": 4,
    }


@pytest.mark.parametrize("method", METHODS)
def test_scores(
    method: str,
    detectors: dict[str, Detector],
    demo_pictures: list[Path],
    features: npt.NDArray[np.float32],
) -> None:
    detector = detectors[method]
    scores = detector.score_samples(demo_pictures)
    assert scores.dtype == np.float64
    assert scores.shape == (len(demo_pictures),)
    assert len(np.unique(scores)) > 1
    low, high = (1 / len(CLASS_NAMES), 1) if method == "mcm" else (0, 1)
    assert (scores >= low).all()
    assert (scores <= (3 if method == "negrefine" else high)).all()
    parts = detector.score_parts(demo_pictures)
    assert list(parts) == detector.part_names_
    np.testing.assert_allclose(detector.combine(parts), scores)

    for other in (
        detector.score_samples(demo_pictures, batch_size=1),
        detector.score_samples(demo_pictures[::-1], batch_size=7)[::-1],
        detector.score_samples([str(path) for path in demo_pictures]),
        detector.score_features(features),
        detector.score_features(features * 3),
        detector.score_features(features.astype(np.float64).tolist()),
        [detector.score_features(row[None])[0] for row in features],
    ):
        np.testing.assert_allclose(other, scores, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_scores_nothing(method: str, detectors: dict[str, Detector]) -> None:
    detector = detectors[method]
    assert detector.score_samples([]).shape == (0,)
    assert all(part.shape == (0,) for part in detector.score_parts([]).values())


@pytest.mark.parametrize("method", METHODS)
def test_features_of_another_shape(
    method: str, detectors: dict[str, Detector], features: npt.NDArray[np.float32]
) -> None:
    detector = detectors[method]
    for wrong in (features[0], features[:, :-1], features[None]):
        with pytest.raises(InputError, match=r"must have shape \(n, 256\)"):
            detector.score_features(wrong)
    holed = features.copy()
    holed[1, 2] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        detector.score_features(holed)


@pytest.mark.parametrize("method", METHODS)
def test_an_unreadable_image_stops_scoring(
    method: str, detectors: dict[str, Detector], demo_pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "no.png").write_text("no")
    with pytest.raises(ImageError, match=r"no\.png"):
        detectors[method].score_samples([demo_pictures[0], tmp_path / "no.png"])


def make(method: str, encoder: CLIPEncoder, mining: dict[str, Any], **params: Any) -> Detector:
    classes: dict[str, Any] = {"mcm": MCM, "neglabel": NegLabel, "csp": CSP, "negrefine": NegRefine}
    if method == "mcm":
        return MCM(encoder, **params)
    if method == "negrefine":
        params = {"judge": LetterJudge(), "n_candidates": 3, **params}
    detector: Detector = classes[method](encoder, **{**mining, **params})
    return detector


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_class_names_does_not_matter(
    method: str,
    builtin_encoder: CLIPEncoder,
    mining: dict[str, Any],
    detectors: dict[str, Detector],
    features: npt.NDArray[np.float32],
) -> None:
    turned = make(method, builtin_encoder, mining).fit(CLASS_NAMES[::-1])
    expected = detectors[method].score_features(features)
    np.testing.assert_allclose(turned.score_features(features), expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_class_lists_of_every_size(
    method: str,
    builtin_encoder: CLIPEncoder,
    mining: dict[str, Any],
    features: npt.NDArray[np.float32],
) -> None:
    if method == "mcm":
        with pytest.raises(InputError, match="compares class names with each other"):
            make(method, builtin_encoder, mining).fit(["dog"])
        return
    alone = make(method, builtin_encoder, mining).fit(["dog"])
    scores = alone.score_features(features)
    assert np.isfinite(scores).all()
    twice = make(method, builtin_encoder, mining)
    with pytest.warns(UserWarning, match="1 class names occur more than once, 'dog' first"):
        twice.fit(["dog", "dog"])
    assert twice.class_names_ == ["dog", "dog"]
    if method == "mcm":
        np.testing.assert_allclose(twice.score_features(features), 0.5)
    elif method != "negrefine":
        assert (twice.score_features(features) > scores).all()


@pytest.mark.parametrize(
    ("class_names", "said"),
    [
        ([], "empty"),
        ("dog", "wrap it in"),
        (["dog", ""], "Class name 1 is blank"),
        (["  "], "Class name 0 is blank"),
        (["dog", 3], "Class name 1 is 3, a int"),
        ([None], "Class name 0 is None"),
        (["half a \ud83e fox"], "Class name 0 is .* which UTF-8 cannot hold"),
    ],
)
def test_class_lists_that_are_none(
    builtin_encoder: CLIPEncoder, class_names: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        MCM(builtin_encoder).fit(class_names)


def test_class_names_from_any_iterable(builtin_encoder: CLIPEncoder) -> None:
    expected = MCM(builtin_encoder).fit(CLASS_NAMES).class_features_
    for names in (tuple(CLASS_NAMES), iter(CLASS_NAMES), np.array(CLASS_NAMES)):
        assert (MCM(builtin_encoder).fit(names).class_features_ == expected).all()


@pytest.mark.parametrize("method", METHODS)
def test_unfitted_and_without_threshold(
    method: str,
    builtin_encoder: CLIPEncoder,
    mining: dict[str, Any],
    detectors: dict[str, Detector],
    demo_pictures: list[Path],
    tmp_path: Path,
) -> None:
    unfitted = make(method, builtin_encoder, mining)
    for use in (
        lambda: unfitted.score_samples(demo_pictures),
        lambda: unfitted.score_features(np.zeros((1, 256))),
        lambda: unfitted.predict(demo_pictures),
        lambda: unfitted.calibrate(demo_pictures),
        lambda: unfitted.explain(demo_pictures[0]),
        lambda: unfitted.save(tmp_path / "d"),
        lambda: unfitted.part_names_,
        unfitted.identity,
    ):
        with pytest.raises(NotFittedError, match="call fit"):
            use()
    for decide in (detectors[method].predict, detectors[method].decision_function):
        with pytest.raises(NotFittedError, match="calibrate"):
            decide(demo_pictures)
    assert not list(tmp_path.iterdir())


def test_calibrate_and_predict(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], features: npt.NDArray[np.float32]
) -> None:
    detector = MCM(builtin_encoder).fit(CLASS_NAMES)
    assert detector.calibrate(demo_pictures, fpr=0.2) is detector
    scores = detector.score_samples(demo_pictures)
    # P(flag) <= 0.2 asks for the floor(0.2 (n + 1))-th smallest score.
    rank = (len(scores) + 1) // 5
    assert detector.offset_ == pytest.approx(np.sort(scores)[rank - 1], abs=1e-7)
    assert np.sum(detector.calibration_scores_ < detector.offset_) == rank - 1
    decisions = detector.decision_function(demo_pictures)
    np.testing.assert_allclose(decisions, scores - detector.offset_, atol=1e-6)
    predicted = detector.predict(demo_pictures)
    assert predicted.dtype == np.int64
    assert (predicted == np.where(decisions >= 0, 1, -1)).all()
    explanation = detector.explain_features(features[:1])[0]
    assert explanation.threshold == detector.offset_
    assert explanation.verdict == ("ID" if predicted[0] == 1 else "OOD")
    # A score at the threshold is in-distribution for both.
    detector.offset_ = float(detector.score_features(features[:1])[0])
    assert detector.explain_features(features[:1])[0].verdict == "ID"
    # Fitting again forgets the threshold.
    assert detector.fit(CLASS_NAMES).offset_ is None
    for fpr in (0, 1, -0.1, math.nan):
        with pytest.raises(InputError, match="fpr must lie strictly between"):
            detector.calibrate(demo_pictures, fpr=fpr)
    with pytest.raises(InputError, match="needs at least 19 in-distribution"):
        detector.calibrate([])


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        ("mcm", {"temperature": 0}, "temperature must be positive"),
        ("mcm", {"temperature": math.nan}, "temperature must be positive"),
        ("neglabel", {"n_groups": 0}, "n_groups must be a whole number of at least 1"),
        ("csp", {"n_groups": 2.5}, "n_groups must be a whole number"),
        ("neglabel", {"quantile": 2}, r"quantile must lie in \[0, 1\]"),
        ("csp", {"top_fraction": 0}, r"top_fraction must lie in \(0, 1\]"),
        ("csp", {"top_fraction": 0.001}, "No negative label could be mined"),
        ("csp", {"logit_scale": -1}, "logit_scale must be a positive number"),
        ("csp", {"logit_scale": math.inf}, "logit_scale must be a positive number"),
        ("csp", {"exclude_class_names": "maybe"}, "exclude_class_names must be"),
        ("csp", {"superclasses": "{} thing"}, "superclass"),
        ("csp", {"superclasses": ["thing"]}, "superclass template 'thing' must contain"),
        ("csp", {"lexicon_files": "everything"}, "Unknown lexicon preset 'everything'"),
        ("csp", {"lexicon_files": ["noun.nothing"]}, "has no file 'noun.nothing'"),
        ("csp", {"lexicon_files": []}, "No word"),
        ("csp", {"seed": "abc"}, "seed must be a whole number of at least 0, not 'abc'"),
        ("csp", {"group_seed": None}, "group_seed must be a whole number"),
        ("negrefine", {"k": 0}, "k must be a whole number of at least 1"),
        ("negrefine", {"n_candidates": 0}, "n_candidates must be"),
        ("negrefine", {"alpha": math.nan}, "alpha must be a finite number"),
        ("negrefine", {"max_pairs": -1}, "max_pairs must be"),
        ("negrefine", {"filters": ("proper",)}, "Unknown filter 'proper'"),
        ("negrefine", {"filters": "proper_noun"}, "filters must be a list"),
        ("negrefine", {"keep": "dog"}, "keep must be a list"),
        ("negrefine", {"drop": "dog"}, "drop must be a list"),
        ("negrefine", {"judge": "oracle"}, "judge must be 'wordnet', 'none'"),
        ("negrefine", {"judge": 5}, "judge must be 'wordnet', 'none'"),
        ("negrefine", {"judge": LetterJudge}, "judge must be 'wordnet', 'none'"),
    ],
)
def test_bad_parameters(
    builtin_encoder: CLIPEncoder,
    mining: dict[str, Any],
    method: str,
    params: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        make(method, builtin_encoder, mining, **params).fit(CLASS_NAMES)
    assert "\n" not in str(caught.value)


def test_bad_prompts() -> None:
    for templates in (("a photo",), ("{} and {}",)):
        with pytest.raises(InputError, match="exactly once"):
            Prompts(class_name=templates)
    with pytest.raises(InputError, match=r"Prompts\.class_name must be a list .* not one string"):
        Prompts(class_name="a {}")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one"):
        Prompts(class_name=())


def test_names_with_braces_are_only_names(builtin_encoder: CLIPEncoder) -> None:
    detector = MCM(builtin_encoder).fit(["{}", "{0} dog", "100%"])
    expected = builtin_encoder.encode_texts(["a photo of a {}"])[0]
    np.testing.assert_allclose(
        detector.class_features_[0], expected / np.linalg.norm(expected), atol=1e-6
    )


def test_fewer_negatives_than_groups(
    builtin_encoder: CLIPEncoder, mining: dict[str, Any], features: npt.NDArray[np.float32]
) -> None:
    for method in ("neglabel", "csp", "negrefine"):
        detector = make(method, builtin_encoder, mining, n_groups=1000)
        with pytest.warns(UserWarning, match="cannot fill 1000 groups.*official=False"):
            detector.fit(CLASS_NAMES)
        assert (detector.score_feature_parts(features)["neglabel"] == 1).all()
        other = make(method, builtin_encoder, mining, n_groups=1000, official=False)
        scores = other.fit(CLASS_NAMES).score_feature_parts(features)["neglabel"]
        assert (scores < 1).any()


def test_one_group(
    builtin_encoder: CLIPEncoder, mining: dict[str, Any], features: npt.NDArray[np.float32]
) -> None:
    """The official NegLabel code loses the softmax with one group; CSP's does not."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    detector = make("neglabel", builtin_encoder, mining, n_groups=1).fit(CLASS_NAMES)
    expected = (unit @ detector.class_features_.T).sum(axis=1) * builtin_encoder.logit_scale
    np.testing.assert_allclose(detector.score_features(features), expected, rtol=1e-5)
    for method, official in (("neglabel", False), ("csp", True), ("csp", False)):
        detector = make(method, builtin_encoder, mining, n_groups=1, official=official)
        scores = detector.fit(CLASS_NAMES).score_features(features)
        assert ((scores > 0) & (scores < 1)).all()


def test_k_larger_than_everything(
    builtin_encoder: CLIPEncoder,
    small_lexicon: Lexicon,
    features: npt.NDArray[np.float32],
) -> None:
    detector = NegRefine(
        builtin_encoder,
        lexicon=small_lexicon,
        lexicon_files=["noun.substance"],
        top_fraction=1.0,
        judge="none",
        n_groups=1,
        k=50,
    ).fit(["dog", "cat"])
    assert len(detector.negative_labels_) == 4
    all_pairs = detector.score_features(features)
    exact = detector.set_params(k=4).score_features(features)
    np.testing.assert_allclose(all_pairs, exact, atol=1e-12)


class CountingEncoder:
    """The built-in encoder, with a count of the texts it encodes."""

    def __init__(self, encoder: CLIPEncoder) -> None:
        self.inner = encoder
        self.texts = 0
        self.name = "counting"
        self.options: dict[str, Any] = {}
        self.fingerprint = encoder.fingerprint
        self.logit_scale = encoder.logit_scale

    def encode_images(self, images: Any, batch_size: int = 64) -> npt.NDArray[np.float32]:
        return self.inner.encode_images(images, batch_size)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> npt.NDArray[np.float32]:
        self.texts += len(texts)
        return self.inner.encode_texts(texts, batch_size)


def test_what_is_encoded_while_scoring(
    builtin_encoder: CLIPEncoder, mining: dict[str, Any], demo_pictures: list[Path]
) -> None:
    encoder = CountingEncoder(builtin_encoder)
    detector = NegRefine(encoder, judge="none", alpha=0, **mining).fit(CLASS_NAMES)
    assert detector.part_names_ == ["neglabel"]
    encoder.texts = 0
    without = detector.score_samples(demo_pictures)
    assert detector.explain(demo_pictures[0]).pair is None
    assert encoder.texts == 0

    detector.set_params(alpha=2.0)
    detector.score_samples(demo_pictures)
    first = encoder.texts
    assert 0 < first <= len(demo_pictures) * 25 * 8
    detector.score_samples(demo_pictures[::-1])
    assert encoder.texts == first
    parts = detector.score_parts(demo_pictures)
    np.testing.assert_allclose(parts["neglabel"], without, atol=1e-9)

    forgetful = NegRefine(encoder, judge="none", max_pairs=0, **mining).fit(CLASS_NAMES)
    np.testing.assert_allclose(
        forgetful.score_samples(demo_pictures), detector.score_samples(demo_pictures), atol=1e-6
    )


# ------------------------------------------------------------------------------------ filter


def kept(detector: NegRefine) -> set[str]:
    return {label.word for label in detector.kept_negative_labels_}


class Fixed:
    """Gives the same answer to every question, and remembers the questions."""

    def __init__(self, proper: Any = False, sub: Any = False, name: str = "fixed") -> None:
        self.proper, self.sub, self.name = proper, sub, name
        self.asked: list[Any] = []

    def is_proper_noun(self, words: Sequence[str]) -> list[Any]:
        self.asked += words
        return [self.proper] * len(words)

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Any]:
        self.asked += pairs
        return [self.sub] * len(pairs)


def test_the_judge_decides(detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    assert {"Paris", "Africa", "Einstein", "Eiffel Tower"}.isdisjoint(kept(detector))
    reasons = {label.word: label.reason for label in detector.negative_labels_ if not label.kept}
    assert reasons["Einstein"] == "proper noun: capital"
    # "horse" is a class name, so mining left it out; "hollow" begins like "horse".
    assert "horse" not in {label.word for label in detector.negative_labels_}
    assert any(reason.startswith("subcategory of 'horse'") for reason in reasons.values())
    undecided = [line for line in detector.audit_ if line.yes is None]
    assert {line.text[0] for line in undecided} == {"m"}
    assert {line.text for line in undecided} <= {
        label.text for label in detector.kept_negative_labels_
    }
    asked = {line.text for line in detector.audit_}
    assert asked == {label.text for label in detector.negative_labels_}


@pytest.mark.parametrize("no", [False, None, Answer(False), Answer(None, "?"), np.False_])
def test_no_and_undecided_keep_a_label(detectors: dict[str, Detector], no: Any) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    filtered = detector.with_filter(Fixed(no, no))
    assert all(label.kept for label in filtered.negative_labels_)
    assert len({line.yes for line in filtered.audit_}) == 1
    assert not any(line.yes for line in filtered.audit_)


@pytest.mark.parametrize("yes", [True, Answer(True, "because"), np.True_])
def test_yes_removes_a_label(detectors: dict[str, Detector], yes: Any, tmp_path: Path) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    filtered = detector.with_filter(Fixed(yes), keep=["moss", "dusty"])
    assert kept(filtered) == {"moss", "dusty"}
    assert all(line.yes is True for line in filtered.audit_)
    filtered.save(tmp_path / "saved")
    with pytest.raises(InputError, match="filter removed all"):
        detector.with_filter(Fixed(yes))


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (Fixed("yes"), "returned 'yes' as answer 0"),
        (Fixed(1), "returned 1 as answer 0"),
        (Fixed(Answer("no")), "answer 0"),  # type: ignore[arg-type]
    ],
)
def test_answers_that_are_none(detectors: dict[str, Detector], judge: Any, said: str) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    with pytest.raises(InputError, match=said):
        detector.with_filter(judge)


def test_the_wrong_number_of_answers(detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)

    class Short(Fixed):
        def is_proper_noun(self, words: Sequence[str]) -> list[Any]:
            return [False] * (len(words) - 1)

    class Nothing(Fixed):
        def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> Any:
            del pairs

    with pytest.raises(InputError, match=r"'short' left 1 of \d+ questions without an answer"):
        detector.with_filter(Short(name="short"))
    with pytest.raises(InputError, match="returned None: return a list"):
        detector.with_filter(Nothing())


def test_one_filter_at_a_time(detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    proper = detector.with_filter(LetterJudge(), filters=("proper_noun",))
    sub = detector.with_filter(LetterJudge(), filters=("subcategory",))
    assert {line.kind for line in proper.audit_} == {"proper_noun"}
    assert {line.kind for line in sub.audit_} == {"subcategory"}
    assert kept(proper) & kept(sub) == kept(detector)
    assert kept(proper) != kept(sub)
    judge = Fixed(True, True)
    assert len(kept(detector.with_filter(judge, filters=()))) == len(detector.negative_labels_)
    assert judge.asked == []


def test_keep_and_drop_lists(detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    phrase = next(label.text for label in detector.kept_negative_labels_ if label.pos == "adj")
    with pytest.warns(UserWarning, match="moss") as said:
        removed = detector.with_filter(
            LetterJudge(), keep={"Einstein", "moss"}, drop={"moss", "copper", phrase}
        )
    assert [str(each.message) for each in said] == [
        "1 words are to be kept and to be dropped, 'moss' first: they are kept."
    ]
    reasons = {label.text: label.reason for label in removed.negative_labels_}
    assert reasons["Einstein"] == reasons["moss"] == "on the keep list"
    assert reasons["copper"] == reasons[phrase] == "on the drop list"
    assert kept(removed) - kept(detector) == {"Einstein"}
    assert len(kept(detector) - kept(removed)) == 2
    assert {line.text for line in removed.audit_}.isdisjoint({"Einstein", "moss", "copper", phrase})


def test_drop_list_without_a_judge(detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    with pytest.warns(UserWarning, match="to be kept and to be dropped, 'moss' first"):
        filtered = detector.with_filter("none", drop=["copper", "moss"], keep=["moss"])
    removed = [label.word for label in filtered.negative_labels_ if not label.kept]
    assert removed == ["copper"]
    assert filtered.audit_ == []


@pytest.mark.parametrize("judge", ["none", LetterJudge()])
@pytest.mark.parametrize("which", ["keep", "drop"])
def test_words_of_a_list_that_are_no_labels_are_named(
    detectors: dict[str, Detector], judge: Any, which: str
) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    listed: dict[str, Any] = {which: ["copper", "Moss", "unheard"]}
    said = f"2 of 3 words to {which} are no mined labels and have no effect, the first: 'Moss' "
    with pytest.warns(UserWarning, match=rf"{said}\(did you mean 'moss'\?\)\.") as warned:
        detector.with_filter(judge, **listed)
    assert len(warned) == 1


def test_with_filter_is_fitting_with_that_judge(
    builtin_encoder: CLIPEncoder,
    mining: dict[str, Any],
    detectors: dict[str, Detector],
    features: npt.NDArray[np.float32],
) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    before = detector.score_features(features)
    options: dict[str, Any] = {"filters": ("proper_noun",), "drop": ("lava",)}
    for judge in (LetterJudge(), "none", Fixed(False, True)):
        settings_ = options if judge != "none" else {}
        keep = ["moss", "fern", "hollow", "copper"]
        changed = detector.with_filter(judge, keep=keep, **settings_)
        fresh = make("negrefine", builtin_encoder, mining, judge=judge, keep=keep, **settings_)
        assert isinstance(fresh, NegRefine)
        fresh.fit(CLASS_NAMES)
        assert changed.negative_labels_ == fresh.negative_labels_
        assert changed.audit_ == fresh.audit_
        np.testing.assert_allclose(
            changed.score_features(features), fresh.score_features(features), atol=1e-6
        )
    assert (detector.score_features(features) == before).all()
    assert isinstance(detector.judge, LetterJudge)


def test_with_filter_forgets_the_threshold(
    detectors: dict[str, Detector], features: npt.NDArray[np.float32]
) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    copy = detector.with_filter(LetterJudge()).calibrate_features(features)
    assert copy.offset_ is not None
    assert detector.offset_ is None
    assert copy.with_filter("none").offset_ is None
    assert copy.offset_ is not None


def test_identity_is_what_decides_scores(
    builtin_encoder: CLIPEncoder, detectors: dict[str, Detector]
) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    same = detector.with_filter(LetterJudge())
    assert same.identity() != detector.with_filter("none").identity()
    # Two judges of one name that answer differently.
    one = detector.with_filter(Fixed(False, False), keep=["fern"])
    other = detector.with_filter(Fixed(False, True), keep=["fern"])
    assert one.identity() != other.identity()
    one.offset_ = 0.5
    before = one.identity()
    one.offset_ = np.float32(0.25)  # type: ignore[assignment]
    assert one.identity() != before
    first = MCM(builtin_encoder).fit(CLASS_NAMES).identity()
    assert first == MCM(load_encoder("builtin", device="cpu")).fit(CLASS_NAMES).identity()
    assert first != MCM(builtin_encoder).fit(CLASS_NAMES[::-1]).identity()


def test_explanations_add_up(
    detectors: dict[str, Detector],
    features: npt.NDArray[np.float32],
    demo_pictures: list[Path],
    builtin_encoder: CLIPEncoder,
) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    parts = detector.score_feature_parts(features)
    for row, explanation in enumerate(detector.explain_features(features, top=3)):
        assert explanation.score == pytest.approx(
            explanation.parts["neglabel"] + 2 * explanation.parts["multi_match"]
        )
        assert explanation.parts["multi_match"] == pytest.approx(parts["multi_match"][row])
        assert len(explanation.classes) == len(explanation.negatives) == 3
        similarities = [match.similarity for match in explanation.classes]
        assert similarities == sorted(similarities, reverse=True)
        pair = explanation.pair
        assert pair is not None
        margin = builtin_encoder.logit_scale * (pair.similarity - pair.negative_similarity)
        assert 1 / (1 + math.exp(-margin)) == pytest.approx(explanation.parts["multi_match"])
        assert pair.text == f"{pair.class_name} and {pair.negative}"
        assert explanation.summary().startswith("closest class ")
    assert detector.explain(demo_pictures[0], top=100).classes[6].text in CLASS_NAMES
    with pytest.raises(InputError, match="top must be at least 1"):
        detector.explain(demo_pictures[0], top=0)


def test_long_names_and_odd_words(
    builtin_encoder: CLIPEncoder, tmp_path: Path, features: npt.NDArray[np.float32]
) -> None:
    """Quotes, brackets, digits, one letter, markup and 200 words: nothing breaks."""
    file = tmp_path / "odd.tsv"
    words = ['"quoted"', "[bracket", "x", "3-D movie", "<b>", "a_b_c", "ﬁre", "漢字", "%s", "{}"]
    rows = "".join(f"{word}\tnoun.odd\tnoun\n{word} ish\tadj.odd\tadj\n" for word in words)
    file.write_text("word\tlexname\tpos\n" + rows, encoding="utf-8")
    detector = NegRefine(
        load_encoder("builtin", device="cpu"),
        lexicon=Lexicon.from_tsv(file),
        lexicon_files="full",
        top_fraction=1.0,
        judge="none",
        n_groups=2,
        k=3,
    )
    with (
        pytest.warns(UserWarning, match="at most 32"),
        pytest.warns(UserWarning, match="1 class names are longer than 80 characters"),
    ):
        detector.fit(["dog " * 200, "'; DROP TABLE", "naïve\tname"])
    assert np.isfinite(detector.score_features(features)).all()
    judged = detector.with_filter(LetterJudge())
    assert np.isfinite(judged.score_features(features)).all()
    reasons = {label.word: label.reason for label in judged.negative_labels_}
    assert reasons["x"] == "shorter than three letters"


def test_a_filter_that_fails_leaves_the_detector_as_it_was(
    detectors: dict[str, Detector], features: npt.NDArray[np.float32]
) -> None:
    detector = copy(detectors["negrefine"])
    assert isinstance(detector, NegRefine)
    before = detector.identity()
    scores = detector.score_features(features)
    detector.set_params(judge=Fixed(proper=True))
    with pytest.raises(InputError, match="filter removed all"):
        detector.fit(["tree", "rock"])
    detector.set_params(judge=detectors["negrefine"].judge)
    assert detector.identity() == before
    assert (detector.score_features(features) == scores).all()
    assert detector.with_filter("none").class_names_ == CLASS_NAMES


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"noun": ("a {}",)}, "has adjectives, and the prompts have no template for them"),
        ({"adjective": ("a {}",)}, "no template for nouns, into which S_MM puts pairs of names"),
        ({}, "add 'noun' to the prompts"),
    ],
)
def test_prompts_without_templates_for_the_words_of_a_lexicon(
    builtin_encoder: CLIPEncoder, small_lexicon: Lexicon, given: Any, said: str
) -> None:
    prompts = Prompts(class_name=("a {}",), **given)
    mining: dict[str, Any] = {"lexicon": small_lexicon, "lexicon_files": "full"}
    detector = NegRefine(builtin_encoder, judge="none", prompts=prompts, **mining)
    with pytest.raises(InputError, match=said):
        detector.fit(CLASS_NAMES)
    if "noun" not in given:
        with pytest.raises(InputError, match="has nouns, and the prompts have no template"):
            NegLabel(builtin_encoder, prompts=prompts, **mining).fit(CLASS_NAMES)
