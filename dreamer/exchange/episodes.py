"""Episodes as replay has them, and as others keep them: an environment's own observations and actions.

`dreamer.exchange` says how the indices of the two relate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dreamer.data.layout import OBSERVATION
from dreamer.data.trajectories import Steps
from envs.codec import ActionCodec, ObservationCodec
from envs.environment import EnvironmentFault


class NativeEpisode(NamedTuple):
    """An episode of `T` actions.

    Attributes:
        observations: in the structure of the observation space, arrays `[T + 1, ...]`.
        actions: in the structure of the action space, arrays `[T, ...]`.
        rewards: each received after the action, `[T]`.
        terminations: true at most at the end, `[T]`.
        truncations: likewise.
    """

    observations: Any
    actions: Any
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray


class EpisodeError(ValueError):
    """An episode is not what its dataset says; the message names what is wrong."""


def to_native(steps: Steps, *, observation_codec: ObservationCodec, action_codec: ActionCodec) -> NativeEpisode:
    """The steps of an episode `[T + 1, ...]` as its environment saw them."""
    observation = {name.removeprefix(OBSERVATION): a for name, a in steps.items() if name.startswith(OBSERVATION)}
    return NativeEpisode(
        observations=observation_codec.decode(observation),
        actions=action_codec.decode(steps["action"][:-1]),
        rewards=steps["reward"][1:],
        terminations=steps["is_terminal"][1:],
        truncations=(steps["is_last"] & ~steps["is_terminal"])[1:],
    )


def to_steps(episode: NativeEpisode, *, observation_codec: ObservationCodec, action_codec: ActionCodec) -> Steps:
    """The steps of an episode, without latents, `[T + 1, ...]`; the last action, which nobody chose, is zeros.

    An episode that has neither terminated nor been truncated counts as truncated: replay knows of nothing after it.

    Raises:
        EpisodeError: arrays are too short, of other spaces than the codecs', or not finite.
    """
    rewards = np.asarray(episode.rewards, np.float32)
    length = len(rewards)
    flags = np.asarray(episode.terminations, bool), np.asarray(episode.truncations, bool)
    if length == 0 or any(flag.shape != (length,) for flag in (rewards, *flags)):
        raise EpisodeError(f"it has {length} rewards, {len(flags[0])} terminations and {len(flags[1])} truncations")
    if any(flag[:-1].any() for flag in flags):
        raise EpisodeError("it ends before its last step")
    try:
        observation = observation_codec.encode(episode.observations, lead=(length + 1,))
        action = action_codec.encode(episode.actions, lead=(length,))
    except (EnvironmentFault, LookupError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())  # which may show arrays
        raise EpisodeError(
            f"{said[:200]}; {length} steps need {length + 1} observations and {length} actions"
        ) from error
    for name, array in {"rewards": rewards, **observation}.items():
        if not np.isfinite(array).all():
            raise EpisodeError(f"{name!r} is NaN or infinite")
    after = np.arange(length + 1) == length
    return {OBSERVATION + key: array for key, array in observation.items()} | {
        "action": np.concatenate([action, np.zeros_like(action[:1])]),
        "reward": np.concatenate([np.zeros(1, np.float32), rewards]),
        "is_first": np.arange(length + 1) == 0,
        "is_last": after,
        "is_terminal": after & flags[0][-1],
    }
