"""Encoder, RSSM, decoder and heads against the golden data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dreamer.behavior.actor import Actor
from dreamer.config import ActorConfig
from dreamer.nets.distributions import Normal, OneHot
from dreamer.nets.heads import ContinueHead, TwoHotHead
from dreamer.types import Latent
from dreamer.world import rssm as rssm_module
from dreamer.world.decoder import Decoder
from dreamer.world.encoder import Encoder
from dreamer.world.model import WorldModel
from tests.golden.reference import (
    CONFIG,
    CONTINUOUS,
    DISCRETE,
    IMAGE_SPEC,
    RSSM,
    VECTOR_SPEC,
    actor_params,
    below,
    close,
    decoder_params,
    encoder_params,
    filled,
    head_params,
    load,
    rssm_params,
)

RNGS = nnx.Rngs(0)
WIDTHS = {"cont": (2, 16), "disc": (6, 256)}  # action, tokens


def rssm(data: dict[str, np.ndarray], case: str) -> rssm_module.RSSM:
    action_size, token_size = WIDTHS[case]
    module = rssm_module.RSSM(RSSM, token_size=token_size, action_size=action_size, rngs=RNGS)
    return filled(module, rssm_params(below(data, f"{case}/param")))


def flat_action(action: np.ndarray, case: str) -> jnp.ndarray:
    return jax.nn.one_hot(action, 6) if case == "disc" else jnp.asarray(action)


def close_logits(latents: OneHot, expected: np.ndarray) -> None:
    close(latents.log_probs, OneHot.from_logits(jnp.asarray(expected), unimix=RSSM.unimix).log_probs)


def force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the noise of a latent the sample itself."""
    monkeypatch.setattr(OneHot, "sample_straight_through", lambda self, forced: forced)


@pytest.mark.parametrize("case", ["cont", "disc"])
def test_core_prior_posterior(case: str):
    data = load("rssm")
    module, arrays = rssm(data, case), below(data, case)
    latent = Latent(jnp.asarray(arrays["core/in/deter"]), jnp.asarray(arrays["core/in/stoch"]))
    action = module.embed_action(jnp.asarray(arrays["core/in/action"]))
    close(module.next_deter(latent, action), arrays["core/out/deter"])
    close(module.prior_out(module.prior_mlp(jnp.asarray(arrays["prior/in/deter"]))), flat(arrays["prior/out/logits"]))
    deter, tokens = jnp.asarray(arrays["post/in/deter"]), jnp.asarray(arrays["post/in/tokens"])
    hidden = module.posterior_in(jnp.concatenate([deter, tokens], -1))
    close(module.posterior_out(hidden), flat(arrays["post/out/logits"]))
    close_logits(module.posterior(deter, tokens), arrays["post/out/logits"])


def flat(logits: np.ndarray) -> np.ndarray:
    return logits.reshape(*logits.shape[:-2], -1)


@pytest.mark.parametrize("case", ["cont", "disc"])
def test_observe(case: str, monkeypatch: pytest.MonkeyPatch):
    data = load("rssm")
    module, arrays = rssm(data, case), below(data, f"{case}/observe")
    entered, actions = [], []
    next_deter, embed_action = module.next_deter, module.embed_action
    object.__setattr__(module, "next_deter", lambda latent, part: (entered.append(latent), next_deter(latent, part))[1])
    object.__setattr__(module, "embed_action", lambda action: (actions.append(action), embed_action(action))[1])
    force(monkeypatch)
    carry = Latent(jnp.asarray(arrays["in/carry_deter"]), jnp.asarray(arrays["in/carry_stoch"]))
    action, is_first = flat_action(arrays["in/action"], case), jnp.asarray(arrays["in/is_first"])
    tokens, samples = jnp.asarray(arrays["in/tokens"]), jnp.asarray(arrays["in/stoch_samples"])
    with jax.disable_jit():  # so that the states that enter each step can be seen
        latents, posterior = module.observe(carry, tokens, action, is_first, samples)
    close(latents.deter, arrays["out/deter"])
    close_logits(posterior, arrays["out/logits"])
    close(jnp.stack([latent.deter for latent in entered], 1), arrays["out/masked_deter"])
    close(jnp.stack([latent.stoch for latent in entered], 1), arrays["out/masked_stoch"])
    close(actions[0], arrays["out/masked_action"])
    jitted, _ = jax.jit(rssm(data, case).observe)(carry, tokens, action, is_first, samples)
    close(jitted.deter, arrays["out/deter"])


@pytest.mark.parametrize("case", ["cont", "disc"])
def test_imagine(case: str, monkeypatch: pytest.MonkeyPatch):
    data = load("rssm")
    module, arrays = rssm(data, case), below(data, f"{case}/imagine")
    force(monkeypatch)
    latent = Latent(jnp.asarray(arrays["in/carry_deter"]), jnp.asarray(arrays["in/carry_stoch"]))
    action = flat_action(arrays["in/action"], case)
    for t in range(action.shape[1]):
        latent, prior = module.imagine(latent, action[:, t], jnp.asarray(arrays["in/stoch_samples"][:, t]))
        close(latent.deter, arrays["out/deter"][:, t])
        close_logits(prior, arrays["out/logits"][:, t])


