"""How good an agent is, in complete episodes of one environment; `dreamer.evaluate` is the command line of it.

It knows an agent as a `Player` only, and imports no JAX of its own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dreamer.config import FACTORY, Config
from dreamer.protocols import Protocol as ScoreProtocol
from dreamer.protocols import ProtocolError
from dreamer.scoring import Training, score_training

if TYPE_CHECKING:
    from gymnasium import spaces

    from dreamer.training.collect import Episode
    from dreamer.training.counters import Counters
    from envs.environment import Environment
    from envs.spaces import Timestep

VIDEO_SECONDS = 60.0  # of real time; more than this is not recorded
VIDEO_SIDES = (240, 480)  # pixels of the longer side: smaller frames are enlarged, larger ones shrunk
GIF_RATE = 25.0  # frames per second; a GIF counts time in hundredths and most viewers are slow
SEED_TAG = 0x6576616C  # sub-seed: training with the same seed sees other episodes


class EvaluationError(ValueError):
    """The agent cannot be evaluated so; the message says what to do."""


class Player(Protocol):
    """What an evaluation needs of an agent; `dreamer.Agent` is one.

    Attributes:
        config: the configuration it was trained with.
        counters: how long it was trained.
        path: where it comes from.
        observation_space: of its environment, as that declares it.
        action_space: likewise.
    """

    config: Config
    counters: Counters
    path: Path
    observation_space: spaces.Space
    action_space: spaces.Space

    def act(
        self, observation: dict[str, np.ndarray], *, state: Any, is_first: np.ndarray, deterministic: bool
    ) -> tuple[np.ndarray, Any]:
        """Flat actions `[N, A]` for `N` observations, and what it wants back with the next ones (at first None)."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Episodes, and all that defines how they were played.

    Attributes:
        run: where the agent comes from.
        counters: how long it was trained.
        deterministic: whether it took the modes of its actions.
        seed: of the environment.
        environment: every value that defines the task.
        episodes: complete ones.
        training: what the named protocol finds in the run's training, if one was asked for.
    """

    run: str
    counters: Counters
    deterministic: bool
    seed: int
    environment: dict[str, Any]
    episodes: list[Episode]
    training: Training | None = None

    @property
    def scores(self) -> list[float]:
        """Of the episodes."""
        return [episode.score for episode in self.episodes]

    def statistics(self) -> dict[str, dict[str, float]]:
        """Mean, standard deviation (of the episodes, not of their mean), least and greatest score and length."""
        columns = {
            name: np.array([getattr(episode, name) for episode in self.episodes]) for name in ("score", "length")
        }
        functions = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
        return {
            name: {label: float(function(column)) for label, function in functions.items()}
            for name, column in columns.items()
        }

    def summary(self) -> str:
        """For a person."""
        actions = "deterministic actions" if self.deterministic else "sampled actions"
        lines = [f"{len(self.episodes)} episodes at {self.counters}, {actions}, seed {self.seed}"]
        for name, numbers in self.statistics().items():
            lines.append(f"{name:6}" + "".join(f"   {label} {number:,.1f}" for label, number in numbers.items()))
        return "\n".join(lines + (self.training.summary(self.scores) if self.training else []))

    def write(self, path: Path) -> Path | None:
        """Writes everything as JSON, whole or not at all; an earlier file gets another name, which is returned."""
        document = {
            "run": self.run,
            **self.counters._asdict(),
            "num_episodes": len(self.episodes),
            "actions": "mode" if self.deterministic else "sample",
            "seed": self.seed,
            **(self.training.document(self.scores, self.environment) if self.training else {}),
            "environment": self.environment,
            **self.statistics(),
            "episodes": [episode._asdict() for episode in self.episodes],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
        earlier = keep_earlier(path)
        os.replace(partial, path)
        return earlier


def keep_earlier(path: Path) -> Path | None:
    """Moves `results.json`, if there is one, to the first free of `results-1.json`, `results-2.json`, ..."""
    if not path.exists():
        return None
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
    earlier = next(name for name in names if not name.exists())
    os.replace(path, earlier)
    return earlier


def evaluate(
    agent: Player,
    env: str | Callable[[], Any] | None = None,
    *,
    episodes: int = 20,
    deterministic: bool = False,
    seed: int = 1,
    protocol: ScoreProtocol | None = None,
    video: str | Path | None = None,
    report: Callable[[list[Episode], Episode], None] | None = None,
) -> Evaluation:
    """Plays complete episodes.

    Args:
        agent: it plays; for sampled actions that repeat, load it anew with the same seed.
        env: a name or a function that makes the environment; None: the one of the training, unless that is a
            `module:Name`, for which somebody has to ask.
        episodes: how many.
        deterministic: take the modes of latents and actions.
        seed: of the environment.
        protocol: decides on episodes and actions itself, adds the number of the training window, and refuses an
            environment that contradicts it.
        video: a .mp4 or .gif to write; see `Recorder`.
        report: called after every step with the complete episodes and the current one.

    Raises:
        EvaluationError: the environment cannot be made from what is known, or the video cannot be written.
        EnvironmentFault: the environment is at fault.
        ProtocolError: the environment contradicts the protocol, or the run's table of episodes is damaged.
    """
    if protocol:
        episodes, deterministic = protocol.episodes, protocol.actions == "mode"
    if episodes < 1:
        raise EvaluationError(f"{episodes} episodes were asked for; at least one is needed.")
    prepare_video(video)
    environment = make_environment(agent, env, seed=seed)
    try:
        check_spaces(agent, environment)
        training = score(agent, environment, protocol) if protocol else None
        recorder = Recorder(environment) if video else None
        steps = play(agent, environment, deterministic=deterministic)
        played = count_episodes(steps, episodes=episodes, recorder=recorder, report=report or _say_nothing)
    finally:
        environment.close()
    if recorder and video:
        recorder.write(Path(video))
    return Evaluation(
        run=str(agent.path),
        counters=agent.counters,
        deterministic=deterministic,
        seed=seed,
        environment=environment.protocol,
        episodes=played,
        training=training,
    )


def score(agent: Player, environment: Environment, protocol: ScoreProtocol) -> Training:
    """What the protocol finds in the training of an agent, if that and the environment are what it is for.

    Raises:
        ProtocolError: they are not.
    """
    differences = protocol.differences(str(environment.protocol["env"]), environment.protocol)
    if differences:
        raise ProtocolError(f"{agent.path} does not follow protocol {protocol.name}: {'; '.join(differences)}.")
    return score_training(agent.path, protocol, counters=agent.counters)


def make_environment(agent: Player, env: str | Callable[[], Any] | None, *, seed: int) -> Environment:
    """One environment with the settings of the training.

    A name that only the run's own file gives never imports a module: the file may be a stranger's, and the module too.
    """
    import envs

    name = agent.config.env if env is None else env
    if isinstance(name, str) and name.startswith(FACTORY):
        raise EvaluationError(
            f"the environment of this run is a Python function ({name.removeprefix(FACTORY)}); evaluate it in Python: "
            f"dreamer.load({str(agent.path)!r}).evaluate(lambda: MyEnv())"
        )
    if env is None and ":" in agent.config.env:
        raise EvaluationError(
            f"{agent.path / 'config.yaml'} asks for the environment {name}, which runs a Python module: if that is "
            f"yours, or you trust it, name it yourself (--env {name}; in Python, as the argument env)"
        )
    settings = dataclasses.replace(agent.config.environment, num_envs=1, workers="none")
    env_seed = int(np.random.SeedSequence([seed, SEED_TAG]).generate_state(1)[0])
    return envs.make(name, num_envs=1, seed=env_seed, settings=settings)


def play(agent: Player, environment: Environment, *, deterministic: bool) -> Iterator[Timestep]:
    """What an agent sees in its environment, episode after episode without end."""
    timestep, state = environment.reset(), None
    while True:
        yield timestep
        action, state = agent.act(
            timestep.observation, state=state, is_first=timestep.is_first, deterministic=deterministic
        )
        timestep = environment.step(action)


def count_episodes(
    steps: Iterator[Timestep],
    *,
    episodes: int,
    recorder: Recorder | None,
    report: Callable[[list[Episode], Episode], None],
) -> list[Episode]:
    """Adds up scores and lengths of one environment until so many episodes are complete."""
    from dreamer.training.collect import Episode

    played: list[Episode] = []
    current = Episode(0.0, 0)
    for timestep in steps:
        if recorder:
            recorder.add_frame()
        if timestep.is_first[0]:
            current = Episode(0.0, 0)
        else:
            current = Episode(current.score + float(timestep.reward[0]), current.length + 1)
        if timestep.is_last[0]:
            played.append(current)
        report(played, current)
        if len(played) == episodes:
            break
    return played


class Recorder:
    """Collects an environment's frames for a video in real time, as many as fit into `VIDEO_SECONDS`."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._rate = environment.frame_rate / environment.action_repeat
        self._frames: list[np.ndarray] = []

    def add_frame(self) -> None:
        """Adds the frame that the environment shows now."""
        if len(self._frames) < VIDEO_SECONDS * self._rate:
            self._frames.append(resize(self._environment.render()[0]))

    def write(self, path: Path) -> None:
        """Writes the video; its name says which kind.

        Raises:
            EvaluationError: ffmpeg fails.
        """
        from dreamer.training.video import write_gif, write_mp4

        stride = max(1, round(self._rate / GIF_RATE)) if path.suffix == ".gif" else 1
        frames, rate = np.stack(self._frames[::stride]), max(1, round(self._rate / stride))
        if path.suffix == ".gif":
            write_gif(path, frames, fps=rate)
            return
        try:
            write_mp4(path, frames, fps=rate)
        except RuntimeError as error:
            raise EvaluationError(str(error)) from error


