"""The README as data: its code blocks, commands, links and tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Contents of the fenced blocks of a language; `""` for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [content for name, content in found if name == language]


def commands(program: str) -> list[list[str]]:
    """Arguments of every `python -m <program> ...`, in a block or inline."""
    lines = re.findall(rf"python -m {re.escape(program)}((?: [^`\n|&]+)?)", TEXT)
    return [shlex.split(line, comments=True) for line in lines]


def flags() -> set[str]:
    """Every `--flag` that is not another program's."""
    others = re.compile(r"tensorboard --logdir \S+|ray start .*|--times 10")
    return set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", others.sub("", TEXT)))


def links() -> list[tuple[str, str, str]]:
    """Folder, text and target of every link and picture, of this and of the folders' own READMEs."""
    return [
        (page.parent.relative_to(REPOSITORY).as_posix(), text, target)
        for page in (REPOSITORY / "README.md", *sorted(REPOSITORY.glob("[a-z]*/**/README.md")))
        for text, target in re.findall(r"(?<!`)\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    ]


def table(first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    lines = TEXT.split(f"\n| {first_heading} |", 1)[1].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
