"""A user's own folders `envs` and `configs` in the working directory, and what importing our package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])


def python(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": ROOT}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_own_folders_do_not_hide_ours_from_us_or_from_workers(tmp_path):
    for name in ("envs", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is the folder of the user')")
    (tmp_path / "maze.py").write_text("from gymnasium.envs.classic_control import CartPoleEnv as Maze\n")
    code = (
        "import sys; assert sys.path[0] == ''\n"
        "import dreamer, envs\n"
        "settings = envs.EnvSettings(workers='spawn')\n"
        "env = envs.make('maze:Maze', num_envs=2, seed=0, settings=settings)\n"
        "print(envs.__file__, env.reset().observation['state'].shape[0])\n"
        "env.close()\n"
    )
    assert python("-c", code, cwd=tmp_path) == [str(Path(ROOT, "envs", "__init__.py")), "2"]


def test_importing_is_cheap(tmp_path):
    heavy = "{'ale_py', 'dm_control', 'mujoco', 'gymnasium', 'jax', 'numpy', 'PIL'}"
    code = (
        "import sys, time; start = time.perf_counter(); import envs; seconds = time.perf_counter() - start\n"
        f"print(seconds < 0.3, sorted({heavy} & set(sys.modules)))"
    )
    assert python("-c", code, cwd=tmp_path) == ["True", "[]"]


def test_gymnasium_ids_load_no_simulator_of_a_suite(tmp_path):
    code = (
        "import sys, envs; envs.make('CartPole-v1', num_envs=1, seed=0)\n"
        "print(sorted({'ale_py', 'dm_control', 'mujoco', 'jax', 'cv2'} & set(sys.modules)))"
    )
    assert python("-c", code, cwd=tmp_path) == ["[]"]
