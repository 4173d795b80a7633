"""Versions: what is missing, what is known not to work together, what another module of the same name hides."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from dreamer.doctor.findings import INSTALL
from envs.check.finding import FAIL, OK, WARNING, Finding

PYTHONS = ((3, 11), (3, 13))  # oldest and newest
NEW_PYTHON = "python3.12 -m venv .venv && . .venv/bin/activate && pip install -e ."


class Package(NamedTuple):
    """What we ask of a library; tests hold it against pyproject.toml."""

    module: str
    wanted: str
    reason: str = ""
    partner: str = ""  # the library whose own metadata says which version of this one it works with


PACKAGES = {
    "jax": Package("jax", ">=0.10"),
    "jaxlib": Package("jaxlib", "", partner="jax"),
    "flax": Package(
        "flax", ">=0.12.8" if sys.version_info < (3, 12) else ">=0.12.12", "0.12.8 does not import on jax 0.11.2"
    ),
    "optax": Package("optax", ">=0.2.8"),
    "gymnasium": Package("gymnasium", ">=1.2"),
    "ale-py": Package("ale_py", ">=0.12.1", "resets of its vector environment were broken before"),
    "mujoco": Package("mujoco", "<4", "dm-control 1.0.50 fails on 4.0.0", partner="dm-control"),
    "dm-control": Package("dm_control", ">=1.0.50"),
    "numpy": Package("numpy", ">=2.0"),
}
OTHERS = {
    "chex": Package("chex", ">=0.1.90"),
    "jaxtyping": Package("jaxtyping", ">=0.3"),
    "ml-dtypes": Package("ml_dtypes", ">=0.5"),
    "orbax-checkpoint": Package("orbax", ">=0.12,<0.13", "its interface changes between minor versions"),
    "tensorboard": Package("tensorboard", ">=2.19"),
    "tyro": Package("tyro", ">=1.0.17"),
    "rich": Package("rich", ">=13"),
    "pyyaml": Package("yaml", ">=6"),
    "pillow": Package("PIL", ">=10"),
    "typing-extensions": Package("typing_extensions", ">=4.6"),
    "cloudpickle": Package("cloudpickle", ">=3"),
}


def check_python(name: str) -> Finding:
    """Python itself."""
    oldest, newest = ("{}.{}".format(*version) for version in PYTHONS)
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding(name, OK, platform.python_version())
    return Finding(name, FAIL, f"{platform.python_version()}; {oldest} to {newest} are supported", NEW_PYTHON)


def check_package(name: str) -> Finding:
    """One library of the tables above."""
    package = (PACKAGES | OTHERS)[name]
    version = installed_version(name)
    if version is None:
        return _missing(name)
    by_partner = _wanted_by_partner(name, package), f"{package.partner} says so"
    for wanted, reason in ((package.wanted, package.reason), by_partner):
        if not meets(version, wanted):
            why = f" ({reason})" if reason else ""
            return Finding(name, FAIL, f"{version}, but {wanted} is needed{why}", f"pip install '{name}{wanted}'")
    if importlib.util.find_spec(package.module) is None:
        text = f"pip lists {version}, but nothing provides `import {package.module}`"
        return Finding(name, FAIL, text, f"pip install --force-reinstall --no-deps '{name}=={version}'")
    if hidden := hidden_by(name):
        text = f"{version}, but `import {package.module}` finds {hidden}"
        return Finding(name, WARNING, text, unhide(hidden))
    return Finding(name, OK, version)


def check_others(name: str) -> Finding:
    """The libraries that nobody asks about while they are right, in one line."""
    findings = [check_package(other) for other in OTHERS]
    faults = [finding for finding in findings if finding.status != OK]
    if not faults:
        return Finding(name, OK, ", ".join(f"{finding.name} {finding.text}" for finding in findings))
    status = FAIL if any(finding.status == FAIL for finding in faults) else WARNING
    remedy = faults[0].remedy if len(faults) == 1 else INSTALL
    return Finding(name, status, "; ".join(f"{finding.name} {finding.text}" for finding in faults), remedy)


def installed_version(name: str) -> str | None:
    """The version that pip installed, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def hidden_by(name: str) -> Path | None:
    """The file or folder in the working directory or on PYTHONPATH that Python imports instead of the library."""
    package = (PACKAGES | OTHERS)[name]
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.origin:
        return None
    home = Path(str(metadata.distribution(name).locate_file(""))).resolve()
    found = Path(spec.origin).resolve()
    found = found.parent if found.name == "__init__.py" else found
    first = [Path(folder or ".").resolve() for folder in ("", *os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # Elsewhere than pip put it, and not by pip's own doing, as an editable install is.
    return found if found.parent != home and found.parent in first else None


def unhide(path: Path) -> str:
    """The command after which Python finds the library again."""
    return f"mv {path} {path}.aside"


def meets(version: str, wanted: str) -> bool:
    """Whether a version satisfies conditions such as `>=0.12,<0.13`; of a version only its numbers are read."""
    have = _numbers(version)
    for condition in filter(None, wanted.split(",")):
        operator, bound = re.match(r"\s*([<>=!~]+)\s*(.+)", condition).groups()  # pyright: ignore[reportOptionalMemberAccess]
        limit = _numbers(bound)
        holds = {">=": have >= limit, "<=": have <= limit, "<": have < limit, ">": have > limit, "==": have == limit}
        if not holds.get(operator, True):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """`0.12.1` as a tuple without trailing zeros, so that 0.10 and 0.10.0 are one."""
    text = re.match(r"[\d.]*", version.strip())
    numbers = [int(part) for part in text.group().split(".") if part] if text else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _wanted_by_partner(name: str, package: Package) -> str:
    """The conditions in the partner's own metadata: `<=0.10.2,>=0.10.1` for jaxlib in jax's."""
    if not package.partner or installed_version(package.partner) is None:
        return ""
    for line in metadata.requires(package.partner) or []:
        found = re.fullmatch(r"([\w.-]+)\s*\(?([^;()]*)\)?\s*", line)  # lines with a marker are those of extras
        if found and found.group(1) == name:
            return found.group(2).strip()
    return ""


def _missing(name: str) -> Finding:
    if name == "dm-control" and sys.version_info >= (3, 13):
        version = "{}.{}".format(*sys.version_info[:2])
        text = f"missing: its labmaze has no wheel for Python {version}; dmc tasks need 3.11 or 3.12"
        return Finding(name, WARNING, text, NEW_PYTHON)
    return Finding(name, FAIL, "missing", INSTALL)
