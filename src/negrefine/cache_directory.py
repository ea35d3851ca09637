"""The directory of answers and embeddings that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "NEGREFINE_CACHE"


def cache_directory() -> Path:
    """Return $NEGREFINE_CACHE, or the user's cache directory on this operating system."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("negrefine", appauthor=False))
