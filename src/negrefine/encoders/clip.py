"""A CLIP model from `transformers` as an encoder of images and texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPModel

from negrefine.encoders.base import EncodedImages, FloatArray
from negrefine.encoders.embedding_cache import EmbeddingCache, ModelCache
from negrefine.encoders.images import ImageSource, check_is_list, read_image
from negrefine.encoders.patches import image_and_patch_features
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.text_tower import encode_tokens
from negrefine.encoders.tokens import TextTokenizer
from negrefine.errors import ImageError, InputError
from negrefine.progress import progress_bar

# Larger batches fall out of the processor's cache; a GPU wants far more work at a time.
_TOKEN_BUDGET = {"cpu": 2048}
_GPU_TOKEN_BUDGET = 65536
# Texts whose tokens are compared for common prefixes at a time.
_TEXT_WINDOW = 65536
# Decoding and resizing leave the interpreter's lock, so threads do as well as processes.
_DECODE_WORKERS = min(32, max(4, os.cpu_count() or 1))


@dataclass(frozen=True)
class _Launched:
    """Features of a batch on the model's device, perhaps still being computed."""

    features: torch.Tensor
    patches: torch.Tensor | None
    errors: list[ImageError | None]

    def fetch(self) -> EncodedImages:
        patches = None if self.patches is None else _to_numpy(self.patches)
        return EncodedImages(_to_numpy(self.features), self.errors, patches)


