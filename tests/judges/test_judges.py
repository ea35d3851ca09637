import gzip
import hashlib
from pathlib import Path

import pytest

from negrefine.errors import NegrefineError
from negrefine.judges.base import Answer, Judge, as_answers
from negrefine.judges.definitions import common_name_of, defines_members, genus_phrase, taxa
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.word_finder import WordFinder
from negrefine.judges.wordnet import WordNetJudge
from negrefine.labels.wordnet import WordNet

REFERENCE = (
    Path(__file__).resolve().parents[3] / "shared" / "reference" / "negrefine_imagenet_seed0"
)
LOGS = [REFERENCE / "llm_process_noun.txt.gz", REFERENCE / "llm_process_adj.txt.gz"]
needs_reference = pytest.mark.skipif(
    not all(log.is_file() for log in LOGS), reason="reference material is not here"
)

LOG = (
    "oslo | proper noun \n"
    "biosafety level  | maze | \n"
    "biosafety level  | face mask | \n"
    "tabby | dog | \n"
    "tabby | cat | subcategory \n"
    "orange | lemon | \n"
    "orange | orange | the same \n" + "-" * 45 + "\nn_proper: 1\nn_same: 1\nn_subcatgeory: 1\n"
)


class Plain:
    name = "plain"

    def is_proper_noun(self, words):
        return [word.istitle() for word in words]

    def is_subcategory(self, pairs):
        return [None for _ in pairs]


@pytest.fixture(scope="module")
def judge() -> WordNetJudge:
    return WordNetJudge()


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / "llm_process_noun.txt"
    path.write_text(LOG, encoding="utf-8")
    return path


def test_plain_bools_become_answers():
    answer = Answer(True, "because", 0.5)
    assert as_answers([True, None, answer], 3, Plain()) == [Answer(True), Answer(None), answer]
    assert as_answers((), 0, Plain()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True], "'plain' returned 1 answers to 2 questions"),
        ([True, "yes"], "returned 'yes' as answer 1"),
        ([True, 1], "returned 1 as answer 1"),
        (None, "returned None: return a list"),
    ],
)
def test_wrong_answers_are_explained(values, message):
    with pytest.raises(NegrefineError, match=message):
        as_answers(values, 2, Plain())


def test_anything_with_the_two_methods_is_a_judge(judge, log):
    for candidate in (Plain(), judge, ReplayJudge(log)):
        assert isinstance(candidate, Judge)
    assert not isinstance(object(), Judge)


def test_replay_repeats_the_log(log):
    replay = ReplayJudge(log)
    assert replay.name == "replay(llm_process_noun.txt)"
    assert replay.recorded == ("oslo", "biosafety level ", "tabby", "orange")
    assert [a.yes for a in replay.is_proper_noun(replay.recorded)] == [True, False, False, False]
    pairs = [("tabby", "dog"), ("tabby", "cat"), ("biosafety level ", "maze")]
    assert [a.yes for a in replay.is_subcategory(pairs)] == [False, True, False]
    assert dict(replay.candidates) == {
        "oslo": [],
        "biosafety level ": ["maze", "face mask"],
        "tabby": ["dog", "cat"],
        "orange": ["lemon", "orange"],
    }
    assert replay.n_questions == 4 + 5


def test_replay_is_undecided_about_what_was_not_asked(log):
    replay = ReplayJudge(log)
    unknown = Answer(None, "not recorded")
    assert replay.is_proper_noun(["biosafety level"]) == [unknown]
    assert replay.is_subcategory([("tabby", "fox"), ("orange", "orange")]) == [unknown, unknown]


def test_replay_reads_several_logs_first_one_wins(log, tmp_path):
    other = tmp_path / "llm_process_adj.txt.gz"
    other.write_bytes(
        gzip.compress(b"tabby | proper noun \r\nsafe space | safe | subcategory \r\n")
    )
    replay = ReplayJudge.from_logs([log, other])
    assert replay.recorded[-1] == "safe space"
    assert replay.is_proper_noun(["tabby"])[0].yes is False
    assert replay.candidates["tabby"] == ["dog", "cat"]
    assert replay.is_subcategory([("safe space", "safe")])[0].yes is True


def test_a_name_asked_about_twice_counts_if_one_answer_was_yes(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("atlas | missile | \natlas | missile | subcategory \n", encoding="utf-8")
    replay = ReplayJudge(path)
    assert replay.candidates["atlas"] == ["missile", "missile"]
    assert replay.is_subcategory([("atlas", "missile")])[0].yes is True
    assert replay.n_questions == 3


@pytest.mark.parametrize(
    "line",
    ["tabby", "tabby | cat", "tabby | cat | subcategory", "tabby | proper noun", "a | b | c | "],
)
def test_replay_names_the_bad_line(tmp_path, line):
    path = tmp_path / "log.txt"
    path.write_text(f"oslo | proper noun \n{line}\n", encoding="utf-8")
    with pytest.raises(NegrefineError, match="Line 2 of the log"):
        ReplayJudge(path)


def test_replay_explains_unusable_files(tmp_path):
    with pytest.raises(NegrefineError, match="at least one log"):
        ReplayJudge()
    with pytest.raises(NegrefineError, match="does not exist"):
        ReplayJudge(tmp_path / "none.txt")
    with pytest.raises(NegrefineError, match="cannot be read"):
        ReplayJudge(tmp_path)
    (tmp_path / "log.txt.gz").write_bytes(b"not gzip")
    with pytest.raises(NegrefineError, match="damaged"):
        ReplayJudge(tmp_path / "log.txt.gz")


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
    assert common_name_of("an edible agaric") is None
    assert taxa("a fungus of the order Agaricales and of the genus Amanita") == [
        "Agaricales",
        "Amanita",
    ]
    assert defines_members("any of numerous composite plants")
    assert not defines_members("an edible agaric")


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("crane bird", "large long-necked wading bird"),
        ("impala (antelope)", "African antelope"),
        ("common sorrel horse", "a horse of a brownish orange"),
        ("ram (adult male sheep)", "uncastrated adult male sheep"),
        ("half-track", "a motor vehicle"),
    ],
)
def test_class_names_find_their_meaning(name, definition):
    wordnet = WordNet.load()
    rows = WordFinder(wordnet).class_rows(name)
    assert wordnet.synset(rows[0]).definition.startswith(definition)


def test_class_names_that_only_narrow_a_known_word_mean_nothing():
    finder = WordFinder(WordNet.load())
    assert finder.class_rows("toy store") == []
    assert finder.class_rows("Treeing Walker Coonhound") == []


@needs_reference
def test_reference_log_counts():
    noun, adj = (ReplayJudge(path) for path in LOGS)
    for replay, words, proper, subcategory, kept, calls in (
        (noun, 7021, 1748, 275, 4998, 57_813),
        (adj, 1404, 0, 32, 1372, 15_224),
    ):
        assert len(replay.recorded) == words
        assert replay.n_questions == calls
        yes = [a.yes for a in replay.is_proper_noun(replay.recorded)]
        assert yes.count(True) == proper
        dropped = [
            word
            for word in replay.recorded
            if any(
                a.yes for a in replay.is_subcategory([(word, n) for n in replay.candidates[word]])
            )
        ]
        assert len(dropped) == subcategory
        assert words - proper - subcategory == kept
    assert "biosafety level " in noun.recorded


@needs_reference
def test_agreement_with_the_published_run_on_held_out_words(judge):
    """Floors a little below what was measured once on the half the rules were not made on."""
    replay = ReplayJudge.from_logs(LOGS)
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
