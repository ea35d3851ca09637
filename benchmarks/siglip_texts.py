"""Texts a second of a SigLIP text tower: in batches as here, against one by one.

`python benchmarks/siglip_texts.py [--width 768 --layers 12] [--texts 200]` writes a model with
random weights into a temporary folder and encodes the same texts both ways, in turns. Each text is
padded to 64 tokens, because the tower reads the padding; no prefix is shared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import SiglipConfig, SiglipModel

from negrefine import Lexicon, load_encoder

CONTEXT = 64
TURNS = 3


def write_model(folder: Path, width: int, layers: int, words: list[str]) -> None:
    """Write a SigLIP whose tokenizer knows each word as a whole, like the letters of others."""
    letters = sorted({letter for word in words for letter in word})
    pieces = dict.fromkeys(["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{w}" for w in words)])
    scores = [(piece, -float(len(letters) < i)) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    processor = {"image_processor_type": "SiglipImageProcessor", "size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    tower = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
    }
    text = {**tower, "vocab_size": len(pieces), "max_position_embeddings": CONTEXT}
    vision = {**tower, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)


def main() -> None:
    """Print texts a second both ways, their ratio, and how far the features are apart."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--texts", type=int, default=200)
    options = parser.parse_args()
    entries = Lexicon.wordnet(min_frequency=1).entries
    words = list(dict.fromkeys(entry.word.lower() for entry in entries))[: options.texts]
    texts = [f"a photo of a {word}" for word in words]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        write_model(Path(folder), options.width, options.layers, words)
        encoder = load_encoder(folder, device="cpu", cache=False, truncate=True)
        seconds = {"batches": 0.0, "one by one": 0.0}
        for _ in range(TURNS):
            start = time.perf_counter()
            together = encoder.encode_texts(texts)
            middle = time.perf_counter()
            alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
            seconds["batches"] += middle - start
            seconds["one by one"] += time.perf_counter() - middle
    for name, each in seconds.items():
        print(f"{name}: {TURNS * len(texts) / each:.1f} texts/s")
    print(f"ratio: {seconds['one by one'] / seconds['batches']:.2f}")
    print(f"largest difference: {np.abs(together - alone).max():.1e}")


if __name__ == "__main__":
    main()
