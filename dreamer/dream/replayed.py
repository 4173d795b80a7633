"""Starts from the replay of a run, which is only read: the run may be training meanwhile."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dreamer.agent import CHECKPOINTS, Agent
from dreamer.data.chunk import DAMAGE, ChunkFiles, DamagedChunkError
from dreamer.data.layout import OBSERVATION, StepLayout
from dreamer.data.npz import open_npz, read_array
from dreamer.data.storage import LATENT
from dreamer.dream.simulation import SimulationError, Start
from dreamer.training.checkpoint import Checkpoints, read_meta
from dreamer.training.snapshots import REPLAY

CACHED = 32  # chunks kept in memory
TRIES = 1000  # draws that may hit a moment at which no dream can begin
FOLDER = "replay"  # in that of the run


class _Piece(NamedTuple):
    """Consecutive steps of one environment: a chunk file, or what a checkpoint holds of the next one.

    Attributes:
        env: number of the environment.
        index: number of the chunk.
        fingerprint: of its file; None where the checkpoint holds the steps.
        length: steps.
    """

    env: int
    index: int
    fingerprint: int | None
    length: int


class ReplayedStarts:
    """Moments of a run's replay, drawn uniformly from those that a start may show; without forks.

    A start shows `context` steps of one chunk, or fewer where their episode began later: its reset is then repeated
    before it, which is exact. Ends of episodes are never the present.

    Args:
        agent: loaded from the run's folder.
        context: steps that a start shows.

    Raises:
        SimulationError: there is no replay, or nothing in it that could be shown.
    """

    def __init__(self, agent: Agent, *, context: int) -> None:
        if context < 1:
            raise SimulationError(f"a context of {context} steps shows nothing; give one at least")
        config, folder = agent.config.replay, agent.path / FOLDER
        checkpoint = Checkpoints(agent.path / CHECKPOINTS).latest()
        manifest = {} if checkpoint is None else read_meta(checkpoint).get("replay", {})
        if checkpoint is None or not any(manifest.get("ends", ())) or not folder.is_dir():
            raise SimulationError(
                f"{agent.path} holds no replay to start from; start from play in the environment, or give starts"
            )
        layout = agent.definition.layout
        self._path, self._context, self._layout = agent.path, context, layout
        self._files = ChunkFiles(folder, layout=layout, length=config.chunk)
        self._heads = _read_heads(checkpoint / "host.npz", layout)
        ends = [int(end) for end in manifest["ends"]]
        self._pieces = [_Piece(env, index, fingerprint, config.chunk) for env, index, fingerprint in manifest["chunks"]]
        heads = [_Piece(env, end // config.chunk, None, end % config.chunk) for env, end in enumerate(ends)]
        self._pieces += [piece for piece in heads if piece.length]
        before = np.cumsum([0, *(end % config.chunk for end in ends)])
        self._head_begins = {env: int(begin) for env, begin in enumerate(before[:-1])}
        self._read = functools.lru_cache(maxsize=CACHED)(self._read_piece)

    def draw(self, num: int, *, seed: int) -> Start:
        """So many starts.

        Raises:
            SimulationError: nothing can be shown: the replay is too short, or damaged.
        """
        rng = np.random.default_rng(seed)
        shares = np.array([piece.length for piece in self._pieces]) / sum(piece.length for piece in self._pieces)
        windows: list[dict[str, np.ndarray]] = []
        for _ in range(TRIES * num):
            piece = self._pieces[int(rng.choice(len(shares), p=shares))]
            window = _window(self._read(piece), int(rng.integers(piece.length)), self._context)
            windows += [window] if window else []
            if len(windows) == num:
                break
        else:
            raise SimulationError(
                f"nothing of the replay in {self._path} can be shown with a context of {self._context} steps: it is "
                "too short, or damaged; give a shorter context, or start from play in the environment"
            )
        stacked = {name: np.stack([window[name] for window in windows]) for name in windows[0]}
        observation = {key: stacked[OBSERVATION + key] for key in self._layout.observation_keys}
        return Start(observation, stacked["previous_action"], stacked["is_first"])

    def _read_piece(self, piece: _Piece) -> dict[str, np.ndarray]:
        """The steps of a piece by field, `[n, ...]`; none of one that is damaged or was dropped by the run."""
        if piece.fingerprint is None:
            begin = self._head_begins[piece.env]
            return {name: array[begin : begin + piece.length] for name, array in self._heads.items()}
        try:
            chunk = self._files.read(piece.env, piece.index, fingerprint=piece.fingerprint)
        except DamagedChunkError:
            return {}
        return {name: chunk.arrays[name] for name in _shown(self._layout)}


def _read_heads(path: Path, layout: StepLayout) -> dict[str, np.ndarray]:
    """The steps that are in no chunk file, one environment behind the other; latents left out."""
    try:
        with open_npz(path) as archive:
            return {name: read_array(archive, f"{REPLAY}heads/{name}") for name in _shown(layout)}
    except DAMAGE as error:
        raise SimulationError(f"{path} holds no replay that could be read: {error}") from error


def _shown(layout: StepLayout) -> list[str]:
    """Fields that a start is made from: all but latents."""
    return [name for name in layout.fields if name not in LATENT]


def _window(steps: dict[str, np.ndarray], last: int, length: int) -> dict[str, np.ndarray] | None:
    """The steps up to `last` as a start shows them, by field and `[length, ...]`; None where there are too few."""
    if not steps or steps["is_last"][last]:
        return None
    begin = last - length + 1
    resets = np.flatnonzero(steps["is_first"][max(0, begin) : last + 1]) + max(0, begin)
    if begin < 1:  # the action before is in another chunk
        if not len(resets):
            return None
        begin = int(resets[0])
    rows = np.maximum(np.arange(last - length + 1, last + 1), begin)
    window = {name: array[rows] for name, array in steps.items()}
    window["previous_action"] = np.where(window["is_first"][:, None], 0, steps["action"][rows - 1]).astype(np.float32)
    return window
