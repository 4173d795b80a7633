"""What may change between two starts of a run: settings and spaces are held against those in its folder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer.config import Config, HostsConfig
from dreamer.presets import diff, from_yaml, to_yaml

if TYPE_CHECKING:
    from dreamer.training.run_folder import RunFolder
    from envs.environment import Described
    from envs.space_json import Interface

ADJUSTABLE = (  # may differ when a run is resumed
    *("steps", "log.", "checkpoint.", "logdir", "preset", "device", "mesh", "hosts."),
    *("train_ratio", "replay.capacity", "replay.max_lost", "replay.save_latents_limit"),
    *("environment.max_restarts", "environment.step_timeout", "environment.nonfinite", "optimizer.max_skipped"),
    "ray.",
)
INIT_FROM = "init_from"


class ConfigChangedError(ValueError):
    """A run is resumed with another configuration than it was started with."""


def config_changes(config: Config, folder: RunFolder) -> dict[str, str]:
    """Settings in which a resumed run differs from what its folder holds: dotted names to `old -> new`.

    A run without a checkpoint has nothing to be true to.

    Raises:
        ConfigChangedError: something differs that a run cannot change on its way, and `allow_config_change` is off.
    """
    if not (folder.has_checkpoint and folder.config.exists()):
        return {}
    problems: list[str] = []
    before = from_yaml(folder.config, problems=problems)
    ways_out = (
        f"choose another --logdir (--init-from {folder.path} takes over the parameters that fit), "
        "or add --allow-config-change."
    )
    if problems and not config.allow_config_change:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigChangedError(
            f"The configuration of {folder.path} is damaged, or of another version of dreamer-jax:\n{lines}\n"
            f"Install the version that wrote it, {ways_out}"
        )
    changes = diff(before, _to_keep(config, folder))
    fixed = {name: change for name, change in changes.items() if not name.startswith(ADJUSTABLE)}
    if INIT_FROM in fixed or (fixed and not config.allow_config_change):
        lines = "\n".join(f"  {name}: {old} in the run, {new} now" for name, (old, new) in fixed.items())
        raise ConfigChangedError(
            f"{folder.path} was started with another configuration:\n{lines}\nLeave these as they were, {ways_out}"
        )
    changes.pop("logdir", None)  # a copied folder, or another spelling: no news of the run itself
    return {name: f"{old} -> {new}" for name, (old, new) in changes.items()}


def interface_changes(environment: Described, config: Config, folder: RunFolder) -> dict[str, str]:
    """Spaces in which the environment differs from that of the run, as `config_changes` gives them.

    Raises:
        ConfigChangedError: one differs, and `allow_config_change` is off.
    """
    if not (folder.has_checkpoint and folder.interface.exists()):
        return {}
    now = _interface(environment, config)
    before = now.read(folder.interface)
    names = [name for name in ("observation_space", "action_space") if getattr(before, name) != getattr(now, name)]
    changes = {name.replace("_", " "): (getattr(before, name), getattr(now, name)) for name in names}
    if changes and not config.allow_config_change:
        lines = " and ".join(f"its {name} was {old} and is {new} now" for name, (old, new) in changes.items())
        raise ConfigChangedError(
            f"{folder.path} was started with another environment: {lines}. Use the old one, or another --logdir "
            f"(--init-from {folder.path} takes over the parameters that fit)."
        )
    return {name: f"{old} -> {new}" for name, (old, new) in changes.items()}


def keep(config: Config, environment: Described, folder: RunFolder) -> None:
    """Writes the resolved configuration, and the environment's spaces for `dreamer.load`, into the run's folder."""
    _write_whole(folder.config, to_yaml(_to_keep(config, folder)))
    _interface(environment, config).write(folder.interface)


def _to_keep(config: Config, folder: RunFolder) -> Config:
    """Without what holds for one start only; where a run began does not change when a later command leaves it out."""
    began = config.init_from
    if folder.has_checkpoint and folder.config.exists():
        began = began or from_yaml(folder.config, problems=[]).init_from
    return dataclasses.replace(config, allow_config_change=False, init_from=began, hosts=HostsConfig())


def _interface(environment: Described, config: Config) -> Interface:
    from envs.space_json import Interface

    return Interface.of(environment, settings=config.environment)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
