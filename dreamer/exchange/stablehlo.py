"""One step of a trained policy as a program of StableHLO, through `jax.export`: it runs without this project.

Whoever has JAX, NumPy and flatbuffers reads and runs it:

    policy = jax.export.deserialize(bytearray(open("policy.stablehlo", "rb").read()))
    action, carry = policy.call(observation, carry, is_first, key, count, deterministic)

The parameters are part of the program; the number of environments N is open. Beside FILE lies FILE.json with every
input and output in words: shape, dtype, and the environment's own space.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Bool, Float, Int, UInt32

from dreamer.training.run_folder import RunFolderError
from dreamer.training.step import PolicyCarry, initial_carry, policy_step
from dreamer.types import Latent
from envs.codec import ActionCodec, first_class, num_classes
from envs.space_json import space_to_json
from envs.spaces import ImageSpec, ObservationSpec, VectorSpec

if TYPE_CHECKING:
    from dreamer.agent import Agent

PLATFORMS = ("cpu", "cuda", "tpu")
BATCH = "N"
MEANINGS = {
    "observation": "by key; vectors flattened, images height x width x channels",
    "carry": "zeros to begin with, then what the last call returned",
    "is_first": "the observation comes from a reset; the carry of that environment does not matter",
    "key": "random numbers, as jax.random.key_data(jax.random.key(seed)) gives them",
    "count": "number of the call: each draws numbers of its own from the key",
    "deterministic": "take modes instead of samples",
}


def require_flatbuffers() -> None:
    """Refuses, at the start, what would only fail later.

    Raises:
        RunFolderError: flatbuffers is not installed.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise RunFolderError("StableHLO programs need flatbuffers: pip install -e '.[stablehlo]'.")


def write_stablehlo(agent: Agent, path: str | Path) -> Path:
    """Writes the program and its description.

    Args:
        agent: whose policy it is.
        path: of a file that does not exist yet.

    Raises:
        RunFolderError: it exists, or flatbuffers is missing.
    """
    require_flatbuffers()
    path = Path(path).absolute()
    described = path.with_name(f"{path.name}.json")
    for file in (path, described):
        if file.exists():
            raise RunFolderError(f"{file} exists already; choose another path, or remove it first.")
    exported = export_policy(agent)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(described, json.dumps(describe(agent, exported), indent=1).encode())
    _write_whole(path, bytes(exported.serialize()))
    return path


def export_policy(agent: Agent) -> jax.export.Exported:
    """The policy step with its parameters in it, for all platforms and any number of environments."""
    definition, params = agent.definition, agent.params
    native = [_native_action(agent.action_codec, key) for key in sorted(agent.action_spec)]

    def step(
        observation: dict[str, Array],
        carry: dict[str, Array],
        is_first: Bool[Array, " N"],
        key: UInt32[Array, " 2"],
        count: UInt32[Array, ""],
        deterministic: Bool[Array, ""],
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        before = PolicyCarry(Latent(carry["deter"], carry["stoch"]), carry["action"])
        number = jax.random.fold_in(jax.random.wrap_key_data(key), count)

        def act(key: Array | None) -> PolicyCarry:
            return policy_step(definition, params, before, observation, is_first, key)[0]

        after = jax.lax.cond(deterministic, lambda: act(None), lambda: act(number))
        actions, start = {}, 0
        for name, (width, decode) in zip(sorted(agent.action_spec), native, strict=True):
            actions[name] = decode(after.action[:, start : start + width])
            start += width
        return actions, {"deter": after.latent.deter, "stoch": after.latent.stoch, "action": after.action}

    return jax.export.export(jax.jit(step), platforms=PLATFORMS)(*_arguments(agent))


def describe(agent: Agent, exported: jax.export.Exported) -> dict[str, Any]:
    """Inputs, outputs and origin, as JSON."""
    arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    actions, carry = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {
        "env": agent.interface.env,
        "platforms": list(exported.platforms),
        "counters": agent.counters._asdict(),
        "call": f"action, carry = policy.call({', '.join(MEANINGS)})",
        "inputs": {
            name: {"meaning": meaning, "arrays": _shapes(argument)}
            for (name, meaning), argument in zip(MEANINGS.items(), arguments, strict=True)
        },
        "outputs": {"action": {"arrays": _shapes(actions)}, "carry": {"arrays": _shapes(carry)}},
        "observation_space": space_to_json(agent.observation_space),
        "action_space": space_to_json(agent.action_space),
    }


def _arguments(agent: Agent) -> tuple[Any, ...]:
    (num,) = jax.export.symbolic_shape(BATCH)
    carry = initial_carry(agent.definition, 1)
    shaped = {"deter": carry.latent.deter, "stoch": carry.latent.stoch, "action": carry.action}
    return (
        _observation_shapes(agent.observation_spec, num),
        {name: jax.ShapeDtypeStruct((num, *array.shape[1:]), array.dtype) for name, array in shaped.items()},
        jax.ShapeDtypeStruct((num,), jnp.bool),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
        jax.ShapeDtypeStruct((), jnp.uint32),
        jax.ShapeDtypeStruct((), jnp.bool),
    )


def _observation_shapes(spec: ObservationSpec, num: Any) -> dict[str, jax.ShapeDtypeStruct]:
    shapes: dict[str, jax.ShapeDtypeStruct] = {}
    for key, part in spec.items():
        if isinstance(part, ImageSpec):
            shapes[key] = jax.ShapeDtypeStruct((num, *part), jnp.uint8)
        elif isinstance(part, VectorSpec):
            shapes[key] = jax.ShapeDtypeStruct((num, part.size), jnp.float32)
        else:
            shapes[key] = jax.ShapeDtypeStruct((num, len(part.num_classes)), jnp.int32)
    return shapes


def _native_action(codec: ActionCodec, key: str) -> tuple[int, Any]:
    """Width of a key's block in the flat action, and what makes the environment's own action of it, in JAX."""
    space = codec.simple_spaces[key]
    if not isinstance(space, spaces.Box):
        classes, first = num_classes(space), first_class(space)

        def choose(block: Float[Array, "N A"]) -> Int[Array, "N ..."]:
            ends = np.cumsum(classes)[:-1]
            index = jnp.stack([jnp.argmax(part, -1) for part in jnp.split(block, ends, axis=-1)], axis=-1)
            return index.astype(jnp.int32).reshape(-1, *space.shape) + jnp.asarray(first[None], jnp.int32)

        return sum(classes), choose
    low, high = (jnp.asarray(limit, jnp.float32) for limit in codec.limits[key])

    def scale(block: Float[Array, "N A"]) -> Array:
        scaled = low[None] + (jnp.clip(block, -1.0, 1.0) + 1.0) / 2.0 * (high - low)[None]
        scaled = jnp.clip(scaled, low[None], high[None]).reshape(-1, *space.shape)
        return jnp.rint(scaled).astype(jnp.int32) if np.issubdtype(space.dtype, np.integer) else scaled

    return low.size, scale


def _shapes(tree: Any) -> dict[str, str]:
    """Arrays of an argument in words, such as `float32[N, 4]`; the name is empty where it is one array."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
