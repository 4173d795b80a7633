"""Layers of configuration: dataclass defaults < suite < size < preset < command line, merged strictly.

Every layer, the command line included, is nested data and takes the same road: `merge` knows the valid keys and types
from the dataclasses and collects every fault, so that a user sees all of them at once, before JAX is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from dreamer.config import Config

C = TypeVar("C")

CLASSIC_CONTROL = ("CartPole-", "Acrobot-", "MountainCar-", "MountainCarContinuous-", "Pendulum-")
COMMAND_LINE = "command line"

# The first prefix that fits names the suite, so the longer ones come first.
_SUITE_PREFIXES = (
    ("atari100k_", "atari100k"),
    ("atari_", "atari"),
    ("dmc_vision_", "dmc_vision"),
    ("dmc_", "dmc"),
    *((name, "classic") for name in CLASSIC_CONTROL),
)
# PyYAML, true to YAML 1.1, reads a number such as 1e6 or 1e-4 as text.
_EXPONENT_NOTATION = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class ConfigError(ValueError):
    """A configuration that cannot run; `problems` lists every fault found, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Layer(NamedTuple):
    """Nested values, `{"world": {"rssm": {"deter": 1024}}}`, and where they were written."""

    source: str
    values: Mapping[str, Any]

    def spell(self, name: str) -> str:
        """A dotted name as one would write it in this layer."""
        return f"--{name.replace('_', '-')}" if self.source == COMMAND_LINE else name


def suite_of(env: str) -> str:
    """Name of the suite, a file of `configs/suites`, to which an environment belongs."""
    return next((suite for prefix, suite in _SUITE_PREFIXES if env.startswith(prefix)), "gym")


def config_root() -> Path:
    """The folder of the YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def merge_layers(overrides: Mapping[str, Any], *, problems: list[str]) -> Config:
    """Build the configuration of a run from all layers.

    Args:
        overrides: dotted names to values, the strongest layer; `env`, `size` and `preset` in it choose the others.
        problems: every unknown key and every value of a wrong type is appended here, and left out of the result.
    """
    preset = _preset_layer(str(overrides.get("preset", "")), problems=problems)
    suite = _shipped_layer("suites", suite_of(str(overrides.get("env", preset.values.get("env", "")))))
    chosen = [values["size"] for values in (overrides, preset.values, suite.values) if "size" in values]
    size = _shipped_layer("sizes", str(chosen[0]) if chosen else Config.size)
    _check_size_agrees(overrides, preset, size, problems=problems)
    config = Config()
    for layer in (suite, size, preset):
        config = merge(config, layer, problems=problems)
    for name, value in overrides.items():
        config = merge(config, Layer(COMMAND_LINE, nest({name: value})), problems=problems)
    return config


def merge(config: C, layer: Layer, *, problems: list[str], prefix: str = "") -> C:
    """Return `config` with the layer's values in place; append a sentence to `problems` for each that does not fit."""
    kinds = field_kinds(type(config))
    changes = {}
    for key, value in layer.values.items():
        name = f"{prefix}{key}"
        section = getattr(config, key, None) if key in kinds else None
        if key not in kinds:
            problems.append(_unknown(name, layer, siblings=list(kinds), prefix=prefix))
        elif not dataclasses.is_dataclass(section):
            try:
                changes[key] = coerce(value, kinds[key])
            except ValueError as error:
                problems.append(f"{layer.source}: {layer.spell(name)} expects {error}")
        elif isinstance(value, Mapping):
            changes[key] = merge(section, Layer(layer.source, value), problems=problems, prefix=f"{name}.")
        else:
            example = layer.spell(f"{name}.{next(iter(field_kinds(type(section))))}")
            problems.append(f"{layer.source}: {layer.spell(name)} is a group of settings; set one of it, as {example}")
    return dataclasses.replace(config, **changes)  # pyright: ignore[reportArgumentType]


def coerce(value: object, kind: Any) -> object:
    """Return `value` as the annotated type `kind`, where nothing is lost by it.

    Raises:
        ValueError: saying what was expected and what was found.
    """
    options = typing.get_args(kind)
    if typing.get_origin(kind) is types.UnionType:
        return None if value is None else coerce(value, next(option for option in options if option is not type(None)))
    if typing.get_origin(kind) is typing.Literal:
        return _one_of(value, options)
    if typing.get_origin(kind) is tuple:
        return _tuple_of(value, options)
    if isinstance(value, str) and kind in (int, float) and _EXPONENT_NOTATION.fullmatch(value):
        value = float(value)
        value = int(value) if kind is int and value.is_integer() else value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        words = {int: "an integer", float: "a number", bool: "true or false", str: "text (in quotes)"}
        raise ValueError(f"{words[kind]}, not {value!r}")
    return value


def flatten(config: object, *, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, in the order of the dataclasses."""
    flat = {}
    for key in field_kinds(type(config)):
        value = getattr(config, key)
        name = f"{prefix}{key}"
        flat |= flatten(value, prefix=f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, for plain data: `{"a.b": 1}` becomes `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        section = nested
        for key in path:
            section = section.setdefault(key, {})
        section[last] = value
    return nested


@cache
def all_kinds() -> dict[str, Any]:
    """The annotated type of every setting, by dotted name."""
    return dict(_walk_kinds(Config, ""))


@cache
def field_kinds(section: type) -> dict[str, Any]:
    """The annotated types of a dataclass's fields, resolved."""
    return typing.get_type_hints(section)


def to_yaml(config: Config) -> str:
    """The whole configuration as text; `from_yaml` gives back an equal one."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in flatten(config).items()}
    header = "# The resolved configuration of this run. `--preset <this file>` starts another with the same.\n"
    return header + yaml.safe_dump(nest(plain), sort_keys=False)


def from_yaml(path: Path | str, *, problems: list[str] | None = None) -> Config:
    """Read a configuration written by `to_yaml`; a setting that the file lacks keeps its default.

    Args:
        path: the file.
        problems: where given, gets a sentence for everything that cannot be read, which is left out of the result.

    Raises:
        ConfigError: with every unknown key and every value of a wrong type, where `problems` is not given.
    """
    found: list[str] = []
    config = merge(Config(), _read_layer(Path(path), problems=found), problems=found)
    if problems is not None:
        problems += found
    elif found:
        raise ConfigError(found)
    return config


def diff(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by dotted name, as `(value before, value after)`."""
    old, new = flatten(before), flatten(after)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def did_you_mean(word: str, candidates: list[str]) -> str:
    """The candidate nearest to `word`, or an empty string."""
    return next(iter(difflib.get_close_matches(word, candidates, n=1)), "")


def _walk_kinds(section: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, kind in field_kinds(section).items():
        if dataclasses.is_dataclass(kind):
            yield from _walk_kinds(typing.cast("type", kind), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", kind


def _unknown(name: str, layer: Layer, *, siblings: list[str], prefix: str) -> str:
    """A sentence on an unknown key: the nearest known one (`--deter` is found in its group, too) and the valid ones."""
    last = name.rsplit(".", 1)[-1]
    by_last = {full.rsplit(".", 1)[-1]: full for full in reversed(all_kinds())}
    sibling = did_you_mean(last, siblings)
    elsewhere = did_you_mean(name, list(all_kinds())) or by_last.get(did_you_mean(last, list(by_last)), "")
    near = f"{prefix}{sibling}" if sibling else elsewhere
    hint = f"; did you mean {layer.spell(near)}?" if near else ""
    place = f"in {prefix.removesuffix('.')}" if prefix else "at the top"
    valid = ", ".join(layer.spell(key).removeprefix("--") for key in siblings)
    return f"{layer.source}: unknown setting {layer.spell(name)}{hint} (valid {place}: {valid})"


def _one_of(value: object, options: tuple[Any, ...]) -> object:
    if value in options:
        return value
    near = did_you_mean(str(value), [str(option) for option in options])
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(f"one of {', '.join(map(str, options))}, not {value!r}{hint}")


def _tuple_of(value: object, options: tuple[Any, ...]) -> tuple[object, ...]:
    """A list as `tuple[int, int]` or as `tuple[int, ...]`."""
    length = None if Ellipsis in options else len(options)
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        raise ValueError(f"{'a list of' if length is None else length} integers, not {value!r}")
    return tuple(coerce(part, options[0]) for part in value)


def _shipped_layer(folder: str, name: str) -> Layer:
    """A file of `configs/`; a size that does not exist gives an empty layer, as its key's own check reports it."""
    path = config_root() / folder / f"{name}.yaml"
    if not path.is_file():
        return Layer(f"configs/{folder}/{name}.yaml", {})
    return Layer(f"configs/{folder}/{name}.yaml", yaml.safe_load(path.read_text()))


def _preset_layer(preset: str, *, problems: list[str]) -> Layer:
    """The preset's file: a name in `configs/presets`, or a path, which ends in .yaml."""
    if not preset:
        return Layer("preset", {})
    shipped = config_root() / "presets"
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else shipped / f"{preset}.yaml"
    if path.is_file():
        return _read_layer(path, problems=problems)
    names = sorted(file.stem for file in shipped.glob("*.yaml"))
    near = did_you_mean(preset, names)
    hint = f"; did you mean {near}?" if near else ""
    problems.append(f"--preset {preset}: no such preset{hint} (shipped: {', '.join(names)}; or a path to a .yaml file)")
    return Layer("preset", {})


def _read_layer(path: Path, *, problems: list[str]) -> Layer:
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        problems.append(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}")
        return Layer(str(path), {})
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        problems.append(f"{path}: expected settings, one `name: value` a line")
        return Layer(str(path), {})
    return Layer(str(path), values)


def _check_size_agrees(overrides: Mapping[str, Any], preset: Layer, size: Layer, *, problems: list[str]) -> None:
    """A preset that names a size *and* its widths (a run's config.yaml) would silently win over another `--size`."""
    sizes = overrides.get("size"), preset.values.get("size")
    if None in sizes or sizes[0] == sizes[1]:
        return
    widths = sorted(_leaf_names(preset.values) & _leaf_names(size.values))
    if widths:
        problems.append(
            f"--size {sizes[0]} contradicts {preset.source}, which sets size {sizes[1]} and its widths "
            f"({', '.join(widths[:3])}, ...): leave one of them out"
        )


def _leaf_names(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    names: set[str] = set()
    for key, value in values.items():
        name = f"{prefix}{key}"
        names |= _leaf_names(value, f"{name}.") if isinstance(value, Mapping) else {name}
    return names
