"""The catalogue of faults and the README's promises name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CASES, PROMISES = 45, 12


def rows(path: Path, heading: str) -> dict[int, str]:
    """The numbered rows of the first table after a heading."""
    text = path.read_text(encoding="utf-8").partition(heading)[2]
    found = re.findall(r"^\| (\d+) \|(.*)\|$", text.partition("\n#")[0], flags=re.MULTILINE)
    return {int(number): row.rpartition("|")[2] for number, row in found}


def unknown(cell: str) -> list[str]:
    """Tests of a cell that do not exist; `::name` belongs to the file named before it."""
    names = re.findall(r"([\w/]+\.py)?::(\w+)", cell)
    assert names, "no test is named"
    file, missing = "", []
    for path, name in names:
        file = path or file
        source = TESTS / file
        functions = (
            {node.name for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}
            if source.is_file()
            else set()
        )
        if name not in functions:
            missing.append(f"{file}::{name}")
    return missing


@pytest.mark.parametrize("number", range(1, CASES + 1))
def test_every_fault_has_its_tests(number: int):
    cases = rows(TESTS / "faults" / "README.md", "# Faults")
    assert not unknown(cases[number])


@pytest.mark.parametrize("number", range(1, PROMISES + 1))
def test_every_promise_has_its_tests(number: int):
    promises = rows(TESTS.parent / "README.md", "## Promises")
    assert not unknown(promises[number])
