"""Real numbers out of whatever arrays, tensors and lists hold them."""

from __future__ import annotations

import numbers
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.errors import InputError

_KNOWN_FLOATS = {"torch.float16", "torch.float32", "torch.float64"}


def as_real(values: Any, what: str) -> NDArray[Any]:
    """Return real numbers as an array.

    Tensors may be of any float type, layout, device and gradient, alone or in a list; a sparse
    matrix is filled with zeros.

    Raises:
        InputError: Masked, complex, missing and other values; `what` begins the sentence.
    """
    if isinstance(values, (list, tuple)) and any(map(_needs_care, values)):
        values = [as_real(value, what) for value in values]
    elif hasattr(values, "detach"):
        values = _from_tensor(values, what)
    elif hasattr(values, "toarray"):
        values = values.toarray()
    if _is_masked_array(values) and np.ma.is_masked(values):
        raise InputError(f"{what} are masked in places: fill them or leave those rows out.")
    try:
        array = np.asarray(values)
        if array.dtype == object:
            # Texts such as "0.5" would become numbers.
            others = (type(x).__name__ for x in array.flat if not _is_number(x))
            if other := next(others, None):
                raise TypeError(f"one is of type {other}")
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{what} are not an array of numbers ({error}).") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} must be real numbers, not {array.dtype}.")
    return array


def _needs_care(value: object) -> bool:
    """Whether numpy fails at an item of a list, or takes it for what it is not."""
    if isinstance(value, (list, tuple)):
        return any(map(_needs_care, value))
    return hasattr(value, "detach") or _is_masked_array(value)


def _is_masked_array(value: object) -> bool:
    # numpy imports its masked arrays when they are first named.
    if type(value) is np.ndarray or not isinstance(value, np.ndarray):
        return False
    return isinstance(value, np.ma.MaskedArray)


def _is_number(value: object) -> bool:
    # Decimal is a number for Python, but neither real nor complex.
    if isinstance(value, (bool, np.bool_)):
        return False
    return isinstance(value, (numbers.Real, Decimal))


def _from_tensor(tensor: Any, what: str) -> NDArray[Any]:
    if tensor.is_meta:
        raise InputError(f"{what} are a tensor on the device 'meta', which holds no values.")
    if tensor.is_complex():
        raise InputError(f"{what} must be real numbers, not complex ones.")
    try:
        tensor = tensor.detach()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
        tensor = tensor.cpu().resolve_neg()
        # NumPy has neither bfloat16 nor the types of eight bits.
        if tensor.is_floating_point() and str(tensor.dtype) not in _KNOWN_FLOATS:
            tensor = tensor.float()
        array: NDArray[Any] = tensor.numpy()
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{what} are a tensor that is no array of numbers ({problem}).") from error
    return array
