"""Settings for every test, made before JAX is imported; subprocesses inherit them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Tests that start the real program in a process of its own compile the same functions again and again.
    _cache = tempfile.mkdtemp(prefix="dreamer-test-compilation-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
