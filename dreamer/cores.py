"""Each core of a CPU as a device of JAX, over which batches are split. Decided before JAX starts.

XLA on a CPU shares out every single operation, and many are too small for that, or wait for the slower half. With a
device for each core whole sequences are learned side by side, and the cores meet for the gradients alone. Weights are
read by every device, though: a small model of vectors gains, a large one and convolutions lose
(`experiments/benchmark/NOTES.md`).
"""

from __future__ import annotations

import importlib.util
import os

from dreamer.config import Config, mesh_sizes
from envs.spaces import ImageSpec, ObservationSpec

SMALL = 512  # recurrent units: at 512 (1m) an update gains, at 2048 (12m) it loses
# With one of them JAX prefers something else to the CPU.
PLUGINS = (
    "jax_cuda12_plugin",
    "jax_cuda13_plugin",
    "jax_rocm7_plugin",
    "libtpu",
)
POOL_SIZE = "NPROC"  # read by XLA: threads that share out the operations of all CPU devices

_devices = 1  # that this process has asked for


def split_cores(config: Config, observation_spec: ObservationSpec) -> None:
    """Asks JAX for several CPU devices with one thread each, if that suits the run and JAX has not started."""
    global _devices
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    count = wanted_devices(config, observation_spec, cores=cores)
    if count == 1 or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started
        return
    os.environ[POOL_SIZE] = "1"
    _devices = count


def wanted_devices(config: Config, observation_spec: ObservationSpec, *, cores: int) -> int:
    """As many as `--mesh` names; else one for each core, as far as a batch divides, for small models of vectors."""
    if config.device != "cpu" and os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(_is_installed, PLUGINS)):
        return 1
    if config.mesh:
        data, model = mesh_sizes(config.mesh)
        return data * model
    sees_images = any(isinstance(spec, ImageSpec) for spec in observation_spec.values())
    if sees_images or config.world.rssm.deter > SMALL:
        return 1
    rows = config.replay.batch_size
    return max(count for count in range(1, max(1, min(cores, rows)) + 1) if rows % count == 0)


def mesh_of(config: Config) -> str:
    """The mesh of a run: `--mesh`, or the cores over which it was split."""
    return config.mesh or (f"data={_devices}" if _devices > 1 else "")


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
