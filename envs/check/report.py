"""Findings as a table and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from envs.check.finding import Finding

STATUS_WIDTH = len("warning")


def table(findings: Sequence[Finding], *, width: int = 100) -> str:
    """One aligned table: check, status, one sentence, and the remedy below it."""
    name_width = max(len(finding.name) for finding in findings)
    indent = " " * (name_width + STATUS_WIDTH + 4)
    lines = []
    for finding in merge_unchecked(findings):
        text = f"{finding.name:{name_width}}  {finding.status:{STATUS_WIDTH}}  {finding.text}"
        if len(finding.name) > name_width:
            text = f"{'':{name_width}}  {finding.status:{STATUS_WIDTH}}  {finding.name}: {finding.text}"
        lines += textwrap.wrap(text, width, subsequent_indent=indent, drop_whitespace=True, break_long_words=False)
        if finding.remedy:
            arrow = f"{indent}-> "
            lines += textwrap.wrap(finding.remedy, width, initial_indent=arrow, subsequent_indent=f"{indent}   ")
    return "\n".join([*lines, "", summary(findings)])


def merge_unchecked(findings: Sequence[Finding]) -> list[Finding]:
    """Checks that were not made for one and the same reason share a row, after the others."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status == "-":
            reasons.setdefault(finding.text, []).append(finding.name)
    rows = [finding for finding in findings if finding.status != "-"]
    return rows + [Finding(", ".join(names), "-", text) for text, names in reasons.items()]


def summary(findings: Sequence[Finding]) -> str:
    """`24 ok, 1 warning, 1 FAIL, 0 not checked`."""
    count = {status: sum(finding.status == status for finding in findings) for status in ("ok", "warning", "FAIL", "-")}
    warnings = f"{count['warning']} warning{'' if count['warning'] == 1 else 's'}"
    return f"{count['ok']} ok, {warnings}, {count['FAIL']} FAIL, {count['-']} not checked"


def as_json(name: str, seed: int, findings: Sequence[Finding]) -> str:
    """The same for programs."""
    return json.dumps(
        {"env": name, "seed": seed, "passed": passed(findings), "findings": [f._asdict() for f in findings]}, indent=2
    )


def passed(findings: Sequence[Finding]) -> bool:
    """Whether nothing is a FAIL."""
    return all(finding.status != "FAIL" for finding in findings)
