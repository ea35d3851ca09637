"""A CLIP model as an encoder of images and texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from negrefine.constraints import Whole
from negrefine.encoders.base import EncodedImages, FloatArray
from negrefine.encoders.batches import Batch, encode_batches, join_batches
from negrefine.encoders.embedding_cache import open_cache
from negrefine.encoders.images import Images, ImageSource, check_is_list, check_items, use_image
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.text_tower import encode_tokens
from negrefine.encoders.tokens import TextTokenizer
from negrefine.encoders.undecoded import UndecodedBytes
from negrefine.encoders.vision_tower import image_and_patch_features, image_features
from negrefine.errors import EncoderError, ImageError, InputError
from negrefine.progress import progress_bar
from negrefine.shown_text import visible

if TYPE_CHECKING:
    from transformers import CLIPModel

    from negrefine.encoders.clip_model import PlainCLIPModel

_Pixels: TypeAlias = "FloatArray | ImageError"

# Distinct prefixes at a time. With more, attention between all of them takes a larger share of the
# time; a GPU needs more work at a time.
_CPU_NODES = 256
_GPU_NODES = 2048
# At most this many texts are searched for common prefixes at a time.
_TEXT_WINDOW = 65536
# Decoding and resizing release the GIL, so threads are as fast as processes.
_DECODE_WORKERS = min(32, max(4, os.cpu_count() or 1))
# The arguments of `load_encoder` that change features or their checks.
_OPTIONS = ("revision", "resample", "exif_orientation", "background", "truncate")


class CLIPEncoder:
    """Image and text features of a CLIP model. Made by `load_encoder`.

    Features are the projected embeddings, not normalised: prompt ensembles of the published methods
    average them before normalising. Copies and scikit-learn clones are the encoder itself, so that
    a model is in memory once; a pickle holds the arguments of `load_encoder`, no weights.

    Args:
        model: A `PlainCLIPModel` or `transformers.CLIPModel`, in evaluation mode, on its device.
        tokenizer: Of the model, like `preprocessing`.
        name: "builtin", a hub id or an absolute directory.
        settings: All keyword arguments of `load_encoder`.
        fingerprint: Called when it is first needed, because it reads all weights.
        reload: A module-level function that makes an equal encoder from `name`, `settings` and the
            fingerprint or None; without it the encoder cannot be pickled.

    Attributes:
        options: Arguments of `load_encoder` that change features or their checks.
        logit_scale: The learned factor on cosines, exp(logit_scale): 100.0 for OpenAI's CLIP.
        logit_bias: The learned summand after it, which SigLIP models have, or None.
        dim: Dimension d of the joint space.
        n_patches: Number p of patches of an image, a square grid; 0 for a model that gives no
            features of patches.
        context_length: Longest text in tokens, start and end tokens included.
        device: Of the weights, like `dtype`; features are always returned as float32.
        text_cache: Prompt ensembles that are kept between runs, or None.
    """

    _vision: Callable[[Any, Tensor], Tensor] = staticmethod(image_features)
    _vision_and_patches: Callable[[Any, Tensor], tuple[Tensor, Tensor]] = staticmethod(
        image_and_patch_features
    )
    # Another function than `_vision` where that one loops over images.
    _vision_at_once: Callable[[Any, Tensor], Tensor] | None = None

    def __init__(
        self,
        model: PlainCLIPModel | CLIPModel,
        tokenizer: TextTokenizer,
        preprocessing: Preprocessing,
        *,
        name: str,
        settings: Mapping[str, Any],
        fingerprint: Callable[[], str],
        reload: Callable[..., CLIPEncoder] | None = None,
    ) -> None:
        self._model = model
        self._image_features = self._vision
        if settings["compile_images"]:
            # The last batch is often shorter: without dynamic shapes it would be compiled again.
            self._image_features = torch.compile(self._vision, dynamic=True)
        self._tokenizer = tokenizer
        self._settings = settings
        self._fingerprint = fingerprint
        self._known_fingerprint: str | None = None
        self._reload = reload
        self.preprocessing = preprocessing
        self.name = name
        self.exif_orientation: bool = settings["exif_orientation"]
        self.background: tuple[int, int, int] | None = settings["background"]
        self.options = {key: settings[key] for key in _OPTIONS if settings[key] is not None}
        if self.background is not None:
            self.options["background"] = list(self.background)
        self.logit_scale = float(model.logit_scale.detach().cpu().double().exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias.detach().cpu().double())
        self.dim = int(model.config.projection_dim)
        self.n_patches = self._count_patches(model)
        self.context_length = tokenizer.context_length
        self.device: torch.device = model.logit_scale.device
        self.dtype: torch.dtype = model.logit_scale.dtype
        self.text_cache = open_cache(settings["cache"])

    def _count_patches(self, model: Any) -> int:
        vision = model.config.vision_config
        return int(vision.image_size // vision.patch_size) ** 2

    @property
    def text_space(self) -> str:
        """A text that differs if text features differ; it reads all weights at the first use."""
        cut = "cut" if self._tokenizer.truncate else "whole"
        return f"{self.fingerprint} {self.dtype} {self.device.type} {cut}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, dim={self.dim}, device={str(self.device)!r})"

    def __copy__(self) -> Self:
        return self

    __sklearn_clone__ = __copy__

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reload is None:
            raise InputError(
                "An encoder that load_encoder did not make cannot be pickled: use load_encoder."
            )
        # The fingerprint is included if it is known; it would read all weights.
        return self._reload, (self.name, self._settings, self._known_fingerprint)

    # Not functools' cached property, which pyright takes for no `str` of the protocol `Encoder`.
    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, tokenizer, architecture and preprocessing."""
        if self._known_fingerprint is None:
            self._known_fingerprint = self._fingerprint()
        return self._known_fingerprint

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 1024, *, show_progress_bar: bool = False
    ) -> FloatArray:
        """Return the features of m texts, float32 (m, d), not normalised.

        Equal texts are encoded once, common prefixes too, and nothing is padded; see
        `negrefine.encoders.text_tower`. At most `batch_size` texts are encoded at a time. Raises
        InputError for a text that is longer than the model's context and may not be cut.
        """
        return self._encode_texts(self._model, texts, batch_size, show_progress_bar)

    def _encode_texts(
        self, model: Any, texts: Sequence[str], batch_size: int, show_progress_bar: bool
    ) -> FloatArray:
        if isinstance(texts, str):
            raise InputError("encode_texts takes a list of strings, not one string: wrap it in [].")
        Whole(1)("batch_size", batch_size)
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        unique = list(row_of)
        features = np.empty((len(unique), self.dim), dtype=np.float32)
        bar = progress_bar("Encoding texts", len(unique), enabled=show_progress_bar)
        with bar as advance, torch.inference_mode():
            for start in range(0, len(unique), _TEXT_WINDOW):
                ids = self._tokenizer(unique[start : start + _TEXT_WINDOW])
                for rows, encoded in self._iter_text_features(model, ids, batch_size):
                    features[start + rows] = _to_numpy(encoded)
                    advance(len(rows))
        if len(unique) == len(texts):
            return features
        return features[[row_of[text] for text in texts]]

    def _iter_text_features(
        self, model: Any, ids: Sequence[Sequence[int]], batch_size: int
    ) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        """Yield positions in `ids`, and the features of these texts."""
        max_nodes = _CPU_NODES if self.device.type == "cpu" else _GPU_NODES
        return encode_tokens(model, ids, batch_size, max_nodes)

    def encode_images(
        self, images: Images, batch_size: int = 64, *, show_progress_bar: bool = False
    ) -> FloatArray:
        """Return the features of n images, float32 (n, d), not normalised.

        `images` are paths, Pillow images or arrays, as for `read_image`. Raises
        ImageError for one that cannot be read; `iter_encoded_images` carries on past it.
        """
        return self._encode_all(images, batch_size, show_progress_bar, patches=False)[0]

    def encode_images_and_patches(
        self, images: Images, batch_size: int = 64, *, show_progress_bar: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Return the features of images, and of their patches from the same pass, for GL-MCM.

        Image features are those of `encode_images`. Patch features, float32 (n, p, d) for the p
        patches row by row from the top left, are not normalised either. They are those of the last
        block with attention replaced by its own values (arXiv 2304.04521), and take p times the
        memory of image features: for ViT-B/16 400 kB an image. Arguments and errors are those of
        `encode_images`; a model without features of patches (`n_patches` 0) raises EncoderError.
        """
        features, local = self._encode_all(images, batch_size, show_progress_bar, patches=True)
        assert local is not None  # noqa: S101 - patches were asked for
        return features, local

    def encode_patches(self, images: Images, batch_size: int = 64) -> FloatArray:
        """Return the patch features of `encode_images_and_patches`, float32 (n, p, d)."""
        return self.encode_images_and_patches(images, batch_size)[1]

    def _encode_all(self, images: Images, batch_size: int, bar: bool, *, patches: bool) -> Batch:
        check_is_list(images)
        batches = []
        total = len(images) if isinstance(images, Sized) else 0
        with progress_bar("Encoding images", total, enabled=bar) as advance:
            for batch in encode_batches(self, images, batch_size, patches=patches):
                batches.append(batch)
                advance(len(batch[0]))
        return join_batches(batches)

    def iter_encoded_images(
        self, images: Images, batch_size: int = 64, *, patches: bool = False
    ) -> Iterator[EncodedImages]:
        """Encode images batch by batch; an unreadable image becomes an error entry.

        Images are decoded in threads ahead of the model, at most two batches at a time, so memory
        does not grow with the number of images. At least one batch is yielded; without images it
        has no rows.
        """
        self._check_patches(patches)
        check_is_list(images)
        check_items(images)
        # A GPU works on a batch while the one before it is fetched and used.
        n_ahead = 0 if self.device.type == "cpu" else 1
        started: list[Callable[[], EncodedImages]] = []
        for pixels in _read_ahead(self._read_pixels, images, batch_size):
            started.append(self._start(pixels, patches))
            if len(started) > n_ahead:
                yield started.pop(0)()
        for fetch in started:
            yield fetch()

    def encode_pixels(self, pixels: Sequence[FloatArray], *, patches: bool = False) -> Batch:
        """Return features (n, d), and patch features (n, p, d) or None, of prepared images.

        `pixels` are n >= 1 arrays that `preprocessing` made of images, which all go through the
        model at once. For servers, which prepare images as they come.
        """
        self._check_patches(patches)
        batch = self._start(list(pixels), patches)()
        return batch.features, batch.patches

    def image_tower(self) -> ImageTower:
        """Return what makes features of pixels as a module that `torch.export` can trace."""
        return ImageTower(self._model, self._vision_at_once or self._vision)

    def _check_patches(self, wanted: bool) -> None:
        if wanted and not self.n_patches:
            raise EncoderError(
                f"The encoder {self.name!r} gives no patch features: its image tower is not a "
                "vision transformer with CLIP's class token, from which they are read."
            )

    def _read_pixels(self, source: ImageSource) -> _Pixels:
        try:
            return use_image(
                source,
                self.preprocessing,
                exif_orientation=self.exif_orientation,
                background=self.background,
                bytes_of_use=self.preprocessing.memory_bytes,
            )
        except ImageError as error:
            # Errors of the preprocessing do not name the file.
            file = f"{source}: " if isinstance(source, (str, os.PathLike)) else ""
            return error if str(error).startswith(visible(file)) else ImageError(f"{file}{error}")

    @torch.inference_mode()
    def _start(self, pixels: list[_Pixels], patches: bool) -> Callable[[], EncodedImages]:
        """Start encoding a batch, on a GPU without waiting; the result fetches its features."""
        readable = [image for image in pixels if not isinstance(image, ImageError)]
        errors = [image if isinstance(image, ImageError) else None for image in pixels]
        features, local = torch.empty(0, self.dim), torch.empty(0, self.n_patches, self.dim)
        if readable:
            batch = torch.from_numpy(np.stack(readable))
            if self.device.type == "cuda":
                batch = batch.pin_memory()
            batch = batch.to(self.device, non_blocking=True).to(self.dtype)
            if patches:
                features, local = self._vision_and_patches(self._model, batch)
            else:
                features = self._image_features(self._model, batch)
        return lambda: EncodedImages(
            _to_numpy(features), errors, _to_numpy(local) if patches else None
        )


class ImageTower(nn.Module):
    """Prepared pixels (n, 3, h, w) to features (n, d), not normalised, in one graph for every n."""

    def __init__(self, model: nn.Module, features: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._features = features

    def forward(self, pixels: Tensor) -> Tensor:
        return self._features(self.model, pixels)


def _to_numpy(features: Tensor) -> FloatArray:
    array: FloatArray = features.float().cpu().numpy()
    return array


def _read_ahead(
    read: Callable[[ImageSource], _Pixels], sources: Images, batch_size: int
) -> Iterator[list[_Pixels]]:
    """Yield the results of `read` in batches while the next one is read; one batch at least."""
    Whole(1)("batch_size", batch_size)
    remaining = iter(sources)
    waiting = UndecodedBytes()
    with ThreadPoolExecutor(max_workers=_DECODE_WORKERS) as pool:

        def submit() -> list[Future[_Pixels]]:
            return [
                waiting.counted(source, pool.submit(read, source))
                for source in waiting.with_room(islice(remaining, batch_size))
            ]

        current = submit()
        while following := submit():
            yield [future.result() for future in current]
            current = following
        yield [future.result() for future in current]
