"""From an RGB image to the float tensor that a CLIP image tower takes, as torchvision does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from negrefine.constraints import FINITE, POSITIVE, Boolean, OneOf, Whole
from negrefine.errors import ImageError, InputError

# Pillow's numbers, which preprocessor_config.json uses.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# What the families of Hugging Face image processors assume for fields that a file leaves out.
_CLIP_DEFAULTS: Mapping[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": 224,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}
_SIGLIP_CHANGES: Mapping[str, Any] = {
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
_FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "CLIP": {},
    "ChineseCLIP": {},
    "Bit": {},
    "Siglip": _SIGLIP_CHANGES,
    "ViT": {**_SIGLIP_CHANGES, "resample": 2},
    "DeiT": {**_SIGLIP_CHANGES, "size": {"height": 256, "width": 256}, "do_center_crop": True},
    "Blip": {"size": {"height": 384, "width": 384}, "do_center_crop": False},
    "EfficientNet": {
        **_SIGLIP_CHANGES,
        "size": {"height": 346, "width": 346},
        "crop_size": 289,
        "rescale_offset": False,
        "include_top": True,
    },
}
_DEFAULTS = {
    family + ending: {**_CLIP_DEFAULTS, **changes}
    for family, changes in _FAMILIES.items()
    for ending in ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
}

_Triple: TypeAlias = tuple[float, float, float]

# Resized, a very elongated image would not fit in memory: 1 x 30,000 pixels with a shorter side of
# 224 become 1.5 billion.
MAX_RESIZED_PIXELS = 2**26


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, rescale and normalise, bit for bit like the published code.

    Change a field with `dataclasses.replace`, for example `resample="bilinear"` for the pipeline of
    MCM, GL-MCM, NegLabel and CSP. Raises InputError for fields that make no sense.
    """

    resize: int | tuple[int, int] | None = 224
    """Shorter side in pixels, or (height, width), or None for no resizing."""
    crop: tuple[int, int] | None = (224, 224)
    """(height, width) of the centre crop in pixels, or None for no cropping."""
    resample: str = "bicubic"
    """Pillow's filter: nearest, box, bilinear, hamming, bicubic or lanczos."""
    rescale_factor: float = 1 / 255
    """Factor on 8-bit values, applied as a float32 division by its inverse."""
    mean: tuple[float, float, float] = _CLIP_MEAN
    """Red, green and blue, subtracted after rescaling."""
    std: tuple[float, float, float] = _CLIP_STD
    """Red, green and blue, divided by after the mean is subtracted."""
    whole: bool = False
    """`resize` is the longer side, so that the crop shows the whole image with a margin."""
    fill: int = 0
    """Red, green and blue of the margin around an image that is smaller than the crop."""

    def __post_init__(self) -> None:
        sides = (self.resize,) if isinstance(self.resize, int) else self.resize or ()
        if not all(_is_side(side) for side in (*sides, *(self.crop or ()))):
            raise InputError(
                f"resize and crop must be whole positive pixel counts, not {self.resize!r} and"
                f" {self.crop!r}."
            )
        OneOf(_FILTERS)("resample", self.resample)
        Boolean()("whole", self.whole)
        Whole(0, maximum=255)("fill", self.fill)
        POSITIVE("rescale_factor", self.rescale_factor)
        for value in self.mean:
            FINITE("mean", value)
        for value in self.std:
            POSITIVE("std", value)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, resample: str | None = None
    ) -> Preprocessing:
        """Read the content of a preprocessor_config.json or processor_config.json.

        Sizes may be whole numbers, [height, width] or mappings; a field that is missing or null
        takes the default of the processor family that the file names (CLIP if it names none).
        `resample` replaces the filter of the file. Raises InputError if a field makes no sense, or
        for a family whose pixels this class cannot reproduce.
        """
        inner = config.get("image_processor")
        given = inner if isinstance(inner, Mapping) else config
        kind = given.get("image_processor_type") or given.get("feature_extractor_type")
        defaults = _CLIP_DEFAULTS if kind is None else _DEFAULTS.get(kind)
        if defaults is None:
            raise InputError(
                f"The image processor {kind!r} of the preprocessor configuration is not supported;"
                f" use a model with one of {', '.join(_FAMILIES)}."
            )
        fields = {**defaults, **{key: v for key, v in given.items() if v is not None}}
        for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            Boolean()(name, fields[name])
        square = "height" in defaults["size"]
        mean, std = _normalisation(fields)
        return cls(
            resize=_size("size", fields["size"], square) if fields["do_resize"] else None,
            crop=_crop(fields["crop_size"]) if fields["do_center_crop"] else None,
            resample=_filter_name(fields["resample"] if resample is None else resample),
            rescale_factor=_number("rescale_factor", fields["rescale_factor"])
            if fields["do_rescale"]
            else 1.0,
            mean=mean,
            std=std,
        )

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values: equal settings give equal dictionaries.

        `whole` and `fill` are there only where they differ from the default: saved detectors hold a
        checksum of a dictionary without them.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in ("whole", "fill") or value
        }

    @property
    def output_size(self) -> tuple[int, int] | None:
        """(height, width) of every result in pixels, or None if it depends on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def __call__(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the pixels of an RGB image as a new float32 array of shape (3, h, w).

        Raises InputError for another mode (`read_image` returns RGB), and ImageError for more than
        `MAX_RESIZED_PIXELS` pixels after resizing.
        """
        if image.mode != "RGB":
            raise InputError(
                f"Preprocessing takes images in mode RGB, not {image.mode}; read them with"
                " read_image."
            )
        pixels = np.asarray(self._cropped(self._resized(image)))
        result = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        for channel in range(3):
            # Every index is valid; the other modes of `take` skip a copy that mode "raise" makes.
            np.take(self._levels[channel], pixels[..., channel], out=result[channel], mode="clip")
        return result

    def memory_bytes(self, size: tuple[int, int]) -> int:
        """Return about how many bytes it takes to prepare an image of `size` = (width, height)."""
        width, height = size if self.resize is None else self._resized_size(size)
        shown = self.crop or (height, width)
        resizing = 0 if self.resize is None else 4 * width * (height + size[1])
        # 8-bit copies in and out of Pillow, and 32-bit numbers, all with 3 colours.
        return resizing + 22 * shown[0] * shown[1]

    @cached_property
    def _levels(self) -> npt.NDArray[np.float32]:
        """(3, 256): the result for each channel and 8-bit value, rounded as by torchvision."""
        divisor = np.float32(1 / self.rescale_factor)
        values = np.arange(256, dtype=np.float32) / divisor
        mean = np.asarray(self.mean, dtype=np.float32)[:, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None]
        return np.ascontiguousarray((values - mean) / std)

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize is None:
            return image
        size = self._resized_size(image.size)
        if size[0] * size[1] > MAX_RESIZED_PIXELS:
            raise ImageError(
                f"An image of {image.width:,} x {image.height:,} pixels is too elongated (it would"
                f" be resized to {size[0]:,} x {size[1]:,}); crop it first."
            )
        if size == image.size:
            return image
        return image.resize(size, Image.Resampling(_FILTERS.index(self.resample)))

    def _cropped(self, image: Image.Image) -> Image.Image:
        if self.crop is None:
            return image
        height, width = self.crop
        left, top = crop_offset(image.width, width), crop_offset(image.height, height)
        if self.fill and (left < 0 or top < 0):
            canvas = Image.new("RGB", (width, height), (self.fill,) * 3)
            canvas.paste(image, (-left, -top))
            return canvas
        # Pillow fills with zeros outside the image.
        return image.crop((left, top, left + width, top + height))

    def _resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        assert self.resize is not None  # noqa: S101 - asked only then
        if self.whole and isinstance(self.resize, int):
            return fitted_size(size, self.resize)
        return resized_size(size, self.resize)


