from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dreamer.training.checkpoint import CheckpointError, Checkpoints, read_meta, restore
from dreamer.training.manifest import write_manifest
from tests.training.saving_loop import content

REPOSITORY = Path(__file__).resolve().parents[2]
SAVING_LOOP = Path(__file__).with_name("saving_loop.py")


class State(NamedTuple):
    params: Any
    opt_state: Any
    step: jax.Array
    key: jax.Array


def make_state(seed: int = 0, *, width: int = 8, dtype=jnp.float32) -> State:
    kernel = jax.random.normal(jax.random.key(seed), (4, width), dtype)
    opt_state = (jnp.ones((4, width)), {"count": np.asarray(3, np.int64)}, None)
    return State({"dense": {"kernel": kernel}}, opt_state, jnp.int32(seed), jax.random.key(seed))


def make_host(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    deter = rng.normal(size=(3, 5)).astype(ml_dtypes.bfloat16)
    return {"replay/deter": deter, "file": rng.integers(0, 9, 7), "empty": np.zeros((0, 2), np.uint8)}


def save(checkpoints: Checkpoints, step: int) -> Path:
    return checkpoints.save(step, arrays=make_state(step), host=make_host(step), meta={"agent_steps": step})


def abstract(state: State) -> State:
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, np.ndarray) else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state
    )


