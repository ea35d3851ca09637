"""Tiny random models of every family, saved as the directories that people have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlignConfig,
    AlignModel,
    AltCLIPConfig,
    AltCLIPModel,
    BertConfig,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPSegConfig,
    CLIPSegModel,
    GemmaTokenizer,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
    XLMRobertaTokenizer,
)

import negrefine.encoders

BUILTIN = Path(negrefine.encoders.__path__[0]) / "builtin" / "model"
SIDE, PATCH, WIDTH = 32, 8, 32
CORPUS = [
    *("a photo of a cat", "a photo of the nice dog", "the quick brown fox jumps", "red apple pie"),
    *("German shepherd, Eiffel Tower", "owl fish frog whale horse hammer valley", "gooey butter"),
    *("猫", "狗的照片", "苹果和香蕉", "消防车", "一张照片"),
    *("ネコの写真", "いぬ", "リンゴとバナナ", "消防車"),
    *("قطة", "صورة كلب", "تفاحة وموز", "سيارة إطفاء"),
]
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
VISION = {**TOWER, "image_size": SIDE, "patch_size": PATCH}
CROP = {"height": SIDE, "width": SIDE}
_SPECIAL = ["<pad>", "</s>", "<s>", "<unk>"]


def unigram(special: list[str]) -> list[tuple[str, float]]:
    """Return the pieces of a small Unigram model, special tokens first."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, *map(str.lower, CORPUS)], trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(piece, score) for piece, score in pieces]


def siglip_tokenizer(folder: Path, **settings: Any) -> int:
    """Write the tokenizer.json of a SigLIP of the first kind, whose class reads sentencepiece."""
    pieces = unigram(_SPECIAL)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 40, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(pieces)


