"""Errors are sentences on one line, wherever they are shown."""

from __future__ import annotations

import pickle

import pytest

from negrefine import MCM, errors, load_detector
from negrefine.encoders import CLIPEncoder, find_images, read_image
from negrefine.errors import NegrefineError
from negrefine.labels.class_names import read_class_names

HOSTILE = "no\x1b]0;owned\x07\x9b\u202e\nsuch\udcfffile"
SHOWN = r"no\x1b]0;owned\x07\x9b\u202e\x0asuch\udcfffile"


@pytest.mark.parametrize(
    "call",
    [find_images, read_image, read_class_names, load_detector, lambda text: find_images([text])],
)
def test_what_is_named_is_shown(call: object) -> None:
    with pytest.raises(NegrefineError) as caught:
        call(HOSTILE)  # type: ignore[operator]
    # Quoted names have a shorter escape for the line break.
    assert SHOWN in str(caught.value).replace(r"\n", r"\x0a")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [errors.InputError, errors.ImageError, errors.NotFittedError])
def test_every_kind(kind: type[NegrefineError]) -> None:
    error = kind(f"{HOSTILE}: is missing.")
    assert str(error) == f"{SHOWN}: is missing."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own
    assert str(kind(str(error))) == str(error)


def test_an_unreadable_image_is_named_once(builtin_encoder: CLIPEncoder) -> None:
    with pytest.raises(errors.ImageError) as caught:
        MCM(builtin_encoder).fit(["cat", "dog"]).score_samples([HOSTILE])
    assert str(caught.value).count(SHOWN) == 1