class CLIPEncoder:
    """Image and text features of a `transformers.CLIPModel`.

    Made by `load_encoder`. Features are the projected embeddings, not normalised: prompt ensembles
    of the published methods average them before normalising.

    Attributes:
        text_cache: Where prompt ensembles of texts are kept between runs, or None.
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
        cache: EmbeddingCache | None = None,
        compile_images: bool = False,
    ) -> None:
        self._model = model
        # The last batch of a set is a short one: without dynamic shapes it would compile again.
        self._vision: Callable[..., Any] = (
            torch.compile(model.vision_model, dynamic=True)
            if compile_images
            else model.vision_model
        )
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self.preprocessing = preprocessing
        self.name = name
        self.options = options
        self.exif_orientation = exif_orientation
        self.background = background
        self.text_cache = None if cache is None else ModelCache(cache, self._text_identity)

    def _text_identity(self) -> str:
        """Say what decides the numbers of text features."""
        cut = "cut" if self._tokenizer.truncate else "whole"
        return f"{self.fingerprint} {self.dtype} {self.device.type} {cut}"

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
    def n_patches(self) -> int:
        """Number p of patches of an image, a square grid."""
        vision = self._model.config.vision_config
        return int(vision.image_size // vision.patch_size) ** 2

    @property
    def context_length(self) -> int:
        """Longest text in tokens, start and end tokens included."""
        return self._tokenizer.context_length

    @property
    def device(self) -> torch.device:
        """Device that holds the weights."""
        device: torch.device = self._model.logit_scale.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the arithmetic; features always come out as float32."""
        dtype: torch.dtype = self._model.visual_projection.weight.dtype
        return dtype

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 1024, *, show_progress_bar: bool = False
    ) -> FloatArray:
        """Encode texts.

        Equal texts are encoded once, common prefixes too, and no batch is padded beyond its
        longest text; see `negrefine.encoders.text_tower`.

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
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}.")
        unique = list(dict.fromkeys(texts))
        features = np.empty((len(unique), self.dim), dtype=np.float32)
        with progress_bar("Encoding texts", len(unique), enabled=show_progress_bar) as advance:
            for start in range(0, len(unique), _TEXT_WINDOW):
                window = features[start : start + _TEXT_WINDOW]

                def store(
                    indices: NDArray[np.intp], encoded: torch.Tensor, window: FloatArray = window
                ) -> None:
                    window[indices] = _to_numpy(encoded)
                    advance(len(indices))

                self._encode_window(unique[start : start + _TEXT_WINDOW], batch_size, store)
        if len(unique) == len(texts):
            return features
        row = {text: i for i, text in enumerate(unique)}
        return features[[row[text] for text in texts]]

    @torch.inference_mode()
    def _encode_window(
        self,
        texts: list[str],
        batch_size: int,
        store: Callable[[NDArray[np.intp], torch.Tensor], None],
    ) -> None:
        encode_tokens(
            self._model,
            self._tokenizer(texts),
            batch_size=batch_size,
            token_budget=_TOKEN_BUDGET.get(self.device.type, _GPU_TOKEN_BUDGET),
            store=store,
        )

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
        batches = self._encode_all(images, batch_size, show_progress_bar, patches=False)
        return np.concatenate([batch.features for batch in batches])

    def encode_images_and_patches(
        self,
        images: Sequence[ImageSource],
        batch_size: int = 64,
        *,
        show_progress_bar: bool = False,
    ) -> tuple[FloatArray, FloatArray]:
        """Encode images and their patches in one pass; GL-MCM's local features.

        Patch features are those of the last block with attention replaced by its own values
        (arXiv 2304.04521). They take p times the memory of image features: 400 kB an image for
        ViT-B/16. The form for ResNet towers is not offered, because a CLIPModel has none.

        Args:
            images: n images, as for `encode_images`.
            batch_size: Images to encode at a time.
            show_progress_bar: Draw a bar on a terminal.

        Returns:
            float32 (n, d), what `encode_images` returns, and float32 (n, p, d) for the p patches,
            row by row from the top left; neither is normalised.

        Raises:
            ImageError: An image cannot be read.
        """
        batches = self._encode_all(images, batch_size, show_progress_bar, patches=True)
        patches = [batch.patches for batch in batches if batch.patches is not None]
        return np.concatenate([batch.features for batch in batches]), np.concatenate(patches)

    def encode_patches(self, images: Sequence[ImageSource], batch_size: int = 64) -> FloatArray:
        """Return the patch features of `encode_images_and_patches`, float32 (n, p, d)."""
        return self.encode_images_and_patches(images, batch_size)[1]

    def _encode_all(
        self,
        images: Sequence[ImageSource],
        batch_size: int,
        show_progress_bar: bool,
        *,
        patches: bool,
    ) -> list[EncodedImages]:
        """Encode every image or raise; the first batch is empty and gives no images a shape."""
        check_is_list(images)
        batches = [self._launch([], [], patches=patches).fetch()]
        with progress_bar("Encoding images", len(images), enabled=show_progress_bar) as advance:
            for batch in self.iter_encoded_images(images, batch_size, patches=patches):
                for error in batch.errors:
                    if error is not None:
                        raise error
                batches.append(batch)
                advance(len(batch.errors))
        return batches

    def iter_encoded_images(
        self, images: Sequence[ImageSource], batch_size: int = 64, *, patches: bool = False
    ) -> Iterator[EncodedImages]:
        """Encode images batch by batch; an unreadable image becomes an error entry, not a stop.

        Images are decoded in threads ahead of the model, at most two batches at a time, so memory
        does not grow with the number of images.

        Args:
            images: n images, as for `encode_images`.
            batch_size: Images to encode at a time.
            patches: Also give patch features, as `encode_images_and_patches` does.
        """
        check_is_list(images)
        waiting: _Launched | None = None
        for pixels in _read_ahead(self._read_pixels, images, batch_size):
            good = [p for p in pixels if not isinstance(p, ImageError)]
            errors = [p if isinstance(p, ImageError) else None for p in pixels]
            launched = self._launch(good, errors, patches=patches)
            # A GPU works on this batch while the one before it is fetched and used.
            if waiting is not None:
                yield waiting.fetch()
            waiting = launched
            if self.device.type == "cpu":
                yield waiting.fetch()
                waiting = None
        if waiting is not None:
            yield waiting.fetch()

    def _read_pixels(self, source: ImageSource) -> FloatArray | ImageError:
        try:
            image = read_image(
                source, exif_orientation=self.exif_orientation, background=self.background
            )
        except ImageError as error:
            return error
        try:
            return self.preprocessing(image)
        except ImageError as error:
            if isinstance(source, (str, os.PathLike)):
                return ImageError(f"{os.fspath(source)}: {error}")
            return error

    @torch.inference_mode()
    def _launch(
        self, pixels: list[FloatArray], errors: list[ImageError | None], *, patches: bool
    ) -> _Launched:
        """Start the work on a batch; on a GPU nothing here waits for it."""
        if not pixels:
            nothing = torch.empty(0, self.n_patches, self.dim) if patches else None
            return _Launched(torch.empty(0, self.dim), nothing, errors)
        batch = torch.from_numpy(np.stack(pixels))
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=True).to(self.dtype)
        if patches:
            return _Launched(*image_and_patch_features(self._model, batch), errors)
        pooled = self._vision(pixel_values=batch).pooler_output
        return _Launched(self._model.visual_projection(pooled), None, errors)


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
