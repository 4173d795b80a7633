"""Spaces, types and values: what every single moment has to satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.check.evidence import Evidence
from envs.check.finding import Finding, fail, ok, unchecked, warning
from envs.codec import leaves
from envs.environment import EnvironmentFault
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec

LONG_VECTOR = 2_000  # components; more are mostly an image that was not recognised
MANY = 500  # steps after which a reward would be expected
FEW = 10  # steps after which nothing can be said yet
LARGE = 1e6  # of a reward or a vector: symlog bears it, floats begin to round it


def check_spaces(evidence: Evidence) -> Finding:
    """Every part of both spaces has a place in the model."""
    if evidence.subject.make_raw is not None:
        evidence.raw_player().close()  # its complaint about a class that is no gymnasium.Env is the clearer one
    env = evidence.example
    text = f"observation {_describe(env.observation_spec)}; action {_describe(env.action_spec)}"
    long = [
        key for key, part in env.observation_spec.items() if isinstance(part, VectorSpec) and part.size > LONG_VECTOR
    ]
    if long:
        return warning(f"{text}: a vector this long", f"if {long[0]!r} is an image, declare a uint8 Box 0..255")
    return ok(text)


def check_api(evidence: Evidence) -> Finding:
    """Reset and step of the innermost environment return what gymnasium says, before wrappers trip over it."""
    if evidence.subject.make_raw is None:
        return ok("a suite of ours; its simulator is checked through `Environment`")
    player = evidence.raw_player()
    player._env = player._env.unwrapped
    player.start(evidence.seed)
    player.step(evidence.random_actions(1)[0])
    player.close()
    complaints = player.complaints | evidence.play.complaints
    if complaints:
        return fail(*next(iter(complaints.values())).split("; ", 1))
    return ok("reset returns (observation, info), step five values of the right types")


def check_crashes(evidence: Evidence) -> Finding:
    """Random play, the corners of the action space included, raises nothing."""
    play = evidence.play
    if play.crash is None:
        return ok(f"{play.steps:,} random steps, {len(play.finished)} whole episodes")
    remedy = "every action of the action space must be accepted at every step; correct the environment there"
    text, _, own_remedy = play.crash.partition("; ")
    return fail(f"after {play.steps:,} steps: {text}", own_remedy or remedy)


def check_shapes(evidence: Evidence) -> Finding:
    """Every observation has the declared shape."""
    for key, space, index, array in _arrays(evidence):
        if array.shape != space.shape:
            return fail(
                f"observation{_named(key)} has shape {array.shape} at step {index}, its space declares {space.shape}",
                "return the declared shape at every reset and step, or declare the one you return",
            )
    return ok("as declared, at every step") if evidence.play.moments else unchecked("there is no observation")


def check_dtypes(evidence: Evidence) -> Finding:
    """Every observation has the declared dtype, or one that casts to it without loss of meaning."""
    for key, space, index, array in _arrays(evidence):
        if array.dtype.kind not in "biuf":
            return fail(
                f"observation{_named(key)} holds {array.dtype} at step {index}, which is no number",
                f"return a NumPy array of {space.dtype}",
            )
        is_symbol = not isinstance(space, spaces.Box)
        if array.dtype != space.dtype and not (is_symbol and array.dtype.kind in "biu"):
            return warning(
                f"observation{_named(key)} has dtype {array.dtype} at step {index}, its space declares {space.dtype}",
                "declare what you return; it is cast, which rounds",
            )
    return ok("as declared, at every step") if evidence.play.moments else unchecked("there is no observation")


def check_bounds(evidence: Evidence) -> Finding:
    """Every observation lies in its space."""
    for key, space, index, array in _arrays(evidence):
        low, high = _bounds(space)
        if array.shape == space.shape and array.dtype.kind in "biuf" and ((array < low) | (array > high)).any():
            outside = array[(array < low) | (array > high)].ravel()
            return fail(
                f"observation{_named(key)} holds {outside[0]:.6g} at step {index}, outside {_range(low, high)}",
                "widen the Box to what the environment can return, or clip",
            )
    return ok("inside the declared spaces") if evidence.play.moments else unchecked("there is no observation")


def check_finite(evidence: Evidence) -> Finding:
    """No NaN, no infinity."""
    for key, _, index, array in _arrays(evidence):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return fail(
                f"observation{_named(key)} holds NaN or an infinity at step {index}",
                "training stops there; find the division or the diverging simulation",
            )
    for index, reward in _rewards(evidence):
        if not np.isfinite(reward):
            return fail(f"the reward of step {index} is {reward}", "training stops there; return a finite number")
    return ok("all rewards and observations") if evidence.play.moments else unchecked("nothing was recorded")


def check_rewards(evidence: Evidence) -> Finding:
    """Rewards have a size that can be learned, and are not always zero."""
    rewards = np.array([reward for _, reward in _rewards(evidence)])
    rewards = rewards[np.isfinite(rewards)]
    if not len(rewards):
        return unchecked("there is no reward")
    text = f"{rewards.min():.4g} to {rewards.max():.4g} under random actions"
    if np.abs(rewards).max() > LARGE:
        return warning(f"{text}, above {LARGE:.0e}", "divide by a constant so that a good episode scores 1 to 1000")
    if not rewards.any() and len(rewards) < MANY:
        return ok(f"none in {len(rewards):,} random steps, too few to say more")
    if not rewards.any():
        return warning(
            f"always 0 in {len(rewards):,} random steps",
            "nothing can be learned until one is met: check the rule, or make the task easier to begin with",
        )
    return ok(text)


def check_values(evidence: Evidence) -> Finding:
    """Images use their range, vectors are of sane size, something changes."""
    lowest, highest = _extremes(evidence)
    if not lowest:
        return unchecked("there is no observation")
    for key, low in lowest.items():
        space, high = evidence.observation_leaves[key], highest[key]
        is_image = isinstance(space, spaces.Box) and len(space.shape) >= 2 and np.all(space.high == 255)
        if is_image and 0 < high.max() <= 1:
            return warning(
                f"image{_named(key)} never exceeds {high.max():g} although its space goes to 255: nearly black",
                "multiply by 255, or declare a float32 Box 0..1",
            )
        if max(abs(low.min()), abs(high.max())) > LARGE:
            return warning(f"observation{_named(key)} holds values above {LARGE:.0e}", "scale it to about -1..1")
    if evidence.play.steps > FEW and all(np.array_equal(low, highest[key]) for key, low in lowest.items()):
        return warning("the observation never changes", "show the agent what its actions do")
    return ok(
        ", ".join(f"{key or 'observation'} {low.min():.4g} to {highest[key].max():.4g}" for key, low in lowest.items())
    )


def _extremes(evidence: Evidence) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Smallest and largest value of every component; without those moments that have another shape."""
    lowest: dict[str, np.ndarray] = {}
    highest: dict[str, np.ndarray] = {}
    for key, space, _, array in _arrays(evidence):
        if array.shape == space.shape and array.dtype.kind in "biuf":
            lowest[key] = np.fmin(lowest.get(key, array), array)
            highest[key] = np.fmax(highest.get(key, array), array)
    return lowest, highest


