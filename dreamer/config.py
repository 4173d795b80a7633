"""Every knob of a run, as frozen dataclasses: no JAX here, so that a typo is answered in milliseconds.

The published values are the defaults; the widths that `--size` sets are those of 12m.
Presets are data (`configs/*.yaml`), merged strictly onto these classes by `dreamer.cli`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

FACTORY = "factory:"  # prefix of `Config.env` where `dreamer.Dreamer` was given a function
MESH_AXES = ("data", "model")


@dataclass(frozen=True)
class RSSMConfig:
    """Recurrent state-space model (Nature 2025, "World model learning")."""

    deter: int = 2048  # D, width of the recurrent state
    hidden: int = 256  # width of the layers around it
    stoch: int = 32  # S, number of categorical latents
    classes: int = 16  # K, classes of each latent
    blocks: int = 8  # blocks of the block-diagonal GRU; must divide deter
    prior_layers: int = 2
    posterior_layers: int = 1
    unimix: float = 0.01  # share of the uniform distribution mixed into every latent


@dataclass(frozen=True)
class EncoderConfig:
    """Images through a CNN, everything else through an MLP."""

    units: int = 256
    layers: int = 3
    depth: int = 16
    multipliers: tuple[int, ...] = (2, 3, 4, 4)  # channels of stage i = depth * multipliers[i]
    kernel: int = 5


@dataclass(frozen=True)
class DecoderConfig:
    """Mirror of the encoder."""

    units: int = 256
    layers: int = 3
    depth: int = 16
    multipliers: tuple[int, ...] = (2, 3, 4, 4)


@dataclass(frozen=True)
class HeadConfig:
    """An MLP on the features, followed by its output layer."""

    units: int = 256
    layers: int = 1


@dataclass(frozen=True)
class WorldLossScales:
    """Weights of the world model's loss terms."""

    reconstruction: float = 1.0
    reward: float = 1.0
    continuation: float = 1.0
    dynamics: float = 1.0
    representation: float = 0.1


@dataclass(frozen=True)
class WorldConfig:
    """The world model."""

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    reward: HeadConfig = field(default_factory=HeadConfig)
    continuation: HeadConfig = field(default_factory=HeadConfig)
    scales: WorldLossScales = field(default_factory=WorldLossScales)
    free_nats: float = 1.0  # each KL is limited from below, after the sum over latents
    replay_latents: bool = True  # replayed sequences start from the latents stored with them; False: from zeros


@dataclass(frozen=True)
class ActorConfig:
    """The policy; continuous actions are an unsquashed Normal, discrete ones a categorical with unimix."""

    units: int = 256
    layers: int = 3
    unimix: float = 0.01
    min_std: float = 0.1
    max_std: float = 1.0
    entropy: float = 3e-4  # eta, weight of the entropy bonus


@dataclass(frozen=True)
class CriticConfig:
    """The value function and its slowly moving copy."""

    units: int = 256
    layers: int = 3
    slow_rate: float = 0.02  # share of the new weights that enters the slow copy after each update
    slow_regularizer: float = 1.0  # weight of the term that pulls the critic towards its slow copy
    slow_target: bool = False  # bootstrap from the slow copy instead of the critic
    replay_scale: float = 0.3  # weight of the critic loss on replayed features


@dataclass(frozen=True)
class ReturnNormConfig:
    """Percentile range by which returns are scaled (Nature 2025, "Actor learning")."""

    rate: float = 0.01
    low: float = 5.0  # percentile
    high: float = 95.0  # percentile
    limit: float = 1.0


@dataclass(frozen=True)
class BehaviorConfig:
    """Actor and critic, trained on imagined rollouts."""

    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    return_norm: ReturnNormConfig = field(default_factory=ReturnNormConfig)
    horizon: int = 15  # H, imagined steps
    lam: float = 0.95  # lambda of the lambda-return


@dataclass(frozen=True)
class OptimizerConfig:
    """Adaptive gradient clipping, then LaProp, for all modules together."""

    learning_rate: float = 4e-5
    warmup: int = 1000  # updates
    clip: float = 0.3  # AGC: gradient norm relative to the parameter norm
    clip_floor: float = 1e-3  # AGC: least parameter norm
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-20
    max_skipped: int = 10  # updates in a row that are skipped as something is not finite, before the run stops


@dataclass(frozen=True)
class ReplayConfig:
    """Stored experience."""

    capacity: int = 5_000_000  # agent steps over all environments
    chunk: int = 1024  # steps of one chunk, the unit of growth, eviction and storage
    batch_size: int = 16  # B
    batch_length: int = 64  # T, trained steps of a sequence; one context step comes on top
    online: bool = True  # every fresh window is trained on once, soon
    max_lost: float = 0.5  # share of the saved steps that may be damaged when a run is resumed; 1: go on with any rest
    save_latents_limit: float = 2e9  # bytes of refreshed latents in a checkpoint; beyond it, those of the chunks serve


