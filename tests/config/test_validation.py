"""Values that fit their types and cannot work all the same."""

from __future__ import annotations

import pytest

from dreamer.presets import ConfigError
from dreamer.validation import resolve, steps_to_agent_steps


@pytest.mark.parametrize(
    ("steps", "action_repeat", "agent_steps"),
    [
        ("30000", 4, 30_000),
        ("1e6", 4, 1_000_000),
        ("1_000_000", 1, 1_000_000),
        ("100k_agent", 4, 100_000),
        ("400k_frames", 4, 100_000),
        ("200M_frames", 4, 50_000_000),
        ("1.5m", 2, 1_500_000),
        ("1001_frames", 4, 251),
    ],
)
def test_steps_in_either_unit(steps, action_repeat, agent_steps):
    assert steps_to_agent_steps(steps, action_repeat) == agent_steps


@pytest.mark.parametrize("steps", ["", "x", "-5", "0", "1e6_turns", "1e400", "400k frames", "k_frames"])
def test_steps_that_say_nothing(steps):
    with pytest.raises(ValueError, match="expected"):
        steps_to_agent_steps(steps, 4)


def test_misspelled_unit_is_recognised():
    with pytest.raises(ValueError, match="did you mean _frames"):
        steps_to_agent_steps("400k_frame", 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"env": ""}, "--env is missing"),
        ({"env": " "}, "--env is missing"),
        ({"seed": -1}, "--seed must be 0 or more, not -1"),
        ({"steps": "3 apples"}, "--steps: expected a number"),
        ({"steps": "1000"}, "--steps 1000 are 1000 agent steps and end before the first update"),
        ({"steps": "2032"}, "end before the first update, which needs 2048"),
        ({"env": "CartPole-v1", "steps": "287"}, "end before the first update, which needs 288"),
        ({"train_ratio": 0}, "--train-ratio must be above 0, not 0"),
        ({"train_ratio": float("nan")}, "--train-ratio must be above 0, not nan"),
        ({"train_ratio": float("inf")}, "--train-ratio must be above 0, not inf"),
        ({"world.rssm.deter": 1027}, "deter 1027 must be a multiple of --world.rssm.blocks 8, such as 1024"),
        ({"world.rssm.blocks": 0}, "--world.rssm.blocks must be above 0"),
        ({"world.rssm.classes": 300}, "--world.rssm.classes must be at most 256"),
        ({"world.rssm.unimix": 1.0}, "--world.rssm.unimix must be 0 or more, and below 1"),
        ({"behavior.actor.unimix": -0.1}, "--behavior.actor.unimix must be"),
        ({"behavior.actor.min_std": 2.0}, "min-std 2.0 must not exceed max-std 1.0"),
        ({"behavior.lam": 1.5}, "--behavior.lam must be between 0 and 1"),
        ({"behavior.return_norm.low": 95.0}, "low 95.0 must be below high 95.0"),
        ({"replay.batch_size": 0}, "--replay.batch-size must be above 0"),
        ({"replay.capacity": 1000}, "--replay.capacity 1000 is too small"),
        ({"env": "CartPole-v1", "replay.capacity": 1200}, r"1200 is too small: .* chunks of 1024 need at least 1312"),
        ({"replay.max_lost": 1.5}, "--replay.max-lost must be between 0 and 1"),
        ({"world.encoder.multipliers": []}, "--world.encoder.multipliers must be one or more numbers above 0"),
        ({"environment.sticky": 2.0}, "--environment.sticky must be between 0 and 1"),
        ({"environment.image_size": [0, 64]}, "--environment.image-size must be"),
    ],
)
def test_values_out_of_range_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve({"env": "atari_pong", **overrides})


def test_a_budget_is_enough_from_the_first_update_on():
    """Where all environments step together, the last round may go beyond the budget."""
    assert resolve({"env": "CartPole-v1", "steps": "288"})
    assert resolve({"env": "atari_pong", "steps": "2033"})
    assert resolve({"env": "CartPole-v1", "replay.capacity": 1312})


def test_all_faults_of_all_kinds_come_together():
    with pytest.raises(ConfigError) as caught:
        resolve({"env": "", "train_ration": 3, "seed": "x", "replay.batch_size": 0, "size": "13m"})
    assert len(caught.value.problems) == 5
