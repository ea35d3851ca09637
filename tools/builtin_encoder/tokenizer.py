"""Train the byte-level BPE tokenizer: CLIP's format, 8,189 tokens, a context of 32."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer
from words import read_words

VOCABULARY, CONTEXT = 8189, 32
_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def main(work: Path) -> None:
    """Write the tokenizer to WORK/model."""
    words = read_words(work)
    # Captions three times, because they are the names of the images.
    captions = [word.text for word in words if word.caption]
    texts = [word.text for word in words] + 2 * captions + [w.gloss for w in words][::2]
    train(texts, VOCABULARY, VOCABULARY, CONTEXT, work / "model")


def train(
    texts: Sequence[str],
    pieces: int,
    vocabulary: int,
    context: int,
    target: Path,
    whole_words: Sequence[str] = (),
) -> None:
    """Write a tokenizer of `vocabulary` tokens into the folder `target`.

    The first `pieces` tokens are learnt from `texts`; the rest are `whole_words`, as many as there
    is room for, with what they are merged from.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * pieces,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in _merges(trained)]
    # Every byte, inside and at the end of a word, as in CLIP's vocabulary, seen or not.
    tokens = alphabet + [f"{symbol}</w>" for symbol in alphabet]
    known = set(tokens)
    kept = []
    for left, right in merges:
        if len(tokens) == pieces - 2:
            break
        kept.append((left, right))
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
    _add_words(tokens, kept, whole_words, vocabulary - 2)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=kept,
        model_max_length=context,
    )
    if len(tokenizer) != vocabulary:
        raise SystemExit(f"The tokenizer has {len(tokenizer)} tokens, not {vocabulary}.")
    tokenizer.save_pretrained(target)
    lengths = [len(ids) - 2 for ids in tokenizer(list(texts[:5000]))["input_ids"]]
    print(f"{sum(lengths) / len(lengths):.2f} tokens a text")


def _add_words(
    tokens: list[str], merges: list[tuple[str, str]], words: Sequence[str], room: int
) -> None:
    """Add merges that make each word one token, until there are `room` tokens.

    Later merges have a lower rank, so they change no word that is one token already.
    """
    known = set(tokens)
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            merge = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            if merge not in ranks:
                if "".join(merge) not in known:
                    if len(tokens) == room:
                        return
                    tokens.append("".join(merge))
                    known.add(tokens[-1])
                ranks[merge] = len(ranks)
                merges.append(merge)
            place = pairs.index(merge)
            parts[place : place + 2] = ["".join(merge)]


def _merges(trained: Tokenizer) -> list[list[str]]:
    import json

    content = json.loads(trained.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in content]
