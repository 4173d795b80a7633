"""The folder of a run: what lies where, whose it is, and who may write to it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from pathlib import Path
from types import TracebackType

from dreamer.training.run_lock import RunLock

_MARKER = "run.json"
_LOCK = "run.lock"
_PARTIAL = "run.partial"
_HOST = "host-"  # and its number: what another host than the first has for itself


class RunFolderError(RuntimeError):
    """The folder cannot serve this run; the message says why and what to do."""


class RunFolder:
    """A run's folder, created or entered again, and locked until `close`.

        run.json         the run's id and when it began
        run.lock         who writes to it now
        config.yaml      the resolved configuration
        spaces.json      the environment's spaces
        starts.jsonl     what each start ran on (`dreamer.provenance`)
        checkpoints/     see `checkpoint`
        replay/          chunks of experience; those of further hosts in host-1/ and so on
        metrics.jsonl    see `metrics`; beside it episodes.csv and TensorBoard's event files
        videos/
        report/          history.jsonl, see `scheduled_report`; what `dreamer.report` has written

    Attributes:
        path: the folder.
        run_id: 16 hexadecimal digits, drawn when the folder was made and stored in every checkpoint.
        is_new: whether this call made it.

    Raises:
        RunFolderError: `path` is a file, or holds files that are no run's.
        RunLockedError: another process uses it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        try:
            _refuse_foreign(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(self.path / _LOCK)
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be written: {error}. Choose another --logdir.") from error
        try:
            self.is_new = not (self.path / _MARKER).exists()
            if self.is_new:
                _write_marker(self.path / _MARKER)
            self.run_id = read_run_id(self.path)
        except BaseException:
            self._lock.release()
            raise

    @property
    def config(self) -> Path:
        """The file of the resolved configuration."""
        return self.path / "config.yaml"

    @property
    def interface(self) -> Path:
        """The file of the environment's spaces."""
        return self.path / "spaces.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def replay(self) -> Path:
        """The folder of replay chunks."""
        return self.path / "replay"

    @property
    def videos(self) -> Path:
        """The folder of videos."""
        return self.path / "videos"

    @property
    def history(self) -> Path:
        """The file of the scheduled reports."""
        return history_of(self.path)

    @property
    def refused_batch(self) -> Path:
        """Where the batch goes that could not be learned from, when that ends the run."""
        return self.path / "nonfinite_batch.npz"

    def require_owner(self, run_id: str, *, source: str) -> None:
        """Refuses something (`source` names it) that another run wrote and someone copied here.

        Raises:
            RunFolderError: `run_id` is not this run's.
        """
        if run_id != self.run_id:
            raise RunFolderError(
                f"{source} belongs to run {run_id}, but {self.path} is run {self.run_id}. "
                "Remove what was copied in, or choose another --logdir."
            )

    @property
    def has_checkpoint(self) -> bool:
        """Whether something was saved, sound or not. Until then nothing binds the next start to this one."""
        return any(self.checkpoints.glob("[0-9]*"))

    def discard_new(self) -> None:
        """Takes a new folder back in which nothing has begun, say because the environment's name was mistyped."""
        if not self.is_new or self.has_checkpoint:
            return
        with contextlib.suppress(OSError):  # chunks of experience, or something else, lie there
            if self.replay.exists():
                for share in self.replay.glob(f"{_HOST}*"):
                    share.rmdir()
                self.replay.rmdir()
            for path in (self.config, self.interface, self.path / _MARKER, self.path / _LOCK):
                path.unlink(missing_ok=True)
            self.path.rmdir()

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SharedRunFolder(RunFolder):
    """The same folder for another host than the first, which holds the lock and writes everything but replay.

    Args:
        path: the folder.
        run_id: as the first host sees it.
        host: number of this one.

    Raises:
        RunFolderError: this host sees another folder there, or none.
    """

    def __init__(self, path: str | Path, *, run_id: str, host: int) -> None:
        self.path, self.is_new, self._host = Path(path).absolute(), False, f"{_HOST}{host}"
        found = read_run_id(self.path) if (self.path / _MARKER).exists() else "not there"
        if found != run_id:
            raise RunFolderError(
                f"host {host} does not see the folder of host 0: run {run_id} there, {found} here in {self.path}. "
                "All hosts need the same --logdir, on a file system that they share."
            )
        self.run_id = run_id

    @property
    def replay(self) -> Path:
        """The folder of this host's replay chunks."""
        return self.path / "replay" / self._host

    @property
    def refused_batch(self) -> Path:
        """The same as that of the first host, for this one's rows."""
        return self.path / f"nonfinite_batch_{self._host}.npz"

    def discard_new(self) -> None:
        """Leaves that to the first host."""

    def close(self) -> None:
        """Nothing is locked."""


def history_of(run: Path) -> Path:
    """The file of the scheduled reports in the folder of a run."""
    return run / "report" / "history.jsonl"


def read_run_id(path: str | Path) -> str:
    """The id of the run in folder `path`, without locking it.

    Raises:
        RunFolderError: there is no run.
    """
    marker = Path(path) / _MARKER
    try:
        return json.loads(marker.read_text(encoding="utf-8"))["run_id"]
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} holds no run: {_MARKER} is missing.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{marker} is damaged. Restore it, or choose another --logdir.") from error


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file. Choose another --logdir.")
    if path.is_dir() and not (path / _MARKER).exists():
        others = sorted(entry.name for entry in path.iterdir() if entry.name not in (_LOCK, _PARTIAL))
        if others:
            raise RunFolderError(
                f"{path} is not empty and holds no run (it has {', '.join(others[:3])}). "
                "Choose another --logdir, or an empty folder."
            )


def _write_marker(path: Path) -> None:
    """Whole or not at all: a half-written marker would lock the user out of the folder."""
    partial = path.with_name(_PARTIAL)
    document = {"run_id": secrets.token_hex(8), "created": time.strftime("%Y-%m-%d %H:%M:%S%z")}
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    os.replace(partial, path)
