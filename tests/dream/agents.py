"""Agents that were never trained, with small networks: what a simulation does, not how well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from dreamer.agent import Agent, codecs
from dreamer.training.counters import START
from dreamer.training.state import Definition
from dreamer.validation import resolve
from envs.environment import Environment
from envs.space_json import Interface


def untrained(env: str, *, path: Path = Path("nowhere"), **overrides: Any) -> Agent:
    """An agent of an environment, its parameters drawn here since to compile the initialisation takes longer."""
    config = resolve({"env": env, "preset": "debug", **overrides})
    environment = envs.make(env, num_envs=1, seed=0, settings=config.environment)
    interface = Interface.of(environment, settings=config.environment)
    environment.close()
    observation_codec, action_codec = codecs(interface)
    definition = Definition(config, observation_codec.spec, action_codec.spec)
    rng = np.random.default_rng(0)
    abstract = definition.abstract().params
    params = jax.tree.map(lambda leaf: jax.device_put(rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype)), abstract)
    return Agent(definition, interface=interface, params=params, counters=START, path=path, seed=0)


def single(env: str, *, seed: int = 0, **settings: Any) -> Environment:
    """One environment."""
    return envs.make(env, num_envs=1, seed=seed, settings=envs.EnvSettings(**settings))
