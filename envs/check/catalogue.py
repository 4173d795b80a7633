"""The list of checks, in the order in which they are made and shown: a new check is a function and a line here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

from envs.check import adapted, causes, contract, cost, episodes, seeding
from envs.check.evidence import Evidence, describe_crash
from envs.check.finding import Finding, fail, unchecked

Check = Callable[[Evidence], Finding]

CHECKS: dict[str, Check] = {
    "spaces": contract.check_spaces,
    "api": contract.check_api,
    "random play": contract.check_crashes,
    "shapes": contract.check_shapes,
    "dtypes": contract.check_dtypes,
    "bounds": contract.check_bounds,
    "finite": contract.check_finite,
    "rewards": contract.check_rewards,
    "values": contract.check_values,
    "speed": cost.check_speed,
    "memory": cost.check_memory,
    "same seed": seeding.check_same_seed,
    "other seeds": seeding.check_other_seeds,
    "leaks": seeding.check_leaks,
    "neighbours": seeding.check_neighbours,
    "buffers": seeding.check_buffers,
    "lengths": episodes.check_lengths,
    "termination": episodes.check_termination,
    "truncation": episodes.check_truncation,
    "last observation": episodes.check_last_observation,
    "action space": contract.check_action_space,
    "action effect": causes.check_action_effect,
    "timing": causes.check_timing,
    "fork": causes.check_fork,
    "timesteps": adapted.check_timesteps,
    "adapter": adapted.check_adapter,
}


def run_checks(evidence: Evidence, *, started: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Make every check; what the environment raises becomes a finding.

    An exception after the first FAIL is mostly the same fault once more, so that it counts as not checked.
    """
    has_failed = False
    for name, check in CHECKS.items():
        started(name)
        finding = (
            unchecked("no time is left; raise --seconds") if evidence.is_late else _run(check, evidence, has_failed)
        )
        has_failed |= finding.status == "FAIL"
        yield finding._replace(name=name)


def _run(check: Check, evidence: Evidence, has_failed: bool) -> Finding:  # noqa: FBT001 (what it is stands at the call)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the table says it better
            return check(evidence)
    except (Exception, SystemExit) as error:
        text, _, remedy = describe_crash(error).partition("; ")
        if has_failed:
            return unchecked(f"after the FAIL above, {text}")
        return fail(text, remedy or "every reset and step must succeed; correct the environment there")
