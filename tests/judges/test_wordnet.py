"""The answers of WordNet."""

from __future__ import annotations

import hashlib
import random

import pytest

from negrefine.benchmarks import class_list
from negrefine.judges.base import Answer
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.wordnet import WordNetJudge
from negrefine.labels.wordnet import WordNet


@pytest.fixture(scope="module")
def judge() -> WordNetJudge:
    return WordNetJudge()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("paris", "instance of national capital"),
        ("mount everest", "instance of mountain peak"),
        ("Lake Michigan", "instance of lake"),
        ("adams peak", "instance of mountain peak"),
        ("battle of the ardennes bulge", "instance of pitched battle"),
        ("genus ginkgo", "names a taxon of rank genus: sole surviving genus of the Ginkgoaceae"),
        ("order liliales", "names a taxon of rank order: an order of monocotyledonous plants"),
        ("sikhism", "always capitalised: the doctrines of a monotheistic religion"),
        ("kwanzaa", "always capitalised"),
    ],
)
def test_proper_nouns(judge, word, reason):
    (answer,) = judge.is_proper_noun([word])
    assert answer.yes is True
    assert answer.reason.startswith(reason)


@pytest.mark.parametrize(
    "word",
    [
        "daisy",
        "ginkgo",  # the tree's common name; the genus says so
        "ohio buckeye",
        "white currant",
        "dutch elm disease",
        "bessemer converter",
        "khmer",
        "dipper",  # a constellation, and also a ladle and a bird
        "reading",  # a town, and also an act
        "gooey landscape",
        "biosafety level ",
    ],
)
def test_common_nouns(judge, word):
    (answer,) = judge.is_proper_noun([word])
    assert answer.yes is False
    assert answer.reason


@pytest.mark.parametrize(
    ("word", "name", "reason"),
    [
        ("tabby", "cat", "kind of cat: domestic cat > cat"),
        ("minuteman", "missile", "kind of missile: intercontinental ballistic missile"),
        ("hauberk", "chain mail", "kind of chain mail: chain mail"),
        ("whooping crane", "crane bird", "kind of crane bird: crane"),
        ("bullfrog", "frog", "kind of frog: true frog > frog"),
        ("pair of shades", "sunglasses", None),
        ("steamer clam", "clam", "kind of clam"),
        ("gasmask", "gas mask or respirator", "another word for gas mask or respirator"),
        ("swiss mountain daisy", "daisy", "named as a kind of daisy"),
        ("african daisy", "daisy", "named as a kind of daisy"),
        ("coprinus", "mushroom", "gloss: 'genus of black-spotted agarics"),
        ("olearia", "daisy", "gloss: 'large genus of Australian evergreen shrubs"),
        ("billy buttons", "daisy", "belongs to Compositae, which defines daisy"),
    ],
)
def test_subcategories(judge, word, name, reason):
    (answer,) = judge.is_subcategory([(word, name)])
    if reason is None:
        assert not answer.yes
    else:
        assert answer.yes is True
        assert answer.reason.startswith(reason)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("cat", "tabby"),
        ("hoist", "crane bird"),
        ("mustang", "common sorrel horse"),
        ("lily of the valley", "valley"),
        ("chain fern", "chain"),
        ("range hood", "stove"),
        ("dahlia", "banana"),
        ("wildcat pattern", "tabby cat"),
        ("external carotid artery", "matchstick"),
    ],
)
def test_not_subcategories(judge, word, name):
    assert judge.is_subcategory([(word, name)])[0].yes is False


def test_unknown_words_are_undecided(judge):
    assert judge.is_proper_noun(["zorblax"]) == [Answer(None, "not in WordNet")]
    assert judge.is_subcategory([("zorblax", "cat")]) == [Answer(None, "not in WordNet")]
    (answer,) = judge.is_subcategory([("cat", "Treeing Walker Coonhound")])
    assert answer == Answer(None, "class name 'Treeing Walker Coonhound' is not in WordNet")


def test_answers_come_in_order_and_repeat(judge):
    words = ["paris", "daisy", "oslo"]
    assert [a.yes for a in judge.is_proper_noun(words)] == [True, False, True]
    assert judge.is_proper_noun(words) == WordNetJudge().is_proper_noun(words)
    assert judge.is_proper_noun([]) == []


def test_agreement_with_the_published_run_on_held_out_words(judge, shared):
    """Floors slightly below what was measured once on the half the rules were not designed on."""
    reference = shared / "reference" / "negrefine_imagenet_seed0"
    replay = ReplayJudge(*sorted(reference.glob("llm_process_*.txt.gz"), reverse=True))
    words = [w for w in replay.recorded if hashlib.sha256(w.encode()).digest()[-1] % 2]
    pairs = [(w, name) for w in words for name in dict.fromkeys(replay.candidates[w])]

    def rates(recorded: list[Answer], given: list[Answer]) -> tuple[float, float]:
        both = sum(bool(r.yes and g.yes) for r, g in zip(recorded, given, strict=True))
        return both / sum(bool(g.yes) for g in given), both / sum(bool(r.yes) for r in recorded)

    precision, recall = rates(replay.is_proper_noun(words), judge.is_proper_noun(words))
    assert precision > 0.92
    assert recall > 0.83
    precision, recall = rates(replay.is_subcategory(pairs), judge.is_subcategory(pairs))
    assert precision > 0.60
    assert recall > 0.55


def plain_answers(judge: WordNetJudge, pairs: list[tuple[str, str]]) -> list[Answer]:
    """Try every rule for every pair."""
    return [judge._subcategories.answer(word, name) for word, name in pairs]


def test_quick_answers_are_those_of_trying_every_rule(judge):
    wordnet = WordNet.load()
    rng = random.Random(0)  # noqa: S311
    words = rng.sample(sorted(wordnet.words()), 1500)
    words += ["gooey pattern", "xyzzy", "xyzzy dog", " Dog ", "African daisy", "chain fern"]
    names = [*class_list("imagenet-1k"), "xyzzy", "agaric", "bolete"]
    pairs = [(word, name) for word in words for name in rng.sample(names, 4)]
    for word in words:
        for row in wordnet.rows(word, pos="noun")[:2]:
            above = rng.choice(list(wordnet.chains(row)))
            pairs.append((word, rng.choice(wordnet.lemmas(above))))
    likes = [word for word in wordnet.words() if "daisy" in word or "mushroom" in word]
    pairs += [(word, name) for word in likes for name in ("daisy", "mushroom", "Daisy", "agaric")]
    answers = judge.is_subcategory(pairs)
    assert answers == plain_answers(judge, pairs)
    assert min(sum(answer.yes is yes for answer in answers) for yes in (True, False, None)) > 50


def test_quick_answers_on_the_recorded_labels(judge, shared):
    folder = shared / "reference" / "negrefine_imagenet_seed0"
    replay = ReplayJudge(folder / "llm_process_noun.txt.gz", folder / "llm_process_adj.txt.gz")
    words = random.Random(0).sample(list(replay.recorded), 1500)  # noqa: S311
    pairs = [(word, name) for word in words for name in replay.candidates[word]]
    assert judge.is_subcategory(pairs) == plain_answers(judge, pairs)
