"""Printing into a pipe whose reader has gone."""

from __future__ import annotations

import subprocess
import sys

TALK = (
    "import sys; from experiments.output import say\n"
    "for _ in range(20): say('word ' * 10_000)\n"
    "print('done', file=sys.stderr)"
)


def test_a_reader_who_has_had_enough_ends_nothing_with_a_traceback():
    with subprocess.Popen(
        [sys.executable, "-c", TALK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as talker:
        assert talker.stdout is not None
        assert talker.stderr is not None
        assert talker.stdout.read(4) == "word"
        talker.stdout.close()
        assert talker.stderr.read().strip() == "done"
    assert talker.returncode == 0
