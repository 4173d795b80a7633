"""Which OpenGL backend MuJoCo draws with: tried in another process first, because a broken driver hangs or crashes."""

from __future__ import annotations

import os
import subprocess
import sys

from envs.environment import EnvironmentFault

VARIABLE = "MUJOCO_GL"
PROVEN = "DREAMER_MUJOCO_GL_PROVEN"  # tells worker processes which backend has been tried already
GPU_VARIABLE = "MUJOCO_EGL_DEVICE_ID"  # by which a user names the GPU that draws
CANDIDATES = ("egl", "osmesa") if sys.platform == "linux" else ("glfw",)
TIMEOUT_SECONDS = 60.0
PROBE = """
from dm_control import mujoco
physics = mujoco.Physics.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
assert physics.render(16, 16).any()
physics.free()
"""


def choose_backend(*, must_render: bool, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Set `MUJOCO_GL` to a backend that draws, and return it; call before dm_control is imported.

    A `MUJOCO_GL` that the user has set is tried and kept. Where nothing draws, drawing is switched off, unless
    `must_render`.

    Raises:
        EnvironmentFault: if `must_render` and nothing draws, or the user names a GPU that cannot.
    """
    imported = sys.modules.get("dm_control._render")  # whoever imported it has fixed the backend
    chosen = imported.BACKEND if imported else os.environ.get(VARIABLE)
    if chosen and os.environ.get(PROVEN) == chosen:
        return chosen
    if chosen and not must_render:
        return chosen
    failures = []
    for backend in (chosen,) if chosen else CANDIDATES:
        failure = probe(backend, timeout_seconds=timeout_seconds)
        if failure is None:
            os.environ[VARIABLE] = os.environ[PROVEN] = backend
            return backend
        failures.append(f"{backend}: {failure}")
        if must_render and backend == "egl" and (fault := wrong_gpu(failure, timeout_seconds=timeout_seconds)):
            raise EnvironmentFault(f"{fault}; unset it, or name another GPU")
    if must_render:
        raise EnvironmentFault(
            f"MuJoCo cannot draw here ({'; '.join(failures)}); install libegl1 for a GPU or libosmesa6 for a CPU, "
            f"or name a working backend in {VARIABLE}, before dm_control is imported"
        )
    os.environ[VARIABLE] = "off"
    return "off"


def wrong_gpu(failure: str, *, timeout_seconds: float) -> str:
    """In words, that EGL failed only because of the GPU in `MUJOCO_EGL_DEVICE_ID`; empty where that is not the cause.

    Drawing on the CPU instead, many times slower, is not what someone wants who names a GPU.
    """
    gpu = os.environ.get(GPU_VARIABLE)
    if not gpu or probe("egl", timeout_seconds=timeout_seconds, unset=GPU_VARIABLE) is not None:
        return ""
    return f"{GPU_VARIABLE} is {gpu!r}, and that GPU does not draw ({failure}), though EGL works without it"


def probe(backend: str, *, timeout_seconds: float, unset: str = "") -> str | None:
    """Draw one picture in another process, without the variable `unset`; None if that works, else what happened."""
    variables = {name: value for name, value in os.environ.items() if name != unset}
    try:
        result = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],
            env=variables | {VARIABLE: backend},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {timeout_seconds:g} s"
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
