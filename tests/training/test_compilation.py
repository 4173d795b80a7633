"""The second start of a run finds every program compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COUNT_MISSES = """
import json
import sys

import jax

misses = []
jax.monitoring.register_event_listener(lambda name, **_: misses.append(name) if name.endswith("cache_misses") else None)
"""
TRAIN = """
from dreamer.train import main

code = main(["--env", "CartPole-v1", "--preset", "debug", "--steps", "300_agent", "--logdir", sys.argv[1]])
print(json.dumps({"code": code, "misses": len(misses)}))
"""
ONE_FUNCTION = """
from dreamer.training.compilation import cache_compilations

folder = cache_compilations()
value = float(jax.jit(lambda x: jax.numpy.sin(x) * 2)(1.0))
print(json.dumps({"folder": str(folder), "value": value, "misses": len(misses)}))
"""


def start(program: str, *arguments: str, cache: Path) -> dict[str, Any]:
    variables = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    variables |= {"XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", COUNT_MISSES + program, *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_second_start_compiles_nothing(tmp_path: Path):
    """Two runs of one configuration, in two processes, with an empty cache before the first."""
    first, second = (start(TRAIN, str(tmp_path / name), cache=tmp_path / "cache") for name in ("first", "second"))
    assert first["code"] == second["code"] == 0
    assert first["misses"] > 2
    assert second["misses"] == 0


def test_a_damaged_entry_is_compiled_again(tmp_path: Path):
    """Half an entry, as a power cut leaves it."""
    before = start(ONE_FUNCTION, cache=tmp_path)
    entries = list(tmp_path.rglob("*-cache"))
    assert entries
    assert start(ONE_FUNCTION, cache=tmp_path)["misses"] == 0
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    after = start(ONE_FUNCTION, cache=tmp_path)
    assert after["misses"] > 0
    assert after["value"] == before["value"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path):
    """A file where the cache should be: everything works without one."""
    (tmp_path / "cache").write_text("in the way")
    assert start(ONE_FUNCTION, cache=tmp_path / "cache")["folder"] == "None"
