"""What can hang or crash, tried in a process of its own: `python -m dreamer.doctor.probes NAME` prints JSON.

The working directory and PYTHONPATH are searched as in `python -m dreamer.train`, so a module that hides one of ours
is found here as it would be there.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from dreamer.doctor.findings import one_line

WORKERS = 2


def devices() -> dict[str, Any]:
    """Start JAX's backend and compute with what an update needs: a convolution (cuDNN) and a product (cuBLAS)."""
    import jax

    device = jax.devices()[0]
    image, kernel = jax.numpy.ones((1, 8, 8, 8)), jax.numpy.ones((8, 8, 3, 3))
    convolved = jax.lax.conv(image, kernel, (1, 1), "SAME")[0, 0]
    total = float((convolved @ convolved).sum())
    if total <= 0:
        raise ArithmeticError(f"a product of positive numbers is {total} on {device.device_kind}")
    return {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}


def cache() -> dict[str, Any]:
    """Where compiled programs are kept, as the trainer decides it."""
    from dreamer.training.compilation import cache_compilations

    folder = cache_compilations()
    return {"folder": str(folder) if folder else None}


def atari() -> dict[str, Any]:
    """Make a game from its ROM and take a step."""
    import numpy as np
    from ale_py import roms

    import envs

    environment = envs.make("atari_pong", num_envs=1, seed=0)
    environment.reset()
    timestep = environment.step(np.zeros((1, len(environment.action_names or [])), np.float32))
    return {"shape": list(timestep.observation["image"].shape[1:]), "roms": len(roms.get_all_rom_ids())}


def dm_control() -> dict[str, Any]:
    """Import the simulator; with MUJOCO_GL=off no renderer can be at fault."""
    import mujoco
    from dm_control import suite

    return {"mujoco": mujoco.__version__, "tasks": len(suite.ALL_TASKS)}


def workers() -> dict[str, Any]:
    """Start worker processes, take a step, and ask whether they have imported JAX."""
    import gymnasium
    import numpy as np

    import envs

    class Witness(gymnasium.Env):
        """Observes whether its process has imported JAX."""

        observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return np.array([bool({"jax", "jaxlib"} & set(sys.modules))], np.float32), {}

        def step(self, action: Any) -> Any:
            return self.reset()[0], 0.0, False, False, {}

    settings = envs.EnvSettings(workers="spawn")
    environment = envs.make(lambda: Witness(), num_envs=WORKERS, seed=0, settings=settings)
    environment.reset()
    timestep = environment.step(np.zeros((WORKERS, 2), np.float32))
    environment.close()
    return {"count": WORKERS, "import_jax": bool(timestep.observation["state"].any())}


PROBES = {probe.__name__: probe for probe in (devices, cache, atari, dm_control, workers)}


def main(name: str) -> int:
    """Prints what the probe found, or its fault; returns the exit code."""
    try:
        answer = PROBES[name]()
    except BaseException as error:  # a library's SystemExit, too, is an answer
        answer = {"fault": one_line(error)}
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
