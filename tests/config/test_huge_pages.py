"""Large memory pages: a command asks for them once, keeps its arguments, and never where it would change nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dreamer.huge_pages import HUGE_PAGES, TUNABLES, asking_helps

SCRIPT = """
import os, sys
from dreamer import huge_pages
huge_pages.asking_helps = lambda: True
with open(sys.argv[1], "a") as file:
    print(os.getpid(), sys.argv[2], os.environ.get(huge_pages.TUNABLES), file=file)
huge_pages.restart_with_huge_pages()
"""


def starts(tmp_path, **variables: str) -> list[list[str]]:
    """Process id, argument and tunables of every start of the script."""
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != TUNABLES} | variables
    environment["PYTHONPATH"] = os.getcwd()
    subprocess.run([sys.executable, script, log, "argument"], check=True, env=environment)
    return [line.split() for line in log.read_text().splitlines()]


def test_the_same_command_starts_once_more_in_the_same_process(tmp_path):
    first, second = starts(tmp_path)
    assert first[:2] == second[:2]
    assert first[2] == "None"
    assert second[2] == f"{HUGE_PAGES}=1"


def test_other_tunables_stay(tmp_path):
    other = "glibc.malloc.arena_max=4"
    assert starts(tmp_path, **{TUNABLES: other})[-1][2] == f"{other}:{HUGE_PAGES}=1"


def test_a_choice_already_made_is_respected(tmp_path):
    assert len(starts(tmp_path, **{TUNABLES: f"{HUGE_PAGES}=0"})) == 1


@pytest.mark.parametrize(("text", "helps"), [("always madvise [never]", False), ("[always] madvise never", False)])
def test_where_the_kernel_does_not_listen_nothing_is_asked(tmp_path, text, helps):
    (tmp_path / "enabled").write_text(text)
    assert asking_helps(tmp_path / "enabled") is helps


def test_a_system_without_the_file(tmp_path):
    assert not asking_helps(tmp_path / "missing")
