"""What a check says: of an environment here, of the machine in `dreamer.doctor`."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Status = Literal["ok", "warning", "FAIL", "-"]
OK: Final = "ok"
WARNING: Final = "warning"
FAIL: Final = "FAIL"


class Finding(NamedTuple):
    """The answer of one check.

    Attributes:
        name: of the check; the runner of `envs.check` writes it.
        status: FAIL where training would go wrong or the contract is broken, warning where only the author can tell,
            `-` where the check could not be made.
        text: one sentence, with what was measured.
        remedy: what to do, empty where nothing is.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""


def ok(text: str) -> Finding:
    """Nothing to do."""
    return Finding("", OK, text)


def warning(text: str, remedy: str) -> Finding:
    """It may be meant so, but mostly is not."""
    return Finding("", WARNING, text, remedy)


def fail(text: str, remedy: str) -> Finding:
    """It is wrong."""
    return Finding("", FAIL, text, remedy)


def unchecked(text: str) -> Finding:
    """No evidence for or against."""
    return Finding("", "-", f"not checked: {text}")
