"""Preparing images for Qwen-VL's family, whose own processors need torchvision for videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError
from negrefine.files.reading import read_json
from negrefine.pretrained.loading import loading

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"})
"""The `model_type` of the models whose image tokens are a grid of merged patches."""


@dataclass(eq=False)
class GridProcessor:
    """Writes a text with one image as the arguments of a model, as its own processor would.

    The mark of the image in the text is repeated for each merged patch: grid.prod() / merge_size^2
    times.

    Attributes:
        image_token: The mark.
        chat_template: None where the model has none.
    """

    image_processor: Any
    tokenizer: Any
    image_token: str
    chat_template: str | None

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], **options: Any) -> str:
        """Return the text of a chat."""
        text: str = self.tokenizer.apply_chat_template(
            list(messages), chat_template=self.chat_template, **options
        )
        return text

    def __call__(
        self, *, text: Sequence[str], images: Sequence[Sequence[Image]], return_tensors: str
    ) -> dict[str, Any]:
        """Return tokens and patches of one text and its image."""
        import torch

        ((image,),) = images
        (written,) = text
        pixels = self.image_processor(images=[image], return_tensors=return_tensors)
        n = int(pixels["image_grid_thw"][0].prod()) // self.image_processor.merge_size**2
        whole = written.replace(self.image_token, self.image_token * n, 1)
        tokens = self.tokenizer([whole], return_tensors=return_tensors)
        mark = self.tokenizer.convert_tokens_to_ids(self.image_token)
        kinds = (tokens["input_ids"] == mark).to(torch.long)
        return {**tokens, "mm_token_type_ids": kinds, **pixels}


def load_grid_processor(directory: Path, config: dict[str, Any], name: str) -> GridProcessor:
    """Return the processor of a model's directory; InputError for files that cannot be used."""
    from transformers import AutoImageProcessor, AutoTokenizer

    advice = "give a vision-language model with all its files, as save_pretrained writes it"
    with loading(f"The processor of {name!r} cannot be loaded", advice, InputError):
        options = {"local_files_only": True, "trust_remote_code": False}
        images = AutoImageProcessor.from_pretrained(directory, backend="pil", **options)
        tokenizer = AutoTokenizer.from_pretrained(directory, **options)
        mark = tokenizer.convert_ids_to_tokens(config["image_token_id"])
        template = tokenizer.chat_template
        if template is None and (directory / "chat_template.json").exists():
            template = read_json(directory / "chat_template.json", 1 << 20)["chat_template"]
    return GridProcessor(images, tokenizer, str(mark), template)
