"""A device that is out of memory: a sentence with advice, and what was learned until then is saved.

No test machine has a device of its own, so exhaustion is simulated by an update that raises XLA's error.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gymnasium
import jax
import ml_dtypes
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from dreamer.train import main
from dreamer.training import device_memory, open_loop_videos, trainer
from dreamer.training.checkpoint import Checkpoints
from dreamer.training.compilation import Program
from dreamer.training.device_memory import DeviceMemoryError, exhaustion_explained
from dreamer.types import CompactLatent

MESSAGE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.\nBufferAssignment ...\n(pages)"
NEEDS = SimpleNamespace(
    argument_size_in_bytes=9 * 10**9, output_size_in_bytes=8 * 10**9, alias_size_in_bytes=7 * 10**9,
    temp_size_in_bytes=10**9, generated_code_size_in_bytes=10**9,
)  # fmt: skip


class ExhaustedUpdate:
    """Stands for `jax.jit`'s function of the update, and for its compiled form."""

    def __init__(self, at: str):
        self.at = at

    def lower(self, *arguments):
        return self

    def compile(self):
        if self.at == "compiling":
            raise jax.errors.JaxRuntimeError(MESSAGE)
        return self

    def memory_analysis(self):
        return NEEDS

    def __call__(self, *arguments):
        raise jax.errors.JaxRuntimeError(MESSAGE)


@pytest.mark.parametrize(("at", "numbers"), [("compiling", ""), ("running", "an update needs 12.0 GB, ")])
def test_simulated_exhaustion_ends_in_a_sentence_and_is_saved(tmp_path: Path, monkeypatch, capsys, at, numbers):
    monkeypatch.setattr(trainer, "make_train_step", lambda *arguments: ExhaustedUpdate(at))
    monkeypatch.setattr(device_memory, "device_limit", lambda: 8 * 10**9)
    command = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "3000", "--log.quiet"]
    assert main([*command, "--logdir", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == (
        f"error: out of memory on cpu ({numbers}JAX may use 8.0 GB): end other programs that use it, split the update "
        "over several devices (--mesh), or start a new run with a smaller --replay.batch-size or --size.\n"
    )
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest() is not None


def test_simulated_exhaustion_anywhere_else_is_explained():
    """While the state is made, or a checkpoint is restored."""
    with pytest.raises(DeviceMemoryError, match=r"out of memory on cpu: end other.*--size") as error, \
            exhaustion_explained():  # fmt: skip
        raise jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    assert isinstance(error.value.__cause__, jax.errors.JaxRuntimeError)
    other = jax.errors.JaxRuntimeError("INVALID_ARGUMENT: another fault")
    with pytest.raises(jax.errors.JaxRuntimeError) as passed, exhaustion_explained():
        raise other
    assert passed.value is other


def test_a_program_is_compiled_once_and_knows_its_memory():
    program = Program(jax.jit(lambda x: x @ x))
    assert program.device_bytes is None
    square = np.ones((64, 64), np.float32)
    program.compile(square)
    assert program.device_bytes >= 2 * square.nbytes
    np.testing.assert_array_equal(program(square), square @ square)
    with pytest.raises(TypeError, match="compiled"):
        program(np.ones((32, 32), np.float32))


class TinyPictures(gymnasium.Env):
    """Shows noise of 8x8 pixels."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, (8, 8, 1), dtype=np.uint8), {}

    def step(self, action):
        return self.np_random.integers(0, 256, (8, 8, 1), dtype=np.uint8), 0.0, self.np_random.random() < 0.1, False, {}


@pytest.fixture
def pictures(monkeypatch):
    """The name of an environment with images."""
    monkeypatch.setitem(gymnasium.registry, "TinyPictures-v0", EnvSpec("TinyPictures-v0", entry_point=TinyPictures))
    return "TinyPictures-v0"


class Idle:
    """A program that notes when it is compiled and called."""

    def __init__(self, name: str, events: list[str], result):
        self.name, self.events, self.result = name, events, result

    def lower(self, *arguments):
        return self

    def compile(self):
        self.events.append(f"compile {self.name}")
        return self

    def memory_analysis(self):
        return None

    def __call__(self, *arguments):
        self.events.append(self.name)
        return self.result(*arguments)


def idle_update(state, batch):
    latent = CompactLatent(np.zeros((4, 16, 64), ml_dtypes.bfloat16), np.zeros((4, 16, 8), np.uint8))
    return state, latent, {"skipped": np.int32(0)}


@pytest.mark.parametrize(("every", "expected"), [(5, ["compile video", "video"]), (1000, [])])
def test_videos_are_compiled_with_the_first_update_if_the_run_reaches_one(
    tmp_path: Path, monkeypatch, pictures, every, expected
):
    events: list[str] = []
    update = Idle("update", events, idle_update)
    video = Idle("video", events, lambda params, batch, count: {"image": np.zeros((4, 16, 8, 8, 1), np.uint8)})
    monkeypatch.setattr(trainer, "make_train_step", lambda *arguments: update)
    monkeypatch.setattr(open_loop_videos, "make_open_loop", lambda *arguments: video)
    command = ["--env", pictures, "--preset", "debug", "--steps", "110", "--log.quiet", "--log.video-every", str(every)]
    assert main([*command, "--logdir", str(tmp_path / "run")]) == 0
    assert events[:2] == ["compile update", "update"]
    others = [event for event in events[2:] if event != "update"]
    assert others == expected
    assert events[2] == (expected or ["update"])[0]


@pytest.mark.slow
def test_videos_compile_nothing_in_the_middle_of_a_run(tmp_path: Path, monkeypatch, pictures):
    compiled, during = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )
    record = open_loop_videos.OpenLoopVideos._record

    def count(self, *arguments):
        before = len(compiled)
        record(self, *arguments)
        during.append(len(compiled) - before)

    monkeypatch.setattr(open_loop_videos.OpenLoopVideos, "_record", count)
    command = ["--env", pictures, "--preset", "debug", "--steps", "160", "--log.quiet", "--log.video-every", "5"]
    assert main([*command, "--logdir", str(tmp_path / "run")]) == 0
    assert compiled
    assert during
    assert set(during) == {0}
    assert len(list((tmp_path / "run" / "videos").iterdir())) == len(during)
