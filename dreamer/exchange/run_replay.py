"""The replay of a run, as its newest checkpoint lists it, for a dataset; the run is only read, and may go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dreamer.agent import CHECKPOINTS, CONFIG, codecs
from dreamer.data.layout import StepLayout
from dreamer.data.storage import ReplayState
from dreamer.data.trajectories import Tally, read_episodes
from dreamer.exchange.episodes import NativeEpisode, to_native
from dreamer.presets import from_yaml
from dreamer.training.checkpoint import MALFORMED, CheckpointError, Checkpoints, read_host
from dreamer.training.run_folder import RunFolderError
from dreamer.training.snapshots import REPLAY
from envs.codec import ActionCodec, ObservationCodec
from envs.space_json import FILE_NAME, Interface


class RunReplay(NamedTuple):
    """What a run has experienced.

    Attributes:
        interface: how it and its environment speak.
        observation_codec: between them.
        action_codec: likewise.
        layout: of its steps.
        state: what its checkpoint keeps of its replay.
        path: the run's folder.
    """

    interface: Interface
    observation_codec: ObservationCodec
    action_codec: ActionCodec
    layout: StepLayout
    state: ReplayState
    path: Path

    def episodes(self, tally: Tally) -> Iterator[NativeEpisode]:
        """Every whole episode, as the environment saw it; `tally` is kept up to date."""
        for steps in read_episodes(self.path / "replay", layout=self.layout, state=self.state, tally=tally):
            yield to_native(steps, observation_codec=self.observation_codec, action_codec=self.action_codec)


def open_replay(path: str | Path) -> RunReplay:
    """The replay of the run in a folder.

    Raises:
        RunFolderError: there is no run, or one of several hosts.
        CheckpointError: it has no checkpoint yet, or only damaged ones.
    """
    path = Path(path).absolute()
    for name in (CONFIG, FILE_NAME):
        if not (path / name).is_file():
            raise RunFolderError(f"{path} holds no run: {name} is missing.")
    checkpoint = Checkpoints(path / CHECKPOINTS).latest()
    if checkpoint is None:
        raise CheckpointError(f"{path} has no checkpoint yet; wait for the first, or stop the run, which saves it.")
    if (checkpoint / "hosts").exists():
        raise RunFolderError(f"{path} was trained by several hosts, and the replay of one of them is not the whole.")
    config, interface = from_yaml(path / CONFIG), Interface.read(path / FILE_NAME)
    observation_codec, action_codec = codecs(interface)
    rssm = config.world.rssm
    layout = StepLayout(observation_codec.spec, action=action_codec.width, deter=rssm.deter, stoch=rssm.stoch)
    restored = read_host(checkpoint)
    arrays = {name.removeprefix(REPLAY): a for name, a in restored.host.items() if name.startswith(REPLAY)}
    try:
        state = ReplayState(arrays, restored.meta["replay"])
        fields = {name: [list(field.shape), field.dtype.name] for name, field in layout.fields.items()}
        if state.manifest["fields"] != fields:
            raise ValueError(f"its steps hold {state.manifest['fields']}, and its configuration says {fields}")
    except MALFORMED as error:
        raise CheckpointError(f"{checkpoint} holds no replay of this run: {error}.") from error
    return RunReplay(interface, observation_codec, action_codec, layout, state, path)
