"""Atari games through the Arcade Learning Environment, by the protocols of `envs.atari_protocol`.

Several games run in ale-py's native `AtariVectorEnv`, one runs in `envs.atari_fork`, which can be saved and gives the
very same frames for the same seed. ale-py shows, as the last observation of an episode that ends inside an action
repeat, mostly the one before: it records no frame after the end. Both paths do so, and both resize as ale-py does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space
from typing_extensions import override

from envs.atari_fork import AtariSimulator
from envs.atari_protocol import AtariProtocol, action_names, atari_protocol, printed_protocol
from envs.cores import usable_cores
from envs.environment import Environment, EnvSettings
from envs.loop import LoopEnvironment
from envs.vector import VectorEnvironment


def make_atari(name: str, *, seeds: list[int], settings: EnvSettings | Any) -> Environment:
    """Make `atari_<game>` or `atari100k_<game>`, one environment per seed; a single one can fork."""
    protocol = atari_protocol(name, settings)
    if len(seeds) == 1:
        return LoopEnvironment(
            [lambda seed: AtariSimulator(protocol, seed=seed, name=name)],
            seeds=seeds,
            settings=settings,
        )

    def native() -> VectorEnv:
        return AtariImages(native_vector_env(protocol, num_envs=len(seeds)), protocol)

    return VectorEnvironment(
        native(),
        seed=np.array(seeds),
        settings=EnvSettings(max_restarts=settings.max_restarts, step_timeout=settings.step_timeout),
        protocol=printed_protocol(protocol, name) | {"workers": "threads of ale-py"},
        action_repeat=protocol.action_repeat,
        action_names=action_names(protocol),
        remake=native,
    )


def native_vector_env(protocol: AtariProtocol, *, num_envs: int) -> AtariVectorEnv:
    """ale-py's own vector environment, with no argument left to its defaults, which are not Dreamer's."""
    return AtariVectorEnv(
        game=protocol.game,
        num_envs=num_envs,
        batch_size=num_envs,
        num_threads=min(num_envs, usable_cores()),
        thread_affinity_offset=-1,  # no pinning
        max_num_frames_per_episode=protocol.max_episode_frames,
        repeat_action_probability=protocol.sticky,
        full_action_space=protocol.full_actions,
        continuous=False,
        continuous_action_threshold=0.5,  # unused
        autoreset_mode=AutoresetMode.NEXT_STEP,
        img_height=protocol.height,
        img_width=protocol.width,
        grayscale=protocol.grayscale,
        stack_num=1,
        frameskip=protocol.action_repeat,
        maxpool=protocol.max_pool,
        noop_max=protocol.noops + 1,  # ale-py draws 0 .. noop_max - 1
        episodic_life=protocol.life_loss,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=False,
    )


class AtariImages(VectorObservationWrapper):
    """Observations `[N, 1, H, W]` or `[N, 1, H, W, 3]` of ale-py as `[N, H, W, C]`."""

    def __init__(self, env: VectorEnv, protocol: AtariProtocol) -> None:
        super().__init__(env)
        shape = (protocol.height, protocol.width, protocol.channels)
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    @override
    def observations(self, observations: np.ndarray) -> np.ndarray:
        return observations.reshape(self.observation_space.shape)
