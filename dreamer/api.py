"""Training from Python: `dreamer.Dreamer(env=lambda: MyEnv(), size="1m", logdir="runs/x").learn(steps=30_000)`.

The module imports no JAX, so that `device` can still choose what JAX will run on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer.config import FACTORY, Config
from dreamer.launch import entered, run_directory
from dreamer.train import select_device, train
from dreamer.validation import resolve

if TYPE_CHECKING:
    from dreamer.agent import Agent, AgentState, EpisodeStart

STOPPED = 130  # exit code of a run that Ctrl-C ended


class Dreamer:
    """A run, described once; `learn` trains it or goes on with it, exactly as the command line does.

    Args:
        env: a name as for `--env`, or a function that makes a `gymnasium.Env` or a `gymnasium.vector.VectorEnv`.
        size: of the model, `1m` to `400m`; None: as the environment's suite has it.
        logdir: the run's folder; None: `runs/<env>-<size>-<seed>`. A function has no name to go by and needs one.
        seed: root of all randomness.
        config: any setting by its dotted name, `{"world.rssm.deter": 1024}`.
        **overrides: settings of the top level, such as `train_ratio=64` or `preset="debug"`.

    Raises:
        ConfigError: with every setting that is unknown or cannot work.
        ValueError: `env` is neither name nor function, or a function without `logdir`; or something is given twice.

    Attributes:
        config: the resolved configuration.
    """

    def __init__(
        self,
        env: str | Callable[[], Any],
        *,
        size: str | None = None,
        logdir: str | Path | None = None,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> None:
        if not isinstance(env, str) and not callable(env):
            raise ValueError(
                f"env is a {type(env).__name__}; give a name, or a function that makes it: lambda: MyEnv()"
            )
        if callable(env) and logdir is None:
            raise ValueError('an environment from a function has no name for its folder; give logdir="runs/..."')
        twice = {"env", "size", "logdir", "seed", *overrides} & set(config or {})
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))}: give it as an argument or in config, not both")
        chosen = {"size": size, "logdir": None if logdir is None else str(logdir)}
        self._env = env
        self._overrides = {
            **(config or {}),
            **overrides,
            **{name: value for name, value in chosen.items() if value is not None},
            "env": factory_name(env) if callable(env) else env,
            "seed": seed,
        }
        self._agent: Agent | None = None
        self.config = resolve(self._overrides)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return run_directory(self.config)

    def learn(self, steps: int | str | None = None) -> Dreamer:
        """Trains until the run has `steps` agent steps, those of earlier calls included; saves, and returns itself.

        Args:
            steps: a number, or text as for `--steps`, such as `"400k_frames"`; None: as configured.

        Raises:
            KeyboardInterrupt: Ctrl-C ended the run, which is saved.
            SystemExit: another signal did.
        """
        if steps is not None:
            self._overrides["steps"] = str(steps)
            self.config = resolve(self._overrides)
        if self.config.hosts.count == 1:
            require_device(self.config)
        else:  # which must find each other before JAX may be asked anything
            select_device(self.config)
        self._agent = None
        with entered(self.config) as (config, hosts, folder):
            exit_code = train(config, folder=folder, env=self._env, hosts=hosts)
        if exit_code == STOPPED:
            raise KeyboardInterrupt
        if exit_code:
            raise SystemExit(exit_code)
        return self

    @property
    def agent(self) -> Agent:
        """The agent of the newest checkpoint."""
        if self._agent is None:
            from dreamer.agent import load

            self._agent = load(self.path)
        return self._agent

    def predict(
        self,
        observation: Any,
        state: AgentState | None = None,
        episode_start: EpisodeStart = None,
        *,
        deterministic: bool = False,
    ) -> tuple[Any, AgentState]:
        """See `dreamer.Agent.predict`."""
        return self.agent.predict(observation, state, episode_start, deterministic=deterministic)

    def save(self, path: str | Path) -> Path:
        """Writes the agent without the run; see `dreamer.Agent.save`."""
        return self.agent.save(path)


def factory_name(factory: Callable[[], Any]) -> str:
    """What stands for a function in the configuration; where it was defined does not matter."""
    name = getattr(factory, "__name__", type(factory).__name__)
    return f"{FACTORY}{name}"


def require_device(config: Config) -> None:
    """Selects the device of a configuration, or refuses one that JAX can no longer be told.

    Raises:
        ValueError: JAX runs on another.
    """
    before = os.environ.get("JAX_PLATFORMS")
    select_device(config)
    import jax

    if config.device != "auto" and jax.default_backend() != config.device:
        if before is None:
            del os.environ["JAX_PLATFORMS"]
        else:
            os.environ["JAX_PLATFORMS"] = before  # programs that this one starts are not to inherit the mistake
        raise ValueError(
            f"device={config.device!r} was asked for, but JAX already runs on {jax.default_backend()!r}; "
            "make this the first use of JAX in the program, or set JAX_PLATFORMS before"
        )
