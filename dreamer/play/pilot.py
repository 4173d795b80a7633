"""The trained agent for one future: what it makes of real observations, of dreamt ones, and what it would do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dreamer.agent import Agent
from dreamer.behavior.actor import draw_action_noise
from dreamer.dream.model import ModelState
from dreamer.nets.distributions import Normal
from dreamer.play.session import Judgement
from dreamer.training.state import Definition, Params
from dreamer.types import CompactLatent, Latent
from envs.spaces import ActionSpec, VectorSpec, action_width

WATCH, JUDGE = 0, 1  # kinds of randomness


class AgentPilot:
    """A `Pilot` whose memory is the latent of the agent's world model. One program each to watch and to judge.

    Args:
        agent: as loaded.
        seed: of its samples.
    """

    def __init__(self, agent: Agent, *, seed: int) -> None:
        self._definition, self._params = agent.definition, agent.params
        self._width = action_width(agent.definition.action_spec)
        self._key, self._count = jax.random.key(seed), 0
        self._watch = jax.jit(lambda *arguments: _watch(self._definition, *arguments))
        self._compact = jax.jit(lambda params, memory: self._definition.bind(params).world.compact(memory))
        self._judge = jax.jit(lambda *arguments: _judge(self._definition, *arguments))

    def fresh(self) -> Latent:
        """The latent before an episode, `[1]`."""
        # Placed as the parameters are: JAX compiles again for an input that has no device of its own.
        latent = self._definition.bind(self._params).world.initial(1)
        return jax.device_put(latent, jax.tree.leaves(self._params)[0].sharding)

    def watch(
        self, memory: Latent, observation: dict[str, np.ndarray], action: np.ndarray, *, is_first: bool
    ) -> Latent:
        """The posterior after a real observation; the action before a reset means nothing and may be empty."""
        action = np.zeros(self._width, np.float32) if is_first else np.asarray(action, np.float32)
        return self._watch(self._params, memory, observation, action[None], np.array([is_first]), *self._draw())

    def recall(self, state: ModelState) -> Latent:
        """The dreamt latent."""
        return state.latent

    def judge(self, memory: Latent) -> Judgement:
        """What actor and critic say of a latent."""
        told = jax.device_get(self._judge(self._params, memory, *self._draw()))
        action, value, centre, spread = (array[0] for array in told)
        policy = _split(self._definition.action_spec, centre, spread)
        return Judgement(np.array(action), float(value), policy)

    def compact(self, memory: Latent) -> CompactLatent:
        """A latent as replay stores it."""
        return jax.device_get(self._compact(self._params, memory))

    def _draw(self) -> tuple[Array, np.uint32]:
        self._count += 1
        return self._key, np.uint32(self._count)


def _watch(
    definition: Definition,
    params: Params,
    latent: Latent,
    observation: dict[str, Array],
    action: Array,
    is_first: Array,
    key: Array,
    count: Array,
) -> Latent:
    world, stoch = definition.bind(params).world, definition.config.world.rssm.stoch
    uniform = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, WATCH), count), (1, 1, stoch))
    observed = jax.tree.map(lambda x: x[:, None], observation)
    latents, _ = world.observe(latent, observed, action[:, None], is_first[:, None], uniform)
    return jax.tree.map(lambda x: x[:, 0], latents)


def _judge(
    definition: Definition, params: Params, latent: Latent, key: Array, count: Array
) -> tuple[Array, Array, Array, Array]:
    """Action, value, and the policy's probabilities or means with its standard deviations, `[1, ...]`."""
    model = definition.bind(params)
    features = model.world.features(latent)
    policy = model.behavior.actor(features)
    key = jax.random.fold_in(jax.random.fold_in(key, JUDGE), count)
    action = policy.sample(draw_action_noise(key, definition.action_spec, (1,)))
    centre = [part.mean if isinstance(part, Normal) else part.probs for part in policy.parts]
    spread = [part.std if isinstance(part, Normal) else jnp.zeros_like(part.probs) for part in policy.parts]
    return action, model.behavior.critic(features).mean(), jnp.concatenate(centre, -1), jnp.concatenate(spread, -1)


def _split(spec: ActionSpec, centre: np.ndarray, spread: np.ndarray) -> list[np.ndarray]:
    """By dial of the keymap: `[mean, standard deviation]`, or probabilities."""
    dials: list[Any] = []
    start = 0
    for _, part in sorted(spec.items()):
        widths = [1] * part.size if isinstance(part, VectorSpec) else part.num_classes
        for width in widths:
            block = slice(start, start + width)
            dials.append(
                np.array([centre[start], spread[start]]) if isinstance(part, VectorSpec) else np.array(centre[block])
            )
            start += width
    return dials