def assert_equal(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        as_data = jax.random.key_data if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else np.asarray
        np.testing.assert_array_equal(as_data(a), as_data(b))


def test_restores_what_was_saved(tmp_path):
    path = save(Checkpoints(tmp_path), 7)
    restored = restore(path, abstract_arrays=abstract(make_state()))
    assert isinstance(restored.arrays, State)
    assert_equal(restored.arrays, make_state(7))
    assert isinstance(restored.arrays.opt_state[1]["count"], np.ndarray)
    assert restored.host.keys() == make_host().keys()
    assert_equal(restored.host, make_host(7))
    assert restored.meta == read_meta(path) == {"agent_steps": 7}


def test_restores_a_part(tmp_path):
    path = save(Checkpoints(tmp_path), 7)
    wanted = abstract(make_state())
    wanted = wanted._replace(opt_state=jax.tree.map(lambda _: ..., wanted.opt_state))
    restored = restore(path, abstract_arrays=wanted).arrays
    assert_equal(restored.params, make_state(7).params)
    assert jax.tree.leaves(restored.opt_state) == [..., ...]


def test_restores_onto_the_wanted_sharding(tmp_path):
    """Eight simulated devices need a process of their own."""
    script = """
import sys, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from dreamer.training.checkpoint import Checkpoints, restore
mesh = Mesh(np.array(jax.devices()), ("data",))
split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
state = {"a": jax.device_put(np.arange(16.0), split), "key": jax.device_put(jax.random.key(1), whole)}
path = Checkpoints(sys.argv[1]).save(1, arrays=state, host={}, meta={})
turned = {"a": jax.ShapeDtypeStruct((16,), "float32", sharding=whole), "key": state["key"]}
restored = restore(path, abstract_arrays=turned).arrays
assert restored["a"].sharding == whole and (np.asarray(restored["a"]) == np.arange(16)).all()
alone = restore(path, abstract_arrays={"a": jax.ShapeDtypeStruct((16,), "float32"), "key": ...}).arrays
assert len(alone["a"].devices()) == 1
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=REPOSITORY, env=environment)


def test_keeps_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10):
        save(checkpoints, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000002", "000000000010"]
    assert checkpoints.latest() == tmp_path / "000000000010"


def test_saving_a_step_again_writes_over_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    first, second = save(checkpoints, 5), save(checkpoints, 5)
    assert first.exists()
    assert checkpoints.latest() == second != first


def test_a_new_run_has_none(tmp_path):
    assert Checkpoints(tmp_path / "checkpoints").latest() is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


FAULTS = [flip, truncate, Path.unlink]


def files_of(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_damage_to_any_file_is_named_and_the_previous_is_used(tmp_path, fault):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    good, newest = save(checkpoints, 1), save(checkpoints, 2)
    intact = tmp_path / "intact"
    shutil.copytree(newest, intact)
    names = [name for name in files_of(newest) if (newest / name).stat().st_size]  # an empty file has nothing to lose
    assert {"host.npz", "meta.json", "manifest.json"} < set(names)
    for name in names:
        fault(newest / name)
        with pytest.warns(UserWarning, match="000000000002 is ignored") as caught:
            assert Checkpoints(checkpoints.directory).latest() == good
        (warning,) = caught
        assert Path(name).name in str(warning.message)
        with pytest.raises(CheckpointError, match=Path(name).name):
            restore(newest, abstract_arrays=abstract(make_state()))
        shutil.rmtree(newest)
        shutil.copytree(intact, newest)


def test_junk_is_ignored_with_one_warning_each(tmp_path):
    good = save(Checkpoints(tmp_path), 1)
    (tmp_path / "9").mkdir()
    (tmp_path / "000000000009").mkdir()
    (tmp_path / "backup").mkdir()
    (tmp_path / "latest").touch()
    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="ignored") as caught:
        assert checkpoints.latest() == checkpoints.latest() == good
    assert len(caught) == 4


def test_the_words_of_every_checkpoint_are_at_hand(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    first, second, third = (save(checkpoints, step) for step in (1, 2, 3))
    (second / "meta.json").write_text("{")
    (third / "host.npz").unlink()  # nothing is verified
    assert Checkpoints(tmp_path).metas() == {third: {"agent_steps": 3}, first: {"agent_steps": 1}}


def test_a_damaged_checkpoint_does_not_count_among_the_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    good, damaged = save(checkpoints, 1), save(checkpoints, 2)
    flip(damaged / "host.npz")
    resumed = Checkpoints(tmp_path, keep=2)
    with pytest.warns(UserWarning, match=r"host\.npz"):
        assert resumed.latest() == good
    newest = save(resumed, 3)
    assert good.exists()
    assert resumed.latest() == newest


def test_damage_to_all_stops_instead_of_starting_anew(tmp_path):
    flip(save(Checkpoints(tmp_path), 1) / "host.npz")
    with pytest.warns(UserWarning, match=r"host\.npz"), pytest.raises(CheckpointError, match="All checkpoints"):
        Checkpoints(tmp_path).latest()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (make_state(width=9), r"kernel.*float32\[4, 8\] in the checkpoint, float32\[4, 9\] in this run"),
        (make_state(dtype=jnp.bfloat16), r"kernel.*float32\[4, 8\] in the checkpoint, bfloat16\[4, 8\] in this run"),
        (make_state()._replace(params={}), "kernel.*: only in the checkpoint"),
        (make_state()._replace(params={"new": jnp.ones(3)}), "new.*: only in this run"),
        (make_state()._replace(key=jax.random.key_data(jax.random.key(0))), r"key.*key<fry>\[\].*uint32\[2\]"),
    ],
)
def test_another_state_is_refused_with_a_list(tmp_path, wanted, message):
    path = save(Checkpoints(tmp_path), 1)
    with pytest.raises(CheckpointError, match=message):
        restore(path, abstract_arrays=abstract(wanted))


def test_what_jax_cannot_hold_is_not_cast(tmp_path):
    path = Checkpoints(tmp_path).save(1, arrays={"count": np.asarray(3, np.int64)}, host={}, meta={})
    with pytest.raises(CheckpointError, match=r"count.*int64\[\] in the checkpoint, int32\[\] in this run"):
        restore(path, abstract_arrays={"count": jax.ShapeDtypeStruct((), np.int64)})


def test_a_long_list_is_cut(tmp_path):
    path = Checkpoints(tmp_path).save(1, arrays={f"a{i}": jnp.ones(2) for i in range(30)}, host={}, meta={})
    with pytest.raises(CheckpointError, match="and 22 more"):
        restore(path, abstract_arrays={f"a{i}": jnp.ones(3) for i in range(30)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arrays": {"step": 3}}, "step.*is a int"),
        ({"arrays": {"step": np.float32(3)}}, "step.*is a float32"),
        ({"arrays": {"a": jnp.ones((0, 3))}}, "a.*without elements"),
        ({"host": {"env": np.array([{}], dtype=object)}}, "host.*env"),
        ({"meta": {"steps": np.int64(3)}}, "int64 is not JSON"),
    ],
)
def test_mistakes_of_the_caller_are_named_before_the_disk_is_touched(tmp_path, given, message):
    with pytest.raises(TypeError, match=message):
        Checkpoints(tmp_path).save(1, **({"arrays": {"a": jnp.ones(2)}, "host": {}, "meta": {}} | given))
    assert list(tmp_path.iterdir()) == []


class _Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_malicious_checkpoint_runs_no_code(tmp_path, monkeypatch):
    """Its hashes are right: whoever writes the payload writes the manifest too."""
    monkeypatch.chdir(tmp_path)
    path = save(Checkpoints(tmp_path), 1)
    payload = np.array([_Evil()], dtype=object)
    with zipfile.ZipFile(path / "host.npz", "w") as archive, archive.open("file.npy", "w") as member:
        np.lib.format.write_array(member, payload, allow_pickle=True)
    (path / "arrays" / "payload.pkl").write_bytes(pickle.dumps(_Evil()))
    sign(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        restore(path, abstract_arrays=abstract(make_state()))
    assert not (tmp_path / "executed").exists()


def sign(path: Path) -> None:
    (path / "manifest.json").unlink()
    write_manifest(path)


def test_a_manifest_cannot_point_outside(tmp_path):
    path = save(Checkpoints(tmp_path), 1)
    files = {"../secret": {"bytes": 0, "sha256": ""}}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({"files": files, "sha256": digest}))
    with pytest.raises(CheckpointError, match="outside"):
        restore(path, abstract_arrays=abstract(make_state()))


def test_a_newer_format_is_refused(tmp_path):
    path = save(Checkpoints(tmp_path), 1)
    document = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(document | {"format": 99}))
    sign(path)
    with pytest.raises(CheckpointError, match="format 99"):
        read_meta(path)


def big_host() -> dict[str, np.ndarray]:
    return {"replay": np.zeros(4_000_000, np.uint8)}


def big_arrays() -> dict[str, jax.Array]:
    return {"kernel": jax.random.normal(jax.random.key(0), (1000, 1000))}


@pytest.mark.parametrize("too_large", ["arrays", "host"])
def test_a_failed_write_leaves_the_old_ones(tmp_path, too_large):
    """RLIMIT_FSIZE makes every write beyond 1 MB fail, in Python as in tensorstore."""
    checkpoints = Checkpoints(tmp_path)
    good = save(checkpoints, 1)
    arrays, host = (big_arrays(), {}) if too_large == "arrays" else ({"a": jnp.ones(2)}, big_host())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="step 2 not written"):
            checkpoints.save(2, arrays=arrays, host=host, meta={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [good]
    assert Checkpoints(tmp_path).latest() == good
    assert save(checkpoints, 2).exists()  # the trainer goes on and the next save works


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root; RLIMIT_FSIZE covers failed writes above")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("too_large", ["arrays", "host"])
def test_a_full_disk_leaves_the_old_ones(small_disk, too_large):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    good = save(checkpoints, 1)
    arrays, host = (big_arrays(), {}) if too_large == "arrays" else ({"a": jnp.ones(2)}, big_host())
    with pytest.raises(CheckpointError, match="free disk space"):
        checkpoints.save(2, arrays=arrays, host=host, meta={})
    assert list(checkpoints.directory.iterdir()) == [good]
    assert_equal(restore(good, abstract_arrays=abstract(make_state())).arrays, make_state(1))
    assert save(checkpoints, 2).exists()


def start_saving(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(SAVING_LOOP), str(directory)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY
    )


def kill_while_saving(directory: Path, *, kills: int) -> tuple[int, int]:
    """Returns at how many kills a save was under way, and the last step."""
    rng = random.Random(0)
    interrupted = last = 0
    waiting = [start_saving(directory)]
    for _ in range(kills):
        process = waiting.pop()
        waiting.append(start_saving(directory))  # its imports take longer than anything else here
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(rng.uniform(0.1, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        interrupted += bool(list(directory.glob("partial-*")))
        path = Checkpoints(directory).latest()
        assert path is not None or last == 0
        step = int(path.name[:12]) if path else 0
        assert step >= last
        last = step
        if path:
            arrays, host = content(step)
            restored = restore(path, abstract_arrays=arrays)
            assert_equal(restored.arrays, arrays)
            assert_equal(restored.host, host)
            assert restored.meta == {"step": step}
    waiting[0].kill()
    waiting[0].communicate()
    return interrupted, last


def test_ten_kills_while_saving(tmp_path):
    interrupted, last = kill_while_saving(tmp_path, kills=10)
    assert interrupted >= 3  # else the kills prove nothing
    assert last > 0


@pytest.mark.slow
def test_a_hundred_kills_while_saving(tmp_path):
    interrupted, last = kill_while_saving(tmp_path, kills=100)
    assert interrupted >= 30
    assert last > 0


def test_leftovers_of_kills_are_removed(tmp_path):
    (tmp_path / "partial-000000000004" / "arrays").mkdir(parents=True)
    Checkpoints(tmp_path).discard_partial()
    assert list(tmp_path.iterdir()) == []
