"""A run's world model as gymnasium environments, for any learner that speaks to those.

    import dreamer.dream                                                        # registers dreamer/Dream-v0
    env = gymnasium.make("dreamer/Dream-v0", run="runs/x")                      # DreamEnv
    envs = gymnasium.make_vec("dreamer/Dream-v0", num_envs=256, run="runs/x")   # DreamVectorEnv

Without the import: `gymnasium.make("dreamer.dream:dreamer/Dream-v0", run="runs/x")`.

Actions and observations are those of the environment that the run was trained in. Images that training resizes are the
exception: they come in the size of the training, as `observation_space` says, since no more of them is predicted. A
step is an agent step, action repeat included.

A dream begins where reality was: the posterior filters a context of real steps, and the last of them, decoded, is the
first observation. From there on the prior goes alone. The reward is the expected one. A dream is terminated as drawn
from the predicted probability of going on, so that its expected length is the predicted one; with
`termination="threshold"` it is where going on is less likely than not, which forgets rare ends. It is truncated after
`horizon` steps; a time limit of the real environment is not known to the model.

`info` holds `latent` (the features that the agent's own policy sees), `prior_entropy` (nats) and `continue_prob`.
`reset(seed=...)` repeats everything that follows, bit by bit; `reset(options={"start": ...})` begins at a
`dreamer.dream.simulation.Start`, one of its rows drawn for each dream.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from typing_extensions import override

from dreamer.agent import Agent, codecs, load
from dreamer.dream.dreams import Dreams, StartSource, Termination, source
from dreamer.dream.simulation import Outcome, SimulationError, Start
from envs.environment import observation_frame
from envs.spaces import ImageSpec

CONTEXT, HORIZON = 16, 500  # steps


class _Opened:
    """A run, opened as so many dreams, and the codecs of its environment.

    Args:
        run: folder of a run or of a saved agent, or an agent.
        num: dreams.
        starts: see `dreamer.dream.dreams.source`, as are `context` and `env`.
        context: steps that a start shows.
        horizon: see `Dreams`, as are `temperature` and `termination`.
        temperature: of the prior.
        termination: how an end is decided.
        env: where to play for `starts="played"`, if not where the run was trained.

    Raises:
        SimulationError: an option cannot be followed, or the run holds no replay.
        RunFolderError: there is no run.
        CheckpointError: there is no checkpoint yet, or it is damaged.
    """

    def __init__(
        self,
        run: str | Path | Agent,
        *,
        num: int = 1,
        starts: StartSource = "replay",
        context: int = CONTEXT,
        horizon: int = HORIZON,
        temperature: float = 1.0,
        termination: Termination = "sample",
        env: Any = None,
    ) -> None:
        self.agent = run if isinstance(run, Agent) else load(run)
        self.observations, self.actions = codecs(self.agent.interface)
        self.dreams = Dreams(
            self.agent,
            num=num,
            starts=source(starts, self.agent, context=context, env=env),
            horizon=horizon,
            temperature=temperature,
            termination=termination,
        )


class DreamEnv(gymnasium.Env):
    """One dream at a time; `run` and further options as `_Opened` has them.

    Args:
        run: folder of a run or of a saved agent, or an agent.
        render_mode: `rgb_array` for the decoded image, where the environment has one.
        **options: `starts`, `context`, `horizon`, `temperature`, `termination`, `env`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(self, run: str | Path | Agent, *, render_mode: str | None = None, **options: Any) -> None:
        self._opened = _Opened(run, num=1, **options)
        if not any(isinstance(part, ImageSpec) for part in self._opened.observations.spec.values()):
            self.metadata = {"render_modes": []}
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise SimulationError(f"these dreams cannot be drawn as {render_mode!r}: only images can, as 'rgb_array'")
        self.observation_space = self._opened.observations.decoded_space
        self.action_space = self._opened.agent.action_space
        self.render_mode = render_mode

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        outcome = self._opened.dreams.reset(self.np_random, is_seeded=seed is not None, start=_start(options))
        return self._native(outcome), _info(outcome, row=0)

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        flat = self._opened.actions.encode(action)
        outcome, terminated, truncated = self._opened.dreams.step(flat[None], self.np_random)
        ends = bool(terminated[0]), bool(truncated[0])
        return self._native(outcome), float(outcome.reward[0]), *ends, _info(outcome, row=0)

    @override
    def render(self) -> np.ndarray | None:
        if self.render_mode is None:
            return None
        observation = {key: array[0] for key, array in self._opened.dreams.outcome.observation.items()}
        return observation_frame(observation, self._opened.observations.spec, name="the dream").copy()

    def _native(self, outcome: Outcome) -> Any:
        return self._opened.observations.decode({key: array[0] for key, array in outcome.observation.items()})


class DreamVectorEnv(gymnasium.vector.VectorEnv):
    """Many dreams in one program, with NEXT_STEP autoreset: a step after an end ignores the action and begins anew.

    Args:
        run: folder of a run or of a saved agent, or an agent.
        num_envs: dreams.
        **options: `starts`, `context`, `horizon`, `temperature`, `termination`, `env`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(self, run: str | Path | Agent, *, num_envs: int = 1, **options: Any) -> None:
        self._opened = _Opened(run, num=num_envs, **options)
        self.num_envs = num_envs
        self.single_observation_space = self._opened.observations.decoded_space
        self.single_action_space = self._opened.agent.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        outcome = self._opened.dreams.reset(self.np_random, is_seeded=seed is not None, start=_start(options))
        return self._native(outcome), self._infos(outcome)

    @override
    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        flat = self._opened.actions.encode(actions, lead=(self.num_envs,))
        outcome, terminated, truncated = self._opened.dreams.step(flat, self.np_random)
        reward = outcome.reward.astype(np.float64)
        return self._native(outcome), reward, terminated, truncated, self._infos(outcome)

    def _native(self, outcome: Outcome) -> Any:
        return self._opened.observations.decode(outcome.observation, clip=True)

    def _infos(self, outcome: Outcome) -> dict[str, Any]:
        info = _info(outcome, row=slice(None))
        return info | {f"_{name}": np.ones(self.num_envs, bool) for name in info}


def _info(outcome: Outcome, *, row: int | slice) -> dict[str, Any]:
    arrays = outcome.info | {"continue_prob": outcome.continue_prob}
    return {name: np.array(array[row]) for name, array in arrays.items()}


def _start(options: dict[str, Any] | None) -> Start | None:
    unknown = set(options or {}) - {"start"}
    if unknown:
        raise SimulationError(f"reset option {sorted(unknown)[0]!r} is unknown; there is 'start'")
    return (options or {}).get("start")