def test_kl():
    data = below(load("rssm"), "kl")
    world = WorldModel(CONFIG.world, VECTOR_SPEC, CONTINUOUS, discount=0.99, dtype=jnp.dtype("float32"), rngs=RNGS)
    prior, post = jnp.asarray(data["in/prior_logits"]), jnp.asarray(data["in/post_logits"])

    def distributions(prior, post):
        return OneHot.from_logits(prior, unimix=0.01), OneHot.from_logits(post, unimix=0.01)

    def dyn(prior, post):
        prior, post = distributions(prior, jax.lax.stop_gradient(post))
        return world._limited_kl(post, prior)

    def rep(prior, post):
        prior, post = distributions(jax.lax.stop_gradient(prior), post)
        return world._limited_kl(post, prior)

    p, q = distributions(prior, post)
    close(q.kl(p).sum(-1), data["out/kl"])
    close(dyn(prior, post), data["out/dyn"])
    close(rep(prior, post), data["out/rep"])
    close(p.entropy().sum(-1).mean(), data["out/prior_entropy_mean"])
    close(q.entropy().sum(-1).mean(), data["out/post_entropy_mean"])
    for name, loss in (("dyn", dyn), ("rep", rep)):
        by_prior, by_post = jax.grad(lambda *logits, loss=loss: loss(*logits).sum(), argnums=(0, 1))(prior, post)
        close(by_prior, data[f"out/grad_{name}_wrt_prior"])
        close(by_post, data[f"out/grad_{name}_wrt_post"])


@pytest.mark.parametrize(("name", "spec"), [("encoder_vector", VECTOR_SPEC), ("encoder_image", IMAGE_SPEC)])
def test_encoder(name: str, spec: dict):
    data = load(name)
    encoder = filled(Encoder(CONFIG.world.encoder, spec, rngs=RNGS), encoder_params(below(data, "param")))
    close(encoder({key: jnp.asarray(data[f"in/{key}"]) for key in spec}), data["out/tokens"])


@pytest.mark.parametrize(("name", "spec"), [("decoder_vector", VECTOR_SPEC), ("decoder_image", IMAGE_SPEC)])
def test_decoder(name: str, spec: dict):
    data = load(name)
    module = Decoder(CONFIG.world.decoder, spec, latent=(64, 32, 8), rngs=RNGS)
    decoder = filled(module, decoder_params(below(data, "param")))
    predictions = decoder(Latent(jnp.asarray(data["in/deter"]), jnp.asarray(data["in/stoch"])))
    for key, prediction in predictions.items():
        close(prediction.mean, data[f"out/mean_{key}"])
        close(prediction.loss(jnp.asarray(data[f"in/target_{key}"])), data[f"out/loss_{key}"])


@pytest.mark.parametrize(("name", "layers"), [("rew", 1), ("val", 3)])
def test_two_hot_heads(name: str, layers: int):
    data = load("heads")
    arrays = below(data, name)
    head = filled(TwoHotHead(96, 16, layers=layers, rngs=RNGS), head_params(below(arrays, "param"), layers))
    prediction = head(jnp.asarray(data["in/feat"]))
    close(prediction.logits, arrays["out/logits"])
    close(prediction.mean(), arrays["out/pred"])
    close(prediction.loss(jnp.asarray(arrays["in/target"])), arrays["out/loss"])


def test_continue_head():
    data = load("heads")
    head = filled(ContinueHead(96, 16, layers=1, rngs=RNGS), head_params(below(data, "con/param"), 1))
    prediction = head(jnp.asarray(data["in/feat"]))
    close(prediction.logit, data["con/out/logit"])
    close(prediction.prob, data["con/out/prob"])
    np.testing.assert_array_equal(prediction.logit > 0, data["con/out/mode"])
    for kind in ("hard", "soft"):
        close(prediction.loss(jnp.asarray(data[f"con/in/target_{kind}"])), data[f"con/out/loss_{kind}"])


def test_continuous_actor():
    data = load("heads")
    actor = Actor(ActorConfig(units=16), 96, CONTINUOUS, rngs=RNGS)
    policy = filled(actor, actor_params(below(data, "pol_cont/param")))(jnp.asarray(data["in/feat"]))
    (normal,) = policy.parts
    assert isinstance(normal, Normal)
    action = jnp.asarray(data["pol_cont/in/action"])
    close(normal.mean, data["pol_cont/out/mean"])
    close(normal.std, data["pol_cont/out/std"])
    close(normal.log_prob(action), data["pol_cont/out/logprob_per_dim"])
    close(policy.log_prob(action), data["pol_cont/out/logprob"])
    close(policy.entropy(), data["pol_cont/out/entropy"])


@pytest.mark.parametrize(("case", "unimix"), [("categorical", 0.0), ("unimix_0.01", 0.01)])
def test_discrete_actor(case: str, unimix: float):
    data = load("heads")
    actor = Actor(ActorConfig(units=16, unimix=unimix), 96, DISCRETE, rngs=RNGS)
    actor = filled(actor, actor_params(below(data, "pol_disc/param")))
    features = jnp.asarray(data["pol_disc/in/feat"])
    close(actor.heads["action"].logits(actor.mlp(features)), data["pol_disc/out/logits"])
    policy, action = actor(features), jax.nn.one_hot(data["pol_disc/in/action"], 6)
    close(policy.parts[0].probs, data[f"pol_disc/out/{case}/probs"])
    close(policy.log_prob(action), data[f"pol_disc/out/{case}/logprob"])
    close(policy.entropy(), data[f"pol_disc/out/{case}/entropy"])
    np.testing.assert_array_equal(jnp.argmax(policy.sample(None), -1), data["pol_disc/out/categorical/mode"])
