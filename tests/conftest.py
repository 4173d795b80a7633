"""Settings for every test, made before JAX is imported; subprocesses inherit them."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Two processes test side by side: with a thread each they do not wait for one another's cores (a sixth of the time),
# and at level 1 LLVM needs two thirds of the time for code that is as fast at these sizes.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Tests that start the real program in a process of its own compile the same functions again and again.
    _cache = tempfile.mkdtemp(prefix="dreamer-test-compilation-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)


LONG_FOLDERS = (
    "learning", "integration", "model", "readme", "api", "experiments", "golden", "doctor", "check", "training",
)  # fmt: skip


FULLY_OPTIMIZED = ("golden", "learning", "experiments")  # numbers to compare, and what runs longer than it compiles


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Most tests wait for the compiler, not for what it made: ask it for less, here and in what a test starts."""
    quick = not set(FULLY_OPTIMIZED) & set(item.path.parts)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(quick)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_disable_most_optimizations", quick)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that the two processes of a run end together: a file is never split between them."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONG_FOLDERS) if name in item.path.parts), 99))
