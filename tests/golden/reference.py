"""Access to the golden data: arrays by name, and parameters placed into this project's modules.

The data were computed with the public DreamerV3 implementation at a tiny size; `data/README.md` documents every array.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dreamer.config import (
    ActorConfig,
    BehaviorConfig,
    Config,
    CriticConfig,
    DecoderConfig,
    EncoderConfig,
    HeadConfig,
    RSSMConfig,
    WorldConfig,
)
from envs.spaces import DiscreteSpec, ImageSpec, VectorSpec

DATA = pathlib.Path(__file__).parent / "data"
RTOL, ATOL = 1e-4, 1e-5  # the default tolerance of the data

VECTOR_SPEC = {"position": VectorSpec(3), "velocity": VectorSpec(2)}
IMAGE_SPEC = {"image": ImageSpec(64, 64, 3)}
CONTINUOUS = {"action": VectorSpec(2)}
DISCRETE = {"action": DiscreteSpec((6,))}
RSSM = RSSMConfig(deter=64, hidden=16, stoch=4, classes=8, blocks=8)
CONFIG = Config(
    world=WorldConfig(
        rssm=RSSM,
        encoder=EncoderConfig(units=16, depth=4),
        decoder=DecoderConfig(units=16, depth=4),
        reward=HeadConfig(units=16),
        continuation=HeadConfig(units=16),
    ),
    # The discrete cases of the data were computed without the actor's unimix.
    behavior=BehaviorConfig(actor=ActorConfig(units=16, unimix=0.0), critic=CriticConfig(units=16), horizon=5),
    precision="float32",
)


def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of one file."""
    with np.load(DATA / f"{name}.npz") as data:
        return dict(data)


def close(actual: Any, expected: np.ndarray, *, rtol: float = RTOL, atol: float = ATOL) -> None:
    """Asserts equality within the tolerance that the data state."""
    np.testing.assert_allclose(np.asarray(actual, np.float32), np.asarray(expected, np.float32), rtol=rtol, atol=atol)


def below(data: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix/`, without it."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in data.items() if name.startswith(f"{prefix}/")}


def linear(params: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Kernel and bias of one layer."""
    return {"kernel": params[f"{name}/kernel"], "bias": params[f"{name}/bias"]}


def layer(params: dict[str, np.ndarray], name: str, norm: str | None = None) -> dict[str, Any]:
    """Linear layer and its norm."""
    scale = params[f"{norm or name + 'norm'}/scale"]
    return {"linear": linear(params, name), "norm": {"scale": scale}}


def mlp(params: dict[str, np.ndarray], num_layers: int) -> dict[str, Any]:
    """The MLP of a head."""
    return {f"layer{i}": layer(params, f"mlp/linear{i}", f"mlp/norm{i}") for i in range(num_layers)}


def rssm_params(params: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of the RSSM."""
    return {
        "deter_in": layer(params, "dynin0"),
        "stoch_in": layer(params, "dynin1"),
        "action_in": layer(params, "dynin2"),
        "gru_hidden": linear(params, "dynhid0"),
        "gru_norm": {"scale": params["dynhid0norm/scale"]},
        "gru_gates": linear(params, "dyngru"),
        "prior_mlp": {"layer0": layer(params, "prior0"), "layer1": layer(params, "prior1")},
        "prior_out": linear(params, "priorlogit"),
        "posterior_in": layer(params, "obs0"),
        "posterior_out": linear(params, "obslogit"),
    }


def encoder_params(params: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of the encoder, of vectors or images."""
    if "cnn0/kernel" in params:
        stages = {f"conv{i}": linear(params, f"cnn{i}") for i in range(4)}
        return {"cnn_64x64": stages | {f"norm{i}": {"scale": params[f"cnn{i}norm/scale"]} for i in range(4)}}
    return {"mlp": {f"layer{i}": layer(params, f"mlp{i}") for i in range(3)}}


def decoder_params(params: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of the decoder, of vectors or images. The data count convolutions from 0 at the image, we from 1."""
    if "imgout/kernel" in params:
        stages = {f"conv{i + 1}": linear(params, f"conv{i}") for i in range(3)}
        norms = {f"norm{i + 1}": {"scale": params[f"conv{i}norm/scale"]} for i in range(3)}
        image = {
            "deter_map": linear(params, "sp0"),
            "stoch_in": layer(params, "sp1"),
            "stoch_map": linear(params, "sp2"),
            "map_norm": {"scale": params["spnorm/scale"]},
            "output": linear(params, "imgout"),
        }
        return {"cnn_64x64": stages | norms | image}
    keys = {name.split("/")[1] for name in params if name.startswith("vec/")}
    return {"mlp": mlp(params, 3), "vectors": {key: linear(params, f"vec/{key}/pred") for key in keys}}


def head_params(params: dict[str, np.ndarray], num_layers: int) -> dict[str, Any]:
    """Parameters of a scalar head."""
    name = "head/logit" if "head/logit/kernel" in params else "head/logits"
    return {"mlp": mlp(params, num_layers), "output": linear(params, name)}


def actor_params(params: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of the policy."""
    if "head/action/mean/kernel" in params:
        head = {"mean": linear(params, "head/action/mean"), "std": linear(params, "head/action/stddev")}
    else:
        head = {"logits": linear(params, "head/action/logits")}
    return {"mlp": mlp(params, 3), "heads": {"action": head}}


def agent_params(params: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of world model and behaviour, as `TrainState.params` holds them."""
    return {
        "world": {
            "encoder": encoder_params(below(params, "enc")),
            "rssm": rssm_params(below(params, "dyn")),
            "decoder": decoder_params(below(params, "dec")),
            "reward_head": head_params(below(params, "rew"), 1),
            "continue_head": head_params(below(params, "con"), 1),
        },
        "behavior": {"actor": actor_params(below(params, "pol")), "critic": head_params(below(params, "val"), 3)},
    }


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict to paths joined by slashes."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
    return leaves


def filled(module: Any, params: dict[str, Any]) -> Any:
    """The module with these parameters; every parameter must be given, none may be left over."""
    graph, state = nnx.split(module)
    expected = {path: leaf.shape for path, leaf in flatten(nnx.to_pure_dict(state)).items()}
    assert expected == {path: leaf.shape for path, leaf in flatten(params).items()}
    state = nnx.to_pure_dict(state)
    merged = _fill(state, params)
    return nnx.merge(graph, nnx.State(merged))


def _fill(state: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _fill(value, params[name]) if isinstance(value, dict) else jnp.asarray(params[name])
        for name, value in state.items()
        if name in params
    }
