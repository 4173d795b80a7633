"""Properties of the world model: resets, causality, gradients, images of any size."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dreamer.nets import parts
from dreamer.nets.convolution import Conv, PooledConv, UpsampleConv, convolve, largest, unfold
from dreamer.training.step import draw_noise, objective
from dreamer.world.encoder import ImageEncoder
from dreamer.world.images import group_images
from envs.spaces import ImageSpec, ObservationSpec, VectorSpec
from tests.model import scans
from tests.model.tiny import ACTION, OBSERVATION, random_batch, tiny_definition


def observe(world, batch, carry=None):
    carry = world.expand(batch.context) if carry is None else carry
    latents, _ = world.observe(carry, batch.observation, batch.previous_action, batch.is_first, None)
    return latents


def test_is_first_forgets_everything():
    """After a reset neither the state before nor the action that led there matters, bit by bit."""
    definition = tiny_definition()
    world, batch = definition.bind(definition.init(0).params).world, random_batch(definition)
    is_first = jnp.zeros_like(batch.is_first).at[:, 5].set(True)
    batch = batch._replace(is_first=is_first)
    other = random_batch(definition, seed=1)
    changed = batch._replace(
        observation={k: v.at[:, :5].set(other.observation[k][:, :5]) for k, v in batch.observation.items()},
        previous_action=batch.previous_action.at[:, :6].set(other.previous_action[:, :6]),
        context=other.context,
    )
    one, two = observe(world, batch), observe(world, changed)
    np.testing.assert_array_equal(one.deter[:, 5:], two.deter[:, 5:])
    assert not np.array_equal(one.deter[:, 4], two.deter[:, 4])


def test_causality_bitwise():
    """Latents, predictions and losses at or before t do not change when inputs after t do."""
    definition = tiny_definition(OBSERVATION, ACTION)
    world, batch, other = (
        definition.bind(definition.init(0).params).world,
        random_batch(definition),
        random_batch(definition, seed=1),
    )
    t = 7

    def late(x, y):
        return x.at[:, t + 1 :].set(y[:, t + 1 :])

    changed = jax.tree.map(late, batch._replace(context=None), other._replace(context=None))
    changed = changed._replace(context=batch.context)
    one, two = (jax.jit(lambda b: world.loss(b, None))(b) for b in (batch, changed))
    for name in one.terms:
        np.testing.assert_array_equal(one.terms[name][:, : t + 1], two.terms[name][:, : t + 1], err_msg=name)
    assert not np.array_equal(one.terms["dynamics"][:, t + 1 :], two.terms["dynamics"][:, t + 1 :])


@pytest.mark.parametrize("stored", [True, False])
def test_sequences_start_from_stored_latents_or_from_zeros(*, stored: bool):
    definition = tiny_definition(OBSERVATION, ACTION, **{"world.replay_latents": stored})
    world, batch = definition.bind(definition.init(0).params).world, random_batch(definition)
    other = batch._replace(
        context=random_batch(definition, seed=1).context, is_first=batch.is_first.at[:, 0].set(False)
    )
    batch = batch._replace(is_first=other.is_first)
    one, two = (jax.jit(lambda b: world.loss(b, None).latents.deter[:, 0])(b) for b in (batch, other))
    assert np.array_equal(one, two) is not stored


def test_actor_and_critic_losses_leave_the_world_alone():
    """Of all behaviour losses only the replayed value sends a gradient into the world model."""
    definition = tiny_definition()
    state, batch = definition.init(0), random_batch(definition)

    def gradient(replay_scale: float, params: dict) -> dict:
        behavior = definition.config.behavior
        critic = dataclasses.replace(behavior.critic, replay_scale=replay_scale)
        config = dataclasses.replace(definition.config, behavior=dataclasses.replace(behavior, critic=critic))
        changed = type(definition)(config, definition.observation_spec, definition.action_spec)
        loss = objective(changed, state, batch, draw_noise(changed, state.key, batch))
        return jax.jit(jax.grad(lambda params: loss(params)[1].behavior.total))(params)

    # The critic's output starts at zero, which blocks its gradient to the features at first; a trained one does not.
    trained = jax.tree.map(lambda x: x + 0.1, state.params["behavior"]["critic"])
    params = state.params | {"behavior": state.params["behavior"] | {"critic": trained}}
    without = gradient(0.0, params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(without["world"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(without["behavior"]["critic"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient(0.3, params)["world"]["rssm"]))


SIZES = [(64, 64)]
MORE_SIZES = [(7, 7), (33, 17), (96, 96), (84, 84), (210, 160), (3, 3), (1, 5), (512, 512)]


@pytest.mark.parametrize("size", [*SIZES, *(pytest.param(size, marks=pytest.mark.slow) for size in MORE_SIZES)])
def test_images_of_any_size_round_trip(size: tuple[int, int]):
    definition = tiny_definition({"image": ImageSpec(*size, 1)})
    world = definition.bind(definition.init(0).params).world
    image = jnp.zeros((2, *size, 1), jnp.uint8)
    assert world.encoder({"image": image}).shape == (2, world.encoder.token_size)
    assert world.decode(world.initial(2))["image"].mode().shape == image.shape
    (group,) = group_images({"image": ImageSpec(*size, 1)}, depth=4, multipliers=(2, 3, 4, 4)).values()
    assert max(group.map_size) <= 16
    if size == (64, 64):
        assert group.map_size == (4, 4)
        assert group.stages == (8, 12, 16, 16)


@pytest.mark.parametrize("size", [3, 4, 5, 7])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_pooled_convolution_is_exact(size: int, channels: int):
    """Folded pixels (few channels) give what convolving and pooling plainly does, values and gradients."""
    module = PooledConv(channels, 5, kernel=size, rngs=nnx.Rngs(0))
    graph, state = nnx.split(module)
    bias = jax.random.normal(jax.random.key(2), (5,))
    x = jax.random.normal(jax.random.key(0), (2, 6, 10, channels))

    def pooled(kernel, x):
        return nnx.merge(graph, nnx.State(nnx.to_pure_dict(state) | {"kernel": kernel, "bias": bias}))(x)

    def plain(kernel, x):
        return nnx.max_pool(convolve(x, kernel) + bias[None, None, None], (2, 2), (2, 2))

    kernel = module.kernel[...]
    np.testing.assert_allclose(pooled(kernel, x), plain(kernel, x), atol=1e-5)
    weights = jax.random.normal(jax.random.key(1), (2, 3, 5, 5))
    for argument in (0, 1):
        ours, theirs = (
            jax.grad(lambda k, x, f=f: jnp.sum(weights * f(k, x)), argument)(kernel, x) for f in (pooled, plain)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("size", [3, 4, 5])
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("images", [1, 3, 16, 20])
def test_gradients_of_a_convolution(size: int, channels: int, images: int):
    """By rows or as a convolution: what JAX derives."""
    x = jax.random.normal(jax.random.key(0), (images, 6, 10, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, 5))
    weights = jax.random.normal(jax.random.key(2), (images, 6, 10, 5))

    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    for argument in (0, 1):
        ours, theirs = (
            jax.grad(lambda *a, f=f: jnp.sum(f(*a) * weights), argument)(x, kernel) for f in (convolve, plain)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_gradient_of_the_largest_of_four():
    """With all ties that four values can have, it is that of nested maxima."""
    values = [jnp.asarray(column, jnp.float32) for column in zip(*itertools.product(range(3), repeat=4), strict=True)]
    weights = jax.random.normal(jax.random.key(0), values[0].shape)

    def nested(a, b, c, d):
        return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))

    np.testing.assert_array_equal(largest(*values), nested(*values))
    ours, theirs = (
        jax.grad(lambda *v, f=f: jnp.sum(f(*v) * weights), (0, 1, 2, 3))(*values) for f in (largest, nested)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_few_images_at_a_time_are_the_same_function(monkeypatch: pytest.MonkeyPatch):
    """In parts of eight and all at once: images, tokens and gradients."""
    spec: ObservationSpec = {"image": ImageSpec(16, 16, 3)}
    (group,) = group_images(spec, depth=2, multipliers=(2, 3)).values()
    graph, state = nnx.split(ImageEncoder(group, kernel=5, rngs=nnx.Rngs(0)))
    images = jax.random.uniform(jax.random.key(0), (24, 16, 16, 3))
    weights = jax.random.normal(jax.random.key(1), (24, 4 * 4 * 6))

    def loss(state, images):
        return jnp.sum(parts.few_at_a_time(nnx.merge(graph, state), images) * weights)

    results = []
    for count in (8, 1, 24):
        monkeypatch.setattr(parts, "AT_A_TIME", count)
        results.append(jax.value_and_grad(loss, (0, 1))(state, images))
    for other in results[1:]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), results[0], other)


def test_upsampling_convolution_is_exact():
    """The low-resolution form equals repeating pixels and convolving, values and gradients."""
    modules = {"fast": UpsampleConv(3, 4, rngs=nnx.Rngs(0)), "slow": Conv(3, 4, kernel=5, rngs=nnx.Rngs(0))}
    split = {name: nnx.split(module) for name, module in modules.items()}
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))

    def apply(name, kernel, x):
        graph, state = split[name]
        return nnx.merge(graph, nnx.State(nnx.to_pure_dict(state) | {"kernel": kernel}))(x)

    def slow(kernel, x):
        return apply("slow", kernel, x.repeat(2, axis=1).repeat(2, axis=2))

    def fast(kernel, x):
        return unfold(apply("fast", kernel, x))

    kernel = modules["fast"].kernel[...]
    np.testing.assert_allclose(fast(kernel, x), slow(kernel, x), atol=1e-5)
    weights = jax.random.normal(jax.random.key(1), (2, 10, 14, 4))
    for argument in (0, 1):
        gradients = [jax.grad(lambda k, x, f=f: jnp.sum(f(k, x) * weights), argument)(kernel, x) for f in (fast, slow)]
        np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)


def test_no_parameters_leave_a_scan():
    """No scan of the update stacks arrays as large as a parameter of its body for every step (a memory trap)."""
    definition = tiny_definition({"state": VectorSpec(3)})
    state, batch = definition.init(0), random_batch(definition, batch=5, length=13)
    noise = draw_noise(definition, state.key, batch)
    shapes = {leaf.shape for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1}
    jaxpr = jax.make_jaxpr(objective(definition, state, batch, noise))(state.params)
    stacked = scans.stacked(jaxpr)
    assert stacked
    assert not shapes & stacked