def _arrays(evidence: Evidence) -> Iterator[tuple[str, Any, int, np.ndarray]]:
    for index, moment in enumerate(evidence.play.moments):
        for key, array in moment.observation.items():
            yield key, evidence.observation_leaves[key], index, array


def _rewards(evidence: Evidence) -> Iterator[tuple[int, float]]:
    for index, moment in enumerate(evidence.play.moments):
        if not moment.is_first and np.size(moment.reward) == 1:
            yield index, float(np.asarray(moment.reward).ravel()[0])


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.Discrete):
        return np.asarray(space.start), np.asarray(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return np.zeros(space.shape), np.ones(space.shape)


def _range(low: np.ndarray, high: np.ndarray) -> str:
    return f"{low.min():.6g}..{high.max():.6g}"


def _named(key: str) -> str:
    return f" {key!r}" if key else ""


def _describe(spec: ObservationSpec | ActionSpec) -> str:
    return ", ".join(f"{key}: {_describe_part(part)}" for key, part in sorted(spec.items()))


def _describe_part(part: ImageSpec | VectorSpec | DiscreteSpec) -> str:
    if isinstance(part, ImageSpec):
        return f"{part.height}x{part.width}x{part.channels} image"
    if isinstance(part, VectorSpec):
        return f"vector of {part.size}"
    return " and ".join(f"{classes} choices" for classes in part.num_classes)


def check_action_space(evidence: Evidence) -> Finding:
    """What the adapter sends lies in the action space and reaches its edges, a start other than 0 included."""
    from envs.codec import ActionCodec

    space = evidence.example.native_action_space
    codec = ActionCodec(space, bound=evidence.subject.action_bound)
    eye = np.eye(codec.width, dtype=np.float32)
    sent = [codec.decode(action) for action in [*eye, *-eye, np.ones(codec.width), -np.ones(codec.width)]]
    outside = next((action for action in sent if not space.contains(action)), None)
    if outside is not None:
        raise EnvironmentFault(f"the adapter sends {outside}, which is not in {space}; report this as a bug of ours")
    edges = []
    for path, leaf in leaves(space, what="action").items():
        low, high = _bounds(leaf)
        edges.append(f"{'/'.join(map(str, path)) or 'action'} {_range(low, high)}")
    return ok(f"the whole range reaches the environment: {', '.join(edges)}")
