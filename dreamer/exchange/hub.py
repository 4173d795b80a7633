"""A policy as a Hugging Face repository holds it, on disk; nothing here knows the network. Extra `hub`.

    model.safetensors   parameters of encoder, RSSM and actor, named by their paths; the only file made by safetensors
    config.json         the resolved configuration, counters, and the SHA-256 of the two files beside it
    spaces.json         the environment's spaces
    README.md           the model card: environment, score, frames, how to load; whoever likes may rewrite it

Upload the folder as it is (`hf upload NAME FOLDER`). Reading runs no code of the folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.config import Config
from dreamer.presets import Layer, merge
from dreamer.training.checkpoint import MALFORMED, CheckpointError
from dreamer.training.counters import Counters
from dreamer.training.manifest import read_json
from dreamer.training.policy import by_path
from dreamer.training.run_folder import RunFolderError
from dreamer.training.state import Params
from envs.space_json import FILE_NAME, Interface

FORMAT = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
SHOWN = 3  # parameters that a message names


class HubPolicy(NamedTuple):
    """What a folder holds: arrays by the path of their parameter."""

    config: Config
    interface: Interface
    counters: Counters
    arrays: dict[str, np.ndarray]
    path: Path

    def params(self, abstract: Params) -> Params:
        """The arrays on the first device, in the structure of `abstract`.

        Raises:
            CheckpointError: a parameter is missing, unknown, or of another shape or dtype.
        """
        wanted = by_path(abstract)
        faults = [f"{name} is missing" for name in wanted if name not in self.arrays]
        faults += [f"{name} is unknown" for name in self.arrays if name not in wanted]
        faults += [
            f"{name} is {_spell(self.arrays[name])} instead of {_spell(leaf)}"
            for name, leaf in wanted.items()
            if name in self.arrays and _spell(self.arrays[name]) != _spell(leaf)
        ]
        if faults:
            more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise CheckpointError(f"{self.path / WEIGHTS} does not fit {CONFIG}: {', '.join(faults[:SHOWN])}{more}.")
        arrays = [self.arrays[name] for name in wanted]
        return jax.tree.unflatten(jax.tree.structure(abstract), jax.device_put(arrays, jax.devices()[0]))


def is_hub_folder(path: Path) -> bool:
    """Whether a folder holds a policy in this form."""
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def require_safetensors() -> None:
    """Refuses, at the start, what would only fail later.

    Raises:
        RunFolderError: safetensors is not installed.
    """
    found = importlib.util.find_spec("safetensors")
    if found is None or found.origin is None:
        raise RunFolderError("Policies of Hugging Face need safetensors: pip install -e '.[hub]'.")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by the path of their parameter.

    Raises:
        RunFolderError: safetensors is missing.
    """
    require_safetensors()
    from safetensors.numpy import save_file  # pyright: ignore[reportMissingImports]  # an extra

    save_file(dict(arrays), path, metadata={"format": "jax"})


def read_hub(folder: Path) -> HubPolicy:
    """Reads what `dreamer.exchange.publish.write_hub` wrote, after verifying every byte of it.

    Raises:
        CheckpointError: it is damaged, or of a newer format.
        RunFolderError: safetensors is missing.
    """
    require_safetensors()
    from safetensors import SafetensorError  # pyright: ignore[reportMissingImports]
    from safetensors.numpy import load_file  # pyright: ignore[reportMissingImports]

    try:
        document = read_json(folder / CONFIG)
        if document["format"] != FORMAT:
            raise CheckpointError(
                f"{folder / CONFIG} is of format {document['format']}, this version reads format {FORMAT}; install the "
                "version of dreamer-jax that wrote it."
            )
        for name in (WEIGHTS, FILE_NAME):
            if document["sha256"][name] != sha256(folder / name):
                raise ValueError(f"{name} has changed since it was written")
        config = _config(document["config"], source=folder / CONFIG)
        counters = Counters(**{name: int(count) for name, count in document["counters"].items()})
        arrays = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, *MALFORMED) as error:
        raise CheckpointError(f"{folder} is damaged: {error or type(error).__name__}. Copy it again.") from error
    return HubPolicy(config, Interface.read(folder / FILE_NAME), counters, arrays, folder)


def _config(plain: Mapping[str, Any], *, source: Path) -> Config:
    problems: list[str] = []
    config = merge(Config(), Layer(str(source), dict(plain)), problems=problems)
    if problems:
        raise ValueError("; ".join(problems))
    return config


def _spell(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
