"""The two jitted functions of a run: the update, and the policy step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float

from dreamer.behavior.actor import draw_action_noise
from dreamer.behavior.model import BehaviorLoss, DreamNoise, imagine
from dreamer.behavior.returns import ReturnRange
from dreamer.nets.optimizer import descend, moving_average
from dreamer.nets.rows import AXIS, mean_over_devices
from dreamer.training.compilation import compiler_options
from dreamer.training.mesh import Placement
from dreamer.training.state import Definition, Params, TrainState, compute_dtype
from dreamer.types import Batch, CompactLatent, Latent
from dreamer.world.model import WorldLoss
from envs.spaces import action_width

Metrics = dict[str, Float[Array, ""]]


class PolicyCarry(NamedTuple):
    """What the policy remembers between steps: the latent and the action that it chose, `[N]`."""

    latent: Latent
    action: Float[Array, "N A"]


def make_train_step(
    definition: Definition, placement: Placement | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, CompactLatent, Metrics]]:
    """The jitted update; its first argument is donated. `placement`: of state and batch; None is one device."""
    mesh = placement.mesh if placement else None
    return jax.jit(
        lambda state, batch: train_step(definition, state, batch, mesh),
        donate_argnums=0,
        out_shardings=placement.results(definition.abstract()) if placement else None,
        compiler_options=compiler_options(),
    )


def train_step(
    definition: Definition, state: TrainState, batch: Batch, mesh: Mesh | None = None
) -> tuple[TrainState, CompactLatent, Metrics]:
    """One update of everything: world model, actor and critic together.

    Where the loss, a gradient or a new parameter is not finite only the counters move: `skipped` says so, the latents
    are worthless. The norms tell for all arrays at once; moments of the optimizer that overflow show in the parameters.

    Returns:
        The next state, the refreshed latents `[B, T]` for replay, and metrics (scalars, still on the device).
    """
    noise = draw_noise(definition, jax.random.fold_in(state.key, state.step), batch)
    gradient, learned = on_rows(partial(differentiate, definition), mesh)(state, batch, noise)
    params, optimizer = descend(definition.optimizer, gradient, state.optimizer, state.params)
    slow_rate = definition.config.behavior.critic.slow_rate
    slow_critic = moving_average(params["behavior"]["critic"], state.slow_critic, rate=slow_rate)

    norms = {"gradient_norm": optax.tree.norm(gradient), "parameter_norm": optax.tree.norm(params)}
    metrics = learned.metrics | norms
    finite = jnp.isfinite(jnp.stack([metrics["loss/total"], *norms.values(), *learned.return_range])).all()
    counted = state._replace(step=state.step + 1, skipped=jnp.where(finite, 0, state.skipped + 1))
    updated = counted._replace(
        params=params, slow_critic=slow_critic, optimizer=optimizer, return_range=learned.return_range
    )
    metrics["skipped"] = counted.skipped
    return jax.tree.map(partial(jnp.where, finite), updated, counted), learned.latents, metrics


class Learned(NamedTuple):
    """What a batch gives beside the gradient: latents `[B, T]` for replay, the range of returns, scalars to log."""

    latents: CompactLatent
    return_range: ReturnRange
    metrics: Metrics


def differentiate(
    definition: Definition, state: TrainState, batch: Batch, noise: UpdateNoise
) -> tuple[Params, Learned]:
    """The gradient of the objective, with what was learned on the way: on a mesh, from the rows of all devices."""
    loss = objective(definition, state, batch, noise)
    (total, (world, behavior)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    terms = {f"loss/{name}": jnp.mean(term) for name, term in (world.terms | behavior.terms).items()}
    metrics = {"loss/total": total, **terms, **world.metrics, **behavior.metrics}
    gradient, metrics = mean_over_devices((gradient, metrics))
    latents = definition.bind(state.params).world.compact(world.latents)
    return gradient, Learned(latents, behavior.return_range, metrics)


def on_rows(
    function: Callable[[TrainState, Batch, UpdateNoise], tuple[Params, Learned]], mesh: Mesh | None
) -> Callable[[TrainState, Batch, UpdateNoise], tuple[Params, Learned]]:
    """The function, run by every device of the mesh over its own rows.

    XLA could split the rows by itself, but would then add up the gradients of the loops' weights on all devices in
    every step of a loop. `model` stays with XLA.
    """
    if mesh is None:
        return function
    rows, starts, same = PartitionSpec(AXIS), PartitionSpec(None, AXIS), PartitionSpec()
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(same, rows, UpdateNoise._make((rows, starts))),
        out_specs=(same, Learned._make((rows, same, same))),
        axis_names={AXIS},
        check_vma=False,
    )


class Losses(NamedTuple):
    """What the objective computes beside its value."""

    world: WorldLoss
    behavior: BehaviorLoss


class UpdateNoise(NamedTuple):
    """All randomness of an update: of the posteriors `[B, T, S]`, None for their modes, and of the dream."""

    posterior: Float[Array, "B T S"] | None
    dream: DreamNoise


def objective(
    definition: Definition, state: TrainState, batch: Batch, noise: UpdateNoise
) -> Callable[[Params], tuple[Float[Array, ""], Losses]]:
    """The whole loss as a function of the parameters: observe, dream, judge.

    The world model learns from the batch; from each of its latents the policy is dreamt forward, in a frozen world as
    REINFORCE needs no gradient through it; actor and critic learn from the dream, the critic from the batch too.
    """
    slow_critic, horizon = definition.bind_critic(state.slow_critic), definition.config.behavior.horizon

    def loss(params: Params) -> tuple[Float[Array, ""], Losses]:
        model, frozen = definition.bind(params), definition.bind(stop_gradient(params))
        world = model.world.loss(batch, noise.posterior)
        starts = jax.tree.map(lambda x: stop_gradient(x).reshape(-1, *x.shape[2:]), world.latents)
        dream = imagine(frozen.world, model.behavior, slow_critic, starts, noise.dream, horizon=horizon)
        features = model.world.features(world.latents)
        behavior = model.behavior.loss(dream, features, batch, slow_critic, state.return_range)
        return world.total + behavior.total, Losses(world, behavior)

    return loss


def draw_noise(definition: Definition, key: Array, batch: Batch) -> UpdateNoise:
    """Draws it at once, and for all rows: the same whatever devices they lie on."""
    posterior_key, prior_key, action_key = jax.random.split(key, 3)
    stoch, horizon = definition.config.world.rssm.stoch, definition.config.behavior.horizon
    num_starts = batch.reward.size
    actor = draw_action_noise(action_key, definition.action_spec, (horizon, num_starts))
    prior = jax.random.uniform(prior_key, (horizon, num_starts, stoch))
    return UpdateNoise(jax.random.uniform(posterior_key, (*batch.reward.shape, stoch)), DreamNoise(prior, actor))


def make_policy_step(definition: Definition) -> Callable[..., tuple[PolicyCarry, Float[Array, "N A"], CompactLatent]]:
    """The jitted policy step: `step(params, carry, observation, is_first, key, count)`.

    `count` is the number of the step; its randomness is `fold_in(key, count)`. A key of None takes the modes.
    """

    def step(params: Params, carry: PolicyCarry, observation: dict, is_first: Array, key: Array | None, count: Array):
        key = None if key is None else jax.random.fold_in(key, count)
        return policy_step(definition, params, carry, observation, is_first, key)

    return jax.jit(step)


def policy_step(
    definition: Definition,
    params: Params,
    carry: PolicyCarry,
    observation: dict[str, Array],
    is_first: Bool[Array, " N"],
    key: Array | None,
) -> tuple[PolicyCarry, Float[Array, "N A"], CompactLatent]:
    """Takes in one observation of N environments and chooses their actions.

    Args:
        definition: the networks.
        params: their parameters.
        carry: from the step before; rows where `is_first` start afresh.
        observation: by key, `[N, ...]`.
        is_first: the observation comes from a reset.
        key: randomness; None takes the modes of latents and actions.

    Returns:
        The carry for the next step, flat actions `[N, A]`, and the latents as replay stores them.
    """
    model, stoch = definition.bind(params), definition.config.world.rssm.stoch
    uniform = action_noise = None
    if key is not None:
        posterior_key, action_key = jax.random.split(key)
        uniform = jax.random.uniform(posterior_key, (*is_first.shape, 1, stoch))
        action_noise = draw_action_noise(action_key, definition.action_spec, is_first.shape)
    latents, _ = model.world.observe(
        carry.latent,
        jax.tree.map(lambda x: x[:, None], observation),
        carry.action[:, None],
        is_first[:, None],
        uniform,
    )
    latent = jax.tree.map(lambda x: x[:, 0], latents)
    action = model.behavior.actor(model.world.features(latent)).sample(action_noise)
    return PolicyCarry(latent, action), action, model.world.compact(latent)


def initial_carry(definition: Definition, num_envs: int) -> PolicyCarry:
    """The carry before the first step: zeros, `[N]`."""
    config, action_size = definition.config.world.rssm, action_width(definition.action_spec)
    dtype = compute_dtype(definition.config)
    return PolicyCarry(
        Latent(
            jnp.zeros((num_envs, config.deter), dtype),
            jnp.zeros((num_envs, config.stoch, config.classes), dtype),
        ),
        jnp.zeros((num_envs, action_size)),
    )
