"""The detection table: `python -m tests.envs.check.detection` makes every mutation of every world."""

from __future__ import annotations

import math
import warnings

from envs.check.catalogue import run_checks
from envs.check.evidence import Evidence, Subject, subject_of
from tests.envs.check.adapter_mutations import ADAPTER_MUTATIONS, maker
from tests.envs.check.mutations import MUTATIONS
from tests.envs.check.worlds import WORLDS, Grid

SECONDS = 2.5  # budget of one mutant


def alarms(subject: Subject, *, seconds: float = SECONDS, seed: int = 0) -> dict[str, str]:
    """Checks that are not content, with what they say."""
    evidence = Evidence(subject, seconds=seconds, seed=seed)
    evidence.deadline = math.inf  # a busy machine takes longer, and concludes the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = list(run_checks(evidence))
    return {f.name: f"{f.status}: {f.text}" for f in findings if f.status in ("warning", "FAIL")}


def alarms_of(name: str, world: type, *, seed: int = 0) -> dict[str, str]:
    """The same for a mutation of a world."""
    return alarms(subject_of(MUTATIONS[name].make(world)), seed=seed)


def alarms_of_adapter(name: str, *, world: type = Grid, seed: int = 0) -> dict[str, str]:
    """The same for a mutation of the adapter."""
    return alarms(Subject(name, maker(ADAPTER_MUTATIONS[name], world), world), seed=seed)


def main() -> None:
    """Print the table."""
    found = total = 0
    for name, (_, worlds, checks) in MUTATIONS.items():
        for world in worlds:
            seen = alarms_of(name, world)
            hit = bool(set(seen) & set(checks))
            found, total = found + hit, total + 1
            print(f"{name:42} {world.__name__:8} {'found ' if hit else 'MISSED'} {', '.join(seen)}", flush=True)
    for name in ADAPTER_MUTATIONS:
        for world in WORLDS:
            seen = alarms_of_adapter(name, world=world)
            hit = bool(set(seen) & {"timesteps", "adapter"})
            found, total = found + hit, total + 1
            print(f"adapter {name:34} {world.__name__:8} {'found ' if hit else 'MISSED'} {', '.join(seen)}", flush=True)
    print(f"{found} of {total} = {found / total:.0%}")


if __name__ == "__main__":
    main()
