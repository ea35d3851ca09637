"""Tiny random vision-language models of several architectures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
)

MARKS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>"),
    *("<global-img>", "<end_of_utterance>", "<row_1_col_1>", "<row_1_col_2>"),
    *("<row_2_col_1>", "<row_2_col_2>"),
]
TEXT = [
    "Yes No yes no YES NO. Yes, no. No, yes. YES NO.",
    "Is there a dog in this image? Answer with one word, yes or no.",
    "user assistant cat horse hammer tabby cat great white shark anvil apple",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LANGUAGE: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # The usual 0.02 makes all answers 0.500.
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE whose pieces of the text above are whole tokens."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=MARKS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator(TEXT * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<image>"},
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def _llava() -> tuple[Any, Any]:
    tok = tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, projection_dim=32),
        text_config=Qwen2Config(**LANGUAGE),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tok,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return config, processor


def _idefics3() -> tuple[Any, Any]:
    tok = tokenizer()
    config = Idefics3Config(
        image_token_id=tok.convert_tokens_to_ids("<image>"),
        vision_config={**VISION, "model_type": "idefics3_vision"},
        text_config={**LANGUAGE, "model_type": "llama"},
        scale_factor=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    # Images of other shapes have other numbers of tiles.
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = Idefics3Processor(images, tok, image_seq_len=4, chat_template=TEMPLATE)
    return config, processor


class _Parts:
    """What a processor is saved as, where it cannot be made without torchvision."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts
        self.tokenizer = parts[0]

    def save_pretrained(self, directory: Path) -> None:
        for each in self._parts:
            each.save_pretrained(directory)


def _qwen2_vl() -> tuple[Any, Any]:
    tok = tokenizer()
    ids = {
        f"{name}_id": tok.convert_tokens_to_ids(mark)
        for name, mark in (
            ("image_token", "<image>"),
            ("video_token", "<global-img>"),
            ("vision_start_token", "<row_1_col_1>"),
            ("vision_end_token", "<row_1_col_2>"),
        )
    }
    tok.chat_template = TEMPLATE.replace("<image>", "<row_1_col_1><image><row_1_col_2>")
    config = Qwen2VLConfig(
        text_config={
            **LANGUAGE,
            # Positions in time, height and width.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        **ids,
        tie_word_embeddings=False,
    )
    images = Qwen2VLImageProcessorPil(
        min_pixels=28 * 28, max_pixels=2 * 56 * 56, patch_size=14, merge_size=2
    )
    return config, _Parts(tok, images)


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "idefics3": _idefics3,
    "qwen2_vl": _qwen2_vl,
}


def save_vision_model(directory: Path, kind: str, *, decided: bool = False) -> Path:
    """Write a random model as the hub holds one; one that is decided says nothing but yes or no."""
    config, processor = KINDS[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForImageTextToText.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.25)
    if decided:
        first = processor.tokenizer("YesNo", add_special_tokens=False)["input_ids"]
        yes, no = first[0], first[-1]
        with torch.no_grad():
            direction = 1000 * model.lm_head.weight[yes]
            model.lm_head.weight.zero_()
            model.lm_head.weight[yes], model.lm_head.weight[no] = direction, -direction
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory
