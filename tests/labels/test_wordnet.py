from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from negrefine.errors import InputError
from negrefine.labels import wordnet as module
from negrefine.labels.wordnet import WordNet

DATA = Path(module.__file__).with_name("data")


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return WordNet.load()


def names(wordnet: WordNet, word: str, sense: int = 0) -> list[str]:
    _, *above = wordnet.chains(wordnet.rows(word, pos="noun")[sense])
    return [wordnet.synset(row).lemmas[0] for row in above]


def test_data_file_facts():
    path = DATA / "wordnet-3.1.parquet"
    table = pq.read_table(path)
    assert path.stat().st_size < 4_000_000
    assert len(table) == 100_377
    counts = {c["values"]: c["counts"] for c in table["pos"].value_counts().to_pylist()}
    assert counts == {"noun": 82_192, "adj": 18_185}
    assert table["frequency"].null_count == 100_377 - 90_325
    for column in ("hypernyms", "instance_hypernyms", "member_of"):
        rows = table[column].combine_chunks().values.to_numpy()
        assert 0 <= rows.min() <= rows.max() < len(table)


def test_licence_stands_beside_the_data():
    text = (DATA / "WORDNET-LICENSE.txt").read_text(encoding="utf-8")
    assert text.startswith("WordNet Release 3.1\n")
    assert "WordNet 3.1 Copyright 2011 by Princeton University.  All rights reserved." in text
    assert text.endswith("LICENSEE agrees to preserve same.\n")


def test_graph_is_loaded_once(wordnet):
    assert WordNet.load() is wordnet
    assert len(wordnet) == 100_377
    assert len(list(wordnet.words())) == len(set(wordnet.words())) > 130_000


def test_mount_everest_is_an_instance_with_its_own_spelling(wordnet):
    (everest,) = wordnet.synsets("mount_EVEREST")
    assert everest.instance
    assert everest.lexname == "noun.object"
    assert everest.pos == "noun"
    assert everest.lemmas == ("Everest", "Mount Everest", "Mt. Everest")
    assert names(wordnet, "mount everest")[0] == "mountain peak"


def test_senses_are_ordered_nouns_first_commonest_first(wordnet):
    assert [s.lexname for s in wordnet.synsets("dog")[:2]] == ["noun.animal", "noun.person"]
    assert [s.pos for s in wordnet.synsets("tabby")] == ["noun", "noun", "adj"]
    assert [s.pos for s in wordnet.synsets("tabby", pos="adj")] == ["adj"]
    assert len(wordnet.synsets("a", pos="noun")) == len(set(wordnet.synsets("a", pos="noun")))
    assert wordnet.synsets("no such word") == ()


def test_chains_reach_the_root_nearest_first(wordnet):
    tabby = names(wordnet, "tabby")
    assert tabby[:2] == ["domestic cat", "cat"]
    assert tabby[-1] == "entity"
    assert {"feline", "carnivore", "mammal", "animal"} < set(tabby)
    assert names(wordnet, "daisy")[:2] == ["flower", "angiosperm"]


def test_chains_lead_back_to_the_word(wordnet):
    tabby = wordnet.synsets("tabby")[0].row
    below = wordnet.chains(tabby)
    cat = next(r for r in below if wordnet.synset(r).lemmas[0] == "cat")
    assert wordnet.synset(below[cat]).lemmas[0] == "domestic cat"
    assert below[below[cat]] == tabby == below[tabby]
    assert len(wordnet.chains(tabby, steps=1)) == 2


def test_direct_hypernyms_and_membership(wordnet):
    (tree,) = wordnet.synsets("ginkgo", pos="noun")
    assert [kind.lemmas[0] for kind in wordnet.hypernyms(tree)] == ["gymnospermous tree"]
    (genus,) = wordnet.synsets("genus ginkgo")
    (family,) = wordnet.member_of(genus.row)
    assert wordnet.synset(family).lemmas[0] == "Ginkgoaceae"
    assert wordnet.is_taxon(genus.row)
    assert not wordnet.is_taxon(tree.row)


def test_definition_is_the_gloss_without_examples(wordnet):
    dog = wordnet.synsets("dog")[0]
    assert dog.gloss.endswith('"the dog barked all night"')
    assert dog.definition.endswith("occurs in many breeds")


def test_missing_data_file_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_DATA", tmp_path / "wordnet-3.1.parquet")
    with pytest.raises(InputError, match="reinstall negrefine"):
        module.read_columns(["pos"])


def test_what_is_above_a_row_are_its_chains(wordnet):
    rows = np.random.default_rng(0).choice(len(wordnet), 2000, replace=False).tolist()
    for row in rows:
        assert wordnet.above(row) == wordnet.chains(row).keys()
        lemmas = [word for each in wordnet.chains(row) for word in wordnet.synset(each).lemmas]
        assert wordnet.is_taxon(row) == ("taxonomic group" in lemmas)
        assert wordnet.definition(row) == wordnet.synset(row).definition
    assert 10 < sum(map(wordnet.is_taxon, rows)) < 1000
