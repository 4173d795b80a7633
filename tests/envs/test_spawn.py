"""Worker processes: same steps as without, no JAX in them, no need for a main guard, no orphans."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.environment import EnvironmentFault, EnvSettings
from envs.spaces import action_width

ROOT = str(Path(__file__).resolve().parents[2])
SPAWN = EnvSettings(workers="spawn")


class Witness(gymnasium.Env):
    """Observes whether its process has imported JAX, and its process id."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        modules = {name.partition(".")[0] for name in sys.modules}
        return np.array([bool(modules & {"jax", "jaxlib", "flax"}), os.getpid()], np.float64), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


def run(code, *, cwd, timeout=120):
    """Run a script as a user would, with our packages installed (on the path)."""
    Path(cwd, "script.py").write_text(textwrap.dedent(code))
    environment = os.environ | {"PYTHONPATH": ROOT}
    result = subprocess.run(
        [sys.executable, "script.py"],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_workers_step_as_the_loop_does():
    loop = envs.make("dummy", num_envs=2, seed=0, settings=EnvSettings(action_repeat=2, max_episode_steps=7))
    spawned = envs.make(
        "dummy", num_envs=2, seed=0, settings=EnvSettings(action_repeat=2, max_episode_steps=7, workers="spawn")
    )
    assert spawned.observation_spec == loop.observation_spec
    assert spawned.action_spec == loop.action_spec
    assert spawned.action_repeat == 2
    assert not spawned.can_fork
    actions = np.random.default_rng(0).normal(size=(20, 2, action_width(loop.action_spec))).astype(np.float32)
    pairs = [(loop.reset(), spawned.reset())]
    pairs += [(loop.step(action), spawned.step(action)) for action in actions]
    for left, right in pairs:
        for key in left.observation:
            np.testing.assert_array_equal(left.observation[key], right.observation[key])
        for a, b in zip(left[1:], right[1:], strict=True):
            np.testing.assert_array_equal(a, b)
    assert [frame.shape for frame in spawned.render()] == [(64, 64, 3)] * 2
    spawned.close()


def test_workers_never_import_jax_nor_the_main_module(tmp_path):
    """The script imports JAX at its top and has no main guard."""
    out = run(
        """
        import jax, os, sys
        import gymnasium, numpy as np
        import envs

        assert "jax" in sys.modules

        class Witness(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
            action_space = gymnasium.spaces.Discrete(2)

            def reset(self, *, seed=None, options=None):
                import sys
                modules = {name.partition(".")[0] for name in sys.modules}
                return np.array([bool(modules & {"jax", "jaxlib", "flax"}), os.getpid()], np.float64), {}

            def step(self, action):
                return self.reset()[0], 0.0, False, False, {}

        env = envs.make(lambda: Witness(), num_envs=2, seed=0, settings=envs.EnvSettings(workers="spawn"))
        state = env.reset().observation["state"]
        print(state[:, 0].any(), len({os.getpid(), *state[:, 1]}))
        env.close()
        """,
        cwd=tmp_path,
    )
    assert out.split() == ["False", "3"]


def test_what_cannot_be_sent_is_explained():
    lock = __import__("threading").Lock()

    def factory():
        assert lock
        return Witness()

    with pytest.raises(EnvironmentFault, match=r"--environment\.workers none"):
        envs.make(factory, num_envs=2, seed=0, settings=SPAWN)


def test_auto_spawns_for_costly_gymnasium_ids_only():
    for name, workers in {
        "CartPole-v1": "none",
        "dummy": "none",
        "gymnasium.envs.classic_control.cartpole:CartPoleEnv": "spawn",
    }.items():
        env = envs.make(name, num_envs=2, seed=0)
        assert env.protocol["workers"] == workers
        env.close()


def test_workers_end_with_a_trainer_that_was_killed(tmp_path):
    """Nobody tells them: their pipe closes."""
    script = """
        import time
        import gymnasium
        import envs

        env = envs.make("CartPole-v1", num_envs=2, seed=0, settings=envs.EnvSettings(workers="spawn"))
        env.reset()
        print(*[simulator._process.pid for simulator in env._simulators], flush=True)
        time.sleep(60)
    """
    Path(tmp_path, "script.py").write_text(textwrap.dedent(script))
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in workers)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
