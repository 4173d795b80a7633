"""Rows that a program logs as lines of JSON, while it still may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.scores.run import ScoresError


def rows(path: Path) -> list[dict[str, Any]]:
    """What is logged so far; none where the log has not begun. A last line that is still being written is left out.

    Raises:
        ScoresError: a whole line is no object of JSON.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [_row(path, number, line) for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1)]


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise ScoresError(f"{path} line {number} cannot be read: {error}") from error
