"""What environments need beside Python: a renderer, ROMs, worker processes."""

from __future__ import annotations

import os
import shutil

from dreamer.doctor.devices import find_nvidia
from dreamer.doctor.findings import INSTALL, PROBE_SECONDS, as_root, ask, one_line
from dreamer.doctor.packages import PACKAGES, check_package, hidden_by, installed_version, unhide
from envs.check.finding import FAIL, OK, WARNING, Finding

PICTURE_SECONDS = 20.0  # for each backend; all of a check is less than the deadline of all checks
IMPORT_SECONDS = 9.0
SWITCHED_OFF = ("0", "disable", "disabled", "false", "off")


def check_rendering(name: str, *, seconds: float = PICTURE_SECONDS) -> Finding:
    """One picture by MuJoCo, through the backend that dmc_vision tasks would take."""
    from envs import rendering

    if installed_version("dm-control") is None:
        text = "not tried, as dm-control is missing; only dmc tasks draw with it"
        return Finding(name, WARNING, text, check_package("dm-control").remedy)
    chosen = os.environ.get(rendering.VARIABLE)
    failures: dict[str, str] = {}
    for backend in (chosen,) if chosen else rendering.CANDIDATES:
        failure = rendering.probe(backend, timeout_seconds=seconds)
        if failure is None:
            return _drawing(name, backend, failures)
        failures[backend] = one_line(failure)
        if backend == "egl" and (fault := rendering.wrong_gpu(failures[backend], timeout_seconds=seconds)):
            return Finding(name, FAIL, fault, f"unset {rendering.GPU_VARIABLE}")
    importing = ask("dm_control", seconds=IMPORT_SECONDS, **{rendering.VARIABLE: "off"})
    if importing.fault:
        return Finding(name, FAIL, f"dm-control does not start: {importing.fault}", INSTALL)
    if chosen:
        text = f"{rendering.VARIABLE} is {chosen!r}, which does not draw: {failures[chosen]}"
        return Finding(name, WARNING if chosen in SWITCHED_OFF else FAIL, text, f"unset {rendering.VARIABLE}")
    text = f"dmc_vision tasks cannot draw: {_listed(failures)}"
    return Finding(name, FAIL, text, _install_backend("egl" if find_nvidia() else "osmesa"))


def check_roms(name: str, *, seconds: float = PROBE_SECONDS) -> Finding:
    """One real Atari game takes a step."""
    answer = ask("atari", seconds=seconds)
    if not answer.fault:
        size = "x".join(map(str, answer.facts["shape"]))
        return Finding(name, OK, f"atari_pong made a step ({size}); {answer.facts['roms']} games")
    if installed_version("ale-py") is None:
        return Finding(name, FAIL, f"no Atari game starts: {answer.fault}", INSTALL)
    hidden = hidden_by("ale-py")
    remedy = f"pip install --force-reinstall --no-deps 'ale-py{PACKAGES['ale-py'].wanted}'"
    return Finding(name, FAIL, f"no Atari game starts: {answer.fault}", unhide(hidden) if hidden else remedy)


def check_workers(name: str, *, seconds: float = PROBE_SECONDS) -> Finding:
    """Worker processes start and take a step, without JAX: it would cost each one seconds and hundreds of megabytes."""
    answer = ask("workers", seconds=seconds)
    if answer.fault:
        text = f"environments in worker processes do not start: {answer.fault}"
        return Finding(name, FAIL, text, "python -m dreamer.train --env ... --environment.workers none")
    if answer.facts["import_jax"]:
        text = "worker processes import JAX, though nothing of ours does: a .pth file or sitecustomize"
        return Finding(name, FAIL, text, "python -X importtime -c pass 2>&1 | grep -B 40 jax")
    return Finding(name, OK, f"{answer.facts['count']} processes made a step, without JAX")


def _drawing(name: str, backend: str, failures: dict[str, str]) -> Finding:
    if not failures:
        return Finding(name, OK, f"{backend} draws")
    text = f"{backend} draws, on the CPU ({_listed(failures)})"
    if find_nvidia():  # which would draw faster
        return Finding(name, WARNING, text, _install_backend("egl"))
    return Finding(name, OK, text)


def _listed(failures: dict[str, str]) -> str:
    return "; ".join(f"{backend}: {failure}" for backend, failure in failures.items())


def _install_backend(backend: str) -> str:
    debian, fedora = {"egl": ("libegl1", "libglvnd-egl"), "osmesa": ("libosmesa6", "mesa-libOSMesa")}[backend]
    return as_root(f"dnf install {fedora}" if shutil.which("dnf") else f"apt-get install {debian}")
