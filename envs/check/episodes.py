"""How episodes end: termination, truncation, the last observation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from envs.check.evidence import Evidence
from envs.check.finding import Finding, fail, ok, unchecked, warning
from envs.check.player import Moment, same_array

FEW = 3  # ends below which nothing is concluded from their lengths
LONG_HORIZON = 10  # steps; below, a fixed number of steps is mostly the task itself
BY_CHANCE = 1e-4  # probability below which coinciding ends are no coincidence
PATIENCE = 2_000  # steps after which an episode without an end is worth a word


def check_lengths(evidence: Evidence) -> Finding:
    """Episodes end, within the declared limit, and are longer than one step."""
    play, limit = evidence.play, declared_limit(evidence)
    lengths = [len(episode) - 1 for episode in play.finished]
    longest = max((len(episode) - 1 for episode in play.episodes), default=0)
    if limit is not None and longest > limit:
        return fail(
            f"an episode ran {longest:,} steps although {limit:,} are declared as the limit",
            "count the steps of every episode from its own reset",
        )
    if not lengths:
        if limit is None and longest >= PATIENCE:
            return warning(
                f"no episode ended within {longest:,} random steps",
                "if it never ends by itself, give --environment.max-episode-steps when training",
            )
        return ok(f"none ended within {longest:,} steps{f'; the limit is {limit:,}' if limit else ''}")
    if len(lengths) >= FEW and np.mean(np.array(lengths) <= 1) > 0.9:
        return warning(
            f"{np.mean(np.array(lengths) <= 1):.0%} of {len(lengths)} episodes ended at their first step",
            "unless the task is one step long, an end of the episode before is not cleared in reset",
        )
    return ok(f"{min(lengths):,} to {max(lengths):,} steps, median {np.median(lengths):,.0f}")


def check_termination(evidence: Evidence) -> Finding:
    """No time limit hides among the terminations: too many of them at exactly the greatest length."""
    finished = evidence.play.finished
    if not finished:
        return unchecked("no episode ended")
    if len(finished) >= FEW and all(episode[-1].terminated and episode[-1].truncated for episode in finished):
        return warning(
            f"all {len(finished)} episodes ended with both terminated and truncated",
            "set terminated where the task is over, truncated where only time is; both count as terminated",
        )
    lengths = np.array([len(episode) - 1 for episode in finished if episode[-1].terminated])
    if not len(lengths):
        return ok("no random episode terminated")
    longest = lengths.max()
    at_once = int((lengths == longest).sum())
    # Chance that all who live to the last step die in that very step, given how often episodes die before it.
    alive = sum(min(len(episode) - 1, longest - 1) for episode in finished)
    survivors = sum(len(episode) - 1 >= longest and not episode[-1].terminated for episode in evidence.play.episodes)
    hazard = (len(lengths) - at_once + 1) / (alive + 2)
    is_common = at_once >= FEW and longest >= LONG_HORIZON and not survivors
    if is_common and at_once * math.log(hazard) < math.log(BY_CHANCE):
        return warning(
            f"{at_once} of {len(lengths)} terminated episodes end after exactly {longest} steps, none later",
            "if that is a time limit, return truncated instead of terminated, or the agent takes it for death",
        )
    return ok(f"{len(lengths)} of {len(finished)} episodes, at no suspicious common length")


def check_truncation(evidence: Evidence) -> Finding:
    """A time limit always cuts at the same step; anything else that ends an episode is a termination."""
    cut = [len(episode) - 1 for episode in evidence.play.finished if not episode[-1].terminated]
    if not cut:
        return ok("no random episode was truncated")
    limit = declared_limit(evidence)
    early = [length for length in cut if length < (limit or max(cut))]
    if early:
        return warning(
            f"{len(early)} of {len(cut)} truncated episodes were cut early, after {min(early)} to {max(early)} steps"
            f"{f' of {limit:,}' if limit else ''}",
            "if the task is over there (death, goal), return terminated; truncated promises that it would go on",
        )
    return ok(f"{len(cut)} episodes, all after {cut[0]:,} steps")


def check_last_observation(evidence: Evidence) -> Finding:
    """The observation of the last step is that step's, not the next episode's first."""
    branches = evidence.branches
    resets, matches, ends = [], 0, 0
    for point in branches.ends if branches.is_usable else []:
        before, last = branches.moments[point], branches.moments[point + 1]
        first = branches.reset_instead(point)
        resets.append(first)
        ends += 1
        matches += _same(last, first) and not _same(last, before)
    is_jump = ends == 0 or matches < ends
    if is_jump and not _jumps_to_start(evidence.play.finished, evidence.play.episodes):
        return ok("belongs to the episode that ends") if evidence.play.finished else unchecked("no episode ended")
    if not is_jump and len(resets) > 1 and all(_same(resets[0], first) for first in resets):
        return warning(
            f"the last observation of {matches} of {ends} episodes is the one of a reset (every reset is alike)",
            "unless tasks end where they start, do not reset inside step; return the state in which the episode ended",
        )
    return fail(
        "the last observation of an episode is a reset's: the state in which it ended is never shown",
        "do not reset inside step; gymnasium resets, after your last observation",
    )


def _jumps_to_start(finished: list[list[Moment]], episodes: list[list[Moment]]) -> bool:
    """Whether vectors leap, at most ends and nowhere else, into the range where episodes start."""
    finished = [episode for episode in finished if len(episode) > 2]
    if len(finished) < FEW:
        return False
    starts = np.stack([_vector(episode[0]) for episode in episodes])
    scale = np.stack([_vector(moment) for episode in finished for moment in episode[:-1]]).std(0) + 1e-9
    low, high = starts.min(0) - 1e-6, starts.max(0) + 1e-6
    usual = max(_leap(a, b, scale) for episode in finished for a, b in pairwise(episode[:-1]))
    suspicious = 0
    for episode in finished:
        before, last = _vector(episode[-2]), _vector(episode[-1])
        is_start = bool(((last >= low) & (last <= high)).all()) and not ((before >= low) & (before <= high)).all()
        suspicious += is_start and _leap(episode[-2], episode[-1], scale) > usual
    return suspicious >= max(FEW, 0.5 * len(finished))


def _leap(a: Moment, b: Moment, scale: np.ndarray) -> float:
    return float(np.abs((_vector(b) - _vector(a)) / scale).max())


def _vector(moment: Moment) -> np.ndarray:
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in moment.observation.values()])


def _same(a: Moment, b: Moment) -> bool:
    return all(same_array(array, b.observation[key]) for key, array in a.observation.items())


def declared_limit(evidence: Evidence) -> int | None:
    """The smallest limit in agent steps that the environment itself declares."""
    protocol, limits = evidence.example.protocol, []
    limits += [protocol.get("time_limit_steps"), protocol.get("max_episode_steps")]
    if protocol.get("max_episode_frames"):
        limits.append(math.ceil(protocol["max_episode_frames"] / evidence.example.action_repeat))
    return min((int(limit) for limit in limits if limit), default=None)
