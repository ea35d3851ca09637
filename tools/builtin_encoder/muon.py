"""Muon: that of torch always computes in bfloat16, which most CPUs emulate slowly."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from device import fast_arithmetic
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised by five Newton-Schulz iterations.

    Keller Jordan's optimizer (2024), scaled so that the root mean square of a step is 0.2 times the
    learning rate (Moonshot's variant), as for AdamW. Each filter of a convolution is one row.
    Matrices of equal shape are processed together.
    """

    def __init__(
        self, matrices: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Take one step."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                by_shape[len(matrix), matrix[0].numel()].append(matrix)
            for shape, matrices in by_shape.items():
                updates = []
                for matrix in matrices:
                    gradient = matrix.grad.reshape(shape)
                    state = self.state[matrix]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(gradient)
                    buffer = state["momentum"]
                    buffer.lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(buffer, group["momentum"]))
                with fast_arithmetic():
                    steps = orthogonalised(torch.stack(updates)).float()
                scale = 0.2 * max(shape) ** 0.5
                for matrix, step in zip(matrices, steps, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(step.reshape(matrix.shape), alpha=-group["lr"] * scale)


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return matrices (n, rows, columns) with singular values near one."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def split_parameters(model: torch.nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inner matrices and filters, which Muon optimizes, and all other parameters."""
    inner, others = [], []
    for name, parameter in model.named_parameters():
        outer = any(word in name for word in ("embed", "projection", "stem"))
        (others if outer or parameter.ndim == 1 else inner).append(parameter)
    return inner, others
