"""One Atari game that can be saved and forked, step for step what ale-py's native vector environment does.

The vector environment exposes no state, and a saved emulator forgets which action it would stick to. This adapter
repeats ale-py's preprocessing around an `ALEInterface` without sticky actions and draws the random numbers itself, as
ale-py does: one Mersenne twister for no-op starts, another for sticky actions, with the same seed. So both show the
same frames, rewards and ends for the same seed; `tests/envs/test_atari.py` compares them.
"""

from __future__ import annotations

import warnings

import numpy as np
from ale_py import Action, ALEState
from gymnasium import spaces
from typing_extensions import override

from envs.area import AreaResize
from envs.arrays import load_random_state, random_state_array
from envs.atari_protocol import AtariProtocol, action_names, action_set, load_game, printed_protocol
from envs.codec import ActionCodec
from envs.environment import Simulator, State, Transition
from envs.spaces import ImageSpec

FRAME_RATE = 60.0  # of the console
MAX_SETTLING_FRAMES = 16  # Q*bert needs 1, the other 56 games none


class AtariSimulator(Simulator):
    """A game with the protocol's preprocessing; forks bit by bit."""

    can_fork = True

    def __init__(self, protocol: AtariProtocol, *, seed: int, name: str) -> None:
        self._protocol = protocol
        self._actions = action_set(protocol)
        self._noop_random = np.random.RandomState(seed)  # as std::mt19937 with this seed
        self._sticky_random = np.random.RandomState(seed)
        self._sticky_threshold = float(np.float32(protocol.sticky)) * 2**32
        self._held_action = Action.NOOP
        self._ale = load_game(protocol.game)
        height, width = self._ale.getScreenDims()
        self._resize = AreaResize((height, width), (protocol.height, protocol.width))
        # What an agent sees is the maximum of both; the maximum is kept in the first.
        self._frames = np.zeros((2, height, width, protocol.channels), np.uint8)
        self._lives = 0
        self._elapsed_frames = 0
        image = ImageSpec(protocol.height, protocol.width, protocol.channels)
        self.native_observation_space = spaces.Box(0, 255, image, np.uint8)
        self.native_action_space = spaces.Discrete(len(self._actions))
        self._codec = ActionCodec(self.native_action_space)
        self.observation_spec = {"image": image}
        self.action_spec = self._codec.spec
        self.action_repeat = protocol.action_repeat
        self.frame_rate = FRAME_RATE
        self.action_names = action_names(protocol)
        self.protocol = printed_protocol(protocol, name)

    @override
    def reset(self) -> dict[str, np.ndarray]:
        self._reset_game()
        for _ in range(self._draw_noops()):
            self._act(Action.NOOP)
            if self._ale.game_over():
                self._reset_game()
        self._grab(0)
        self._frames[1] = 0
        self._lives = self._ale.lives()
        self._elapsed_frames = 0
        return self._observation()

    @override
    def step(self, action: np.ndarray) -> Transition:
        native = self._actions[self._codec.decode(action)]
        reward, terminated, truncated = 0, False, False
        for frames_left in reversed(range(self._protocol.action_repeat)):
            reward += self._act(native)
            self._elapsed_frames += 1
            terminated = self._ale.game_over() or self._is_life_lost()
            truncated = not terminated and self._elapsed_frames >= self._protocol.max_episode_frames
            if terminated or truncated:
                break  # before the frame is grabbed, as ale-py does
            if frames_left < 2:
                self._grab(frames_left)
        self._lives = self._ale.lives()
        return Transition(self._observation(), float(reward), terminated, truncated)

    def _reset_game(self) -> None:
        self._ale.reset_game()
        self._held_action = Action.NOOP

    def _act(self, action: Action) -> int:
        """One frame; sticky actions repeat the one of the frame before."""
        draw, _ = self._sticky_random.randint(0, 2**32, size=2, dtype=np.uint32)  # the second is for a second player
        if draw >= self._sticky_threshold:
            self._held_action = action
        return self._ale.act(self._held_action)

    def _is_life_lost(self) -> bool:
        return self._protocol.life_loss and 0 < self._ale.lives() < self._lives

    def _draw_noops(self) -> int:
        """Uniform in 0 .. noops, from the high bits of the product as in `std::uniform_int_distribution`."""
        count = self._protocol.noops + 1
        while True:
            product = int(self._noop_random.randint(0, 2**32, dtype=np.uint32)) * count
            if product % 2**32 >= 2**32 % count:  # else a few values would be drawn too often
                return product >> 32

    def _grab(self, slot: int) -> None:
        """Copy the screen into one of the two frames."""
        read = self._ale.getScreenGrayscale if self._protocol.grayscale else self._ale.getScreenRGB
        self._frames[slot] = read().reshape(self._frames[slot].shape)

    def _observation(self) -> dict[str, np.ndarray]:
        if self._protocol.max_pool:
            np.maximum(self._frames[0], self._frames[1], out=self._frames[0])
        return {"image": self._resize(self._frames[0])}

    @override
    def get_state(self) -> State:
        ale = self._ale.cloneState().serialize()
        return {
            "ale": np.frombuffer(ale, np.uint8).copy(),
            "settling_frames": np.array(self._find_settling_frames(ale)),
            "noop_random": random_state_array(self._noop_random),
            "sticky_random": random_state_array(self._sticky_random),
            "held_action": np.array(self._held_action.value),
            "frames": self._frames.copy(),
            "lives": np.array(self._lives),
            "elapsed_frames": np.array(self._elapsed_frames),
        }

    @override
    def set_state(self, state: State) -> None:
        self._restore(state["ale"].tobytes(), settling_frames=int(state["settling_frames"]))
        load_random_state(self._noop_random, state["noop_random"])
        load_random_state(self._sticky_random, state["sticky_random"])
        self._held_action = Action(int(state["held_action"]))
        self._frames = np.array(state["frames"])
        self._lives = int(state["lives"])
        self._elapsed_frames = int(state["elapsed_frames"])

    def _find_settling_frames(self, ale: bytes) -> int:
        """How `_restore` has to prepare the emulator for this state, found by trying; leaves it in that state.

        ale-py 0.12.1 does not save whether a frame is half drawn (mended after it in pull request 732), which Q*bert
        depends on. A game that runs some frames after a reset has that flag one way or the other.
        """
        wanted = self._two_frames_on()
        for settling_frames in range(MAX_SETTLING_FRAMES):
            self._restore(ale, settling_frames=settling_frames)
            is_same = self._two_frames_on() == wanted
            self._restore(ale, settling_frames=settling_frames)
            if is_same:
                return settling_frames
        warnings.warn(f"{self._protocol.game}: this state may not be restored to the last pixel", stacklevel=2)
        return MAX_SETTLING_FRAMES - 1

    def _two_frames_on(self) -> bytes:
        """Everything that can be seen of the emulator two frames later."""
        self._ale.act(Action.NOOP)
        self._ale.act(Action.NOOP)
        return self._ale.cloneState().serialize() + self._ale.getScreen().tobytes()

    def _restore(self, ale: bytes, *, settling_frames: int) -> None:
        self._ale.reset_game()
        for _ in range(settling_frames):
            self._ale.act(Action.NOOP)
        self._ale.restoreState(ALEState(ale))

    @override
    def render(self) -> np.ndarray:
        return self._ale.getScreenRGB()

    @override
    def close(self) -> None:
        del self._ale
