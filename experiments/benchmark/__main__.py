"""`python -m experiments.benchmark`: every workload against the floor of this machine, as a table and as JSON.

Each workload runs in a process of its own, so that peak memory and compilation are its own. experiments/README.md
explains every figure.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer.cores import COUNT
from dreamer.huge_pages import restart_with_huge_pages
from envs.cores import usable_cores
from experiments.benchmark.report import describe, table_of_sizes
from experiments.benchmark.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from dreamer.training.state import Definition

PARTS = ("policy", "loop", "replay", "scaling", "long-run")
USUAL = "policy,loop,replay"
BATCHES = {"batch 4": (4, 64), "batch 16": (16, 64), "length 16": (16, 16), "length 128": (16, 128)}
ENVIRONMENTS = (1, 4, 16)


def main() -> int:
    """Runs the workloads that the command line names."""
    arguments = parse()
    if arguments.json:
        arguments.json.write_text(json.dumps(measure(arguments.workloads[0], arguments), indent=1))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    results, failed = {}, []
    for name in arguments.workloads:
        path = arguments.out / f"{name}.json"
        if subprocess.run([sys.executable, "-m", __package__ or "", *forwarded(arguments, name, path)]).returncode:
            failed.append(name)
            continue
        results[name] = json.loads(path.read_text())
        print(describe(name, results[name]), flush=True)
    if len(results) > 1:
        print(f"\n{table_of_sizes(results)}", flush=True)
    if failed:
        print(f"error: no result for {', '.join(failed)}; the messages above say why", file=sys.stderr)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    add = parser.add_argument
    add("workloads", nargs="*", default=list(WORKLOADS), help=f"any of {', '.join(WORKLOADS)}")
    add("--out", type=Path, default=Path("benchmark"), help="folder of the JSON files")
    add("--parts", default=USUAL, help=f"beside the update, any of {', '.join(PARTS)} with commas; or none")
    add("--updates", type=int, default=30, help="timed updates of a workload at most")
    add("--seconds", type=float, default=60.0, help="time for them, after which five are enough; and for replay")
    add("--policy-steps", type=int, default=300, help="timed policy steps")
    add("--loop", type=int, default=8, help="updates of the end-to-end loop")
    add("--scaling", action="store_true", help="as --parts ...,scaling: batches, lengths and numbers of environments")
    add("--long-run", type=int, metavar="N", help="also update N against update 100")
    add("--long-run-seconds", type=float, default=math.inf, help="ends the long run before update N")
    add("--unroll", type=int, default=1, help="steps of a scan in one turn of its loop")
    add("--cpu-devices", type=int, default=usable_cores(), help="of JAX on a CPU; by default as in a run, all cores")
    add("--miniature", action="store_true", help="the networks of the preset debug, to try the benchmark itself")
    add("--profile", type=Path, help="folder for a profiler trace of three updates")
    add("--json", type=Path, help="one workload, in this process, its figures into this file and not printed")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if arguments.json and len(arguments.workloads) != 1:
        parser.error("--json takes one workload")
    arguments.parts = [part for part in arguments.parts.split(",") if part not in ("", "none")]
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}, and none")
    arguments.parts += ["scaling"] * arguments.scaling + ["long-run"] * (arguments.long_run is not None)
    if arguments.long_run is None:
        arguments.long_run = 1000
    if arguments.long_run < 4:
        parser.error("--long-run needs 4 updates or more")
    return arguments


def forwarded(arguments: argparse.Namespace, name: str, path: Path) -> list[str]:
    """The command line of the process that measures one workload."""
    options = [name, "--json", str(path), "--parts", ",".join(arguments.parts) or "none"]
    for option in ("cpu_devices", "updates", "seconds", "policy_steps", "loop", "long_run_seconds", "unroll"):
        options += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    options += ["--long-run", str(arguments.long_run)] if "long-run" in arguments.parts else []
    options += ["--miniature"] * arguments.miniature
    return options + (["--profile", str(arguments.profile / name)] if arguments.profile else [])


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one workload that are asked for."""
    import jax

    from experiments.benchmark.measure import measure_update, peak_memory, unrolled

    jax.config.update(COUNT, arguments.cpu_devices)
    workload = WORKLOADS[name]
    definition = workload.define(miniature=arguments.miniature)
    with unrolled(arguments.unroll):
        update = measure_update(definition, repeats=arguments.updates, seconds=arguments.seconds)
        result = {"update": update, **against_floor(definition, update)}
        result |= {part.replace("-", "_"): measure_part(part, workload, arguments) for part in arguments.parts}
        if arguments.profile:
            with jax.profiler.trace(str(arguments.profile)):
                measure_update(definition, repeats=3, seconds=0.0)
    return result | {"memory": peak_memory()}