def resize(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 `[H, W, 3]`, with its longer side within `VIDEO_SIDES`; pixels of small ones stay sharp."""
    from PIL import Image

    height, width, _ = frame.shape
    least, most = VIDEO_SIDES
    longer = max(height, width)
    if longer < least:
        factor = -(-least // longer)
        return frame.repeat(factor, axis=0).repeat(factor, axis=1)
    if longer <= most:
        return frame
    size = (round(width * most / longer), round(height * most / longer))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


def prepare_video(path: str | Path | None) -> None:
    """Makes the video's folder and refuses, before anything is played, what could not be written after it.

    Raises:
        EvaluationError: the kind is unknown, or ffmpeg is missing.
    """
    if path is None:
        return
    suffix = Path(path).suffix
    if suffix not in (".mp4", ".gif"):
        raise EvaluationError(f"{path}: the name of a video ends in .mp4 or .gif.")
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise EvaluationError("MP4 needs ffmpeg: pip install 'dreamer-jax[video]', or write a .gif.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def check_spaces(agent: Player, environment: Environment) -> None:
    """Refuses an environment that the agent was not made for.

    Raises:
        EvaluationError: a space differs.
    """
    for name in ("observation_space", "action_space"):
        wanted, found = getattr(agent, name), getattr(environment, f"native_{name}")
        if wanted != found:
            raise EvaluationError(f"the agent's {name.replace('_', ' ')} is {wanted}, this environment's is {found}.")


def _say_nothing(played: list[Episode], current: Episode) -> None:
    """The report of an evaluation that shows no progress."""
