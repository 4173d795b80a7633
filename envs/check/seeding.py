"""Seeds, determinism, and what one episode or one instance must not know of another."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.check.evidence import Evidence
from envs.check.finding import Finding, fail, ok, unchecked, warning
from envs.check.player import difference, same_array, stream

SEEDS = 5
SEED_REMEDY = "call super().reset(seed=seed) first; draw from self.np_random alone, never from np.random or random"


def check_same_seed(evidence: Evidence) -> Finding:
    """Two new environments with the same seed and actions show the same to the last bit."""
    if evidence.parting is not None:
        return fail(f"same seed, same actions, but {evidence.parting}", SEED_REMEDY)
    return ok(f"same seed and actions, same {evidence.length:,} steps to the last bit")


def check_other_seeds(evidence: Evidence) -> Finding:
    """Another seed gives another start, where starts are random at all."""
    player = evidence.player()
    starts = [player.start(evidence.seed + index).observation for index in range(SEEDS)]
    player.close()
    count = len({_key(start) for start in starts})
    if count > 1:
        return ok(f"{SEEDS} seeds gave {count} different starts")
    if len({_key(episode[0].observation) for episode in evidence.play.episodes}) > 1:
        return fail("every seed gives the same first start, although later episodes start elsewhere", SEED_REMEDY)
    if evidence.parting is None and difference(
        evidence.reference, evidence.record(evidence.player(), seed=evidence.seed + 1)
    ):
        return ok("one start for all seeds, random from there on")
    return ok("nothing is random here: every seed and every episode starts the same")


def check_leaks(evidence: Evidence) -> Finding:
    """A used environment, reset with a seed, equals a new one: at the end of an episode and in the middle."""
    if evidence.subject.make_raw is None:
        return unchecked("a suite takes its seed when it is made, not at reset")
    if evidence.parting is not None:
        return unchecked("the environment is not reproducible in the first place")
    player = evidence.raw_player()
    for used in (evidence.length, evidence.length // 3):
        stream(player, evidence.seed + 1, evidence.random_actions(used, stream=2))
        parting = difference(evidence.reference, stream(player, evidence.seed, evidence.actions))
        if parting is not None:
            return fail(
                f"an environment that was used before and one that is new, reset with the same seed, differ: {parting}",
                "state leaks from one episode into the next; set every attribute in reset",
            )
    player.close()
    return ok("after reset(seed) a used environment equals a new one")


def check_neighbours(evidence: Evidence) -> Finding:
    """Two environments of one process, stepped in turn, do not disturb each other."""
    if evidence.parting is not None:
        return unchecked("the environment is not reproducible in the first place")
    one, two = evidence.player(), evidence.player()
    moments = [one.start(evidence.seed)]
    two.start(evidence.seed + 1)
    others = evidence.random_actions(evidence.length, stream=3)
    for action, other in zip(evidence.actions, others, strict=True):
        two.step(other)
        moments.append(one.step(action))
    parting = difference(evidence.reference, moments)
    one.close()
    two.close()
    if parting is None:
        return ok("two environments stepped in turn do not disturb each other")
    return fail(
        f"a second environment in the same process changes the first: {parting}",
        "keep state and random numbers in the instance, not in the class, the module or np.random",
    )


def check_buffers(evidence: Evidence) -> Finding:
    """Returned arrays are not written to later, and writing into them does not change the environment."""
    if evidence.subject.make_raw is None:
        return ok("a suite of ours; see `timesteps`")
    player, kept = evidence.raw_player(), []
    player.start(evidence.seed)
    for index, action in enumerate(evidence.actions[:200]):
        kept.append((index, player.arrays(), {key: np.array(part) for key, part in player.arrays().items()}))
        player.step(action)
    player.close()
    for index, arrays, copies in kept:
        changed = [key for key, copy in copies.items() if not same_array(copy, np.asarray(arrays[key]))]
        if changed:
            return warning(
                f"the observation of step {index} changed after it was returned",
                "return a copy (`.copy()`); we copy on receipt, other programs store wrong data silently",
            )
    if evidence.parting is None and (parting := _scribble(evidence)) is not None:
        return warning(
            f"writing into a returned observation changes the environment: {parting}",
            "return a copy (`.copy()`) of the state; we copy on receipt, other programs may write into it",
        )
    return ok("returned arrays belong to the caller")


def _scribble(evidence: Evidence) -> str | None:
    """Where the reference parts from a run whose returned arrays are overwritten."""
    player = evidence.raw_player()
    moments = [player.start(evidence.seed)]
    for action in evidence.actions[:200]:
        for array in player.arrays().values():
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = 1 - array if array.dtype.kind == "b" else array // 2 + 1
        moments.append(player.step(action))
    player.close()
    return difference(evidence.reference[: len(moments)], moments)


def _key(observation: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(array.tobytes() for array in observation.values())
