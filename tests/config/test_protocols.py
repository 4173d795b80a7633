"""The named evaluation protocols, on episodes whose mean is known."""

from __future__ import annotations

import pytest

from dreamer.protocols import PROTOCOLS, ProtocolError, WindowScore, find_protocol

ATARI_100K = {
    "env": "atari100k_pong", "action_repeat": 4, "noops": 30, "life_loss": False, "max_episode_frames": 108_000,
    "sticky": 0.0, "full_actions": False, "grayscale": False, "height": 64, "width": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("atari100k", {389_999: False, 390_000: True, 395_000: True, 400_000: True, 400_004: False}),
        ("atari57", {198_000_000: False, 198_000_004: True, 200_000_000: True, 200_000_004: False}),
        ("dmc_proprio", {490_000: False, 490_002: True, 500_000: True, 500_002: False}),
        ("dmc_vision", {990_000: False, 990_002: True, 1_000_000: True, 1_000_002: False}),
        ("dmc_vision_40k", {960_000: False, 960_002: True, 1_000_000: True}),
    ],
)
def test_the_edges_of_a_window(name: str, ends: dict[int, bool]):
    """An episode counts by the frame at which it ends; atari100k alone takes its lower edge in, as stated."""
    protocol = find_protocol(name)
    assert {frames: protocol.training_score([(frames, 1.0)]).episodes == 1 for frames in ends} == ends


def test_a_window_gives_mean_spread_and_count_or_nothing():
    episodes = [(100_000, 50.0), (391_000, 1.0), (399_000, 4.0), (399_500, float("nan"))]
    assert find_protocol("atari100k").training_score(episodes) == WindowScore(2.5, 1.5, 2)
    assert find_protocol("atari100k").training_score(episodes[:1]) == WindowScore(None, None, 0)


def test_the_last_episodes_are_the_newest_whatever_their_order():
    episodes = [(frames, float(frames)) for frames in range(100, 0, -1)]
    assert find_protocol("classic").training_score(episodes) == (90.5, pytest.approx(33.25**0.5), 20)
    assert find_protocol("classic").training_score(episodes[:3]).episodes == 3


def test_an_environment_that_contradicts_is_named():
    protocol = find_protocol("atari100k")
    assert protocol.differences("atari100k_pong", ATARI_100K) == []
    sticky = protocol.differences("atari100k_pong", ATARI_100K | {"sticky": 0.25, "life_loss": True})
    assert sticky == ["life_loss is True instead of False", "sticky is 0.25 instead of 0.0"]
    (other,) = protocol.differences("CartPole-v1", {"env": "CartPole-v1"})
    assert other == "it is for environments of atari100k, and CartPole-v1 is one of classic"
    assert find_protocol("dmc_proprio").differences("dmc_walker_walk", {"action_repeat": 1, "max_episode_frames": 1000})


def test_names_aliases_and_slips():
    assert find_protocol("atari200m") is PROTOCOLS["atari57"]
    with pytest.raises(ProtocolError, match="no protocol is called 'atari10k'; did you mean atari100k"):
        find_protocol("atari10k")
