"""Steps whose contents tell where they come from, and replays to put them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.config import ReplayConfig
from dreamer.data.layout import BFLOAT16, StepLayout
from dreamer.data.replay import Replay
from dreamer.types import CompactLatent
from envs.spaces import DiscreteSpec, ImageSpec, Timestep, VectorSpec

OBSERVATION = {"camera": ImageSpec(4, 3, 1), "place": VectorSpec(2), "reward": DiscreteSpec((5, 300))}
LAYOUT = StepLayout(OBSERVATION, action=3, deter=4, stoch=2)


@dataclass
class Feed:
    """Steps 0, 1, 2, ... of `num_envs` environments; `place` is (env, step). Environment e's episodes have 40 + 3 e."""

    num_envs: int = 1
    step: int = 0

    def next(self) -> dict[str, Any]:
        env, step = np.arange(self.num_envs), self.step
        self.step += 1
        length = 40 + 3 * env
        observation = {
            "camera": np.broadcast_to(((7 * step + env) % 256)[:, None, None, None], (self.num_envs, 4, 3, 1)),
            "place": np.stack([env, np.full_like(env, step)], 1).astype(np.float32),
            "reward": np.stack([env % 5, np.full_like(env, step % 300)], 1).astype(np.int32),
        }
        observation["camera"] = observation["camera"].astype(np.uint8)
        last = step % length == length - 1
        timestep = Timestep(
            observation, (step + env / 8).astype(np.float32), step % length == 0, last, last & (env == 0)
        )
        return {"timestep": timestep, "action": actions(env, step), "latent": latents(env, step)}


def actions(env: np.ndarray, step: Any) -> np.ndarray:
    return np.stack(np.broadcast_arrays(env, step, -1), -1).astype(np.float32)


def latents(env: np.ndarray, step: Any) -> CompactLatent:
    deter = np.stack(np.broadcast_arrays(env, step % 128, step // 128, 0), -1).astype(BFLOAT16)
    return CompactLatent(deter, np.stack(np.broadcast_arrays(step % 16, env), -1).astype(np.uint8))


@pytest.fixture
def feed() -> type[Feed]:
    return Feed


@pytest.fixture
def make_replay() -> Callable[..., Replay]:
    def make(
        kind: type[Replay] = Replay,
        *,
        num_envs: int = 1,
        seed: int = 0,
        directory: Path | None = None,
        memory_is_short: Callable[[], bool] = lambda: False,
        **config: Any,
    ) -> Replay:
        sizes = {"capacity": 10_000, "chunk": 32, "batch_size": 4, "batch_length": 8} | config
        return kind(
            LAYOUT,
            num_envs=num_envs,
            config=ReplayConfig(**sizes),
            seed=seed,
            directory=directory,
            memory_is_short=memory_is_short,
        )

    return make


@pytest.fixture
def expected_latents() -> Callable[[np.ndarray, Any], CompactLatent]:
    return latents


@pytest.fixture
def expected_actions() -> Callable[[np.ndarray, Any], np.ndarray]:
    return actions
