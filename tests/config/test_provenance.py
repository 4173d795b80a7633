"""What a start leaves behind: which code, on what."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dreamer import provenance
from dreamer.provenance import changed, commit, note_start


def test_every_start_is_a_line(tmp_path: Path):
    note_start(tmp_path, agent_steps=0, device="cpu")
    note_start(tmp_path, agent_steps=640, device="NVIDIA H200")
    rows = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert [(row["agent_steps"], row["device"]) for row in rows] == [(0, "cpu"), (640, "NVIDIA H200")]
    assert {row["commit"] for row in rows} == {commit()}
    assert all(row["time"] and row["host"] and row["python"] and row["jax"] for row in rows)


def test_commit_and_changed_files_are_those_of_this_code_and_not_of_a_project_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    package = tmp_path / "dreamer"
    package.mkdir()
    (package / "a.py").write_text("1\n")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "--short=12", "HEAD")
    assert (commit(), changed()) == (head, [])
    (package / "a.py").write_text("2\n")
    assert (commit(), changed()) == (f"{head}-dirty", ["dreamer/a.py"])
    monkeypatch.setattr(provenance, "PACKAGE", package / "site-packages" / "dreamer")  # installed into that project
    assert head not in commit()
    assert changed() == []
