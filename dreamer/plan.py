"""The start-up plan: what a run is about to do and what it needs, printed before anything is compiled. No JAX here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamer.config import Config, mesh_sizes, prefill_steps
from dreamer.memory import memory_limit
from dreamer.validation import steps_to_agent_steps
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, action_width

_FLAG_BYTES = 3  # is_first, is_last, is_terminal
_NUMBER_BYTES = 4  # float32 or int32
_BFLOAT16_BYTES = 2
_CHECKPOINT_COPIES = 4  # parameters, slow critic (at most as many), two moments of the optimizer
_DEVICE_COPIES = 4  # parameters, gradient, two moments of the optimizer
_SAFE_SHARE = 0.8  # of the memory limit: the rest is for the program, the environments and the batches
_WARNING = "WARNING"


class DatasetFacts(NamedTuple):
    """What a run learns from that never acts: `steps` counts observations, as replay holds them."""

    name: str
    episodes: int
    steps: int


class Machine(NamedTuple):
    """What this process may use, in bytes."""

    memory_limit: int
    disk_free: int


def startup_plan(
    config: Config,
    *,
    observation_spec: ObservationSpec,
    action_spec: ActionSpec,
    protocol: Mapping[str, Any],
    device: str,
    parameter_counts: Mapping[str, int],
    action_repeat: int,
    logdir: Path,
    device_limit: int | None = None,
    dataset: DatasetFacts | None = None,
    machine: Machine | None = None,
    width: int = 100,
    color: bool = False,
) -> str:
    """Describe the run in one screen.

    Args:
        config: the resolved configuration.
        observation_spec: spaces as the environment adapter reports them.
        action_spec: likewise.
        protocol: every value that fixes the task (sticky actions, frame limit, ...), by name.
        device: what the learner computes on, in words.
        parameter_counts: trained parameters by module; the slow critic is not among them.
        action_repeat: environment frames per agent step, as the made environment has it.
        logdir: the run folder; its disk is measured.
        device_limit: bytes that JAX may use on one device; None where that is the memory of this process, on a CPU.
        dataset: that the run learns from instead of acting.
        machine: what is there; measured when absent.
        width: columns of the text.
        color: whether to write ANSI colors.
    """
    machine = machine or measure_machine(logdir)
    rssm = config.world.rssm
    step_bytes = replay_bytes_per_step(observation_spec, action_spec, deter=rssm.deter, stoch=rssm.stoch)
    budget = steps_to_agent_steps(config.steps, action_repeat)
    steps = min(config.replay.capacity, dataset.steps if dataset else budget)
    rows = {
        "run": f"{config.env}, seed {config.seed}, in {logdir}",
        "device": device,
        "observation": describe_spec(observation_spec),
        "action": describe_spec(action_spec),
        "encoder": describe_encoders(observation_spec),
        "protocol": describe_protocol(protocol),
        "model": describe_model(config.size, parameter_counts),
        "updates": describe_ratio(config, action_repeat=action_repeat),
        "steps": describe_budget(config, action_repeat=action_repeat),
        "replay": f"{steps:,} steps x {step_bytes:,} B = {format_bytes(steps * step_bytes)} when full",
        "memory": describe_memory(
            steps // max(config.hosts.count, 1),
            step_bytes=step_bytes,
            chunk=config.replay.chunk,
            limit=machine.memory_limit,
        ),
        "disk": describe_disk(
            config,
            replay_bytes=steps * step_bytes,
            parameters=sum(parameter_counts.values()),
            free=machine.disk_free,
        ),
    }
    if dataset:
        rows |= describe_offline(dataset, updates=budget)
    if device_limit:
        rows["on device"] = describe_device_memory(
            config, parameters=sum(parameter_counts.values()), limit=device_limit
        )
    return _render(rows, width=width, color=color)


def replay_bytes_per_step(observation_spec: ObservationSpec, action_spec: ActionSpec, *, deter: int, stoch: int) -> int:
    """Bytes of one stored agent step: observation, action, reward, three flags and the compact latent.

    Args:
        observation_spec: images count one byte a value, vectors and discrete components four.
        action_spec: stored as one flat float32 vector.
        deter: D, stored as bfloat16.
        stoch: S, each stored as the index of its class in one byte.
    """
    observation = sum(_part_bytes(part) for part in observation_spec.values())
    action_and_reward = _NUMBER_BYTES * (action_width(action_spec) + 1)
    return observation + action_and_reward + _FLAG_BYTES + _BFLOAT16_BYTES * deter + stoch


def describe_spec(spec: ObservationSpec | ActionSpec) -> str:
    """`image: 64x64x3 image, position: vector of 14`."""
    return ", ".join(f"{key}: {_describe_part(part)}" for key, part in sorted(spec.items()))


def describe_encoders(observation_spec: ObservationSpec) -> str:
    """Which part of the encoder reads which key: `image -> CNN; position, velocity -> MLP`."""
    images = sorted(key for key, part in observation_spec.items() if isinstance(part, ImageSpec))
    others = sorted(key for key in observation_spec if key not in images)
    parts = [f"{', '.join(keys)} -> {network}" for keys, network in ((images, "CNN"), (others, "MLP")) if keys]
    return "; ".join(parts)


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """`env CartPole-v1, action_repeat 1`: what the environment does, without what it leaves alone."""
    return ", ".join(f"{key} {value}" for key, value in protocol.items() if value not in (None, "none"))


def describe_model(size: str, parameter_counts: Mapping[str, int]) -> str:
    """Size, exact total and the share of each module."""
    modules = ", ".join(f"{name} {count:,}" for name, count in parameter_counts.items())
    return f"{size}, {sum(parameter_counts.values()):,} parameters ({modules})"


def describe_ratio(config: Config, *, action_repeat: int) -> str:
    """`1 update per 8 agent steps = 32 frames`, from the train ratio (replayed steps per agent step)."""
    steps_per_update = config.replay.batch_size * config.replay.batch_length / config.train_ratio
    frames = f" = {_count(steps_per_update * action_repeat, 'frame')}"
    return f"1 update per {_count(steps_per_update, 'agent step')}{frames} (train ratio {config.train_ratio:g})"


def describe_budget(config: Config, *, action_repeat: int) -> str:
    """The length of the run in all three counters."""
    agent_steps = steps_to_agent_steps(config.steps, action_repeat)
    num_envs = config.environment.num_envs * max(config.hosts.count, 1)
    trained_steps = max(0, agent_steps - prefill_steps(config.replay, num_envs=num_envs))
    updates = trained_steps * config.train_ratio / (config.replay.batch_size * config.replay.batch_length)
    frames = agent_steps * action_repeat
    return (
        f"{agent_steps:,} agent steps = {frames:,} frames (action repeat {action_repeat}), about {updates:,.0f} updates"
    )


def describe_offline(dataset: DatasetFacts, *, updates: int) -> dict[str, str]:
    """What of the plan differs where a run learns from a dataset."""
    return {
        "updates": f"{updates:,} from the dataset alone; the environment is never stepped: no train ratio",
        "steps": "0 agent steps = 0 frames",
        "dataset": f"{dataset.name}: {dataset.episodes:,} episodes, {dataset.steps:,} observations, copied into replay",
    }


def describe_memory(steps: int, *, step_bytes: int, chunk: int, limit: int) -> str:
    """Whether a full replay fits into the memory of this process, and how to make it fit.

    Args:
        steps: stored at most.
        step_bytes: of one stored step.
        chunk: steps by which the replay grows.
        limit: bytes this process may use.
    """
    facts = f"replay {format_bytes(steps * step_bytes)} of {format_bytes(limit)}"
    if steps * step_bytes <= _SAFE_SHARE * limit:
        return f"{facts}: fits"
    fitting = int(_SAFE_SHARE * limit) // step_bytes // chunk * chunk
    return f"{facts}: {_WARNING}, it will not fit when full; start with --replay.capacity {fitting}"


def describe_device_memory(config: Config, *, parameters: int, limit: int) -> str:
    """Whether a device can hold the model at all; what an update needs beyond that is known when it is compiled.

    Args:
        config: says over how many devices the model is split.
        parameters: number of trained parameters.
        limit: bytes of one device.
    """
    _, groups = mesh_sizes(config.mesh) if config.mesh else (1, 1)
    least = parameters * _NUMBER_BYTES * _DEVICE_COPIES // groups
    facts = f"parameters, gradient and optimizer {format_bytes(least)} of {format_bytes(limit)}"
    if least > limit:
        return f"{facts}: {_WARNING}, they do not fit; choose a smaller --size, or split them: --mesh model=2"
    return f"{facts}; activations come on top"


def describe_disk(config: Config, *, replay_bytes: int, parameters: int, free: int) -> str:
    """Whether replay chunks and checkpoints fit onto the disk of the run folder, before compression.

    Args:
        config: says how many checkpoints are kept and how large their latents may be.
        replay_bytes: of the replay when full.
        parameters: number of trained parameters.
        free: bytes.
    """
    weights = parameters * _NUMBER_BYTES * _CHECKPOINT_COPIES
    latents = min(config.replay.save_latents_limit, replay_bytes)
    count = config.checkpoint.keep + 1  # the oldest goes only when the newest is whole
    saved = count * (weights + latents)
    facts = (
        f"replay {format_bytes(replay_bytes)} + {count} checkpoints {format_bytes(saved)} at most, "
        f"of {format_bytes(free)} free"
    )
    if replay_bytes + saved <= free:
        return f"{facts}: fits"
    return f"{facts}: {_WARNING}, the disk can fill up; lower --replay.capacity or choose another --logdir"


def measure_machine(logdir: Path, *, root: Path = Path("/")) -> Machine:
    """Memory this process may use (container limits included) and free disk space where `logdir` is or will be."""
    existing = next(folder for folder in (logdir.absolute(), *logdir.absolute().parents) if folder.exists())
    return Machine(memory_limit=memory_limit(root=root), disk_free=shutil.disk_usage(existing).free)


def format_bytes(count: float) -> str:
    """`4.2 GB`, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _part_bytes(part: ImageSpec | VectorSpec | DiscreteSpec) -> int:
    if isinstance(part, ImageSpec):
        return part.height * part.width * part.channels
    if isinstance(part, VectorSpec):
        return _NUMBER_BYTES * part.size
    return _NUMBER_BYTES * len(part.num_classes)


def _describe_part(part: ImageSpec | VectorSpec | DiscreteSpec) -> str:
    if isinstance(part, ImageSpec):
        return f"{part.height}x{part.width}x{part.channels} image"
    if isinstance(part, VectorSpec):
        return f"vector of {part.size}"
    return f"{' x '.join(map(str, part.num_classes))} choices"


def _count(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def _render(rows: Mapping[str, str], *, width: int, color: bool) -> str:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, description in rows.items():
        table.add_row(Text(name, "bold"), Text(description, "bold red" if _WARNING in description else ""))
    text = StringIO()
    Console(file=text, width=width, force_terminal=color, no_color=not color, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
