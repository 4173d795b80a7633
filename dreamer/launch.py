"""From a configuration to a host of a run that has joined the others and entered the run's folder.

The module itself imports no JAX, which may start only after the hosts have found each other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer.config import Config
from dreamer.presets import ConfigError, flatten
from dreamer.validation import sharing_problems

if TYPE_CHECKING:
    from dreamer.training.hosts import Hosts
    from dreamer.training.run_folder import RunFolder


@contextmanager
def entered(config: Config) -> Iterator[tuple[Config, Hosts, RunFolder]]:
    """Joins the other hosts, if there are any, and enters the folder; leaves both at the end.

    Yields:
        The configuration of this host, the hosts, and the folder.

    Raises:
        ConfigError: the hosts were started with different settings, or cannot divide a batch among them.
        HostsError: they do not find each other.
        HostLostError: one of them has ended.
        RunFolderError: the folder cannot serve this run.
        RunLockedError: another run uses it.
    """
    from dreamer.training.hosts import join

    with join(config.hosts) as hosts:
        config = config if hosts.alone else _of_this_host(config, hosts)
        with _enter_folder(config, hosts) as folder:
            yield config, hosts, folder


def run_directory(config: Config) -> Path:
    """Where the run lives: `--logdir`, or `runs/<env>-<size>-<seed>`."""
    name = re.sub(r"[^\w.-]+", "_", config.env)
    return Path(config.logdir or f"runs/{name}-{config.size}-{config.seed}")


@contextmanager
def _enter_folder(config: Config, hosts: Hosts) -> Iterator[RunFolder]:
    """Host 0 makes and locks it, and the others then find it."""
    from dreamer.training.run_folder import RunFolder, SharedRunFolder

    path = run_directory(config)
    if hosts.is_first:
        with RunFolder(path) as folder:
            hosts.exchange(folder.run_id, at="folder")
            yield folder
    else:
        run_id = hosts.exchange(None, at="folder")[0]
        yield SharedRunFolder(path, run_id=run_id, host=hosts.index)


def _of_this_host(config: Config, hosts: Hosts) -> Config:
    """With what JAX has found out; only host 0 is to print and to log."""
    import jax

    told = hosts.exchange(_settings(config), at="settings")
    joined = dataclasses.replace(config.hosts, count=hosts.count, index=hosts.index)
    config = dataclasses.replace(config, hosts=joined, mesh=config.mesh or f"data={jax.device_count()}")
    problems = _differences(told) + sharing_problems(config)
    if problems:
        hosts.close()  # all find the same, and end in order
        raise ConfigError(problems)
    if hosts.is_first:
        return config
    return dataclasses.replace(config, log=dataclasses.replace(config.log, quiet=True, wandb=False, video_every=0))


def _settings(config: Config) -> dict[str, Any]:
    """What all hosts must have alike, as JSON."""
    flat = flatten(dataclasses.replace(config, hosts=dataclasses.replace(config.hosts, index=0)))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}


def _differences(told: list[dict[str, Any]]) -> list[str]:
    return [
        f"host {index} was started with --{name.replace('_', '-')} {other[name]}, host 0 with {first}: start all hosts "
        "with the same command, but for --hosts.index"
        for index, other in enumerate(told)
        for name, first in told[0].items()
        if other[name] != first
    ]
