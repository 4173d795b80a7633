"""The protocols of Atari games, every value written out.

| | `atari_<game>` (200M frames) | `atari100k_<game>` (400k frames) |
|---|---|---|
| screen | 96 x 96 grey | 64 x 64 RGB |
| sticky actions | 0.25 | 0 |
| actions | all 18 | the game's own |

Both: action repeat 4, pixelwise maximum of the last two frames, 0 to 30 no-op actions after a reset, episodes truncated
after 108,000 frames, terminated by game over only (not by a lost life), rewards as the game gives them, no FIRE after a
reset. Frames are resized by area (OpenCV `INTER_AREA`); dreamerv3 resizes bilinearly (Pillow).
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from ale_py import Action, ALEInterface, LoggerMode, roms

from envs.environment import EnvironmentFault, EnvSettings

MAX_EPISODE_FRAMES = 108_000

# fmt: off
ATARI_26 = (
    "alien", "amidar", "assault", "asterix", "bank_heist", "battle_zone", "boxing", "breakout", "chopper_command",
    "crazy_climber", "demon_attack", "freeway", "frostbite", "gopher", "hero", "jamesbond", "kangaroo", "krull",
    "kung_fu_master", "ms_pacman", "pong", "private_eye", "qbert", "road_runner", "seaquest", "up_n_down",
)
ATARI_57 = (
    *ATARI_26,
    "asteroids", "atlantis", "beam_rider", "berzerk", "bowling", "centipede", "defender", "double_dunk", "enduro",
    "fishing_derby", "gravitar", "ice_hockey", "montezuma_revenge", "name_this_game", "phoenix", "pitfall",
    "riverraid", "robotank", "skiing", "solaris", "space_invaders", "star_gunner", "surround", "tennis",
    "time_pilot", "tutankham", "venture", "video_pinball", "wizard_of_wor", "yars_revenge", "zaxxon",
)
# fmt: on


class AtariProtocol(NamedTuple):
    """Everything that defines a task.

    Attributes:
        game: ROM id of ale-py.
        height: pixels.
        width: pixels.
        grayscale: one channel instead of three.
        sticky: probability, each frame, that the last action is repeated instead.
        full_actions: all 18 actions instead of those the game knows.
        action_repeat: frames per agent step.
        noops: the number of no-op actions after a reset is uniform in 0 .. noops.
        max_pool: show the pixelwise maximum of the last two frames.
        max_episode_frames: frames after which an episode is truncated.
        life_loss: losing a life terminates the episode, and the game starts anew.
    """

    game: str
    height: int
    width: int
    grayscale: bool
    sticky: float
    full_actions: bool
    action_repeat: int = 4
    noops: int = 30
    max_pool: bool = True
    max_episode_frames: int = MAX_EPISODE_FRAMES
    life_loss: bool = False

    @property
    def channels(self) -> int:
        """Channels of the observed image."""
        return 1 if self.grayscale else 3


def atari_protocol(name: str, settings: EnvSettings | Any) -> AtariProtocol:
    """The protocol of a name, with the values that the settings change.

    Raises:
        EnvironmentFault: for a game that ale-py does not have, naming the nearest.
    """
    suite, _, game = name.partition("_")
    games = roms.get_all_rom_ids()
    if game not in games:
        near = difflib.get_close_matches(game, games, n=3, cutoff=0.5) or ATARI_26[:3]
        raise EnvironmentFault(f"no Atari game is called {game!r}; did you mean {', '.join(near)}?")
    if suite == "atari100k":
        protocol = AtariProtocol(game, 64, 64, grayscale=False, sticky=0.0, full_actions=False)
    else:
        protocol = AtariProtocol(game, 96, 96, grayscale=True, sticky=0.25, full_actions=True)
    changes = {
        field: getattr(settings, field)
        for field in ("grayscale", "sticky", "full_actions", "action_repeat", "noops", "life_loss")
        if getattr(settings, field) is not None
    }
    if settings.image_size is not None:
        changes["height"], changes["width"] = settings.image_size
    protocol = protocol._replace(**changes)
    if settings.max_episode_steps is not None:
        protocol = protocol._replace(max_episode_frames=settings.max_episode_steps * protocol.action_repeat)
    return _checked(protocol)


def _checked(protocol: AtariProtocol) -> AtariProtocol:
    if not 0 <= protocol.sticky < 1:
        raise EnvironmentFault(f"--environment.sticky is {protocol.sticky}; it is a probability, 0 to less than 1")
    if protocol.noops < 0:
        raise EnvironmentFault(f"--environment.noops is {protocol.noops}; it cannot be negative")
    height, width = load_game(protocol.game).getScreenDims()
    if protocol.height > height or protocol.width > width:
        raise EnvironmentFault(
            f"--environment.image-size {protocol.height} {protocol.width} is larger than the screen {height} x {width}"
        )
    return protocol


def load_game(game: str) -> ALEInterface:
    """An emulator with a game in it, without sticky actions and without chatter."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)  # ale-py's default is 0.25
    ale.loadROM(str(roms.get_rom_path(game)))
    return ale


def action_set(protocol: AtariProtocol) -> list[Action]:
    """The actions in the order of their indices."""
    ale = load_game(protocol.game)
    return ale.getLegalActionSet() if protocol.full_actions else ale.getMinimalActionSet()


def action_names(protocol: AtariProtocol) -> list[str]:
    """Names of the actions, such as `UPFIRE`."""
    return [action.name for action in action_set(protocol)]


def printed_protocol(protocol: AtariProtocol, name: str) -> dict[str, Any]:
    """The protocol for the start-up plan."""
    fixed = {"reward_clipping": False, "fire_reset": False, "frame_stack": 1, "resize": "area (OpenCV INTER_AREA)"}
    return {"env": name} | protocol._asdict() | fixed
