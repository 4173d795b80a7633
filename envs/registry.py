"""From a name or a factory to an `Environment`.

| name | made by |
|---|---|
| `atari_<game>`, `atari100k_<game>` | `envs.atari` |
| `dmc_<domain>_<task>`, `dmc_vision_<domain>_<task>` | `envs.dmc` |
| `dummy` | `envs.dummy`, every kind of space |
| anything else | `envs.gym`: a gymnasium id, `module:Env-v0`, `module:Class` |

Workers, `auto`: gymnasium ids other than classic control, toy text and our own probes get one spawned process each when
there are several; Atari is parallel by itself; DMC and Python factories stay in this process (DMC because its learner
takes far longer than its simulator and because only then can a run be resumed bitwise; factories because they may hold
what cannot be sent to another process). `none` and `spawn` decide for any of them but Atari.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import gymnasium

from envs.environment import Environment, EnvironmentFault, EnvSettings, Simulator, TimeLimit, env_seeds
from envs.gym import GymSimulator, is_cheap, make_env
from envs.loop import LoopEnvironment

Factory = Callable[[], Any]  # returns a gymnasium.Env or a gymnasium.vector.VectorEnv
ALIASES = {"dummy": "dreamer/Dummy-v0"}
ATARI_ONLY = ("sticky", "noops", "full_actions", "grayscale", "life_loss")


def make(
    name: str | Factory, *, num_envs: int | None = None, seed: int, settings: EnvSettings | Any = None
) -> Environment:
    """Make `num_envs` environments with seeds of their own, derived from `seed`.

    Args:
        name: a name of the table above, or a callable that returns a `gymnasium.Env` or a `VectorEnv`.
        num_envs: how many; None: as `settings` say.
        seed: same seed, same environments.
        settings: `EnvSettings`, `dreamer.config.EnvConfig` or anything with these attributes; None: the defaults.

    Raises:
        EnvironmentFault: for an unknown name, an unsupported space or a setting that the environment cannot follow.
    """
    settings = EnvSettings() if settings is None else settings
    num_envs = int(settings.num_envs if num_envs is None else num_envs)
    suite = suite_of(name)
    _check_settings(settings, num_envs, suite)
    seeds = env_seeds(seed, num_envs)
    if callable(name):
        return _make_factory(name, seeds, settings)
    if suite in ("atari", "atari100k"):
        from envs.atari import make_atari

        return make_atari(name, seeds=seeds, settings=settings)
    if suite == "gym":
        register_gymnasium()
        name = ALIASES.get(name, name)
    build = functools.partial(_dmc_simulator if suite.startswith("dmc") else _gym_simulator, name, settings)
    is_slow = suite == "gym" and num_envs > 1 and not is_cheap(name)
    if settings.workers == "spawn" or (settings.workers == "auto" and is_slow):
        return _spawn(build, seeds, settings)
    return LoopEnvironment([build] * num_envs, seeds=seeds, settings=settings)


def suite_of(name: str | Factory) -> str:
    """The suite of a name: `atari`, `atari100k`, `dmc`, `dmc_vision`, or `gym` for everything else."""
    if callable(name):
        return "gym"
    prefix = name.partition("_")[0]
    if prefix == "dmc":
        return "dmc_vision" if name.startswith("dmc_vision_") else "dmc"
    return prefix if prefix in ("atari", "atari100k") else "gym"


def register_gymnasium() -> None:
    """Register `dreamer/Dummy-v0`, the probe environments and those of the report with gymnasium."""
    from envs import dummy, memory_maze, motion, needle, pixels, probe

    entry_points: dict[str, Any] = {**dummy.IDS, **motion.IDS, **needle.IDS, **pixels.IDS, **probe.IDS}
    entry_points |= memory_maze.IDS
    for env_id, entry_point in entry_points.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)


def _check_settings(settings: EnvSettings | Any, num_envs: int, suite: str) -> None:
    """Refuse settings that would be ignored."""
    if num_envs < 1:
        raise EnvironmentFault(f"--environment.num-envs is {num_envs}; at least one environment is needed")
    idle = [] if suite in ("atari", "atari100k") else list(ATARI_ONLY)
    idle += [] if suite == "dmc_vision" else ["camera"]
    idle += ["image_size"] if suite == "dmc" else []
    idle += [] if suite == "gym" else ["action_bound"]
    idle += [] if suite == "gym" else ["image_layout"]
    for field in idle:
        if getattr(settings, field) not in (None, "auto"):
            flag = f"--environment.{field.replace('_', '-')}"
            raise EnvironmentFault(f"{flag} has no meaning for this environment (suite {suite!r}); leave it out")
    for field in ("action_repeat", "max_episode_steps"):
        if getattr(settings, field) is not None and getattr(settings, field) < 1:
            raise EnvironmentFault(f"--environment.{field.replace('_', '-')} must be at least 1")


def _gym_simulator(name: str, settings: EnvSettings | Any, seed: int) -> Simulator:
    register_gymnasium()  # for a worker process
    env = make_env(name)
    return _limited(GymSimulator(env, name=name, seed=seed, settings=settings), settings)


def _dmc_simulator(name: str, settings: EnvSettings | Any, seed: int) -> Simulator:
    from envs.dmc import DMCSimulator

    return _limited(DMCSimulator(name, seed=seed, settings=settings), settings)


def _factory_simulator(factory: Factory, settings: EnvSettings | Any, seed: int) -> Simulator:
    return _wrap(factory(), factory, settings, seed)


def _wrap(env: Any, factory: Factory, settings: EnvSettings | Any, seed: int) -> Simulator:
    return _limited(GymSimulator(env, name=_factory_name(factory), seed=seed, settings=settings), settings)


def _limited(simulator: Simulator, settings: EnvSettings | Any) -> Simulator:
    limit = settings.max_episode_steps
    return simulator if limit is None else TimeLimit(simulator, max_episode_steps=limit)


def _make_factory(factory: Factory, seeds: list[int], settings: EnvSettings | Any) -> Environment:
    env = factory()
    if isinstance(env, gymnasium.vector.VectorEnv):
        return _make_vector(env, factory, seeds, settings)
    if settings.workers == "spawn":
        env.close()
        return _spawn(functools.partial(_factory_simulator, factory, settings), seeds, settings)
    envs = [env, *(factory() for _ in seeds[1:])]
    if len({id(env) for env in envs}) < len(envs):
        raise EnvironmentFault(f"{_factory_name(factory)} returns the same environment twice; make a new one each call")
    builders = [_builder(env, factory, settings) for env in envs]
    return LoopEnvironment(builders, seeds=seeds, settings=settings)


def _builder(env: Any, factory: Factory, settings: EnvSettings | Any) -> Callable[[int], Simulator]:
    """Makes a simulator of `env` first, and of new environments from then on."""
    made = [env]
    return lambda seed: _wrap(made.pop() if made else factory(), factory, settings, seed)


def _make_vector(
    env: gymnasium.vector.VectorEnv, factory: Factory, seeds: list[int], settings: EnvSettings | Any
) -> Environment:
    from envs.vector import VectorEnvironment, is_forked

    if env.num_envs != len(seeds):
        raise EnvironmentFault(
            f"the vector environment holds {env.num_envs} environments; set --environment.num-envs {env.num_envs}"
        )
    if "jax" in sys.modules and is_forked(env):
        env.close()
        raise EnvironmentFault(
            f"{_factory_name(factory)} makes worker processes by fork, which can hang them once JAX's threads run; "
            'spawn them: gymnasium.vector.AsyncVectorEnv(..., context="spawn")'
        )
    for field in ("action_repeat", "max_episode_steps"):
        if getattr(settings, field) is not None:
            raise EnvironmentFault(f"{field} cannot be added to a vector environment; build it in, in your factory")
    return VectorEnvironment(
        env, seed=seeds[0], settings=settings, protocol={"env": _factory_name(factory)}, remake=factory
    )


def _spawn(build: Callable[[int], Simulator], seeds: list[int], settings: EnvSettings | Any) -> Environment:
    from envs.worker import WorkerSimulator

    def in_worker(seed: int) -> Simulator:
        return WorkerSimulator(functools.partial(build, seed), step_timeout=settings.step_timeout)

    return LoopEnvironment([in_worker] * len(seeds), seeds=seeds, settings=settings, workers="spawn")


def _factory_name(factory: Factory) -> str:
    return getattr(factory, "__qualname__", type(factory).__name__)
