"""Reading definitions."""

from __future__ import annotations

import pytest

from negrefine.judges.definitions import MEMBERS, TAXON, common_name_of, genus_phrase


@pytest.mark.parametrize(
    ("definition", "phrase"),
    [
        ("an edible agaric that is pale lilac when young", "edible agaric"),
        ("genus of gilled agarics of Europe and North America", "gilled agarics"),
        ("any of various composite plants having flower heads", "composite plants"),
        ("(music) a small bell", "bell"),
        ("any of the large family of fungi; widespread", "fungi"),
        ("exhaust hood over a kitchen range", "exhaust hood"),
        ("", ""),
    ],
)
def test_genus_phrase(definition, phrase):
    assert genus_phrase(definition) == phrase


def test_other_readings_of_definitions():
    assert common_name_of("common name for an edible agaric (contrasting with toadstools)") == (
        "edible agaric"
    )
    assert common_name_of("an edible agaric") == ""
    assert TAXON.findall("a fungus of the order Agaricales and of the genus Amanita") == [
        "Agaricales",
        "Amanita",
    ]
    assert MEMBERS.match("any of numerous composite plants")
    assert not MEMBERS.match("an edible agaric")
