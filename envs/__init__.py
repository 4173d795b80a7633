"""Environments behind one interface: `envs.make(name, num_envs=..., seed=...)` gives an `envs.Environment`.

Importing this package is cheap: gymnasium and the simulators are imported when an environment is made.

Files, in reading order: `spaces` (the vocabulary), `environment` (the interface), `registry` (names), `codec` and
`image` (spaces to arrays and back), `loop` (simulators of this process), `vector` (gymnasium vector environments),
`spawn` (worker processes), then the suites `gym`, `atari` with `atari_protocol`, `atari_fork` and `area`, `dmc` with
`rendering`, and the test environments `dummy` and `probe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.environment import Environment, EnvironmentFault, EnvSettings
    from envs.registry import make, register_gymnasium

__all__ = ["EnvSettings", "Environment", "EnvironmentFault", "make", "register_gymnasium"]

_HOME = {
    "EnvSettings": "envs.environment",
    "Environment": "envs.environment",
    "EnvironmentFault": "envs.environment",
    "make": "envs.registry",
    "register_gymnasium": "envs.registry",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'envs' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)
