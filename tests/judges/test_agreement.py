"""Agreement of two judges."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from negrefine.judges.agreement import cohen_kappa, measure_agreement
from negrefine.judges.base import Answer, Query


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    queries = [Query(word, (f"c{k}",)) for word in words for k in range(5)]
    first = {query: Answer(bool(rng.random() < 0.3)) for query in queries}
    second = {
        query: Answer(
            None if rng.random() < 0.1 else answer.yes if rng.random() < 0.8 else not answer.yes
        )
        for query, answer in first.items()
    }
    found = measure_agreement("subcategory", ("a", "b"), queries, first, second)
    decided = [query for query in queries if second[query].yes is not None]
    a = [first[query].yes for query in decided]
    b = [second[query].yes for query in decided]
    assert found.kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert (found.n, found.undecided) == (len(decided), len(queries) - len(decided))
    assert found.agreed == np.mean(np.array(a) == np.array(b))
    assert found.first_only == sum(x and not y for x, y in zip(a, b, strict=True))
    # The plain bootstrap: words with all their questions, one draw after the other.
    of_word = {word: [i for i, query in enumerate(decided) if query.word == word] for word in words}
    plain = []
    for _ in range(300):
        rows = [i for word in rng.choice(words, len(words)) for i in of_word[word]]
        plain.append(cohen_kappa_score([a[i] for i in rows], [b[i] for i in rows]))
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, (0.025, 0.975)), abs=0.03)
    again = measure_agreement("subcategory", ("a", "b"), queries, first, second)
    assert again == found


def test_kappa_of_one_answer_alone_is_undefined() -> None:
    queries = [Query("a"), Query("b")]
    no = dict.fromkeys(queries, Answer(False))
    undecided = dict.fromkeys(queries, Answer(None))
    same = measure_agreement("proper_noun", ("a", "b"), queries, no, no)
    assert (same.kappa, same.low, same.agreed, same.both_no) == (None, None, 1.0, 2)
    none = measure_agreement("proper_noun", ("a", "b"), queries, no, undecided)
    assert (none.kappa, none.agreed, none.n, none.undecided) == (None, None, 0, 2)
    tables = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]])
    assert cohen_kappa(tables).tolist() == [1.0, -1.0, 0.0]
