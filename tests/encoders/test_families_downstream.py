"""Everything that uses an encoder, with encoders that are not CLIP's."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import CLASS_NAMES, LetterJudge
from encoders.family_models import MULTILINGUAL
from negrefine import (
    CSP,
    GLMCM,
    MCM,
    Energy,
    Lexicon,
    NegLabel,
    NegRefine,
    Sigmoid,
    load_detector,
    load_encoder,
)
from negrefine.benchmarks.bundled import demo_images
from negrefine.cli.app import app
from negrefine.detectors.scores import sigmoid_score
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, InputError
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import find_image_set
from negrefine.labels.embedding import normalise

Encoders = Callable[[str], CLIPEncoder]
FAMILIES = ("siglip", "siglip2", "chinese_clip", "altclip", "align", "metaclip_2", "dual")
OTHER_LANGUAGES = ["猫", "苹果和香蕉", "消防車", "いぬ", "ネコの写真", "قطة", "تفاحة وموز"]


def mining(lexicon: Lexicon) -> dict[str, Any]:
    return {"lexicon": lexicon, "lexicon_files": "full", "top_fraction": 0.8, "n_groups": 4}


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    return [image.path for image in demo_images()][::24]


@pytest.mark.parametrize("kind", FAMILIES)
def test_labels_are_mined_filtered_scored_explained_and_saved(
    kind: str, encoder_of: Encoders, small_lexicon: Lexicon, pictures: list[Path], tmp_path: Path
) -> None:
    encoder = encoder_of(kind)
    detector = NegRefine(encoder, judge=LetterJudge(), n_candidates=3, **mining(small_lexicon))
    with warnings.catch_warnings():
        # Pairs of names are longer than the contexts of these models.
        warnings.filterwarnings("ignore", message=".*other long texts are cut")
        detector.fit(CLASS_NAMES)
        scores = detector.score_samples(pictures)
        detector.calibrate(pictures, fpr=0.2)
        explanation = detector.explain(pictures[0], top=2)
        detector.save(tmp_path / "detector")
        again = load_detector(tmp_path / "detector", device="cpu").score_samples(pictures)
    assert 0 < sum(label.kept for label in detector.negative_labels_) < 60
    assert len(set(scores.round(9))) > len(pictures) // 2
    assert explanation.score == pytest.approx(scores[0])
    assert explanation.classes[0].text in CLASS_NAMES
    assert 0 < explanation.parts["multi_match"] < 1
    np.testing.assert_allclose(again, scores, atol=1e-9)


def test_patches_are_refused_before_anything_is_encoded(
    encoder_of: Encoders, pictures: list[Path]
) -> None:
    for kind in ("siglip", "align", "dual"):
        encoder = encoder_of(kind)
        with pytest.raises(EncoderError, match="gives no patch features, which GL-MCM needs"):
            GLMCM(encoder).fit(CLASS_NAMES)
    for kind in ("altclip", "chinese_clip", "metaclip_2"):
        detector = GLMCM(encoder_of(kind), temperature=0.05).fit(CLASS_NAMES)
        assert len(set(detector.score_samples(pictures).round(9))) == len(pictures)
        assert detector.explain(pictures[0]).patch is not None


def test_the_sigmoid_of_the_best_class_is_the_models_own(
    encoder_of: Encoders, pictures: list[Path], tmp_path: Path
) -> None:
    encoder = encoder_of("siglip")
    detector = Sigmoid(encoder).fit(CLASS_NAMES)
    scores = detector.score_samples(pictures)
    cosines = normalise(encoder.encode_images(pictures)) @ detector.class_features_.T
    logits = encoder.logit_scale * cosines.astype(float) - 3
    np.testing.assert_allclose(scores, (1 / (1 + np.exp(-logits))).max(axis=1), rtol=1e-6)
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", device="cpu")
    np.testing.assert_allclose(loaded.score_samples(pictures), scores, rtol=1e-9)
    with pytest.raises(InputError, match="has no logit_bias, which Sigmoid needs"):
        Sigmoid(encoder_of("altclip")).fit(CLASS_NAMES)
    with pytest.raises(InputError, match="has no logit_bias"):
        Sigmoid(load_encoder("builtin", device="cpu")).fit(CLASS_NAMES)
    random = np.random.default_rng(0).uniform(-1, 1, (50, 7))
    plain = [max(1 / (1 + np.exp(-(110 * s - 15))) for s in row) for row in random]
    np.testing.assert_allclose(sigmoid_score(random, 110.0, -15.0).numpy(), plain, rtol=1e-12)


def test_a_bias_cancels_in_every_softmax(
    encoder_of: Encoders, small_lexicon: Lexicon, pictures: list[Path]
) -> None:
    encoder = encoder_of("siglip")
    detector = NegLabel(encoder, **{**mining(small_lexicon), "n_groups": 1, "official": False}).fit(
        CLASS_NAMES
    )
    image = normalise(encoder.encode_images(pictures)).astype(float)
    labels = detector.negatives_
    assert labels is not None
    logits = np.concatenate(
        [image @ detector.class_features_.T, image @ labels.matrix.numpy()], axis=1
    )
    for bias in (0.0, encoder.logit_bias or 0.0, -20.0):
        weights = np.exp(encoder.logit_scale * logits + bias)
        share = weights[:, : len(CLASS_NAMES)].sum(axis=1) / weights.sum(axis=1)
        np.testing.assert_allclose(detector.score_samples(pictures), share, rtol=1e-6)


def test_the_published_temperature_warns_of_another_scale(encoder_of: Encoders) -> None:
    encoder = encoder_of("siglip")
    suggested = 100 / encoder.logit_scale
    with pytest.warns(UserWarning, match="published for CLIP"):
        Energy(encoder).fit(CLASS_NAMES)
    with pytest.warns(UserWarning, match="published for CLIP") as seen:
        MCM(encoder).fit(CLASS_NAMES)
    assert len(seen) == 1
    assert "scales them by 12.18 and shifts them: scores are not comparable, and temp" in str(
        seen[0].message
    )
    assert f"temperature={suggested:.3g} does what 1 does" in str(seen[0].message)
    with pytest.warns(UserWarning, match="scales them by 12.18: scores"):
        MCM(encoder_of("dual")).fit(CLASS_NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MCM(encoder, temperature=suggested).fit(CLASS_NAMES)
        MCM(encoder, rule="max_logit").fit(CLASS_NAMES)
        MCM(load_encoder("builtin", device="cpu")).fit(CLASS_NAMES)
    # The suggested temperature gives logits that are divided by as much as CLIP's are by 1.
    assert encoder.logit_scale * suggested == pytest.approx(100)


def test_embeddings_are_kept_between_runs_and_encoders_are_pickled(
    model_dir: Callable[[str], Path], tmp_path: Path, small_lexicon: Lexicon
) -> None:
    first = load_encoder(model_dir("siglip2"), device="cpu", cache=tmp_path / "cache")
    detector = CSP(first, **mining(small_lexicon)).fit(CLASS_NAMES)
    other = load_encoder(model_dir("siglip"), device="cpu", cache=tmp_path / "cache")
    assert other.text_space != first.text_space
    again = pickle.loads(pickle.dumps(first))  # noqa: S301 - it is our own
    calls: list[int] = []
    own = again.encode_texts
    again.encode_texts = lambda texts, *rest, **more: calls.append(1) or own(texts, *rest, **more)
    same = CSP(again, **mining(small_lexicon)).fit(CLASS_NAMES)
    assert calls == []
    np.testing.assert_array_equal(same.class_features_, detector.class_features_)
    shutil.copytree(model_dir("siglip2"), tmp_path / "copy")
    assert load_encoder(tmp_path / "copy", device="cpu").fingerprint == first.fingerprint
    assert first.fingerprint != other.fingerprint


def test_methods_are_compared(
    encoder_of: Encoders, small_lexicon: Lexicon, folders: Path, tmp_path: Path
) -> None:
    encoder = encoder_of("siglip")
    detectors = {
        "sigmoid": Sigmoid(encoder).fit(CLASS_NAMES),
        "csp": CSP(encoder, **mining(small_lexicon)).fit(CLASS_NAMES),
    }
    found = evaluate(
        detectors,
        find_image_set("food", folders / "food"),
        [find_image_set("vehicles", folders / "vehicles")],
        out=tmp_path / "results",
        n_bootstrap=5,
    )
    scores = found.ood_sets[0].scores
    assert set(scores) == {"sigmoid", "csp"}
    expected = detectors["sigmoid"].score_samples(sorted((folders / "vehicles").rglob("*.png")))
    np.testing.assert_allclose(np.sort(scores["sigmoid"][0]), np.sort(expected), rtol=1e-6)


def test_the_usual_comparison_leaves_out_what_needs_patches(
    model_dir: Callable[[str], Path],
    lexicon_file: Path,
    folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\ndog\n")
    arguments = [
        *("evaluate", "--id", folders / "food", "--ood", f"vehicles={folders / 'vehicles'}"),
        *("--classes", classes, "--encoder", model_dir("siglip"), "--device", "cpu"),
        *("--lexicon", lexicon_file),
        *("--judge", "none", "--bootstrap", "0", "--no-report", "--out", tmp_path / "results"),
        "--no-cache",
    ]
    with warnings.catch_warnings():
        # Of the temperature, and of so few labels.
        warnings.simplefilter("ignore")
        assert not app([str(each) for each in arguments], standalone_mode=False)
    shown = capsys.readouterr()
    assert "glmcm is left out: the encoder" in shown.err
    assert "NegRefine" in shown.out
    assert "GL-MCM" not in shown.out


@pytest.mark.parametrize("kind", MULTILINGUAL)
def test_class_names_in_other_languages_have_features_of_their_own(
    kind: str, encoder_of: Encoders, pictures: list[Path]
) -> None:
    detector = MCM(encoder_of(kind), temperature=0.02).fit(OTHER_LANGUAGES)
    unit = detector.class_features_
    cosines = unit @ unit.T - np.eye(len(unit))
    known = 2 if kind in ("chinese_clip", "dual") else 0
    # BERT's tokenizer knows the characters of the corpus, but not Arabic letters joined.
    assert (cosines.max(axis=1) < 1 - 1e-5).sum() >= len(unit) - known
    scores = detector.score_samples(pictures)
    assert len(set(scores.round(9))) == len(pictures)


def test_other_languages_from_the_command_line_to_a_table(
    model_dir: Callable[[str], Path],
    tmp_path: Path,
    pictures: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(OTHER_LANGUAGES) + "\n", encoding="utf-8")
    words = tmp_path / "words.tsv"
    rows = "锤子 桥 蜡烛 地毯 发动机 ハンマー 橋 ろうそく مطرقة جسر شمعة".split()  # noqa: SIM905 - one line in two directions
    words.write_text(
        "word\tlexname\tpos\n" + "".join(f"{word}\tnoun.artifact\tnoun\n" for word in rows),
        encoding="utf-8",
    )

    def run(*arguments: object) -> str:
        assert not app([str(each) for each in arguments], standalone_mode=False)
        return capsys.readouterr().out

    encoder = ["--encoder", model_dir("siglip2"), "--device", "cpu"]
    run(
        *("fit", "--classes", classes, "--method", "neglabel", "--lexicon", words, *encoder),
        *("--top-fraction", "1", "--n-groups", "1", "--no-cache", "--out", tmp_path / "detector"),
    )
    table = run("score", tmp_path / "detector", *pictures[:3], "--device", "cpu")
    assert sum(name in table for name in OTHER_LANGUAGES) >= 1
    assert sum(word in table for word in rows) >= 1
    shown = run("explain", tmp_path / "detector", pictures[0], "--device", "cpu")
    assert any(name in shown for name in OTHER_LANGUAGES)
    listed = run("encoders", "siglip2-base-patch16-224")
    assert "Apache-2.0" in listed
