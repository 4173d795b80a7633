"""A command on a trained run ends in a sentence where the user can mend something, in a traceback where we can."""

from __future__ import annotations

import os
import signal
import time

import pytest

from dreamer import evaluate, export, report
from dreamer.commands import carry_out
from dreamer.play import __main__ as play


def raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (FileNotFoundError("runs/x is no run"), 1, "error: runs/x is no run\n"),
        (KeyboardInterrupt(), 130, "stopped: nothing was written\n"),
    ],
)
def test_what_a_user_can_mend_is_a_sentence(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
):
    assert carry_out(lambda: raises(error), interrupted="stopped: nothing was written") == code
    assert capsys.readouterr().err == told


def test_a_scheduler_s_signal_is_told_like_ctrl_c(capsys: pytest.CaptureFixture[str]):
    before = signal.getsignal(signal.SIGTERM)

    def command() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    assert carry_out(command, interrupted="stopped: nothing was written") == 143
    assert capsys.readouterr().err == "stopped: nothing was written\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        carry_out(lambda: raises(ZeroDivisionError()), interrupted="stopped")


@pytest.mark.parametrize(
    ("main", "needed"), [(evaluate.main, []), (report.main, []), (play.main, []), (export.main, ["--policy", "p"])]
)
def test_a_run_that_is_missing_is_named(main, needed: list[str], tmp_path, capsys: pytest.CaptureFixture[str]):
    """The same exit code and form from each of them."""
    missing = tmp_path / "nothing"
    assert main([str(missing), *(str(tmp_path / part) if part == "p" else part for part in needed)]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert str(missing) in error
