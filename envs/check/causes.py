"""Cause and effect: saved states, whether actions matter, and when their reward and observation arrive."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from envs.check.evidence import Evidence
from envs.check.finding import Finding, fail, ok, unchecked, warning
from envs.check.player import Moment, difference
from envs.spaces import ActionSpec, VectorSpec, action_width, vector_width

LEVELS = (-1.0, -0.75, -0.25, 0.25, 0.75, 1.0)  # of a continuous component
MOST_CLASSES = 18  # of a discrete component that are tried
LEAST_POINTS = 6  # states without which "never" means little
HOLD = 4  # steps for which an action is held, for effects that take a moment
FORKS, BEYOND = 6, 10  # states that are saved, and steps to compare after the end of their episode
TREE = 4  # actions tried at each of two steps


def check_fork(evidence: Evidence) -> Finding:
    """A saved state gives the same future, in the same and in another instance, beyond the end of the episode."""
    if not evidence.example.can_fork:
        return ok("no get_state and set_state: a resumed run closes the open episode as truncated; all else works")
    player, other = evidence.adapted_player(), evidence.adapted_player()
    actions, deadline = evidence.random_actions(4 * evidence.length, stream=4), evidence.until(0.04)
    past = [player.start(evidence.seed)]
    for action in actions:
        past.append(player.step(action))
        if time.monotonic() > deadline:
            break
    points = _points_before_ends(past)
    again, states = [player.start(evidence.seed)], {}
    for index in range(max(points, default=0) + 1):
        if index in points:
            evidence.beat("get_state")
            states[index] = player.env.get_state()
        again.append(player.step(actions[index]))
    if difference(past[: len(again)], again):
        return unchecked("the environment is not reproducible, or get_state changes it")
    other.start(evidence.seed + 1)
    for point, state in states.items():
        future = past[point + 1 : points[point] + BEYOND]
        for where, target in (("the same", player), ("another", other)):
            evidence.beat("set_state")
            target.env.set_state(state)
            parting = difference(future, [target.step(action) for action in actions[point : point + len(future)]])
            if parting is not None:
                return fail(
                    f"set_state in {where} instance does not give the same future: {parting} after it",
                    "get_state must hold everything that reset and step write to, set_state must restore all of it",
                )
    return ok(f"{len(states)} saved states give the same future in this and in another instance")


def _points_before_ends(past: list[Moment]) -> dict[int, int]:
    """Where to save, and the end that follows: two thirds into episodes, truncated ones first; they need a counter."""
    starts = [i for i, moment in enumerate(past) if moment.is_first]
    episodes = list(zip(starts, [*starts[1:], len(past)], strict=True))
    episodes = sorted(episodes, key=lambda episode: not past[episode[1] - 1].truncated)
    middles = {(2 * end + start) // 3 if end - start > 2 else start: end for start, end in episodes[:FORKS]}
    return {point: end for point, end in middles.items() if point < len(past) - 1}


class Component(NamedTuple):
    """One choice or one number of the action, and the values that are tried for it."""

    label: str
    is_number: bool
    start: int
    values: np.ndarray  # [options, width]


def components(spec: ActionSpec) -> list[Component]:
    """The components of a flat action vector, in its order."""
    found, start = [], 0
    for key in sorted(spec):
        part = spec[key]
        sizes = [1] * part.size if isinstance(part, VectorSpec) else part.num_classes
        for index, size in enumerate(sizes):
            is_number = isinstance(part, VectorSpec)
            values = np.array(LEVELS)[:, None] if is_number else np.eye(size)[_tried(size)]
            label = key if len(sizes) == 1 else f"{key}[{index}]"
            found.append(Component(label, is_number, start, values.astype(np.float32)))
            start += size
    assert start == sum(map(vector_width, spec.values()))
    return found


def _tried(size: int) -> np.ndarray:
    """Classes to try: all, or the first and last ones, where off-by-one faults show."""
    if size <= MOST_CLASSES:
        return np.arange(size)
    return np.r_[0 : MOST_CLASSES // 2, size - MOST_CLASSES // 2 : size]


def check_action_effect(evidence: Evidence) -> Finding:
    """From the same state different actions lead to different futures, for every component and at its edges."""
    branches = evidence.branches
    if not branches.is_usable:
        return unchecked(f"it needs futures from one state, and {branches.trouble}")
    parts = components(evidence.example.action_spec)
    differs = [np.zeros((len(part.values),) * 2, bool) for part in parts]
    deadline, tried, seen = evidence.until(0.12), 0, 0
    for point in branches.points:
        base = evidence.random_actions(1, stream=100 + point)[0]
        for part, table in zip(parts, differs, strict=True):
            marks = []
            for value in part.values:
                action = base.copy()
                action[part.start : part.start + value.size] = value
                marks.append(_mark(branches.future(point, np.tile(action, (HOLD, 1)))))
            tried += len(marks)
            table |= np.array([[a != b for b in marks] for a in marks])
        seen += 1
        if (time.monotonic() > deadline and seen >= LEAST_POINTS) or evidence.is_late:
            break
    if seen < min(LEAST_POINTS, len(branches.points)):
        return unchecked("too few states could be tried in time; raise --seconds")
    return _judge(parts, differs, tried=tried, is_own=evidence.subject.make_raw is not None)


def _judge(parts: list[Component], differs: list[np.ndarray], *, tried: int, is_own: bool) -> Finding:
    if not any(table.any() for table in differs):
        return warning(
            f"no action made a difference in {tried} futures of {HOLD} steps",
            "pass the action on to what it should move; without an effect there is nothing to learn",
        )
    for part, table in zip(parts, differs, strict=True):
        if not table.any() and len(table) > 1:
            return warning(
                f"{part.label} never made a difference", "use it in step, or leave it out of the action space"
            )
        twins = [(i, j) for i, j in combinations(range(len(table)), 2) if not table[i, j]]
        if part.is_number and ((0, 1) in twins or (len(LEVELS) - 2, len(LEVELS) - 1) in twins):
            side = "lower" if (0, 1) in twins else "upper"
            return warning(
                f"the {side} end of {part.label}'s range is flat: the edge and an eighth before it never differed",
                "declare the Box that the environment uses, without the part that it clips away",
            )
        # Several twins are a game's own redundant buttons. A single pair looks like an index that was clipped.
        if is_own and not part.is_number and len(table) > 2 and len(twins) == 1:
            first, second = twins[0]
            return warning(
                f"choices {first} and {second} of {part.label} never differed, while all the others do",
                "look for an index that is off by one and clipped, a forgotten branch, or drop one of the two",
            )
    alike = sum(int((~table).sum() - len(table)) // 2 for table in differs)
    redundant = f"; {alike} pairs of choices never differed" if alike else ""
    return ok(f"every component matters over its whole range ({tried} futures of {HOLD} steps{redundant})")


def check_timing(evidence: Evidence) -> Finding:
    """Reward and observation answer the action that was just taken, not the one before it."""
    branches = evidence.branches
    if not branches.is_usable:
        return unchecked(f"it needs futures from one state, and {branches.trouble}")
    deadline, answers = evidence.until(0.12), []
    for point in branches.points:
        answers.append(_two_steps(evidence, point))
        if (time.monotonic() > deadline and len(answers) >= LEAST_POINTS) or evidence.is_late:
            break
    if len(answers) < min(LEAST_POINTS, len(branches.points)):
        return unchecked("too few states could be tried in time; raise --seconds")
    now, late = {}, {}
    for what in ("reward", "observation"):
        now[what] = sum(answer[what, "now"] for answer in answers)
        late[what] = sum(answer[what, "late"] for answer in answers)
    for what, sign in (("reward", "observation"), ("observation", "reward")):
        if now[sign] and not now[what] and late[what] >= 2:
            return warning(
                f"the {what} never answers the action just taken, but the one before it, at {late[what]} of "
                f"{len(answers)} states; the {sign} answers at once",
                f"if the rule is not meant so, compute the {what} from the action and state of the same step",
            )
    if not now["reward"] and not late["reward"]:
        return ok(
            "the observation answers at once; no action changed a reward within two steps, so its timing is unseen"
        )
    return ok(f"rewards answer the action just taken at {now['reward']} of {len(answers)} states")


def _two_steps(evidence: Evidence, point: int) -> dict[tuple[str, str], bool]:
    """Whether what arrives depends on the newest action (`now`) and, the newest held fixed, on the one before it."""
    actions = _distinct_actions(evidence, point)
    tree: dict[tuple[int, int], list[Moment]] = {}
    for a, first in enumerate(actions):
        for b, second in enumerate(actions):
            future = evidence.branches.future(point, np.stack([first, second]))
            tree[a, b] = future
            if future[0].is_last:
                break  # the second step would be a reset
    seen = {}
    for what in ("reward", "observation"):
        ones = {a: _part(future[0], what) for (a, b), future in tree.items() if b == 0}
        twos = {pair: _part(future[1], what) for pair, future in tree.items() if not future[0].is_last}
        by_newest = any(twos[a, b] != twos[a, 0] for a, b in twos)
        by_first = {b: {twos[a, c] for a, c in twos if c == b} for _, b in twos}
        seen[what, "now"] = len(set(ones.values())) > 1 or by_newest
        seen[what, "late"] = any(len(values) > 1 for values in by_first.values())
    return seen


def _distinct_actions(evidence: Evidence, point: int) -> np.ndarray:
    """A few actions far apart: for a single choice its first classes, else random corners."""
    parts = components(evidence.example.action_spec)
    if len(parts) == 1:
        values = parts[0].values
        return values[np.unique(np.linspace(0, len(values) - 1, TREE + 1).astype(int))]
    rng = np.random.default_rng([evidence.seed, 8, point])
    return np.sign(rng.uniform(-1, 1, (TREE, action_width(evidence.example.action_spec)))).astype(np.float32)


def _part(moment: Moment, what: str) -> Any:
    if what == "reward":
        return float(moment.reward)
    return tuple(array.tobytes() for array in moment.observation.values())


def _mark(future: list[Moment]) -> tuple[Any, ...]:
    return tuple((_part(m, "observation"), float(m.reward), m.terminated, m.truncated, m.is_first) for m in future)
