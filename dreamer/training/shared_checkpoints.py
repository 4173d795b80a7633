"""The checkpoints of a run, of which every host writes its share: all shares count, or none of them does.

Host 0 writes the train state, which all have alike, and what is its own; another host its own replay, environments
and what the policy remembers, into a folder that moves into the checkpoint when all are written. The hosts share the
file system of the run's folder. A run of one process goes through the same lines and waits for nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dreamer.training.checkpoint import CheckpointError, Checkpoints, Restored, restore, write_share
from dreamer.training.hosts import Hosts
from dreamer.training.plain_arrays import checksum

HOSTS = "hosts"  # name in `meta`, and of the folder of shares in a checkpoint
CHECKSUM = "train_crc32"  # in `meta`


class SharedCheckpoints:
    """What `Checkpoints` is for one host. All hosts make the same calls.

    Args:
        directory: of the checkpoints.
        keep: how many stay.
        hosts: that share them.
    """

    def __init__(self, directory: Path, *, keep: int, hosts: Hosts) -> None:
        self._checkpoints, self._hosts = Checkpoints(directory, keep=keep), hosts
        self._staged = directory.with_name("shares")  # where they lie until they are part of a checkpoint

    def save(self, step: int, *, arrays: Any, host: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
        """Writes a checkpoint of all hosts; see `Checkpoints.save`.

        Args:
            step: agent steps.
            arrays: `train`, which only host 0 writes, and others of this host.
            host: arrays of this host.
            meta: of this host.

        Raises:
            CheckpointError: a host could not write its share, or host 0 the whole; or their train states differ.
        """
        meta = {**meta, HOSTS: self._hosts.count}
        if not self._hosts.alone:
            meta[CHECKSUM] = self._common_checksum(arrays["train"])
        with self._hosts.all_or_none(CheckpointError):
            if not self._hosts.is_first:
                own = {name: array for name, array in arrays.items() if name != "train"}
                write_share(self._staged / str(self._hosts.index), arrays=own, host=host, meta=meta)
        path = None
        with self._hosts.all_or_none(CheckpointError):
            if self._hosts.is_first:
                shares = {f"{HOSTS}/{index}": self._staged / str(index) for index in range(1, self._hosts.count)}
                path = self._checkpoints.save(step, arrays=arrays, host=host, meta=meta, shares=shares)
                with contextlib.suppress(OSError):
                    self._staged.rmdir()
        return self._told(path)

    def latest(self) -> Path | None:
        """The newest checkpoint that verifies, as host 0 finds it; see `Checkpoints.latest`.

        Raises:
            CheckpointError: there are checkpoints and all are damaged.
        """
        path = None
        if self._hosts.is_first:
            self._checkpoints.discard_partial()
            path = self._checkpoints.latest()
        name = self._hosts.exchange(path and path.name, at="newest checkpoint")[0]
        return None if name is None else self._checkpoints.directory / name

    def metas(self) -> dict[Path, dict[str, Any]]:
        """This host's `meta` of every checkpoint that has one; see `Checkpoints.metas`."""
        return self._checkpoints.metas(share=self._share)

    def restore(self, path: Path, *, abstract_arrays: dict[str, Any]) -> Restored:
        """The common train state with this host's share of everything else; see `dreamer.training.checkpoint.restore`.

        Raises:
            CheckpointError: as there; or so many other hosts saved it.
        """
        saved = self._checkpoints.metas().get(path, {}).get(HOSTS, 1)
        if saved != self._hosts.count:
            raise CheckpointError(
                f"Checkpoint {path} was saved by {saved} host{'s' * (saved != 1)}, each with its own replay, and this "
                f"run has {self._hosts.count}: go on with --hosts.count {saved}, or start a new run with its "
                "parameters (--init-from, and another --logdir)."
            )
        if self._hosts.is_first:
            return restore(path, abstract_arrays=abstract_arrays)
        left_out = {
            name: jax.tree.map(lambda _: ..., tree) for name, tree in abstract_arrays.items() if name != "train"
        }
        common = restore(path, abstract_arrays={**left_out, "train": abstract_arrays["train"]}, with_host=False)
        own = {name: tree for name, tree in abstract_arrays.items() if name != "train"}
        share = restore(path / self._share, abstract_arrays=own)
        return share._replace(arrays={**share.arrays, "train": common.arrays["train"]})

    def _common_checksum(self, train: Any) -> int:
        """Of the train state, which must be the same on all hosts, bit by bit."""
        found = self._hosts.exchange(checksum(train), at="checksum")
        odd = [index for index, value in enumerate(found) if value != found[0]]
        if odd:
            raise CheckpointError(
                f"The train state of hosts {odd} is not that of host 0, which no sound machine does: a device or a "
                "network computes wrongly, or the hosts run different versions. It is not saved."
            )
        return found[0]

    @property
    def _share(self) -> str:
        return "" if self._hosts.is_first else f"{HOSTS}/{self._hosts.index}"

    def _told(self, path: Path | None) -> Path:
        """Where host 0 has saved."""
        return self._checkpoints.directory / self._hosts.exchange(path and path.name, at="saved")[0]
