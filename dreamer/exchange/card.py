"""The model card of an exported policy: what it plays, how well, how it was trained, how to load it."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml

from dreamer.config import Config
from dreamer.plan import describe_spec
from dreamer.presets import diff

if TYPE_CHECKING:
    from dreamer.agent import Agent

RECENT = 100  # training episodes that count where nobody evaluated
SILENT = ("env", "size", "seed", "logdir", "preset", "init_from")  # said elsewhere on the card, or of no use to others


class Score(NamedTuple):
    """Undiscounted returns, and what they were measured on."""

    mean: float
    std: float
    measured: str


def measured_score(run: Path) -> Score | None:
    """The score of a run: of its evaluation, or else of its last episodes of training; None where there is neither."""
    try:
        results = json.loads((run / "evaluation" / "results.json").read_text(encoding="utf-8"))
        score, episodes = results["score"], results["num_episodes"]
        found = Score(float(score["mean"]), float(score["std"]), f"{episodes} episodes of evaluation")
    except (OSError, ValueError, LookupError, TypeError):
        found = _training_score(run / "episodes.csv")
    return found if found and math.isfinite(found.mean + found.std) else None


def model_card(agent: Agent, *, parameters: int) -> str:
    """The card, with the block of metadata that Hugging Face reads.

    Args:
        agent: whose `path` is its run, where its score is looked for.
        parameters: how many the policy has.
    """
    env, score = agent.interface.env, measured_score(agent.path)
    told = (
        f"Score: {score.mean:,.1f} +/- {score.std:,.1f} ({score.measured})."
        if score
        else "Its score was not measured before it was exported."
    )
    header = yaml.safe_dump(_metadata(env, score), sort_keys=False, allow_unicode=True)
    frames = agent.counters.env_frames
    trained = f"{frames:,} frames ({agent.counters.agent_steps:,} agent steps)" if frames else "a dataset alone"
    return f"""---
{header}---

# DreamerV3 on {env}

{told} Trained on {trained}, {agent.counters.updates:,} updates; size {agent.config.size}, seed {agent.config.seed}.
This is the policy alone, {parameters:,} parameters: encoder, RSSM and actor, without decoder and critic.

It takes {describe_spec(agent.observation_spec)} and gives {describe_spec(agent.action_spec)}.

```python
import dreamer  # pip install 'dreamer-jax[hub]'

agent = dreamer.load("path/to/this/folder")
action, state = agent.predict(observation, state=None, deterministic=True)  # give `state` back with the next one
```

`python -m dreamer.evaluate path/to/this/folder --env {env}` plays complete episodes.

## Settings that differ from the defaults

{_settings(agent.config)}

`config.json` holds all of them. Nothing in this folder is executed when it is loaded.
"""


def _metadata(env: str, score: Score | None) -> dict[str, Any]:
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "dreamerv3", "world-model", env]
    metadata: dict[str, Any] = {"library_name": "dreamer-jax", "tags": tags}
    if score:
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": env, "type": env},
            "metrics": [
                {"type": "mean_reward", "value": f"{score.mean:.2f} +/- {score.std:.2f}", "name": "mean_reward"}
            ],
        }
        metadata["model-index"] = [{"name": "DreamerV3", "results": [result]}]
    return metadata


def _settings(config: Config) -> str:
    changed = diff(Config(), config)
    lines = [f"- `{name}`: {value}" for name, (_, value) in changed.items() if name not in SILENT]
    return "\n".join(lines) or "None."


def _training_score(path: Path) -> Score | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            scores = [float(row["score"]) for row in csv.DictReader(file)][-RECENT:]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return Score(float(np.mean(scores)), float(np.std(scores)), f"last {len(scores)} of training") if scores else None
