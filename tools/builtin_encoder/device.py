"""Where to train, and in which precision."""

from __future__ import annotations

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_arithmetic() -> torch.autocast:
    """Return a context with matrix products in bfloat16 if the hardware supports them.

    A CPU without support emulates bfloat16, several times slower than float32.
    """
    fast = DEVICE.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=fast)
