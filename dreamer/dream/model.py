"""A trained world model as a simulation: the posterior filters what was seen, the prior goes on from there."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dreamer.agent import Agent
from dreamer.behavior.actor import ActionDistribution, draw_action_noise
from dreamer.dream.simulation import Outcome, SimulationError, Start, require_action, require_start
from dreamer.nets.distributions import Normal, OneHot
from dreamer.training.state import Definition, Model, Params
from dreamer.types import Latent

POLICY = 0x706F6C69  # sub-seed of the actions that the agent chooses


class ModelState(NamedTuple):
    """Where `N` futures are.

    Attributes:
        latent: `[N]`.
        key: randomness of these futures; step n uses `fold_in(key, n)`.
        count: steps since the beginning.
    """

    latent: Latent
    key: Array
    count: np.uint32


class ModelSimulation:
    """The world model of an agent, as `Simulation` says. Compiles once for every number of futures and context length.

    `Outcome.info` holds `latent` (what behaviour sees: deter and flat stoch, `[N, F]`) and `prior_entropy` (`[N]`,
    nats); with `judge` also the critic's `value` `[N]` and `policy` `[N, A]`, the probabilities of discrete actions and
    the means of continuous ones.

    Args:
        agent: whose world is dreamt.
        decode: predict observations; without, `Outcome.observation` is empty and a step several times as fast.
        judge: also ask actor and critic.
        temperature: of the prior, which is sharper below 1; at 0 all latents are modes. It may change at any time.
        params: other parameters in place of the agent's.

    Attributes:
        observation_spec: kinds of the observation's arrays.
        action_spec: kinds of the action's parts.
        temperature: as it is now.

    Raises:
        SimulationError: the temperature is negative, or the agent a policy without a world model.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        decode: bool = True,
        judge: bool = False,
        temperature: float = 1.0,
        params: Params | None = None,
    ) -> None:
        if not temperature >= 0:
            raise SimulationError(f"the temperature is {temperature}; give 0, for modes, or more")
        if agent.is_policy_alone and params is None:
            raise SimulationError(
                f"{agent.path} holds a policy alone, which cannot dream: give the run that it is from"
            )
        definition = agent.definition
        self.observation_spec, self.action_spec = definition.observation_spec, definition.action_spec
        self.temperature = temperature
        self._params = agent.params if params is None else params
        self._begin, self._step, self._act = _programs(definition, decode=decode, judge=judge)

    def begin(self, start: Start, *, seed: int) -> tuple[ModelState, Outcome]:
        """The filtered present and its reconstruction.

        The state before the first step of the context is that before an episode: of a context that begins within one,
        its first steps are there to warm up.
        """
        num = require_start(start, self)
        key = jax.random.key(seed)
        latent, predicted = self._begin(
            self._params,
            {name: np.asarray(array) for name, array in start.observation.items()},
            np.asarray(start.previous_action),
            np.asarray(start.is_first),
            self._noise(key),
        )
        outcome = _outcome(predicted)._replace(reward=np.zeros(num, np.float32))
        return ModelState(latent, key, np.uint32(0)), outcome

    def step(self, state: ModelState, action: Float[np.ndarray, "N A"]) -> tuple[ModelState, Outcome]:
        """One step of the prior."""
        action = require_action(action, num=len(state.latent.deter), simulation=self)
        count = np.uint32(state.count + 1)
        latent, predicted = self._step(
            self._params, state.latent, action, self._noise(state.key), count, np.float32(self.temperature)
        )
        return ModelState(latent, state.key, count), _outcome(predicted)

    def act(self, state: ModelState, *, deterministic: bool = False) -> Float[np.ndarray, "N A"]:
        """What the agent does there: flat actions, sampled (the same ones in the same state) or the modes."""
        key = None if deterministic else state.key
        return np.asarray(self._act(self._params, state.latent, key, state.count))

    def select(self, state: ModelState, rows: np.ndarray) -> ModelState:
        """Some of the futures, each as often as it is named."""
        return state._replace(latent=jax.tree.map(lambda x: x[rows], state.latent))

    def merge(self, state: ModelState, other: ModelState, mask: Bool[np.ndarray, " N"]) -> ModelState:
        """The futures of `other` where `mask`, those of `state` elsewhere, with the randomness of `state`."""
        latent = jax.tree.map(
            lambda x, y: jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), y, x), state.latent, other.latent
        )
        return state._replace(latent=latent)

    def _noise(self, key: Array) -> Array | None:
        return None if self.temperature == 0 else key


