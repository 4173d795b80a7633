"""Episodes from replay's indices to a dataset's and back."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from dreamer.exchange.episodes import EpisodeError, NativeEpisode, to_native, to_steps
from envs.codec import ActionCodec, ObservationCodec

OBSERVATIONS = spaces.Dict(
    eye=spaces.Box(0, 255, (3, 16, 20), np.uint8),
    arm=spaces.Tuple([spaces.Box(-np.inf, np.inf, (2, 2), np.float64), spaces.Discrete(5, start=3)]),
)
ACTIONS = spaces.Dict(grip=spaces.MultiDiscrete([2, 3]), move=spaces.Box(-2.0, 4.0, (2,), np.float32))
CODECS = {"observation_codec": ObservationCodec(OBSERVATIONS), "action_codec": ActionCodec(ACTIONS)}
T = 6


def random_steps(seed: int = 0, *, is_terminal: bool = True) -> dict[str, np.ndarray]:
    """An episode as replay holds it, `[T + 1]`; the actions are such as the policy gives, beyond their bounds too."""
    rng = np.random.default_rng(seed)
    one_hot = [np.eye(count, dtype=np.float32)[rng.integers(count, size=T + 1)] for count in (2, 3)]
    at_end = np.arange(T + 1) == T
    return {
        "observation/eye": rng.integers(256, size=(T + 1, 16, 20, 3), dtype=np.uint8),
        "observation/arm/0": rng.normal(size=(T + 1, 4)).astype(np.float32),
        "observation/arm/1": rng.integers(5, size=(T + 1, 1)).astype(np.int32),
        "action": np.concatenate([*one_hot, 1.5 * rng.normal(size=(T + 1, 2)).astype(np.float32)], axis=-1),
        "reward": np.append(0.0, rng.normal(size=T)).astype(np.float32),
        "is_first": np.arange(T + 1) == 0,
        "is_last": at_end,
        "is_terminal": at_end & is_terminal,
    }


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_entry_holds_what_followed_its_action(is_terminal):
    steps = random_steps(is_terminal=is_terminal)
    episode = to_native(steps, **CODECS)
    assert episode.observations["eye"].shape == (T + 1, 3, 16, 20)
    assert episode.observations["arm"][0].dtype == np.float64
    assert all(OBSERVATIONS.contains(row(episode.observations, t)) for t in range(T + 1))
    assert all(ACTIONS.contains(row(episode.actions, t)) for t in range(T))
    for t in range(T):
        assert episode.rewards[t] == steps["reward"][t + 1]  # arrived with the next observation
        assert episode.actions["grip"][t, 1] == steps["action"][t, 2:5].argmax()  # was chosen at this one
    assert len(episode.rewards) == len(episode.actions["move"]) == T
    assert episode.terminations.tolist() == [False] * (T - 1) + [is_terminal]
    assert episode.truncations.tolist() == [False] * (T - 1) + [not is_terminal]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_there_and_back_no_bit_changes_but_in_what_was_never_executed(is_terminal):
    """The action after the last observation is in no dataset; one beyond its bounds comes back as executed."""
    steps = random_steps(is_terminal=is_terminal)
    again = to_steps(to_native(steps, **CODECS), **CODECS)
    assert again.keys() == steps.keys()
    for name in steps.keys() - {"action"}:
        assert again[name].dtype == steps[name].dtype
        np.testing.assert_array_equal(again[name], steps[name])
    np.testing.assert_array_equal(again["action"][:-1, :5], steps["action"][:-1, :5])
    np.testing.assert_allclose(again["action"][:-1, 5:], np.clip(steps["action"][:-1, 5:], -1, 1), atol=1e-6)
    np.testing.assert_array_equal(again["action"][-1], 0)


def test_an_episode_without_an_end_was_cut():
    episode = to_native(random_steps(), **CODECS)
    none = np.zeros(T, bool)
    steps = to_steps(episode._replace(terminations=none, truncations=none), **CODECS)
    assert steps["is_last"].tolist() == [False] * T + [True]
    assert not steps["is_terminal"].any()


def broken(**changes) -> NativeEpisode:
    episode = to_native(random_steps(), **CODECS)
    return episode._replace(**{name: change(getattr(episode, name)) for name, change in changes.items()})


@pytest.mark.parametrize(
    ("episode", "fault"),
    [
        (broken(rewards=lambda r: r[:-1]), "5 rewards, 6 terminations"),
        (broken(rewards=lambda r: r[:0], terminations=lambda r: r[:0], truncations=lambda r: r[:0]), "0 rewards"),
        (broken(rewards=lambda r: np.where(np.arange(T) == 2, np.nan, r)), "'rewards' is NaN or infinite"),
        (broken(terminations=lambda flags: ~flags), "ends before its last step"),
        (broken(observations=lambda o: {**o, "eye": o["eye"][1:]}), "6 steps need 7 observations"),
        (broken(observations=lambda o: {"eye": o["eye"]}), "arm"),
        (broken(actions=lambda a: {**a, "grip": a["grip"] + 2}), "'grip' has values"),
        (broken(observations=lambda o: {**o, "arm": (o["arm"][0] * np.inf, o["arm"][1])}), "'arm/0' is NaN"),
    ],
)
def test_what_is_no_episode_is_refused_in_words(episode, fault):
    with pytest.raises(EpisodeError, match=fault):
        to_steps(episode, **CODECS)


def row(tree, t):
    """Entry t of nested arrays."""
    if isinstance(tree, dict):
        return {name: row(child, t) for name, child in tree.items()}
    return tuple(row(child, t) for child in tree) if isinstance(tree, tuple) else tree[t]
