"""The simulation lemma with the right constants: what a one-step error can cost in value, at most (G3)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def total_variation(one: Float[np.ndarray, "S T"], other: Float[np.ndarray, "S T"]) -> float:
    """Largest half-L1 distance between rows of two transition matrices."""
    return float(np.abs(np.asarray(one) - other).sum(axis=-1).max() / 2)


def value_bound(*, epsilon: float, discount: float, reward_range: float, reward_error: float = 0.0) -> float:
    """Largest difference of values between two transition models with the same policy and rewards.

    Source: Lobel & Parr, 2024 (arXiv:2406.16249). It never exceeds the trivial `reward_range / (1 - discount)`.

    Args:
        epsilon: half-L1 total variation between both, everywhere at most.
        discount: below 1.
        reward_range: largest minus smallest reward.
        reward_error: largest error of a reward model.
    """
    kept = 1.0 - discount
    transition = reward_range * discount * epsilon / (kept * (1.0 - discount * (1.0 - epsilon)))
    return transition + reward_error / kept


def return_bound(*, epsilon: float, discount: float, reward_range: float, steps: int) -> float:
    """Largest difference of the values of so many steps, where the reward comes with the step and may differ, too.

    After k steps the futures differ with a probability of 1 - (1 - epsilon)^k at most, and with it the k-th reward;
    without an end the sum is `value_bound / discount`.

    Args:
        epsilon: half-L1 total variation between the laws of observation, reward and end, everywhere at most.
        discount: of the second step; 1 is none.
        reward_range: largest minus smallest reward.
        steps: how many count.
    """
    count = np.arange(1, steps + 1)
    return float(reward_range * np.sum(discount ** (count - 1) * (1.0 - (1.0 - epsilon) ** count)))


def value(transition: Float[np.ndarray, "S S"], reward: Float[np.ndarray, " S"], *, discount: float) -> np.ndarray:
    """Exact values of a chain whose reward depends on the state that is left."""
    return np.linalg.solve(np.eye(len(reward)) - discount * np.asarray(transition), np.asarray(reward, np.float64))
