"""The vision judge in this process: two architectures with random weights."""

from __future__ import annotations

import functools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from judges.tiny_vision import KINDS, save_vision_model
from judges.vision_images import NAMES, pictures
from negrefine import HFVision, VisionJudge
from negrefine.errors import InputError
from negrefine.judges.base import Answer
from negrefine.judges.store import AnswerStore
from negrefine.judges.vision import (
    ImagesFailedError,
    VisionPrompts,
    answer_of,
    image_key,
    margin_of,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One directory for each architecture."""
    root = tmp_path_factory.mktemp("vision")
    return {kind: save_vision_model(root / kind, kind) for kind in KINDS}


@torch.inference_mode()
def plain_margins(directory: Path, images: list[Image.Image], names: list[str]) -> np.ndarray:
    """Ask one question at a time, through the whole model."""
    model = AutoModelForImageTextToText.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    first = [
        {int(tokenizer(s + f, add_special_tokens=False)["input_ids"][0]) for s in ("", " ")}
        for f in ("Yes", "yes", "YES", "No", "no", "NO")
    ]
    yes, no = sorted(set.union(*first[:3])), sorted(set.union(*first[3:]))
    found = []
    for image in images:
        for name in names:
            text = (
                f"<|im_start|>user\n<image>Is there a {name} in this image? Answer with one word, "
                "yes or no.<|im_end|>\n<|im_start|>assistant\n"
            )
            logits = model(**_inputs(directory, image, text)).logits[0, -1].double()
            found.append(float(logits[yes].logsumexp(0) - logits[no].logsumexp(0)))
    return np.array(found).reshape(len(images), len(names))


@functools.cache
def _loaded(kind: Any, directory: Path) -> Any:
    return kind.from_pretrained(directory, backend="pil")


def _inputs(directory: Path, image: Image.Image, text: str) -> dict[str, Any]:
    if directory.name != "qwen2_vl":
        processor = _loaded(AutoProcessor, directory)
        return dict(processor(text=[text], images=[[image]], return_tensors="pt"))
    # Its own processor needs torchvision.
    pixels = _loaded(AutoImageProcessor, directory)(image, return_tensors="pt")
    _, height, width = pixels["image_grid_thw"][0].tolist()
    mark = f"<row_1_col_1>{'<image>' * (height * width // 4)}<row_1_col_2>"
    tokenizer = _loaded(AutoTokenizer, directory)
    tokens = tokenizer(text.replace("<image>", mark), return_tensors="pt")
    kinds = (tokens["input_ids"] == tokenizer.convert_tokens_to_ids("<image>")).long()
    return {**tokens, **pixels, "mm_token_type_ids": kinds}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_one_pass_each_for_every_batch_size(
    models: dict[str, Path], kind: str
) -> None:
    images = pictures(4)
    expected = plain_margins(models[kind], images, NAMES)
    assert expected.std() > 0.1
    for batch_size in (1, 2, 4):
        judge = HFVision(
            models[kind], device="cpu", store=None, least_mass=0, batch_size=batch_size
        )
        found = judge.yes_margins(images, [NAMES] * 4)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        assert judge.usage.asked == 16
    # The first image was read both ways, to compare; from then on the tokens of each are read once.
    n_before = judge.usage.prompt_tokens
    judge.yes_margins(images, [NAMES] * 4)
    whole = HFVision(models[kind], device="cpu", store=None, least_mass=0, share_images=False)
    np.testing.assert_allclose(whole.yes_margins(images, [NAMES] * 4), expected, atol=2e-5)
    assert judge.usage.prompt_tokens - n_before < 0.9 * whole.usage.prompt_tokens
    assert isinstance(judge, VisionJudge)


def test_images_have_names_of_their_own_and_answers_do_not_depend_on_order(
    models: dict[str, Path],
) -> None:
    images = pictures(4)
    names = [["dog", "cat"], ["cat", "dog"], ["x", "dog"], ["dog", "dog"]]
    judge = HFVision(models["idefics3"], device="cpu", store=None, least_mass=0, batch_size=3)
    found = judge.yes_margins(images, names)
    assert found.shape == (4, 2)
    assert found[3, 0] == found[3, 1]
    back = judge.yes_margins(images[::-1], [row[::-1] for row in names[::-1]])
    np.testing.assert_allclose(back[::-1, ::-1], found, atol=2e-5)
    assert judge.yes_margins([], []).shape == (0, 0)


def test_a_second_run_asks_nothing_and_gives_the_same_bytes(
    models: dict[str, Path], tmp_path: Path
) -> None:
    images = pictures(3)
    store = tmp_path / "answers.sqlite"
    judge = HFVision(models["llava"], device="cpu", store=store, least_mass=0)
    first = judge.yes_margins(images, [NAMES] * 3)
    again = HFVision(models["llava"], device="cpu", store=store, least_mass=0, batch_size=2)
    # Copies of the pictures are the same pictures.
    assert again.yes_margins([each.copy() for each in images], [NAMES] * 3).tobytes() == (
        first.tobytes()
    )
    assert not again.loaded
    assert (again.usage.asked, again.usage.cached) == (0, 12)
    # Another pixel, wording or model is another question.
    changed = images[0].copy()
    changed.putpixel((0, 0), (1, 2, 3))
    again.yes_margins([changed], [NAMES])
    assert again.usage.asked == 4
    worded = HFVision(
        models["llava"], device="cpu", store=store, least_mass=0, prompts=VisionPrompts("A {name}?")
    )
    worded.yes_margins(images[:1], [NAMES])
    assert worded.usage.asked == 4
    assert len({judge.identity, worded.identity}) == 2
    opened = AnswerStore(store)
    assert len(list(opened)) == 20
    assert all(len(each.query.word) == 64 for each in opened)
    opened.close()


def test_a_model_that_is_about_to_write_something_else_leaves_it_undecided(
    models: dict[str, Path],
) -> None:
    judge = HFVision(models["llava"], device="cpu", store=None, least_mass=1.0)
    assert np.isnan(judge.yes_margins(pictures(2), [NAMES] * 2)).all()


def test_stored_answers_give_their_margin_back() -> None:
    for margin in (-20.0, -0.5, 0.0, 1e-3, 7.25, 30.0):
        assert margin_of(answer_of(margin)) == pytest.approx(margin, rel=1e-2, abs=1e-12)
    assert margin_of(Answer(True)) == math.inf
    assert margin_of(Answer(False)) == -math.inf
    assert math.isnan(margin_of(Answer(None)))
    assert margin_of(Answer(True, "", 0.25)) == pytest.approx(-math.log(3))


def test_the_key_of_an_image_is_its_pixels() -> None:
    image = Image.new("RGB", (4, 6), "red")
    assert image_key(image) == image_key(image.copy())
    assert image_key(image) != image_key(Image.new("RGB", (6, 4), "red"))
    assert image_key(image) != image_key(Image.new("RGB", (4, 6), "blue"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"least_mass": 2}, "least_mass must be between"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        HFVision("somewhere", **settings)


@pytest.mark.parametrize("question", ["Is there one?", "{name} and {other}", "{", None])
def test_wordings_that_cannot_be_used(question: Any) -> None:
    with pytest.raises(InputError, match="must be a text with"):
        VisionPrompts(question)


def test_models_that_see_no_images_are_refused_in_one_sentence(
    models: dict[str, Path], tiny_llm: Path, tmp_path: Path
) -> None:
    images = pictures(1)
    for directory, problem in (
        (tiny_llm, "is not a vision-language model|cannot be loaded"),
        (tmp_path / "nothing", "is not a directory"),
    ):
        judge = HFVision(directory, device="cpu", store=None)
        with pytest.raises(InputError, match=problem):
            judge.yes_margins(images, [["dog"]])
    blind = tmp_path / "blind"
    shutil.copytree(models["llava"], blind)
    (blind / "chat_template.jinja").write_text("{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises(InputError, match="leaves out the image"):
        HFVision(blind, device="cpu", store=None).yes_margins(images, [["dog"]])


def test_an_image_that_cannot_be_prepared_fails_alone(
    models: dict[str, Path], tmp_path: Path
) -> None:
    images = pictures(3)
    # Qwen-VL takes no image that is 200 times as long as wide.
    images[1] = Image.new("RGB", (600, 2))
    store = tmp_path / "answers.sqlite"
    judge = HFVision(models["qwen2_vl"], device="cpu", store=store, least_mass=0)
    with pytest.raises(ImagesFailedError, match=r"1 of 3 images .* 600 x 2 pixels") as caught:
        judge.yes_margins(images, [["dog", "x"]] * 3)
    assert list(caught.value.reasons) == [1]
    again = HFVision(models["qwen2_vl"], device="cpu", store=store, least_mass=0)
    assert np.isfinite(again.yes_margins([images[0], images[2]], [["dog", "x"]] * 2)).all()
    assert (again.usage.asked, again.usage.cached) == (0, 4)


def test_names_that_do_not_fit_are_refused(models: dict[str, Path]) -> None:
    judge = HFVision(models["llava"], device="cpu", store=None)
    with pytest.raises(InputError, match="give each image the same number of names"):
        judge.yes_margins(pictures(2), [["dog"]])
    with pytest.raises(InputError, match="give each image the same number of names"):
        judge.yes_margins(pictures(2), [["dog"], ["dog", "cat"]])
    with pytest.raises(InputError, match="texts that are not empty"):
        judge.yes_margins(pictures(1), [[""]])
