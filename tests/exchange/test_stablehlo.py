"""A policy as a program that runs where there is no dreamer. Slow: flatbuffers is no part of the gate."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from gymnasium import spaces

import dreamer
from dreamer import export
from dreamer.train import main
from envs.codec import ActionCodec, ObservationCodec

pytestmark = pytest.mark.slow
NEEDED = ("jax", "jaxlib", "numpy", "ml_dtypes", "scipy", "opt_einsum", "flatbuffers")  # JAX, what it needs, and that
STEPS = 12

ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib.util, json
assert importlib.util.find_spec("dreamer") is None and importlib.util.find_spec("envs") is None
assert importlib.util.find_spec("flax") is None and importlib.util.find_spec("gymnasium") is None
import jax, numpy as np
policy = jax.export.deserialize(bytearray(open(sys.argv[2], "rb").read()))
words = json.load(open(sys.argv[2] + ".json"))
given = np.load(sys.argv[3])
observations = {name[4:]: given[name] for name in given.files if name.startswith("obs/")}
num = len(given["is_first"][0])
def zeros(spec):
    dtype, shape = spec.rstrip("]").split("[")
    return np.zeros([num if side == "N" else int(side) for side in shape.split(", ")], dtype)
carry = {name: zeros(spec) for name, spec in words["inputs"]["carry"]["arrays"].items()}
chosen = {}
for step, is_first in enumerate(given["is_first"]):
    now = {name: array[step] for name, array in observations.items()}
    action, carry = policy.call(now, carry, is_first, given["key"], np.uint32(step), np.bool_(given["deterministic"]))
    for name, array in action.items():
        chosen.setdefault(name, []).append(np.asarray(array))
assert "dreamer" not in sys.modules
np.savez(sys.argv[4], **{name: np.stack(arrays) for name, arrays in chosen.items()})
"""


@pytest.fixture(scope="module")
def bare(extras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with JAX, what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None:  # newer versions of JAX need fewer packages
            continue
        assert spec.origin is not None
        package = Path(spec.origin).parent
        (folder / name).symlink_to(package)
        for libraries in package.parent.glob(f"{name}.libs"):
            (folder / libraries.name).symlink_to(libraries)
    return folder


@pytest.fixture(scope="module")
def dummy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an image, vectors and symbols, whose actions are of every kind."""
    folder = tmp_path_factory.mktemp("runs") / "everything"
    arguments = ["--env", "tests.exchange.everything:Everything", "--preset", "debug", "--steps", "90"]
    assert main([*arguments, "--replay.batch-size", "2", "--logdir", str(folder), "--log.quiet"]) == 0
    return folder


def run_elsewhere(bare: Path, program: Path, given: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """What the program chooses in a process that has neither this project nor its environment's packages."""
    np.savez(folder / "given.npz", **given)
    words = [sys.executable, "-I", "-S", "-c", ELSEWHERE, bare, program, folder / "given.npz", folder / "chosen.npz"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "chosen.npz") as chosen:
        return dict(chosen)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("source", ["run", "dummy"])
def test_it_acts_as_the_agent_does(source, deterministic, bare, extras, tmp_path, request):
    """Over two episodes of three environments, of which one begins later, the memory carried from step to step."""
    trained = request.getfixturevalue(source)
    assert export.main([str(trained), "--stablehlo", str(tmp_path / "policy.stablehlo")]) == 0
    agent, rng, num = dreamer.load(trained, seed=7), np.random.default_rng(1), 3
    codec = ObservationCodec(agent.observation_space)
    agent.observation_space.seed(5)
    native = [[agent.observation_space.sample() for _ in range(num)] for _ in range(STEPS)]
    encoded = [[codec.encode(bounded(one, rng)) for one in row] for row in native]
    flat = [{key: np.stack([one[key] for one in row]) for key in codec.spec} for row in encoded]
    is_first = np.zeros((STEPS, num), bool)
    is_first[0] = is_first[7] = is_first[4, 1] = True

    state, key, expected = None, None, []
    for observation, first in zip(flat, is_first, strict=True):
        action, state = agent.predict(codec.decode(observation), state, first, deterministic=deterministic)
        key = jax.random.key_data(state.key)
        expected.append(leaves_of(agent.action_space, action))
    given = {f"obs/{key}": np.stack([row[key] for row in flat]) for key in codec.spec}
    given |= {"is_first": is_first, "key": np.asarray(key), "deterministic": np.asarray(deterministic)}
    found = run_elsewhere(bare, tmp_path / "policy.stablehlo", given, tmp_path)

    assert found.keys() == expected[0].keys()
    for name, array in found.items():
        wanted = np.stack([row[name] for row in expected])
        if np.issubdtype(wanted.dtype, np.integer):
            np.testing.assert_array_equal(array, wanted)
        else:
            np.testing.assert_allclose(array, wanted, atol=2e-5)


def test_what_it_takes_and_gives_is_described(run, extras, tmp_path):
    path = tmp_path / "deep" / "policy.stablehlo"
    assert export.main([str(run), "--stablehlo", str(path)]) == 0
    words = json.loads(path.with_name("policy.stablehlo.json").read_text())
    assert words["platforms"] == ["cpu", "cuda", "tpu"]
    assert words["env"] == "CartPole-v1"
    assert words["inputs"]["observation"]["arrays"] == {"state": "float32[N, 4]"}
    assert words["outputs"]["action"]["arrays"] == {"action": "int32[N]"}
    assert words["outputs"]["carry"]["arrays"] == words["inputs"]["carry"]["arrays"]


def test_nothing_is_written_over(run, extras, tmp_path, capsys):
    (tmp_path / "policy.json").write_text("mine")
    assert export.main([str(run), "--stablehlo", str(tmp_path / "policy")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]


def bounded(observation, rng):
    """A sample without the huge numbers that gymnasium draws for open bounds."""
    if isinstance(observation, dict):
        return {name: bounded(child, rng) for name, child in observation.items()}
    if np.issubdtype(np.asarray(observation).dtype, np.floating):
        return rng.normal(size=observation.shape).astype(observation.dtype)
    return observation


def leaves_of(space: spaces.Space, action) -> dict[str, np.ndarray]:
    """Parts of an action by key."""
    found = {}
    for key in ActionCodec(space).spec:
        part = action
        for name in key.split("/") if isinstance(space, spaces.Dict) else ():
            part = part[name]
        found[key] = np.asarray(part)
    return found
