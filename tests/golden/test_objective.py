"""The losses of actor and critic, and the whole objective with its gradients, against the golden data."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.behavior.actor import ActionDistribution
from dreamer.behavior.model import Dream, DreamNoise, imagination_loss, imagine, replay_value_loss
from dreamer.behavior.returns import ReturnRange
from dreamer.config import BehaviorConfig
from dreamer.nets.distributions import Normal, OneHot, TwoHot, symexp_bins
from dreamer.training import step as training_step
from dreamer.training.state import Definition, TrainState
from dreamer.types import Batch, CompactLatent
from envs.spaces import DiscreteSpec, ImageSpec, VectorSpec
from tests.golden.reference import (
    CONFIG,
    CONTINUOUS,
    DATA,
    DISCRETE,
    IMAGE_SPEC,
    VECTOR_SPEC,
    agent_params,
    below,
    close,
    flatten,
    head_params,
    load,
)

BINS = jnp.asarray(symexp_bins())
CASES = ["disc", "cont", "disc_narrow_retnorm", "disc_slowtar", "disc_no_contdisc"]
METRICS = {
    "adv": "advantage",
    "adv_std": "advantage_std",
    "adv_mag": "advantage_magnitude",
    "rew": "imagined_reward",
    "con": "imagined_continue",
    "val": "value",
    "slowval": "slow_value",
    "weight": "weight",
    "ret": "scaled_return",
    "ret_min": "scaled_return_min",
    "ret_max": "scaled_return_max",
    "ret_rate": "scaled_return_rate",
    "tar": "return",
    "ent": "policy_entropy",
}


def return_range(data: dict[str, np.ndarray], prefix: str) -> ReturnRange:
    return ReturnRange(jnp.asarray(data[f"{prefix}lo"]), jnp.asarray(data[f"{prefix}hi"]))


@pytest.mark.parametrize("case", CASES)
def test_imagination_loss(case: str):
    data = below(load("losses"), "imag")
    inputs = {name: jnp.asarray(value).swapaxes(0, 1) for name, value in below(data, "in").items()}  # time first
    config = BehaviorConfig()
    config = dataclasses.replace(config, critic=dataclasses.replace(config.critic, slow_target=case == "disc_slowtar"))
    discrete = case != "cont"
    action = jax.nn.one_hot(inputs["action_index"], 6) if discrete else inputs["action"]
    names = ("policy_logits",) if discrete else ("policy_mean_raw", "policy_std_raw")

    def loss(value_logits, *raw):
        part = (
            OneHot.from_logits(raw[0], unimix=0.0)
            if discrete
            else Normal.bounded(raw[0], raw[1], min_std=0.1, max_std=1.0)
        )
        policy = ActionDistribution((jax.tree.map(lambda x: x[:-1], part),))
        dream = Dream(
            features=jnp.zeros((4, 15, 1)),
            action=action[:-1],
            policy=policy,
            value=TwoHot(value_logits[:-1], BINS),
            value_mean=jax.lax.stop_gradient(TwoHot(value_logits, BINS).mean()),
            slow_value=TwoHot(inputs["slow_value_logits"], BINS).mean(),
            reward=inputs["rew"],
            continue_prob=inputs["con"],
        )
        return imagination_loss(
            dream,
            return_range=return_range(data, f"{case}/retnorm_before/"),
            config=config,
            discount=1 - 1 / 333 if case == "disc_no_contdisc" else 1.0,
        )

    arguments = (inputs["value_logits"], *(inputs[name] for name in names))
    out, expected = loss(*arguments), {name: time_first(x) for name, x in below(data, f"{case}/out").items()}
    close(out.policy, expected["policy_loss"])
    close(out.value, expected["value_loss"])
    close(out.returns, expected["ret"])
    close(out.return_range.low, data[f"{case}/retnorm_after/lo"])
    close(out.return_range.high, data[f"{case}/retnorm_after/hi"])
    for name in [name for name in expected if name.startswith("metric_")]:
        close(out.metrics[METRICS[name.removeprefix("metric_")]], expected[name])

    policy_gradient = jax.grad(lambda *a: loss(*a).policy.mean(), argnums=tuple(range(len(arguments))))(*arguments)
    value_gradient = jax.grad(lambda *a: loss(*a).value.mean(), argnums=tuple(range(len(arguments))))(*arguments)
    suffixes = {"disc": ("policy_logits",), "cont": ("mean_raw", "std_raw")}.get(case, ())  # the data have no others
    for suffix, gradient in zip(suffixes, policy_gradient[1:], strict=False):
        close(gradient, expected[f"grad_mean_policy_loss_wrt_{suffix}"], rtol=1e-3, atol=1e-7)
    if case == "disc":
        close(value_gradient[0], expected["grad_mean_value_loss_wrt_value_logits"], rtol=1e-3, atol=1e-7)
    assert not np.any(policy_gradient[0])
    assert not any(np.any(gradient) for gradient in value_gradient[1:])


def test_replay_value_loss():
    data = below(load("losses"), "repl")
    inputs = {name: jnp.asarray(value) for name, value in below(data, "in").items()}
    blank = jnp.zeros((3, 5))
    batch = Batch({}, blank, inputs["rew"], blank, inputs["last"], inputs["term"], CompactLatent(blank, blank))

    def loss(value_logits):
        return replay_value_loss(
            batch,
            value=TwoHot(value_logits, BINS),
            slow_value=TwoHot(inputs["slow_value_logits"], BINS).mean(),
            bootstrap=inputs["boot"],
            discount=1 - 1 / 333,
            config=BehaviorConfig(),
        )

    losses, returns = loss(inputs["value_logits"])
    close(losses, data["out/repval_loss"])
    close(returns, data["out/ret"])
    gradient = jax.grad(lambda logits: loss(logits)[0].mean())(inputs["value_logits"])
    close(gradient, data["out/grad_mean_loss_wrt_value_logits"], rtol=1e-3, atol=1e-7)


def time_first(x: np.ndarray) -> np.ndarray:
    return x if x.ndim < 2 else x.swapaxes(0, 1)


SETUPS = {
    "agent_loss_vector": (VECTOR_SPEC, CONTINUOUS),
    "agent_loss_image": (IMAGE_SPEC, DISCRETE),
}
TERMS = {"dyn": "dynamics", "rep": "representation", "rew": "reward", "con": "continuation"}


def golden_batch(data: dict[str, np.ndarray], name: str) -> Batch:
    inputs = {key: jnp.asarray(value) for key, value in below(data, "in").items()}
    if name == "agent_loss_image":
        observation = {"image": jnp.asarray(load("encoder_image")["in/image"])}
        action = jax.nn.one_hot(inputs["prev_action"], 6)
    else:
        observation = {key: inputs[key] for key in VECTOR_SPEC}
        action = inputs["prev_action"]
    flags = (inputs["is_first"], inputs["is_last"], inputs["is_terminal"])
    stoch = inputs["carry_stoch"]
    np.testing.assert_array_equal(stoch.max(-1), 1.0)  # one-hot, so class indices lose nothing
    context = CompactLatent(inputs["carry_deter"], jnp.argmax(stoch, -1).astype(jnp.uint8))
    return Batch(observation, action, inputs["reward"], *flags, context)


@pytest.mark.parametrize("name", SETUPS)
def test_objective(name: str):
    """One evaluation of the loss inside `train_step`, with samples replaced by the deterministic rule of the data."""
    data = load(name)
    observation_spec, action_spec = SETUPS[name]
    definition, batch = Definition(CONFIG, observation_spec, action_spec), golden_batch(data, name)
    action_noise = (jnp.full((5, 15, 2), 0.5),) if action_spec is CONTINUOUS else None
    noise = training_step.UpdateNoise(None, DreamNoise(None, action_noise))

    params = jax.tree.map(jnp.asarray, agent_params(below(data, "param")))
    slow_critic = jax.tree.map(jnp.asarray, head_params(below(data, "param/slowval"), 3))
    fresh = definition.init(0)
    jax.tree.map(
        lambda a, b: np.testing.assert_equal(a.shape, b.shape), fresh.params, _with_empty(fresh.params, params)
    )
    before = return_range(data, "in/retnorm_")
    state = fresh._replace(params=_with_empty(fresh.params, params), slow_critic=slow_critic, return_range=before)

    objective = training_step.objective(definition, state, batch, noise)
    (total, aux), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(state.params)
    close(total, data["out/total_loss"])
    terms = aux.world.terms | aux.behavior.terms
    for key, expected in below(data, "out/loss").items():
        if key in ("policy", "value"):
            close(terms[key].mean(0).reshape(3, 5), expected)
        elif key == "repval":
            close(terms["replay_value"], expected)
        else:
            close(terms[TERMS.get(key, f"reconstruction/{key}")], expected)
    close(aux.world.latents.deter, data["out/feat/deter"])
    close(aux.world.latents.stoch, data["out/feat/stoch"])
    close(aux.behavior.return_range.low, data["out/retnorm_lo"])
    close(aux.behavior.return_range.high, data["out/retnorm_hi"])
    metrics = aux.world.metrics | aux.behavior.metrics
    for key, ours in (METRICS | {"dyn_ent": "prior_entropy", "rep_ent": "posterior_entropy"}).items():
        if f"out/metric_{key}" in data:
            close(metrics[ours], data[f"out/metric_{key}"])
    close(metrics["policy_entropy"], data["out/metric_policy_entropy"])

    gradient = flatten(gradient)
    norms = {path: jnp.linalg.norm(leaf.reshape(-1)) for path, leaf in gradient.items()}
    expected_norms = flatten(agent_params(_without_slow(below(data, "out/grad_norm"))))
    assert set(norms) == set(expected_norms)
    for path, expected in expected_norms.items():
        close(norms[path], expected, rtol=1e-3, atol=1e-5)
    if f"out/grad/{next(iter(below(data, 'out/grad_norm')))}" in data:
        for path, expected in flatten(agent_params(below(data, "out/grad"))).items():
            close(gradient[path], expected, rtol=1e-3, atol=1e-5)


def _without_slow(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    assert not any(name.startswith("slowval") for name in arrays)
    return arrays


def _with_empty(template: dict, params: dict) -> dict:
    """Adds the empty sub-dicts of modules without parameters."""
    return {
        key: (_with_empty(value, params.get(key, {})) if isinstance(value, dict) else params[key])
        for key, value in template.items()
    }


def test_posterior_logits_of_the_objective():
    """`out/feat/logits` are raw posterior logits; ours are compared as log-probabilities after unimix."""
    for name, (observation_spec, action_spec) in SETUPS.items():
        data = load(name)
        definition, batch = Definition(CONFIG, observation_spec, action_spec), golden_batch(data, name)
        params = _with_empty(definition.init(0).params, agent_params(below(data, "param")))
        world = definition.bind(jax.tree.map(jnp.asarray, params)).world
        _, posterior = world.observe(
            world.expand(batch.context), batch.observation, batch.previous_action, batch.is_first, None
        )
        close(posterior.log_probs, OneHot.from_logits(jnp.asarray(data["out/feat/logits"]), unimix=0.01).log_probs)


ENVIRONMENTS = {
    "dmc_walker_walk_proprio": (
        {"orientations": VectorSpec(14), "height": VectorSpec(1), "velocity": VectorSpec(9)},
        {"action": VectorSpec(6)},
    ),
    "atari100k_64x64x3_6_actions": ({"image": ImageSpec(64, 64, 3)}, {"action": DiscreteSpec((6,))}),
    "atari_96x96x1_18_actions": ({"image": ImageSpec(96, 96, 1)}, {"action": DiscreteSpec((18,))}),
}
MODULES = {
    "enc": "encoder",
    "dyn": "dynamics",
    "dec": "decoder",
    "rew": "reward",
    "con": "continue",
    "pol": "actor",
    "val": "critic",
    "total": "total",
}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_parameter_counts(environment: str):
    counts = json.loads((DATA / "param_counts.json").read_text())[environment]
    assert len(counts) == 7
    for size, expected in counts.items():
        definition = Definition(sized(size), *ENVIRONMENTS[environment])
        assert definition.parameter_counts() == {MODULES[name]: count for name, count in expected.items()}


@pytest.mark.parametrize("environment", list(ENVIRONMENTS)[:2])
def test_initial_parameters(environment: str):
    """Shapes, and the standard deviation and largest value of every kernel, pooled over eight initialisations."""
    expected = json.loads((DATA / "param_shapes_1m.json").read_text())[environment]
    definition = Definition(sized("1m"), *ENVIRONMENTS[environment])
    draws = [flatten(definition.init(seed).params) for seed in range(8)]
    paths = flatten(agent_params(_Named(expected)))
    assert set(paths) == set(draws[0])
    for path, name in paths.items():
        values = np.stack([draw[path] for draw in draws])
        assert values.shape[1:] == tuple(expected[name]["shape"]), path
        if "init_std" in expected[name]:
            small = 4.0 / np.sqrt(2 * values.size)  # four standard errors of a sample's standard deviation
            fan_in, outscale = expected[name]["fan_in"], expected[name]["outscale"]
            np.testing.assert_allclose(values.std(), outscale / np.sqrt(fan_in), rtol=max(0.03, small), err_msg=name)
            assert np.abs(values).max() <= 2 * 1.1368 * outscale / np.sqrt(fan_in) * 1.0001, name
        else:
            np.testing.assert_array_equal(values, 1.0 if name.endswith("scale") else 0.0, err_msg=name)


class _Named(dict):
    """Gives names instead of arrays, so that the mapping of names can be read off."""

    def __getitem__(self, name: str):
        assert name in self, name
        return name

    def items(self):
        return [(name, name) for name in self]


def sized(size: str):
    from dreamer.cli import parse

    return parse(["--env", "dmc_walker_walk", "--size", size])


def test_fresh_losses():
    """The first losses of the official code: ln 255 for the reward, 2 ln 255 for the replayed value, policy near 0."""
    definition = Definition(sized("1m"), *ENVIRONMENTS["dmc_walker_walk_proprio"])
    state = definition.init(0)
    assert isinstance(state, TrainState)
    shape, rssm = (2, 8), definition.config.world.rssm
    observation = {
        key: jnp.ones((*shape, part.size)) for key, part in ENVIRONMENTS["dmc_walker_walk_proprio"][0].items()
    }
    false, blank = jnp.zeros(shape, bool), jnp.zeros(shape)
    context = CompactLatent(jnp.zeros((2, rssm.deter)), jnp.zeros((2, rssm.stoch), jnp.uint8))
    batch = Batch(observation, jnp.zeros((*shape, 6)), blank, false, false, false, context)
    _, _, metrics = training_step.make_train_step(definition)(state, batch)
    close(metrics["loss/reward"], np.log(255))
    close(metrics["loss/replay_value"], 2 * np.log(255))
    close(metrics["loss/dynamics"], metrics["loss/representation"])
    assert 5 < metrics["loss/dynamics"] < 14
    assert abs(metrics["loss/policy"]) < 0.02
    assert metrics["value"] == 0
    assert metrics["imagined_reward"] == 0


def test_only_what_actor_and_critic_say_of_a_dream_has_a_gradient():
    """REINFORCE: nothing flows back through the world, nor from one of the two to the other."""
    definition = Definition(CONFIG, VECTOR_SPEC, CONTINUOUS)
    state = definition.init(0)

    def parts(params):
        frozen, model = definition.bind(jax.lax.stop_gradient(params)), definition.bind(params)
        start, slow_critic = frozen.world.initial(3), definition.bind_critic(state.slow_critic)
        dream = imagine(frozen.world, model.behavior, slow_critic, start, DreamNoise(None, None), horizon=4)
        rest = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(dream._replace(policy=None, value=None)))
        return rest, jnp.sum(dream.policy.log_prob(dream.action + 0.1)), jnp.sum(dream.value.loss(jnp.ones((4, 3))))

    rest, policy, value = (flatten(jax.grad(lambda params, i=i: parts(params)[i])(state.params)) for i in range(3))
    assert not any(np.any(leaf) for leaf in rest.values())
    assert {path.split("/")[1] for path, leaf in policy.items() if np.any(leaf)} == {"actor"}
    assert {path.split("/")[1] for path, leaf in value.items() if np.any(leaf)} == {"critic"}


def test_the_gradient_through_a_dream_is_that_of_a_second_pass():
    """The products of actor and critic are kept by the dream; a second pass over its features has the same gradient."""
    definition = Definition(CONFIG, VECTOR_SPEC, CONTINUOUS)
    state = definition.init(0)
    noise = DreamNoise(None, (jnp.full((4, 3, 2), 0.3),))

    def loss(params, *, again):
        frozen, behavior = definition.bind(jax.lax.stop_gradient(params)), definition.bind(params).behavior
        slow_critic = definition.bind_critic(state.slow_critic)
        dream = imagine(frozen.world, behavior, slow_critic, frozen.world.initial(3), noise, horizon=4)
        policy = behavior.actor(dream.features) if again else dream.policy
        value = behavior.critic(dream.features) if again else dream.value
        return jnp.sum(policy.log_prob(dream.action) + 0.1 * policy.entropy() + value.loss(jnp.ones((4, 3))))

    kept, second = (flatten(jax.grad(loss)(state.params, again=again)) for again in (False, True))
    for part in ("actor", "critic"):
        assert any(np.any(leaf) for path, leaf in kept.items() if part in path)
    for path, expected in second.items():
        close(kept[path], expected, rtol=1e-4, atol=1e-6)
