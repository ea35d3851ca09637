"""The client of the hub, for the address of the environment and without bars in log files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from negrefine.errors import NegrefineError
from negrefine.pretrained.hub import check_hub_address


@contextmanager
def hub_client(token: str | None, error: type[NegrefineError]) -> Iterator[Any]:
    """Yield `HfApi` for $HF_ENDPOINT; `error` if that is no address of a hub.

    It draws progress bars on a terminal only. `token` None is the one of the environment or of
    `hf auth login`.
    """
    check_hub_address(error)
    from huggingface_hub import HfApi
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    silenced = not (sys.stderr.isatty() or are_progress_bars_disabled())
    if silenced:
        disable_progress_bars()
    try:
        yield HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    finally:
        if silenced:
            enable_progress_bars()
