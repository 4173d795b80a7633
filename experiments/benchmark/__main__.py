"""`python -m experiments.benchmark`: every workload against the floor of this machine, as a table and as JSON.

Each workload runs in a process of its own, so that peak memory and compilation are its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dreamer.huge_pages import restart_with_huge_pages
from experiments.benchmark.workloads import WORKLOADS

BATCHES = {"batch 4": (4, 64), "batch 16": (16, 64), "length 16": (16, 16), "length 128": (16, 128)}


def main() -> int:
    """Runs the workloads that the command line names."""
    arguments = parse()
    if arguments.inside:
        result = measure(arguments.workloads[0], arguments)
        arguments.inside.write_text(json.dumps(result, indent=1))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.workloads:
        path = arguments.out / f"{name}.json"
        if subprocess.run([sys.executable, "-m", __package__ or "", *forwarded(arguments, name, path)]).returncode:
            failed.append(name)
            continue
        print(describe(name, json.loads(path.read_text())), flush=True)
    if failed:
        print(f"error: no result for {', '.join(failed)}; the messages above say why", file=sys.stderr)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"any of {', '.join(WORKLOADS)}")
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder of the JSON files")
    parser.add_argument("--updates", type=int, default=30, help="timed updates of a workload at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for them, after which five are enough")
    parser.add_argument("--loop", type=int, default=8, help="updates of the end-to-end loop; 0 leaves it out")
    parser.add_argument("--scaling", action="store_true", help="also batches and lengths beside 16 x 64")
    parser.add_argument("--profile", type=Path, help="folder for a profiler trace of three updates")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return arguments


def forwarded(arguments: argparse.Namespace, name: str, path: Path) -> list[str]:
    """The command line of the process that measures one workload."""
    options = [name, "--inside", str(path), "--updates", str(arguments.updates), "--seconds", str(arguments.seconds)]
    options += ["--loop", str(arguments.loop)] + ["--scaling"] * arguments.scaling
    return options + (["--profile", str(arguments.profile / name)] if arguments.profile else [])


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one workload."""
    import jax

    from dreamer.training.state import compute_dtype
    from experiments.benchmark.counting import update_cost
    from experiments.benchmark.machine import matrix_rate, memory_rate
    from experiments.benchmark.measure import measure_loop, measure_policy, measure_update, peak_memory

    workload = WORKLOADS[name]
    definition = workload.define()
    rates = {
        "operations_per_second": matrix_rate(compute_dtype(definition.config)),
        "bytes_per_second": memory_rate(),
    }
    cost = update_cost(definition)
    update = measure_update(definition, repeats=arguments.updates, seconds=arguments.seconds)
    floor = cost.floor_seconds(**rates)
    result: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "precision": compute_dtype(definition.config).name,
        "parameters": definition.parameter_counts()["total"],
        "machine": rates,
        "update": update,
        "cost": cost._asdict(),
        "floor_ms": 1000 * floor,
        "share_of_floor": 1000 * floor / update["median_ms"],
        "policy_1": measure_policy(definition, num_envs=1, repeats=300),
        "policy_16": measure_policy(definition, num_envs=16, repeats=300),
    }
    if arguments.loop:
        result["loop"] = measure_loop(definition, updates=arguments.loop)
    if arguments.scaling:
        result["scaling"] = {}
        for label, (batch, length) in BATCHES.items():
            scaled = workload.define({"replay": {"batch_size": batch, "batch_length": length}})
            times = measure_update(scaled, repeats=arguments.updates, seconds=arguments.seconds)
            result["scaling"][label] = 1e6 / times["replayed_steps_per_second"]
    if arguments.profile:
        with jax.profiler.trace(str(arguments.profile)):
            measure_update(definition, repeats=3, seconds=0.0)
    return result | {"memory": peak_memory()}


def describe(name: str, result: dict[str, Any]) -> str:
    """The figures of a workload in a few lines."""
    update = result["update"]
    giga = {key: value / 1e9 for key, value in (result["cost"] | result["machine"]).items()}
    lines = [
        f"{name}: {update['median_ms']:,.1f} ms an update ({update['min_ms']:,.1f} to {update['max_ms']:,.1f}), "
        f"{update['replayed_steps_per_second']:,.0f} replayed steps/s, compiled in {update['compile_seconds']:.0f} s",
        f"  floor {result['floor_ms']:,.1f} ms, reached {result['share_of_floor']:.0%} "
        f"({giga['operations']:,.1f} GFLOP at {giga['operations_per_second']:,.0f} GFLOP/s, "
        f"{giga['bytes']:,.2f} GB at {giga['bytes_per_second']:,.0f} GB/s, {result['precision']})",
    ]
    for envs in (1, 16):
        policy = result[f"policy_{envs}"]
        lines.append(
            f"  policy, {envs} envs: p50 {policy['p50_ms']:.2f} ms, p95 {policy['p95_ms']:.2f}, "
            f"p99 {policy['p99_ms']:.2f}, dispatch {policy['dispatch_p50_ms']:.2f}"
        )
    if "loop" in result:
        loop = result["loop"]
        shares = ", ".join(f"{part[6:]} {value:.1%}" for part, value in loop.items() if part.startswith("share_"))
        lines.append(f"  end to end: {loop['agent_steps_per_second']:,.1f} agent steps/s; {shares}")
    for label, microseconds in result.get("scaling", {}).items():
        lines.append(f"  {label}: {microseconds:,.0f} us a replayed step")
    memory = result["memory"]
    lines.append(f"  peak memory: {memory['peak_host_gb']:.1f} GB host, {memory['peak_device_gb']:.1f} GB device")
    return "\n".join(lines)


if __name__ == "__main__":
    restart_with_huge_pages()  # as `dreamer.train` does
    sys.exit(main())
