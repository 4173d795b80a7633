"""DeepMind Control suite: `dmc_<domain>_<task>` from vectors, `dmc_vision_<domain>_<task>` from a 64 x 64 camera image.

Both: action repeat 2, rewards summed over the repeat, episodes of 1000 frames that are truncated, not terminated (a
task that ends by itself with discount 0 is terminated). Vision: camera 0, for the quadruped 2. Observation keys are the
suite's; scalars are vectors of size 1. Actions in [-1, 1] are rescaled to the actuators' ranges.
"""

from __future__ import annotations

import difflib
import math
from operator import attrgetter
from typing import Any

import numpy as np
from gymnasium import spaces
from typing_extensions import override

from envs.arrays import load_random_state, random_state_array
from envs.codec import ActionCodec
from envs.environment import EnvironmentFault, EnvSettings, Simulator, State, Transition
from envs.perturb import FACTORS, scale
from envs.rendering import choose_backend
from envs.spaces import ImageSpec, VectorSpec

ACTION_REPEAT = 2
IMAGE_SIZE = (64, 64)
VIDEO_SIZE = (240, 320)
CAMERAS = {"quadruped": 2}  # camera 0 of the others
DRAWS_ANYWAY = ("dmc_quadruped_escape",)  # its resets send the terrain to a renderer
UNLIMITED = 1e10
CONSTANT_ARRAYS = ("mesh_", "skin_", "tex_", "flex_", "name", "paths", "text_", "B_", "M_", "D_", "map")


class DMCSimulator(Simulator):
    """A suite task as a simulator; forks bit by bit."""

    can_fork = True

    def __init__(self, name: str, *, seed: int, settings: EnvSettings | Any) -> None:
        self._is_vision = name.startswith("dmc_vision_")
        backend = choose_backend(must_render=self._is_vision or name in DRAWS_ANYWAY)  # before dm_control
        import mujoco

        suite = import_suite()
        self._mujoco: Any = mujoco
        domain, task = split_task(name)
        self._env: Any = suite.load(domain, task, task_kwargs={"random": seed})
        self._physics: Any = self._env.physics
        self._camera = CAMERAS.get(domain, 0) if settings.camera is None else settings.camera
        self._check_camera()
        self._size = settings.image_size or IMAGE_SIZE
        self._pristine_model = _model_arrays(self._physics)
        self._needs_setup = True
        spec = self._env.action_spec()
        frames = self._env._step_limit
        low, high = _bounds(spec)
        self.native_action_space = spaces.Box(low, high, dtype=np.float64)
        self._codec = ActionCodec(self.native_action_space)
        self.action_spec = self._codec.spec
        self.action_repeat = settings.action_repeat or ACTION_REPEAT
        self.frame_rate = 1.0 / self._env.control_timestep()
        if self._is_vision:
            self.observation_spec = {"image": ImageSpec(self._size[0], self._size[1], 3)}
            self.native_observation_space = spaces.Box(0, 255, (*self._size, 3), np.uint8)
        else:
            shapes = {key: part.shape for key, part in self._env.observation_spec().items()}
            sizes = {key: int(np.prod(shape)) for key, shape in shapes.items()}
            self.observation_spec = {key: VectorSpec(size) for key, size in sizes.items()}
            self.native_observation_space = spaces.Dict(
                {key: spaces.Box(-np.inf, np.inf, (size,), np.float32) for key, size in sizes.items()}
            )
        self.protocol = {
            "env": name,
            "domain": domain,
            "task": task,
            "action_repeat": self.action_repeat,
            "max_episode_frames": None if np.isinf(frames) else math.ceil(frames),
            "camera": self._camera if self._is_vision else None,
            "image_size": self._size if self._is_vision else None,
            "renderer": backend,
        }

    @override
    def reset(self) -> dict[str, np.ndarray]:
        self._needs_setup = False
        return self._observe(self._env.reset())

    @override
    def step(self, action: np.ndarray) -> Transition:
        native = self._codec.decode(action)
        total = 0.0
        for _ in range(self.action_repeat):
            step = self._env.step(native)
            total += float(step.reward or 0.0)
            if step.last():
                break
        is_terminal = step.last() and step.discount == 0.0
        return Transition(self._observe(step), total, is_terminal, step.last() and not is_terminal)

    def _observe(self, step: Any) -> dict[str, np.ndarray]:
        if self._is_vision:
            return {"image": self._physics.render(*self._size, camera_id=self._camera)}
        return {key: np.array(step.observation[key], np.float32).ravel() for key in self.observation_spec}

    @override
    def get_state(self) -> State:
        model, data = self._physics.model.ptr, self._physics.data.ptr
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION  # what the next step reads, the solver's warm start included
        physics = np.empty(self._mujoco.mj_stateSize(model, kind))
        self._mujoco.mj_getState(model, data, physics, kind)
        state = {
            "physics": physics,
            "sensors": np.array(data.sensordata),
            "random": random_state_array(self._env.task.random),
            "step_count": np.array(self._env._step_count),
        }
        return state | {f"model/{key}": value for key, value in self._changed_model_arrays().items()}

    @override
    def set_state(self, state: State) -> None:
        if self._needs_setup:
            self.reset()  # some tasks note constants of the body in their first reset
        self._restore_model(state)
        model, data = self._physics.model.ptr, self._physics.data.ptr
        if FACTORS in state:
            scale(model, state[FACTORS])  # from here on part of the changed arrays
        self._mujoco.mj_setState(model, data, np.array(state["physics"]), self._mujoco.mjtState.mjSTATE_INTEGRATION)
        self._mujoco.mj_step1(model, data)  # as dm_control does after each step: positions and velocities of all bodies
        data.sensordata[:] = state["sensors"]  # forces among them belong to the step before
        load_random_state(self._env.task.random, state["random"])
        self._env._step_count = int(state["step_count"])
        self._env._reset_next_step = False

    def _changed_model_arrays(self) -> dict[str, np.ndarray]:
        """What the task, or `envs.perturb`, has changed in the model: targets, sizes, terrain, stiffness, gravity."""
        current = _model_arrays(self._physics)
        return {key: value for key, value in current.items() if not np.array_equal(value, self._pristine_model[key])}

    def _restore_model(self, state: State) -> None:
        model = self._physics.model.ptr
        for key, pristine in self._pristine_model.items():
            attrgetter(key)(model)[...] = state.get(f"model/{key}", pristine)
        if self._is_vision and model.nhfield:
            for index in range(model.nhfield):  # the terrain lies in the renderer's memory, too
                with self._physics.contexts.gl.make_current() as context:
                    context.call(self._mujoco.mjr_uploadHField, model, self._physics.contexts.mujoco.ptr, index)

    def _check_camera(self) -> None:
        count = self._physics.model.ncam
        if not -1 <= self._camera < count:
            raise EnvironmentFault(f"--environment.camera is {self._camera}; this task has cameras -1 to {count - 1}")

    @override
    def render(self) -> np.ndarray:
        return self._physics.render(*VIDEO_SIZE, camera_id=self._camera)

    @override
    def close(self) -> None:
        self._env.close()
        self._physics.free()


