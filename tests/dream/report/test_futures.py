"""Futures whose environments are never rewound equal those that are, and all branches begin alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dreamer.dream.controls import ActionBlind, Frozen
from dreamer.dream.report import causal
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, TRUTH
from dreamer.dream.report.futures import Follower, OnceOnly, any_action, follow, replay
from dreamer.dream.simulation import SimulationError, Start
from dreamer.dream.starts import PlayedStarts
from dreamer.dream.truth import Truth
from envs.environment import Environment
from tests.dream.agents import single, untrained
from tests.dream.report.benches import make_cartpole, starts


def make_pong(seed: int) -> Environment:
    return single("atari100k_pong", seed=seed)


def assert_same_futures(make: Callable[[int], Environment], start: Start, *, steps: int) -> None:
    actions = any_action(make(0).action_spec, (2, steps, len(start.is_first)), seed=0)
    once, rewound = (replay(truth, start, actions, seed=0) for truth in (OnceOnly(make), Truth(make(0))))
    for key, array in once.observation.items():
        np.testing.assert_array_equal(array, rewound.observation[key])
    for one, other in zip(once[1:4], rewound[1:4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_environment_that_is_not_rewound_shows_the_same():
    assert_same_futures(make_cartpole, starts(4), steps=40)


@pytest.mark.slow
def test_on_pong_the_environment_is_at_the_ceiling_and_controls_at_chance():
    start = PlayedStarts(make_pong, agent=None, context=2, spacing=30).draw(8, seed=0)
    assert_same_futures(make_pong, start, steps=5)
    model = OnceOnly(make_pong)
    frozen = Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec)
    models = {MODEL: model, BLIND: ActionBlind(OnceOnly(make_pong)), FROZEN: frozen}
    bench = Bench(models, OnceOnly(make_pong), start, 0, None, make_pong, print)
    cda, bits = causal.measure(bench)
    for name, chance in ((MODEL, 1), (TRUTH, 1), (BLIND, 0.5), (FROZEN, 0.5)):
        assert {one.mean for one in cda.values[name] if one is not None} == {chance}
    assert bits.verdict() == cda.verdict() == "pass"


def test_a_follower_acts_as_one_that_begins_a_step_later():
    agent, start, truth = untrained("CartPole-v1"), starts(3), OnceOnly(make_cartpole)
    follower = Follower(agent, start, action_spec=truth.action_spec, random_share=0.0, seed=5)
    state, outcome = truth.begin(start, seed=0)
    action = follower.act(outcome.observation)
    _, outcome = truth.step(state, action)
    longer = start._replace(
        observation={
            key: np.concatenate([array, outcome.observation[key][:, None]], axis=1)
            for key, array in start.observation.items()
        },
        previous_action=np.concatenate([start.previous_action, action[:, None]], axis=1),
        is_first=np.pad(start.is_first, ((0, 0), (0, 1))),
    )
    other = Follower(agent, longer, action_spec=truth.action_spec, random_share=0.0, seed=5)
    np.testing.assert_array_equal(follower.act(outcome.observation), other.act(outcome.observation))


def test_shares_of_random_actions_share_their_random_numbers():
    agent, start = untrained("CartPole-v1"), starts(3)
    truth = OnceOnly(make_cartpole)
    (none, a), (few, b) = (follow(truth, start, agent, random_share=share, steps=3, seed=1) for share in (0.0, 1e-9))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(none.reward, few.reward)


def test_without_forks_nobody_knows_the_truth():
    with pytest.raises(SimulationError, match="no forks, as one from replay"):
        OnceOnly(make_cartpole).begin(starts(2)._replace(forks=None), seed=0)
