"""The rounds of several workers on their way into replay, and who takes the place of one that fails.

The workers live in this process and count; tests/remote/test_ray.py has real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamer.config import Config, EnvConfig, RayConfig
from dreamer.remote import fleet as fleet_module
from dreamer.remote.collector import RemoteCollector
from dreamer.remote.fleet import Fleet
from dreamer.remote.worker import Description, Round, Row
from dreamer.training.collect import Collector, Episode, NonFiniteActionError
from dreamer.types import CompactLatent
from envs.environment import EnvironmentFault, SimulatorCrash
from envs.spaces import DiscreteSpec, Timestep, VectorSpec
from tests.model.tiny import tiny_definition

ROUND = 3
SPACE = spaces.Box(-1, 1, (3,), np.float32)


class CountingWorker:
    """Two environments whose observations are the worker's seed, the parameters, and the number of the call."""

    def __init__(self, config: Config, env: Any, *, seed: int, num_envs: int) -> None:
        assert num_envs == 2
        self.seed, self.calls = seed, 0

    def describe(self) -> Description:
        return Description(
            2, SPACE, SPACE, {"state": VectorSpec(3)}, {"a": DiscreteSpec((7,))}, 1, {"env": "x"}, "here"
        )

    def act(self, params: Any, *, first: int, steps: int) -> Round:
        return Round([self.row(params, first + step) for step in range(steps)], {"restarts": self.calls})

    def row(self, params: Any, number: int) -> Row:
        self.calls += 1
        state = np.tile(np.array([self.seed, params, self.calls], np.float32), (2, 1))
        flag = np.full(2, self.calls == 1)
        timestep = Timestep({"state": state}, np.ones(2, np.float32), flag, ~flag, ~flag)
        latent = CompactLatent(np.full((2, 32), number), np.zeros((2, 4), np.uint8))
        episodes = [Episode(float(number), self.seed)]
        return Row(timestep, np.zeros((2, 7), np.float32), latent, episodes, Episode(0.0, self.calls))


class InThisProcess:
    """Runs calls when their results are asked for. `faults[n]` is done at the n-th round asked for, or raised."""

    def __init__(self) -> None:
        self.workers: list[CountingWorker] = []
        self.killed: list[CountingWorker] = []
        self.slow: set[int] = set()  # rounds that are not there for ever
        self.faults: dict[int, Exception] = {}
        self.ordered: list[tuple[Any, str, Any]] = []
        self.waits: list[float] = []

    def start(self, kind: type, *arguments: Any, **named: Any) -> CountingWorker:
        self.workers.append(CountingWorker(*arguments, **named))
        return self.workers[-1]

    def put(self, value: Any) -> Any:
        return value

    def call(self, handle: CountingWorker, method: str, *arguments: Any, **named: Any) -> Callable[[], Any]:
        number = sum(name == "act" for _, name, _ in self.ordered)
        self.ordered.append((handle, method, named))

        def promise() -> Any:
            if method == "act" and number in self.faults:
                raise self.faults[number]
            return getattr(handle, method)(*arguments, **named)

        promise.is_slow = method == "act" and number in self.slow
        return promise

    def wait(self, promises: list[Any], *, seconds: float) -> list[Any]:
        self.waits.append(seconds)
        return [promise for promise in promises if not promise.is_slow]

    def get(self, promise: Callable[[], Any]) -> Any:
        return promise()

    def kill(self, handle: CountingWorker) -> None:
        self.killed.append(handle)


class Sink:
    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.latents: list[float] = []
        self.first: list[list[bool]] = []

    def add(self, timestep: Timestep, *, action: np.ndarray, latent: CompactLatent) -> None:
        assert action.shape == (4, 7)
        self.rows.append(timestep.observation["state"])
        self.first.append(timestep.is_first.tolist())
        self.latents.append(latent.deter[0, 0])


@pytest.fixture
def processes() -> InThisProcess:
    return InThisProcess()


def make(processes: InThisProcess, *, max_restarts: int = 3, timeout: float = 300.0) -> RemoteCollector:
    config = Config(
        env="x",
        environment=EnvConfig(num_envs=4, max_restarts=max_restarts),
        ray=RayConfig(collectors=2, round=ROUND, timeout=timeout),
    )
    return RemoteCollector(Fleet(processes, config, "x"), definition=tiny_definition(), round_steps=ROUND)


def wait_for_ever() -> bool:
    return True


def test_steps_enter_in_lock_step_with_parameters_of_at_most_two_rounds(processes: InThisProcess):
    """The n-th step is made with parameters n, that of the first as well."""
    collector, sink = make(processes), Sink()
    episodes = [collector.step(np.float32(n), sink, meanwhile=wait_for_ever) for n in range(4 * ROUND)]
    seeds, params, calls = np.array(sink.rows).transpose(2, 0, 1)
    assert (seeds == [np.float32(worker.seed) for worker in processes.workers for _ in range(2)]).all()
    assert len({worker.seed for worker in processes.workers}) == 2
    assert calls.tolist() == [[n] * 4 for n in range(1, 4 * ROUND + 1)]
    assert params[:, 0].tolist() == [0] * ROUND + [0] * ROUND + [ROUND] * ROUND + [2 * ROUND] * ROUND
    assert sink.latents == list(range(4 * ROUND))
    assert episodes[5] == [Episode(5.0, worker.seed) for worker in processes.workers]
    assert collector.open_episode.length == 4 * ROUND
    assert collector.num_envs == 4
    assert collector.carry.action.shape == (4, 7)


