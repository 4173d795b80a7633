"""Every entry of the changelog says whether scores can change, and a yes can be looked up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ENTRIES = re.split(r"^- ", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
YES = re.compile(r"yes; before (?P<before>.+), after (?P<after>.+) \(\[.+\]\((?P<file>.+)\)\)")


def faults_of(entry: str) -> str:
    """What an entry lacks; empty where nothing is."""
    answers = re.findall(r"^  affects scores: (.+)$", entry, re.MULTILINE)
    if len(answers) != 1:
        return "needs one line `affects scores: yes or no`"
    if answers[0] == "no":
        return ""
    found = YES.fullmatch(answers[0])
    if not found:
        return "names no comparison: yes; before X, after Y ([FILE](FILE))"
    file = REPOSITORY / found["file"]
    numbers = re.findall(r"\d+(?:\.\d+)?", found["before"] + " " + found["after"])
    missing = [number for number in numbers if not file.is_file() or number not in file.read_text()]
    return f"{found['file']} does not hold {missing}" if missing or not numbers else ""


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[:40])
def test_an_entry_says_whether_scores_change(entry):
    assert faults_of(entry) == ""


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("A change.\n", "needs one line"),
        ("A change.\n  affects scores: maybe\n", "names no comparison"),
        ("A change.\n  affects scores: yes\n", "names no comparison"),
        ("A change.\n  affects scores: yes; before 1, after 2 ([x](nowhere.md))\n", "does not hold"),
        ("A change.\n  affects scores: yes; before 123456.7, after 500.0 ([x](experiments/README.md))\n", "123456.7"),
        ("A change.\n  affects scores: yes; before bad, after good ([x](experiments/README.md))\n", "does not hold"),
    ],
)
def test_what_an_entry_lacks_is_found(entry, fault):
    assert fault in faults_of(entry)
