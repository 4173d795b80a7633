"""Writes a policy as a Hugging Face repository holds it; `dreamer.exchange.hub` says what that is, and reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from dreamer.agent import Agent
from dreamer.exchange.card import model_card
from dreamer.exchange.hub import CARD, CONFIG, FORMAT, WEIGHTS, require_safetensors, sha256, write_arrays
from dreamer.presets import flatten, nest
from dreamer.training.manifest import fsync_directory
from dreamer.training.policy import by_path, policy_params
from dreamer.training.run_folder import RunFolderError
from envs.space_json import FILE_NAME


def write_hub(agent: Agent, folder: str | Path) -> Path:
    """Writes the policy of an agent, whole or not at all.

    Args:
        agent: from a run, whose last evaluation or training episodes give the card its score; or a saved one.
        folder: that does not exist yet.

    Raises:
        RunFolderError: it exists, or safetensors is missing.
    """
    require_safetensors()
    folder = Path(folder).absolute()
    if folder.exists():
        raise RunFolderError(f"{folder} exists already; choose another path, or remove it first.")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    partial.mkdir(parents=True)
    try:
        arrays = {name: np.asarray(leaf) for name, leaf in by_path(policy_params(agent.params)).items()}
        write_arrays(partial / WEIGHTS, arrays)
        agent.interface.write(partial / FILE_NAME)
        document = {
            "library_name": "dreamer-jax",
            "format": FORMAT,
            "counters": agent.counters._asdict(),
            "sha256": {name: sha256(partial / name) for name in (WEIGHTS, FILE_NAME)},
            "config": nest(flatten(agent.config)),
        }
        (partial / CONFIG).write_text(json.dumps(document, indent=1), encoding="utf-8")
        size = sum(array.size for array in arrays.values())
        (partial / CARD).write_text(model_card(agent, parameters=size), encoding="utf-8")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    fsync_directory(folder.parent)
    return folder