def import_suite() -> Any:
    """`dm_control.suite`, which takes a second to import.

    Raises:
        EnvironmentFault: dm-control is not installed.
    """
    try:
        from dm_control import suite
    except ModuleNotFoundError as error:
        raise EnvironmentFault(
            f"DMC tasks need dm-control, which cannot be imported here ({error}). It does not install on Python 3.13, "
            "where labmaze, which it needs, has no wheel: use Python 3.11 or 3.12."
        ) from error
    return suite


def split_task(name: str) -> tuple[str, str]:
    """Domain and task of `dmc_<domain>_<task>` or `dmc_vision_<domain>_<task>`; both may hold underscores.

    Raises:
        EnvironmentFault: naming the nearest tasks.
    """
    suite = import_suite()
    prefix = "dmc_vision_" if name.startswith("dmc_vision_") else "dmc_"
    tasks = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
    wanted = name.removeprefix(prefix)
    if wanted not in tasks:
        near = difflib.get_close_matches(wanted, tasks, n=3, cutoff=0.4) or ["walker_walk"]
        raise EnvironmentFault(
            f"no DMC task is called {wanted!r}; did you mean {', '.join(prefix + match for match in near)}?"
        )
    return tasks[wanted]


def _bounds(spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Action bounds, -1 and 1 where an actuator has no limit (dm_control writes 1e10)."""
    low, high = np.broadcast_to(spec.minimum, spec.shape), np.broadcast_to(spec.maximum, spec.shape)
    unlimited = (low <= -UNLIMITED) | (high >= UNLIMITED)
    return np.where(unlimited, -1.0, low), np.where(unlimited, 1.0, high)


def _model_arrays(physics: Any) -> dict[str, np.ndarray]:
    """Copies of the model's arrays, gravity among them, without what only meshes, textures and names are made of."""
    model = physics.model.ptr
    names = [name for name in dir(model) if not name.startswith(("_", *CONSTANT_ARRAYS))]
    arrays = {name: attrgetter(name)(model) for name in (*names, "opt.gravity")}
    return {name: array.copy() for name, array in arrays.items() if isinstance(array, np.ndarray)}
