"""Memory, disk, large pages and the folder of compiled programs."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

from dreamer.doctor.findings import INSTALL, PROBE_SECONDS, as_root, ask, one_line
from envs.check.finding import FAIL, OK, WARNING, Finding

# The debug preset on CartPole-v1 peaks at 1.3 GB, most of which is JAX and its compiler.
LEAST_MEMORY, GOOD_MEMORY = 2e9, 8e9
LEAST_DISK, GOOD_DISK = 1e9, 10e9  # two checkpoints of 12m are 0.3 GB, a replay of 400k Atari frames is 1.4 GB
SMALL_RUN = "--size 1m --replay.capacity 100000"


def check_memory(name: str, *, root: Path = Path("/")) -> Finding:
    """What this process may use, limits of containers included (read below `root`)."""
    from dreamer.memory import memory_limit
    from dreamer.plan import format_bytes

    limit, physical = memory_limit(root=root), memory_limit(root=Path(os.devnull))  # the latter has no control groups
    of = f" of the machine's {format_bytes(physical)}, as a control group allows" if limit < physical else ""
    text = f"{format_bytes(limit)}{of}"
    if limit >= GOOD_MEMORY:
        return Finding(name, OK, text)
    remedy = "docker run --memory 16g ..." if limit < physical else f"python -m dreamer.train --env ... {SMALL_RUN}"
    return Finding(name, WARNING if limit >= LEAST_MEMORY else FAIL, f"{text}: little for a replay", remedy)


def check_disk(name: str, *, folder: Path | None = None) -> Finding:
    """Free space where runs are written unless --logdir says otherwise."""
    from dreamer.plan import format_bytes, measure_machine

    folder = folder or Path.cwd()
    remedy = "python -m dreamer.train --env ... --logdir /a/larger/disk"
    if fault := _write_fault(folder):
        return Finding(name, FAIL, f"runs cannot be written into {folder}: {fault}", remedy)
    free = measure_machine(folder).disk_free
    if free >= GOOD_DISK:
        return Finding(name, OK, f"{format_bytes(free)} free in the working directory")
    text = f"only {format_bytes(free)} free in the working directory"
    return Finding(name, WARNING if free >= LEAST_DISK else FAIL, text, remedy)


def check_pages(name: str, *, mode_file: Path | None = None) -> Finding:
    """Large memory pages, which make an update on a CPU a quarter faster."""
    from dreamer import huge_pages

    mode_file = mode_file or huge_pages.KERNEL_MODE
    if f"{huge_pages.HUGE_PAGES}=0" in os.environ.get(huge_pages.TUNABLES, ""):
        text = f"switched off by {huge_pages.TUNABLES}: updates on a CPU are slower"
        return Finding(name, WARNING, text, f"unset {huge_pages.TUNABLES}")
    if huge_pages.asking_helps(mode_file):
        return Finding(name, OK, "the trainer asks for them, and the kernel gives them")
    try:
        mode = mode_file.read_text()
    except OSError:
        return Finding(name, OK, "not offered by this system")
    if "[always]" in mode:
        return Finding(name, OK, "the kernel gives them to everybody")
    if "[never]" in mode:
        text = "switched off in the kernel: updates on a CPU are slower"
        return Finding(name, WARNING, text, _echo_to("madvise", mode_file))
    text = f"{' '.join(platform.libc_ver()) or 'this C library'} cannot ask for them; glibc 2.35 can"
    return Finding(name, WARNING, text, _echo_to("always", mode_file))


def check_cache(name: str, *, seconds: float = PROBE_SECONDS) -> Finding:
    """The folder of compiled programs, written to for a test."""
    answer = ask("cache", seconds=seconds, JAX_PLATFORMS="cpu")
    if answer.fault:
        return Finding(name, FAIL, f"JAX does not start: {answer.fault}", INSTALL)
    remedy = 'export JAX_COMPILATION_CACHE_DIR="$PWD/runs/compilations"'
    folder = answer.facts["folder"]
    if folder is None:
        return Finding(name, WARNING, "no folder in the user's cache: every start compiles anew", remedy)
    if fault := _write_fault(Path(folder)):
        return Finding(name, WARNING, f"{fault}: every start compiles anew", remedy)
    return Finding(name, OK, folder.replace(str(Path.home()), "~", 1))


def _write_fault(folder: Path) -> str:
    """Why no file can be written there; empty if one can. Permission bits alone do not tell (root, read-only disks)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
    except OSError as error:
        return one_line(error)
    return ""


def _echo_to(mode: str, file: Path) -> str:
    return f"echo {mode} | {as_root(f'tee {file}')}"
