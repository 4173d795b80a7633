"""What a check finds, and how all of them run: side by side, each with a time limit, none able to stop another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from envs.check.finding import FAIL, Finding

INSTALL = "pip install -e ."
DEADLINE_SECONDS = 50.0  # of all checks together; what they wait for has shorter limits
PROBE_SECONDS = 40.0  # JAX takes this long to start from a slow network disk or on a machine with many GPUs
_LONGEST = 300  # characters of a foreign message

_running: set[subprocess.Popen] = set()


class Done(NamedTuple):
    """A finished command; `fault` tells in one line why it has no result, and is empty where it has."""

    output: str
    log: str
    fault: str


class Answer(NamedTuple):
    """What a probe found, or the fault that kept it from answering."""

    facts: dict[str, Any]
    log: str
    fault: str


Check = Callable[[str], Finding]


def run_checks(checks: Mapping[str, Check], *, seconds: float = DEADLINE_SECONDS) -> Iterator[Finding]:
    """Runs all checks at once; yields their findings in the order given, a crash or a hang as a finding of its own."""
    findings: dict[str, Finding] = {}
    threads = {
        name: threading.Thread(target=_run_one, args=(name, check, findings), daemon=True)  # a hung one is left behind
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    over = threading.Event()
    clock = threading.Timer(seconds, over.set)
    clock.daemon = True
    clock.start()
    try:
        for name, thread in threads.items():
            while thread.is_alive() and not over.is_set():
                thread.join(timeout=0.05)
            yield findings.get(name) or _hung(name, seconds)
    finally:
        clock.cancel()
        stop_commands()


def _run_one(name: str, check: Check, findings: dict[str, Finding]) -> None:
    try:
        findings[name] = check(name)
    except ImportError as error:
        findings[name] = Finding(name, FAIL, one_line(error), INSTALL)
    except BaseException as error:  # SystemExit of a library, too: the other checks go on
        text = f"the check itself failed: {one_line(error)}"
        findings[name] = Finding(name, FAIL, text, "open an issue with the output of python -m dreamer.doctor --json")


def _hung(name: str, seconds: float) -> Finding:
    text = f"no answer within {seconds:g} s; the machine may be overloaded, or a disk or driver hangs"
    return Finding(name, FAIL, text, "python -m dreamer.doctor")


def ask(probe: str, *, seconds: float = PROBE_SECONDS, **variables: str) -> Answer:
    """Runs a probe of `dreamer.doctor.probes` in a process of its own, with these environment variables on top."""
    command = [sys.executable, "-m", "dreamer.doctor.probes", probe]
    done = run_command(command, seconds=seconds, **variables)
    facts: dict[str, Any] = {}
    with contextlib.suppress(IndexError, ValueError):  # it died before it could answer
        facts = json.loads(done.output.splitlines()[-1])
    return Answer(facts, done.log, facts.pop("fault", "") or done.fault)


def run_command(command: Sequence[str], *, seconds: float, **variables: str) -> Done:
    """Runs a command; after `seconds` ends it with all that it started.

    Its output goes to files: a pipe would be held open by a grandchild that outlives the command.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as log,
    ):
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=os.environ | variables,
                start_new_session=True,
            )
        except OSError as error:
            return Done("", "", one_line(error))
        _running.add(process)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill(process)
            _running.discard(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)  # not forever: a process that hangs in a driver does not die
        texts = []
        for file in (output, log):
            file.seek(0)
            texts.append(file.read())
    return Done(texts[0], texts[1], _fault(code, texts, seconds))


def stop_commands() -> None:
    """Ends what is still running, so that neither Ctrl-C nor a hung check leaves processes behind; waits for none."""
    for process in list(_running):
        _kill(process)


def one_line(error: BaseException | str) -> str:
    """A foreign message as one line of bounded length, with the kind of an exception in front."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def as_root(command: str) -> str:
    """The command as this user has to type it."""
    return command if not hasattr(os, "geteuid") or os.geteuid() == 0 else f"sudo {command}"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _fault(code: int | None, texts: list[str], seconds: float) -> str:
    if code is None:
        return f"no answer within {seconds:g} s"
    if code == 0:
        return ""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    last = one_line(lines[-1]) if lines else "no message"
    if code > 0:
        return last
    try:
        return f"crashed with {signal.Signals(-code).name}: {last}"
    except ValueError:
        return f"crashed with signal {-code}: {last}"
