from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from dreamer.training.signals import catch_stop_signals

LOOP = """
    import sys, time
    from dreamer.training.signals import catch_stop_signals
    with catch_stop_signals() as stop:
        print("ready", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        print("saving", flush=True)
        {saving}
        print("saved", flush=True)
    sys.exit(stop.exit_code)
"""


def start(script: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    expect(process, "ready")
    return process


def expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout
    assert process.stdout.readline() == f"{line}\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGUSR1, 128 + signal.SIGUSR1), (signal.SIGINT, 130)],
)
def test_the_first_signal_lets_the_run_save(number, code):
    process = start(LOOP.format(saving=""))
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert output == "saving\nsaved\n"
    assert process.returncode == code


def test_schedulers_may_repeat_themselves():
    process = start(LOOP.format(saving="time.sleep(0.5)"))
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.1)
    output, _ = process.communicate(timeout=20)
    assert output == "saving\nsaved\n"
    assert process.returncode == 128 + signal.SIGUSR1


def test_a_second_ctrl_c_ends_it_at_once():
    process = start(LOOP.format(saving="time.sleep(60)"))
    process.send_signal(signal.SIGINT)
    expect(process, "saving")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert output == ""
    assert process.returncode == 130


def test_ctrl_c_twice_ends_a_compilation_at_once():
    """Native code that never returns to the interpreter, as a compilation does for minutes."""
    process = start("""
        import hashlib
        from dreamer.training.signals import catch_stop_signals
        with catch_stop_signals():
            print("ready", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)
    """)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_the_former_handlers_return():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    announced: list[bool] = []
    with catch_stop_signals() as stop:
        stop.announce = lambda: announced.append(stop.requested)
        assert not stop.requested
        assert stop.exit_code == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while not stop.requested and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.requested
    assert announced == [True]
    assert {number: signal.getsignal(number) for number in before} == before
    assert "stop-signals" not in {thread.name for thread in threading.enumerate()}


def test_another_thread_may_train():
    seen = []

    def train() -> None:
        with catch_stop_signals() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [False]
