"""Layers, distributions, optimizer and return range against the golden data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dreamer.behavior.returns import ReturnRange, lambda_return
from dreamer.config import OptimizerConfig, ReturnNormConfig
from dreamer.nets.convolution import Conv
from dreamer.nets.distributions import Normal, OneHot, TwoHot, symexp_bins
from dreamer.nets.layers import BlockLinear, RMSNorm, symexp, symlog
from dreamer.nets.optimizer import clip_by_tensor_norm, descend, make_optimizer, moving_average
from tests.golden.reference import below, close, filled, load

RNGS = nnx.Rngs(0)


def test_layers():
    data = load("layers")
    for name, size in (("rmsnorm", 16), ("rmsnorm_image", 6)):
        norm = filled(RMSNorm(size), {"scale": data[f"{name}/param/scale"]})
        close(norm(jnp.asarray(data[f"{name}/in/x"])), data[f"{name}/out/y"])
    block = filled(BlockLinear(24, 20, blocks=4, rngs=RNGS), below(data, "blocklinear/param"))
    close(block(jnp.asarray(data["blocklinear/in/x"])), data["blocklinear/out/y"])
    conv = filled(Conv(2, 3, kernel=5, rngs=RNGS), below(data, "conv/param"))
    close(conv(jnp.asarray(data["conv/in/x"])), data["conv/out/y"])
    close(symlog(jnp.asarray(data["symlog/in/x"])), data["symlog/out/y"])
    close(symexp(jnp.asarray(data["symexp/in/x"])), data["symexp/out/y"])


def test_unimix():
    data = load("rssm")
    latents = OneHot.from_logits(jnp.asarray(data["unimix/in/logits"]), unimix=0.01)
    close(latents.probs, data["unimix/out/probs"])
    close(latents.log_probs, data["unimix/out/logprobs"])
    close(latents.entropy().sum(-1), data["unimix/out/entropy"])
    event = jnp.asarray(data["unimix/in/event"])
    close(latents.log_prob(event).sum(-1), data["unimix/out/logprob_event"])


def test_two_hot():
    data = load("heads")
    bins = symexp_bins()
    close(bins, data["twohot/bins"], rtol=1e-5, atol=0)
    target = jnp.asarray(data["twohot/in/target"])
    two_hot = TwoHot(jnp.asarray(data["twohot/in/logits"]), jnp.asarray(bins))
    close(two_hot.encode(target), data["twohot/out/weights"])
    close(two_hot.loss(target), data["twohot/out/loss"])
    close(TwoHot(jnp.asarray(data["twohot/in/mean_logits"]), two_hot.bins).mean(), data["twohot/out/mean"])
    symmetric = TwoHot(jnp.asarray(data["twohot/in/symmetric_logits"]), two_hot.bins).mean()
    np.testing.assert_array_equal(symmetric, data["twohot/out/symmetric_mean"])


def test_bounded_normal():
    data = load("heads")
    raw = jnp.asarray(data["bounded_normal/in/raw"])
    normal = Normal.bounded(raw, raw, min_std=0.1, max_std=1.0)
    close(normal.mean, data["bounded_normal/out/mean"])
    close(normal.std, data["bounded_normal/out/std"])


@pytest.mark.parametrize("case", ["replay_like", "imagination_like", "long", "lam0"])
def test_lambda_return(case: str):
    data = below(load("returns"), case)
    arrays = [jnp.asarray(data[f"in/{name}"], jnp.float32).T for name in ("rew", "term", "last", "boot")]
    returns = lambda_return(*arrays, discount=float(data["in/disc"]), lam=float(data["in/lam"]))
    close(returns.T, data["out/ret"])


def test_return_range():
    data, config = load("normalizer"), ReturnNormConfig()
    state = ReturnRange.initial()
    for step in range(5):
        if step > 0:
            batch = jnp.asarray(data[f"in/batch{step}"])
            close(jnp.percentile(batch, 5.0), data[f"step{step}/batch_p5"])
            close(jnp.percentile(batch, 95.0), data[f"step{step}/batch_p95"])
            state = state.update(batch, config)
        close(state.low, data[f"step{step}/lo"])
        close(state.high, data[f"step{step}/hi"])
        close(state.low, data[f"step{step}/offset"])
        close(state.scale(config), data[f"step{step}/scale"])


CASES = {
    "official": (OptimizerConfig(), 1e-8),
    "fast": (OptimizerConfig(learning_rate=1e-2, warmup=2), 2e-6),
    "nowarmup": (OptimizerConfig(learning_rate=1e-2, warmup=0), 2e-6),
}


@pytest.mark.parametrize("case", CASES)
def test_optimizer(case: str):
    data, (config, atol) = load("optimizer"), CASES[case]
    optimizer = make_optimizer(config)
    params = {name: jnp.asarray(value) for name, value in below(data, "in/param").items()}
    state = optimizer.init(params)
    for step in range(1, 6):
        gradient = {name: jnp.asarray(data[f"in/grad{step}/{name}"]) for name in params}
        updates, _ = optimizer.update(gradient, state, params)
        params, state = descend(optimizer, gradient, state, params)
        for name in params:
            expected = data[f"{case}/step{step}/update/{name}"]
            close(updates[name], expected, rtol=1e-3, atol=1e-5 * config.learning_rate)
            close(params[name], data[f"{case}/step{step}/param/{name}"], rtol=1e-5, atol=atol)
            if case == "fast":
                close(state[1].nu[name], data[f"fast/step{step}/second_moment/{name}"], rtol=1e-3, atol=1e-15)
                close(state[2].ema[name], data[f"fast/step{step}/momentum/{name}"], rtol=1e-3, atol=1e-6)


def test_gradient_clipping():
    data = load("optimizer")
    params = {name: jnp.asarray(value) for name, value in below(data, "in/param").items()}
    gradient = {name: jnp.asarray(value) for name, value in below(data, "in/grad1").items()}
    clip = clip_by_tensor_norm(0.3, floor=1e-3)
    clipped, _ = clip.update(gradient, clip.init(params), params)
    for name, value in clipped.items():
        close(value, data[f"agc/clipped_grad1/{name}"], rtol=1e-5, atol=1e-9)


def test_learning_rate():
    data = load("optimizer")
    optimizer = make_optimizer(OptimizerConfig())
    # With a constant unit gradient on a large parameter the scaled momentum is 1, so the update is minus the rate.
    params = {"w": jnp.full(3, 100.0)}
    for count, expected in zip(data["lr/in/count"], data["lr/out/lr"], strict=True):
        state = optimizer.init(params)
        for _ in range(2):  # debiased averages of a constant are exact from the first step on
            state = (*state[:3], state[3]._replace(count=jnp.asarray(int(count), jnp.int32)))
            updates, state = optimizer.update({"w": jnp.ones(3)}, state, params)
        close(-updates["w"], np.full(3, expected), rtol=1e-4, atol=0)


def test_slow_critic():
    data = load("optimizer")
    slow = {name: jnp.asarray(value) for name, value in below(data, "slow/in/slow0").items()}
    for step in (1, 2, 3):
        source = {name: jnp.asarray(value) for name, value in below(data, f"slow/in/source{step}").items()}
        slow = moving_average(source, slow, rate=0.02)
        jax.tree.map(lambda a, e: close(a, e, rtol=1e-4, atol=1e-6), slow, below(data, f"slow/out/slow{step}"))
