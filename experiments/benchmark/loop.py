"""The trainer's loop without its run folder, with a real environment: end to end, in parts, and acting alone."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax

import envs
from dreamer.data.prefetch import ReplayStream
from dreamer.data.ratio import TrainRatio
from dreamer.data.replay import Positions, Replay
from dreamer.training.collect import Collector
from dreamer.training.learn import Learner
from dreamer.training.state import Definition
from dreamer.training.step import make_policy_step, make_train_step
from experiments.benchmark.workloads import placement

PARTS = ("env", "policy", "replay", "transfer", "update", "other")


class Stopwatch:
    """Adds up the seconds of calls by name.

    Args:
        wait: a call ends when the device has computed what it returned; False: when it returns.
    """

    def __init__(self, *, wait: bool) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._wait = wait

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function under the watch."""

        def wrapper(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments, **named)
            if self._wait:
                jax.block_until_ready(result)
            self.seconds[name] += time.perf_counter() - start
            return result

        return wrapper


class InTurn:
    """What `ReplayStream` does, one thing after the other: nothing is fetched ahead, so that parts add up."""

    def __init__(self, replay: Replay, *, to_device: Callable[..., Any]) -> None:
        self._replay, self._to_device = replay, to_device
        self.add, self.write_back, self.close = replay.add, replay.write_back, replay.close

    @property
    def ready(self) -> bool:
        """Whether training may begin."""
        return self._replay.ready

    def take(self) -> tuple[Any, Positions]:
        """The next batch."""
        batch, positions = self._replay.sample()
        return self._to_device(batch), positions


class Loop:
    """Acts and learns at the configured train ratio.

    Args:
        definition: networks and configuration.
        watch: times every part, which then runs alone; None: as a run does it.
    """

    def __init__(self, definition: Definition, *, watch: Stopwatch | None = None) -> None:
        self._placement = placement(definition)
        config, to_device = definition.config, self._placement.put_batch
        policy_step, train_step = make_policy_step(definition), make_train_step(definition, self._placement)
        env = envs.make(config.env, seed=0, settings=config.environment)
        replay = Replay(definition.layout, num_envs=env.num_envs, config=config.replay, seed=0, directory=None)
        if watch is not None:
            env.step = watch.timed("env", env.step)
            env.wait = watch.timed("env", env.wait)
            for name in ("add", "sample", "write_back"):
                setattr(replay, name, watch.timed("replay", getattr(replay, name)))
            to_device = watch.timed("transfer", to_device)
            policy_step, train_step = watch.timed("policy", policy_step), watch.timed("update", train_step)
        self._env = env
        self._stream: Any = (ReplayStream if watch is None else InTurn)(replay, to_device=to_device)
        self._collector = Collector(env, definition=definition, policy_step=policy_step, seed=0)
        self._learner = Learner(
            definition.init(0, self._placement.state(definition.abstract())),
            train_step=train_step,
            stream=self._stream,
            max_skipped=config.optimizer.max_skipped,
        )
        self._ratio = TrainRatio(config.train_ratio, batch_steps=config.replay.batch_size * config.replay.batch_length)
        self._acting = self._placement.on_one_device(self._learner.state.params)
        self.agent_steps = 0

    def act(self) -> None:
        """One step of every environment."""
        self._collector.step(self._acting, self._stream, meanwhile=lambda: True)
        self.agent_steps += self._env.num_envs

    def advance(self, updates: int) -> None:
        """Acts and learns until so many more updates have been made."""
        last = self._learner.updates + updates
        while self._learner.updates < last:
            self.act()
            if self._stream.ready:
                for _ in range(self._ratio.updates_due(self.agent_steps)):
                    self._learner.update()
                    self._acting = self._placement.on_one_device(self._learner.state.params)
        jax.block_until_ready(self._learner.state)

    def close(self) -> None:
        """Ends threads, workers and simulators."""
        self._stream.close()
        self._env.close()


def measure_loop(definition: Definition, *, updates: int) -> dict[str, float]:
    """Agent steps per second with the real environment at the preset's train ratio, and the share of each part.

    Twice: as a run does it, without waiting; and one part after the other, which tells them apart.
    """
    with contextlib.closing(Loop(definition)) as loop:
        loop.advance(2)
        start, before = time.perf_counter(), loop.agent_steps
        loop.advance(updates)
        rate = (loop.agent_steps - before) / (time.perf_counter() - start)
    watch = Stopwatch(wait=True)
    with contextlib.closing(Loop(definition, watch=watch)) as loop:
        loop.advance(2)
        watch.seconds.clear()
        start = time.perf_counter()
        loop.advance(updates)
        total = time.perf_counter() - start
    parts = watch.seconds
    parts["other"] = total - sum(parts.values())
    return {"agent_steps_per_second": rate, **{f"share_{name}": parts[name] / total for name in PARTS}}


def measure_acting(definition: Definition, *, steps: int) -> float:
    """Microseconds per agent step of acting alone: policy, environments and storing, without updates.

    Args:
        definition: with the number of environments that is wanted.
        steps: of the vector of environments.
    """
    with contextlib.closing(Loop(definition)) as loop:
        for _ in range(steps // 10 + 1):
            loop.act()
        start, before = time.perf_counter(), loop.agent_steps
        for _ in range(steps):
            loop.act()
        return 1e6 * (time.perf_counter() - start) / (loop.agent_steps - before)
