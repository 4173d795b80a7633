"""Checkpoints, agents and chunks of a stranger: whatever they hold, no code runs, and the answer is a sentence.

Whoever writes the contents writes the checksums too, so that every one of these verifies unless it says otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.agent import load
from dreamer.data.chunk import ChunkFiles, DamagedChunkError, fingerprint_of
from dreamer.data.layout import StepLayout
from dreamer.presets import ConfigError
from dreamer.training import manifest
from dreamer.training.checkpoint import CheckpointError, Checkpoints, restore
from dreamer.training.manifest import write_manifest
from envs.environment import EnvironmentFault
from envs.space_json import Interface

DEEP = "[" * 100_000 + "]" * 100_000
ARRAYS = {"kernel": jnp.ones((4, 8))}


class Payload:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Checkpoints(tmp_path / "checkpoints").save(1, arrays=ARRAYS, host={"a": np.arange(8)}, meta={"x": 1})


def sign(path: Path) -> None:
    (path / "manifest.json").unlink()
    write_manifest(path)


def sign_files(path: Path, files) -> None:
    """A manifest with any contents and the right sum."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({"files": files, "sha256": digest}))


def npy(shape: str, dtype: str = "<f8", data: bytes = b"") -> bytes:
    """An array file with any header."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def write_host(path: Path, member: bytes, *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path / "host.npz", "w", compression) as archive:
        archive.writestr("a.npy", member)


def pickle_payload(path: Path) -> None:
    write_host(path, npy("(1,)", "|O", pickle.dumps([Payload()])))
    (path / "arrays" / "payload.pkl").write_bytes(pickle.dumps(Payload()))
    sign(path)


def huge_shape(path: Path) -> None:
    write_host(path, npy(f"({2**40},)", data=bytes(64)))
    sign(path)


def overflowing_shape(path: Path) -> None:
    write_host(path, npy(f"({2**62}, {2**62})", data=bytes(64)))
    sign(path)


def negative_shape(path: Path) -> None:
    write_host(path, npy("(-1, -8)", data=bytes(64)))
    sign(path)


def huge_header(path: Path) -> None:
    write_host(path, npy("(" + "1," * 30_000 + ")"))
    sign(path)


def bomb(path: Path) -> None:
    """200 MB of zeros in 200 kB."""
    write_host(path, npy("(25000000,)", data=bytes(200_000_000)), compression=zipfile.ZIP_DEFLATED)
    sign(path)


def overlapping_members(path: Path) -> None:
    """A hundred names for the same megabyte."""
    with zipfile.ZipFile(path / "host.npz", "w") as archive:
        archive.writestr("a.npy", npy("(131072,)", data=bytes(2**20)))
        member = archive.getinfo("a.npy")
        archive.filelist += [member] * 100
    sign(path)


def linked_file(path: Path) -> None:
    """A symlink out of the folder."""
    (path / "host.npz").unlink()
    (path / "host.npz").symlink_to("/etc/passwd")
    sign(path)


def linked_folder(path: Path) -> None:
    outside = path.parent.parent / "outside"
    shutil.move(path / "arrays", outside)
    (path / "arrays").symlink_to(outside)
    files = json.loads((path / "manifest.json").read_text())["files"]
    sign_files(path, files)


def outside(path: Path) -> None:
    sign_files(path, {"../../secret": {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}})


def list_of_files(path: Path) -> None:
    sign_files(path, ["host.npz"])


def odd_fingerprints(path: Path) -> None:
    sign_files(path, {"host.npz": [1, 2]})


def negative_size(path: Path) -> None:
    sign_files(path, {"host.npz": {"bytes": -1, "sha256": ""}})


def missing_sum(path: Path) -> None:
    sign_files(path, {"host.npz": {"bytes": 1}})


def manifest_without_object(path: Path) -> None:
    (path / "manifest.json").write_text("[1]")


def truncated_manifest(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def deep_manifest(path: Path) -> None:
    (path / "manifest.json").write_text(DEEP)


def binary_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\xff\xfe\x00")


def write_meta(path: Path, text: str) -> None:
    (path / "meta.json").write_text(text)
    sign(path)


def truncated_meta(path: Path) -> None:
    write_meta(path, '{"format": 1, "meta": {')


def deep_meta(path: Path) -> None:
    write_meta(path, DEEP)


def meta_without_parts(path: Path) -> None:
    write_meta(path, '{"format": 1}')


def list_of_meta(path: Path) -> None:
    write_meta(path, "[1, 2]")


def odd_specs(path: Path) -> None:
    document = json.loads((path / "meta.json").read_text())
    write_meta(path, json.dumps(document | {"arrays": {"['kernel']": 7}}))


def unknown_member(path: Path) -> None:
    document = json.loads((path / "meta.json").read_text())
    write_meta(path, json.dumps(document | {"host": {"../../b": "int64"}}))


def dtype_of_objects(path: Path) -> None:
    write_host(path, npy("(1,)", "|V8", bytes(8)))
    document = json.loads((path / "meta.json").read_text())
    write_meta(path, json.dumps(document | {"host": {"a": "object"}}))


def large_meta(path: Path) -> None:
    """Sparse, so that it costs no disk."""
    with (path / "meta.json").open("r+b") as file:
        file.truncate(manifest.MOST_JSON_BYTES + 1)
    sign(path)


CORPUS = [
    pickle_payload, huge_shape, overflowing_shape, negative_shape, huge_header, bomb, overlapping_members,
    linked_file, linked_folder, outside, list_of_files, odd_fingerprints, negative_size, missing_sum,
    manifest_without_object, truncated_manifest, deep_manifest, binary_manifest, truncated_meta, deep_meta,
    meta_without_parts, list_of_meta, odd_specs, unknown_member, dtype_of_objects, large_meta,
]  # fmt: skip


@pytest.mark.parametrize("attack", CORPUS, ids=lambda attack: attack.__name__)
def test_a_strangers_checkpoint_is_refused_in_a_sentence(checkpoint: Path, attack):
    attack(checkpoint)
    with pytest.raises(CheckpointError, match=rf"^Checkpoint .*{checkpoint.name}") as error:
        restore(checkpoint, abstract_arrays=ARRAYS)
    assert len(str(error.value)) < 1000
    assert not Path("executed").exists()


def test_the_checkpoint_without_an_attack_is_read(checkpoint: Path):
    sign(checkpoint)
    assert restore(checkpoint, abstract_arrays=ARRAYS).meta == {"x": 1}


LAYOUT = StepLayout({}, action=1, deter=2, stoch=1)


def chunk_with(name: str, member: bytes, compression: int = zipfile.ZIP_STORED) -> int:
    """Writes a chunk of two steps with one odd member; returns its fingerprint."""
    Path("replay").mkdir()
    with zipfile.ZipFile("replay/env0000-chunk00000000.npz", "w", compression) as archive:
        for field in LAYOUT.fields:
            archive.writestr(f"{field}.npy", member if field == name else npy("(2,)", "|b1", bytes(2)))
    return fingerprint_of(archive)


@pytest.mark.parametrize(
    ("member", "compression", "reason"),
    [
        (npy("(1,)", "|O", pickle.dumps([Payload()])), zipfile.ZIP_STORED, "holds objects"),
        (npy(f"({2**40},)"), zipfile.ZIP_STORED, "is not what it holds"),
        (npy("(25000000,)", data=bytes(200_000_000)), zipfile.ZIP_DEFLATED, "compressed"),
        (b"\x93NUMPY\x09\x00" + bytes(64), zipfile.ZIP_STORED, "version"),
        (b"", zipfile.ZIP_STORED, "magic"),
    ],
)
def test_a_strangers_chunk_is_damaged(tmp_path: Path, monkeypatch, member, compression, reason):
    monkeypatch.chdir(tmp_path)
    fingerprint = chunk_with("action", member, compression)
    files = ChunkFiles(Path("replay"), layout=LAYOUT, length=2)
    with pytest.raises(DamagedChunkError, match=rf"env0000-chunk00000000\.npz: .*{reason}"):
        files.read(0, 0, fingerprint=fingerprint)
    files.close()
    assert not Path("executed").exists()


BOX = {"kind": "Box", "shape": [2], "dtype": "float32", "low": 0, "high": 1}
DISCRETE = {"kind": "Discrete", "n": 2, "start": 0, "dtype": "int64"}
PLAIN = {
    "env": "x", "observation_space": BOX, "action_space": DISCRETE, "image_size": None, "action_bound": None,
    "action_repeat": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"observation_space": BOX | {"shape": [2**20, 2**20, 2**20]}},
        {"observation_space": BOX | {"shape": [-1]}},
        {"observation_space": BOX | {"shape": "large"}},
        {"observation_space": BOX | {"dtype": "O"}},
        {"observation_space": BOX | {"dtype": "V99999999999999999999"}},
        {"observation_space": BOX | {"low": [0] * 3}},
        {"observation_space": BOX | {"low": {}}},
        {"observation_space": {"kind": "MultiBinary", "n": 10**15}},
        {"observation_space": {"kind": "Dict", "spaces": 7}},
        {"observation_space": []},
        {"action_space": DISCRETE | {"n": 10**30}},
        {"action_space": DISCRETE | {"n": -3}},
        {"action_space": {"kind": "MultiDiscrete", "nvec": [2**62, 2**62], "start": [0, 0], "dtype": "int64"}},
        {"action_bound": "wide"},
        {"action_repeat": 0},
        {"image_size": [64]},
        {"image_size": 64},
        {"env": ["x"]},
        {"unknown": 1},
    ],
    ids=json.dumps,
)
def test_a_strangers_spaces_are_damaged(tmp_path: Path, change):
    path = tmp_path / "spaces.json"
    path.write_text(json.dumps(PLAIN))
    Interface.read(path)
    path.write_text(json.dumps(PLAIN | change))
    with pytest.raises(EnvironmentFault, match=r"spaces\.json is damaged \(.+\); restore"):
        Interface.read(path)


def test_deep_files_of_an_agent_are_refused(tmp_path: Path):
    (tmp_path / "spaces.json").write_text(DEEP)
    with pytest.raises(EnvironmentFault, match=r"spaces\.json is damaged"):
        Interface.read(tmp_path / "spaces.json")
    (tmp_path / "config.yaml").write_text("a: " + "[" * 5_000)
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read as YAML"):
        load(tmp_path)