Predicted = dict[str, Any]


@cache
def _programs(definition: Definition, *, decode: bool, judge: bool) -> tuple[Any, Any, Any]:
    """The jitted `begin`, `step` and `act` of all simulations of one agent, whatever their parameters."""
    predict = partial(_predict, decode=decode, judge=judge)
    begin, step = (jax.jit(partial(function, definition, predict)) for function in (_begin, _step))
    return begin, step, jax.jit(partial(_act, definition))


def _begin(
    definition: Definition,
    predict: Any,
    params: Params,
    observation: dict[str, Array],
    previous_action: Array,
    is_first: Array,
    key: Array | None,
) -> tuple[Latent, Predicted]:
    model = definition.bind(params)
    noise = None if key is None else _uniform(definition, jax.random.fold_in(key, 0), is_first.shape)
    carry = model.world.initial(len(is_first))
    latents, _ = model.world.observe(carry, observation, previous_action, is_first, noise)
    latent = jax.tree.map(lambda x: x[:, -1], latents)
    return latent, predict(model, latent, model.world.rssm.prior(latent.deter))


def _step(
    definition: Definition,
    predict: Any,
    params: Params,
    latent: Latent,
    action: Array,
    key: Array | None,
    count: Array,
    temperature: Array,
) -> tuple[Latent, Predicted]:
    model = definition.bind(params)
    latent, prior = model.world.rssm.imagine(latent, action, None)
    if key is not None:
        uniform = _uniform(definition, jax.random.fold_in(key, count), (len(action),))
        tempered = OneHot.from_logits(prior.log_probs / temperature, unimix=0.0)
        latent = latent._replace(stoch=tempered.sample(uniform).astype(latent.stoch.dtype))
    return latent, predict(model, latent, prior)


def _predict(model: Model, latent: Latent, prior: OneHot, *, decode: bool, judge: bool) -> Predicted:
    """All that is said of a latent `[N]`."""
    world = model.world
    features = world.features(latent)
    info = {"latent": features.astype(jnp.float32), "prior_entropy": jnp.sum(prior.entropy(), axis=-1)}
    if judge:
        policy = model.behavior.actor(features)
        info |= {"value": model.behavior.critic(features).mean(), "policy": _centre(policy)}
    return {
        "observation": {key: guess.mode() for key, guess in world.decode(latent).items()} if decode else {},
        "reward": world.reward(features),
        "continue_prob": jnp.minimum(world.continue_prob(features) / world.discount, 1.0),
        "info": info,
    }


def _act(definition: Definition, params: Params, latent: Latent, key: Array | None, count: Array) -> Array:
    model, noise = definition.bind(params), None
    if key is not None:
        key = jax.random.fold_in(jax.random.fold_in(key, POLICY), count)
        noise = draw_action_noise(key, definition.action_spec, (len(latent.deter),))
    return model.behavior.actor(model.world.features(latent)).sample(noise)


def _centre(policy: ActionDistribution) -> Float[Array, "N A"]:
    return jnp.concatenate([part.mean if isinstance(part, Normal) else part.probs for part in policy.parts], axis=-1)


def _uniform(definition: Definition, key: Array, lead: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, (*lead, definition.config.world.rssm.stoch))


def _outcome(predicted: Predicted) -> Outcome:
    host = jax.tree.map(np.asarray, predicted)
    return Outcome(**host, truncated=np.zeros(len(host["reward"]), bool))
