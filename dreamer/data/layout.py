"""What one stored step holds: names, shapes and dtypes, and hence its bytes."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from dreamer.types import CompactLatent
from envs.spaces import ImageSpec, ObservationSpec, Timestep, VectorSpec

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
OBSERVATION = "observation/"  # prefix of observation keys, so that an environment may call a key "reward"


class Field(NamedTuple):
    """One array of a step."""

    shape: tuple[int, ...]
    dtype: np.dtype


class StepLayout:
    """The fields of a step, by name: every observation key, action, reward, three flags and the latent.

    Latents are kept compact: `deter` as bfloat16 and `stoch` as one uint8 class index per categorical. Bytes per step
    with one 64x64x3 image and 18 discrete actions (an image takes 12,288 of them, actions 72, reward and flags 7):

    | size | deter | stoch | latent | step   | 5e6 steps |
    |------|-------|-------|--------|--------|-----------|
    | 12m  | 2,048 | 32    | 4,128  | 16,495 | 82 GB     |
    | 50m  | 4,096 | 32    | 8,224  | 20,591 | 103 GB    |
    | 200m | 8,192 | 32    | 16,416 | 28,783 | 144 GB    |

    Args:
        observation: the observation space.
        action: width A of the flat action vector.
        deter: width D of the recurrent state.
        stoch: number S of categorical latents, each with at most 256 classes.
    """

    def __init__(self, observation: ObservationSpec, *, action: int, deter: int, stoch: int) -> None:
        flag = Field((), np.dtype(bool))
        self.observation_keys = tuple(observation)
        self.fields = {OBSERVATION + key: _observation_field(spec) for key, spec in observation.items()} | {
            "action": Field((action,), np.dtype(np.float32)),
            "reward": Field((), np.dtype(np.float32)),
            "is_first": flag,
            "is_last": flag,
            "is_terminal": flag,
            "deter": Field((deter,), BFLOAT16),
            "stoch": Field((stoch,), np.dtype(np.uint8)),
        }

    @property
    def bytes_per_step(self) -> int:
        """Exact bytes of one stored step, in memory and (but for ~0.2 % of headers) on disk."""
        return sum(self._bytes(name) for name in self.fields)

    @property
    def latent_bytes(self) -> int:
        """Bytes of one step's latent, the part that is refreshed while training."""
        return self._bytes("deter") + self._bytes("stoch")

    def allocate(self, *leading: int) -> dict[str, np.ndarray]:
        """Zeros of shape `[*leading, ...]` for every field; the system hands out their memory as they are filled."""
        return {name: np.zeros((*leading, *field.shape), field.dtype) for name, field in self.fields.items()}

    def pack(self, timestep: Timestep, *, action: np.ndarray, latent: CompactLatent) -> dict[str, np.ndarray]:
        """One step of `N` environments by field name, `[N, ...]`, without copying.

        Raises:
            ValueError: an observation key is missing or unknown.
        """
        arrays: dict[str, Any] = {OBSERVATION + key: value for key, value in timestep.observation.items()}
        arrays |= {"action": action, "reward": timestep.reward, "is_first": timestep.is_first}
        arrays |= {"is_last": timestep.is_last, "is_terminal": timestep.is_terminal}
        arrays |= {"deter": latent.deter, "stoch": latent.stoch}
        if arrays.keys() != self.fields.keys():
            raise ValueError(f"A step must hold {sorted(self.fields)}, but this one holds {sorted(arrays)}.")
        return {name: np.asarray(value) for name, value in arrays.items()}

    def check(self, arrays: dict[str, np.ndarray], *, leading: tuple[int, ...]) -> None:
        """Compares arrays with the layout, so that no cast (uint8 wraps around) happens silently.

        Raises:
            ValueError: an array is not `[*leading, ...]` of the field's shape and dtype.
        """
        for name, field in self.fields.items():
            array = arrays[name]
            if array.dtype != field.dtype or array.shape != leading + field.shape:
                raise ValueError(
                    f"The replay expects {name} as {field.dtype.name} {list(leading + field.shape)}, "
                    f"but got {array.dtype.name} {list(array.shape)}; convert it where the step is made."
                )

    def _bytes(self, name: str) -> int:
        field = self.fields[name]
        return prod(field.shape) * field.dtype.itemsize


def portable(array: np.ndarray) -> np.ndarray:
    """A view that every file format knows: bfloat16 as its uint16 bits, anything else as it is."""
    return array.view(np.uint16) if array.dtype == BFLOAT16 else array


def native(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Undoes `portable` for a field of the given dtype."""
    return array.view(BFLOAT16) if dtype == BFLOAT16 and array.dtype == np.uint16 else array


def _observation_field(spec: Any) -> Field:
    if isinstance(spec, ImageSpec):
        return Field((spec.height, spec.width, spec.channels), np.dtype(np.uint8))
    if isinstance(spec, VectorSpec):
        return Field((spec.size,), np.dtype(np.float32))
    return Field((len(spec.num_classes),), np.dtype(np.int32))
