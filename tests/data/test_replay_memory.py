"""Where memory is short, replay gives up its oldest steps, also when it is restored."""

from __future__ import annotations

import os

import numpy as np

from dreamer.config import ReplayConfig, least_capacity
from dreamer.data.layout import BFLOAT16, StepLayout
from dreamer.data.replay import Replay
from dreamer.types import CompactLatent
from envs.spaces import ImageSpec, Timestep

SIDE, STEP_BYTES = 128, 128 * 128 * 3
CONFIG = ReplayConfig(capacity=10_000, chunk=64, batch_size=2, batch_length=16)
LAYOUT = StepLayout({"image": ImageSpec(SIDE, SIDE, 3)}, action=1, deter=4, stoch=2)
ALLOWED = 60e6  # bytes; 10,000 steps would take 500 MB


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def feed(replay: Replay, steps: range) -> None:
    flag, latent = np.zeros(1, bool), CompactLatent(np.zeros((1, 4), BFLOAT16), np.zeros((1, 2), np.uint8))
    for step in steps:
        image = np.full((1, SIDE, SIDE, 3), step % 256, np.uint8)
        timestep = Timestep({"image": image}, np.full(1, step, np.float32), np.array([step == 0]), flag, flag)
        replay.add(timestep, action=np.zeros((1, 1), np.float32), latent=latent)


def test_this_process_stays_below_its_limit(tmp_path):
    """Real memory, under an artificial limit."""
    start = resident_bytes()
    replay = Replay(
        LAYOUT, num_envs=1, config=CONFIG, seed=0, directory=tmp_path,
        memory_is_short=lambda: resident_bytes() - start > ALLOWED,
    )  # fmt: skip
    slack, peak = 4 * CONFIG.chunk * STEP_BYTES, 0
    for begin in range(0, 3_000, CONFIG.chunk):
        feed(replay, range(begin, min(begin + CONFIG.chunk, 3_000)))
        replay.state()  # waits for the files: until they are written, dropped chunks take memory, too
        peak = max(peak, resident_bytes() - start)
    assert ALLOWED < peak < ALLOWED + slack
    assert replay.num_steps <= replay.capacity < 2 * ALLOWED / STEP_BYTES
    assert replay.sample()[0].reward.min() >= 3_000 - replay.num_steps
    replay.close()


def test_a_replay_resumed_in_a_simulated_shortage_takes_only_what_there_is_room_for(make_replay, feed, tmp_path):
    replay, source = make_replay(num_envs=2, directory=tmp_path), feed(2)
    for _ in range(500):
        replay.add(**source.next())
    state = replay.state()
    resumed = make_replay(num_envs=2, directory=tmp_path, memory_is_short=lambda: resumed.num_steps >= 300)
    report = resumed.restore(state)
    assert (report.lost, report.saved_steps) == ((), 1_000)
    assert 200 < resumed.num_steps <= 300 + 2 * 32
    assert resumed.ready
    positions = resumed.sample()[1]
    assert positions.start.min() >= 500 - 300 // 2 - 2 * 32  # of both, the newest are the ones that stay
    for _ in range(100):
        resumed.add(**source.next())
    assert resumed.num_steps <= resumed.capacity <= 300 + 2 * 32


def test_a_simulated_shortage_without_end_leaves_what_a_batch_needs(make_replay, feed):
    sizes = {"num_envs": 3, "capacity": 5_000}
    replay, source = make_replay(memory_is_short=lambda: True, **sizes), feed(3)
    for _ in range(400):
        replay.add(**source.next())
    least = least_capacity(ReplayConfig(chunk=32, batch_size=4, batch_length=8), num_envs=3)
    assert replay.capacity == least
    assert least - 2 * 32 <= replay.num_steps <= least
    assert replay.ready


def test_without_a_shortage_the_capacity_stays(make_replay, feed):
    replay, source = make_replay(capacity=400), feed()
    for _ in range(1_000):
        replay.add(**source.next())
    assert replay.capacity == 400
