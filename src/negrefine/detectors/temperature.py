"""What temperature 1 on raw cosines means for an encoder whose scale is not CLIP's."""

from __future__ import annotations

import warnings

from negrefine.encoders.base import Encoder

_CLIP_SCALE = 100.0
# Within a factor of five the softmax is about as flat as with CLIP's scale.
_USUAL = (20.0, 500.0)
_PUBLISHED = 1.0


def clip_temperature(logit_scale: float) -> float:
    """Return the temperature that does with this scale what 1 does with CLIP's scale of 100.

    Softmax of s / T: the published T = 1 divides logits 100 s of CLIP by 100. Logits c s are
    divided by as much if T = 100 / c.
    """
    return _CLIP_SCALE / logit_scale


def warn_of_other_scale(encoder: Encoder, temperature: float) -> None:
    """Warn if the published temperature is used with cosines that are not scaled like CLIP's.

    They are not if the encoder was trained with a sigmoid for each pair (`logit_bias`), or if its
    logit scale is far from 100. Encoders of one's own, which say nothing of a bias, are left alone.
    """
    if temperature != _PUBLISHED or not hasattr(encoder, "logit_bias"):
        return
    low, high = _USUAL
    if encoder.logit_bias is None and low <= encoder.logit_scale <= high:
        return
    warnings.warn(
        f"The temperature {temperature:g} was published for CLIP, whose training scales cosines by "
        f"100, and that of {encoder.name!r} scales them by {encoder.logit_scale:.4g}"
        f"{' and shifts them' if encoder.logit_bias is not None else ''}: scores are not "
        f"comparable, and temperature={clip_temperature(encoder.logit_scale):.3g} does what 1 does "
        "for CLIP.",
        stacklevel=2,
    )
