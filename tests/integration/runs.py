"""Reading back what a run has left."""

from __future__ import annotations

from pathlib import Path

from dreamer.presets import from_yaml
from dreamer.training.checkpoint import Checkpoints, Restored, restore
from dreamer.training.state import Definition
from dreamer.training.step import initial_carry
from envs.registry import make


def restored_definition(run: Path) -> Definition:
    """The networks of a run."""
    config = from_yaml(run / "config.yaml")
    env = make(config.env, seed=0, settings=config.environment)
    definition = Definition(config, env.observation_spec, env.action_spec)
    env.close()
    return definition


def newest(run: Path) -> Restored:
    """The newest checkpoint of a run, whole."""
    definition = restored_definition(run)
    path = Checkpoints(run / "checkpoints").latest()
    assert path is not None
    carry = initial_carry(definition, definition.config.environment.num_envs)
    return restore(path, abstract_arrays={"train": definition.abstract(), "carry": carry})