def against_floor(definition: Definition, update: dict[str, float]) -> dict[str, Any]:
    """The machine, what an update needs, and how near the two come."""
    import jax

    from dreamer.training.state import compute_dtype
    from experiments.benchmark.counting import update_cost
    from experiments.benchmark.machine import matrix_rate, memory_rate
    from experiments.benchmark.workloads import placement

    rates = {
        "operations_per_second": matrix_rate(compute_dtype(definition.config)),
        "bytes_per_second": memory_rate(),
    }
    cost = update_cost(definition)
    floor, seconds = cost.floor_seconds(**rates), update["median_ms"] / 1000
    return {
        "device": jax.devices()[0].device_kind,
        "devices": placement(definition).batch.num_devices,
        "jax": jax.__version__,
        "precision": compute_dtype(definition.config).name,
        "parameters": definition.parameter_counts()["total"],
        "machine": rates,
        "cost": cost._asdict(),
        "floor_ms": 1000 * floor,
        "share_of_floor": floor / seconds,
        "share_of_matrix_peak": cost.operations / seconds / rates["operations_per_second"],
    }


def measure_part(part: str, workload: Workload, arguments: argparse.Namespace) -> dict[Any, Any]:
    """One of `PARTS`."""
    from experiments.benchmark.long_run import measure_long_run
    from experiments.benchmark.loop import measure_loop
    from experiments.benchmark.measure import measure_policy
    from experiments.benchmark.replay import measure_replay

    definition = workload.define(miniature=arguments.miniature)
    if part == "policy":
        return {envs: measure_policy(definition, num_envs=envs, repeats=arguments.policy_steps) for envs in (1, 16)}
    if part == "loop":
        return measure_loop(definition, updates=arguments.loop)
    if part == "replay":
        return measure_replay(definition, seconds=arguments.seconds)
    if part == "long-run":
        return measure_long_run(definition, updates=arguments.long_run, seconds=arguments.long_run_seconds)
    return measure_scaling(workload, arguments)


def measure_scaling(workload: Workload, arguments: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of a replayed step over batches and lengths, and of an agent step over numbers of environments."""
    from experiments.benchmark.loop import measure_acting
    from experiments.benchmark.measure import measure_update
    from experiments.benchmark.replay import measure_sampling

    batches, environments = {}, {}
    for label, (size, length) in BATCHES.items():
        overrides = {"replay.batch_size": size, "replay.batch_length": length}
        times = measure_update(
            workload.define(overrides, miniature=arguments.miniature),
            repeats=arguments.updates,
            seconds=arguments.seconds,
        )
        batches[label] = 1e6 / times["replayed_steps_per_second"]
    for count in ENVIRONMENTS:
        definition = workload.define({"environment.num_envs": count}, miniature=arguments.miniature)
        environments[count] = {
            "acting_us": measure_acting(definition, steps=arguments.policy_steps),
            "sampling_us": measure_sampling(definition, num_envs=count, repeats=30),
        }
    return {"batches": batches, "environments": environments}


if __name__ == "__main__":
    restart_with_huge_pages()  # as `dreamer.train` does
    sys.exit(main())
