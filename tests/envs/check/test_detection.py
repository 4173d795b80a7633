"""The share of seeded faults that the check finds. The whole table: `python -m tests.envs.check.detection`."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.check.evidence import subject_of
from tests.envs.check.adapter_mutations import ADAPTER_MUTATIONS
from tests.envs.check.detection import alarms, alarms_of, alarms_of_adapter
from tests.envs.check.mutations import MUTATIONS
from tests.envs.check.worlds import WORLDS

VISIBLE = [name for name, mutation in MUTATIONS.items() if mutation.checks]
INVISIBLE = [name for name in MUTATIONS if name not in VISIBLE]
PAIRS = [(name, world) for name in VISIBLE for world in MUTATIONS[name].worlds]
# The short form takes one world for each mutation, another one for the next.
SHORT = [(name, MUTATIONS[name].worlds[i % len(MUTATIONS[name].worlds)]) for i, name in enumerate(VISIBLE)]


def test_nine_of_ten_mutations_are_visible_and_there_are_twenty():
    assert len(VISIBLE) >= 20
    assert len(VISIBLE) >= 0.9 * len(MUTATIONS)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(2))
def test_a_correct_world_raises_no_alarm(world, seed):
    assert alarms(subject_of(world), seed=seed) == {}


def assert_found(name, world):
    found = alarms_of(name, world)
    assert set(found) & set(MUTATIONS[name].checks), found


@pytest.mark.parametrize(("name", "world"), SHORT)
def test_the_right_check_finds_it(name, world):
    assert_found(name, world)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "world"), [pair for pair in PAIRS if pair not in SHORT])
def test_the_right_check_finds_it_in_the_other_worlds(name, world):
    assert_found(name, world)


@pytest.mark.parametrize("name", INVISIBLE)
def test_what_only_the_author_can_know_raises_no_alarm(name):
    """These are other rules, not broken ones: an alarm would be luck, and false elsewhere."""
    assert alarms_of(name, MUTATIONS[name].worlds[0]) == {}


@pytest.mark.parametrize("name", ADAPTER_MUTATIONS)
def test_a_fault_of_the_adapter_is_found(name):
    assert set(alarms_of_adapter(name)) & {"timesteps", "adapter"}


def test_the_readme_tells_the_share():
    total = len(MUTATIONS) + len(ADAPTER_MUTATIONS)
    text = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    assert f"{total - len(INVISIBLE)} of {total} seeded faults" in " ".join(text.split())
