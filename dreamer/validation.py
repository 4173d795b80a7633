"""What the types cannot say: ranges, divisibility, and budgets that never reach an update. No JAX here."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from dreamer.config import Config, host_and_port, least_capacity, mesh_sizes, prefill_steps
from dreamer.presets import ConfigError, did_you_mean, flatten, merge_layers

_STEPS = re.compile(r"(?P<count>\d[\d_]*(\.\d+)?(e\d{1,2})?)(?P<scale>[km]?)(_(?P<unit>[a-z]+))?", re.IGNORECASE)
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000}
_UNITS = ("frames", "agent")

_AT_LEAST_ZERO = (
    "seed",
    "world.free_nats",
    "world.scales.",
    "behavior.actor.entropy",
    "behavior.critic.slow_regularizer",
    "behavior.critic.replay_scale",
    "optimizer.warmup",
    "replay.save_latents_limit",
    "environment.noops",
    "environment.camera",
    "environment.max_restarts",
    "hosts.",
    "ray.collectors",
    "log.every_seconds",
    "log.video_every",
    "log.report_every",
    "checkpoint.every_seconds",
)
_BELOW_ONE = ("world.rssm.unimix", "behavior.actor.unimix", "optimizer.beta1", "optimizer.beta2")
_UP_TO_ONE = (
    "replay.max_lost",
    "behavior.lam",
    "behavior.critic.slow_rate",
    "behavior.return_norm.rate",
    "environment.sticky",
)
_PERCENTILES = ("behavior.return_norm.low", "behavior.return_norm.high")
MOST_CLASSES = 256  # replay stores a class index in one byte


def steps_to_agent_steps(steps: str, action_repeat: int) -> int:
    """The budget in agent steps: `400k_frames` at action repeat 4 and `100k_agent` both give 100,000.

    Args:
        steps: a number (`30000`, `1e6`, `100k`, `1.5m`), with `_frames` or `_agent` behind it; without: agent steps.
        action_repeat: environment frames per agent step.

    Raises:
        ValueError: where `steps` is not of this form, or is below one agent step.
    """
    found = _STEPS.fullmatch(steps.strip())
    unit = (found["unit"] or "agent").lower() if found else ""
    if found is None or unit not in _UNITS:
        near = did_you_mean(unit, list(_UNITS))
        hint = f"; did you mean _{near}?" if near else ""
        raise ValueError(f"expected a number such as 30000, 1e6, 400k_frames or 100k_agent, not {steps!r}{hint}")
    count = float(found["count"].replace("_", "")) * _SCALES[found["scale"].lower()]
    agent_steps = round(count) if unit == "agent" else math.ceil(count / action_repeat)
    if agent_steps < 1:
        raise ValueError(f"expected at least one step, not {steps!r}")
    return agent_steps


def resolve(overrides: Mapping[str, Any]) -> Config:
    """Build and check the configuration of a run, as the command line does: `resolve({"env": "CartPole-v1"})`.

    Args:
        overrides: dotted names to values, `{"world.rssm.deter": 1024}`; `env`, `size` and `preset` choose the layers.

    Raises:
        ConfigError: with every fault of every layer.
    """
    problems: list[str] = []
    config = merge_layers(overrides, problems=problems)
    problems += find_problems(config, given=overrides)
    if problems:
        raise ConfigError(problems)
    return config


def find_problems(config: Config, *, given: Collection[str] = ()) -> list[str]:
    """Every value that cannot work, one sentence each, naming the setting and the remedy.

    Args:
        config: the whole one.
        given: settings that a user chose, and not a preset.
    """
    flat = flatten(config)
    ranges = [problem for name, value in flat.items() if (problem := _range_problem(name, value))]
    problems = ranges + _relation_problems(config) + _offline_problems(config, given)
    sizes = config.environment.num_envs, config.replay.chunk, config.replay.batch_size, config.replay.batch_length
    if min(sizes) < 1:  # said above; nothing can be computed from it
        return problems
    action_repeat = config.environment.action_repeat or 1  # that of a suite is known once the environment is made
    return problems + budget_problems(
        config, num_envs=config.environment.num_envs, action_repeat=action_repeat, hosts=max(config.hosts.count, 1)
    )


def _range_problem(name: str, value: Any) -> str:
    """A sentence where a number is out of its range; every number must be above 0 unless a table says otherwise."""
    if isinstance(value, tuple):
        fits, wanted = len(value) > 0 and all(part > 0 for part in value), "one or more numbers above 0"
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    elif name.startswith(_AT_LEAST_ZERO):
        fits, wanted = 0 <= value < math.inf, "0 or more"
    elif name in _BELOW_ONE:
        fits, wanted = 0 <= value < 1, "0 or more, and below 1"
    elif name in _UP_TO_ONE:
        fits, wanted = 0 <= value <= 1, "between 0 and 1"
    elif name in _PERCENTILES:
        fits, wanted = 0 <= value <= 100, "a percentile between 0 and 100"
    else:
        fits, wanted = 0 < value < math.inf, "above 0"
    return "" if fits else f"{_flag(name)} must be {wanted}, not {value}"


def _relation_problems(config: Config) -> list[str]:
    """Values that contradict each other."""
    rssm, actor, norm = config.world.rssm, config.behavior.actor, config.behavior.return_norm
    problems = []
    if not config.env.strip():
        problems.append("--env is missing: name an environment, such as --env atari_pong or --env CartPole-v1")
    if rssm.blocks > 0 and rssm.deter % rssm.blocks:
        problems.append(
            f"--world.rssm.deter {rssm.deter} must be a multiple of --world.rssm.blocks {rssm.blocks}, "
            f"such as {max(rssm.deter // rssm.blocks, 1) * rssm.blocks}"
        )
    if rssm.classes > MOST_CLASSES:
        problems.append(f"--world.rssm.classes must be at most {MOST_CLASSES}, not {rssm.classes}")
    if actor.min_std > actor.max_std:
        problems.append(f"--behavior.actor.min-std {actor.min_std} must not exceed max-std {actor.max_std}")
    if norm.low >= norm.high:
        problems.append(f"--behavior.return-norm.low {norm.low} must be below high {norm.high}")
    return problems + _joining_problems(config) + sharing_problems(config) + _ray_problems(config)


def _joining_problems(config: Config) -> list[str]:
    """Hosts that could not find each other, or would not stay in step."""
    hosts, problems = config.hosts, []
    if hosts.count and hosts.index >= hosts.count:
        problems.append(f"--hosts.index {hosts.index} must be below --hosts.count {hosts.count}; the first is 0")
    if hosts.coordinator:
        try:
            host_and_port(hosts.coordinator)
        except ValueError:
            problems.append(f"--hosts.coordinator must be HOST:PORT, not {hosts.coordinator!r}")
    elif hosts.count > 1:
        problems.append(
            f"--hosts.count {hosts.count} needs --hosts.coordinator HOST:PORT, the same on all: the name of host 0 and "
            "a free port there"
        )
    if hosts.count != 1 and config.ray.collectors:
        problems.append("--ray.collectors and --hosts.count do not go together: leave one out")
    return problems


def sharing_problems(config: Config) -> list[str]:
    """A mesh that cannot be read, or a batch and devices that do not divide among groups of devices and hosts."""
    data, count, rows, problems = 1, max(config.hosts.count, 1), config.replay.batch_size, []
    if config.mesh:
        try:
            data, _ = mesh_sizes(config.mesh)
        except ValueError as error:
            return [f"--mesh: {error}"]
    if rows % data:
        problems.append(
            f"--mesh {config.mesh} splits a batch over {data} devices, and --replay.batch-size {rows} does not divide "
            f"by {data}: {math.ceil(rows / data) * data} would"
        )
    if rows % count:
        problems.append(
            f"{count} hosts share a batch, and --replay.batch-size {rows} does not divide by {count}: "
            f"{math.ceil(rows / count) * count} would"
        )
    if config.mesh and data % count:
        problems.append(
            f"--mesh {config.mesh} has {data} group{'s' * (data > 1)} of devices for {count} hosts; a group does not "
            f"reach over hosts, so that data must be a multiple of {count}"
        )
    return problems


def _ray_problems(config: Config) -> list[str]:
    """Environments that collectors cannot share, or a cluster that has no such address."""
    ray, settings, problems = config.ray, config.environment, []
    if ray.address not in ("local", "auto"):
        try:
            host_and_port(ray.address)
        except ValueError as error:
            problems.append(f"--ray.address: {error}")
    if ray.collectors < 1:
        return problems
    if settings.num_envs % ray.collectors:
        problems.append(
            f"--environment.num-envs {settings.num_envs} cannot be shared evenly by --ray.collectors {ray.collectors}: "
            f"{math.ceil(settings.num_envs / ray.collectors) * ray.collectors} could"
        )
    if ray.timeout <= settings.step_timeout:
        problems.append(
            f"--ray.timeout {ray.timeout:g} must be above --environment.step-timeout {settings.step_timeout:g}, so "
            "that an environment that hangs does not cost its collector"
        )
    return problems


def _offline_problems(config: Config, given: Collection[str]) -> list[str]:
    """What has no meaning in a run that learns from a dataset and never acts."""
    if not config.offline:
        return []
    name = f"--offline {config.offline}"
    problems = [f"{name}: one process learns from a dataset, without --{flag}" for flag in _acting_flags(config)]
    if "train_ratio" in given:
        problems.append(
            f"{name} has no use for --train-ratio, as nothing is collected: --steps is the number of updates"
        )
    found = _STEPS.fullmatch(config.steps.strip())
    if found and found["unit"]:
        problems.append(f"{name} counts updates: give their number, such as --steps 20000, and not {config.steps}")
    return problems


def _acting_flags(config: Config) -> list[str]:
    given = {"ray.collectors": config.ray.collectors > 0, "hosts.count": config.hosts.count != 1}
    return [flag for flag, is_given in given.items() if is_given]


def budget_problems(config: Config, *, num_envs: int, action_repeat: int, hosts: int = 1) -> list[str]:
    """A replay or a number of steps from which no batch can ever be drawn.

    Args:
        config: the whole one.
        num_envs: environments that step together, of one host.
        action_repeat: environment frames per agent step.
        hosts: that share replay and batches.
    """
    replay, problems = config.replay, []
    shape = f"batch size {replay.batch_size} x length {replay.batch_length}, environments {num_envs * hosts}"
    share = dataclasses.replace(replay, batch_size=replay.batch_size // hosts)
    least = hosts * least_capacity(share, num_envs=num_envs)
    if replay.capacity < least:
        problems.append(
            f"--replay.capacity {replay.capacity} is too small: {shape} and chunks of {replay.chunk} need at least "
            f"{least}; raise it, or lower --replay.chunk"
        )
    try:
        agent_steps = steps_to_agent_steps(config.steps, action_repeat)
    except ValueError as error:
        return [*problems, f"--steps: {error}"]
    if config.offline:
        return problems
    together = num_envs * hosts
    prefill = prefill_steps(replay, num_envs=together)
    if math.ceil(agent_steps / together) * together < prefill:
        problems.append(
            f"--steps {config.steps} are {agent_steps} agent steps and end before the first update, which needs "
            f"{prefill} of them ({shape})"
        )
    return problems


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
