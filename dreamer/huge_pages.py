"""Large memory pages for the arrays of an update. No JAX here.

XLA on a CPU asks the system for fresh memory in every call and gives it back: a quarter of an update of the 1m model
went into 90,000 page faults. With pages of 2 MB there are 300 (`experiments/benchmark/NOTES.md`). The kernel has to be
told, and glibc does so where its tunable is set, which it reads once, before Python starts.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
OLDEST_GLIBC = (2, 35)
KERNEL_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Replaces this process with the same command under the tunable, where that changes anything; else returns."""
    tunables = os.environ.get(TUNABLES, "")
    if HUGE_PAGES in tunables or not asking_helps():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[TUNABLES] = ":".join(filter(None, [tunables, f"{HUGE_PAGES}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def asking_helps(mode_file: Path = KERNEL_MODE) -> bool:
    """Whether the kernel gives large pages to those who ask for them, and glibc can ask."""
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        return False
    try:
        return "[madvise]" in mode_file.read_text()
    except OSError:
        return False
