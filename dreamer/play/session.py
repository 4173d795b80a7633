"""Worlds under the same actions: who acts, what was lived, how far they have come apart. No sockets, no clock, no JAX.

Reality and the dream always run; the two panels show any two worlds. All of them begin at the same present of reality,
an *anchor*, and go on with the same actions. What was lived is kept for `HISTORY` steps, which bounds memory and the
way back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from dreamer.dream.simulation import Outcome, Simulation, Start
from dreamer.play.divergence import Divergence
from dreamer.play.keymap import Input, Keymap

HISTORY = 300  # steps that can be taken back
CONTEXT = 16  # real steps from which a world begins; always as many, so that one program serves
DREAM, REALITY = "dream", "reality"
YOU, AGENT = "you", "agent"
OVER = 0.5  # a world whose continue probability is below has ended


class SessionError(ValueError):
    """This cannot be done now; the message says why."""


class Judgement(NamedTuple):
    """What the agent thinks of a moment.

    Attributes:
        action: what it would do, flat `[A]`.
        value: return that it expects.
        policy: for every dial of the keymap the probabilities of its options `[K]`, or `[mean, standard deviation]`.
    """

    action: np.ndarray
    value: float
    policy: list[np.ndarray]


class Pilot(Protocol):
    """The trained agent, for one future. A memory is its latent, whatever that is made of."""

    def fresh(self) -> Any:
        """The memory before an episode."""
        ...

    def watch(self, memory: Any, observation: dict[str, np.ndarray], action: np.ndarray, *, is_first: bool) -> Any:
        """The memory after a real observation, `[1, ...]` by key, to which a flat action `[A]` has led."""
        ...

    def recall(self, state: Any) -> Any:
        """The memory that a state of the dream is."""
        ...

    def judge(self, memory: Any) -> Judgement:
        """What it thinks, with an action drawn from its policy."""
        ...


class Reality(Simulation, Protocol):
    """The truth, which alone can begin new episodes."""

    def fresh(self) -> Start:
        """A new episode, some steps old."""
        ...

    def fork(self, state: Any) -> Any:
        """A snapshot of the environment in a state, for `Start.forks`."""
        ...


class Recording(Protocol):
    """Takes what the worlds live."""

    def add(self, moment: Moment, action: np.ndarray) -> None:
        """A moment, and the flat action `[A]` that was chosen in it."""
        ...

    def cut(self, moment: Moment | None) -> None:
        """What comes next does not follow from what was added; the last moment before the cut, if it was not added."""
        ...


class Lived(NamedTuple):
    """A world in a moment: its state, what is seen of it, and the rewards of the episode so far."""

    state: Any
    outcome: Outcome
    score: float

    @property
    def is_over(self) -> bool:
        """Whether the episode ends here."""
        return bool(self.outcome.continue_prob[0] < OVER or self.outcome.truncated[0])


class Moment(NamedTuple):
    """All worlds after a step.

    Attributes:
        number: steps of the episode since the session took it over.
        age: steps since the anchor.
        worlds: by name.
        action: the flat action `[A]` that led here; at an anchor that of reality.
        memory: the agent's, of reality's observations; None where nobody asked for it.
        judgement: of the world that the agent sees.
    """

    number: int
    age: int
    worlds: dict[str, Lived]
    action: np.ndarray
    memory: Any
    judgement: Judgement | None


class Session:
    """One person, or the agent, at the wheel of several worlds.

    Args:
        worlds: by name; `dream` and `reality` are among them.
        reality: that of `worlds`, which can do more.
        pilot: the agent.
        keymap: from keys to actions.
        set_temperature: tells the dream how random it is to be.
        seed: of the worlds' randomness.

    Attributes:
        shown: names of the two worlds on the panels.
        wheel: who acts, `you` or `agent`.
        eyes: the world that the agent sees, `dream` or `reality`.
        temperature: of the dream.
        history: moments that can be returned to; the last is the present.
        recording: what takes the moments, while one is made.
        divergence: between the two panels.
    """

    def __init__(
        self,
        worlds: Mapping[str, Simulation],
        *,
        reality: Reality,
        pilot: Pilot,
        keymap: Keymap,
        set_temperature: Callable[[float], None],
        seed: int,
    ) -> None:
        self.worlds, self.keymap = worlds, keymap
        self._reality, self._pilot, self._set_temperature = reality, pilot, set_temperature
        self._seed = seed
        self.shown = (DREAM, REALITY)
        self.wheel, self.eyes, self.temperature = YOU, DREAM, 1.0
        self.recording: Recording | None = None
        self.divergence = Divergence(reality.observation_spec)
        self.history: deque[Moment] = deque(maxlen=HISTORY)
        self._before: list[tuple[dict[str, np.ndarray], np.ndarray, bool]] = []
        self._turn = 0
        self.begin_episode()

    @property
    def now(self) -> Moment:
        """The present."""
        return self.history[-1]

    def begin_episode(self) -> None:
        """Leaves the episode for a new one."""
        self._end_sequence()
        start = self._reality.fresh()
        self._before = _steps(start)
        for observation, _, _ in self._before:
            self.divergence.learn(observation)
        worlds = {name: Lived(*self._begin(name, start), 0.0) for name in self._running()}
        action = start.previous_action[0, -1]
        self.history.clear()
        self.history.append(self._think(Moment(0, 0, worlds, action, None, None)))

    def step(self, given: Input) -> Moment:
        """One step of every world; after the end of reality the step begins a new episode."""
        now = self.now
        if now.worlds[REALITY].is_over:
            self.begin_episode()
            return self.now
        if self.wheel == AGENT and now.judgement is not None:
            action = now.judgement.action
        else:
            action = self.keymap.action(given, previous=now.action, turn=self._turn)
        self._turn += 1
        if self.recording is not None:
            self.recording.add(now, action)
        worlds = {name: self._advance(name, lived, action) for name, lived in now.worlds.items()}
        memory = now.memory
        if memory is not None:
            observation = worlds[REALITY].outcome.observation
            memory = self._pilot.watch(memory, observation, action, is_first=False) if self._watches else None
        self.history.append(self._think(Moment(now.number + 1, now.age + 1, worlds, action, memory, None)))
        return self.now

    def rewind(self, steps: int) -> int:
        """Returns by so many steps, or as many as are kept; says how many those were."""
        steps = min(steps, len(self.history) - 1)
        if steps > 0:
            self._end_sequence()
            for _ in range(steps):
                self.history.pop()
            if self._watches and self.now.memory is None:  # nobody had asked for it then
                self.history[-1] = self._think(self.now)
        return steps

    def anchor(self) -> None:
        """Begins every world anew at the present of reality. The way back stays open."""
        self._end_sequence()
        self.history[-1] = self._anchored()

    def show(self, left: str, right: str) -> None:
        """Chooses the worlds on the panels. One that did not run begins at the present of reality, and all with it.

        Raises:
            SessionError: there is no such world.
        """
        for name in (left, right):
            if name not in self.worlds:
                raise SessionError(f"there is no world {name!r}; choose from {', '.join(self.worlds)}")
        self.shown = left, right
        if self.now.worlds.keys() != set(self._running()):
            self._end_sequence()
            moment = self._anchored()
            self._before = self._context()
            self.history.clear()  # the past does not hold all worlds
            self.history.append(moment)

    def drive(self, wheel: str, eyes: str) -> None:
        """Says who acts and what the agent sees; both hold from the present on."""
        self.wheel, self.eyes = wheel, eyes
        self.history[-1] = self._think(self.now._replace(judgement=None))

    def heat(self, temperature: float) -> None:
        """Makes the dream more or less random from the next step on: 0 takes the most likely, 1 is as learned."""
        self.temperature = temperature
        self._set_temperature(temperature)

    def record(self, recording: Recording | None) -> None:
        """Begins to record, or ends it by None."""
        self._end_sequence()
        self.recording = recording
        if recording is not None:
            self.history[-1] = self._think(self.now._replace(judgement=None))

    @property
    def gap(self) -> float:
        """How far the two panels are apart now; see `Divergence`."""
        left, right = (self.now.worlds[name].outcome.observation for name in self.shown)
        return self.divergence.between(left, right)

    @property
    def _watches(self) -> bool:
        """Whether the agent has to follow reality: for its own sake, or for a recording's latents."""
        return self.eyes == REALITY or self.recording is not None

    def _running(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((DREAM, REALITY, *self.shown)))

    def _begin(self, name: str, start: Start) -> tuple[Any, Outcome]:
        self._seed += 1
        return self.worlds[name].begin(start, seed=self._seed)

    def _advance(self, name: str, lived: Lived, action: np.ndarray) -> Lived:
        state, outcome = self.worlds[name].step(lived.state, action[None])
        return Lived(state, outcome, lived.score + float(outcome.reward[0]))

    def _anchored(self) -> Moment:
        """The present with every world but reality begun anew in it."""
        now, real = self.now, self.now.worlds[REALITY]
        start = _start(self._context(), fork=self._reality.fork(real.state))
        worlds = {
            name: real if name == REALITY else Lived(*self._begin(name, start), real.score) for name in self._running()
        }
        return self._think(now._replace(age=0, worlds=worlds, judgement=None))

    def _context(self) -> list[tuple[dict[str, np.ndarray], np.ndarray, bool]]:
        """The last `CONTEXT` real steps: observation, the action that led to it, whether it comes from a reset."""
        lived = list(self.history)[1:]
        steps = [(moment.worlds[REALITY].outcome.observation, moment.action, False) for moment in lived]
        return [*self._before, *steps][-CONTEXT:]

    def _think(self, moment: Moment) -> Moment:
        """Adds what the agent knows of reality, where that is wanted, and what it thinks."""
        self.divergence.learn(moment.worlds[REALITY].outcome.observation)
        memory = moment.memory if self._watches else None
        if self._watches and memory is None:
            memory = self._pilot.fresh()
            for observation, action, is_first in self._context():
                memory = self._pilot.watch(memory, observation, action, is_first=is_first)
        seen = memory if self.eyes == REALITY else self._pilot.recall(moment.worlds[DREAM].state)
        return moment._replace(memory=memory, judgement=self._pilot.judge(seen))

    def _end_sequence(self) -> None:
        if self.recording is not None:
            self.recording.cut(self.now)


def _steps(start: Start) -> list[tuple[dict[str, np.ndarray], np.ndarray, bool]]:
    """The real steps of a start with one future, oldest first."""
    return [
        (
            {key: array[:, t] for key, array in start.observation.items()},
            start.previous_action[0, t],
            bool(start.is_first[0, t]),
        )
        for t in range(start.is_first.shape[1])
    ]


def _start(steps: list[tuple[dict[str, np.ndarray], np.ndarray, bool]], *, fork: Any) -> Start:
    """A start of `CONTEXT` steps. Fewer are filled up by resets before them, which leave no trace in any memory."""
    missing = CONTEXT - len(steps)
    observation, action, _ = steps[0]
    steps = [(observation, action, True)] * missing + steps
    return Start(
        {key: np.stack([observed[key] for observed, _, _ in steps], axis=1) for key in observation},
        np.stack([action for _, action, _ in steps])[None],
        np.array([is_first for _, _, is_first in steps])[None],
        (fork,),
    )
