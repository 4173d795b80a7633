"""When the cores of a CPU become devices, and that the update on them is what it is on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer.cores import mesh_of, wanted_devices
from dreamer.validation import resolve
from envs.spaces import ImageSpec, VectorSpec

VECTORS, IMAGES = {"state": VectorSpec(4)}, {"image": ImageSpec(64, 64, 3)}


@pytest.mark.parametrize(
    ("overrides", "spec", "devices"),
    [
        ({}, VECTORS, 4),
        ({"replay": {"batch_size": 6}}, VECTORS, 3),
        ({"replay": {"batch_size": 2}}, VECTORS, 2),
        ({}, IMAGES, 1),
        ({"size": "12m"}, VECTORS, 1),
        ({"size": "12m", "mesh": "data=2,model=4"}, IMAGES, 8),
        ({"mesh": "data=1"}, VECTORS, 1),
    ],
)
def test_a_device_for_each_of_four_cores(overrides: dict, spec: dict, devices: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    config = resolve({"env": "CartPole-v1", "size": "1m"} | overrides)
    assert wanted_devices(config, spec, cores=4) == devices


def test_where_jax_has_started_there_is_no_mesh():
    assert mesh_of(resolve({"env": "CartPole-v1"})) == ""


@pytest.mark.slow
def test_a_run_on_two_cores_learns_the_same(tmp_path: Path):
    """The first updates of two runs that differ in the number of devices alone; later ones differ by roundings."""
    losses = {}
    for mesh in ("data=1", "data=2"):
        command = [sys.executable, "-m", "dreamer.train", "--env", "CartPole-v1", "--preset", "debug", "--mesh", mesh]
        command += ["--steps", "84", "--log.quiet", "--logdir", str(tmp_path / mesh)]
        environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        subprocess.run(command, check=True, env=environment)
        row = json.loads((tmp_path / mesh / "metrics.jsonl").read_text().splitlines()[-1])
        losses[mesh] = {name: value for name, value in row.items() if name.startswith("loss/")}
        assert row["updates"] >= 1
    assert losses["data=1"].keys() == losses["data=2"].keys()
    for name, value in losses["data=1"].items():
        assert losses["data=2"][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
