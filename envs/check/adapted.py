"""The `Environment` that a learner sees: its flags, its arrays, and that it tells what the user's code said."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

from envs.check.evidence import Evidence
from envs.check.finding import Finding, fail, ok, unchecked
from envs.check.player import same_array
from envs.codec import ObservationCodec, observation_space
from envs.environment import Environment, env_seeds
from envs.spaces import Timestep

REPORT = "the adapter (or your vector environment's autoreset) is at fault; please report it with this table"
KEPT = 100  # timesteps whose arrays are watched


def check_timesteps(evidence: Evidence) -> Finding:
    """Flags, dtypes, shapes and ownership of the arrays, for one environment and for two."""
    for num_envs in (1, 2):
        evidence.beat("making the environment")
        env = evidence.subject.make(evidence.seed, num_envs)
        fault = _watch(evidence, env, num_envs)
        env.close()
        if fault is not None:
            return fail(f"{fault} (num_envs {num_envs})", REPORT)
    return ok("is_first, is_last, is_terminal, shapes and dtypes are in order, for one environment and two")


def _watch(evidence: Evidence, env: Environment, num_envs: int) -> str | None:
    """The first fault of a run, None without one."""
    evidence.beat("reset")
    timestep, was_last = env.reset(), np.ones(num_envs, bool)
    kept: deque[tuple[Timestep, Timestep]] = deque(maxlen=KEPT)
    others = [evidence.random_actions(len(evidence.actions), stream=10 + i) for i in range(1, num_envs)]
    for index, actions in enumerate(zip(evidence.actions, *others, strict=True)):
        fault = _fault(timestep, was_last, env)
        if fault is not None:
            return f"{fault} at step {index}"
        kept.append((timestep, _copy(timestep)))
        was_last = timestep.is_last.copy()
        evidence.beat("step")
        timestep = env.step(np.stack(actions))
    for held, copy in kept:
        pairs = [(held.reward, copy.reward), (held.is_first, copy.is_first), (held.is_last, copy.is_last)]
        pairs += [(held.observation[key], copy.observation[key]) for key in copy.observation]
        if not all(same_array(a, b) for a, b in pairs):
            return "an array of an earlier timestep was written to later"
    return None


def _fault(timestep: Timestep, was_last: np.ndarray, env: Environment) -> str | None:
    if not np.array_equal(timestep.is_first, was_last):
        return f"is_first is {timestep.is_first.tolist()} where {was_last.tolist()} follows from the ends before"
    if (timestep.is_terminal & ~timestep.is_last).any():
        return "is_terminal is set without is_last"
    if timestep.reward[timestep.is_first].any():
        return "a reset came with a reward"
    if (timestep.is_first & timestep.is_last).any():
        return "an episode ended at its reset"
    if timestep.reward.shape != (env.num_envs,) or timestep.reward.dtype != np.float32:
        return "the reward is not float32 [N]"
    for key, space in observation_space(env.observation_spec).spaces.items():
        array = timestep.observation[key]
        if array.shape != (env.num_envs, *(space.shape or ())) or array.dtype != space.dtype:
            return f"observation {key!r} is {array.dtype} {array.shape}, not as the spec says"
    return None


def _copy(timestep: Timestep) -> Timestep:
    observation = {key: array.copy() for key, array in timestep.observation.items()}
    return Timestep(observation, *(array.copy() for array in timestep[1:]))


def check_adapter(evidence: Evidence) -> Finding:
    """The adapted environment shows exactly what the user's own does for the same seed and actions."""
    if evidence.subject.make_raw is None:
        return unchecked("a suite has no environment of yours to compare with")
    if evidence.parting is not None:
        return unchecked("the environment is not reproducible")
    raw, adapted = evidence.raw_player(), evidence.adapted_player()
    codec = ObservationCodec(evidence.example.native_observation_space)
    wanted, given = raw.start(env_seeds(evidence.seed, 1)[0]), adapted.start(evidence.seed)
    deadline, steps = evidence.until(0.04), 0
    for index, action in enumerate(evidence.random_actions(10_000, stream=6)):
        observation = codec.encode(raw.native)
        pairs: dict[str, tuple[Any, Any]] = {
            f"observation {key!r}": (array, given.observation[key]) for key, array in observation.items()
        }
        pairs["reward"] = np.float32(wanted.reward), np.float32(given.reward)
        pairs["is_first"] = np.bool_(wanted.is_first), np.bool_(given.is_first)
        pairs["is_last"] = np.bool_(wanted.is_last), np.bool_(given.is_last)
        pairs["is_terminal"] = np.bool_(wanted.terminated), np.bool_(given.terminated)
        for what, (expected, got) in pairs.items():
            if not same_array(np.asarray(expected), np.asarray(got)):
                return fail(f"{what} at step {index} is not what the environment itself returned", REPORT)
        if time.monotonic() > deadline:
            break
        wanted, given, steps = raw.step(action), adapted.step(action), index + 1
    raw.close()
    adapted.close()
    return ok(f"{steps:,} steps arrive exactly as the environment returned them")
