"""Seeded faults: each turns a correct world into one that is wrong in a single way, as users' code is.

A mutation is a function from a world's class to a class. `MUTATIONS` says which worlds it fits and which checks have to
notice; an empty tuple of checks marks what cannot be seen from outside, which counts as missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from tests.envs.check.worlds import WORLDS, Grid, Picture, Slider


class Mutation(NamedTuple):
    make: Callable[[Any], Any]
    worlds: tuple[Any, ...]
    checks: tuple[str, ...]


MUTATIONS: dict[str, Mutation] = {}


def mutation(*checks: str, worlds: tuple[Any, ...] = WORLDS):
    """Enter a function into `MUTATIONS`."""

    def enter(function):
        MUTATIONS[function.__name__] = Mutation(function, worlds, checks)
        return function

    return enter


def after_step(world, change, *, name="Mutant"):
    """The world with `change(env, result)` applied to what step returns."""
    return type(name, (world,), {"step": lambda self, action: change(self, world.step(self, action))})


def with_look(world, change):
    """The world with `change(env, array)` applied to every array it shows."""

    def look(self):
        seen = world.look(self)
        return {key: change(self, part) for key, part in seen.items()} if isinstance(seen, dict) else change(self, seen)

    return type("Mutant", (world,), {"look": look})


# ---- rewards


@mutation("timing")
def reward_one_step_late(world):
    class Mutant(world):
        def reset(self, **kwargs):
            self.due = 0.0
            return super().reset(**kwargs)

        def step(self, action):
            observation, reward, *rest = super().step(action)
            reward, self.due = self.due, reward
            return observation, reward, *rest

        def get_state(self):
            return super().get_state() | {"due": np.array(self.due)}

        def set_state(self, state):
            super().set_state(state)
            self.due = float(state["due"])

    if world is Picture:
        Mutant.get_state = Mutant.set_state = None
    return Mutant


@mutation("leaks", "timing", "fork")
def reward_of_the_last_episode_leaks(world):
    class Mutant(world):
        due = 0.0

        def step(self, action):
            observation, reward, *rest = super().step(action)
            reward, self.due = self.due, reward
            return observation, reward, *rest

    return Mutant


@mutation("finite", "random play")
def reward_is_nan_now_and_then(world):
    return after_step(world, lambda env, r: (r[0], np.nan if env.elapsed == 13 else r[1], *r[2:]))


@mutation("finite", "random play")
def reward_is_infinite_at_the_end(world):
    return after_step(world, lambda env, r: (r[0], -np.inf if r[2] else r[1], *r[2:]))


@mutation("api")
def reward_is_an_array(world):
    return after_step(world, lambda env, r: (r[0], np.array([r[1]]), *r[2:]))


@mutation("rewards")
def reward_is_ten_million_times_as_large(world):
    return after_step(world, lambda env, r: (r[0], 1e7 * r[1], *r[2:]))


@mutation("rewards")
def reward_is_forgotten(world):
    return after_step(world, lambda env, r: (r[0], 0.0, *r[2:]))


@mutation()
def reward_has_the_wrong_sign(world):
    return after_step(world, lambda env, r: (r[0], -r[1], *r[2:]))


# ---- observations


@mutation("buffers")
def observation_buffer_is_reused(world):
    class Mutant(world):
        def look(self):
            seen = super().look()
            if not hasattr(self, "buffer"):
                self.buffer = seen
            for mine, new in zip(_arrays(self.buffer), _arrays(seen), strict=True):
                mine[...] = new
            return self.buffer

    return Mutant


@mutation("buffers", worlds=(Slider,))
def observation_is_the_state_itself(world):
    class Mutant(world):
        observation_space = spaces.Dict({key: spaces.Box(-9.0, 9.0, (2,), np.float64) for key in ("position", "speed")})

        def look(self):
            return {"position": self.position, "speed": self.speed}

    return Mutant


def _arrays(seen):
    return list(seen.values()) if isinstance(seen, dict) else [seen]


@mutation("finite", "random play", worlds=(Grid, Slider))
def observation_is_nan_now_and_then(world):
    return with_look(world, lambda env, array: np.where(env.elapsed == 11, np.nan, array).astype(np.float32))


@mutation("bounds", worlds=(Grid, Slider))
def observation_leaves_its_box(world):
    return with_look(world, lambda env, array: array + np.float32(20.0 * (env.elapsed == 9)))


@mutation("dtypes", worlds=(Grid, Slider))
def observation_is_float64(world):
    return with_look(world, lambda env, array: array.astype(np.float64))


@mutation("dtypes", worlds=(Picture,))
def image_is_float(world):
    return with_look(world, lambda env, array: array.astype(np.float32))


@mutation("values", worlds=(Picture,))
def image_is_scaled_to_one(world):
    return with_look(world, lambda env, array: (array > 127).astype(np.uint8))


@mutation("shapes", "random play")
def observation_shape_changes_at_the_end(world):
    return with_look(world, lambda env, array: array[:-1] if env.is_over() else array)


@mutation("timing")
def observation_is_one_step_old(world):
    class Mutant(world):
        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            self.seen = observation
            return observation, info

        def step(self, action):
            observation, *rest = super().step(action)
            observation, self.seen = self.seen, observation
            return observation, *rest

    Mutant.get_state = Mutant.set_state = None
    return Mutant


@mutation("last observation")
def last_observation_is_the_next_first(world):
    def change(env, result):
        return (env.reset()[0], *result[1:]) if result[2] or result[3] else result

    return after_step(world, change)


@mutation("values")
def observation_never_changes(world):
    return with_look(world, lambda env, array: np.ones_like(array))


# ---- seeds and state


@mutation("same seed")
def seed_is_ignored(world):
    return type("Mutant", (world,), {"reset": lambda self, *, seed=None, options=None: world.reset(self)})


@mutation("other seeds", "leaks")
def seed_is_fixed_at_construction(world):
    class Mutant(world):
        def __init__(self):
            super().reset(seed=7)

        def reset(self, *, seed=None, options=None):
            return super().reset()

    return Mutant


@mutation("same seed")
def wind_comes_from_the_global_generator(world):
    class Mutant(world):
        def move(self, action):
            return super().move(self.action_space.sample() if np.random.random() < 0.05 else action)

    return Mutant


@mutation("same seed")
def reward_depends_on_the_clock(world):
    return after_step(world, lambda env, r: (r[0], r[1] + time.perf_counter() % 1.0 / 1000, *r[2:]))


@mutation("neighbours")
def global_generator_is_seeded_at_reset(world):
    class Mutant(world):
        def reset(self, *, seed=None, options=None):
            if seed is not None:
                np.random.seed(seed % 2**32)
            return super().reset(seed=seed)

        def move(self, action):
            return super().move(MOVE_BACK if np.random.random() < 0.1 and world is not Slider else action)

        def place(self):
            super().place()
            if world is Slider:
                self.position = np.random.uniform(-1, 1, 2)

    return Mutant


MOVE_BACK = 3


@mutation("leaks", "truncation", "lengths")
def step_counter_is_not_reset(world):
    class Mutant(world):
        total = 0

        def step(self, action):
            self.total += 1
            observation, reward, terminated, _, info = super().step(action)
            return observation, reward, terminated, self.total % 40 == 0, info

    return Mutant


@mutation("leaks")
def fatigue_is_carried_into_the_next_episode(world):
    class Mutant(world):
        fatigue = 0.0

        def step(self, action):
            observation, reward, *rest = super().step(action)
            self.fatigue += 0.001
            return observation, reward - self.fatigue, *rest

    return Mutant


@mutation("neighbours", "adapter")  # the adapter stands beside the raw one in its comparison
def state_is_kept_in_the_class(world):
    class Mutant(world):
        count = 0

        def reset(self, **kwargs):
            type(self).count = 0
            return super().reset(**kwargs)

        def step(self, action):
            type(self).count += 1
            observation, reward, terminated, _, info = super().step(action)
            return observation, reward, terminated, type(self).count >= 40, info

    return Mutant


@mutation("fork", worlds=(Grid, Slider))
def set_state_forgets_the_step_counter(world):
    return type("Mutant", (world,), {"get_state": lambda self: world.get_state(self) | {"elapsed": np.array(0)}})


@mutation("fork", worlds=(Slider,))
def set_state_forgets_the_speed(world):
    return type("Mutant", (world,), {"get_state": lambda self: world.get_state(self) | {"speed": np.zeros(2)}})


# ---- ends


@mutation("termination")
def time_limit_is_flagged_as_death(world):
    return after_step(world, lambda env, r: (*r[:2], r[2] or r[3], False, r[4]))


@mutation("truncation")
def death_is_flagged_as_time_limit(world):
    return after_step(world, lambda env, r: (*r[:2], False, r[2] or r[3], r[4]))


@mutation("termination")
def both_flags_are_set_at_every_end(world):
    return after_step(world, lambda env, r: (*r[:2], r[2] or r[3], r[2] or r[3], r[4]))


@mutation("lengths")
def no_episode_ever_ends(world):
    return after_step(
        type(
            "Mutant",
            (world,),
            {"look": lambda self: self.observation_space.sample() if self.is_over() else world.look(self)},
        ),
        lambda env, r: (*r[:2], False, False, r[4]),
    )


@mutation("lengths", "leaks")
def over_once_is_over_for_ever(world):
    class Mutant(world):
        over = False

        def is_over(self):
            self.over = self.over or super().is_over()
            return self.over

    return Mutant


@mutation(worlds=(Grid, Picture))
def the_goal_does_not_end_the_episode(world):
    return type("Mutant", (world,), {"is_over": lambda self: world.is_over(self) and self.cell[0] == 2})


# ---- actions


def with_action(world, change):
    return type("Mutant", (world,), {"move": lambda self, action: world.move(self, change(self, action))})


@mutation("action effect", worlds=(Grid, Picture))
def action_is_off_by_one_and_clipped(world):
    return with_action(world, lambda env, action: min(int(action) + 1, 3))


@mutation(worlds=(Grid, Picture))
def action_is_off_by_one_and_wraps(world):
    return with_action(world, lambda env, action: (int(action) + 1) % 4)


@mutation("random play", worlds=(Grid, Picture))
def action_start_is_forgotten(world):
    return type("Mutant", (world,), {"action_space": spaces.Discrete(4, start=1)})


@mutation("random play", worlds=(Slider,))
def action_at_the_bound_is_refused(world):
    def strict(env, action):
        if not (np.abs(action) < 2.0).all():
            raise AssertionError("action out of range")
        return action

    return with_action(world, strict)


@mutation("action effect", worlds=WORLDS)
def action_is_ignored(world):
    return with_action(world, lambda env, action: env.elapsed % 4 if world is not Slider else np.zeros(2))


@mutation("action effect", worlds=(Slider,))
def action_is_clipped_to_half_its_range(world):
    return with_action(world, lambda env, action: np.clip(action, -1.0, 1.0))


@mutation("action effect", worlds=(Slider,))
def second_component_is_never_read(world):
    return with_action(world, lambda env, action: np.array([action[0], action[0]]))


# ---- interface


@mutation("api")
def reset_returns_no_info(world):
    return type("Mutant", (world,), {"reset": lambda self, **kwargs: world.reset(self, **kwargs)[0]})


@mutation("api")
def reset_takes_no_seed(world):
    return type("Mutant", (world,), {"reset": lambda self: world.reset(self)})


@mutation("api")
def step_returns_four_values(world):
    return after_step(world, lambda env, r: (r[0], r[1], r[2] or r[3], r[4]))


@mutation("api")
def info_is_none(world):
    return after_step(world, lambda env, r: (*r[:4], None))


@mutation("api")
def flag_is_none(world):
    return after_step(world, lambda env, r: (*r[:3], True if r[3] else None, r[4]))


@mutation("spaces")
def class_is_no_gymnasium_env(world):
    class Mutant:
        observation_space, action_space = world.observation_space, world.action_space

        def reset(self):
            return self.observation_space.sample()

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, {}

    return Mutant


@mutation("spaces")
def action_space_is_text(world):
    return type("Mutant", (world,), {"action_space": spaces.Text(5)})


@mutation("spaces", worlds=(Slider,))
def action_space_has_no_bounds(world):
    return type("Mutant", (world,), {"action_space": spaces.Box(-np.inf, np.inf, (2,))})


@mutation("random play", "api")
def it_raises_after_a_while(world):
    def change(env, result):
        if env.elapsed == 20:
            raise RuntimeError("lost the connection")
        return result

    return after_step(world, change)
