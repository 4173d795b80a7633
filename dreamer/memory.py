"""How much memory this process may use, control groups (v1 and v2) included, and whether it is short. No JAX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LEAST_SHARE = 0.1  # of a limit; with less left, memory is short
_UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


class _Version(NamedTuple):
    """Where one version of the control groups tells what: files of a group, and names in its `memory.stat`."""

    base: str
    limit: str
    usage: str
    cache: tuple[str, str]


_V1 = _Version(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
_V2 = _Version("sys/fs/cgroup", "memory.max", "memory.current", ("active_file", "inactive_file"))


def memory_limit(*, root: Path = Path("/")) -> int:
    """The least of the machine's memory and the limits of the control groups around this process, in bytes.

    Args:
        root: where `sys` and `proc` are found; tests put their own there.
    """
    limits = [_read_limit(folder / version.limit) for folder, version in _groups(root)]
    return min([_physical_memory(), *(limit for limit in limits if limit is not None)])


def memory_is_short(*, root: Path = Path("/")) -> bool:
    """Whether less than a tenth of the machine's memory, or of a control group's limit, is left.

    File caches do not count as used: the kernel gives them up when it has to.

    Args:
        root: as for `memory_limit`.
    """
    if _available(root) < _LEAST_SHARE * _physical_memory():
        return True
    for folder, version in _groups(root):
        limit = _read_limit(folder / version.limit)
        if limit is not None and limit - _used(folder, version) < _LEAST_SHARE * limit:
            return True
    return False


def _groups(root: Path) -> Iterator[tuple[Path, _Version]]:
    """The folder of the process's own group and of every group above it: the tightest one counts."""
    groups = root / "proc/self/cgroup"
    lines = groups.read_text().splitlines() if groups.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _V1 if controllers else _V2
        base = root / version.base
        group = base / path.lstrip("/")
        yield from ((folder, version) for folder in (group, *group.parents) if folder.is_relative_to(base))


def _read_limit(file: Path) -> int | None:
    """The limit in a control group's file; None where there is none (`max`, or v1's huge number)."""
    limit = _read_number(file)
    return limit if limit is not None and limit < _UNLIMITED else None


def _used(folder: Path, version: _Version) -> int:
    """Bytes that a group cannot give back; 0 where it does not tell."""
    try:
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        fields = {}
    return (_read_number(folder / version.usage) or 0) - sum(int(fields.get(name, 0)) for name in version.cache)


def _read_number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:  # inside a container the groups above are often not visible
        return None
    return int(text) if text.isdigit() else None


def _available(root: Path) -> int:
    """What the machine could still give, in bytes; all of its memory where it does not tell."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return _physical_memory()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else _physical_memory()


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
