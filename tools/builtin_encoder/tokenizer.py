"""Train the byte-level BPE tokenizer: CLIP's format, 8,189 tokens, a context of 32."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer
from words import read_words

VOCABULARY, CONTEXT = 8189, 32
_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def main(work: Path) -> None:
    """Write the tokenizer to WORK/model."""
    words = read_words(work)
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
        vocab_size=2 * VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Captions three times, because they are the names of the images.
    captions = [word.text for word in words if word.caption]
    texts = [word.text for word in words] + 2 * captions + [w.gloss for w in words][::2]
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in _merges(trained)]
    # Every byte, inside and at the end of a word, as in CLIP's vocabulary, seen or not.
    tokens = alphabet + [f"{symbol}</w>" for symbol in alphabet]
    known = set(tokens)
    kept = []
    for left, right in merges:
        if len(tokens) == VOCABULARY - 2:
            break
        kept.append((left, right))
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=kept,
        model_max_length=CONTEXT,
    )
    if len(tokenizer) != VOCABULARY:
        raise SystemExit(f"The tokenizer has {len(tokenizer)} tokens, not {VOCABULARY}.")
    tokenizer.save_pretrained(work / "model")
    lengths = [len(ids) - 2 for ids in tokenizer(texts[:5000])["input_ids"]]
    print(f"{sum(lengths) / len(lengths):.2f} tokens a text")


def _merges(trained: Tokenizer) -> list[list[str]]:
    import json

    content = json.loads(trained.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in content]
