"""Train the byte-level BPE tokenizer: CLIP's format, 8,189 tokens, a context of 32."""

from __future__ import annotations

from collections.abc import Sequence
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
    train(texts, VOCABULARY, CONTEXT, work / "model")


def train(texts: Sequence[str], vocabulary: int, context: int, target: Path) -> None:
    """Write a tokenizer of `vocabulary` tokens, learnt from `texts`, into the folder `target`."""
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
        vocab_size=2 * vocabulary,
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
        if len(tokens) == vocabulary - 2:
            break
        kept.append((left, right))
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
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


def _merges(trained: Tokenizer) -> list[list[str]]:
    import json

    content = json.loads(trained.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in content]
