"""What was played as replay keeps it: each world in a folder of its own, with the project's own chunks.

A folder holds `chunks/` with the full chunks, `steps.npz` with the rest and `recording.json` with what restores both;
`read_recording` returns them as a `Replay`, from which sequences are drawn as in training.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from dreamer.config import Config, ReplayConfig, least_capacity
from dreamer.data.layout import StepLayout
from dreamer.data.replay import Replay
from dreamer.data.storage import ReplayState
from dreamer.play.pilot import AgentPilot
from dreamer.play.session import DREAM, REALITY, Lived, Moment
from dreamer.training.state import Definition
from envs.spaces import Timestep

CHUNK = 64  # steps
CHUNKS, STEPS, MANIFEST = "chunks", "steps.npz", "recording.json"
ENV_STEPS = 10_000_000  # no player records more


class RecordingError(ValueError):
    """This folder holds no recording; the message says what is missing."""


class ReplayRecording:
    """Writes what reality and the dream live; see `dreamer.play.session.Recording`.

    Sequences that do not follow from one another (after a step back, a new anchor, or where recording began within an
    episode) begin with `is_first`. A dream is recorded until it says that it is over.

    Args:
        folder: that does not exist yet.
        definition: the networks, whose latents are stored.
        pilot: it makes them small.
    """

    def __init__(self, folder: Path, *, definition: Definition, pilot: AgentPilot) -> None:
        self.folder = folder
        self._definition, self._pilot = definition, pilot
        self._replays = {
            name: open_replay(folder / name, definition.config, definition.layout) for name in (DREAM, REALITY)
        }
        self._continues = dict.fromkeys(self._replays, False)
        self._is_over = dict.fromkeys(self._replays, False)

    @property
    def steps(self) -> int:
        """Steps of reality so far."""
        return self._replays[REALITY].num_steps

    def add(self, moment: Moment, action: np.ndarray) -> None:
        """Stores a moment of both worlds with the flat action `[A]` chosen in it."""
        for name in self._replays:
            self._add(name, moment, action, is_cut=False)

    def cut(self, moment: Moment | None) -> None:
        """Ends the sequences, with the last moment if it was not stored."""
        for name, continues in self._continues.items():
            if continues and moment is not None:
                self._add(name, moment, np.zeros_like(moment.action), is_cut=True)
        self._continues = dict.fromkeys(self._replays, False)
        self._is_over = dict.fromkeys(self._replays, False)

    def close(self) -> None:
        """Writes what is not in a chunk file yet.

        Raises:
            OSError: the disk is full, or gone.
        """
        for name, replay in self._replays.items():
            state = replay.state()
            replay.close()
            folder = self.folder / name
            _write(folder / STEPS, state.arrays)
            partial = folder / f"{MANIFEST}.partial"
            partial.write_text(json.dumps(state.manifest), encoding="utf-8")
            os.replace(partial, folder / MANIFEST)

    def _add(self, name: str, moment: Moment, action: np.ndarray, *, is_cut: bool) -> None:
        lived = moment.worlds[name]
        if self._is_over[name]:
            return
        memory = moment.memory if name == REALITY else self._pilot.recall(lived.state)
        timestep = _timestep(lived, is_first=not self._continues[name], is_cut=is_cut)
        self._replays[name].add(timestep, action=action[None], latent=self._pilot.compact(memory))
        self._continues[name] = True
        self._is_over[name] = lived.is_over


def read_recording(folder: Path, definition: Definition) -> Replay:
    """The replay of one world of a recording, `FOLDER/reality` or `FOLDER/dream`; close it after use.

    Raises:
        RecordingError: there is none, or it was not closed.
        ValueError: it is of another agent.
    """
    for name in (CHUNKS, STEPS, MANIFEST):
        if not (folder / name).exists():
            raise RecordingError(f"{folder} holds no recording: {name} is missing")
    replay = open_replay(folder, definition.config, definition.layout)
    with np.load(folder / STEPS, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    replay.restore(ReplayState(arrays, json.loads((folder / MANIFEST).read_text(encoding="utf-8"))))
    return replay


def open_replay(folder: Path, config: Config, layout: StepLayout) -> Replay:
    """A replay that keeps its chunks in a folder."""
    sizes: ReplayConfig = dataclasses.replace(config.replay, chunk=CHUNK)
    sizes = dataclasses.replace(sizes, capacity=max(ENV_STEPS, least_capacity(sizes, num_envs=1)))
    return Replay(layout, num_envs=1, config=sizes, seed=config.seed, directory=folder / CHUNKS)


def _timestep(lived: Lived, *, is_first: bool, is_cut: bool) -> Timestep:
    outcome, over = lived.outcome, lived.is_over
    is_terminal = over and not outcome.truncated[0]
    return Timestep(
        outcome.observation,
        np.zeros(1, np.float32) if is_first else np.asarray(outcome.reward, np.float32),
        np.array([is_first]),
        np.array([over or is_cut]),
        np.array([is_terminal]),
    )


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an npz, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(partial, path)
