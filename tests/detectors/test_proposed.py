"""Proposed labels in detectors: a group of their own, what becomes of each, saving."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import CLASS_NAMES, LetterJudge
from negrefine import (
    EOE,
    OODD,
    TANL,
    VSNL,
    AdaNeg,
    Detector,
    Lexicon,
    NegRefine,
    ReplayProposer,
    load_detector,
)
from negrefine.detectors.bundle import read_bundle, write_bundle
from negrefine.detectors.scores import (
    eoe_score,
    group_negatives,
    multi_match_score,
    near_mass,
    neglabel_score,
    vsnl_score,
    with_near_group,
)
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, InputError
from negrefine.labels.embedding import embed
from negrefine.proposers.replay import FORMAT

SIMILAR = {
    "dog": ["wolf", "Dog", "dogfish", "hammer"],
    "cat": ["ocelot", "wolf", "lynx 2"],
    "horse": ["mule", "horse fly"],
    "owl": ["kakapo", "mole"],
    "fish": ["Finland", "dolphin"],
    "frog": ["newt"],
    "whale": ["whaler", "submarine"],
}


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> ReplayProposer:
    path = tmp_path_factory.mktemp("proposals") / "p.json"
    content = {"format": FORMAT, "version": 1, "similar": SIMILAR, "far": ["guitar", "Owl"]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return ReplayProposer(path)


@pytest.fixture(scope="module")
def mining(small_lexicon: Lexicon) -> dict[str, Any]:
    return {
        "lexicon": small_lexicon,
        "lexicon_files": "full",
        "top_fraction": 0.8,
        "n_groups": 4,
        "n_candidates": 3,
    }


@pytest.fixture(scope="module")
def detector(
    builtin_encoder: CLIPEncoder, proposer: ReplayProposer, mining: dict[str, Any]
) -> NegRefine:
    made = NegRefine(builtin_encoder, judge=LetterJudge(), propose=proposer, **mining)
    return made.fit(CLASS_NAMES)


@pytest.fixture(scope="module")
def features(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> np.ndarray:
    return builtin_encoder.encode_images(demo_pictures)


def test_every_proposal_says_why_it_stayed_or_went(detector: NegRefine) -> None:
    found = {(line.class_name, line.text): line for line in detector.proposals_}
    assert len(found) == sum(map(len, SIMILAR.values()))
    assert {line.by for line in found.values()} == {"replay(p.json)"}
    said = {key: (line.kept, line.reason) for key, line in found.items()}
    passed = "passed the overlap rules and NegFilter"
    assert said["dog", "wolf"] == (True, passed)
    assert said["dog", "Dog"] == (False, "is a class name")
    assert said["cat", "wolf"] == (False, "was proposed for 'dog' already")
    assert said["horse", "horse fly"] == (False, "shares the word 'horse' with the class 'horse'")
    assert said["dog", "hammer"] == (True, f"{passed}; mined too")
    # Two letters in common are a subcategory to this judge; "m" is undecided.
    assert said["dog", "dogfish"] == (False, "subcategory of 'dog'")
    assert said["whale", "whaler"] == (False, "subcategory of 'whale'")
    assert said["owl", "mole"][0]
    # Lower-cased before it is judged.
    assert said["fish", "Finland"] == (False, "subcategory of 'fish'")
    kept = [label.text for label in detector.kept_negative_labels_ if label.proposal is not None]
    assert kept == [
        "hammer",
        "wolf",
        "ocelot",
        "lynx ",
        "mule",
        "kakapo",
        "mole",
        "dolphin",
        "newt",
        "submarine",
    ]
    # Each was asked about the class it was proposed for.
    asked = {(line.text, line.class_name) for line in detector.audit_}
    assert {("wolf", "dog"), ("mule", "horse"), ("submarine", "whale")} <= asked


def test_mined_labels_and_their_groups_are_those_without_proposals(
    detector: NegRefine, detectors: dict[str, Detector]
) -> None:
    plain = detectors["negrefine"]
    assert isinstance(plain, NegRefine)
    mined = [label.text for label in plain.kept_negative_labels_]
    assert [label.text for label in detector.kept_negative_labels_[: len(mined)]] == mined
    assert torch.equal(detector.groups_, plain.groups_)
    n = len(plain.audit_)
    assert detector.audit_[:n] == plain.audit_
    assert (detector.negative_features_[: len(mined)] == plain.negative_features_).all()


def test_the_score_is_the_formula(
    detector: NegRefine, detectors: dict[str, Detector], features: np.ndarray
) -> None:
    parts = detector.score_feature_parts(features)
    assert list(parts) == detector.part_names_ == ["neglabel", "multi_match", "near"]
    unit = torch.from_numpy(features).double()
    unit = unit / unit.norm(dim=-1, keepdim=True)
    c = detector.logit_scale_
    classes = c * unit @ torch.from_numpy(detector.class_features_).double().T
    negatives = c * unit @ torch.from_numpy(detector.negative_features_).double().T
    labels = detector.kept_negative_labels_
    near = [j for j, label in enumerate(labels) if label.proposal is not None]
    p = torch.cat([classes, negatives[:, near]], dim=1).softmax(dim=1)
    mass = p[:, len(CLASS_NAMES) :].sum(dim=1)
    np.testing.assert_allclose(parts["near"], mass, atol=1e-12)
    mined = detectors["negrefine"].score_feature_parts(features)["neglabel"]
    np.testing.assert_allclose(parts["neglabel"], (4 * mined + 1 - mass.numpy()) / 5, atol=1e-12)
    score = parts["neglabel"] + 2 * parts["multi_match"]
    np.testing.assert_array_equal(detector.score_features(features), score)
    # S_MM takes the most similar of all labels.
    best = negatives.topk(5).indices
    assert (best >= len(labels) - 9).any()
    names, texts = detector.class_names_, [label.text for label in labels]
    row = int((best >= len(labels) - 9).any(dim=1).nonzero()[0, 0])
    pairs = [
        [f"{names[i]} and {texts[j]}" for j in best[row].tolist()]
        for i in classes[row].topk(5).indices.tolist()
    ]
    flat = embed(detector.encoder, [t for each in pairs for t in each], detector.prompts_.noun)
    cosines = (unit[row] @ torch.from_numpy(flat).double().T).reshape(1, 5, 5)
    expected = multi_match_score(cosines, negatives[row, best[row]][None] / c, c)
    np.testing.assert_allclose(parts["multi_match"][row], expected[0], atol=1e-6)


def test_near_scores_as_pure_functions() -> None:
    s = torch.tensor([[0.3, 0.2], [0.1, 0.25]], dtype=torch.float64)
    n = torch.tensor([[0.28, 0.1, 0.05], [0.3, 0.2, 0.0]], dtype=torch.float64)
    p = (10 * torch.cat([s, n], dim=1)).softmax(dim=1)
    near = near_mass(s, n, 10)
    torch.testing.assert_close(near, p[:, 2:].sum(dim=1))
    torch.testing.assert_close(with_near_group(near, near, 3), (3 * near + 1 - near) / 4)
    torch.testing.assert_close(vsnl_score(s, n, 10), 1 - near)
    # Four labels in groups of two; with five, one is left out.
    five = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(7)).tolist()
    halves = [1 - near_mass(s, five[:, half], 10) for half in (order[:2], order[2:])]
    grouped = vsnl_score(s, five, 10, group_length=2, seed=7)
    torch.testing.assert_close(grouped, torch.stack(halves).mean(dim=0))
    torch.testing.assert_close(vsnl_score(s, five, 10, group_length=5), 1 - near_mass(s, five, 10))


def test_saved_and_restored_with_its_trail(
    detector: NegRefine, features: np.ndarray, tmp_path: Path
) -> None:
    detector.save(tmp_path / "d")
    loaded = load_detector(tmp_path / "d", encoder=detector.encoder)
    assert isinstance(loaded, NegRefine)
    assert (loaded.proposals_, loaded.audit_) == (detector.proposals_, detector.audit_)
    assert loaded.identity() == detector.identity()
    np.testing.assert_array_equal(
        loaded.score_features(features), detector.score_features(features)
    )
    (file,) = (tmp_path / "d").glob("audit-*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert rows[0] == {
        "kind": "proposed",
        "text": "wolf",
        "class_name": "dog",
        "by": "replay(p.json)",
        "kept": True,
        "reason": "passed the overlap rules and NegFilter",
    }
    assert len(rows) == len(detector.proposals_) + len(detector.audit_)
    loaded.set_params(lexicon=None, judge=None)
    with pytest.raises(InputError, match=r"propose 'replay\(p.json\)' is not part of the saved"):
        loaded.fit(CLASS_NAMES)
    again = loaded.with_filter(judge=LetterJudge(), n_candidates=3)
    assert (again.proposals_, again.audit_) == (detector.proposals_, detector.audit_)


def test_a_detector_without_proposals_is_saved_as_before(
    detectors: dict[str, Detector], tmp_path: Path
) -> None:
    detectors["negrefine"].save(tmp_path / "d")
    manifest = json.loads((tmp_path / "d" / "detector.json").read_text(encoding="utf-8"))
    assert not {"propose", "n_proposed"} & manifest["parameters"].keys()
    (file,) = (tmp_path / "d").glob("negative_labels-*.jsonl")
    assert "proposal" not in file.read_text(encoding="utf-8")


def test_another_filter_judges_the_same_proposals(
    detector: NegRefine, features: np.ndarray
) -> None:
    unfiltered = detector.with_filter(judge="none")
    texts = [label.text for label in unfiltered.kept_negative_labels_]
    assert {"dogfish", "finland", "whaler", "lynx 2"} <= set(texts)
    said = {line.text: line for line in unfiltered.proposals_}
    assert said["dogfish"].reason == "passed the overlap rules"
    assert not said["horse fly"].kept
    mined = detector.negative_labels_[0].text
    again = unfiltered.with_filter(judge=LetterJudge(), keep=["whaler"], drop=["mule", mined])
    said = {line.text: line for line in again.proposals_}
    assert (said["whaler"].kept, said["whaler"].reason) == (True, "on the keep list")
    assert (said["mule"].kept, said["mule"].reason) == (False, "on the drop list")
    assert again.negative_labels_[0].reason == "on the drop list"
    # As if NegFilter had removed nothing, the proposals included.
    explained = detector.explain_features(features[:3], unfiltered=True)
    for each, score in zip(
        explained, unfiltered.with_params(alpha=2.0).score_features(features[:3]), strict=True
    ):
        assert each.unfiltered is not None
        assert each.unfiltered.n_removed >= 3
        assert each.unfiltered.score == pytest.approx(score, abs=0.05)
        assert 0 <= each.parts["near"] <= 1


def test_parameters_of_the_score_leave_the_proposals(
    detector: NegRefine, features: np.ndarray
) -> None:
    alone = detector.with_params(alpha=0.0)
    assert alone.part_names_ == ["neglabel", "near"]
    parts = detector.score_feature_parts(features)
    np.testing.assert_array_equal(alone.score_features(features), parts["neglabel"])
    threshold = float(np.median(detector.score_features(features)))
    bounded = detector.score_features(features, threshold=threshold)
    exact = np.where(detector.score_features(features) >= threshold, 1, -1)
    np.testing.assert_array_equal(bounded.verdicts, exact)


def test_without_a_proposal_left_the_score_is_the_one_without(
    builtin_encoder: CLIPEncoder,
    mining: dict[str, Any],
    detectors: dict[str, Detector],
    features: np.ndarray,
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.json"
    for text, said in (("Dog", "leave none of 1 proposed"), ("dormouse", "NegFilter leaves none")):
        content = {"format": FORMAT, "version": 1, "similar": {"dog": [text]}}
        path.write_text(json.dumps(content), encoding="utf-8")
        made = NegRefine(
            builtin_encoder, judge=LetterJudge(), propose=ReplayProposer(path), **mining
        )
        with (
            pytest.warns(UserWarning, match="proposed nothing for 6 of 7"),
            pytest.warns(UserWarning, match=said),
        ):
            made.fit(CLASS_NAMES)
        assert made.part_names_ == ["neglabel", "multi_match"]
        np.testing.assert_array_equal(
            made.score_features(features), detectors["negrefine"].score_features(features)
        )


@pytest.mark.parametrize("value", [3, "wordnets", NegRefine, object()])
def test_what_is_no_proposer_is_refused(builtin_encoder: CLIPEncoder, value: Any) -> None:
    with pytest.raises(InputError, match="propose must be 'wordnet', None or an object with"):
        NegRefine(builtin_encoder, propose=value).fit(CLASS_NAMES)


def test_a_proposer_has_a_name(builtin_encoder: CLIPEncoder) -> None:
    class Nameless:
        def propose_similar(self, class_names: Any, n: int) -> Any:  # noqa: ARG002
            return {}

        propose_far = propose_similar

    with pytest.raises(InputError, match="propose must have a name, a text"):
        NegRefine(builtin_encoder, propose=Nameless()).fit(CLASS_NAMES)


def test_tables_in_which_proposed_labels_are_not_the_last_are_damaged(
    detector: NegRefine, tmp_path: Path
) -> None:
    detector.save(tmp_path / "d")
    manifest, arrays, tables = read_bundle(tmp_path / "d")
    # Mined labels would be grouped otherwise, and scores differ without a word.
    for each in (tables["negative_labels"], arrays["negative_features"]):
        each[0], each[-1] = each[-1], each[0]
    own = {"format", "format_version", "negrefine_version", "files"}
    facts = {name: value for name, value in manifest.items() if name not in own}
    write_bundle(tmp_path / "d", facts, arrays, tables)
    with pytest.raises(BundleError, match="that was only proposed stands before a mined one"):
        load_detector(tmp_path / "d", detector.encoder)


def test_streams_on_proposed_labels(
    detector: NegRefine, features: np.ndarray, tmp_path: Path
) -> None:
    for stream in (AdaNeg, TANL):
        with pytest.raises(InputError, match=f"{stream.__name__} has no rule for proposed labels"):
            stream(detector).update_and_score(features)
    # OODD asks the base for its own score.
    stream = OODD(detector, k=1)
    stream.update_and_score(features)
    frozen = stream.freeze()
    frozen.save(tmp_path / "frozen")
    loaded = load_detector(tmp_path / "frozen", encoder=detector.encoder)
    np.testing.assert_array_equal(loaded.score_features(features), frozen.score_features(features))


def test_eoe_on_proposals(
    builtin_encoder: CLIPEncoder, proposer: ReplayProposer, features: np.ndarray, tmp_path: Path
) -> None:
    near = EOE(builtin_encoder, propose=proposer, temperature=0.01).fit(CLASS_NAMES)
    # Three for each class, no filter.
    texts = [label.text for label in near.kept_negative_labels_]
    assert texts == [
        *("wolf", "dogfish", "ocelot", "lynx 2", "mule", "kakapo", "mole", "finland"),
        *("dolphin", "newt", "whaler", "submarine"),
    ]
    unit = torch.from_numpy(features).double()
    unit = unit / unit.norm(dim=-1, keepdim=True)
    cosines = [
        unit @ torch.from_numpy(embed(builtin_encoder, names, ("a photo of a {}",))).double().T
        for names in (CLASS_NAMES, texts)
    ]
    np.testing.assert_allclose(
        near.score_features(features), eoe_score(*cosines, temperature=0.01), atol=1e-6
    )
    far = EOE(builtin_encoder, propose=proposer, proposal_kind="far", temperature=0.01).fit(
        CLASS_NAMES
    )
    assert [label.text for label in far.kept_negative_labels_] == ["guitar"]
    assert [(line.text, line.kept) for line in far.proposals_] == [("guitar", True), ("Owl", False)]
    near.save(tmp_path / "eoe")
    loaded = load_detector(tmp_path / "eoe", encoder=builtin_encoder)
    assert isinstance(loaded, EOE)
    assert loaded.proposals_ == near.proposals_
    np.testing.assert_array_equal(loaded.score_features(features), near.score_features(features))
    with pytest.raises(InputError, match="proposal_kind has no effect without propose"):
        EOE(builtin_encoder, proposal_kind="far").fit(CLASS_NAMES)


def test_vsnl_is_the_near_score_of_the_proposals(
    builtin_encoder: CLIPEncoder, proposer: ReplayProposer, features: np.ndarray, tmp_path: Path
) -> None:
    made = VSNL(builtin_encoder, propose=proposer, judge=LetterJudge(), group_length=4)
    made.fit(CLASS_NAMES)
    texts = [label.text for label in made.kept_negative_labels_]
    assert len(texts) == 9
    unit = torch.from_numpy(features).double()
    unit = unit / unit.norm(dim=-1, keepdim=True)
    cosines = [
        unit @ torch.from_numpy(embed(builtin_encoder, names, ("The nice {}.",))).double().T
        for names in (CLASS_NAMES, texts)
    ]
    c = made.logit_scale_
    expected = vsnl_score(*cosines, c, group_length=4)
    np.testing.assert_allclose(made.score_features(features), expected, atol=1e-6)
    groups = group_negatives(9, 2)
    torch.testing.assert_close(expected, neglabel_score(*cosines, groups, c))
    made.save(tmp_path / "vsnl")
    loaded = load_detector(tmp_path / "vsnl", encoder=builtin_encoder)
    assert isinstance(loaded, VSNL)
    assert (loaded.proposals_, loaded.audit_) == (made.proposals_, made.audit_)
    np.testing.assert_array_equal(loaded.score_features(features), made.score_features(features))


def test_wordnet_proposes_by_default_where_labels_are_asked_for(
    builtin_encoder: CLIPEncoder, fit: Callable[..., dict[str, Detector]]
) -> None:
    made = VSNL(builtin_encoder).fit(CLASS_NAMES)
    assert {line.by for line in made.proposals_} == {"wordnet"}
    refined = fit("negrefine", propose="wordnet")["negrefine"]
    assert isinstance(refined, NegRefine)
    assert refined.get_params()["propose"] == "wordnet"
    texts = [label.text for label in refined.negative_labels_ if label.proposal is not None]
    assert {"mule", "zebra", "hinny"} <= set(texts)
