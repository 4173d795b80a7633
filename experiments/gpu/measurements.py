"""What is measured on a GPU, in order of worth, with the time that each may take: data, and how a figure is read."""

from __future__ import annotations

from typing import Any, NamedTuple

JSON = "{json}"  # stands for the file into which a measurement writes its figures


class Figure(NamedTuple):
    """A number among the figures of a measurement, with its target.

    Attributes:
        label: in words.
        path: where it stands in the JSON, `update.median_ms`.
        unit: behind the number; `%` multiplies by a hundred.
        at_most: target, in the unit.
        at_least: target, in the unit.
    """

    label: str
    path: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    def read(self, figures: dict[str, Any]) -> float:
        """The number in its unit.

        Raises:
            KeyError: it is not there.
        """
        value: Any = figures
        for key in self.path.split("."):
            value = value[key]
        return value * 100 if self.unit == "%" else value

    @property
    def target(self) -> str:
        """In words, empty without one."""
        if self.at_most is not None:
            return f"at most {self.at_most:g} {self.unit}"
        return f"at least {self.at_least:g} {self.unit}" if self.at_least is not None else ""

    def met(self, value: float) -> bool | None:
        """Whether a value meets the target; None without one."""
        if self.at_most is not None:
            return value <= self.at_most
        return value >= self.at_least if self.at_least is not None else None


class Measurement(NamedTuple):
    """One process.

    Attributes:
        name: by which its result is kept.
        command: of the interpreter, `{json}` for its result.
        figures: what the summary shows of it.
        limit: seconds after which it is ended.
        least: seconds below which it is not begun, as it would not come to an end.
        small: options behind the command for a rehearsal.
        xla_flags: added to `XLA_FLAGS`.
    """

    name: str
    command: tuple[str, ...]
    figures: tuple[Figure, ...]
    limit: float
    least: float
    small: tuple[str, ...] = ()
    xla_flags: str = ""


def _update(
    name: str,
    workload: str,
    *options: str,
    at_most: float | None = None,
    peak: float | None = None,
    limit: float = 90,
    least: float = 30,
    xla_flags: str = "",
) -> Measurement:
    """The update alone: 200 of them, or five seconds."""
    figures = (
        Figure("update", "update.median_ms", "ms", at_most=at_most),
        Figure("of the measured matrix peak", "share_of_matrix_peak", "%", at_least=peak),
        Figure("compilation", "update.compile_seconds", "s"),
        Figure("peak device memory", "memory.peak_device_gb", "GB"),
    )
    command = ("-m", "experiments.benchmark", workload, "--json", JSON, "--parts", "none", "--updates", "200")
    small = ("--miniature", "--updates", "6", "--seconds", "1")
    return Measurement(name, (*command, "--seconds", "5", *options), figures, limit, least, small, xla_flags)


def _part(name: str, workload: str, part: str, *options: str, figures: tuple[Figure, ...], limit: float) -> Measurement:
    """A part of the benchmark beside a short update."""
    command = ("-m", "experiments.benchmark", workload, "--json", JSON, "--parts", part, "--updates", "20")
    small = ("--miniature", "--updates", "6", "--seconds", "1", "--policy-steps", "40", "--long-run", "20")
    small = small if part == "long-run" else small[:-2]
    return Measurement(name, (*command, *options), figures, limit, 30, small)


WHILE = "--xla_gpu_enable_command_buffer=+WHILE"  # loops, too, become CUDA graphs
UNROLL_LOOPS = "--xla_gpu_command_buffer_unroll_loops=true"
SMALL_GRAPHS = "--xla_gpu_graph_min_graph_size=1"
AS_UPSTREAM = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=1"

POLICY = tuple(
    Figure(f"{label}, {envs} envs", f"policy.{envs}.{key}", "ms", at_most=at_most)
    for envs in (1, 16)
    for label, key, at_most in (("policy step", "p50_ms", 1.0), ("overhead of a call", "overhead_p50_ms", 0.3))
)
GAME = (
    Figure("whole game, extrapolated", "extrapolated_seconds", "s", at_most=300),
    Figure("agent steps a second, measured", "agent_steps_per_second", "/s"),
    Figure("until the first update, measured", "start_seconds", "s"),
)
REPLAY = (
    Figure("update longer through replay", "replay.exposed_share", "%", at_most=2),
    Figure("learner's thread on its batch", "replay.wait_share", "%"),
)
LONG_RUN = (
    Figure("step time against update 100", "long_run.growth", "%", at_most=5),
    Figure("updates made", "long_run.last_update", ""),
    Figure("device memory at update 100", "long_run.early_device_gb", "GB"),
    Figure("device memory at the end", "long_run.last_device_gb", "GB"),
)

MEASUREMENTS = (
    _update("update-proprio-1m", "proprio-1m", at_most=6),
    _update("update-atari100k-12m", "atari100k-12m", at_most=12, limit=120),
    _update("update-atari100k-200m", "atari100k-200m", at_most=90, peak=35, limit=150, least=45),
    Measurement(
        "game-atari100k-12m",
        ("-m", "experiments.gpu.game", "--json", JSON, "--seconds", "50"),
        GAME,
        limit=170,
        least=90,
        small=("--miniature", "--seconds", "5"),
    ),
    _part("policy-proprio-1m", "proprio-1m", "policy", "--policy-steps", "2000", figures=POLICY, limit=60),
    _update("while-proprio-1m", "proprio-1m", at_most=6, xla_flags=WHILE),
    _update("while-atari100k-12m", "atari100k-12m", at_most=12, limit=120, xla_flags=WHILE),
    _update("unroll-4-proprio-1m", "proprio-1m", "--unroll", "4", at_most=6),
    _part("replay-atari100k-12m", "atari100k-12m", "replay", "--seconds", "5", figures=REPLAY, limit=90),
    _update("while-unrolled-proprio-1m", "proprio-1m", at_most=6, xla_flags=f"{WHILE} {UNROLL_LOOPS}"),
    _update("unroll-16-proprio-1m", "proprio-1m", "--unroll", "16", at_most=6, limit=120),
    _update("while-atari100k-200m", "atari100k-200m", at_most=90, peak=35, limit=150, least=45, xla_flags=WHILE),
    _update("small-graphs-proprio-1m", "proprio-1m", at_most=6, xla_flags=SMALL_GRAPHS),
    _part(
        "long-run-proprio-1m",
        "proprio-1m",
        "long-run",
        *("--long-run", "10000", "--long-run-seconds", "70"),
        figures=LONG_RUN,
        limit=130,
    ),
    _update("upstream-flags-atari100k-12m", "atari100k-12m", limit=120, xla_flags=AS_UPSTREAM),
    _update("update-proprio-12m", "proprio-12m"),
    _update("update-atari-12m", "atari-12m", limit=120),
)
WORKLOADS = (  # of these the plain update of every workload of the benchmark
    "update-proprio-1m",
    "update-proprio-12m",
    "update-atari100k-12m",
    "update-atari-12m",
    "update-atari100k-200m",
)
