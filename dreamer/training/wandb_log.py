"""The same scalars and videos for Weights & Biases (`--log.wandb`, extra `wandb`). The only importer of wandb.

Project and name are those of the run's folder (`runs/x` is run x of project runs; `WANDB_PROJECT` comes first), its id
is the folder's, so that a resumed run goes on in the same curves. The axis of everything is `global_step`, agent steps
(updates in a run from a dataset): rows that a crash undid are there twice, at the same place. `WANDB_MODE=offline`
writes into the folder, for `wandb sync`.

Nothing here is tolerant: `MetricsLogger` counts what fails.
"""

from __future__ import annotations

import importlib.util
import io
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from dreamer.config import Config
from dreamer.training.counters import Counters

STEP = "global_step"
START_SECONDS, END_SECONDS = 30.0, 30.0  # to wait for the network, before and after the training


class WandbMissingError(RuntimeError):
    """Weights & Biases was asked for and is not installed."""


def require_wandb() -> None:
    """Refuses, at the start, what would only fail later.

    Raises:
        WandbMissingError: wandb is not installed. A folder of that name, which wandb leaves behind, does not count.
    """
    found = importlib.util.find_spec("wandb")
    if found is None or found.origin is None:
        raise WandbMissingError("--log.wandb needs Weights & Biases: pip install -e '.[wandb]', or leave the flag out.")


class WandbLog:
    """One run on Weights & Biases.

    Args:
        directory: the run's folder.
        run_id: the folder's.
        config: shown beside the curves.

    Raises:
        Exception: whatever wandb raises, such as for a missing login or network.
    """

    def __init__(self, directory: Path, *, run_id: str, config: Config) -> None:
        import wandb  # pyright: ignore[reportMissingImports]  # an extra

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or directory.parent.name,
            name=directory.name,
            id=run_id,
            resume="allow",
            dir=str(directory),
            config=asdict(config),
            settings=wandb.Settings(console="off", init_timeout=START_SECONDS),  # the terminal is ours
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, counters: Counters, values: Mapping[str, float]) -> None:
        """One row."""
        at = {STEP: counters.position, "counters/env_frames": counters.env_frames}
        self._run.log({**values, **at, "counters/updates": counters.updates})

    def video(self, counters: Counters, tag: str, gif: bytes) -> None:
        """One GIF."""
        self._run.log({tag: self._wandb.Video(io.BytesIO(gif), format="gif"), STEP: counters.position})

    def close(self) -> None:
        """Sends what is left.

        Raises:
            TimeoutError: the network does not take it; it lies in the run's folder.
        """
        ending = threading.Thread(target=self._run.finish, daemon=True)
        ending.start()
        ending.join(END_SECONDS)
        if ending.is_alive():
            raise TimeoutError(
                f"not all was sent within {END_SECONDS:g} s; `wandb sync` sends it from the run's folder"
            )
