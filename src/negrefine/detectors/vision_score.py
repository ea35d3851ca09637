"""S_VLM: what a vision-language model says of an image, as pure functions of its answers.

a_i and b_j are log P(yes) - log P(no) for "Is there a {name} in this image?", asked of the class
names i and the negative labels j that are nearest to the image. NaN is an answer that was left
undecided; whatever depends on it is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.detectors.scores import Part, negrefine_score


def vision_score(class_margins: ArrayLike, negative_margins: ArrayLike) -> NDArray[np.float64]:
    """S_VLM = max_ij sigmoid(a_i) sigmoid(b_j), float64 (n,), of margins (n, I) and (n, J).

    The probability that the image shows a class together with a negative label, by the pair for
    which it is largest, if the model's answers were independent. It asks of the image itself what
    S_MM asks of embeddings of "p_i and n_j" (NegRefine, ICCV 2025, arXiv 2507.09795).

        >>> vision_score([[np.inf, 0.0]], [[0.0]])
        array([0.5])
    """
    a, b = sigmoid(class_margins), sigmoid(negative_margins)
    largest: NDArray[np.float64] = (a[:, :, None] * b[:, None, :]).max(axis=(1, 2))
    return largest


def class_seen(class_margins: ArrayLike) -> NDArray[np.float64]:
    """V = max_i sigmoid(a_i) of margins (n, I), float64 (n,) in [0, 1]: is one of the classes seen?

    >>> class_seen([[-np.inf, 0.0]])
    array([0.5])
    """
    seen: NDArray[np.float64] = sigmoid(class_margins).max(axis=1)
    return seen


def corrected_margins(margins: ArrayLike, grey_margins: ArrayLike) -> NDArray[np.float64]:
    """Margins less those for the same names on a grey image, which shows none of them.

    The difference takes out how readily the model says yes to a name whatever it sees. Where a
    margin on grey is infinite, only a word being known, or NaN, the result is NaN: undecided.

        >>> corrected_margins([1.0, np.inf, 1.0], [0.5, 0.5, -np.inf])
        array([0.5, inf, nan])
    """
    grey = np.asarray(grey_margins, dtype=np.float64)
    return np.asarray(margins, dtype=np.float64) - np.where(np.isfinite(grey), grey, np.nan)


def checked_score(
    neglabel: Part, multi_match: Part, vision: Part, alpha: Part | float, weight: float
) -> Part:
    """S = S_NegLabel + alpha [(1 - w) S_MM + w S_VLM]; w = 0 is NegRefine's score, bit for bit.

    >>> checked_score(0.5, 1.0, 0.0, alpha=2.0, weight=0.25)
    2.0
    """
    if weight == 0:
        return negrefine_score(neglabel, multi_match, alpha)
    return neglabel + alpha * ((1 - weight) * multi_match + weight * vision)


def sigmoid(margins: ArrayLike) -> NDArray[np.float64]:
    """Return 1 / (1 + e^-x), exact at the infinities, NaN for NaN."""
    x = np.asarray(margins, dtype=np.float64)
    # numpy calls NaN invalid, which here is an answer like any other.
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = np.exp(-np.logaddexp(0, -x))
    return result
