"""Minari datasets on this machine, in both directions. The only importer of minari (extra `minari`).

They lie below `~/.minari/datasets`, or where `MINARI_DATASETS_PATH` says. Nothing of a dataset is executed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium import spaces

from dreamer.exchange.episodes import NativeEpisode

UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class DatasetError(ValueError):
    """A dataset cannot be read or written; the message says why and what to do."""


def require_minari() -> None:
    """Refuses, at the start, what would only fail later.

    Raises:
        DatasetError: minari, or the h5py that it needs, is not installed.
    """
    found = [importlib.util.find_spec(name) for name in ("minari", "h5py")]
    if any(spec is None or spec.origin is None for spec in found):
        raise DatasetError("Minari datasets need minari and h5py: pip install -e '.[minari]'.")


class Dataset:
    """A dataset to read.

    Args:
        name: its id, such as `cartpole/mine-v0`, or the folder in which it lies.

    Raises:
        DatasetError: it is not there, damaged, or does not say what its spaces are.

    Attributes:
        name: as given.
        observation_space: of its observations.
        action_space: of its actions.
        num_episodes: in it.
        num_steps: actions in it.
    """

    def __init__(self, name: str) -> None:
        require_minari()
        import minari  # pyright: ignore[reportMissingImports]  # an extra
        from minari.dataset.minari_storage import MinariStorage  # pyright: ignore[reportMissingImports]

        self.name = name
        path = _find(name)
        try:
            described = MinariStorage.read_raw_metadata(path)
            if not {"observation_space", "action_space"} <= described.keys():  # minari would make the environment
                raise ValueError("metadata.json does not hold its spaces")
            self._dataset = minari.MinariDataset(path)
            self.observation_space: spaces.Space = self._dataset.observation_space
            self.action_space: spaces.Space = self._dataset.action_space
            self.num_episodes, self.num_steps = int(self._dataset.total_episodes), int(self._dataset.total_steps)
        except UNREADABLE as error:
            raise DatasetError(f"Dataset {name} in {path} cannot be read: {error}.") from error

    def episodes(self, *, start: int = 0) -> Iterator[NativeEpisode]:
        """All episodes from number `start` on, one in memory at a time.

        Raises:
            DatasetError: the file is damaged.
        """
        indices = range(start, self.num_episodes)
        try:
            for episode in self._dataset.iterate_episodes(indices):
                yield NativeEpisode(*(getattr(episode, name) for name in NativeEpisode._fields))
        except UNREADABLE as error:
            raise DatasetError(f"Dataset {self.name} is damaged: {error or type(error).__name__}.") from error


def write_dataset(
    name: str,
    episodes: Iterable[NativeEpisode],
    *,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    env: str,
    description: str,
) -> Path:
    """Writes a dataset, whole or not at all; images as they are, not as lossy JPEG. Returns its folder.

    Args:
        name: an id that is free, such as `cartpole/mine-v0`.
        episodes: consumed one by one.
        observation_space: of the episodes' observations.
        action_space: of their actions.
        env: the environment; remembered if it is one of gymnasium's, so that others can make it.
        description: for those who find it.

    Raises:
        DatasetError: the id is taken or no id, or the disk is full.
    """
    require_minari()
    import minari  # pyright: ignore[reportMissingImports]
    from minari.data_collector import EpisodeBuffer  # pyright: ignore[reportMissingImports]
    from minari.dataset.minari_storage import MinariStorage  # pyright: ignore[reportMissingImports]

    path = require_free(name)
    partial = path.with_name(f".{path.name}.partial")  # hidden: minari does not list it
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
        (partial / "data").mkdir(parents=True)
        storage = MinariStorage.new(
            partial / "data",
            observation_space=observation_space,
            action_space=action_space,
            env_spec=gymnasium.registry.get(env),
            jpeg_encoding=False,
        )
        about: dict[str, Any] = {"dataset_id": name, "minari_version": minari.__version__, "description": description}
        storage.update_metadata(about | {"algorithm_name": "DreamerV3 (dreamer-jax)"})
        storage.update_episodes(EpisodeBuffer(**episode._asdict(), infos={}) for episode in episodes)
        _register_namespace(name)
        os.rename(partial, path)
    except OSError as error:
        raise DatasetError(f"Dataset {name} not written to {path}: {error}; check the free disk space.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def require_free(name: str) -> Path:
    """The folder that a new dataset gets.

    Raises:
        DatasetError: the id is taken, or none that Minari would find again.
    """
    require_minari()
    from minari.dataset.minari_dataset import parse_dataset_id  # pyright: ignore[reportMissingImports]
    from minari.storage.datasets_root_dir import get_dataset_path  # pyright: ignore[reportMissingImports]

    try:
        parse_dataset_id(name)
    except (TypeError, ValueError) as error:  # the first where the version is missing
        raise DatasetError(f"{name!r} is no id of a dataset; give one such as cartpole/mine-v0.") from error
    path = Path(get_dataset_path(name))
    if path.exists():
        raise DatasetError(f"Dataset {name} exists already in {path}; choose another name or version, such as -v1.")
    return path


def _find(name: str) -> Path:
    """The folder of a dataset's data."""
    from minari.storage.datasets_root_dir import get_dataset_path  # pyright: ignore[reportMissingImports]

    for path in (Path(name), Path(name) / "data", Path(get_dataset_path(name)) / "data"):
        if (path / "metadata.json").is_file():
            return path
    raise DatasetError(
        f"There is no dataset {name}: neither a folder nor an id below {get_dataset_path()}. `minari list local` lists "
        f"those that are there, and `minari download {name}` fetches a published one."
    )


def _register_namespace(name: str) -> None:
    """Minari lists a dataset only in namespaces that it knows."""
    from minari.dataset.minari_dataset import parse_dataset_id  # pyright: ignore[reportMissingImports]
    from minari.namespace import create_namespace, list_local_namespaces  # pyright: ignore[reportMissingImports]

    namespace = parse_dataset_id(name)[0]
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
