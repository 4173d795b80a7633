"""What the README says about files, names, flags and numbers is so."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from dreamer import cli, evaluate, export, report
from dreamer.config import Config
from dreamer.data.layout import StepLayout
from dreamer.doctor import __main__ as doctor
from dreamer.play import __main__ as play
from dreamer.presets import all_kinds, flatten
from dreamer.training import signals
from dreamer.validation import resolve
from envs.check import __main__ as check_command
from envs.spaces import ImageSpec
from experiments import plot
from experiments import table as table_command
from experiments.sweep import __main__ as sweep
from tests.faults import kill_loop
from tests.readme.document import REPOSITORY, TEXT, blocks, commands, flags, links, table

TOP = ("dreamer", "envs", "configs", "experiments", "tests")
FILES = sorted(set(re.findall(rf"(?<![\w/.])(?:{'|'.join(TOP)})/(?![A-Z])[\w./-]*\w", TEXT)))  # no `dreamer/Dream-v0`
FROM_PARAM_COUNTS = ("atari_96x96x1_18_actions", "atari100k_64x64x3_6_actions", "dmc_walker_walk_proprio")


def number(cell: str) -> int:
    return int(re.sub(r"\D", "", cell))


def definitions(path: Path) -> set[str]:
    """`name` and `Class.method` of everything that a file defines at its top and one level below."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{member.name}" for member in node.body if isinstance(member, ast.FunctionDef)}
    return names


def test_the_two_commands_stand_on_lines_of_their_own():
    lines = TEXT.splitlines()
    assert "pip install -e . && python -m dreamer.train --env atari_pong" in lines
    assert "pip install -e '.[test]' && pytest" in lines


def test_it_is_read_in_ten_minutes():
    prose = re.sub(r"^```.*?^```$|^\|.*?$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) < 2200


@pytest.mark.parametrize("path", FILES)
def test_every_file_exists(path):
    assert (REPOSITORY / path).exists() or (REPOSITORY / "tests" / path).exists()  # the latter: of the promises


@pytest.mark.parametrize(("folder", "text", "target"), links())
def test_every_link_leads_somewhere(folder, text, target):
    path = REPOSITORY / folder / target
    assert path.exists()
    if re.fullmatch(r"`[\w.]+`", text):
        assert text.strip("`") in definitions(path)


@pytest.mark.parametrize("arguments", commands("dreamer.train"), ids=" ".join)
def test_every_training_command_parses(arguments):
    if "--help" in arguments:
        return
    assert cli.parse(arguments).env == arguments[arguments.index("--env") + 1]


@pytest.mark.parametrize("arguments", [words for words in commands("dreamer.evaluate") if words], ids=" ".join)
def test_every_evaluation_command_parses(arguments):
    assert str(evaluate.parse(arguments).run) == arguments[0]


PARSERS = (
    *(command.parse for command in (evaluate, export, report, doctor, check_command, play, sweep)),
    *(table_command.main, plot.main, kill_loop.main),
)


def test_every_flag_exists(capsys):
    for parse in PARSERS:
        with pytest.raises(SystemExit):
            parse(["--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    known |= {f"--{name.replace('_', '-')}" for name in all_kinds()}
    assert flags() - known == {"--help"} - known


def test_the_doctors_example_shows_every_check():
    example = next(block for block in blocks("") if "python -m dreamer.doctor" in block)
    width = max(map(len, doctor.CHECKS))
    names = [line[:width].strip() for line in example.partition("\n\n")[0].splitlines()[1:]]
    assert list(filter(None, names)) == list(doctor.CHECKS)


def test_seven_knobs_are_explained():
    knobs = [row[0].strip("`").removeprefix("--").replace("-", "_") for row in table("knob")]
    assert len(knobs) == 7
    assert set(knobs) <= flatten(Config()).keys()


@pytest.mark.parametrize("name", [row[0].split("`")[1] for row in table("`--env`")])
def test_every_kind_of_environment_has_a_preset(name):
    assert resolve({"env": name}).env == name


@pytest.mark.parametrize("code", blocks("python"), ids=["dream", "environment", "api"])
def test_python_compiles(code):
    compile(code, "README.md", "exec")


@pytest.mark.parametrize("row", table("size"), ids=lambda row: row[0])
def test_sizes_are_exact(row):
    size, deter, *counts, step_bytes, total = row
    golden = json.loads((REPOSITORY / "tests/golden/data/param_counts.json").read_text())
    assert [number(cell) for cell in counts] == [golden[task][size]["total"] for task in FROM_PARAM_COUNTS]
    rssm = resolve({"env": "atari_pong", "size": size}).world.rssm
    assert number(deter) == rssm.deter
    layout = StepLayout({"image": ImageSpec(96, 96, 1)}, action=18, deter=rssm.deter, stoch=rssm.stoch)
    assert number(step_bytes) == layout.bytes_per_step
    assert number(total) == round(layout.bytes_per_step * 5e6 / 1e9)


def test_all_sizes_are_listed():
    sizes = sorted(path.stem for path in (REPOSITORY / "configs/sizes").glob("*.yaml"))
    assert sorted(row[0] for row in table("size")) == sizes


def test_the_ratio_in_words_is_that_of_atari100k():
    config = resolve({"env": "atari100k_pong"})
    agent_steps = config.replay.batch_size * config.replay.batch_length / config.train_ratio
    assert "one update per 8 agent steps, 32 frames" in TEXT
    assert (agent_steps, agent_steps * (config.environment.action_repeat or 0)) == (8, 32)


def test_exit_codes_are_those_of_the_signals():
    documented = {code for row in table("exit code") for code in map(int, row[0].split(","))}
    of_signals = {128 + number for number in signals._SIGNALS}
    assert documented == {0, 1, cli.BAD_USAGE} | of_signals
