"""Settings for every test, made before JAX is imported; subprocesses inherit them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Tests that start the real program in a process of its own compile the same functions again and again.
    _cache = tempfile.mkdtemp(prefix="dreamer-test-compilation-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)


LONG_FOLDERS = (
    "learning", "integration", "model", "readme", "api", "experiments", "golden", "doctor", "check", "training",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that the two processes of a run end together: a file is never split between them."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONG_FOLDERS) if name in item.path.parts), 99))
