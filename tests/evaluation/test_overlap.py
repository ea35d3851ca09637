"""Images that are in both kinds of sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from negrefine.errors import InputError
from negrefine.evaluation.overlap import check_apart


def test_shared_images(demo_pictures: list[Path], tmp_path: Path) -> None:
    ids, others = demo_pictures[:8], demo_pictures[8:14]
    check_apart(ids, {"other": others})
    copy = tmp_path / "copy.png"
    copy.write_bytes(ids[3].read_bytes())
    with pytest.warns(UserWarning, match=r"1 of 7 images of the OOD set 'other' .*copy\.png"):
        check_apart(ids, {"apart": others, "other": [*others, copy]})
    with pytest.raises(InputError, match="8 of 8 images of the OOD set 'same'"):
        check_apart(ids, {"same": ids})


def test_images_of_a_validation_set_are_called_so(demo_pictures: list[Path]) -> None:
    with pytest.raises(InputError, match="4 of 4 images of the OOD set 'test' are validation im"):
        check_apart(demo_pictures[:8], {"test": demo_pictures[:4]}, "validation")