@dataclass(frozen=True)
class EnvConfig:
    """How the environment is made; a suite's preset writes its protocol here. `None` leaves the suite's own value."""

    num_envs: int = 1
    action_repeat: int | None = None  # None: the suite's protocol (Atari 4, DMC 2, anything else 1)
    image_size: tuple[int, int] | None = None  # height, width; None: as the suite or the environment gives it
    image_layout: Literal["auto", "channels_last", "channels_first"] = "auto"  # where a guess would be wrong
    max_episode_steps: int | None = None  # agent steps
    action_bound: float | None = None  # range of an unbounded Box action
    sticky: float | None = None  # Atari: probability of repeating the last action
    noops: int | None = None  # Atari: largest number of no-op actions after a reset
    full_actions: bool | None = None  # Atari: all 18 actions
    grayscale: bool | None = None  # Atari
    life_loss: bool | None = None  # Atari: losing a life ends the episode
    camera: int | None = None  # DMC vision
    workers: Literal["auto", "none", "spawn"] = "auto"  # processes for environments without a native vector form
    step_timeout: float = 120.0  # seconds until a worker process counts as hung
    max_restarts: int = 3  # failures of one environment within ten minutes that do not end the run
    nonfinite: Literal["stop", "drop_episode", "zero"] = "stop"  # at a NaN or an infinity in reward or observation


@dataclass(frozen=True)
class RayConfig:
    """Environments in other processes, on any number of machines (extra ray)."""

    collectors: int = 0  # processes that share the environments evenly, a core each; 0: act in this process
    address: str = "local"  # local: a cluster of this machine alone; auto: that of ray start; or HOST:PORT of one
    round: int = 16  # steps of every environment until it gets new parameters
    timeout: float = 300.0  # seconds of a round until its process counts as hung


@dataclass(frozen=True)
class LogConfig:
    """What is written while training."""

    every_seconds: float = 10.0  # scalars to JSONL and TensorBoard
    video_every: int = 2_000  # updates between open-loop videos; 0: never
    report_every: int = 0  # updates between reports on the world model, as dreamer.report makes them; 0: never
    report_only: str = "causal,interactive,useful"  # properties that such a report measures
    report_starts: int = 8  # start states of such a report; more: narrower intervals, and it takes longer
    quiet: bool = False
    wandb: bool = False  # the same for Weights & Biases (extra wandb); WANDB_MODE and WANDB_PROJECT hold


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run is saved. It is also saved at the end, on SIGTERM, SIGUSR1 and Ctrl-C."""

    every_seconds: float = 600.0  # from the end of one save to the beginning of the next
    keep: int = 2
    max_failures: int = 5  # failed saves in a row that end the run


@dataclass(frozen=True)
class HostsConfig:
    """Several processes, each started with the same command, that train one run together."""

    count: int = 1  # processes; 0: JAX asks Slurm, Open MPI or the TPU for number, index and coordinator
    index: int = 0  # of this one; host 0 prints, logs and saves
    coordinator: str = ""  # HOST:PORT, where host 0 waits for the others; a free port


@dataclass(frozen=True)
class Config:
    """A whole run. `dreamer.train` reads it from the command line; `run/config.yaml` holds the resolved one."""

    env: str = ""  # atari_pong, atari100k_pong, dmc_walker_walk, dmc_vision_walker_walk, CartPole-v1, package:MyEnv-v0
    size: Literal["1m", "12m", "25m", "50m", "100m", "200m", "400m"] = "12m"
    seed: int = 0
    logdir: str = ""  # empty: runs/<env>-<size>-<seed>
    offline: str = ""  # a Minari dataset to learn from instead of the environment; --steps are then updates
    init_from: str = ""  # a run or a checkpoint whose parameters a new run starts with, as far as they fit
    allow_config_change: bool = False  # resume a run with settings that are otherwise refused
    steps: str = "1000000"  # agent steps, or with a unit: 400k_frames, 100k_agent
    preset: str = ""  # a file of configs/presets, or a path to a YAML file
    train_ratio: float = 128.0  # replayed steps per agent step
    discount_horizon: int = 333  # gamma = 1 - 1 / discount_horizon, carried by the continue head
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # compute; auto: float32 on CPU, bfloat16 elsewhere
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    mesh: str = ""  # data=4,model=2: batches over 4 groups of devices, large weights over 2; empty: 1, of hosts all
    hosts: HostsConfig = field(default_factory=HostsConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    environment: EnvConfig = field(default_factory=EnvConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def prefill_steps(replay: ReplayConfig, *, num_envs: int) -> int:
    """Agent steps at the first update: the replay then has as many starts of sequences as a batch has trained steps.

    All environments step together, and the last T steps of each start no sequence.
    """
    starts = math.ceil(replay.batch_size * replay.batch_length / num_envs)
    return num_envs * (starts + replay.batch_length)


def least_capacity(replay: ReplayConfig, *, num_envs: int) -> int:
    """Steps below which dropping a chunk could leave fewer starts than a batch needs, or nothing to drop."""
    needed = replay.chunk + (num_envs + replay.batch_size) * replay.batch_length
    return max(num_envs * replay.chunk, needed)


def mesh_sizes(mesh: str) -> tuple[int, int]:
    """Devices along `data` and `model` in `data=4,model=2`; an axis that is not named has 1.

    Raises:
        ValueError: the text is not of this form.
    """
    sizes: dict[str, int] = {}
    for part in mesh.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*([1-9]\d*)\s*", part)
        if found is None or found[1] not in MESH_AXES or found[1] in sizes:
            raise ValueError(f"expected devices along data and model, such as data=4,model=2, not {mesh!r}")
        sizes[found[1]] = int(found[2])
    data, model = (sizes.get(axis, 1) for axis in MESH_AXES)
    return data, model


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        ValueError: the text is not of this form.
    """
    found = re.fullmatch(r"\[?([\w.-]+|[\da-fA-F:]+(?=\]))\]?:(\d{1,5})", address)
    if found is None:
        raise ValueError(f"expected local, auto or HOST:PORT, not {address!r}")
    return found[1], int(found[2])
