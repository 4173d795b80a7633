"""What each start of a run ran on: a line of `starts.jsonl` for every time its command was given.

A run may go on with another commit or on another device than it began with; a result that names them has to know where.
"""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import time
from importlib import metadata
from pathlib import Path

STARTS = "starts.jsonl"  # of a run's folder
PACKAGE = Path(__file__).resolve().parent
DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
CHANGED = ("diff", "--name-only", "HEAD")
GIT_SECONDS = 10.0


def note_start(folder: Path, *, agent_steps: int, device: str) -> None:
    """Appends a line.

    Args:
        folder: of the run.
        agent_steps: from which it goes on.
        device: in words.
    """
    row = {
        "agent_steps": agent_steps,
        "time": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "commit": commit(),
        "changed": changed(),
        "device": device,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "jax": metadata.version("jax"),
    }
    with (folder / STARTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def commit() -> str:
    """Of this code, with `-dirty` where it was changed since; of an installed package its version."""
    if described := _git(*DESCRIBE):
        return described
    try:
        return metadata.version("dreamer-jax")
    except metadata.PackageNotFoundError:
        return "unknown"


def changed() -> list[str]:
    """Files of this code that differ from its commit, what `-dirty` stands for; not those that git does not know."""
    return (_git(*CHANGED) or "").splitlines()


def _git(*words: str) -> str | None:
    """What git says in this checkout; None without one, without git, and where it does not trust the folder."""
    if not (PACKAGE.parent / ".git").exists():  # not that of somebody's project around an installed package
        return None
    command = ("git", "-C", str(PACKAGE), *words)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
