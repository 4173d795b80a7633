"""How the update is compiled, and how compiled programs outlive the process: a second start compiles nothing."""

from __future__ import annotations

import os
from pathlib import Path

import jax

MINE = "dreamer-jax"


def cache_compilations() -> Path | None:
    """Lets JAX keep compiled programs in the user's cache folder; returns it, or None where it cannot be written.

    A folder that JAX was already given (`JAX_COMPILATION_CACHE_DIR`, or its configuration) stays. An entry is found by
    program, versions, flags and device, so nothing outdated is ever used; one that cannot be read is compiled again.
    """
    given: str | None = jax.config.values["jax_compilation_cache_dir"]
    folder = Path(given) if given else user_cache() / MINE / "compilations"
    if not given:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        if not os.access(folder, os.W_OK):
            return None
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def user_cache() -> Path:
    """Where programs keep what can be made again (`XDG_CACHE_HOME`, or `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def compiler_options() -> dict[str, bool]:
    """For the update: on a CPU operations run one after the other, each on all cores.

    Side by side they evict each other's operands from the cache: a 12m update took 3.9 seconds, in turn it takes 3.1
    (`experiments/benchmark/NOTES.md`).
    """
    return {"xla_cpu_enable_concurrency_optimized_scheduler": False} if jax.default_backend() == "cpu" else {}
