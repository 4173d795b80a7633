"""Any gymnasium vector environment, in any of its three autoreset modes, as an `Environment`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from typing_extensions import override

from envs.alarm import Alarm
from envs.codec import ActionCodec, ObservationCodec
from envs.environment import (
    Environment,
    EnvironmentFault,
    EnvSettings,
    NonFinite,
    SimulatorCrash,
    env_seeds,
    observation_frame,
)
from envs.nonfinite import NonFiniteGate
from envs.restarts import Restarts
from envs.spaces import Timestep

UNSEEN_START = (
    "same_step: this vector environment cannot reset a part of itself, so the first transition of every episode "
    "passes unseen; build it with autoreset_mode=NEXT_STEP to see it"
)


class VectorEnvironment(Environment):
    """Adapts a `VectorEnv` to NEXT_STEP autoreset and flat actions.

    NEXT_STEP passes through. Under DISABLED and SAME_STEP the ended environments have to be stepped with the others
    while the learner is shown their reset, so they are reset once more after that step (`options["reset_mask"]`) and
    nothing of an episode is lost. A SAME_STEP environment outside gymnasium and ale-py need not know `reset_mask`: with
    several environments, its reset then shows the observation after one unseen step, which
    `protocol["autoreset"]` says.

    With `remake`, all of it is made again when it raises, hangs or loses a worker; every open episode is cut then.
    """

    def __init__(
        self,
        env: VectorEnv,
        *,
        seed: int | list[int] | np.ndarray,
        settings: EnvSettings,
        protocol: dict[str, Any],
        action_repeat: int = 1,
        action_names: list[str] | None = None,
        remake: Callable[[], VectorEnv] | None = None,
    ) -> None:
        self._env = env
        self._remake = remake
        self._restarts = Restarts(limit=settings.max_restarts, seed=int(np.ravel(seed)[0]))
        self._alarm = Alarm(settings.step_timeout)
        self._seed: Any = seed
        self._mode = autoreset_mode(env)
        self._can_reset_part = self._mode is AutoresetMode.DISABLED or _knows_reset_mask(env)
        self._observation_codec = ObservationCodec(
            env.single_observation_space,
            image_size=settings.image_size,
            image_layout=settings.image_layout,
            zero_nonfinite=settings.nonfinite == "zero",
        )
        self._action_codec = ActionCodec(env.single_action_space, bound=settings.action_bound)
        self.num_envs = env.num_envs
        self.native_observation_space = env.single_observation_space
        self.native_action_space = env.single_action_space
        self.observation_spec = self._observation_codec.spec
        self.action_spec = self._action_codec.spec
        self.action_repeat = action_repeat
        self.frame_rate = env.metadata.get("render_fps") or Environment.frame_rate
        self.action_names = action_names
        self.protocol = protocol | {"num_envs": env.num_envs, "autoreset": self._mode.name.lower()}
        self.protocol |= {"image_layout": self._observation_codec.describe_layouts()}
        if self._mode is AutoresetMode.SAME_STEP and not self._can_reset_part and env.num_envs > 1:
            self.protocol["autoreset"] = UNSEEN_START
            warnings.warn(UNSEEN_START, stacklevel=2)
        self._gate = NonFiniteGate(settings.nonfinite, self.observation_spec, name=self.protocol["env"])
        self._ended = np.zeros(self.num_envs, bool)
        self._shown: dict[str, np.ndarray] = {}  # the last observation, for `render`
        self._next: dict[str, np.ndarray] = {}  # the same, but after the reset where a SAME_STEP episode ended

    @property
    @override
    def incidents(self) -> dict[str, int]:
        return {"restarts": self._restarts.total, "cut_episodes": self._gate.cut, "zeroed": self._gate.zeroed}

    @override
    def reset(self) -> Timestep:
        try:
            return self._reset()
        except Exception as error:
            return self._start_anew(error, None)

    @override
    def step(self, action: np.ndarray) -> Timestep:
        try:
            return self._step(action)
        except Exception as error:
            return self._start_anew(error, action)

    def _start_anew(self, error: Exception, action: np.ndarray | None) -> Timestep:
        """Makes all of it again after a failure; every open episode is cut."""
        while True:
            is_contract = isinstance(error, EnvironmentFault) and not isinstance(error, SimulatorCrash)
            if is_contract or self._remake is None:
                raise error  # a broken contract is not mended by another try
            seed = self._restarts.forgive(error, name=self.protocol["env"], index=None, action=action)
            self._seed = env_seeds(seed, self.num_envs)
            with contextlib.suppress(Exception), self._alarm:
                if getattr(self._env.unwrapped, "processes", None):
                    self._end_workers()  # one that hangs would keep `close` waiting
                else:
                    self._env.close()
            try:
                self._env = self._remake()
                return self._reset()
            except Exception as next_error:
                error, action = next_error, None

    def _reset(self) -> Timestep:
        observation, _ = self._call("reset", seed=self._seed)
        self._seed = None
        self._ended = np.zeros(self.num_envs, bool)
        none = np.zeros(self.num_envs, bool)
        return self._timestep(self._encode(observation), np.zeros(self.num_envs), ~none, none, none)

    def _step(self, action: np.ndarray) -> Timestep:
        is_first, none = self._ended, np.zeros(self.num_envs, bool)
        if is_first.all() and self._mode is AutoresetMode.SAME_STEP:  # nobody waits: just show the reset
            self._ended = none
            return self._timestep(self._next, np.zeros(self.num_envs), is_first, none.copy(), none.copy())
        must_reset = is_first.any() and self._can_reset_part and self._mode is not AutoresetMode.NEXT_STEP
        if must_reset and self._mode is AutoresetMode.DISABLED:
            self._reset_part(is_first)  # it refuses to step past an end
        observation, reward, terminated, truncated, info = self._call("step", self._decode(action))
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        if must_reset:
            observation = self._reset_part(is_first)
            terminated, truncated = terminated & ~is_first, truncated & ~is_first
        self._ended = terminated | truncated
        encoded = self._encode(observation)
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            self._next, encoded = encoded, self._with_final(encoded, info)
        reward = np.where(is_first, 0.0, np.asarray(reward, np.float64))
        timestep = self._timestep(encoded, reward, is_first, self._ended.copy(), terminated)
        self._ended = timestep.is_last.copy()
        return timestep

    def _timestep(
        self,
        observation: dict[str, np.ndarray],
        reward: np.ndarray,
        is_first: np.ndarray,
        is_last: np.ndarray,
        is_terminal: np.ndarray,
    ) -> Timestep:
        timestep = Timestep(observation, reward.astype(np.float32), is_first, is_last, is_terminal)
        self._gate.steps += 1
        cut = self._gate.admit(timestep)
        if cut.any():
            timestep = self._begin_again(timestep, cut)
        self._shown = timestep.observation
        return timestep

    def _begin_again(self, timestep: Timestep, cut: np.ndarray) -> Timestep:
        """Puts the beginnings of new episodes in the place of steps that must not be seen."""
        if not self._can_reset_part:
            raise NonFinite(
                f"{self.protocol['env']} cannot reset one of its environments, so its episode cannot be dropped; build "
                "it with autoreset_mode=DISABLED, or choose --environment.nonfinite zero"
            )
        begun = self._encode(self._reset_part(cut))
        observation = {key: np.array(array) for key, array in timestep.observation.items()}
        for key, array in observation.items():
            array[cut] = begun[key][cut]
        again = Timestep(
            observation,
            np.where(cut, np.float32(0), timestep.reward),
            timestep.is_first | cut,
            timestep.is_last & ~cut,
            timestep.is_terminal & ~cut,
        )
        self._gate.admit(again)
        return again

    def _decode(self, action: np.ndarray) -> Any:
        return self._action_codec.decode(action)

    def _encode(self, observation: Any) -> dict[str, np.ndarray]:
        return self._observation_codec.encode(observation, lead=(self.num_envs,))

    def _reset_part(self, mask: np.ndarray) -> Any:
        observation, _ = self._call("reset", options={"reset_mask": mask.copy()})
        return observation

    def _with_final(self, encoded: dict[str, np.ndarray], info: dict[str, Any]) -> dict[str, np.ndarray]:
        """Put the last observations of ended episodes in the place of the first ones of the next."""
        if "final_obs" not in info:
            raise EnvironmentFault(f'{self.protocol["env"]} ends episodes under SAME_STEP without `info["final_obs"]`')
        final, result = info["final_obs"], {key: array.copy() for key, array in encoded.items()}
        is_batch = not (isinstance(final, np.ndarray) and final.dtype == object)
        batch = self._encode(final) if is_batch else {}
        for i in np.flatnonzero(self._ended):
            single = {key: array[i] for key, array in batch.items()} or self._observation_codec.encode(final[i])
            for key, array in single.items():
                result[key][i] = array
        return result

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the vector environment; a broken pipe becomes a sentence that names the dead worker."""
        try:
            with self._alarm:
                return getattr(self._env, method)(*args, **kwargs)
        except (BrokenPipeError, ConnectionResetError, EOFError) as error:
            dead = ", ".join(self._end_workers()) or "unknown"
            raise SimulatorCrash(
                f"lost worker {dead} during {method}; exit code -9 mostly means that memory ran out"
            ) from error

    def _end_workers(self) -> list[str]:
        """Name the dead workers and end the others, which nobody can talk to any more."""
        processes = getattr(self._env.unwrapped, "processes", [])
        for process in processes:
            process.join(timeout=0.1)
        dead = [f"{i} (exit code {process.exitcode})" for i, process in enumerate(processes) if not process.is_alive()]
        for process in processes:
            process.terminate()
            process.join()
        self._env.unwrapped.closed = True
        return dead

    @override
    def render(self) -> list[np.ndarray]:
        if self._env.render_mode == "rgb_array":
            return [np.array(frame, np.uint8) for frame in self._call("render") or ()]
        rows = [{key: array[i] for key, array in self._shown.items()} for i in range(self.num_envs)]
        return [observation_frame(row, self.observation_spec, name=self.protocol["env"]) for row in rows]

    @override
    def close(self) -> None:
        self._env.close()


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """The autoreset mode that a vector environment declares.

    Raises:
        EnvironmentFault: if it declares none, or one that is unknown.
    """
    # The attribute first: gymnasium writes the metadata into a dict that all instances of an env class share.
    declared = getattr(env.unwrapped, "autoreset_mode", env.metadata.get("autoreset_mode"))
    try:
        return AutoresetMode(declared)
    except ValueError as error:
        raise EnvironmentFault(
            f'{type(env.unwrapped).__name__} declares autoreset mode {declared!r}; set `metadata["autoreset_mode"]` to '
            "gymnasium.vector.AutoresetMode.NEXT_STEP, SAME_STEP or DISABLED"
        ) from error


def is_forked(env: VectorEnv) -> bool:
    """Whether its worker processes are forks of this one: with all its locks, and without the threads that hold them.

    Python's default on Linux until 3.13, and with it gymnasium's.
    """
    return any(type(process).__name__ == "ForkProcess" for process in getattr(env.unwrapped, "processes", ()))


def _knows_reset_mask(env: VectorEnv) -> bool:
    unwrapped = env.unwrapped
    return isinstance(unwrapped, SyncVectorEnv | AsyncVectorEnv) or type(unwrapped).__module__ == "ale_py.vector_env"
