"""What the checks look at: an environment that can be made anew, and recordings of it, each made once."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs.check.branches import Branches
from envs.check.player import AdaptedPlayer, Beat, Moment, Player, RawPlayer, difference, stream
from envs.codec import leaves, observation_space
from envs.environment import Environment, EnvironmentFault, EnvSettings
from envs.spaces import action_width

MOST_STEPS, MOST_BYTES = 20_000, 200_000_000  # of the long recording
ENOUGH_STEPS, ENOUGH_EPISODES = 1_000, 60
EDGE_SHARE = 0.125  # of random actions that lie in a corner of the action space, where bugs live
BLOCK, HOLD, GENTLE = 64, 8, 0.1  # steps of one style, steps of a held action, scale of gentle ones


class Subject(NamedTuple):
    """The environment under test.

    Attributes:
        name: as the user wrote it.
        make: seed and number to a new `Environment`.
        make_raw: a new environment of the user's own, None for the suites, whose own interface is not gymnasium's.
        action_bound: range of an unbounded `Box` action.
    """

    name: str
    make: Callable[[int, int], Environment]
    make_raw: Callable[[], gymnasium.Env] | None = None
    action_bound: float | None = None


def subject_of(name: str | Callable[[], Any], *, action_bound: float | None = None) -> Subject:
    """The subject of an `--env` name or of a function that returns a `gymnasium.Env`."""
    from envs import registry
    from envs.gym import make_env

    settings = EnvSettings(workers="none", action_bound=action_bound, max_restarts=0)

    def make(seed: int, num_envs: int) -> Environment:
        return registry.make(name, num_envs=num_envs, seed=seed, settings=settings)

    if callable(name):
        return Subject(getattr(name, "__qualname__", "environment"), make, name, action_bound)
    if registry.suite_of(name) != "gym":
        return Subject(name, make, None, action_bound)
    registry.register_gymnasium()
    return Subject(name, make, lambda: make_env(registry.ALIASES.get(name, name)), action_bound)


@dataclass
class Play:
    """A recording of random play, and why it ended early if it did."""

    moments: list[Moment] = field(default_factory=list)
    crash: str | None = None
    seconds: float = 0.0
    complaints: dict[str, str] = field(default_factory=dict)

    @cached_property
    def episodes(self) -> list[list[Moment]]:
        """The moments of each episode; the last one may be unfinished."""
        episodes: list[list[Moment]] = []
        for moment in self.moments:
            if moment.is_first or not episodes:
                episodes.append([])
            episodes[-1].append(moment)
        return episodes

    @property
    def finished(self) -> list[list[Moment]]:
        """The episodes that ended."""
        return [episode for episode in self.episodes if episode[-1].is_last]

    @property
    def steps(self) -> int:
        """Steps, without resets."""
        return sum(not moment.is_first for moment in self.moments)


class Evidence:
    """Recordings of a subject within a budget of seconds. Seeds derive from `seed`; so does every action.

    Attributes:
        seconds: the budget, of which every check takes a share.
        deadline: when nothing more is begun (`time.monotonic`); tests on busy machines move it away.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        seed: int = 0,
        seconds: float = 40.0,
        steps: int = 1_000_000,
        beat: Beat | None = None,
    ) -> None:
        self.subject = subject
        self.seed = seed
        self.seconds = seconds
        self.train_steps = steps
        self.beat: Beat = beat or (lambda label: None)
        self.deadline = time.monotonic() + seconds

    @property
    def is_late(self) -> bool:
        """Whether the budget is spent."""
        return time.monotonic() > self.deadline

    def until(self, share: float) -> float:
        """The moment (`time.monotonic`) at which a part of the budget, counted from now, is spent."""
        return min(self.deadline, time.monotonic() + share * self.seconds)

    def raw_player(self) -> RawPlayer:
        """A new environment of the user's own."""
        assert self.subject.make_raw is not None
        self.beat("making the environment")
        env = self.subject.make_raw()
        return RawPlayer(env, name=self.subject.name, bound=self.subject.action_bound, beat=self.beat)

    def adapted_player(self) -> AdaptedPlayer:
        """A new environment of ours."""
        return AdaptedPlayer(lambda seed: self.subject.make(seed, 1), beat=self.beat)

    def player(self) -> Player:
        """A new one of the user's own, where there is one."""
        return self.adapted_player() if self.subject.make_raw is None else self.raw_player()

    @cached_property
    def example(self) -> Environment:
        """One environment to ask about specs and protocol; nobody steps it."""
        self.beat("making the environment")
        return self.subject.make(self.seed, 1)

    @cached_property
    def observation_leaves(self) -> dict[str, Any]:
        """Declared space of every part of what `player` shows."""
        space: gymnasium.Space = observation_space(self.example.observation_spec)
        if self.subject.make_raw is not None:
            space = self.example.native_observation_space
        return {"/".join(map(str, path)): leaf for path, leaf in leaves(space, what="observation").items()}

    def random_actions(self, count: int, *, stream: int = 0) -> np.ndarray:
        """Flat actions `[count, A]`, in blocks: any and corners, held for some steps, or gentle, which lives longer."""
        rng = np.random.default_rng([self.seed, stream])
        actions = rng.uniform(-1.0, 1.0, (count, action_width(self.example.action_spec)))
        actions = np.where(rng.random((count, 1)) < EDGE_SHARE, np.sign(actions), actions)
        for start in range(0, count, BLOCK):
            block = actions[start : start + BLOCK]
            style = rng.choice(["any", "any", "held", "gentle"])
            if style == "held":
                block[:] = block[np.arange(len(block)) // HOLD * HOLD]
            elif style == "gentle":
                block *= GENTLE
        return actions.astype(np.float32)

    @cached_property
    def play(self) -> Play:
        """Random play long enough for many episodes, within a fifth of the budget."""
        play, size, ends = Play(), 0, 0
        actions = self.random_actions(MOST_STEPS)
        started = time.monotonic()
        player: Player | None = None
        try:
            player = self.player()
            play.moments.append(player.start(self.seed))
            deadline, started = self.until(0.2), time.monotonic()  # making it, once, does not count
            for action in actions:
                moment = player.step(action)
                play.moments.append(moment)
                size += sum(array.nbytes for array in moment.observation.values())
                ends += moment.is_last
                is_enough = ends >= ENOUGH_EPISODES and len(play.moments) >= ENOUGH_STEPS
                if is_enough or size > MOST_BYTES or time.monotonic() > deadline:
                    break
        except (Exception, SystemExit) as error:
            play.crash = describe_crash(error)
        play.complaints = player.complaints if isinstance(player, RawPlayer) else {}
        play.seconds = time.monotonic() - started
        if player is not None and play.crash is None:
            player.close()
        return play

    @cached_property
    def length(self) -> int:
        """Steps of a short recording: three episodes where they fit into a fiftieth of the budget."""
        affordable = int(self.play.steps / max(self.play.seconds, 1e-6) * 0.02 * self.seconds)
        wanted = max(300, 3 * max((len(episode) for episode in self.play.episodes), default=0) + 10)
        return int(np.clip(min(affordable, wanted), 10, 1000))

    @cached_property
    def actions(self) -> np.ndarray:
        """The actions of every short recording."""
        return self.random_actions(self.length, stream=1)

    @cached_property
    def reference(self) -> list[Moment]:
        """A short recording of a new environment."""
        return self.record(self.player())

    def record(self, player: Player, *, seed: int | None = None) -> list[Moment]:
        """A short recording; closes the player."""
        moments = stream(player, self.seed if seed is None else seed, self.actions)
        player.close()
        return moments

    @cached_property
    def branches(self) -> Branches:
        """Futures under other actions."""
        return Branches(self.adapted_player(), seed=self.seed, actions=self.actions, beat=self.beat)

    @cached_property
    def parting(self) -> str | None:
        """Where two new environments with the same seed and actions part; None where they do not."""
        return difference(self.reference, self.record(self.player()))


def describe_crash(error: BaseException) -> str:
    """One sentence: the fault's own, or the exception with the user's line that raised it."""
    if isinstance(error, EnvironmentFault):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:200]}{where}" if message else f"{type(error).__name__}{where}"
