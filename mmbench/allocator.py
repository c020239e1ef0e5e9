"""How this process's memory allocator treats freed memory; one setting for every method of a run.

glibc gives large blocks back to the system after every operation and asks for them again in the next one, and
the page faults of that can take 40 % of a step on a CPU. The command line turns it off; a library must not.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""
_NEVER = 2**31 - 1
AS_IT_COMES, KEPT = "as it comes", "freed memory is kept"

_setting = AS_IT_COMES


def keep_freed_memory() -> bool:
    """Let glibc keep the blocks that are freed, for the rest of the process and the processes forked from it.

    The resident set then stays at its peak. No result changes.

    Returns:
        Whether the allocator took the setting; False where the C library is another one.
    """
    global _setting
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    taken = bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, _NEVER))
    if taken:
        _setting = KEPT
    return taken


def allocator_setting() -> str:
    """Return how freed memory is treated in this process, in words, for records and profiles."""
    return _setting
