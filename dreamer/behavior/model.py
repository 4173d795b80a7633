"""Actor and critic of DreamerV3, and the losses that train them on imagined rollouts."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from dreamer.behavior.actor import ActionDistribution, ActionNoise, Actor
from dreamer.behavior.returns import ReturnRange, lambda_return
from dreamer.config import BehaviorConfig
from dreamer.nets.distributions import TwoHot
from dreamer.nets.heads import TwoHotHead
from dreamer.nets.init import Rngs
from dreamer.nets.rows import gather_rows
from dreamer.types import Batch, Latent
from envs.spaces import ActionSpec


class World(Protocol):
    """All that behaviour knows of a world model."""

    def imagine(self, latent: Latent, action: Float[Array, "N A"], uniform: Float[Array, "N S"] | None) -> Latent:
        """The next latent under an action."""
        ...

    def features(self, latent: Latent) -> Float[Array, "*N F"]:
        """What heads and policy see of a latent."""
        ...

    def reward(self, features: Float[Array, "*N F"]) -> Float[Array, "*N"]:
        """Expected reward."""
        ...

    def continue_prob(self, features: Float[Array, "*N F"]) -> Float[Array, "*N"]:
        """Probability of going on, discount included."""
        ...


class Dream(NamedTuple):
    """Imagined rollouts, and how they are judged.

    Entry 0 is the replayed start; action t is drawn at entry t, reward t arrives with entry t. At the last entry, H, no
    action is drawn and nothing is learned. Gradients flow through `policy` and `value` only.

    Attributes:
        features: what actor and critic saw, `[H, N, F]`.
        action: `[H, N, A]`.
        policy: what the actions were drawn from, `[H, N]`.
        value: the critic's distributions, `[H, N]`.
        value_mean: the critic's means, `[H + 1, N]`.
        slow_value: those of its slow copy, `[H + 1, N]`.
        reward: `[H + 1, N]`.
        continue_prob: `[H + 1, N]`, discount included.
    """

    features: Float[Array, "H N F"]
    action: Float[Array, "H N A"]
    policy: ActionDistribution
    value: TwoHot
    value_mean: Float[Array, "H1 N"]
    slow_value: Float[Array, "H1 N"]
    reward: Float[Array, "H1 N"]
    continue_prob: Float[Array, "H1 N"]


class DreamNoise(NamedTuple):
    """Randomness of a dream: `H` prior samples and `H` actions. None in place of either takes the modes."""

    prior: Float[Array, "H N S"] | None
    action: ActionNoise | None


class BehaviorLoss(NamedTuple):
    """What `Behavior.loss` returns: the scaled sum, unscaled terms, the updated return range and scalars to log."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, ...]]
    return_range: ReturnRange
    metrics: dict[str, Float[Array, ""]]


class Behavior(nnx.Module):
    """Actor and critic on the features of a world model."""

    def __init__(
        self, config: BehaviorConfig, feature_size: int, action_spec: ActionSpec, *, discount: float, rngs: Rngs
    ):
        """`discount` serves replayed returns; imagined ones find it in the continue probability."""
        self.config, self.discount = config, discount
        self.actor = Actor(config.actor, feature_size, action_spec, rngs=rngs)
        self.critic = TwoHotHead(feature_size, config.critic.units, layers=config.critic.layers, rngs=rngs)

    def loss(
        self,
        dream: Dream,
        replay_features: Float[Array, "B T F"],
        batch: Batch,
        slow_critic: TwoHotHead,
        return_range: ReturnRange,
    ) -> BehaviorLoss:
        """Actor and critic on imagined rollouts, critic on replayed ones too.

        Source: Nature 2025, "Critic learning" and "Actor learning".

        Args:
            dream: rollouts from every replayed latent, in the order of `[B, T]`.
            replay_features: posterior features of the batch; the replay loss sends its gradient through them.
            batch: the replayed sequences.
            slow_critic: the critic's slowly moving copy.
            return_range: percentile range of the returns so far.
        """
        config, scale = self.config, self.config.critic.replay_scale
        imagined = imagination_loss(dream, return_range=return_range, config=config)
        replayed, _ = replay_value_loss(
            batch,
            value=self.critic(replay_features),
            slow_value=slow_critic(stop_gradient(replay_features)).mean(),
            bootstrap=imagined.returns[0].reshape(batch.reward.shape),
            discount=self.discount,
            config=config,
        )
        terms = {"policy": imagined.policy, "value": imagined.value, "replay_value": replayed}
        total = jnp.mean(imagined.policy) + jnp.mean(imagined.value) + scale * jnp.mean(replayed)
        return BehaviorLoss(total, terms, imagined.return_range, imagined.metrics)


