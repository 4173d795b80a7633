"""`python -m dreamer.doctor [--json]`: the list of checks, and how their findings are shown."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping

from dreamer.doctor.devices import check_devices
from dreamer.doctor.findings import Check, run_checks
from dreamer.doctor.machine import check_cache, check_disk, check_memory, check_pages
from dreamer.doctor.packages import PACKAGES, check_others, check_package, check_python
from dreamer.doctor.parts import check_rendering, check_roms, check_workers
from envs.check.finding import FAIL, OK, WARNING, Finding

PROGRAM = "python -m dreamer.doctor"
FAULT = 1  # exit code
CHECKS: dict[str, Check] = {
    "Python": check_python,
    **dict.fromkeys(PACKAGES, check_package),
    "other packages": check_others,
    "device": check_devices,
    "rendering": check_rendering,
    "Atari": check_roms,
    "workers": check_workers,
    "memory": check_memory,
    "disk": check_disk,
    "large pages": check_pages,
    "compiled": check_cache,
}
COLORS = {OK: "\033[32m", WARNING: "\033[33m", FAIL: "\033[1;31m"}
RESET = "\033[0m"
LEAST_WIDTH = 40  # of the text, on a narrow terminal


def main(argv: list[str] | None = None, *, checks: Mapping[str, Check] = CHECKS) -> int:
    """Runs the checks and shows what they find; returns 0 where all that training needs works, else 1."""
    arguments = parse(argv)
    findings = []
    for finding in run_checks(checks):
        findings.append(finding)
        if not arguments.json:
            show(finding, name_width=max(map(len, checks)))
    failures = [finding for finding in findings if finding.status == FAIL]
    if arguments.json:
        print(json.dumps({"works": not failures, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        print(summary(findings))
    return FAULT if failures else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Check what training needs; exit code 1 if it is not there."
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser.parse_args(argv)


def show(finding: Finding, *, name_width: int) -> None:
    """Prints a row at once, as later checks may take seconds; a remedy stays on one line, to be copied."""
    status = f"{finding.status:<{len(WARNING)}}"
    if sys.stdout.isatty():
        status = f"{COLORS[finding.status]}{status}{RESET}"
    indent = name_width + len(WARNING) + 4
    width = max(LEAST_WIDTH, shutil.get_terminal_size((120, 24)).columns - indent)
    lines = textwrap.wrap(finding.text, width, break_long_words=False, break_on_hyphens=False) or [""]
    print(f"{finding.name:<{name_width}}  {status}  " + f"\n{'':{indent}}".join(lines))
    if finding.remedy:
        print(f"{'':{indent}}-> {finding.remedy}")
    sys.stdout.flush()


def summary(findings: list[Finding]) -> str:
    """The last line."""
    failures = sum(finding.status == FAIL for finding in findings)
    warnings = sum(finding.status == WARNING for finding in findings)
    counts = f"{failures} failed, {warnings} warned, {len(findings) - failures - warnings} ok"
    return f"\n{counts}: " + ("mend what failed (->)" if failures else "training works here")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
