"""Devices: what JAX computes on, and why it is the CPU where an NVIDIA GPU is in the machine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from dreamer.doctor.findings import INSTALL, PROBE_SECONDS, Answer, as_root, ask, one_line, run_command
from dreamer.doctor.packages import installed_version
from envs.check.finding import FAIL, OK, WARNING, Finding

DEVICE_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")  # the last: Windows' subsystem for Linux
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
DRIVER_FILE = Path("/proc/driver/nvidia/version")
QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
QUERY_SECONDS = 8.0


class Cuda(NamedTuple):
    """What a CUDA release asks of driver and GPU, and the extra that installs JAX's plugin for it."""

    extra: str
    oldest_driver: int
    oldest_capability: float


CUDA = {"13": Cuda("cuda", 580, 7.5), "12": Cuda("cuda12", 525, 5.2)}  # the one to prefer first


class Nvidia(NamedTuple):
    """The NVIDIA GPU of this machine; unknown texts are empty, an unknown capability is infinite."""

    name: str
    driver: str = ""
    capability: float = float("inf")
    fault: str = ""  # why nvidia-smi does not answer


def check_devices(name: str, *, seconds: float = PROBE_SECONDS) -> Finding:
    """JAX's devices; its backend starts in another process, where a broken driver may hang or crash it."""
    gpu = find_nvidia()
    # JAX would take three quarters of the GPU's memory, beside a training that may be running on it.
    answer = ask("devices", seconds=seconds, XLA_PYTHON_CLIENT_PREALLOCATE="false")
    platform = answer.facts.get("platform")
    driver = f", driver {gpu.driver}" if gpu and gpu.driver else ""
    if platform and platform != "cpu":
        count = f"{answer.facts['count']} x " if answer.facts["count"] > 1 else ""
        return Finding(name, OK, f"{count}{answer.facts['kind']} ({platform}{driver})")
    if answer.fault and not (gpu and (cuda_plugins() or os.environ.get("JAX_PLATFORMS"))):
        return _explain_no_device(name, answer)
    if gpu:
        return explain_idle_gpu(name, gpu, answer)
    if plugins := cuda_plugins():
        text = f"running on CPU: JAX's plugin for CUDA {next(iter(plugins))} is installed, but no NVIDIA GPU is visible"
        in_container = any(Path(mark).exists() for mark in CONTAINER_MARKS)
        return Finding(name, WARNING, text, "docker run --gpus all ..." if in_container else as_root("modprobe nvidia"))
    return Finding(name, OK, f"running on CPU ({os.cpu_count()} cores): no GPU is visible")


def warning_of_idle_gpu() -> str:
    """One line for a training that JAX lets run on the CPU of a machine with an NVIDIA GPU; empty where there is none.

    Found without a process of its own, unlike all else here: JAX runs already in this one.
    """
    gpu = find_nvidia()
    if gpu is None:
        return ""
    finding = explain_idle_gpu("device", gpu, Answer({"platform": "cpu"}, "", ""))
    return f"{finding.text} -> {finding.remedy} (python -m dreamer.doctor tells more, --device gpu accepts no CPU)"


def explain_idle_gpu(name: str, gpu: Nvidia, answer: Answer) -> Finding:
    """Why JAX does not use the GPU: first what somebody chose, then what is certain, last what JAX itself reports."""
    if answer.facts and (variable := _chosen_cpu()):
        text = f"running on CPU, though this machine has {gpu.name}: {variable} is {os.environ[variable]!r}"
        return Finding(name, WARNING, text, f"unset {variable}")
    cause, remedy = _missing_plugin(gpu) or _unfit_driver(gpu) or _broken_backend(gpu, answer)
    running = "running on CPU" if answer.facts else "no device"
    return Finding(name, FAIL, f"{running}, though this machine has {gpu.name}: {cause}", remedy)


def find_nvidia() -> Nvidia | None:
    """The first NVIDIA GPU, as nvidia-smi or at least its device files tell."""
    done = run_command(QUERY, seconds=QUERY_SECONDS) if shutil.which(QUERY[0]) else None
    if done and not done.fault and done.output.count(",") >= 2:
        model, driver, capability = (part.strip() for part in done.output.splitlines()[0].rsplit(",", 2))
        is_number = re.fullmatch(r"[\d.]+", capability)
        return Nvidia(model, driver, float(capability) if is_number else float("inf"))
    if not any(Path(file).exists() for file in DEVICE_FILES):
        return None  # nvidia-smi alone is part of many container images
    found = re.search(r"Module\s+([\d.]+)", DRIVER_FILE.read_text()) if DRIVER_FILE.exists() else None
    return Nvidia("an NVIDIA GPU", found.group(1) if found else "", fault=done.fault if done else "")


