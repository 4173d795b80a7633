"""Ray is imported by runs that ask for it, and what keeps it from being used is said in a sentence."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer.config import RayConfig, host_and_port
from dreamer.presets import ConfigError
from dreamer.remote import cluster
from dreamer.remote.cluster import ClusterError
from dreamer.train import main
from dreamer.validation import resolve

REPOSITORY = Path(__file__).resolve().parents[2]
ASKING = ["--env", "CartPole-v1", "--preset", "debug", "--environment.num-envs", "4", "--ray.collectors", "2"]
ONE_PROCESS = """
import contextlib, sys
from pathlib import Path
from dreamer.train import begin
from dreamer.training.hosts import Hosts
from dreamer.training.run_folder import RunFolder
from dreamer.validation import resolve

config = resolve({"env": "CartPole-v1", "preset": "debug"})
with RunFolder(Path(sys.argv[1])) as folder, contextlib.ExitStack() as parts:
    begin(config, folder=folder, env=config.env, hosts=Hosts(), parts=parts)
print([name for name in sys.modules if name.partition(".")[0] == "ray"])
"""


def test_a_run_without_collectors_does_not_import_ray(tmp_path: Path):
    """A module of that name lies in the way, so that this holds where Ray is not installed, too."""
    (tmp_path / "ray.py").touch()
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", ONE_PROCESS, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_a_function_imports_ray():
    tree = ast.parse(Path(cluster.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import) and node.names[0].name == "ray"]
    assert len(imports) == 1
    assert not set(imports) & set(tree.body)


def test_a_missing_package_is_named_at_the_start(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*ASKING, "--logdir", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == (
        "error: --ray.collectors needs Ray: pip install -e '.[ray]', or leave the flag out.\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_address_where_nobody_answers_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterError, match=rf"--ray.address {address}: nobody answers there \(.*refused"):
            cluster._require_answer(address, flag="--ray.address")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ray.collectors": -1}, "--ray.collectors must be 0 or more, not -1"),
        ({"ray.round": 0}, "--ray.round must be above 0, not 0"),
        ({"ray.collectors": 3}, "--environment.num-envs 4 cannot be shared evenly by --ray.collectors 3: 6 could"),
        ({"ray.collectors": 2, "ray.timeout": 60}, "--ray.timeout 60 must be above --environment.step-timeout 120"),
        (
            {"ray.address": "ray://head:10001"},
            "--ray.address: expected local, auto or HOST:PORT, not 'ray://head:10001'",
        ),
        ({"ray.address": "head"}, "expected local, auto or HOST:PORT, not 'head'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        resolve({"env": "CartPole-v1", "environment.num_envs": 4, **settings})


def test_addresses_are_read():
    assert host_and_port("10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert host_and_port("[::1]:6379") == ("::1", 6379)
    assert RayConfig().address == cluster.LOCAL
