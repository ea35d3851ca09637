"""What a card says of a detector, and that names in it are nothing but text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from negrefine import MCM, VSNL, Detector, Lexicon, NegRefine
from negrefine.detectors.card import detector_card, is_unedited
from negrefine.detectors.described import Described
from negrefine.detectors.tuning import Tuning
from negrefine.encoders import CLIPEncoder


def front_matter(card: str) -> dict[str, object]:
    content = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(content, dict)
    return content


def test_the_card_of_negrefine(detectors: dict[str, Detector], tmp_path: Path) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    detector.save(tmp_path)
    card = detector_card(tmp_path, address="hf://ann/x")
    assert front_matter(card) == {
        "library_name": "negrefine",
        "tags": ["out-of-distribution-detection", "zero-shot", "negrefine"],
    }
    assert "# NegRefine detector of 7 classes\n" in card
    assert "negrefine score hf://ann/x images/" in card
    assert "| dog | cat | horse | owl |\n| fish | frog | whale |  |\n" in card
    assert detector.encoder.fingerprint in card
    kept = sum(label.kept for label in detector.negatives_.labels)
    removed = len(detector.negatives_.labels) - kept
    assert f"{kept} negative labels, mined from the lexicon small.tsv," in card
    assert f"and {removed} were removed (" in card
    assert "The judge that filtered them is letters" in card
    assert "It has none, so it gives scores and no verdicts." in card
    assert "the encoder `builtin` is a toy" in card
    assert "has not stated a licence" in card
    assert "words of a lexicon of its maker's own" in card
    assert "WordNet" not in card
    assert str(tmp_path.parent.parent) not in card
    assert is_unedited(card)
    assert not is_unedited(card.replace("toy", "marvel"))
    assert detector_card(tmp_path, address="hf://ann/x") == card


class Someone:
    """Proposes two labels, one of them a mined one."""

    name = "hf:/home/ann/model"

    def propose_similar(self, class_names: list[str], n: int) -> dict[str, list[str]]:  # noqa: ARG002
        return {class_names[0]: ["hammer", "wolf", f"{class_names[0]} sled"]}

    def propose_far(self, class_names: list[str], n: int) -> list[str]:  # noqa: ARG002
        return ["guitar"]


def test_proposed_labels_are_not_called_mined(
    builtin_encoder: CLIPEncoder, small_lexicon: Lexicon, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 4}
    given |= {"propose": Someone(), "judge": "none", "top_fraction": 1.0}
    detector = NegRefine(builtin_encoder, **given)
    with pytest.warns(UserWarning, match="proposed nothing for 1 of 2 class names"):
        detector.fit(["dog", "cat"])
    detector.save(tmp_path / "both")
    card = detector_card(tmp_path / "both")
    n_mined = len(detector.negatives_.labels) - 1
    assert (
        f"{n_mined + 1} negative labels, {n_mined} mined from the lexicon small.tsv and 1 " in card
    )
    assert "proposed by model, are kept, and 0 were removed. No judge filtered them." in card
    assert r"audit-\*.jsonl says what became of the 3 proposals." in card
    assert "words of a lexicon of its maker's own and names that model proposed." in card
    assert "/home/ann" not in card
    assert "hf:/home/ann/model" in Described.read(tmp_path / "both").paths
    with pytest.warns(UserWarning, match="proposed nothing for 1 of 2 class names"):
        VSNL(builtin_encoder, propose=Someone(), judge="none").fit(["dog", "cat"]).save(
            tmp_path / "proposed"
        )
    card = detector_card(tmp_path / "proposed")
    assert "2 negative labels, proposed by model, are kept" in card
    assert "The negative labels are names that model proposed." in card
    assert "WordNet" not in card
    assert "lexicon" not in card


def test_alphas_of_classes_are_said_to_be_chosen(
    detectors: dict[str, Detector],
    demo_pictures: list[Path],
    tmp_path: Path,
) -> None:
    given = detectors["negrefine"]
    assert isinstance(given, NegRefine)
    detector = given.with_params(alpha_rule="class-scaled")
    # Each image has two marks, which are not two images.
    detector.choose_alphas(demo_pictures[:4]).save(tmp_path)
    assert "The alpha of each class was chosen on in-distribution images.\n" in detector_card(
        tmp_path
    )


def test_what_a_threshold_promises(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    detector = MCM(builtin_encoder).fit(["cat", "dog", "owl"])
    scores = np.linspace(0.34, 0.9, 60)

    def threshold() -> str:
        detector.save(tmp_path)
        return detector_card(tmp_path).split("## Threshold\n")[1].split("##")[0]

    detector.calibrate_scores(scores, fpr=0.05)
    assert f"{detector.offset_:.6g}, from 60 calibration images" in threshold()
    assert "At most a fraction 0.05 of in-distribution images is flagged, on average" in threshold()
    assert "exchangeable with the calibration images" in threshold()
    detector.calibrate_scores(scores, fpr=0.05, delta=0.05)
    assert "With probability 0.95 over the draw of the calibration images" in threshold()
    classes = np.repeat([0, 1, 2], [30, 25, 5])
    detector.calibrate_scores(scores, fpr=0.05, by="class", classes=classes)
    assert "2 classes have a threshold of their own, 0 share one, and for 1" in threshold()
    assert "nothing is promised" in threshold()
    detector.offset_ = 0.5
    assert "0.5, set by hand: nothing is promised about it." in threshold()


def test_names_are_text(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    hostile = [
        "a|b",
        "</table><script>alert(1)</script>",
        "[click](javascript:x)",
        "`code` *bold* $x$",
        "line\n# Heading\n---\nlicense: mit",
        "\u202egnp.exe",
        "&lt;b&gt;",
        "x" * 5000,
    ]
    with pytest.warns(UserWarning, match="."):
        MCM(builtin_encoder).fit(hostile).save(tmp_path)
    card = detector_card(tmp_path, licence="mit")
    assert front_matter(card)["license"] == "mit"
    assert "<script" not in card
    assert "\n# Heading" not in card
    assert "\u202e" not in card
    assert r"a\|b" in card
    assert r"\[click\]" in card
    assert "&amp;lt;b" in card
    assert max(map(len, card.splitlines())) < 2000


def test_many_classes_are_counted(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    MCM(builtin_encoder).fit([f"thing {i:03d}" for i in range(250)]).save(tmp_path)
    card = detector_card(tmp_path)
    assert "| thing 196 | thing 197 | thing 198 | thing 199 |\n\nAnd 50 more" in card
    assert "thing 200" not in card


def test_what_was_chosen_on_images_is_said(detectors: dict[str, Detector], tmp_path: Path) -> None:
    given = detectors["negrefine"]
    assert isinstance(given, NegRefine)
    detector = given.with_params(alpha=4.0)
    tuning = Tuning(
        validation="odd|things",
        n_validation=9,
        validation_images="ab" * 32,
        n_id=30,
        id_images="cd" * 32,
        candidates=6,
        chosen={"alpha": 4.0},
        instead_of={"alpha": 2.0},
        gain=0.01,
        low=0.0,
        high=0.02,
        p_value=0.4,
    )
    detector.set_tuning(tuning, np.array([1, 2], dtype=np.uint64))
    detector.save(tmp_path)
    card = detector_card(tmp_path)
    assert "with constants chosen on images" in card
    assert "alone, without training images" not in card
    assert r"alpha 4: tuned on the validation set 'odd\|things' (9 images" in card
    assert "among 6 candidates" in card
    assert "alpha = 4.0" in card
