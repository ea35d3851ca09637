"""The text tower: its sizes, its start, and its forward pass for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from targets import centre_and_targets, embed_new
from texts import read_texts
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from vocabulary import CONTEXT, VOCABULARY

from negrefine.encoders.clip_config import TextConfig
from negrefine.encoders.clip_model import TextTower
from negrefine.encoders.clip_tokenizer import read_plain_tokenizer
from negrefine.encoders.text_tower import encode_tokens

DIMENSIONS = 384
START, END = VOCABULARY - 2, VOCABULARY - 1
CONFIG = TextConfig(
    hidden_size=320,
    intermediate_size=1280,
    num_hidden_layers=2,
    num_attention_heads=5,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
    vocab_size=VOCABULARY,
    max_position_embeddings=CONTEXT,
)
_CHUNKS = 4


class TextModel(nn.Module):
    """Text tower and projection, with the names that their tensors have in the library."""

    def __init__(self) -> None:
        super().__init__()
        self.text_model = TextTower(CONFIG)
        self.text_projection = nn.Linear(CONFIG.hidden_size, DIMENSIONS, bias=False)

    def forward(self, texts: list[list[int]]) -> Tensor:
        """Return features (n, 384) of length one; texts have start and end tokens.

        Texts of about equal length go together, and all share one look-up of embeddings, whose
        gradient is as large as the vocabulary.
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = np.array_split(np.array(order), _CHUNKS)
        blocks = []
        for part in parts:
            longest = len(texts[part[-1]])
            block = [texts[i] + [END] * (longest - len(texts[i])) for i in part]
            blocks.append(torch.tensor(block))
        tokens = torch.cat([block.flatten() for block in blocks])
        embedded = self.text_model.embeddings["token_embedding"](tokens)
        pieces = torch.split(embedded, [block.numel() for block in blocks])
        rows = []
        for part, block, piece in zip(parts, blocks, pieces, strict=True):
            ends = torch.tensor([len(texts[i]) - 1 for i in part])
            rows.append(self._pool(piece.view(*block.shape, -1), ends).float())
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        return F.normalize(torch.cat(rows)[back], dim=-1)

    def _pool(self, hidden: Tensor, ends: Tensor) -> Tensor:
        """Return the features at the end tokens; what follows them has no effect on them."""
        n, longest = hidden.shape[:2]
        hidden = hidden + self.text_model.embeddings["position_embedding"].weight[:longest]
        place, each = torch.arange(longest), torch.arange(n)
        blocked = place > place[:, None]
        layers = self.text_model.encoder.layers
        for layer in layers:
            attention = layer.self_attn

            def split(x: Tensor) -> Tensor:
                return x.view(n, -1, CONFIG.num_attention_heads, 64).transpose(1, 2)

            x = layer.layer_norm1(hidden)
            key, value = split(attention.k_proj(x)), split(attention.v_proj(x))
            if layer is layers[-1]:
                x, hidden = x[each, ends].unsqueeze(1), hidden[each, ends].unsqueeze(1)
                blocked = (place > ends[:, None])[:, None, None]
            scores = split(attention.q_proj(x)) @ key.transpose(-1, -2) / 8
            weights = scores.masked_fill(blocked, -1e4).softmax(-1)
            mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
            hidden = hidden + attention.out_proj(mixed)
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        pooled: Tensor = self.text_projection(self.text_model.final_layer_norm(hidden[:, 0]))
        return pooled


def tokenizer_of(work: Path) -> Tokenizer:
    """Return the tokenizer as the library reads it."""
    tokenizer = read_plain_tokenizer(work / "model")
    if tokenizer is None:
        raise SystemExit("The tokenizer is not one that the library reads by itself.")
    return tokenizer


@torch.no_grad()
def start_as_mean(work: Path, model: TextModel, tokenizer: Tokenizer) -> None:
    """Initialise the tower to return the mean of its tokens' targets.

    Tokens start at their targets, reduced to the width of the tower by PCA, which the projection
    undoes. The first layer attends to all tokens alike and copies them; the others add nothing yet.
    """
    texts, targets = read_texts(work), centre_and_targets(work)[1]
    row_of = {text.text: i for i, text in enumerate(texts)}
    tokens = [tokenizer.id_to_token(i) or "" for i in range(START)]
    words = [token.removesuffix("</w>") for token in tokens]
    starts = np.zeros((VOCABULARY, DIMENSIONS), np.float32)
    starts[:START] = embed_new(work, words)
    for i, (token, word) in enumerate(zip(tokens, words, strict=True)):
        if not token.endswith("</w>"):
            starts[i] *= 0.5
        elif word in row_of:
            starts[i] = targets[row_of[word]]
    weights = np.array([text.weight for text in texts], np.float32)[:, None]
    _, axes = np.linalg.eigh(targets.T @ (weights * targets))
    axes = axes[:, ::-1][:, : CONFIG.hidden_size].copy()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.002 if "embed" in name else parameter.shape[1] ** -0.5)
        else:
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
    text = model.text_model
    text.embeddings["token_embedding"].weight.copy_(torch.from_numpy(starts @ axes))
    model.text_projection.weight.copy_(torch.from_numpy(axes / CONFIG.hidden_size**0.5))
    for number, layer in enumerate(text.encoder.layers):
        layer.mlp.fc2.weight.zero_()
        layer.self_attn.out_proj.weight.zero_()
        if number == 0:
            layer.self_attn.v_proj.weight.copy_(torch.eye(CONFIG.hidden_size))
            layer.self_attn.out_proj.weight.copy_(torch.eye(CONFIG.hidden_size))


@torch.inference_mode()
def encode_all(work: Path, lines: list[str]) -> NDArray[np.float32]:
    """Return the trained tower's features (n, 384), of length one, of any number of texts."""
    model = TextModel()
    model.load_state_dict(load_file(work / "text_side.safetensors"))
    ids = [encoding.ids[:CONTEXT] for encoding in tokenizer_of(work).encode_batch(lines)]
    features = torch.empty(len(lines), DIMENSIONS)
    for rows, encoded in encode_tokens(model, ids, 1024, 2048):
        features[rows] = encoded
    return F.normalize(features, dim=-1).numpy()
