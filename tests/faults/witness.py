"""A run that keeps a book of what it saves and restores: `python -m tests.faults.witness BOOK ARGUMENTS...`.

The arguments are those of `dreamer.train`. The book gets a line at the start of the process, before each save and
after each restore, forced onto the disk: `start 0 -`, `save STEP DIGEST`, `restore STEP DIGEST`. The digests are of the
arrays themselves, so they know nothing of checkpoints, manifests or files.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dreamer.training import shared_checkpoints
from dreamer.training.checkpoint import Checkpoints, Restored


def digest(arrays: Any, host: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all that a checkpoint holds."""
    state = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)]
    for name, leaf in [*leaves, *sorted(host.items())]:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        state.update(f"{name} {array.dtype} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def main() -> int:
    book = Path(sys.argv[1])

    def note(kind: str, step: int, value: str) -> None:
        with book.open("a", encoding="utf-8") as file:
            file.write(f"{kind} {step} {value}\n")
            file.flush()
            os.fsync(file.fileno())

    note("start", 0, "-")
    original_save, original_restore = Checkpoints.save, shared_checkpoints.restore

    def save(self: Checkpoints, step: int, **content: Any) -> Path:
        note("save", step, digest(content["arrays"], content["host"], content["meta"]))
        return original_save(self, step, **content)

    def restore(path: Path, **options: Any) -> Restored:
        restored = original_restore(path, **options)
        note("restore", restored.meta["counters"]["agent_steps"], digest(*restored))
        return restored

    Checkpoints.save, shared_checkpoints.restore = save, restore
    from dreamer.train import main as train

    return train(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
