"""Methods and their parameters are declared once, and everything else follows from that."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from negrefine import MCM, Detector, Lexicon, NegRefine, load_detector
from negrefine.constraints import POSITIVE, Boolean, Number, OneOf, Strings, Whole
from negrefine.detectors import DETECTORS, Energy, MaxLogit, detector, parameter, register
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import declared_parameters
from negrefine.detectors.scores import energy_score, max_logit_score
from negrefine.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.encoders import CLIPEncoder

NAMES = ["dog", "cat", "owl"]


class NoEncoding:
    """An encoder that fails if it is asked for anything."""

    name = "none"
    options: ClassVar[dict[str, Any]] = {}
    fingerprint = "0"
    logit_scale = 100.0

    def encode_images(self, images: Sequence[Any], batch_size: int = 1) -> Any:  # noqa: ARG002
        raise AssertionError("images were encoded")

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1) -> Any:  # noqa: ARG002
        raise AssertionError("texts were encoded")


class NeedsMore(NoEncoding):
    """The same, with what GL-MCM and CLIPN ask for."""

    encode_images_and_patches = NoEncoding.encode_images
    encode_texts_no = NoEncoding.encode_texts


@pytest.mark.parametrize("method", DETECTORS)
def test_every_declared_parameter_has_a_help_and_a_default_it_accepts(method: str) -> None:
    cls = DETECTORS[method]
    made = cls(NeedsMore())
    declared = declared_parameters(cls)
    assert set(declared) == set(made.get_params()) - {"encoder"}
    for name, each in declared.items():
        assert each.help.endswith("."), name
        assert each.name == name
        assert getattr(made, name) == each.default
        assert f"{name}: {each.help}" in (cls.__doc__ or "")
    made.check_parameters()
    assert cls.title
    assert "20" in cls.paper


@pytest.mark.parametrize("method", DETECTORS)
def test_parameters_are_checked_before_anything_is_encoded(method: str) -> None:
    cls = DETECTORS[method]
    bad: dict[type, Any] = {int: -1, float: "much", bool: "yes", str: 5}
    tried = 0
    for name, each in declared_parameters(cls).items():
        if not each.on_command_line:
            continue
        tried += 1
        with pytest.raises(InputError, match=name):
            cls(NeedsMore(), **{name: bad[each.option_type]}).fit(NAMES)
    assert tried >= (0 if method in {"maxlogit", "sigmoid"} else 1)


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Whole(1), [1, np.int64(3)], [0, 1.0, True, "1", None, math.nan]),
        (Whole(0, optional=True), [0, None], [-1]),
        (Number("be so", low=0, high=1, closed="high"), [1, 0.5], [0, 1.1, math.nan, "1", None]),
        (Number("be so", low=0, high=1, closed="both"), [0, 1, np.float32(0.5)], [-0.1, True]),
        (Number("be so", optional=True), [None, -5], [math.inf, -math.inf]),
        (OneOf(("a", "b")), ["a"], ["c", None, ["a"]]),
        (Boolean(), [True, np.False_], [1, "True", None]),
        (Strings(), [(), ["a"], {"b"}], ["a", [1], None, 5]),
    ],
)
def test_constraints(constraint: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        constraint("x", value)
    for value in bad:
        with pytest.raises(InputError, match=r"^x must .*\.$"):
            constraint("x", value)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_energy_and_max_logit_are_their_formulas(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], temperature: float, tmp_path: Path
) -> None:
    energy = Energy(builtin_encoder, temperature=temperature).fit(NAMES)
    largest = MaxLogit(builtin_encoder).fit(NAMES)
    features = builtin_encoder.encode_images(demo_pictures).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features @ energy.class_features_.astype(np.float64).T
    plain = temperature * np.log(np.exp(cosines / temperature).sum(axis=1))
    np.testing.assert_allclose(energy.score_samples(demo_pictures), plain, atol=1e-6)
    np.testing.assert_allclose(largest.score_samples(demo_pictures), cosines.max(1), atol=1e-6)
    same = MCM(builtin_encoder, rule="energy", temperature=temperature).fit(NAMES)
    assert (same.score_features(features) == energy.score_features(features)).all()
    assert float(energy_score(cosines)[0]) > float(max_logit_score(cosines)[0])
    energy.calibrate(demo_pictures, fpr=0.1).save(tmp_path / "d")
    loaded = load_detector(tmp_path / "d", builtin_encoder)
    assert isinstance(loaded, Energy)
    assert loaded.temperature == temperature
    assert loaded.offset_ == energy.offset_
    explained = loaded.explain_features(features[:1])[0]
    assert explained.parts == {"energy": explained.score}
    assert explained.classes[0].text in NAMES


@detector
class Shifted(Detector):
    """A user's own detector: the largest cosine over a temperature."""

    method: ClassVar[str] = "shifted"
    title: ClassVar[str] = "Shifted"
    parts: ClassVar[tuple[str, ...]] = ("shifted",)

    temperature: float = parameter(1.0, POSITIVE, "Divides the cosines.")

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        assert name == "shifted"
        return images.classes.amax(dim=1) / self.temperature


class Plain(Detector):
    """The same in the plain form: a constructor that only assigns, without constraints."""

    method: ClassVar[str] = "plain"
    parts: ClassVar[tuple[str, ...]] = ("plain",)

    def __init__(self, encoder: Any, temperature: float = 1.0) -> None:
        self.encoder, self.temperature = encoder, temperature
        self.prompts = None

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        assert name == "plain"
        return (images.classes - images.classes) / self.temperature


