"""The measurements: update, policy step, and the whole loop with a real environment, split into its parts."""

from __future__ import annotations

import contextlib
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import envs
from dreamer.data.layout import StepLayout
from dreamer.data.prefetch import ReplayStream
from dreamer.data.ratio import TrainRatio
from dreamer.data.replay import Replay
from dreamer.training.collect import Collector
from dreamer.training.learn import Learner
from dreamer.training.state import Definition
from dreamer.training.step import initial_carry, make_policy_step, make_train_step
from envs.spaces import action_width
from experiments.benchmark.workloads import random_batch

PARTS = ("env", "policy", "replay", "transfer", "update", "other")


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles and extremes, in milliseconds."""
    low, median, high = statistics.quantiles(seconds, n=4)
    values = {"median": median, "quartile_low": low, "quartile_high": high, "min": min(seconds), "max": max(seconds)}
    return {f"{name}_ms": 1000 * value for name, value in values.items()}


def measure_update(definition: Definition, *, repeats: int, seconds: float) -> dict[str, float]:
    """Compile time and times of single updates, each waiting for the one before.

    Ends after `repeats` updates, or after `seconds` if at least five have been made.
    """
    batch, state, step = random_batch(definition), definition.init(0), make_train_step(definition)
    start = time.perf_counter()
    compiled = step.lower(state, batch).compile()
    compile_seconds = time.perf_counter() - start
    for _ in range(2):
        state, _, _ = compiled(state, batch)
    jax.block_until_ready(state)
    times: list[float] = []
    while len(times) < repeats and (len(times) < 5 or sum(times) < seconds):
        start = time.perf_counter()
        state, _, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    if not np.isfinite(float(metrics["loss/total"])):
        raise FloatingPointError("the loss of the measured update is not finite")
    memory = compiled.memory_analysis()
    return {
        **spread(times),
        "updates": len(times),
        "compile_seconds": compile_seconds,
        "replayed_steps_per_second": batch.reward.size / statistics.median(times),
        "program_memory_gb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9 if memory else 0.0,
    }


def measure_policy(definition: Definition, *, num_envs: int, repeats: int) -> dict[str, float]:
    """Latency of a policy step from host observations to host actions, and the part of it before the device answers."""
    step, params, key = make_policy_step(definition), definition.init(0).params, jax.random.key(0)
    batch = jax.device_get(random_batch(definition))
    rows = np.arange(num_envs) % batch.reward.shape[0]
    observation = {name: np.ascontiguousarray(array[rows, 0]) for name, array in batch.observation.items()}
    is_first, carry = np.zeros(num_envs, bool), initial_carry(definition, num_envs)
    times, dispatch = [], []
    for count in range(repeats + 20):
        start = time.perf_counter()
        carry, action, latent = step(params, carry, observation, is_first, key, np.uint32(count))
        dispatch.append(time.perf_counter() - start)
        jax.device_get((action, latent))
        times.append(time.perf_counter() - start)
    cuts = statistics.quantiles(times[20:], n=100)
    return {
        "p50_ms": 1000 * cuts[49],
        "p95_ms": 1000 * cuts[94],
        "p99_ms": 1000 * cuts[98],
        "dispatch_p50_ms": 1000 * statistics.median(dispatch[20:]),
    }


def measure_loop(definition: Definition, *, updates: int) -> dict[str, float]:
    """Agent steps per second with the real environment at the preset's train ratio, and the share of each part.

    Twice: as a run does it, without waiting; and with a wait after every part, which tells the parts apart.
    """
    with _loop(definition, split=False) as (advance, _):
        advance(2)
        start, before = time.perf_counter(), advance(0)
        steps = advance(updates) - before
        seconds = time.perf_counter() - start
    with _loop(definition, split=True) as (advance, parts):
        advance(2)
        parts.clear()
        start = time.perf_counter()
        advance(updates)
        parts["other"] = time.perf_counter() - start - sum(parts.values())
    total = sum(parts.values())
    shares = {
        f"share_{name}": parts[name] / total for name in ("env", "policy", "replay", "transfer", "update", "other")
    }
    return {"agent_steps_per_second": steps / seconds, **shares}


@contextlib.contextmanager
def _loop(definition: Definition, *, split: bool) -> Iterator[tuple[Callable[[int], int], dict[str, float]]]:
    """A trainer's loop without its run folder: `advance(updates)` returns the agent steps made so far."""
    config, parts = definition.config, defaultdict(float)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = jax.block_until_ready(call(*arguments, **named))
            parts[name] += time.perf_counter() - start
            return result

        return wrapper if split else call

    env = envs.make(config.env, seed=0, settings=config.environment)
    rssm, width = config.world.rssm, action_width(definition.action_spec)
    layout = StepLayout(definition.observation_spec, action=width, deter=rssm.deter, stoch=rssm.stoch)
    replay = Replay(layout, num_envs=env.num_envs, config=config.replay, seed=0, directory=None)
    replay.gather = timed("replay", replay.gather)
    replay.write_back = timed("replay", replay.write_back)
    replay.add = timed("replay", replay.add)
    stream = ReplayStream(replay, to_device=timed("transfer", jax.device_put))
    policy = timed("policy", make_policy_step(definition))
    collector = Collector(env, definition=definition, policy_step=policy, seed=0)
    learner = Learner(definition.init(0), train_step=timed("update", make_train_step(definition)), stream=stream)
    ratio = TrainRatio(config.train_ratio, batch_steps=config.replay.batch_size * config.replay.batch_length)
    step = env.step
    env.step = timed("env", step)
    agent_steps = 0

    def advance(updates: int) -> int:
        nonlocal agent_steps
        last = learner.updates + updates
        while learner.updates < last:
            collector.step(learner.state.params, stream)
            agent_steps += env.num_envs
            if stream.ready:
                for _ in range(ratio.updates_due(agent_steps)):
                    learner.update()
        jax.block_until_ready(learner.state)
        return agent_steps

    try:
        yield advance, parts
    finally:
        stream.close()
        env.close()


def peak_memory() -> dict[str, float]:
    """Peak of this process and of the device, in GB."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {"peak_host_gb": host / 1e9, "peak_device_gb": device / 1e9}
