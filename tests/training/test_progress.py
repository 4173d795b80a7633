from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import textwrap
import time

import pytest

from dreamer.training import progress as progress_module
from dreamer.training.counters import Counters
from dreamer.training.progress import Progress

SCRIPT = """
    import time
    from dreamer.training import progress as progress_module
    from dreamer.training.counters import Counters
    from dreamer.training.progress import Progress
    progress_module.ETA_SECONDS = 0.5
    with Progress(1000, quiet={quiet}) as progress:
        progress.phase("compiling")
        time.sleep(0.6)
        progress.phase("training")
        for step in range(0, 500, 50):
            progress.update(Counters(step, 4 * step, step // 8), score=-21.0)
            time.sleep(0.1)
        progress.print("checkpoint saved")
"""


class FakeClock:
    """Rates over minutes, tested in no time."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(progress_module.time, "monotonic", clock)
    return clock


def test_the_line_says_what_how_far_how_fast_how_well(clock):
    progress = Progress(10_000, stream=io.StringIO())
    progress.phase("training")
    progress.line()
    clock.now = 10.0
    progress.update(Counters(1000, 4000, 125), score=-20.5)
    assert progress.line() == (
        "training | 10.0% | ETA 1m30s | score -20.5 | 400 frames/s | agent_steps 1,000 | env_frames 4,000 | updates 125"
    )


def test_rates_follow_the_last_half_minute(clock):
    progress = Progress(10**6, stream=io.StringIO())
    progress.phase("training")
    steps, line = 0, ""
    for second in range(300):
        clock.now = float(second)
        progress.update(Counters(steps, steps, 0))
        line = progress.line()
        steps += 10 if second < 200 else 100
    assert "| 100 frames/s |" in line


def test_a_resumed_run_does_not_count_the_steps_of_the_former(clock):
    progress = Progress(20_000, start=Counters(10_000, 40_000, 1250), stream=io.StringIO())
    progress.line()
    clock.now = 10.0
    progress.update(Counters(10_100, 40_400, 1262))
    assert "50.5%" in progress.line()
    assert "40 frames/s" in progress.line()


def test_a_phase_shows_its_seconds(clock):
    progress = Progress(100, stream=io.StringIO())
    progress.phase("compiling")
    clock.now = 75.0
    assert progress.line().startswith("compiling... 1m15s | 0.0% |")
    assert "ETA" not in progress.line()


def test_no_eta_before_the_rate_means_something(clock):
    progress = Progress(10_000, stream=io.StringIO())
    progress.phase("training")
    progress.line()
    clock.now = 60.0
    assert "ETA" not in progress.line()  # no steps yet

    progress = Progress(10_000, stream=io.StringIO())
    progress.phase("training")
    progress.line()
    progress.update(Counters(1000, 4000, 125))
    clock.now = 64.0
    assert "ETA" not in progress.line()
    clock.now = 65.0
    assert "| ETA 45s |" in progress.line()


def test_the_eta_knows_nothing_of_what_came_before_training(clock):
    progress = Progress(11_000, stream=io.StringIO())
    progress.phase("prefill")
    progress.line()
    clock.now = 10.0
    progress.update(Counters(1000, 4000, 0))  # without updates, a hundred times as fast
    assert "ETA" not in progress.line()
    progress.phase("training")
    for second in range(10, 111, 10):  # one update and ten steps in ten seconds
        clock.now = float(second)
        progress.update(Counters(990 + second, 3960 + 4 * second, second // 10))
        line = progress.line()
    assert "ETA 2h45m" in line


def test_a_long_update_shows_that_the_run_lives(clock):
    progress = Progress(10_000, stream=io.StringIO())
    progress.phase("training")
    progress.update(Counters(8, 32, 1))
    assert progress.line().startswith("training |")
    clock.now = 14.0
    assert progress.line().startswith("training... 14s |")
    progress.update(Counters(8, 32, 2))
    assert progress.line().startswith("training |")


def run(script: str, *, quiet: bool = False) -> str:
    command = [sys.executable, "-c", textwrap.dedent(script.format(quiet=quiet))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_elsewhere_phase_changes_and_the_end_are_plain_lines():
    lines = run(SCRIPT).splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line).split(" ")[0] for line in lines] == [
        "compiling...",
        "training",
        "checkpoint",
        "training",
    ]
    assert "\x1b" not in "".join(lines)
    assert "score -21.0" in lines[-1]


def test_elsewhere_a_line_comes_at_every_interval(monkeypatch):
    """Also while the main thread is busy with something else."""
    monkeypatch.setattr(progress_module, "PLAIN_SECONDS", 0.1)
    stream = io.StringIO()
    with Progress(100, stream=stream):
        time.sleep(0.55)
    assert 4 <= len(stream.getvalue().splitlines()) <= 7


def test_elsewhere_saving_is_said_once_each_time(monkeypatch):
    monkeypatch.setattr(progress_module, "PLAIN_SECONDS", 0.1)
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        progress.phase("saving")
        time.sleep(0.35)
        progress.phase("training")
        progress.phase("saving")
    phases = [line.split(" ")[1] for line in stream.getvalue().splitlines()]
    assert phases == ["saving...", "training", "saving..."]


def test_quiet_is_quiet():
    assert run(SCRIPT.replace('progress.print("checkpoint saved")', ""), quiet=True) == ""


def test_a_terminal_shows_one_live_line():
    controller, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "160"}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT.format(quiet=False))]
    process = subprocess.Popen(command, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(controller, 65536)
        except OSError:  # Linux's way of saying that the terminal was closed
            break
    os.close(controller)
    assert process.wait() == 0
    text = shown.decode()
    assert "compiling..." in text
    assert "frames/s" in text
    assert "ETA" in text
    assert text.count("\n") <= 3  # one line redrawn in place, the message, and the end
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("kind", ["full disk", "reader gone"])
def test_a_stream_that_takes_nothing_ends_no_run(kind):
    """Rich would answer a reader that has gone, as in `| head`, with the end of the program."""
    receiver, sender = os.pipe()
    os.close(receiver)
    with contextlib.suppress(OSError), open("/dev/full" if kind == "full disk" else sender, "w") as stream:
        with Progress(100, stream=stream) as progress:
            progress.phase("training")
            progress.print("WARNING: something")
            progress.print("and again")
        kind = "the run went on"
    assert kind == "the run went on"
