"""Single gymnasium environments: any id, `module:Env-v0`, or a Python factory."""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from typing_extensions import override

from envs.arrays import generator_array, load_generator
from envs.codec import ActionCodec, ObservationCodec
from envs.environment import (
    EnvironmentFault,
    EnvSettings,
    Simulator,
    State,
    Transition,
    deep_copy,
    observation_frame,
)

CLASSIC_CONTROL = "gymnasium.envs.classic_control"
CHEAP = (CLASSIC_CONTROL, "gymnasium.envs.toy_text", "envs.")  # modules whose steps cost less than a process switch
PLAIN_WRAPPERS = (OrderEnforcing, PassiveEnvChecker, TimeLimit)  # wrappers whose state `get_state` knows
EXTRAS = {
    "gymnasium.envs.box2d": 'pip install "gymnasium[box2d]"',
    "gymnasium.envs.mujoco": 'pip install "gymnasium[mujoco]"',
    "gymnasium.envs.toy_text": 'pip install "gymnasium[toy-text]"',
    "ALE": "pip install ale-py",
}
OLD_API = (
    "{name} uses the old gym API ({symptom}); return (observation, info) from reset and (observation, reward, "
    "terminated, truncated, info) from step, and derive the class from gymnasium.Env"
)


class GymSimulator(Simulator):
    """A gymnasium environment as a simulator.

    It forks when the innermost environment has `get_state()` (a dict of arrays) and `set_state(state)`, or is one of
    gymnasium's classic control, and no wrapper holds a state of its own.
    """

    def __init__(self, env: gymnasium.Env, *, name: str, seed: int, settings: EnvSettings) -> None:
        if not isinstance(env, gymnasium.Env):
            raise EnvironmentFault(OLD_API.format(name=name, symptom=f"{type(env).__name__} is not a gymnasium.Env"))
        self._env = env
        self._name = name
        self._seed: int | None = seed
        self._observation_codec = ObservationCodec(
            env.observation_space,
            image_size=settings.image_size,
            image_layout=settings.image_layout,
            zero_nonfinite=settings.nonfinite == "zero",
        )
        self._action_codec = ActionCodec(env.action_space, bound=settings.action_bound)
        self._shown: dict[str, np.ndarray] = {}
        self._is_open = False  # whether an episode is
        self.native_observation_space = env.observation_space
        self.native_action_space = env.action_space
        self.observation_spec = self._observation_codec.spec
        self.action_spec = self._action_codec.spec
        self.action_repeat = settings.action_repeat or 1
        self.frame_rate = env.metadata.get("render_fps") or Simulator.frame_rate
        self.action_names = action_names(env)
        self.protocol = {
            "env": name,
            "class": f"{type(env.unwrapped).__module__}.{type(env.unwrapped).__name__}",
            "action_repeat": self.action_repeat,
            "image_layout": self._observation_codec.describe_layouts(),
            "image_size": settings.image_size,
            "resize": "none" if settings.image_size is None else "bilinear (Pillow)",
            "action_bound": settings.action_bound,
            "time_limit_steps": time_limit(env),
        }
        self.can_fork = _has_plain_wrappers(env) and (_has_own_state(env) or _is_classic_control(env))

    @override
    def reset(self) -> dict[str, np.ndarray]:
        seed, self._seed = self._seed, None  # later episodes go on with the same random numbers
        result = self._checked("reset", seed=seed)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise EnvironmentFault(OLD_API.format(name=self._name, symptom="reset returns no (observation, info)"))
        self._is_open = True
        return self._encode(result[0])

    @override
    def step(self, action: np.ndarray) -> Transition:
        native = self._action_codec.decode(action)
        total = 0.0
        for _ in range(self.action_repeat):
            result = self._checked("step", copy.copy(native))
            if not (isinstance(result, tuple) and len(result) == 5):
                raise EnvironmentFault(OLD_API.format(name=self._name, symptom="step returns no 5-tuple"))
            observation, reward, terminated, truncated, _ = result
            total += float(reward)
            if terminated or truncated:
                self._is_open = False
                break
        return Transition(self._encode(observation), total, bool(terminated), bool(truncated))

    def _checked(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the environment; a wrapper that cannot unpack an old-style result gets an explanation."""
        try:
            return getattr(self._env, method)(*args, **kwargs)
        except (ValueError, TypeError) as error:
            is_old = "values to unpack" in str(error) or "unexpected keyword argument 'seed'" in str(error)
            if not is_old:
                raise
            raise EnvironmentFault(OLD_API.format(name=self._name, symptom=f"{method}: {error}")) from error

    def _encode(self, observation: Any) -> dict[str, np.ndarray]:
        self._shown = self._observation_codec.encode(observation)
        return self._shown

    @override
    def get_state(self) -> State:
        if not self.can_fork:
            return super().get_state()
        unwrapped: Any = self._env.unwrapped
        own = unwrapped.get_state() if _has_own_state(self._env) else _classic_state(unwrapped)
        state = {f"env/{key}": np.array(value) for key, value in own.items()}
        state["random"] = generator_array(unwrapped.np_random)
        state["elapsed"] = np.array([limit._elapsed_steps or 0 for limit in _time_limits(self._env)], np.int64)
        state["is_seeded"] = np.array(self._seed is None)
        return state

    @override
    def set_state(self, state: State) -> None:
        if not self.can_fork:
            super().set_state(state)
        unwrapped: Any = self._env.unwrapped
        if not self._is_open:  # wrappers refuse to step before a reset, which may take seconds
            self._checked("reset")
            self._is_open = True
        own = {key.removeprefix("env/"): value for key, value in state.items() if key.startswith("env/")}
        if _has_own_state(self._env):
            unwrapped.set_state(own)
        else:
            _load_classic_state(unwrapped, own)
        load_generator(unwrapped.np_random, state["random"])
        for limit, elapsed in zip(_time_limits(self._env), state["elapsed"], strict=True):
            limit._elapsed_steps = int(elapsed)
        if state["is_seeded"]:
            self._seed = None

    @override
    def fork_state(self) -> Any:
        return self.get_state() if self.can_fork else (self._seed, deep_copy(self._env, name=self._name))

    @override
    def load_fork(self, fork: Any) -> None:
        if self.can_fork:
            self.set_state(fork)
        else:
            self._seed, env = fork
            self._env = deep_copy(env, name=self._name)

    @override
    def render(self) -> np.ndarray:
        if self._env.render_mode == "rgb_array":
            try:
                return np.array(self._env.render(), np.uint8)
            except gymnasium.error.DependencyNotInstalled as error:  # many import what draws only now
                raise EnvironmentFault(f"{self._name} cannot be drawn: {error}") from error
        return observation_frame(self._shown, self.observation_spec, name=self._name)

    @override
    def close(self) -> None:
        self._env.close()


def make_env(name: str) -> gymnasium.Env:
    """Make the environment of a gymnasium id, `module:id` or `module:Class`, able to draw itself where it can.

    Raises:
        EnvironmentFault: naming the nearest ids, or the package to install.
    """
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame would look for a display and print an error
    attribute = _import_module(name)
    if attribute is not None:
        return attribute()
    if name.startswith("ALE/"):
        gymnasium.register_envs(importlib.import_module("ale_py"))
    try:
        spec = gymnasium.spec(name.partition(":")[2] or name)
        return gymnasium.make(spec, disable_env_checker=True, **_render_mode(spec))
    except gymnasium.error.UnregisteredEnv as error:
        raise EnvironmentFault(unknown_env(name)) from error
    except gymnasium.error.DeprecatedEnv as error:
        raise EnvironmentFault(str(error)) from error
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise EnvironmentFault(f"{name} needs a package that is not installed: {error}{_extra(name)}") from error


def _render_mode(spec: Any) -> dict[str, Any]:
    """Ask for drawn frames from environments that can give them; most draw only when `render` is called."""
    entry = spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    modes = getattr(creator, "metadata", {}).get("render_modes", [])
    parameters = inspect.signature(creator).parameters.values()  # a subclass may inherit modes that it does not take
    takes_mode = any(p.name == "render_mode" or p.kind is p.VAR_KEYWORD for p in parameters)
    return {"render_mode": "rgb_array"} if "rgb_array" in modes and takes_mode else {}


def _import_module(name: str) -> Callable[[], gymnasium.Env] | None:
    """Import the module of `module:rest`; return its attribute `rest` if there is one."""
    module_name, colon, rest = name.partition(":")
    if not colon:
        return None
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "; `envs` and `dreamer` are dreamer-jax's own names" if module_name.split(".")[0] == "envs" else ""
        raise EnvironmentFault(
            f"--env {name}: cannot import module {module_name!r} ({error}); run where it is found, or install it{hint}"
        ) from error
    return getattr(module, rest, None)


def unknown_env(name: str, *, known: list[str] | None = None) -> str:
    """One sentence for an unknown name, with the nearest known ones."""
    known = known if known is not None else sorted(gymnasium.registry)
    lowered = {candidate.lower(): candidate for candidate in known}
    bare = name.partition(":")[2] or name
    near = [lowered[match] for match in difflib.get_close_matches(bare.lower(), lowered, n=3, cutoff=0.5)]
    hint = f"did you mean {', '.join(near)}?" if near else "use a suite's name or any gymnasium id"
    namespace = bare.partition("/")[0] if "/" in bare else ""
    package = f" If the id is right, install or import the package that registers {namespace}/." if namespace else ""
    return f"no environment is called {name!r}; {hint}{package} Own ones: --env my_package:MyEnv-v0"


def _extra(name: str) -> str:
    entry = str(gymnasium.registry[name].entry_point) if name in gymnasium.registry else name
    return next((f"; {command}" for prefix, command in EXTRAS.items() if entry.startswith(prefix)), "")


def action_names(env: gymnasium.Env) -> list[str] | None:
    """Names of the actions, for environments that tell them as Atari's do."""
    meanings = getattr(env.unwrapped, "get_action_meanings", None)
    return list(meanings()) if meanings else None


def time_limit(env: gymnasium.Env) -> int | None:
    """The smallest `TimeLimit` among the wrappers, in environment steps."""
    return min((limit._max_episode_steps for limit in _time_limits(env)), default=None)


def is_cheap(name: str) -> bool:
    """Whether the steps of a registered environment cost less than a switch between processes."""
    return name in gymnasium.registry and str(gymnasium.registry[name].entry_point).startswith(CHEAP)


def _wrappers(env: gymnasium.Env) -> list[gymnasium.Wrapper]:
    found = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(env)
        env = env.env
    return found


def _time_limits(env: gymnasium.Env) -> list[TimeLimit]:
    return [wrapper for wrapper in _wrappers(env) if isinstance(wrapper, TimeLimit)]


def _has_plain_wrappers(env: gymnasium.Env) -> bool:
    return all(isinstance(wrapper, PLAIN_WRAPPERS) for wrapper in _wrappers(env))


def _has_own_state(env: gymnasium.Env) -> bool:
    return all(callable(getattr(env.unwrapped, method, None)) for method in ("get_state", "set_state"))


def _is_classic_control(env: gymnasium.Env) -> bool:
    return type(env.unwrapped).__module__.startswith(CLASSIC_CONTROL)


def _classic_state(env: Any) -> State:
    steps_beyond = getattr(env, "steps_beyond_terminated", None)
    return {
        "state": np.array(env.state),
        "is_tuple": np.array(isinstance(env.state, tuple)),
        "steps_beyond": np.array(-1 if steps_beyond is None else steps_beyond),
    }


def _load_classic_state(env: Any, state: State) -> None:
    array = np.array(state["state"])
    env.state = tuple(array.tolist()) if state["is_tuple"] else array
    if hasattr(env, "steps_beyond_terminated"):
        env.steps_beyond_terminated = None if state["steps_beyond"] < 0 else int(state["steps_beyond"])