def cuda_plugins() -> dict[str, str]:
    """JAX's installed CUDA plugins: CUDA's major version, and the plugin's version."""
    versions = {cuda: installed_version(f"jax-cuda{cuda}-plugin") for cuda in CUDA}
    return {cuda: version for cuda, version in versions.items() if version}


def _chosen_cpu() -> str:
    """The environment variable by which somebody keeps JAX from the GPU, if any."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return "JAX_PLATFORMS"
    return "CUDA_VISIBLE_DEVICES" if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else ""


def _missing_plugin(gpu: Nvidia) -> tuple[str, str] | None:
    plugins, jaxlib = cuda_plugins(), installed_version("jaxlib")
    if not plugins:
        cuda = _fitting_cuda(gpu)
        return "JAX has no CUDA plugin", _install(cuda) if cuda else _newer_driver()
    if others := {cuda: version for cuda, version in plugins.items() if version != jaxlib}:
        cuda, version = next(iter(others.items()))
        return f"jax-cuda{cuda}-plugin {version} does not work with jaxlib {jaxlib}", _install(cuda)
    return None


def _unfit_driver(gpu: Nvidia) -> tuple[str, str] | None:
    plugin = next(iter(cuda_plugins()))
    fault = _misfit(gpu, plugin)
    if not fault:
        return None
    cuda = _fitting_cuda(gpu)
    if not cuda:
        return fault, _newer_driver()
    return fault, f"pip uninstall -y jax-cuda{plugin}-plugin jax-cuda{plugin}-pjrt && {_install(cuda)}"


def _broken_backend(gpu: Nvidia, answer: Answer) -> tuple[str, str]:
    """Neither plugin nor version is at fault: what JAX or nvidia-smi said."""
    report = answer.fault or _reported(answer.log) or "JAX does not say why; TF_CPP_MIN_LOG_LEVEL=0 makes it tell more"
    if gpu.fault:
        remedy = as_root("reboot") if "mismatch" in gpu.fault else as_root("modprobe nvidia")
        return f"nvidia-smi: {gpu.fault}; JAX: {report}", remedy
    if re.search(r"out.of.memory|RESOURCE_EXHAUSTED", report, re.IGNORECASE):
        return f"its memory is taken: {report}", "nvidia-smi"
    if answer.fault.startswith("no answer"):  # one GPU starts sooner than many, and may not be the one that hangs
        return f"its backend does not start: {report}", "CUDA_VISIBLE_DEVICES=0 python -m dreamer.doctor"
    cuda = next(iter(cuda_plugins()))
    return report, f"{_install(cuda)} --force-reinstall"


def _explain_no_device(name: str, answer: Answer) -> Finding:
    """JAX itself fails, and no GPU is to blame."""
    if platforms := os.environ.get("JAX_PLATFORMS", ""):
        text = f"JAX finds no device, as JAX_PLATFORMS is {platforms!r}: {answer.fault}"
        return Finding(name, FAIL, text, "unset JAX_PLATFORMS")
    return Finding(name, FAIL, f"JAX does not start: {answer.fault}", f"{INSTALL} --force-reinstall")


def _fitting_cuda(gpu: Nvidia) -> str | None:
    return next((cuda for cuda in CUDA if not _misfit(gpu, cuda)), None)


def _misfit(gpu: Nvidia, cuda: str) -> str:
    """Why a CUDA release does not work with this driver or GPU; empty where it does, or nothing is known."""
    needs = CUDA[cuda]
    if gpu.driver and int(gpu.driver.partition(".")[0]) < needs.oldest_driver:
        return f"its driver {gpu.driver} is older than the {needs.oldest_driver} that CUDA {cuda} needs"
    if gpu.capability < needs.oldest_capability:
        return f"its compute capability {gpu.capability:g} is below the {needs.oldest_capability:g} of CUDA {cuda}"
    return ""


def _install(cuda: str) -> str:
    return f"pip install -e '.[{CUDA[cuda].extra}]'"


def _newer_driver() -> str:
    """In a container the driver is the host's."""
    has_tool = shutil.which("ubuntu-drivers")
    return as_root("ubuntu-drivers install" if has_tool else "apt-get install nvidia-driver")


def _reported(log: str) -> str:
    """The line of JAX's log that names the fault: the last exception, or what it says of CUDA."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    said = [line for line in lines if "CUDA backend failed" in line or "plugin" in line]
    return one_line((errors or said or [""])[-1])
