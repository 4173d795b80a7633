"""How the update is compiled, and how compiled programs outlive the process: a second start compiles nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


class Program:
    """A jitted function for arguments of one kind: compiled once, early if wanted, and never a second time.

    Args:
        function: what `jax.jit` returned.
        compiled: called once, between compiling and running: where several hosts wait for each other.

    Attributes:
        device_bytes: what it occupies on one device while it runs, as far as XLA plans it; None before it is compiled.
    """

    def __init__(self, function: Any, *, compiled: Callable[[], object] = lambda: None) -> None:
        self._function, self._tell = function, compiled
        self._compiled: Any = None
        self.device_bytes: int | None = None

    def compile(self, *arguments: Any) -> None:
        """Compiles it for such arguments, without running it."""
        if self._compiled is None:
            self._compiled = self._function.lower(*arguments).compile()
            self.device_bytes = _device_bytes(self._compiled)
            self._tell()

    def __call__(self, *arguments: Any) -> Any:
        """Runs it; the first call compiles it.

        Raises:
            TypeError: the arguments are of another kind than it was compiled for.
        """
        self.compile(*arguments)
        return self._compiled(*arguments)


def _device_bytes(compiled: jax.stages.Compiled) -> int | None:
    needs = compiled.memory_analysis()
    if needs is None:  # not every backend tells
        return None
    held = needs.argument_size_in_bytes + needs.output_size_in_bytes - needs.alias_size_in_bytes
    return held + needs.temp_size_in_bytes + needs.generated_code_size_in_bytes


@functools.cache
def compiler_options() -> dict[str, bool | str]:
    """For the update on a CPU, as far as this XLA knows them; each was measured (`experiments/benchmark/NOTES.md`).

    Operations run one after the other, each on all cores: side by side they evict each other's operands from the cache.
    Vectors are as wide as the processor has them; LLVM alone stops at 256 bits.
    Convolutions are Eigen's, which use all cores, not YNNPACK's, which use one; from JAX 0.12 on so do YNNPACK's.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, bool | str] = {
        "xla_cpu_enable_concurrency_optimized_scheduler": False,
        "xla_cpu_prefer_vector_width": "512",
    }
    if jax.__version_info__ < (0, 12):
        options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    return {name: value for name, value in options.items() if _accepts({name: value})}


def _accepts(options: dict[str, bool | str]) -> bool:
    """Options of XLA come and go; an unknown one would end every run."""
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except (jax.errors.JaxRuntimeError, ValueError):
        return False
    return True
