"""Inverse dynamics: which action lay between two observations, learned from real pairs and asked of imagined ones."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import TRUTH, mean_of
from dreamer.dream.report.futures import KEPT, Futures
from envs.area import AreaResize
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec

UNITS, UPDATES, RATE, DECAY = 64, 400, 3e-3, 1e-2
SIDE = 32  # pixels of the images that are looked at
PAIRS = tuple((a, b) for a, b in pairwise(KEPT) if b == a + 1)  # consecutive steps that are kept


def action_accuracy(bench: Bench) -> dict[str, Float[np.ndarray, "N 1"]]:
    """Shares of the actions read rightly by contestant, for every start; NaN for those that were trained on."""
    futures, spec = bench.futures, bench.truth.observation_spec
    num = len(bench.start.is_first)
    is_test = np.arange(num) % 2 == 1
    action = np.stack([bench.actions[:, b - 1] for _, b in PAIRS], axis=1)  # [M, P, N, A]
    alive = np.stack([bench.alive(b) for _, b in PAIRS], axis=1)  # [M, P, N]
    inputs = {name: _features(one, spec) for name, one in futures.items()}
    train = alive & ~is_test
    real = inputs[TRUTH][train]
    centre, spread = real.mean(axis=0), real.std(axis=0)
    spread = np.where(spread > 1e-6, spread, np.inf)
    network = fit((real - centre) / spread, action[train], bench.truth.action_spec, seed=bench.seed)
    mean_action = action[train].mean(axis=0)
    result = {}
    for name, pairs in inputs.items():
        read = np.asarray(predict(network, (pairs - centre) / spread))
        right = score(read, action, mean_action, bench.truth.action_spec)
        rows = mean_of(right, alive & is_test, axis=(0, 1))
        result[name] = rows[:, None]
    return result


def fit(inputs: Float[np.ndarray, "P D"], action: Float[np.ndarray, "P A"], spec: ActionSpec, *, seed: int) -> dict:
    """A hidden layer, trained on all pairs at once."""
    rng = np.random.default_rng(seed)
    sizes = [(inputs.shape[1], UNITS), (UNITS, action.shape[1])]
    params = {
        f"weight{i}": jnp.asarray(rng.normal(0, size[0] ** -0.5, size), jnp.float32) for i, size in enumerate(sizes)
    } | {f"bias{i}": jnp.zeros(size[1]) for i, size in enumerate(sizes)}
    optimizer = optax.adamw(RATE, weight_decay=DECAY)
    x, y = jnp.asarray(inputs, jnp.float32), jnp.asarray(action)

    def loss(params: dict) -> Array:
        return _error(predict(params, x), y, spec)

    def update(carry: tuple, _: None) -> tuple:
        params, state = carry
        change, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, change), state), None

    def train(params: dict) -> dict:
        return jax.lax.scan(update, (params, optimizer.init(params)), None, length=UPDATES)[0][0]

    return jax.jit(train)(params)


def predict(params: dict, inputs: np.ndarray | Array) -> Array:
    """Logits of discrete actions, values of continuous ones."""
    x = jnp.asarray(inputs, jnp.float32).reshape(-1, inputs.shape[-1])
    hidden = jax.nn.tanh(x @ params["weight0"] + params["bias0"][None])
    read = hidden @ params["weight1"] + params["bias1"][None]
    return read.reshape(*inputs.shape[:-1], -1)


def score(read: np.ndarray, action: np.ndarray, mean: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Per pair: share of discrete components that are right, explained variance of continuous ones."""
    scores = []
    for begin, end, is_discrete in blocks(spec):
        guess, true = read[..., begin:end], action[..., begin:end]
        if is_discrete:
            scores.append((guess.argmax(axis=-1) == true.argmax(axis=-1)).astype(np.float64))
        else:
            spread = np.square(true - mean[begin:end]).mean()
            scores.append(1.0 - np.square(guess - true).mean(axis=-1) / max(float(spread), 1e-12))
    return np.mean(scores, axis=0)


def blocks(spec: ActionSpec) -> list[tuple[int, int, bool]]:
    """Where each component lies in a flat action: begin, end, whether it is discrete."""
    found, begin = [], 0
    for _, part in sorted(spec.items()):
        for width in [part.size] if isinstance(part, VectorSpec) else part.num_classes:
            found.append((begin, begin + width, isinstance(part, DiscreteSpec)))
            begin += width
    return found


def _error(read: Array, action: Array, spec: ActionSpec) -> Array:
    total = jnp.zeros(())
    for begin, end, is_discrete in blocks(spec):
        guess, true = read[:, begin:end], action[:, begin:end]
        if is_discrete:
            total += -jnp.mean(jnp.sum(jax.nn.log_softmax(guess) * true, axis=-1))
        else:
            total += jnp.mean(jnp.square(guess - true))
    return total


def _features(futures: Futures, spec: ObservationSpec) -> Float[np.ndarray, "M P N D"]:
    """Both observations of each pair, the second as difference from the first, images small and grey."""
    flat = {step: flatten(futures.at(step), spec) for step in sorted({step for pair in PAIRS for step in pair})}
    return np.stack([np.concatenate([flat[a], flat[b] - flat[a]], axis=-1) for a, b in PAIRS], axis=1)


def flatten(observation: dict[str, np.ndarray], spec: ObservationSpec) -> Float[np.ndarray, "M N D"]:
    """Observations as vectors, images small and grey."""
    parts = []
    for key, part in sorted(spec.items()):
        array = observation[key]
        lead = array.shape[:2]
        if isinstance(part, ImageSpec):
            grey = array.mean(axis=-1, dtype=np.float32).round().astype(np.uint8).reshape(-1, *array.shape[2:4], 1)
            small = AreaResize(grey.shape[1:3], (min(SIDE, part.height), min(SIDE, part.width)))
            array = np.stack([small(image) for image in grey]) / 255.0
        parts.append(array.reshape(*lead, -1).astype(np.float32))
    return np.concatenate(parts, axis=-1)
