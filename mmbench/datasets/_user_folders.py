"""Folders of the user's that mmbench reads from and writes to when no other is named."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root(cache: Path | None = None) -> Path:
    """Return the folder of everything that can be made again: prepared pixels, remembered hashes.

    Args:
        cache: Itself, where given; None is the environment variable MMBENCH_CACHE or, where that is not set,
            the user's cache folder of this system.
    """
    import platformdirs

    return Path(cache or os.environ.get("MMBENCH_CACHE") or platformdirs.user_cache_dir("mmbench"))
