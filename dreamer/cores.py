"""Training on a CPU with one JAX device for each core: a batch is split among them, as over several GPUs.

XLA by itself runs small operations on one core: a second core makes an update of the 1m model only 1.3 times as fast.
Rows of its own for each core gain 12 % there and with images, and nothing with 12m on vectors; measured on two cores
only (`experiments/benchmark/NOTES.md`). The module itself imports no JAX, which reads the number when it starts.
"""

from __future__ import annotations

import dataclasses
import os

from dreamer.config import Config

LEAST_ROWS = 4  # of a batch for each device: below, the products of the recurrence are too thin
COUNT = "jax_num_cpu_devices"
FORCED = "host_platform_device_count"  # in XLA_FLAGS: somebody simulates devices


def cores_as_devices(config: Config, *, cores: int) -> None:
    """Before JAX starts: as many CPU devices as this process may use cores and the batch can be divided among."""
    if config.mesh or config.hosts.count != 1 or FORCED in os.environ.get("XLA_FLAGS", ""):
        return
    import jax

    jax.config.update(COUNT, devices_for(config.replay.batch_size, cores=cores))


def over_cores(config: Config) -> Config:
    """With the mesh of those devices, where JAX has chosen the CPU and nobody another mesh."""
    import jax

    count = jax.config.values[COUNT]
    if config.mesh or config.hosts.count != 1 or count < 2 or jax.default_backend() != "cpu":
        return config
    return dataclasses.replace(config, mesh=f"data={count}")


def devices_for(rows: int, *, cores: int) -> int:
    """The largest divisor of the rows that leaves each device enough of them, and a core."""
    return max(n for n in range(1, cores + 1) if n == 1 or (rows % n == 0 and rows // n >= LEAST_ROWS))
