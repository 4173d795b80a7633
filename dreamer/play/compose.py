"""From a run's folder to a player that has compiled all that it needs."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamer.agent import Agent, load
from dreamer.dream.controls import ActionBlind, Frozen
from dreamer.dream.model import ModelSimulation
from dreamer.evaluation import check_spaces, make_environment
from dreamer.play.keymap import Input, Keymap, known_names
from dreamer.play.painter import Painter
from dreamer.play.pilot import AgentPilot
from dreamer.play.player import Player
from dreamer.play.protocol import RATES
from dreamer.play.reality import RealEnvironment
from dreamer.play.recording import ReplayRecording
from dreamer.play.session import DREAM, REALITY, YOU, Session
from dreamer.training.compilation import cache_compilations
from envs.environment import Environment

MOST_RATE = 30.0  # steps per second that a person follows, where real time is faster
LEAST_TEMPERATURE = 0.01  # as good as modes, and the same program
BLIND, FROZEN = "action-blind", "frozen"


def compose(arguments: argparse.Namespace, *, say: Callable[[str], object]) -> tuple[Player, Callable[[], None]]:
    """Loads agent and environments, and makes every kind of step once, so that none is compiled while one plays.

    Returns:
        The player, and what closes its environments.

    Raises:
        CheckpointError, RunFolderError, EvaluationError, EnvironmentFault: as loading and making environments do.
        SimulationError: the environment can be neither saved nor copied.
    """
    cache_compilations()
    agent = load(arguments.run, seed=arguments.seed)
    return make_player(
        agent,
        lambda seed: make_environment(agent, arguments.env, seed=seed),
        rate=arguments.rate,
        folder=arguments.out or arguments.run / "play",
        seed=arguments.seed,
        say=say,
    )


def make_player(
    agent: Agent,
    make: Callable[[int], Environment],
    *,
    rate: float | None,
    folder: Path,
    seed: int,
    say: Callable[[str], object],
) -> tuple[Player, Callable[[], None]]:
    """A player of an agent in the environments that `make` makes from a seed; see `compose`."""
    with contextlib.ExitStack() as stack:
        environment = make(seed)
        stack.callback(environment.close)
        check_spaces(agent, environment)
        canvas = make(seed)
        stack.callback(canvas.close)
        say("compiling ... (a minute at most; the next start is quicker)")
        began = time.monotonic()
        session, pilot = make_session(agent, environment, seed=seed)
        player = Player(
            session,
            Painter(canvas),
            rate=rate or min(max(environment.frame_rate / environment.action_repeat, RATES[0]), MOST_RATE),
            folder=folder,
            make_recording=lambda folder: ReplayRecording(folder, definition=agent.definition, pilot=pilot),
            about=describe(agent, environment),
        )
        warm(session)
        player.frame()
        say(f"compiled in {time.monotonic() - began:.0f} s")
        return player, stack.pop_all().close


def make_session(agent: Agent, environment: Environment, *, seed: int) -> tuple[Session, AgentPilot]:
    """The worlds of an agent: its dream, reality, a dream that does not know the actions, and a still picture."""
    pilot = AgentPilot(agent, seed=seed)
    dream, reality = ModelSimulation(agent), RealEnvironment(environment, pilot=pilot)
    frozen = Frozen(observation_spec=environment.observation_spec, action_spec=environment.action_spec)
    names = environment.action_names or known_names(str(environment.protocol.get("class", environment.protocol["env"])))

    def set_temperature(temperature: float) -> None:
        dream.temperature = max(temperature, LEAST_TEMPERATURE)

    session = Session(
        {DREAM: dream, REALITY: reality, BLIND: ActionBlind(dream), FROZEN: frozen},
        reality=reality,
        pilot=pilot,
        keymap=Keymap(environment.action_spec, names=names),
        set_temperature=set_temperature,
        seed=seed,
    )
    return session, pilot


def warm(session: Session) -> None:
    """Makes every kind of step once."""
    for eyes in (REALITY, DREAM):
        session.drive(YOU, eyes)
        session.step(Input())
    session.anchor()
    session.step(Input())
    session.begin_episode()


def describe(agent: Agent, environment: Environment) -> dict[str, Any]:
    """What the page says of a run."""
    return {
        "run": agent.path.name,
        "env": environment.protocol["env"],
        "size": agent.config.size,
        "agent_steps": agent.counters.agent_steps,
        "updates": agent.counters.updates,
        "real_rate": environment.frame_rate / environment.action_repeat,
    }
