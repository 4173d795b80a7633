"""What the environment costs: time and memory."""

from __future__ import annotations

import time

import numpy as np

from envs.check.evidence import Evidence
from envs.check.finding import Finding, ok, warning
from envs.spaces import ImageSpec, VectorSpec, action_width

LEAST_STEPS = 5
SLOW = 20.0  # steps per second
NUMBER_BYTES, FLAG_BYTES = 4, 3


def check_speed(evidence: Evidence) -> Finding:
    """Agent steps per second of one environment, and the hours that a run spends in it."""
    player = evidence.adapted_player()
    player.start(evidence.seed)
    actions, deadline, times = evidence.random_actions(100_000, stream=5), evidence.until(0.03), [time.monotonic()]
    for action in actions:
        player.step(action)
        times.append(time.monotonic())
        if (times[-1] > deadline and len(times) > LEAST_STEPS) or evidence.is_late:
            break
    rate = (len(times) - 1) / (times[-1] - times[0])
    player.close()
    text = f"{rate:,.0f} steps per second: {_duration(evidence.train_steps / rate)} for {evidence.train_steps:,} steps"
    # The median: a machine that is busy elsewhere for a moment makes no slow environment.
    if 1.0 / max(float(np.median(np.diff(times))), 1e-9) < SLOW:
        return warning(text, "several at once help: --environment.num-envs 8 gives each a process")
    return ok(f"{text}, beside the learning")


def check_memory(evidence: Evidence) -> Finding:
    """Bytes of replay; the model's latents, which depend on its size, come on top."""
    spec = evidence.example.observation_spec
    parts = [
        part.height * part.width * part.channels
        if isinstance(part, ImageSpec)
        else NUMBER_BYTES * (part.size if isinstance(part, VectorSpec) else len(part.num_classes))
        for part in spec.values()
    ]
    size = sum(parts) + NUMBER_BYTES * (action_width(evidence.example.action_spec) + 1) + FLAG_BYTES
    return ok(f"{size:,} bytes a step, {size / 1e3:,.2f} GB per million steps of replay, and the model's latents")


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds > 5400 else f"{seconds / 60:,.1f} minutes"
