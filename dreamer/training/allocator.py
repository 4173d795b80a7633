"""Keeps freed memory in the process. A leaf without JAX, called before JAX starts."""

from __future__ import annotations

import ctypes
import sys

# Names and numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc to reuse large blocks instead of returning them to the system; False where there is no glibc.

    XLA on a CPU allocates the temporary memory of every call anew. Blocks of that size would be mapped, filled with
    zeros page by page, and unmapped again: 370 MB in each update of the 1m model. One arena, since only the main one
    can hold such blocks; called before XLA starts its threads, since a thread keeps its arena.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER))
    return [mallopt(name, value) for name, value in settings] == [1, 1, 1]