def resized_size(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) after resizing an image of `size` = (width, height), in pixels.

    `resize` is the length of the shorter side or (height, width). The longer side is truncated, as
    in torchvision's Resize.
    """
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    width, height = size
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def fitted_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (width, height) of an image whose longer side becomes `side` pixels.

    The shorter side is rounded, half pixels to even, as in open_clip's ResizeKeepRatio.
    """
    ratio = max(size) / side
    return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))


def crop_offset(length: int, crop: int) -> int:
    """Return where a centre crop of `crop` pixels begins on a side; negative on a shorter one.

    Half pixels are rounded to even, as in torchvision's CenterCrop.
    """
    if length < crop:
        return -((crop - length) // 2)
    return round((length - crop) / 2)


def _size(name: str, value: Any, square: bool) -> int | tuple[int, int]:
    """Return the shorter side or (height, width); one number is both of these if `square`."""
    size = value
    if isinstance(value, Mapping):
        given = {key: side for key, side in value.items() if side is not None}
        if set(given) == {"height", "width"}:
            size = given["height"], given["width"]
        elif set(given) == {"shortest_edge"}:
            size, square = given["shortest_edge"], False
    if _is_side(size):
        return (size, size) if square else int(size)
    if isinstance(size, Sequence) and len(size) == 2 and all(map(_is_side, size)):
        return size[0], size[1]
    expected = "a whole number, {'shortest_edge': ...} or {'height': ..., 'width': ...}"
    raise _unusable(name, value, expected)


def _crop(value: Any) -> tuple[int, int]:
    size = _size("crop_size", value, square=True)
    if isinstance(size, int):
        raise _unusable("crop_size", value, "a whole number or {'height': ..., 'width': ...}")
    return size


def _filter_name(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_FILTERS):
        return _FILTERS[value]
    if isinstance(value, str) and value.lower() in _FILTERS:
        return value.lower()
    raise _unusable("resample", value, f"0 to 5 or one of {', '.join(_FILTERS)}")


def _normalisation(fields: Mapping[str, Any]) -> tuple[_Triple, _Triple]:
    """Return what is subtracted from rescaled values, and by what they are divided then."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if fields["do_normalize"]:
        mean = _triple("image_mean", fields["image_mean"])
        std = _triple("image_std", fields["image_std"])
    # EfficientNet's processor may subtract one from rescaled values, and divides once more for its
    # classifier.
    for name in ("rescale_offset", "include_top"):
        Boolean()(name, fields.get(name, False))
    if fields.get("rescale_offset") and fields["do_rescale"]:
        mean = (mean[0] + 1, mean[1] + 1, mean[2] + 1)
    if fields.get("include_top"):
        given = _triple("image_std", fields["image_std"])
        std = (std[0] * given[0], std[1] * given[1], std[2] * given[2])
    return mean, std


def _number(name: str, value: Any) -> float:
    FINITE(name, value)
    return float(value)


def _triple(name: str, value: Any) -> tuple[float, float, float]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    if len(values) != 3:
        raise _unusable(name, value, "three numbers")
    return _number(name, values[0]), _number(name, values[1]), _number(name, values[2])


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _unusable(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"{name} must be {expected}, not {value!r}.")
