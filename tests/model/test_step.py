"""The update as a compiled function: traces, donation, transfers, platforms, determinism."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.training.step import initial_carry, make_policy_step, policy_step, train_step
from tests.model.tiny import ACTION, OBSERVATION, VECTOR, random_batch, random_observation, tiny_definition


def test_every_kind_of_space_trains():
    """Images of two sizes, vectors, discrete values; continuous and discrete actions: losses are finite and fall."""
    definition = tiny_definition(OBSERVATION, ACTION, **{"optimizer.warmup": 0, "optimizer.learning_rate": 1e-3})
    batch, state = random_batch(definition), definition.init(0)
    step = jax.jit(lambda state, batch: train_step(definition, state, batch))
    reconstructions = []
    for _ in range(15):
        state, latents, metrics = step(state, batch)
        terms = {name: float(value) for name, value in metrics.items() if name.startswith("loss/reconstruction")}
        assert set(terms) == {f"loss/reconstruction/{key}" for key in OBSERVATION}
        assert np.isfinite([float(value) for value in metrics.values()]).all()
        reconstructions.append(sum(terms.values()))
    assert reconstructions[-1] < 0.9 * reconstructions[0]
    assert latents.deter.shape == (4, 16, 32)
    assert latents.stoch.dtype == jnp.uint8


def test_one_trace_and_no_transfer():
    definition = tiny_definition()
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(lambda s, b: train_step(definition, s, b), n=1)
    step = jax.jit(traced, donate_argnums=0)
    state = jax.device_put(definition.init(0), jax.devices()[0])
    batches = [jax.device_put(random_batch(definition, seed=seed), jax.devices()[0]) for seed in range(3)]
    with jax.transfer_guard("disallow"):
        for batch in batches:
            old = state
            state, _, _ = step(state, batch)
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))
    assert int(state.step) == 3


def test_policy_traces_once():
    definition = tiny_definition()
    params, rng = definition.init(0).params, np.random.default_rng(0)
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(policy_step, n=1)
    step = jax.jit(lambda *arguments: counted(definition, *arguments))
    carry = initial_carry(definition, 2)
    for count in range(4):
        key = jax.random.fold_in(jax.random.key(0), count)
        carry, action, _ = step(params, carry, random_observation(VECTOR, (2,), rng), np.zeros(2, bool), key)
    assert action.shape == (2, 7)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_lowers_for_every_platform(platform: str):
    """The same code compiles for accelerators that this machine does not have."""
    definition = tiny_definition(OBSERVATION, ACTION)
    state, batch = definition.abstract(), jax.eval_shape(lambda: random_batch(definition))
    key_data = jax.eval_shape(jax.random.key_data, state.key)

    def step(state, key_data, batch):
        return train_step(definition, state._replace(key=jax.random.wrap_key_data(key_data)), batch)[1:]

    exported = jax.export.export(jax.jit(step), platforms=[platform])(state._replace(key=None), key_data, batch)
    assert exported.platforms == (platform,)
    assert len(exported.mlir_module_serialized) > 10_000


@pytest.mark.slow
def test_same_seed_same_parameters_bitwise():
    definition, batch = tiny_definition(), None
    results = []
    for _ in range(2):
        state, batch = definition.init(3), random_batch(definition)
        step = jax.jit(lambda s, b: train_step(definition, s, b))
        for _ in range(3):
            state, _, _ = step(state, batch)
        results.append(jax.tree.leaves(state.params))
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    other = jax.tree.leaves(definition.init(4).params)
    assert not all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_policy_step_equals_observe():
    """Acting step by step filters as training does on the whole sequence."""
    definition = tiny_definition(OBSERVATION, ACTION)
    params, batch = definition.init(0).params, random_batch(definition)
    world = definition.bind(params).world
    observe = jax.jit(lambda latent, *observed: world.observe(latent, *observed, None)[0])
    whole = observe(world.expand(batch.context), batch.observation, batch.previous_action, batch.is_first)
    latent = world.expand(batch.context)
    for t in range(batch.reward.shape[1]):
        now = jax.tree.map(lambda x, t=t: x[:, t : t + 1], batch._replace(context=None))
        latents = observe(latent, now.observation, now.previous_action, now.is_first)
        latent = jax.tree.map(lambda x: x[:, 0], latents)
        np.testing.assert_allclose(latent.deter, whole.deter[:, t], rtol=2e-4, atol=2e-5)
        np.testing.assert_array_equal(latent.stoch.argmax(-1), whole.stoch[:, t].argmax(-1))


def test_deterministic_policy_repeats_and_sampled_policy_varies():
    definition = tiny_definition()
    params, step = definition.init(0).params, make_policy_step(definition)
    observation = random_observation(VECTOR, (64,), np.random.default_rng(0))
    carry, first = initial_carry(definition, 64), np.ones(64, bool)
    modes = [step(params, carry, observation, first, None, np.uint32(count))[1] for count in range(2)]
    np.testing.assert_array_equal(*modes)
    key = jax.random.key(0)
    samples = [step(params, carry, observation, first, key, np.uint32(count))[1] for count in (0, 0, 1)]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])
