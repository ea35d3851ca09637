"""A convolution, its ReLU6 and the addition after it in one pass, where oneDNN can.

On x86 CPUs torch computes float32 convolutions with oneDNN, and each call arranges the weights
anew and returns before the activation. The operators that torch's compiler uses take weights that
were arranged once, and apply what follows while the result is in the cache. They are not part of
torch's public interface, so plain operators are used wherever anything is different.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Conv2d):
    """A convolution for inference, followed by ReLU6, by an addition or by nothing."""

    _arranged: Tensor | None = None

    def convolve(self, x: Tensor) -> Tensor:
        """Return the convolution of `x`."""
        if not _can_fuse(x):
            plain: Tensor = self(x)
            return plain
        return self._fused(x, "none", [])

    def with_relu6(self, x: Tensor) -> Tensor:
        """Return the convolution of `x`, clamped to 0 to 6."""
        if not _can_fuse(x):
            return functional.relu6(self(x), inplace=True)
        return self._fused(x, "hardtanh", [0.0, 6.0])

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """Return `other` + the convolution of `x`; `other` may be overwritten."""
        if not _can_fuse(x):
            return other.add_(self(x))
        added: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other, x, self._weights(x), self.bias, *self._settings(), "add", 1.0, None, [], None
        )
        return added

    def _fused(self, x: Tensor, activation: str, bounds: list[float]) -> Tensor:
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weights(x), self.bias, *self._settings(), activation, bounds, ""
        )
        return result

    def _settings(self) -> tuple[Any, ...]:
        return self.padding, self.stride, self.dilation, self.groups

    def _weights(self, x: Tensor) -> Tensor:
        if self._arranged is None:
            self._arranged = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, *self._settings(), list(x.shape)
            )
        return self._arranged


def _can_fuse(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_inference_mode_enabled()
        and not torch.compiler.is_compiling()
        and _has_operators()
    )


@cache
def _has_operators() -> bool:
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    return (
        platform.machine() in {"x86_64", "AMD64"}
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )
