"""The command line: `--env atari_pong --size 12m --world.rssm.deter 1024`, answered before JAX is imported.

tyro renders the help. The values take the road of every other layer (`dreamer.presets.merge`), because tyro stops at
the first wrong one and a user wants to see all of them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NoReturn, cast

import tyro
import yaml

from dreamer.config import Config
from dreamer.presets import all_kinds, did_you_mean, field_kinds, merge_layers
from dreamer.validation import find_problems

PROGRAM = "python -m dreamer.train"
BAD_USAGE = 2  # exit code
HELP_FLAGS = ("-h", "--help", "-H", "--help-verbose")

_COMMENTED_FIELD = re.compile(r"^    (\w+):[^#\n]*#\s*(.+)$", re.MULTILINE)
_DESCRIPTION = """Train DreamerV3 on an environment; the same command resumes the run.

  python -m dreamer.train --env atari_pong
  python -m dreamer.train --env CartPole-v1 --seed 1 --logdir runs/cartpole
  python -m dreamer.train --env dmc_walker_walk --size 25m --world.rssm.deter 1024

The defaults below are those of this command: its suite (by --env), --size and --preset included."""


def parse(argv: Sequence[str] | None = None) -> Config:
    """Read the configuration of a run from command-line arguments (default: those of this process).

    Exits with code 2 after listing every fault on stderr, and with code 0 after `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    help_flags = [argument for argument in arguments if argument in HELP_FLAGS]
    problems: list[str] = []
    overrides = read_arguments([word for word in arguments if word not in HELP_FLAGS], problems=problems)
    config = merge_layers(overrides, problems=problems)
    if help_flags:
        _print_help(config, flag=help_flags[0])
    problems += find_problems(config, given=overrides)
    if problems:
        reject(problems)
    return config


def read_arguments(arguments: Sequence[str], *, problems: list[str]) -> dict[str, Any]:
    """Turn `--a.b-c 1` and `--a.b-c=1` into dotted names and plain values; of a repeated flag the last one counts."""
    overrides = {}
    for flag, words in _group_by_flag(arguments, problems=problems):
        name = flag.removeprefix("--").replace("-", "_")
        kind = all_kinds().get(name)
        if kind is bool and not words:
            overrides[name] = True
        elif kind is not None and not words:
            problems.append(f"command line: {flag} needs a value")
        elif kind is not None and len(words) > 1 and "tuple" not in str(kind):
            problems.append(f"command line: {flag} takes one value, not {len(words)}: {' '.join(words)}")
        else:
            overrides[name] = _plain_value(words, kind)
    return overrides


def _group_by_flag(arguments: Sequence[str], *, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            groups.append((flag, [value] if equals else []))
        elif groups:
            groups[-1][1].append(argument)
        else:
            near = did_you_mean(argument.lstrip("-"), list(all_kinds())) or "env"
            hint = f"--{near}" if argument.startswith("-") else f"--env {argument}"
            problems.append(f"command line: {argument!r} belongs to no option; did you mean {hint}?")
    yield from groups


def _plain_value(words: list[str], kind: Any) -> Any:
    """Words as YAML would read them, or as they stand where text is wanted."""
    if kind is not None and "tuple" in str(kind):
        parts = [_scalar(part) for part in re.split(r"[\s,]+", " ".join(words).strip("[]()")) if part]
        return None if parts == [None] else parts
    text = " ".join(words)
    return text if kind is str or "Literal" in str(kind) else _scalar(text)


def _scalar(text: str) -> Any:
    try:
        return None if text == "None" else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def reject(problems: list[str]) -> NoReturn:
    """Lists every fault on stderr and exits with code 2."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    lines = "\n".join(f"  - {problem}" for problem in problems)
    print(f"{count} with the configuration:\n{lines}\nAll settings: {PROGRAM} --help", file=sys.stderr)
    raise SystemExit(BAD_USAGE)


def _print_help(config: Config, *, flag: str) -> NoReturn:
    """Show every setting on a line of its own, with its comment in `dreamer/config.py`, and exit."""
    registry = tyro.constructors.ConstructorRegistry()
    registry.struct_rule(_describe_section)
    tyro.cli(
        Config,
        prog=PROGRAM,
        description=_DESCRIPTION,
        args=[flag],
        default=config,
        compact_help=True,
        config=(tyro.conf.FlagConversionOff,),
        registry=registry,
    )
    raise SystemExit(0)


def _describe_section(
    info: tyro.constructors.StructTypeInfo,
) -> tyro.constructors.StructConstructorSpec | None:
    """Tell tyro a dataclass's fields with their comments as the hint that its compact help shows."""
    section = info.type
    if not dataclasses.is_dataclass(section) or not isinstance(section, type):
        return None
    comments = dict(_COMMENTED_FIELD.findall(inspect.getsource(section)))
    fields = tuple(
        tyro.constructors.StructFieldSpec(
            name=key,
            type=cast("type", Annotated[kind, tyro.conf.arg(help_behavior_hint=_hint(comments.get(key, "")))]),
            default=getattr(info.default, key),
        )
        for key, kind in field_kinds(section).items()
    )
    return tyro.constructors.StructConstructorSpec(instantiate=section, fields=fields)


def _hint(comment: str) -> Any:
    return lambda default: f"{comment} [{default}]".strip()
