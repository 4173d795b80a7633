"""What is learned and how it starts: the networks' definition and the train state."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from dreamer.behavior.model import Behavior
from dreamer.behavior.returns import ReturnRange
from dreamer.config import Config
from dreamer.data.layout import StepLayout
from dreamer.nets.heads import TwoHotHead
from dreamer.nets.init import Draws, Rngs
from dreamer.nets.optimizer import make_optimizer
from dreamer.world.model import WorldModel
from envs.spaces import ActionSpec, ObservationSpec, action_width

Params = dict[str, Any]  # nested dict of arrays


class TrainState(NamedTuple):
    """All that changes while training; donated to `train_step`.

    Attributes:
        params: of world model and behaviour, float32.
        slow_critic: slowly moving copy of the critic's parameters.
        optimizer: state of the optimizer.
        return_range: percentile range of imagined returns.
        step: updates made.
        skipped: how many of the last updates, without a gap, changed nothing since something was not finite.
        key: the run's random key; update n uses `fold_in(key, n)`.
    """

    params: Params
    slow_critic: Params
    optimizer: optax.OptState
    return_range: ReturnRange
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    key: Array


class Model(nnx.Module):
    """World model and behaviour under one roof, so that one optimizer trains them together."""

    def __init__(self, config: Config, observation_spec: ObservationSpec, action_spec: ActionSpec, *, rngs: Rngs):
        discount = 1.0 - 1.0 / config.discount_horizon
        dtype = compute_dtype(config)
        self.world = WorldModel(config.world, observation_spec, action_spec, discount=discount, dtype=dtype, rngs=rngs)
        self.behavior = Behavior(config.behavior, self.world.feature_size, action_spec, discount=discount, rngs=rngs)


class Definition:
    """The static half of the networks: binds parameters to modules inside a trace, and makes fresh states."""

    def __init__(self, config: Config, observation_spec: ObservationSpec, action_spec: ActionSpec):
        self.config, self.observation_spec, self.action_spec = config, observation_spec, action_spec
        counter = Draws()
        model = nnx.eval_shape(lambda: Model(config, observation_spec, action_spec, rngs=counter))
        self._kernel_count = counter.count
        self._graph, _ = nnx.split(model)
        self._critic_graph, _ = nnx.split(model.behavior.critic)
        self.optimizer = make_optimizer(config.optimizer)

    @property
    def layout(self) -> StepLayout:
        """What replay keeps of a step."""
        rssm, width = self.config.world.rssm, action_width(self.action_spec)
        return StepLayout(self.observation_spec, action=width, deter=rssm.deter, stoch=rssm.stoch)

    def bind(self, params: Params) -> Model:
        """The model with these parameters."""
        return nnx.merge(self._graph, nnx.State(params))

    def bind_critic(self, params: Params) -> TwoHotHead:
        """A critic with these parameters, such as the slow one."""
        return nnx.merge(self._critic_graph, nnx.State(params))

    def init(self, seed: int, shardings: TrainState | None = None) -> TrainState:
        """A fresh train state; the slow critic starts as a copy of the critic.

        It is committed to the first device, or to `shardings`, as a restored one is, so the update is compiled once.
        """
        placed = jax.sharding.SingleDeviceSharding(jax.devices()[0]) if shardings is None else shardings
        return jax.jit(self._init, out_shardings=placed)(jax.random.key(seed))

    def _init(self, key: Array) -> TrainState:
        init_key, run_key = jax.random.split(key)
        draws = Draws(Draws.numbers(init_key, self._kernel_count))
        model = Model(self.config, self.observation_spec, self.action_spec, rngs=draws)
        params = nnx.to_pure_dict(nnx.split(model)[1])
        return TrainState(
            params=params,
            slow_critic=jax.tree.map(jnp.copy, params["behavior"]["critic"]),
            optimizer=self.optimizer.init(params),
            return_range=ReturnRange.initial(),
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            key=run_key,
        )

    def abstract(self) -> TrainState:
        """Shapes and dtypes of a train state, without allocating it."""
        return jax.eval_shape(self._init, jax.random.key(0))

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters by module; the slow critic is not counted."""
        params = self.abstract().params
        names = {"rssm": "dynamics", "reward_head": "reward", "continue_head": "continue"}
        counts: dict[str, int] = {}
        for module, tree in (params["world"] | params["behavior"]).items():
            name: str = names.get(module) or module
            counts[name] = sum(leaf.size for leaf in jax.tree.leaves(tree))
        return {**counts, "total": sum(counts.values())}


def compute_dtype(config: Config) -> jnp.dtype:
    """Precision of the computation: as configured, or bfloat16 on accelerators and float32 on CPU."""
    if config.precision == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.precision)
