"""What every stream promises: reset, errors that change nothing, states, frozen detectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import negrefine
from negrefine import (
    EOE,
    MCM,
    OODD,
    TANL,
    AdaNeg,
    Detector,
    NegLabel,
    NegRefine,
    OODDictionary,
    StreamDetector,
    load_detector,
)
from negrefine.detectors import DETECTORS
from negrefine.detectors.selected import Selected
from negrefine.detectors.selection import marks_of_features
from negrefine.detectors.tuning import Tuning
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, EncoderError, InputError, NotFittedError
from negrefine.labels.lexicon import Lexicon
from negrefine.streaming import STREAMS
from negrefine.streaming.candidates import lexicon_candidates
from negrefine.streaming.given import detector_of_features
from negrefine.streaming.noise import noise_images
from streaming.features import World, world

W = world(0, n_negatives=40, n_images=120)
SIZE = 20


def base(w: World = W) -> Detector:
    return detector_of_features(w.classes, w.negatives, w.scale)


MAKERS: dict[str, Callable[[], StreamDetector]] = {
    "adaneg": lambda: AdaNeg(base(), memory=4),
    "adaneg-sample": lambda: AdaNeg(base(), memory=3, prototypes="sample"),
    "tanl": lambda: TANL(base(), noise_features=W.noise, n_labels=12, queue=25),
    "tanl-official": lambda: TANL(base(), noise_features=W.noise, preset="official"),
    "oodd": lambda: OODD(base(), size=30, weight=0.5),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], StreamDetector]:
    return MAKERS[request.param]


def scores_of(stream: StreamDetector, batches: list[Any]) -> NDArray[np.float64]:
    return np.concatenate([stream.update_and_score(batch) for batch in batches])


def test_reset_gives_the_first_bytes_again(make: Callable[[], StreamDetector]) -> None:
    stream = make()
    first = scores_of(stream, W.batches(SIZE))
    assert (stream.n_images, stream.n_batches) == (120, 6)
    assert first.dtype == np.float64
    assert first.shape == (120,)
    again = scores_of(stream, W.batches(SIZE))
    assert again.tobytes() != first.tobytes()
    stream.reset()
    assert (stream.n_images, stream.n_batches) == (0, 0)
    assert scores_of(stream, W.batches(SIZE)).tobytes() == first.tobytes()
    # It learns, and larger scores are in-distribution.
    assert first[W.is_id].mean() > first[~W.is_id].mean() + 0.1


def test_a_stream_goes_on_where_it_was_saved(
    make: Callable[[], StreamDetector], tmp_path: Path
) -> None:
    stream, file = make(), tmp_path / "state.safetensors"
    batches = W.batches(SIZE)
    scores_of(stream, batches[:3])
    stream.save_state(file)
    content = file.read_bytes()
    expected = scores_of(stream, batches[3:])
    other = make()
    other.read_state(file)
    assert (other.n_images, other.n_batches) == (60, 3)
    other.save_state(file)
    assert file.read_bytes() == content
    assert scores_of(other, batches[3:]).tobytes() == expected.tobytes()
    assert other.freeze().identity() == stream.freeze().identity()
    other.load_state(make().state())
    other.reset()
    fresh = make()
    assert scores_of(other, batches).tobytes() == scores_of(fresh, batches).tobytes()


def test_a_bad_batch_is_an_error_that_changes_nothing(
    make: Callable[[], StreamDetector],
) -> None:
    stream = make()
    stream.update_and_score(W.images[:SIZE])
    before = {name: array.tobytes() for name, array in stream.state().items()}
    bad = W.images[:8].copy()
    bad[3] = np.nan
    zero = W.images[:8].copy()
    zero[5] = 0
    cases: list[tuple[Any, str]] = [
        (bad, "hold NaN or infinity"),
        (zero, "rows of nothing but zeros, the first at index 5"),
        (W.images[:8, :15], r"must have shape \(n, 16\) for this encoder, not \(8, 15\)"),
        (W.images[:0], "The batch is empty, and .* needs at least 1: wait for more images"),
        (W.images[0], r"must have shape \(n, 16\)"),
        (["a.jpg"], "must be real numbers"),
    ]
    for batch, said in cases:
        with pytest.raises(InputError, match=said):
            stream.update_and_score(batch)
    assert {name: array.tobytes() for name, array in stream.state().items()} == before
    assert stream.classify(W.images[:0]).shape == (0,)


def test_states_that_do_not_fit_change_nothing(
    make: Callable[[], StreamDetector], tmp_path: Path
) -> None:
    stream = make()
    stream.update_and_score(W.images[:60])
    state = stream.state()
    identity = stream.freeze().identity()
    for name, array in state.items():
        wrong = [
            {k: v for k, v in state.items() if k != name},
            {**state, name: array.astype(np.float16)},
            {**state, name: array[..., None]},
            {**state, "more": array},
        ]
        if array.dtype.kind == "f":
            wrong.append({**state, name: np.full_like(array, np.nan)})
        for each in wrong:
            with pytest.raises(InputError):
                stream.load_state(each)
    with pytest.raises(InputError, match="must have counts"):
        stream.load_state({**state, "counts": np.array([-1, 2])})
    assert stream.freeze().identity() == identity
    other = world(9, n_negatives=40)
    stranger = OODD(detector_of_features(other.classes, other.negatives, other.scale), size=30)
    stranger.update_and_score(other.images)
    file = tmp_path / "state.safetensors"
    stranger.save_state(file)
    with pytest.raises(InputError, match="is of another stream"):
        stream.read_state(file)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="is damaged"):
        stranger.read_state(file)
    file.write_bytes(content[:20])
    with pytest.raises(InputError, match="is not the state of a stream"):
        stranger.read_state(file)
    with pytest.raises(InputError, match="cannot be read"):
        stranger.read_state(tmp_path / "none")
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not what negrefine writes"):
        stream.save_state(tmp_path / "mine.txt")
    assert stream.freeze().identity() == identity


def test_a_frozen_stream_is_a_static_detector(
    make: Callable[[], StreamDetector], tmp_path: Path
) -> None:
    stream = make()
    scores_of(stream, W.batches(SIZE)[:3])
    frozen = stream.freeze()
    identity = frozen.identity()
    rest = W.images[60:]
    expected = frozen.score_features(rest)
    order = np.random.default_rng(1).permutation(len(rest))
    np.testing.assert_allclose(frozen.score_features(rest[order]), expected[order], atol=1e-12)
    alone = [float(frozen.score_features(row[None])[0]) for row in rest[:5]]
    np.testing.assert_allclose(alone, expected[:5], rtol=0, atol=1e-12)
    # The stream goes on; what was frozen does not.
    moved = scores_of(stream, W.batches(SIZE)[3:])
    assert frozen.identity() == identity
    assert frozen.score_features(rest).tobytes() == expected.tobytes()
    assert not np.allclose(moved, expected)
    inside = rest[W.is_id[60:]]
    frozen.calibrate_features(inside[:25], fpr=0.1)
    frozen.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", stream.base.encoder)
    assert type(loaded) is type(frozen)
    assert loaded.identity() == frozen.identity()
    assert loaded.score_features(rest).tobytes() == expected.tobytes()
    assert (
        loaded.predict_features(rest).tolist()
        == np.where(expected >= frozen.offset_, 1, -1).tolist()
    )
    assert loaded.explain_features(rest[:1], top=2)[0].score == pytest.approx(expected[0])
    with pytest.raises(InputError, match="cannot be fitted: call freeze"):
        frozen.fit(["a", "b"])
    with pytest.raises(InputError, match="not exchangeable"):
        stream.calibrate(rest)


def test_a_damaged_frozen_detector_is_refused(tmp_path: Path) -> None:
    stream = OODD(base(), size=30)
    stream.update_and_score(W.images)
    frozen = stream.freeze()
    frozen.dictionary_ = frozen.dictionary_[:3]
    frozen.save(tmp_path)
    with pytest.raises(BundleError, match="size of the dictionary"):
        load_detector(tmp_path, stream.base.encoder)


def test_images_that_chose_something_about_the_base_are_refused_after_loading_too(
    detectors: dict[str, Detector], demo_pictures: list[Path], tmp_path: Path
) -> None:
    features = detectors["negrefine"].encoder.encode_images(demo_pictures[:40])
    base = detectors["negrefine"].with_params(alpha=2.0, alpha_rule="class")
    assert isinstance(base, NegRefine)
    base.choose_alphas_features(features[:20], least=2)
    digest = "0" * 64
    tuning = Tuning("odd", 5, digest, 5, digest, 2, {"alpha": 2.0}, {"alpha": 1.0}, 0, 0, 0, 0.5)
    base.set_tuning(tuning, marks_of_features(features[20:25]))
    stream = OODD(base, size=10, k=2)
    stream.update_and_score(features[25:])
    frozen = stream.freeze()
    frozen.save(tmp_path)
    loaded = load_detector(tmp_path, base.encoder)
    for each in (frozen, loaded):
        assert isinstance(each, Selected)
        assert each.tuning_ == tuning
        for seen in (features[:20], features[20:25]):
            with pytest.raises(InputError, match=r"chosen on|tuned on"):
                each.calibrate_features(seen, 0.2)
        each.calibrate_features(features[28:], 0.3)
    assert loaded.identity() == frozen.identity()


def test_large_batches_are_scored_in_blocks() -> None:
    big = world(4, n_negatives=40, n_images=600)
    for make in MAKERS.values():
        stream, small = make(), make()
        whole = stream.update_and_score(big.images)
        assert whole.shape == (600,)
        # Another batch size learns in another order: it is another stream.
        assert not np.allclose(whole, scores_of(small, big.batches(100)))


@pytest.mark.parametrize("method", ["neglabel", "csp", "negrefine"])
def test_every_detector_with_negative_labels_is_a_base(
    method: str, detectors: dict[str, Detector], demo_pictures: list[Path]
) -> None:
    detector = detectors[method]
    features = detector.encoder.encode_images(demo_pictures[:12])
    static = detector.score_features(features)
    adaneg = AdaNeg(detector, n_groups=3)
    parts = adaneg.update_and_score_parts(features)
    plain = NegLabel(detector.encoder, n_groups=3)
    plain.class_names_, plain.class_features_ = detector.class_names_, detector.class_features_
    plain.negatives_ = detector.negatives_  # type: ignore[assignment]
    np.testing.assert_allclose(parts["neglabel"], plain.score_features(features), atol=1e-12)
    oodd = OODD(detector, k=2, weight=0.25)
    parts = oodd.update_and_score_parts(features)
    np.testing.assert_allclose(parts["base"], static, atol=1e-12)
    np.testing.assert_allclose(oodd.combine(parts), static - 0.25 * parts["similarity"])
    assert (parts["similarity"] <= 1 + 1e-9).all()
    tanl = TANL(detector, n_labels=10)
    assert tanl.update_and_score(features).shape == (12,)
    assert set(tanl.freeze().negatives_.texts) <= set(detector.negatives_.texts)  # type: ignore[union-attr]
    for stream in (adaneg, oodd, tanl):
        assert stream.class_names_ == detector.class_names_
        assert set(stream.classify(features)) <= set(range(len(detector.class_names_)))
    eoe = EOE.on_labels_of(detector, beta=1.0)
    assert eoe.negatives_ is detector.negatives_
    assert eoe.score_features(features).max() < 1


def test_the_words_that_were_not_mined_are_candidates_too(
    detectors: dict[str, Detector], small_lexicon: Lexicon
) -> None:
    for method in ("neglabel", "csp"):
        detector = detectors[method]
        assert isinstance(detector, NegLabel | negrefine.CSP)
        further = lexicon_candidates(detector)
        words = {(label.word, label.pos) for label in further.labels}
        mined = {(label.word, label.pos) for label in detector.negatives_.labels}
        assert not words & mined
        entries = {entry.word for entry in small_lexicon.entries}
        cleaned = {w.replace("_", " ") for w in entries} if method == "csp" else entries
        assert {word for word, _ in words | mined} == cleaned
        stream = TANL(detector, further=further, n_labels=len(words | mined))
        chosen = stream.freeze().negatives_.labels
        assert {(label.word, label.pos) for label in chosen} == words | mined


def test_what_cannot_be_a_stream_is_one_sentence(
    detectors: dict[str, Detector], builtin_encoder: CLIPEncoder
) -> None:
    mcm, fitted = detectors["mcm"], base()
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: AdaNeg(mcm), "AdaNeg needs negative labels, and MCM has none"),
        (lambda: TANL(mcm), "TANL needs candidates, and MCM has no negative labels"),
        (lambda: AdaNeg("neglabel"), "base must be a fitted detector"),
        (lambda: AdaNeg(fitted, memory=0), "memory must be a whole number of at least 1"),
        (lambda: AdaNeg(fitted, prototypes="mean"), "prototypes must be one of task, sample"),
        (lambda: AdaNeg(fitted, gap=1.5), r"gap must lie in \[0, 1\]"),
        (lambda: TANL(fitted, preset="mine"), "preset must be one of paper, official"),
        (lambda: TANL(fitted, further=[1]), "further must be Negatives"),
        (
            lambda: TANL(fitted, noise_features=W.noise, class_order=[0, 0]),
            "class_order must hold each of 0 to 5 once",
        ),
        (lambda: TANL(fitted, noise_features=W.noise[:, :3]), "Noise features must have shape"),
        (lambda: OODD(fitted, size=3), "size is 3 and k is 5"),
        (lambda: OODDictionary(size=2048, k=0), "k must be a whole number of at least 1"),
        (lambda: EOE.on_labels_of(mcm), "MCM has no negative labels"),
        (
            lambda: AdaNeg.from_features(W.classes, W.negatives[:, :3], logit_scale=1.0),
            r"Negative features must have shape \(n, 16\)",
        ),
        (
            lambda: AdaNeg.from_features(W.classes, W.negatives[:0], logit_scale=1.0),
            "Negative features must have shape",
        ),
        (
            lambda: AdaNeg.from_features(W.classes, W.negatives, logit_scale=0.0),
            "logit_scale must be positive",
        ),
    ]
    for make, said in cases:
        with pytest.raises(InputError, match=said):
            make()
    with pytest.raises(EncoderError, match="has no encoder"):
        TANL(fitted)
    with pytest.raises(NotFittedError, match="is not fitted"):
        AdaNeg(NegLabel(builtin_encoder))
    assert OODD(mcm, weight=0.01).update_and_score(
        builtin_encoder.encode_images(noise_images()[:6])
    ).shape == (6,)


def test_the_dictionary_says_what_is_wrong() -> None:
    dictionary = OODDictionary(k=5)
    scores = np.arange(8.0)
    cases: list[tuple[Any, Any, str]] = [
        (W.images[:4], scores[:4], "would hold 4 images, and k is 5: give a first batch of at"),
        (W.images[:8], scores[:7], "must be 8 finite numbers"),
        (W.images[:8], np.full(8, np.nan), "finite numbers"),
        (W.images[:0], [], "n at least 1"),
    ]
    for features, base_scores, said in cases:
        with pytest.raises(InputError, match=said):
            dictionary.update_and_score(features, base_scores)
    first = dictionary.update_and_score(W.images[:8], scores)
    with pytest.raises(InputError, match=r"must have shape \(n, 16\)"):
        dictionary.update_and_score(W.images[:8, :5], scores)
    dictionary.reset()
    assert dictionary.update_and_score(W.images[:8], scores).tobytes() == first.tobytes()


def test_noise_is_the_same_for_a_seed() -> None:
    first, again, other = noise_images(1), noise_images(1), noise_images(2)
    assert len(first) == 15
    assert {image.size for image in first} == {(224, 224)}
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))
    assert first[0].tobytes() != other[0].tobytes()
    assert set(np.unique(np.asarray(first[-1]))) == {0, 255}


def test_methods_have_one_name_in_every_table() -> None:
    assert list(STREAMS) == ["adaneg", "tanl", "oodd"]
    assert not set(STREAMS) & set(DETECTORS)
    for method, cls in STREAMS.items():
        assert cls.method == method
        assert "20" in cls.paper
    with pytest.raises(InputError, match="is FrozenTANL"):
        negrefine.detectors.register(type("Mine", (MCM,), {"method": "tanl"}))