class Checked(Plain):
    """The plain form with a table of constraints."""

    method: ClassVar[str] = "checked"
    parameter_constraints: ClassVar[dict[str, Any]] = {"temperature": POSITIVE}


def test_a_detector_of_ones_own(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], tmp_path: Path
) -> None:
    register(Shifted)
    try:
        fitted = Shifted(builtin_encoder, temperature=0.5).fit(NAMES)
        fitted.calibrate(demo_pictures, fpr=0.2).save(tmp_path / "d")
        loaded = load_detector(tmp_path / "d", builtin_encoder)
        assert isinstance(loaded, Shifted)
        scores = fitted.score_samples(demo_pictures)
        assert (loaded.score_samples(demo_pictures) == scores).all()
        halved = fitted.with_params(temperature=1.0)
        np.testing.assert_allclose(2 * halved.score_samples(demo_pictures), scores)
        assert halved.offset_ is None
        assert fitted.temperature == 0.5
        with pytest.raises(InputError, match=r"is Shifted already: rename it"):
            register(type("Other", (Shifted,), {}))
    finally:
        del DETECTORS["shifted"]
    for bad in (0, math.nan, -1, "1"):
        with pytest.raises(InputError, match="temperature must be positive"):
            Shifted(NoEncoding(), temperature=bad).fit(NAMES)
        with pytest.raises(InputError, match="temperature must be positive"):
            fitted.with_params(temperature=bad)
        with pytest.raises(InputError, match="temperature must be positive"):
            Checked(NoEncoding(), temperature=bad).fit(NAMES)


def test_nan_is_never_a_score(builtin_encoder: CLIPEncoder) -> None:
    features = np.ones((3, builtin_encoder.dim))
    assert (Plain(builtin_encoder).fit(NAMES).score_features(features) == 0).all()
    broken = Plain(builtin_encoder, temperature=0).fit(NAMES)
    with pytest.raises(InputError, match=r"component 'plain' of Plain is NaN"):
        broken.score_features(features)


def test_one_component_alone(detectors: dict[str, Detector]) -> None:
    fitted = detectors["negrefine"]
    features = np.random.default_rng(0).normal(size=(5, fitted.class_features_.shape[1]))
    whole = fitted.score_feature_parts(features)
    for name in ("neglabel", "multi_match"):
        alone = fitted.score_feature_parts(features, only=[name])
        assert list(alone) == [name]
        assert (alone[name] == whole[name]).all()
    with pytest.raises(InputError, match="has no component 'local': it has neglabel, multi_match"):
        fitted.score_feature_parts(features, only=["local"])


@pytest.mark.parametrize("encoder", ["builtin", None, object()])
def test_what_is_no_encoder_is_refused(encoder: Any) -> None:
    with pytest.raises(InputError, match=r"encoder must be (what load_encoder returns|a loaded)"):
        MCM(encoder).fit(NAMES)


def test_declarations_need_no_torch() -> None:
    code = (
        "import sys, negrefine.detectors.registry as r; "
        "from negrefine.detectors.parameters import declared_parameters; "
        "assert 'alpha' in declared_parameters(r.DETECTORS['negrefine']); "
        "print(*{'torch', 'transformers', 'sklearn', 'scipy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ----------------------------------------------------------------------------- documentation

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_tables_are_those_of_the_declarations() -> None:
    tables = runpy.run_path(str(ROOT / "tools" / "method_tables.py"))
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert tables["rewritten"](text) == text
    assert text.count("`--n-groups`") == 1


def snippets() -> list[str]:
    """The Python examples of the guide for contributors."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [block.split("```")[0] for block in text.split("```python\n")[1:]]


def test_the_guides_detector_is_energy(builtin_encoder: CLIPEncoder) -> None:
    code = next(text for text in snippets() if "class Energy" in text)
    body = code[code.index("@detector") :].strip().splitlines()
    assert len([line for line in body if line.strip()]) <= 10
    names: dict[str, Any] = {"__name__": __name__}
    exec(code, names)  # noqa: S102 - our own page
    features = np.random.default_rng(0).normal(size=(4, builtin_encoder.dim))
    guide = names["Energy"](builtin_encoder, temperature=0.5).fit(NAMES)
    ours = Energy(builtin_encoder, temperature=0.5).fit(NAMES)
    assert (guide.score_features(features) == ours.score_features(features)).all()
    assert guide.identity() == ours.identity()


def test_the_guides_judge_filters(builtin_encoder: CLIPEncoder, small_lexicon: Lexicon) -> None:
    code = next(text for text in snippets() if "is_proper_noun" in text)
    body = [line for line in code.splitlines() if line.startswith(" ") and line.strip()]
    assert len(body) <= 5
    names: dict[str, Any] = {"NegRefine": NegRefine, "encoder": builtin_encoder}
    exec(code, names)  # noqa: S102 - our own page
    fitted = names["detector"].set_params(lexicon=small_lexicon, lexicon_files="full", n_groups=2)
    fitted.set_params(top_fraction=1.0).fit(NAMES)
    removed = {label.text for label in fitted.negative_labels_ if not label.kept}
    assert "Einstein" in removed
    assert "oak" not in removed