def test_a_worker_that_is_lost_is_replaced_and_its_round_made_again(processes: InThisProcess, capfd):
    processes.faults[3] = SimulatorCrash("is lost: its worker process has died")  # the second worker's second round
    collector, sink = make(processes), Sink()
    for _ in range(3 * ROUND):
        collector.step(np.float32(0), sink, meanwhile=wait_for_ever)
    calls = np.array(sink.rows)[:, :, 2]
    assert calls[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert calls[:, 2].tolist() == [1, 2, 3, 1, 2, 3, 4, 5, 6]
    assert [step[2] for step in sink.first] == [True, False, False, True] + 5 * [False]
    assert sink.latents == list(range(3 * ROUND))
    first, second, third = processes.workers
    assert processes.killed == [second]
    assert len({first.seed, second.seed, third.seed}) == 3
    assert collector.incidents == {"restarts": 12 + 3 + 9, "collector_restarts": 1}  # in hand, past, in hand
    told = capfd.readouterr().err
    assert f"x: collector 1 on here (seed {second.seed}) is lost: its worker process has died" in told
    assert f"in the round of steps 3 to 5; started anew with seed {third.seed}" in told


def test_a_worker_that_hangs_is_replaced(processes: InThisProcess, capfd, monkeypatch):
    monkeypatch.setattr(fleet_module, "START_SECONDS", 0.05)
    processes.slow.add(1)
    make(processes, timeout=0.05).step(np.float32(0), Sink(), meanwhile=wait_for_ever)
    assert len(processes.workers) == 3
    assert "gave no round within 0.05 s (--ray.timeout), in the round of steps 0 to 2" in capfd.readouterr().err


def test_workers_that_fail_too_often_end_the_run(processes: InThisProcess):
    processes.faults |= {number: RuntimeError("no licence") for number in range(2, 100)}
    collector, sink = make(processes, max_restarts=2), Sink()
    with pytest.raises(EnvironmentFault, match=r"RuntimeError: no licence, .*that was failure 3 within 10 minutes"):
        [collector.step(np.float32(0), sink, meanwhile=wait_for_ever) for _ in range(ROUND + 1)]
    assert len(sink.rows) == ROUND


@pytest.mark.parametrize("error", [EnvironmentFault("a broken contract"), NonFiniteActionError("not finite")])
def test_what_no_other_worker_would_do_better_ends_the_run(error: Exception, processes: InThisProcess):
    processes.faults[1] = error
    with pytest.raises(type(error), match=str(error)):
        make(processes).step(np.float32(0), Sink(), meanwhile=wait_for_ever)
    assert len(processes.workers) == 2


def test_the_learner_gets_the_time_that_workers_need(processes: InThisProcess):
    processes.slow.add(2)
    collector, sink, calls = make(processes), Sink(), []
    for _ in range(ROUND):
        collector.step(np.float32(0), sink, meanwhile=lambda: calls.append("work") or len(calls) < 3)
    assert len(sink.rows) == ROUND  # the step was made, though the round after it was not waited for
    assert calls == 3 * ["work"]
    assert processes.waits[-3:] == [fleet_module.PATIENCE, *2 * [fleet_module.GLANCE]]


def test_environments_that_differ_are_refused(processes: InThisProcess, monkeypatch):
    describe = CountingWorker.describe
    monkeypatch.setattr(
        CountingWorker,
        "describe",
        lambda self: (
            describe(self)
            if self is processes.workers[0]
            else Description(2, SPACE, SPACE, {"state": VectorSpec(5)}, {"a": DiscreteSpec((7,))}, 1, {"env": "x"}, "b")
        ),
    )
    with pytest.raises(EnvironmentFault, match=r"'state' is VectorSpec\(size=5\) instead of VectorSpec\(size=3\)"):
        make(processes)
    assert processes.killed == processes.workers


def test_a_run_goes_on_with_collectors_and_without(processes: InThisProcess):
    """What one kind saves the other reads: the number of the step. The episodes begin anew."""
    remote, sink = make(processes), Sink()
    for _ in range(2):
        remote.step(np.float32(0), sink, meanwhile=wait_for_ever)

    class Idle:
        num_envs, can_fork, incidents = 4, False, {}

    alone = Collector(Idle(), definition=tiny_definition(), policy_step=lambda: None, seed=0)
    alone.restore(remote.state(), remote.carry)
    assert alone.num_steps == 2
    alone.num_steps = 7
    again = make(processes)
    again.restore(alone.state(), alone.carry)
    again.step(np.float32(0), sink, meanwhile=wait_for_ever)
    assert sink.latents == [0, 1, 7]