def gemma_tokenizer(folder: Path, **settings: Any) -> int:
    """Write the tokenizer of a SigLIP 2."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
        + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *map(str.lower, CORPUS)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    whole = GemmaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
        **settings,
    )
    whole.save_pretrained(folder)
    return len(model["vocab"])


def bert_tokenizer(folder: Path, *, text_file: bool = False) -> int:
    """Write BERT's kind of tokenizer, as one file of JSON or as a list of words."""
    characters = sorted({char for text in CORPUS for char in text.lower() if not char.isspace()})
    words = sorted({word for text in CORPUS[:6] for word in text.lower().replace(",", "").split()})
    parts = [f"##{character}" for character in characters]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *words, *parts]
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    if text_file:
        (folder / "vocab.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    else:
        BertTokenizer(vocab=ids).save_pretrained(folder)
    return len(ids)


def xlm_tokenizer(folder: Path) -> int:
    """Write XLM-RoBERTa's kind of tokenizer."""
    pieces = unigram(["<s>", "<pad>", "</s>", "<unk>"])
    XLMRobertaTokenizer(vocab=pieces).save_pretrained(folder)
    return len(pieces) + 1


def clip_tokenizer(folder: Path) -> int:
    """Copy the tokenizer of the encoder inside the package."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN / name, folder / name)
    size: int = Tokenizer.from_file(str(BUILTIN / "tokenizer.json")).get_vocab_size()
    return size


def processor(folder: Path, kind: str, **settings: Any) -> None:
    """Write the preprocessor_config.json of a kind of image processor."""
    config = {"image_processor_type": f"{kind}ImageProcessor", **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def siglip(folder: Path) -> Any:
    n_tokens = siglip_tokenizer(folder)
    processor(folder, "Siglip", size=CROP)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 40}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))


def siglip2(folder: Path) -> Any:
    """A SigLIP 2 of one resolution, which says that it is a SigLIP."""
    n_tokens = gemma_tokenizer(folder, do_lower_case=True)
    processor(folder, "Siglip", size=CROP, resample=2)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 40, "projection_size": 24}
    vision = {**VISION, "hidden_size": 24}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def naflex(folder: Path) -> Any:
    n_tokens = gemma_tokenizer(folder)
    processor(folder, "Siglip", size=CROP)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 40}
    vision = {**TOWER, "patch_size": PATCH, "num_patches": 16}
    return Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))


def chinese_clip(folder: Path) -> Any:
    n_tokens = bert_tokenizer(folder, text_file=True)
    processor(folder, "ChineseCLIP", size=CROP, do_center_crop=False)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 64}
    vision = {**VISION, "projection_dim": 20}
    config = ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    return ChineseCLIPModel(config)


def altclip(folder: Path) -> Any:
    n_tokens = xlm_tokenizer(folder)
    processor(folder, "CLIP", size={"shortest_edge": SIDE}, crop_size=CROP)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 42, "project_dim": 28}
    vision = {**VISION, "projection_dim": 20}
    config = AltCLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    return AltCLIPModel(config)


def align(folder: Path) -> Any:
    n_tokens = bert_tokenizer(folder)
    processor(
        *(folder, "EfficientNet"),
        size={"height": 40, "width": 40},
        crop_size=CROP,
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        resample=2,
    )
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 64}
    vision = {
        "image_size": SIDE,
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "kernel_sizes": [3, 3],
        "in_channels": [32, 16],
        "out_channels": [16, 16],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 2],
        "hidden_dim": 24,
    }
    return AlignModel(
        AlignConfig(
            text_config=text, vision_config=vision, projection_dim=16, temperature_init_value=0.05
        )
    )


def metaclip_2(folder: Path) -> Any:
    n_tokens = xlm_tokenizer(folder)
    processor(folder, "CLIP", size={"shortest_edge": SIDE}, crop_size=CROP)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 20, "eos_token_id": 2}
    towers = [{**tower, "projection_dim": 20} for tower in (text, VISION)]
    config = MetaClip2Config(text_config=towers[0], vision_config=towers[1], projection_dim=20)
    return MetaClip2Model(config)


def dual(folder: Path) -> Any:
    n_tokens = bert_tokenizer(folder)
    processor(folder, "ViT", size=CROP)
    text = BertConfig(**TOWER, vocab_size=n_tokens, max_position_embeddings=64)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**VISION), text, projection_dim=20
    )
    return VisionTextDualEncoderModel(config)


def clipseg(folder: Path) -> Any:
    """A family of which this package knows nothing."""
    n_tokens = clip_tokenizer(folder)
    processor(folder, "ViT", size=CROP)
    text = {**TOWER, "vocab_size": n_tokens, "max_position_embeddings": 32}
    ends = {"eos_token_id": n_tokens - 1, "bos_token_id": n_tokens - 2}
    config = CLIPSegConfig(
        text_config={**text, **ends}, vision_config=VISION, projection_dim=20, reduce_dim=8
    )
    return CLIPSegModel(config)


BUILDERS: dict[str, Callable[[Path], Any]] = {
    each.__name__: each
    for each in (
        *(siglip, siglip2, chinese_clip, altclip, align, metaclip_2, dual, clipseg, naflex),
    )
}
MULTILINGUAL = ("siglip", "siglip2", "chinese_clip", "altclip", "metaclip_2", "dual")


def save(kind: str, folder: Path, **options: Any) -> Path:
    """Write a model of a family with random weights; `options` are those of save_pretrained."""
    folder.mkdir(parents=True)
    # Convolutions damp what they get more than the blocks of a transformer.
    gain = 2.5 if kind == "align" else 0.6
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BUILDERS[kind](folder).eval()
        # Fresh weights are so small that all features are alike.
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=gain / weight[0].numel() ** 0.5 + 0.05)
            elif name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)
    for name, value in (("logit_scale", 2.5), ("logit_bias", -3.0)):
        if hasattr(model, name):
            getattr(model, name).data.fill_(value)
    model.save_pretrained(folder, **options)
    return folder


def fast_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer.json of a folder without any class of a family."""
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
