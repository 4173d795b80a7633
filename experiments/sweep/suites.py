"""Suites: `experiments/suites/*.yaml`, strictly read. Data only; what they hold is the field list of `Suite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dreamer.presets import did_you_mean
from dreamer.protocols import Protocol, ProtocolError, find_protocol

FOLDER = Path(__file__).resolve().parents[1] / "suites"
REQUIRED = ("protocol", "seeds", "steps", "tasks")


class SuiteError(ValueError):
    """A suite, or what was asked of it, is wrong; the message names the file or the task."""


@dataclass(frozen=True)
class Suite:
    """Tasks that are trained alike.

    Attributes:
        name: of the file, without its ending.
        protocol: by which they are scored.
        steps: of every trial, as `--steps` takes them.
        seeds: of every task.
        tasks: environments, as `--env` takes them.
        preset: as `--preset` takes it; empty: none.
        overrides: further settings of a training, by their dotted names.
        variants: by name, settings on top of those: every task is trained with each of them; none: once, as it is.
    """

    name: str
    protocol: Protocol
    steps: str
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    preset: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_suite(name: str) -> Suite:
    """The suite of a name in `experiments/suites`, or of a path to a YAML file.

    Raises:
        SuiteError: there is none, or it is not as it should be; every fault is named.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = suite_names()
        near = did_you_mean(name, names)
        hint = f"; did you mean {near}?" if near else ""
        raise SuiteError(f"no suite is called {name!r}{hint} (there are {', '.join(names)}; or a path to a .yaml file)")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise SuiteError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SuiteError(f"{path}: expected settings, one `name: value` a line")
    known = [item.name for item in fields(Suite) if item.name != "name"]
    for key in values:
        if key not in known:
            near = did_you_mean(str(key), known)
            hint = f"; did you mean {near}?" if near else ""
            raise SuiteError(f"{path}: unknown setting {key!r}{hint} (valid: {', '.join(known)})")
    if missing := [key for key in REQUIRED if key not in values]:
        raise SuiteError(f"{path}: {', '.join(missing)} is missing")
    return _checked(path, values)


def suite_names() -> list[str]:
    """The shipped suites."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def parse_seeds(text: object) -> tuple[int, ...]:
    """Seeds from `0-4`, `0,2,5`, `1,4-6`, a number, or a list of numbers.

    Raises:
        ValueError: it is none of these.
    """
    parts = text if isinstance(text, list) else str(text).split(",")
    seeds: list[int] = []
    for part in parts:
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(part).strip())
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(f"expected seeds such as 0-4 or 0,2,5, not {text!r}")
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    return tuple(dict.fromkeys(seeds))


def _checked(path: Path, values: dict[str, Any]) -> Suite:
    tasks, overrides, variants = values["tasks"], values.get("overrides") or {}, values.get("variants") or {}
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) and task for task in tasks):
        raise SuiteError(f"{path}: tasks must be a list of environments")
    if twice := sorted({task for task in tasks if tasks.count(task) > 1}):
        raise SuiteError(f"{path}: {', '.join(twice)} stands in tasks twice")
    if not isinstance(overrides, dict):
        raise SuiteError(f"{path}: overrides must be settings, one `name: value` a line")
    if not isinstance(variants, dict) or not all(isinstance(changes or {}, dict) for changes in variants.values()):
        raise SuiteError(f"{path}: variants must be names, and below each its settings, one `name: value` a line")
    if odd := [str(name) for name in variants if not re.fullmatch(r"[\w.-]+", str(name))]:
        raise SuiteError(f"{path}: variants become folders, so that {', '.join(odd)} must be of letters, digits, _ . -")
    if not isinstance(values["steps"], str | int) or not isinstance(values.get("preset", ""), str):
        raise SuiteError(f"{path}: steps and preset must be text, such as 400k_frames and debug")
    try:
        protocol, seeds = find_protocol(str(values["protocol"])), parse_seeds(values["seeds"])
    except (ProtocolError, ValueError) as error:
        raise SuiteError(f"{path}: {error}") from error
    return Suite(
        name=path.stem,
        protocol=protocol,
        steps=str(values["steps"]),
        seeds=seeds,
        tasks=tuple(tasks),
        preset=values.get("preset", ""),
        overrides=_dotted(overrides),
        variants={str(name): _dotted(changes or {}) for name, changes in variants.items()},
    )


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
