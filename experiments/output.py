"""What a command leaves on standard output."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """Prints; a reader who has had enough, such as `| head`, ends nothing with a traceback."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
