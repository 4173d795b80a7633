"""One untrained agent and one start for all: what is compiled for them once serves every file of a process."""

from __future__ import annotations

import pytest

from dreamer.agent import Agent
from dreamer.dream.simulation import Start
from dreamer.dream.starts import PlayedStarts
from tests.dream.agents import single, untrained


@pytest.fixture(scope="session")
def agent() -> Agent:
    return untrained("CartPole-v1")


@pytest.fixture(scope="session")
def start() -> Start:
    """Sixteen moments of random play, each with its fork."""
    make = PlayedStarts(lambda seed: single("CartPole-v1", seed=seed), agent=None, context=4, spacing=5)
    return make.draw(16, seed=0)