def imagine(
    world: World, behavior: Behavior, slow_critic: TwoHotHead, start: Latent, noise: DreamNoise, *, horizon: int
) -> Dream:
    """Rolls the policy out in the world model for H steps from every start `[N]`.

    DreamerV3 learns by REINFORCE: what is dreamt sends no gradient back, so `world` and `start` are stopped ones. The
    parameters of actor and critic are reached through what they said at each entry: the matrix products behind that are
    kept, the cheap rest is computed again. All of it happens inside the loop, as features, the largest array of an
    update, are in the cache there, and as rows stay on their device when `N` is split over several.
    """
    products = jax.checkpoint_policies.dots_saveable
    judge = jax.checkpoint(lambda x: (behavior.actor(x), behavior.critic(x).logits), policy=products)

    def predict(latent: Latent) -> tuple[Array, ActionDistribution, Array, tuple[Array, ...]]:
        features = world.features(latent)
        policy, logits = judge(features)
        value = TwoHot.over_symexp(logits)
        scalars = value.mean(), slow_critic(features).mean(), world.reward(features), world.continue_prob(features)
        return features, policy, logits, stop_gradient(scalars)

    def step(latent: Latent, noise: DreamNoise) -> tuple[Latent, tuple]:
        features, policy, logits, scalars = predict(latent)
        action = stop_gradient(policy.sample(noise.action))
        return world.imagine(latent, action, noise.prior), (features, action, policy, logits, scalars)

    end, (features, action, policy, logits, scalars) = jax.lax.scan(step, start, noise, length=horizon)
    *_, end_scalars = predict(end)
    paths = [jnp.concatenate([path, scalar[None]]) for path, scalar in zip(scalars, end_scalars, strict=True)]
    return Dream(features, action, policy, TwoHot.over_symexp(logits), *paths)


class ImaginationLoss(NamedTuple):
    """Per-step losses `[H, N]`, returns `[H, N]`, the updated range and metrics."""

    policy: Float[Array, "H N"]
    value: Float[Array, "H N"]
    returns: Float[Array, "H N"]
    return_range: ReturnRange
    metrics: dict[str, Float[Array, ""]]


def imagination_loss(
    dream: Dream, *, return_range: ReturnRange, config: BehaviorConfig, discount: float = 1.0
) -> ImaginationLoss:
    """REINFORCE with scaled advantages for the actor, two-hot lambda-returns for the critic.

    Args:
        dream: imagined rollouts.
        return_range: before this batch; it takes the batch in before it is used.
        config: weights and lambda.
        discount: factor beside `continue_prob`; 1 where that already carries the discount, as it does by default.
    """
    baseline = dream.slow_value if config.critic.slow_target else dream.value_mean
    weight = stop_gradient(jnp.cumprod(discount * dream.continue_prob, axis=0) / discount)
    returns = lambda_return(
        dream.reward,
        1.0 - dream.continue_prob,
        jnp.zeros_like(dream.reward),
        baseline,
        discount=discount,
        lam=config.lam,
    )
    all_returns = gather_rows(stop_gradient(returns))
    return_range = return_range.update(all_returns, config.return_norm)
    return_scale = return_range.scale(config.return_norm)
    advantage = (returns - baseline[:-1]) / return_scale

    log_prob, entropy = dream.policy.log_prob(dream.action), dream.policy.entropy()
    policy_loss = -weight[:-1] * (log_prob * stop_gradient(advantage) + config.actor.entropy * entropy)
    value_loss = weight[:-1] * critic_loss(dream.value, returns, dream.slow_value[:-1], config)

    metrics = {
        "advantage": jnp.mean(advantage),
        "advantage_std": jnp.std(gather_rows(stop_gradient(advantage))),
        "advantage_magnitude": jnp.mean(jnp.abs(advantage)),
        "imagined_reward": jnp.mean(dream.reward),
        "imagined_continue": jnp.mean(dream.continue_prob),
        "value": jnp.mean(dream.value_mean),
        "slow_value": jnp.mean(dream.slow_value),
        "weight": jnp.mean(weight),
        "return": jnp.mean(returns),
        "policy_entropy": jnp.mean(entropy),
        "return_scale": return_scale,
        **_scaled_return_metrics((all_returns - return_range.low) / return_scale),
    }
    return ImaginationLoss(policy_loss, value_loss, returns, return_range, metrics)


def replay_value_loss(
    batch: Batch,
    *,
    value: TwoHot,
    slow_value: Float[Array, "B T"],
    bootstrap: Float[Array, "B T"],
    discount: float,
    config: BehaviorConfig,
) -> tuple[Float[Array, "B T1"], Float[Array, "B T1"]]:
    """Critic loss along replayed rewards, and the returns; `bootstrap` are the imagined returns from each step."""
    last, terminal = batch.is_last.astype(jnp.float32).T, batch.is_terminal.astype(jnp.float32).T
    bootstrap = stop_gradient(bootstrap).T
    returns = lambda_return(batch.reward.T, terminal, last, bootstrap, discount=discount, lam=config.lam)
    value = TwoHot(value.logits[:, :-1].swapaxes(0, 1), value.bins)
    losses = (1.0 - last[:-1]) * critic_loss(value, returns, slow_value.T[:-1], config)
    return losses.T, returns.T


def critic_loss(
    value: TwoHot, returns: Float[Array, "H N"], slow_value: Float[Array, "H N"], config: BehaviorConfig
) -> Float[Array, "H N"]:
    """Two-hot cross-entropy against the returns, and against the slow critic's mean to keep the critic from running.

    The two targets share one pass over the logits: cross-entropy is linear in the code.
    """
    return value.cross_entropy(value.encode(returns) + config.critic.slow_regularizer * value.encode(slow_value))


def _scaled_return_metrics(scaled: Float[Array, "H N"]) -> dict[str, Float[Array, ""]]:
    return {
        "scaled_return": jnp.mean(scaled),
        "scaled_return_min": jnp.min(scaled),
        "scaled_return_max": jnp.max(scaled),
        "scaled_return_rate": jnp.mean((jnp.abs(scaled) >= 1.0).astype(jnp.float32)),
    }
