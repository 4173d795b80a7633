"""The start-up plan: its arithmetic, its warnings, and how it reads the machine."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from dreamer.config import ReplayConfig, prefill_steps
from dreamer.data.layout import StepLayout
from dreamer.data.replay import Replay
from dreamer.memory import memory_is_short, memory_limit
from dreamer.plan import (
    Machine,
    describe_budget,
    describe_encoders,
    describe_protocol,
    describe_ratio,
    measure_machine,
    replay_bytes_per_step,
    startup_plan,
)
from dreamer.presets import ConfigError
from dreamer.types import CompactLatent
from dreamer.validation import resolve
from envs.spaces import DiscreteSpec, ImageSpec, Timestep, VectorSpec, action_width

ROOMY = Machine(memory_limit=10**12, disk_free=10**12)


def plan(config, *, observation_spec=None, machine=ROOMY, width=100, device_limit=None):
    return startup_plan(
        config,
        observation_spec=observation_spec or {"image": ImageSpec(64, 64, 3)},
        action_spec={"action": DiscreteSpec((18,))},
        protocol={"sticky": 0.25, "noops": 30},
        device="CPU, float32",
        parameter_counts={"rssm": 1_000_000, "actor": 234_567},
        action_repeat=4,
        logdir=Path("runs/x"),
        machine=machine,
        device_limit=device_limit,
        width=width,
    )


@pytest.mark.parametrize(("deter", "latent_bytes"), [(2048, 4_128), (4096, 8_224), (8192, 16_416)])
def test_bytes_of_a_step_match_the_published_table(deter, latent_bytes):
    bytes_per_step = replay_bytes_per_step({"image": ImageSpec(64, 64, 3)}, {}, deter=deter, stoch=32)
    reward_and_flags = 4 + 3
    assert bytes_per_step == 12_288 + latent_bytes + reward_and_flags


def test_bytes_of_every_kind_of_part():
    observation = {"image": ImageSpec(2, 3, 1), "speed": VectorSpec(5), "door": DiscreteSpec((2, 9))}
    action = {"move": VectorSpec(2), "press": DiscreteSpec((3, 4))}
    expected = (6 + 20 + 8) + 4 * 9 + 4 + 3 + 16 + 4
    assert replay_bytes_per_step(observation, action, deter=8, stoch=4) == expected
    # The replay's own layout is not asked in the plan, as its types are JAX's; here the two are held together.
    assert StepLayout(observation, action=action_width(action), deter=8, stoch=4).bytes_per_step == expected


def test_encoders_are_named_by_key():
    spec = {"velocity": VectorSpec(9), "image": ImageSpec(64, 64, 3), "position": VectorSpec(4)}
    assert describe_encoders(spec) == "image -> CNN; position, velocity -> MLP"
    assert describe_encoders({"key": DiscreteSpec((3,))}) == "key -> MLP"


def test_updates_per_agent_step_and_frame():
    config = resolve({"env": "atari100k_pong"})
    assert describe_ratio(config, action_repeat=4) == "1 update per 8 agent steps = 32 frames (train ratio 128)"
    config = resolve({"env": "atari100k_pong", "train_ratio": 1024})
    assert describe_ratio(config, action_repeat=1).startswith("1 update per 1 agent step = 1 frame ")


@pytest.mark.parametrize("num_envs", [1, 4, 5])
def test_updates_begin_when_the_replay_is_ready(num_envs):
    config = ReplayConfig(capacity=1000, chunk=8, batch_size=3, batch_length=4)
    layout = StepLayout({}, action=1, deter=1, stoch=1)
    replay = Replay(layout, num_envs=num_envs, config=config, seed=0, directory=None)
    nothing = np.zeros(num_envs)
    timestep = Timestep({}, nothing.astype(np.float32), *[nothing.astype(bool)] * 3)
    latent = CompactLatent(np.zeros((num_envs, 1), ml_dtypes.bfloat16), np.zeros((num_envs, 1), np.uint8))
    while not replay.ready:
        replay.add(timestep, action=np.zeros((num_envs, 1), np.float32), latent=latent)
    assert replay.num_steps == prefill_steps(config, num_envs=num_envs)


def test_updates_are_counted_from_the_prefill_on():
    config = resolve({"env": "atari_pong", "steps": "2448"})  # 2,048 of them fill the replay
    ratio = config.train_ratio / (config.replay.batch_size * config.replay.batch_length)
    assert describe_budget(config, action_repeat=4).endswith(f"about {400 * ratio:,.0f} updates")
    with pytest.raises(ConfigError, match="end before the first update"):
        resolve({"env": "atari_pong", "steps": "1100"})


def test_protocol_leaves_out_what_is_not_done():
    protocol = {"env": "x", "image_size": None, "resize": "none", "noops": 0, "life_loss": False}
    assert describe_protocol(protocol) == "env x, noops 0, life_loss False"


def test_plan_names_everything_a_user_asks_for():
    text = plan(resolve({"env": "atari100k_pong"}))
    for part in (
        "CPU, float32",
        "image: 64x64x3 image",
        "action: 18 choices",
        "image -> CNN",
        "sticky 0.25, noops 30",
        "12m, 1,234,567 parameters (rssm 1,000,000, actor 234,567)",
        "100,000 agent steps = 400,000 frames (action repeat 4), about 12,364 updates",
        "100,000 steps x 16,495 B = 1.6 GB when full",
        "1.6 GB of 1.0 TB: fits",
    ):
        assert part in text
    assert "WARNING" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 15


@pytest.mark.parametrize(
    ("limit", "mesh", "text"),
    [
        (10**9, "", "on device parameters, gradient and optimizer 19.8 MB of 1.0 GB; activations come on top"),
        (10**7, "", "optimizer 19.8 MB of 10.0 MB: WARNING, they do not fit; choose a smaller --size, or split"),
        (10**7, "model=2", "optimizer 9.9 MB of 10.0 MB; activations come on top"),
    ],
)
def test_memory_of_a_simulated_device(limit, mesh, text):
    shown = " ".join(plan(resolve({"env": "atari_pong", "mesh": mesh}), device_limit=limit).split())
    assert text in shown
    assert "on device" not in plan(resolve({"env": "atari_pong"}))


def test_too_little_memory_is_a_warning_with_a_capacity_that_fits():
    config = resolve({"env": "atari100k_pong"})
    text = " ".join(plan(config, machine=Machine(memory_limit=10**9, disk_free=10**12)).split())
    assert "WARNING, it will not fit when full; start with --replay.capacity 48128" in text
    smaller = resolve({"env": "atari100k_pong", "replay.capacity": 48128})
    assert "WARNING" not in plan(smaller, machine=Machine(memory_limit=10**9, disk_free=10**12))


def test_too_little_disk_is_a_warning():
    text = " ".join(plan(resolve({"env": "atari100k_pong"}), machine=Machine(10**12, 10**9)).split())
    assert "of 1.0 GB free: WARNING, the disk can fill up; lower --replay.capacity or choose another --logdir" in text


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_memory_limit_of_control_groups_version_2(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/pod/task\n")
    write(tmp_path, "sys/fs/cgroup/pod/task/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/pod/memory.max", "123456\n")
    assert memory_limit(root=tmp_path) == 123456
    write(tmp_path, "sys/fs/cgroup/memory.max", "1234\n")
    assert memory_limit(root=tmp_path) == 1234


def test_memory_limit_of_control_groups_version_1(tmp_path):
    write(tmp_path, "proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n")
    # In a container the group's own path is often not mounted, only its root.
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "654321\n")
    assert memory_limit(root=tmp_path) == 654321


def test_no_limit_leaves_the_machine(tmp_path):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_limit(root=tmp_path) == physical
    write(tmp_path, "proc/self/cgroup", "3:memory:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_limit(root=tmp_path) == physical


@pytest.mark.parametrize(("available", "short"), [(0.05, True), (0.2, False)])
def test_memory_of_the_machine_runs_short(tmp_path, available, short):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    write(tmp_path, "proc/meminfo", f"MemTotal: 1 kB\nMemAvailable:  {int(available * physical) // 1024} kB\n")
    assert memory_is_short(root=tmp_path) is short


@pytest.mark.parametrize(("used", "short"), [(950, True), (850, False)])
def test_memory_of_a_control_group_runs_short(tmp_path, used, short):
    """Caches of files, here 500 bytes, do not count."""
    write(tmp_path, "proc/self/cgroup", "0::/job/worker\n")
    write(tmp_path, "sys/fs/cgroup/job/worker/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/job/memory.max", "1000\n")
    write(tmp_path, "sys/fs/cgroup/job/memory.current", f"{used + 500}\n")
    write(tmp_path, "sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 300\nactive_file 200\n")
    assert memory_is_short(root=tmp_path) is short
    write(tmp_path, "proc/self/cgroup", "4:memory:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{used + 500}\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.stat", "total_inactive_file 300\ntotal_active_file 200\n")
    assert memory_is_short(root=tmp_path) is short


def test_machine_is_measured_where_the_run_will_be(tmp_path):
    machine = measure_machine(tmp_path / "not" / "yet" / "there")
    assert 0 < machine.memory_limit < 2**60
    assert machine.disk_free > 0
