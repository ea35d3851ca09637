"""A CLIP model from `transformers` as an encoder of images and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import CLIPModel

from negrefine.encoders.base import FloatArray
from negrefine.encoders.images import ImageSource, read_image
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokens import TextTokenizer, length_batches
from negrefine.errors import ImageError, InputError
from negrefine.progress import progress_bar

# Larger batches fall out of the processor's cache; a GPU wants far more work at a time.
_TOKEN_BUDGET = {"cpu": 4096}
_GPU_TOKEN_BUDGET = 65536
_DECODE_WORKERS = 4


@dataclass(frozen=True)
class EncodedImages:
    """Features of one batch of images that may hold unreadable ones.

    Attributes:
        features: float32 (n_read, d), one row for each readable image, in order.
        errors: For every image of the batch None, or the error that kept it from being read.
    """

    features: FloatArray
    errors: list[ImageError | None]


class CLIPEncoder:
    """Image and text features of a `transformers.CLIPModel`.

    Made by `load_encoder`. Features are the projected embeddings, not normalised: prompt ensembles
    of the published methods average them before normalising.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: TextTokenizer,
        preprocessing: Preprocessing,
        *,
        name: str,
        options: dict[str, Any],
        fingerprint: Callable[[], str],
        exif_orientation: bool,
        background: tuple[int, int, int] | None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self.preprocessing = preprocessing
        self.name = name
        self.options = options
        self.exif_orientation = exif_orientation
        self.background = background

    def __repr__(self) -> str:
        return f"CLIPEncoder({self.name!r}, dim={self.dim}, device={str(self.device)!r})"

    def __sklearn_clone__(self) -> CLIPEncoder:
        """Share the model between clones of a detector instead of copying its weights."""
        return self

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, tokenizer, architecture and preprocessing."""
        return self._fingerprint()

    @cached_property
    def logit_scale(self) -> float:
        """The learned factor on cosines, exp(logit_scale): 100.0 for OpenAI's CLIP."""
        return float(self._model.logit_scale.detach().double().exp())

    @property
    def dim(self) -> int:
        """Dimension d of the joint space."""
        return int(self._model.config.projection_dim)

    @property
    def context_length(self) -> int:
        """Longest text in tokens, start and end tokens included."""
        return self._tokenizer.context_length

    @property
    def device(self) -> torch.device:
        """Device that holds the weights."""
        return self._model.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the arithmetic; features always come out as float32."""
        return self._model.visual_projection.weight.dtype

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 1024, *, show_progress_bar: bool = False
    ) -> FloatArray:
        """Encode texts.

        The text tower is causal and pooled at the end token, so equal texts are encoded once and
        every batch is cut to its longest text without changing the features.

        Args:
            texts: m strings.
            batch_size: Most texts to encode at a time.
            show_progress_bar: Draw a bar on a terminal.

        Returns:
            float32 of shape (m, d), not normalised.

        Raises:
            InputError: A text is longer than the model's context and may not be cut.
        """
        if isinstance(texts, str):
            raise InputError("encode_texts takes a list of strings, not one string: wrap it in [].")
        unique = list(dict.fromkeys(texts))
        features = np.empty((len(unique), self.dim), dtype=np.float32)
        ids = self._tokenizer(unique)
        lengths = [len(row) for row in ids]
        budget = _TOKEN_BUDGET.get(self.device.type, _GPU_TOKEN_BUDGET)
        batches = length_batches(lengths, batch_size=batch_size, token_budget=budget)
        with progress_bar("Encoding texts", len(unique), enabled=show_progress_bar) as advance:
            for batch in batches:
                features[batch] = self._encode_tokens([ids[i] for i in batch])
                advance(len(batch))
        if len(unique) == len(texts):
            return features
        row = {text: i for i, text in enumerate(unique)}
        return features[[row[text] for text in texts]]

    @torch.inference_mode()
    def _encode_tokens(self, ids: list[list[int]]) -> FloatArray:
        longest = max(len(row) for row in ids)
        padded = [row + row[-1:] * (longest - len(row)) for row in ids]
        tokens = torch.tensor(padded, device=self.device)
        pooled = self._model.text_model(input_ids=tokens).pooler_output
        return _to_numpy(self._model.text_projection(pooled))

    def encode_images(
        self,
        images: Sequence[ImageSource],
        batch_size: int = 64,
        *,
        show_progress_bar: bool = False,
    ) -> FloatArray:
        """Encode images.

        Args:
            images: n paths, Pillow images or uint8 arrays of shape (h, w, 3) or (h, w).
            batch_size: Images to encode at a time.
            show_progress_bar: Draw a bar on a terminal.

        Returns:
            float32 of shape (n, d), not normalised.

        Raises:
            ImageError: An image cannot be read. Use `iter_encoded_images` to carry on past it.
        """
        parts = [np.empty((0, self.dim), dtype=np.float32)]
        with progress_bar("Encoding images", len(images), enabled=show_progress_bar) as advance:
            for batch in self.iter_encoded_images(images, batch_size):
                for error in batch.errors:
                    if error is not None:
                        raise error
                parts.append(batch.features)
                advance(len(batch.errors))
        return np.concatenate(parts)

    def iter_encoded_images(
        self, images: Sequence[ImageSource], batch_size: int = 64
    ) -> Iterator[EncodedImages]:
        """Encode images batch by batch; an unreadable image becomes an error entry, not a stop.

        Images are decoded in threads ahead of the model, at most two batches at a time, so memory
        does not grow with the number of images.
        """
        if isinstance(images, str):
            raise InputError("images must be a list of images, not one string: wrap it in [].")
        for pixels in _read_ahead(self._read_pixels, images, batch_size):
            good = [p for p in pixels if not isinstance(p, ImageError)]
            errors = [p if isinstance(p, ImageError) else None for p in pixels]
            yield EncodedImages(self._encode_pixels(good), errors)

    def _read_pixels(self, source: ImageSource) -> FloatArray | ImageError:
        try:
            image = read_image(
                source, exif_orientation=self.exif_orientation, background=self.background
            )
        except ImageError as error:
            return error
        return self.preprocessing(image)

    @torch.inference_mode()
    def _encode_pixels(self, pixels: list[FloatArray]) -> FloatArray:
        if not pixels:
            return np.empty((0, self.dim), dtype=np.float32)
        batch = torch.from_numpy(np.stack(pixels)).to(self.device, self.dtype)
        pooled = self._model.vision_model(pixel_values=batch).pooler_output
        return _to_numpy(self._model.visual_projection(pooled))


def _to_numpy(features: torch.Tensor) -> FloatArray:
    array: FloatArray = features.float().cpu().numpy()
    return array


def _read_ahead(
    read: Callable[[ImageSource], FloatArray | ImageError],
    sources: Sequence[ImageSource],
    batch_size: int,
) -> Iterator[list[FloatArray | ImageError]]:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}.")
    waiting: list[list[Future[FloatArray | ImageError]]] = []
    remaining = iter(sources)
    with ThreadPoolExecutor(max_workers=_DECODE_WORKERS) as pool:
        while True:
            batch = [pool.submit(read, source) for source in islice(remaining, batch_size)]
            if batch:
                waiting.append(batch)
            if not waiting:
                return
            if len(waiting) == 2 or not batch:
                yield [future.result() for future in waiting.pop(0)]
