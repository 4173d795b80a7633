"""Memory of the device: what it has, what an update needs, and what to do when that is more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

EXHAUSTED = ("resource_exhausted", "out of memory")  # words of XLA, and of CUDA through it


class DeviceMemoryError(RuntimeError):
    """The device is out of memory; the message says what helps."""


@contextmanager
def exhaustion_explained() -> Iterator[None]:
    """Turns XLA's pages about memory that ran out, at compiling or at running, into one sentence.

    Raises:
        DeviceMemoryError: the device is out of memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise explained(error) from error


def explained(error: RuntimeError, *, needed: int | None = None) -> RuntimeError:
    """A `DeviceMemoryError` in the place of one that says so in XLA's words; any other comes back as it is."""
    if not any(words in str(error).lower() for words in EXHAUSTED):
        return error
    return DeviceMemoryError(advice(jax.devices()[0].device_kind, needed=needed, limit=device_limit()))


def advice(device: str, *, needed: int | None, limit: int | None) -> str:
    """One sentence: what is missing, and what helps.

    Args:
        device: in words.
        needed: bytes of an update; None where it was not compiled.
        limit: bytes that JAX may use; None where it does not tell.
    """
    numbers = [f"an update needs {needed / 1e9:.1f} GB"] if needed else []
    numbers += [f"JAX may use {limit / 1e9:.1f} GB"] if limit else []
    facts = f" ({', '.join(numbers)})" if numbers else ""
    return (
        f"out of memory on {device}{facts}: end other programs that use it, split the update over several devices "
        "(--mesh), or start a new run with a smaller --replay.batch-size or --size."
    )


def device_limit() -> int | None:
    """Bytes of this process's first device that JAX may use; None where it does not tell, as on a CPU."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
