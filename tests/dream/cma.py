"""CMA-ES, as short as it can be (N. Hansen, "The CMA Evolution Strategy: A Tutorial", 2016, figure 6)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def maximize(
    function: Callable[[np.ndarray], np.ndarray], mean: np.ndarray, *, sigma: float, population: int, generations: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """The mean of the search distribution after so many generations.

    Args:
        function: from candidates `[population, d]` to their values `[population]`; it may be noisy.
        mean: where the search begins, `[d]`.
        sigma: standard deviation of the first candidates.
        population: candidates of a generation.
        generations: how many.
        rng: randomness.
    """
    size = len(mean)
    weights = np.log((population + 1) / 2) - np.log(np.arange(1, population // 2 + 1))
    weights /= weights.sum()
    mass = 1 / np.sum(weights**2)
    path_rate = (mass + 2) / (size + mass + 5)
    damping = 1 + path_rate + 2 * max(0.0, np.sqrt((mass - 1) / (size + 1)) - 1)
    rank_one_rate = (4 + mass / size) / (size + 4 + 2 * mass / size)
    one = 2 / ((size + 1.3) ** 2 + mass)
    many = min(1 - one, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
    usual_length = np.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))

    covariance, sigma_path, path = np.eye(size), np.zeros(size), np.zeros(size)
    for generation in range(1, generations + 1):
        scales, axes = np.linalg.eigh(covariance)
        scales = np.sqrt(np.maximum(scales, 1e-20))
        steps = rng.normal(size=(population, size)) * scales @ axes.T
        best = np.argsort(-function(mean + sigma * steps))[: len(weights)]
        step = weights @ steps[best]
        mean = mean + sigma * step
        whitened = axes @ ((axes.T @ step) / scales)
        sigma_path = (1 - path_rate) * sigma_path + np.sqrt(path_rate * (2 - path_rate) * mass) * whitened
        length = np.linalg.norm(sigma_path) / np.sqrt(1 - (1 - path_rate) ** (2 * generation))
        stalls = float(length < (1.4 + 2 / (size + 1)) * usual_length)
        path = (1 - rank_one_rate) * path
        path += stalls * np.sqrt(rank_one_rate * (2 - rank_one_rate) * mass) * step
        lost = (1 - stalls) * rank_one_rate * (2 - rank_one_rate)
        covariance = (1 - one - many + one * lost) * covariance + one * np.outer(path, path)
        covariance += many * (steps[best].T * weights) @ steps[best]
        sigma *= np.exp(path_rate / damping * (np.linalg.norm(sigma_path) / usual_length - 1))
    return mean
