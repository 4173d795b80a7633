"""Worlds under the same actions: steps, steps back, anchors, and who acts."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.play.keymap import Input
from dreamer.play.session import CONTEXT, HISTORY, SessionError
from tests.play.table import Balance, real, table

RIGHT = Input(frozenset({"ArrowRight"}))
NOTHING = Input()


def seen(session, world="reality"):
    return session.now.worlds[world].outcome.observation["state"][0]


def test_the_truth_in_place_of_the_dream_never_diverges_and_a_frozen_picture_does():
    session = table()
    for turn in range(40):
        session.step(NOTHING if turn % 3 else RIGHT)
        assert session.gap == 0.0
    session.show("frozen", "reality")
    session.step(NOTHING)
    assert session.gap > 0.0


def test_keys_decide_and_all_worlds_get_the_same_action():
    session = table()
    before = seen(session)[1]
    for _ in range(3):
        session.step(RIGHT)
    assert seen(session)[1] > before + 0.3  # the cart's speed
    np.testing.assert_array_equal(seen(session), seen(session, "dream"))
    np.testing.assert_array_equal(session.now.action, [0, 1])


def test_a_step_back_is_exact_and_the_way_on_is_the_same():
    session = table()
    path = [seen(session := _walk(session, 1)) for _ in range(20)]
    assert session.rewind(15) == 15
    np.testing.assert_array_equal(seen(session), path[4])
    again = [seen(session := _walk(session, 1)) for _ in range(15)]
    np.testing.assert_array_equal(again, path[5:])


def _walk(session, steps):
    session.drive("agent", "reality")
    for _ in range(steps):
        session.step(NOTHING)
    return session


def test_only_so_much_is_kept():
    session = _walk(table(), HISTORY + 40)
    assert len(session.history) == HISTORY
    assert session.rewind(10_000) == HISTORY - 1
    assert session.rewind(1) == 0
    assert session.now.number == 41


def test_an_anchor_begins_every_world_at_what_reality_was():
    session = _walk(table(), 3)
    session.show("frozen", "reality")
    _walk(session, CONTEXT + 4)
    before = session.now
    truth = [moment.worlds["reality"].outcome.observation["state"][0] for moment in session.history]
    session.anchor()
    start = session.worlds["frozen"].starts[-1]
    np.testing.assert_array_equal(start.observation["state"][0], truth[-CONTEXT:])
    np.testing.assert_array_equal(start.previous_action[0], [m.action for m in list(session.history)[-CONTEXT:]])
    assert not start.is_first.any()
    assert (session.now.age, session.now.number, session.gap) == (0, before.number, 0.0)
    assert session.now.worlds["frozen"].score == before.worlds["reality"].score
    assert session.rewind(2) == 2  # the way back stays open


def test_a_young_episode_is_filled_up_with_its_reset():
    session = table(warm_up=4)
    session.show("frozen", "reality")
    start = session.worlds["frozen"].starts[-1]
    assert start.is_first.tolist() == [[True] * (CONTEXT - 4) + [False] * 4]
    assert (start.observation["state"][0, : CONTEXT - 4] == start.observation["state"][0, 0]).all()


def test_the_agent_acts_on_the_world_that_it_sees():
    session = table()
    session.drive("agent", "reality")
    judged = session.now.judgement
    assert judged.value == 6.0  # it has followed reality from the reset: five steps and the reset
    session.step(RIGHT)
    np.testing.assert_array_equal(session.now.action, judged.action)
    assert session.now.judgement.value == 7.0
    session.drive("agent", "dream")
    assert session.now.judgement.value == 1.0
    session.step(RIGHT)
    assert session.now.memory is None  # nobody follows reality now


def test_the_end_of_reality_is_shown_and_then_another_episode_begins():
    session = table()
    while not session.now.worlds["reality"].is_over:
        session.step(RIGHT)
    last = session.now
    assert last.worlds["reality"].outcome.continue_prob[0] == 0.0
    session.step(RIGHT)
    assert (session.now.number, len(session.history)) == (0, 1)
    assert not session.now.worlds["reality"].is_over


def test_one_can_return_from_the_end():
    session = table()
    while not session.now.worlds["reality"].is_over:
        session.step(RIGHT)
    session.rewind(3)
    session.step(Input(frozenset({"ArrowLeft"})))
    assert not session.now.worlds["reality"].is_over


class Notes:
    """A recording that keeps what it is given."""

    def __init__(self):
        self.steps = []

    def add(self, moment, action):
        self.steps.append((moment.number, moment.memory is not None))

    def cut(self, moment):
        self.steps.append("cut")


def test_a_recording_knows_the_latents_even_of_moments_before_it_began():
    session, notes = table(), Notes()
    for _ in range(3):
        session.step(NOTHING)
    session.record(notes)
    session.step(NOTHING)
    session.rewind(3)
    session.step(NOTHING)
    session.record(None)
    session.step(NOTHING)
    assert notes.steps == [(3, True), "cut", (1, True), "cut"]


def test_an_unknown_world_is_refused_and_nothing_changes():
    session = table()
    with pytest.raises(SessionError, match="no world 'mars'; choose from dream, reality, frozen"):
        session.show("mars", "reality")
    assert session.shown == ("dream", "reality")


def test_reality_finds_states_between_snapshots_again():
    """Forty steps, more than one snapshot; then any of them again, in any order, bit by bit."""
    world = real()
    state, outcome = world.begin(world.fresh(), seed=0)
    states, seen_then, actions = [state], [outcome.observation["state"]], []
    for _ in range(40):
        actions.append(Balance().judge((seen_then[-1][0],)).action[None])
        state, outcome = world.step(state, actions[-1])
        states.append(state)
        seen_then.append(outcome.observation["state"])
    for place in (5, 33, 0, 39, 31):
        _, outcome = world.step(states[place], actions[place])
        np.testing.assert_array_equal(outcome.observation["state"], seen_then[place + 1])
    assert max(len(state.actions) for state in states) < 40


def test_pixels_of_reality_are_those_of_the_state_that_is_asked_for():
    world = real()
    state, _ = world.begin(world.fresh(), seed=0)
    picture = world.render(state)
    later = state
    for _ in range(10):
        later, _ = world.step(later, np.array([[0, 1]], np.float32))
    assert (world.render(later) != picture).any()
    np.testing.assert_array_equal(world.render(state), picture)
