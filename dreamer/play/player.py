"""A session with a clock: it is told what the page wants, and says what the page is to show. No sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.dream.simulation import SimulationError
from dreamer.play.keymap import Input
from dreamer.play.pace import Pace
from dreamer.play.painter import Painter, caption
from dreamer.play.protocol import RATES, TEMPERATURES, Command, frame_message
from dreamer.play.recording import ReplayRecording
from dreamer.play.session import HISTORY, REALITY, YOU, Lived, Session, SessionError
from dreamer.training.video import write_gif
from envs.environment import EnvironmentFault

GIF_SECONDS, GIF_RATE, GIF_SIDE = 10.0, 25.0, 256  # of a snapshot: at most so long, so many frames a second, so wide
MOST_NUMBERS = 24  # of an observation that are plotted
PAUSE_AT_END = 1.0  # seconds


class Player:
    """One page's view of a session, and the session's time.

    Args:
        session: what is played.
        painter: how it looks.
        rate: steps per second.
        folder: of recordings and snapshots, made when the first is.
        make_recording: opens one in a folder that does not exist yet.
        about: what the page says of the run.

    Attributes:
        session: what is played.
        paused: whether time stands still.
        files: what was written for a person, by name.
        pause_at_end: seconds for which the end of an episode is shown.
    """

    def __init__(
        self,
        session: Session,
        painter: Painter,
        *,
        rate: float,
        folder: Path,
        make_recording: Callable[[Path], ReplayRecording],
        about: dict[str, Any],
    ) -> None:
        self.session, self._painter, self._folder = session, painter, folder
        self._make_recording, self._about = make_recording, about
        self.paused = True
        self.files: dict[str, Path] = {}
        self.pause_at_end = PAUSE_AT_END
        self._pace = Pace(rate, now=time.monotonic())
        self._given, self._input_number = Input(), 0
        self._frame_number = 0

    def hello(self) -> dict[str, Any]:
        """What a page has to know before the first frame."""
        return self._about | {
            "kind": "hello",
            "worlds": list(self.session.worlds),
            "dials": self.session.keymap.describe(),
            "keys": sorted(self.session.keymap.keys),
            "picture": self._painter.kind,
            "labels": _labels(self.session.now.worlds[REALITY]),
            "rates": RATES,
            "temperatures": TEMPERATURES,
            "history": HISTORY,
        }

    def wait(self, now: float) -> float | None:
        """Seconds until the next step; None while time stands still."""
        return None if self.paused else self._pace.wait(now)

    def leave(self) -> None:
        """The page is gone: time stops and no key is down."""
        self.paused, self._given = True, Input()

    def close(self) -> str | None:
        """Ends what is open, so that nothing is lost; says what was saved."""
        saved = self._end_recording()
        return None if saved is None else saved["text"]

    def step(self, **seen: Any) -> tuple[int, bytes]:
        """One step of all worlds, as a frame."""
        self._pace.take(time.monotonic())
        self.session.step(self._given)
        if self.session.now.worlds[REALITY].is_over:
            self._pace.delay(self.pause_at_end)
        return self.frame(**seen)

    def hurries(self, command: Command, now: float) -> bool:
        """Whether a key asks for a step before its time. Asked before `do`."""
        if command.kind != "input" or self.paused or self.session.wheel != YOU:
            return False
        given = command.arguments["held"], command.arguments["sliders"]
        return given != tuple(self._given) and self._pace.may_hurry(now)

    def do(self, command: Command) -> list[dict[str, Any]]:
        """Carries out what the page wants; returns what it is to be told."""
        try:
            return getattr(self, f"_{command.kind}")(**command.arguments) or []
        except (SessionError, SimulationError, EnvironmentFault, OSError) as error:
            return [{"kind": "error", "text": str(error)}]

    def frame(self, **seen: Any) -> tuple[int, bytes]:
        """All that the page shows of the present, and the number of the frame; `seen` is added to it."""
        session, now = self.session, self.session.now
        self._frame_number += 1
        judgement = now.judgement
        panels = [now.worlds[name] for name in session.shown]
        header = {
            "frame": self._frame_number,
            "input": self._input_number,
            "step": now.number,
            "age": now.age,
            "kept": len(session.history) - 1,
            "paused": self.paused,
            "shown": session.shown,
            "wheel": session.wheel,
            "eyes": session.eyes,
            "temperature": session.temperature,
            "rate": self._pace.rate,
            "recording": session.recording.steps if isinstance(session.recording, ReplayRecording) else None,
            "over": _ending(now.worlds[REALITY]),
            "action": session.keymap.read(now.action),
            "value": _finite(judgement.value) if judgement else None,
            "policy": [[_finite(p) for p in dial] for dial in judgement.policy] if judgement else None,
            "gap": _finite(session.gap),
            "panels": [_panel(lived) for lived in panels],
        }
        return self._frame_number, frame_message(header | seen, [self._painter.frame(lived) for lived in panels])

    def _input(self, held: frozenset[str], sliders: tuple[float, ...], number: int) -> None:
        self._given, self._input_number = Input(held, sliders), number

    def _pause(self, *, on: bool) -> None:
        self.paused = on
        self._pace = Pace(self._pace.rate, now=time.monotonic())

    def _step(self) -> None:
        self.paused = True
        self.session.step(self._given)

    def _rewind(self, steps: int) -> list[dict[str, Any]]:
        self.paused = True
        taken = self.session.rewind(steps)
        return [] if taken else [_notice("this is as far back as it goes")]

    def _anchor(self) -> None:
        self.session.anchor()

    def _episode(self) -> None:
        self.session.begin_episode()

    def _show(self, left: str, right: str) -> None:
        self.session.show(left, right)

    def _drive(self, wheel: str, eyes: str) -> None:
        self.session.drive(wheel, eyes)

    def _temperature(self, value: float) -> None:
        self.session.heat(value)

    def _rate(self, value: float) -> None:
        self._pace = Pace(value, now=time.monotonic())

    def _record(self, *, on: bool) -> list[dict[str, Any]]:
        if not on:
            saved = self._end_recording()
            return [saved] if saved else [_notice("nothing is being recorded")]
        if self.session.recording is not None:
            return [_notice("this is being recorded already")]
        self.session.record(self._make_recording(self._new_path("recording", "")))
        return []

    def _end_recording(self) -> dict[str, Any] | None:
        recording = self.session.recording
        self.session.record(None)
        if not isinstance(recording, ReplayRecording):
            return None
        recording.close()
        return _notice(f"{recording.steps:,} steps of each world are in {recording.folder}")

    def _gif(self) -> list[dict[str, Any]]:
        if self._painter.kind == "none":
            raise SessionError("these worlds are numbers: there is no picture to save")
        rate = self._pace.rate
        stride = max(1, round(rate / GIF_RATE))
        moments = list(self.session.history)[-round(GIF_SECONDS * rate) :: stride]
        shown = self.session.shown
        moments = [moment for moment in moments if set(shown) <= moment.worlds.keys()]
        frames = []
        for moment in moments:
            pictures = {name: self._painter.frame(moment.worlds[name]) for name in dict.fromkeys(shown)}
            frames.append(caption({k: v for k, v in pictures.items() if v is not None}, side=GIF_SIDE))
        path = self._new_path("snapshot", ".gif")
        write_gif(path, np.stack(frames), fps=max(1, round(rate / stride)))
        self.files[path.name] = path
        return [{"kind": "file", "name": path.name, "text": f"{len(frames)} frames are in {path}"}]

    def _new_path(self, kind: str, suffix: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (f"{stem}{f'-{n}' * (n > 0)}{suffix}" for n in range(1000))
        return next(path for name in names if not (path := self._folder / name).exists())


def _notice(text: str) -> dict[str, Any]:
    return {"kind": "notice", "text": text}


def _finite(number: float) -> float | None:
    """JSON has no word for what is not finite."""
    return float(number) if np.isfinite(number) else None


def _ending(real: Lived) -> str | None:
    if not real.is_over:
        return None
    return "time limit" if real.outcome.truncated[0] else "over"


def _panel(lived: Lived) -> dict[str, Any]:
    outcome = lived.outcome
    numbers = [n for array in _numbers(outcome.observation) for n in array]
    entropy = outcome.info.get("prior_entropy")
    return {
        "reward": _finite(outcome.reward[0]),
        "continue": _finite(outcome.continue_prob[0]),
        "score": _finite(lived.score),
        "entropy": None if entropy is None else _finite(entropy[0]),
        "numbers": [_finite(number) for number in numbers[:MOST_NUMBERS]],
    }


def _labels(lived: Lived) -> list[str]:
    labels = []
    for key, array in lived.outcome.observation.items():
        if array.ndim == 2:
            count = array.shape[1]
            labels += [key if count == 1 else f"{key} {index + 1}" for index in range(count)]
    return labels[:MOST_NUMBERS]


def _numbers(observation: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Vectors and discrete values of an observation, without its images."""
    return [array[0] for array in observation.values() if array.ndim == 2]
