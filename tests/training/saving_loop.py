"""Run by test_checkpoint.py in a process of its own: saves without pause until it is killed."""

from __future__ import annotations

import sys

import jax
import numpy as np

from dreamer.training.checkpoint import Checkpoints


def content(step: int) -> tuple[dict, dict[str, np.ndarray]]:
    """The arrays and host arrays that belong to `step`, so that a reader can tell whether they do."""
    rng = np.random.default_rng(step)
    arrays = {"params": {"kernel": rng.normal(size=(64, 64)).astype(np.float32)}, "step": np.asarray(step)}
    return arrays, {"replay/index": rng.integers(0, 1000, 4096)}


def main() -> None:
    checkpoints = Checkpoints(sys.argv[1], keep=2)
    jax.devices()
    print("ready", flush=True)
    sys.stdin.readline()
    latest = checkpoints.latest()
    step = int(latest.name[:12]) if latest else 0
    while True:
        step += 1
        arrays, host = content(step)
        checkpoints.save(step, arrays=arrays, host=host, meta={"step": step})


if __name__ == "__main__":
    main()
