"""`python -m dreamer.train --env atari_pong`: the composition root, where environment, networks and loop meet.

The module itself imports no JAX: a typo on the command line is answered at once, and spawned workers load it too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamer.changes import ADJUSTABLE, ConfigChangedError, config_changes, interface_changes, keep
from dreamer.cli import parse, reject
from dreamer.config import FACTORY, Config
from dreamer.cores import cores_as_devices, over_cores
from dreamer.huge_pages import restart_with_huge_pages
from dreamer.launch import entered
from dreamer.memory import memory_is_short
from dreamer.plan import DatasetFacts, startup_plan
from dreamer.presets import ConfigError
from dreamer.provenance import note_start
from dreamer.validation import budget_problems, steps_to_agent_steps
from envs.cores import usable_cores

if TYPE_CHECKING:
    from dreamer.remote.cluster import Cluster
    from dreamer.training.hosts import Hosts
    from dreamer.training.run_folder import RunFolder
    from dreamer.training.scheduled_report import Measure
    from dreamer.training.state import Definition
    from dreamer.training.trainer import Trainer
    from envs.environment import Described

PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
FAULT = 1  # exit code
FRESH = "; the collectors begin with fresh episodes"
STOPPING = "stopping: saves when the running update is done; a second Ctrl-C ends at once and saves nothing"


def main(argv: list[str] | None = None, *, own_process: bool = False) -> int:
    """Trains, or continues, the run that the command line describes; returns the exit code (`training.signals`).

    In a process of its own it may start itself anew with settings that have to be there before Python is.
    """
    config = parse(argv)
    if own_process:
        restart_with_huge_pages()
    select_device(config)
    if own_process:
        cores_as_devices(config, cores=usable_cores())
    from dreamer.exchange.minari_store import DatasetError
    from dreamer.remote.cluster import ClusterError
    from dreamer.training.checkpoint import CheckpointError
    from dreamer.training.collect import NonFiniteActionError
    from dreamer.training.device_memory import DeviceMemoryError
    from dreamer.training.hosts import HostsError
    from dreamer.training.learn import NonFiniteError
    from dreamer.training.line import HostLostError
    from dreamer.training.mesh import MeshError
    from dreamer.training.run_folder import RunFolderError
    from dreamer.training.run_lock import RunLockedError
    from dreamer.training.wandb_log import WandbMissingError
    from envs.environment import EnvironmentFault

    try:
        with entered(config) as (config, hosts, folder):
            return train(config, folder=folder, env=config.env, hosts=hosts)
    except (
        CheckpointError,
        ClusterError,
        ConfigChangedError,
        DatasetError,
        DeviceError,
        DeviceMemoryError,
        EnvironmentFault,
        HostLostError,
        HostsError,
        MeshError,
        NonFiniteActionError,
        NonFiniteError,
        RunFolderError,
        RunLockedError,
        WandbMissingError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAULT
    except ConfigError as error:
        reject(error.problems)


def train(config: Config, *, folder: RunFolder, env: str | Callable[[], Any], hosts: Hosts) -> int:
    """Makes every part, shows the plan, and trains until the budget is spent or a signal comes, to any host.

    A new folder is taken back if anything fails before training has begun.
    """
    from dreamer.training.device_memory import exhaustion_explained
    from dreamer.training.progress import Progress
    from dreamer.training.run_folder import RunFolderError
    from dreamer.training.signals import catch_stop_signals

    with catch_stop_signals() as stop, exhaustion_explained(), contextlib.ExitStack() as parts:
        try:
            trainer, told = begin(config, folder=folder, env=env, hosts=hosts, parts=parts)
        except BaseException as error:
            folder.discard_new()
            if isinstance(error, OSError):
                raise RunFolderError(f"{folder.path} cannot be used: {error}.") from error
            raise
        with Progress(trainer.total_steps, start=trainer.counters, quiet=config.log.quiet) as progress:
            stop.announce = lambda: progress.print(STOPPING)
            for line in told:
                progress.print(line)
            trainer.run(stop=lambda: stop.requested, progress=progress)
        exit_code = next(filter(None, hosts.exchange(stop.exit_code, at="exit code")), 0)
        say(config, f"saved in {folder.path}; the same command continues" if exit_code else summary(trainer))
    return exit_code


def begin(
    config: Config, *, folder: RunFolder, env: str | Callable[[], Any], hosts: Hosts, parts: contextlib.ExitStack
) -> tuple[Trainer, list[str]]:
    """A trainer that is ready to run, resumed if there is something to resume; and what there is to say about it.

    Args:
        config: the resolved one.
        folder: of the run; gets configuration and spaces once they are known to fit.
        env: a name, or a function that makes the environment.
        hosts: that train the run.
        parts: closes the environment.
    """
    changes = config_changes(config, folder)
    environment_stays = not any(name.startswith("env") and not name.startswith(ADJUSTABLE) for name in changes)
    trainer, environment = compose(config, folder=folder, env=env, hosts=hosts, parts=parts)
    changes |= interface_changes(environment, config, folder)
    told = [f"changed: {name}: {change}" for name, change in changes.items()]
    resumed = trainer.resume(keep_environment=environment_stays)
    if resumed:
        told.append(resumed + (FRESH if config.ray.collectors else ""))
    elif config.init_from:
        told.append(trainer.inherit(config.init_from))
    if not hosts.is_first:
        return trainer, []
    keep(config, environment, folder)
    note_start(folder.path, agent_steps=trainer.counters.agent_steps, device=device_name(config))
    return trainer, told


def compose(
    config: Config, *, folder: RunFolder, env: str | Callable[[], Any], hosts: Hosts, parts: contextlib.ExitStack
) -> tuple[Trainer, Described]:
    """Environment, networks, replay and loop of a run; prints the start-up plan on the way.

    Raises:
        ConfigError: the environment, once it is made, leaves no room for an update in replay or budget.
    """
    import envs
    from dreamer.training.compilation import cache_compilations
    from dreamer.training.device_memory import device_limit
    from dreamer.training.offline import OfflineTrainer
    from dreamer.training.state import Definition
    from dreamer.training.trainer import Schedule, Trainer
    from dreamer.training.wandb_log import require_wandb

    if config.log.wandb:
        require_wandb()
    if isinstance(env, str) and env.startswith(FACTORY):
        raise envs.EnvironmentFault(
            f"{env} stands for a Python function; go on in Python: dreamer.Dreamer(env=..., logdir=...).learn()"
        )
    cluster = join_cluster(config, parts=parts)  # before JAX: Ray forks
    config = over_cores(config)
    device = device_name(config)  # before the rest: without one nothing below makes sense
    warn_of_idle_gpu(config)
    cache_compilations()
    made = make_environments(config, env=env, cluster=cluster, hosts=hosts, parts=parts)
    environment = made.described
    problems = budget_problems(
        config, num_envs=environment.num_envs, action_repeat=environment.action_repeat, hosts=hosts.count
    )
    if problems:
        raise ConfigError(problems)
    definition = Definition(config, environment.observation_spec, environment.action_spec)
    measure = scheduled_measure(definition, environment, env=env, path=folder.path) if hosts.is_first else None
    counts = definition.parameter_counts()
    counts.pop("total")
    plan = startup_plan(
        config,
        observation_spec=environment.observation_spec,
        action_spec=environment.action_spec,
        protocol=environment.protocol,
        device=device,
        parameter_counts=counts,
        action_repeat=environment.action_repeat,
        logdir=folder.path,
        device_limit=device_limit(),
        dataset=made.dataset,
        color=sys.stdout.isatty(),
    )
    say(config, plan)
    schedule = Schedule(
        total_steps=steps_to_agent_steps(config.steps, environment.action_repeat),
        action_repeat=environment.action_repeat,
    )
    kind = OfflineTrainer if config.offline else Trainer
    trainer = kind(
        config,
        collector=made.collector(definition),
        definition=definition,
        folder=folder,
        schedule=schedule,
        memory_is_short=memory_is_short,
        hosts=hosts,
        measure=measure,
    )
    return trainer, environment


def scheduled_measure(
    definition: Definition, environment: Described, *, env: str | Callable[[], Any], path: Path
) -> Measure | None:
    """What reports on the world model while it is trained; None where nobody asked for it.

    Raises:
        ConfigError: `--log.report-only` or `--log.report-starts` asks for what there is not.
    """
    config = definition.config
    if not config.log.report_every:
        return None
    from dreamer.dream.report.during_training import DuringTraining
    from dreamer.dream.simulation import SimulationError
    from envs.space_json import Interface

    try:
        return DuringTraining(
            definition,
            interface=Interface.of(environment, settings=config.environment),
            env=env,
            path=path,
            only=config.log.report_only.split(","),
            num_starts=config.log.report_starts,
        )
    except SimulationError as error:
        raise ConfigError([f"--log.report-only and --log.report-starts: {error}"]) from error


def join_cluster(config: Config, *, parts: contextlib.ExitStack) -> Cluster | None:
    """The Ray cluster of the collectors, where there are any; Ray is not imported otherwise."""
    if not config.ray.collectors:
        return None
    from dreamer.remote.cluster import Cluster

    cluster = Cluster(config.ray)
    parts.callback(cluster.close)
    return cluster


class Experience(NamedTuple):
    """Where a run's experience comes from.

    Attributes:
        described: the environments.
        collector: makes what brings their steps.
        dataset: that they come from, where nobody acts.
    """

    described: Described
    collector: Callable[[Definition], Any]
    dataset: DatasetFacts | None = None


def make_environments(
    config: Config,
    *,
    env: str | Callable[[], Any],
    cluster: Cluster | None,
    hosts: Hosts,
    parts: contextlib.ExitStack,
) -> Experience:
    """The environments, in this process or in those of a cluster, and what makes the collector that steps them."""
    if config.offline:
        return open_dataset(config, env=env, parts=parts)
    if cluster is None:
        import envs
        from dreamer.training.collect import Collector
        from dreamer.training.step import make_policy_step

        seed = hosts.seed(config.seed)
        environment = envs.make(env, seed=seed, settings=config.environment)
        parts.callback(environment.close)
        return Experience(
            environment,
            lambda definition: Collector(
                environment, definition=definition, policy_step=make_policy_step(definition), seed=seed
            ),
        )
    from dreamer.remote.collector import RemoteCollector
    from dreamer.remote.fleet import Fleet

    fleet = Fleet(cluster, config, env)
    parts.callback(fleet.close)
    return Experience(
        fleet.description,
        lambda definition: RemoteCollector(fleet, definition=definition, round_steps=config.ray.round),
    )


def open_dataset(config: Config, *, env: str | Callable[[], Any], parts: contextlib.ExitStack) -> Experience:
    """A dataset, and one environment, which is never stepped: it says what the agent will meet."""
    import envs
    from dreamer.exchange.offline import DatasetSource

    settings = dataclasses.replace(config.environment, num_envs=1, workers="none")
    environment = envs.make(env, num_envs=1, seed=config.seed, settings=settings)
    parts.callback(environment.close)
    source = DatasetSource(config, environment)
    return Experience(environment, source.collector, source.facts)


def select_device(config: Config) -> None:
    """Tells JAX, before it is imported, which platform to use; `auto` leaves the choice to it."""
    if config.device != "auto":
        os.environ["JAX_PLATFORMS"] = PLATFORMS[config.device]


class DeviceError(RuntimeError):
    """The wanted kind of device is not there."""


def device_name(config: Config) -> str:
    """The device in words, with the precision of the computation.

    Raises:
        DeviceError: JAX finds no device of the wanted kind.
    """
    import jax

    from dreamer.training.state import compute_dtype

    try:
        device = jax.devices()[0]
    except (AssertionError, RuntimeError) as error:  # JAX asserts where no plugin of that kind is installed
        wanted = os.environ.get("JAX_PLATFORMS") if config.device == "auto" else config.device
        raise DeviceError(
            f"JAX finds no {wanted or 'device'}: install the extra for it (pip install -e '.[cuda]', '.[cuda12]' or "
            "'.[tpu]') and its driver, or use --device cpu (and unset JAX_PLATFORMS)."
        ) from error
    cores = f" ({usable_cores()} cores)" if device.platform == "cpu" else ""
    mesh = f"{jax.device_count()} x " if config.mesh else ""
    arranged = f", mesh {config.mesh}" if config.mesh else ""
    hosts = f" on {config.hosts.count} hosts" if config.hosts.count > 1 else ""
    return f"{mesh}{device.device_kind}{cores}{hosts}, {compute_dtype(config).name}{arranged}"


def warn_of_idle_gpu(config: Config) -> None:
    """Says loudly, also when quiet, that nobody chose the CPU on which a machine with a GPU is about to train."""
    import jax

    from dreamer.doctor.devices import warning_of_idle_gpu

    if config.device == "auto" and jax.default_backend() == "cpu" and (warning := warning_of_idle_gpu()):
        print(f"WARNING: {warning}", file=sys.stderr, flush=True)


def say(config: Config, text: str) -> None:
    """Prints for a person, unless `--log.quiet`."""
    if not config.log.quiet:
        print(text, flush=True)


def summary(trainer: Trainer) -> str:
    """The last line of a finished run."""
    counters, score = trainer.counters, trainer.last_score
    if trainer.counters.agent_steps == 0:
        return f"done: {counters.updates:,} updates from a dataset; dreamer.evaluate says what they are worth"
    last = "no episode ended" if score is None else f"last score {score:,.1f}"
    return (
        f"done: {counters.agent_steps:,} agent steps, {counters.env_frames:,} env frames, "
        f"{counters.updates:,} updates, {last}"
    )


if __name__ == "__main__":
    sys.exit(main(own_process=True))
