"""Median time of one update on this device, for a few workloads: `python experiments/gpu/update_time.py OUT.json`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

from dreamer.data.layout import StepLayout
from dreamer.training.state import Definition
from dreamer.training.step import make_train_step
from dreamer.types import Batch, CompactLatent
from dreamer.validation import resolve
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, action_width

WALKER: tuple[ObservationSpec, ActionSpec] = (
    {"orientations": VectorSpec(14), "height": VectorSpec(1), "velocity": VectorSpec(9)},
    {"action": VectorSpec(6)},
)
PONG: tuple[ObservationSpec, ActionSpec] = ({"image": ImageSpec(64, 64, 3)}, {"action": DiscreteSpec((6,))})
WORKLOADS = {
    "proprio 1m": ("dmc_walker_walk", "1m", WALKER),
    "proprio 12m": ("dmc_walker_walk", "12m", WALKER),
    "atari100k 12m": ("atari100k_pong", "12m", PONG),
    "atari100k 200m": ("atari100k_pong", "200m", PONG),
}


def random_batch(definition: Definition) -> Batch:
    """A batch of the configured shape with random content."""
    config, rng = definition.config, np.random.default_rng(0)
    shape = (config.replay.batch_size, config.replay.batch_length)
    rssm, width = config.world.rssm, action_width(definition.action_spec)
    layout = StepLayout(definition.observation_spec, action=width, deter=rssm.deter, stoch=rssm.stoch)
    steps = layout.allocate(*shape)
    observation = {}
    for key in definition.observation_spec:
        array = steps[f"observation/{key}"]
        noise = rng.integers(0, 255, array.shape) if array.dtype == np.uint8 else rng.normal(size=array.shape)
        observation[key] = noise.astype(array.dtype)
    context = CompactLatent(steps["deter"][:, 0], steps["stoch"][:, 0])
    flags = [steps[name] for name in ("is_first", "is_last", "is_terminal")]
    batch = Batch(observation, steps["action"], rng.normal(size=shape).astype(np.float32), *flags, context)
    return jax.device_put(batch)


def measure(name: str, *, repeats: int = 40) -> dict[str, float]:
    """Compile time and update times of one workload, in seconds; each update waits for the one before."""
    env, size, spaces = WORKLOADS[name]
    definition = Definition(resolve({"env": env, "size": size}), *spaces)
    batch, state, step = random_batch(definition), definition.init(0), make_train_step(definition)
    start = time.perf_counter()
    state, _, metrics = jax.block_until_ready(step(state, batch))
    compiled, times = time.perf_counter() - start, []
    for _ in range(repeats):
        start = time.perf_counter()
        state, _, metrics = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - start)
    assert np.isfinite(float(metrics["loss/total"]))
    steps_per_second = batch.reward.size / statistics.median(times)
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "compile_seconds": compiled,
        "median_ms": 1000 * statistics.median(times),
        "min_ms": 1000 * min(times),
        "max_ms": 1000 * max(times),
        "replayed_steps_per_second": steps_per_second,
        "parameters": definition.parameter_counts()["total"],
        "peak_device_gb": stats.get("peak_bytes_in_use", 0) / 1e9,
    }


def main() -> None:
    """Measures every workload (or those named), prints and saves as it goes."""
    path, names = Path(sys.argv[1]), sys.argv[2:] or list(WORKLOADS)
    results = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    for name in names:
        results[name] = measure(name)  # pyright: ignore[reportArgumentType]
        print(name, results[name], flush=True)
        path.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
