"""A vision-language model with its processor: identity, loading, and the text of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError
from negrefine.judges.causal_lm import checked_files
from negrefine.judges.vision_grid import MODEL_TYPES, load_grid_processor
from negrefine.pretrained import hub
from negrefine.pretrained.loading import load_weights, loading

if TYPE_CHECKING:
    import torch

VISION_LM = hub.ModelKind(
    noun="vision-language model",
    example="HuggingFaceTB/SmolVLM-256M-Instruct",
    builtin="",
    advice="give a vision-language instruct model with all its files, in safetensors",
    files=("*.json", "*.jinja", "vocab.*", "merges.txt", "tokenizer.model"),
    error=InputError,
)


def load_vision_lm(
    name: str, revision: str | None, device: torch.device, dtype: str
) -> tuple[Any, Any]:
    """Return (model, processor) of a directory or hub id.

    Images are prepared by Pillow, which works without torchvision. Raises InputError if the model
    cannot be found or loaded, or its processor works with torchvision alone.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    directory, config = checked_files(VISION_LM, name, revision)
    advice = (
        "give a model whose images Pillow can prepare, such as LLaVA or SmolVLM, or serve it and "
        "use OpenAIVision (--vision openai:MODEL)"
    )
    processor: Any
    if config.get("model_type") in MODEL_TYPES:
        processor = load_grid_processor(directory, config, name)
    else:
        with loading(f"The processor of {name!r} cannot be loaded", advice, InputError):
            processor = AutoProcessor.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False, backend="pil"
            )
    if not hasattr(processor, "image_processor"):
        raise InputError(
            f"The processor of {name!r} prepares no images: it is not a vision-language model."
        )
    model = load_weights(AutoModelForImageTextToText, VISION_LM, directory, name, dtype)
    processor.tokenizer.padding_side = "right"
    return model.to(device), processor


def question_text(processor: Any, question: str, name: str) -> str:
    """Return the text of a chat with one image and a question, ending where the reply begins.

    A model without a chat template reads its mark for an image, the question, and "Answer:".
    Raises InputError if it has neither, or its template shows no image.
    """
    from jinja2.exceptions import TemplateError

    mark = getattr(processor, "image_token", None)
    template = processor.chat_template or processor.tokenizer.chat_template
    if template:
        # A switch that a template does not have gives a warning for each question.
        thinking = {"enable_thinking": False} if "enable_thinking" in str(template) else {}
        content = [{"type": "image"}, {"type": "text", "text": question}]
        try:
            text: str = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=False,
                add_generation_prompt=True,
                **thinking,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InputError(
                f"The chat template of {name!r} cannot write a question about an image "
                f"({str(error)[:200]}): give a vision-language instruct model."
            ) from error
        if question not in text or (mark and mark not in text):
            raise InputError(
                f"The chat template of {name!r} leaves out the image or the question: give a "
                "vision-language instruct model."
            )
        return text
    if not mark:
        raise InputError(
            f"{name!r} has neither a chat template nor a mark for images: give a vision-language "
            "instruct model."
        )
    return f"{mark}\n{question}\nAnswer:"
