"""The figures as text: a paragraph for each workload, and a table over all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


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
        *_acting(result),
        *_replay(result),
        *_scaling(result),
        *_long_run(result),
    ]
    memory = result["memory"]
    lines.append(f"  peak memory: {memory['peak_host_gb']:.1f} GB host, {memory['peak_device_gb']:.1f} GB device")
    return "\n".join(lines)


def _acting(result: dict[str, Any]) -> Iterator[str]:
    for envs, policy in result.get("policy", {}).items():
        yield (
            f"  policy, {envs} envs: p50 {policy['p50_ms']:.2f} ms, p95 {policy['p95_ms']:.2f}, "
            f"p99 {policy['p99_ms']:.2f}; overhead of the call {policy['overhead_p50_ms']:.2f}"
        )
    if loop := result.get("loop"):
        shares = ", ".join(f"{part[6:]} {value:.1%}" for part, value in loop.items() if part.startswith("share_"))
        yield f"  end to end: {loop['agent_steps_per_second']:,.1f} agent steps/s; {shares}"


def _replay(result: dict[str, Any]) -> Iterator[str]:
    if replay := result.get("replay"):
        for kind in ("stored", "replayed"):
            stored, least = replay[f"{kind}_bytes"], replay[f"{kind}_information"]
            yield f"  {kind} step: {stored:,.0f} bytes, {stored / least - 1:+.1%} against its information"
        yield (
            f"  replay makes an update {replay['exposed_share']:+.1%} longer; the learner's thread spends "
            f"{replay['wait_share']:.1%} of a step on its batch, {replay['write_back_share']:.1%} on latents"
        )


def _scaling(result: dict[str, Any]) -> Iterator[str]:
    scaling = result.get("scaling", {})
    for label, microseconds in scaling.get("batches", {}).items():
        yield f"  {label}: {microseconds:,.1f} us a replayed step"
    for envs, costs in scaling.get("environments", {}).items():
        yield (
            f"  {envs} envs: {costs['acting_us']:,.0f} us an agent step without updates, "
            f"{costs['sampling_us']:,.2f} us to sample a replayed step"
        )


def _long_run(result: dict[str, Any]) -> Iterator[str]:
    if run := result.get("long_run"):
        yield (
            f"  update {run['early_update']:,}: {run['early_ms']:,.1f} ms, update {run['last_update']:,}: "
            f"{run['last_ms']:,.1f} ms ({run['growth']:+.1%}); host {run['early_host_gb']:.2f} -> "
            f"{run['last_host_gb']:.2f} GB, device {run['early_device_gb']:.2f} -> {run['last_device_gb']:.2f} GB"
        )


def table_of_sizes(results: dict[str, dict[str, Any]]) -> str:
    """Over models, smallest first: how much of what the machine can do does an update reach?"""
    lines = [
        f"{'workload':<16}{'parameters':>13}{'update ms':>12}{'floor ms':>11}{'of floor':>10}{'of matrix peak':>16}"
    ]
    for name, result in sorted(results.items(), key=lambda item: item[1]["parameters"]):
        lines.append(
            f"{name:<16}{result['parameters']:>13,}{result['update']['median_ms']:>12,.1f}{result['floor_ms']:>11,.1f}"
            f"{result['share_of_floor']:>10.0%}{result['share_of_matrix_peak']:>16.0%}"
        )
    return "\n".join(lines)
