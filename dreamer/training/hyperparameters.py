"""What of a configuration decides the result of a run, flat, for tools that compare the runs of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from dreamer.config import Config

BOOKKEEPING = (  # how a run is watched, kept and continued
    *("logdir", "init_from", "allow_config_change", "preset", "log.", "checkpoint.", "hosts."),
    *("replay.max_lost", "replay.save_latents_limit", "optimizer.max_skipped"),
    *("environment.workers", "environment.step_timeout", "environment.max_restarts"),
)


def hyperparameters(config: Config) -> dict[str, bool | float | str]:
    """Every setting but bookkeeping by its dotted name, `world.rssm.deter`.

    Those at their defaults, too: where a sweep varies a setting, the run that has the default must not show a blank.
    """
    return {name: _simple(value) for name, value in _flat(config) if not name.startswith(BOOKKEEPING)}


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def _simple(value: Any) -> bool | float | str:
    """Numbers as they are, tuples and None in words."""
    return value if isinstance(value, bool | int | float) else "suite" if value is None else str(value)
