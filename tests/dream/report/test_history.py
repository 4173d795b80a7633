"""The curves of a run's scheduled reports: from the rows that it has written to the page and the JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamer.dream.report.card import write
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, TRUTH, Estimate, Quantity
from dreamer.dream.report.history import HOW, History, read_history
from dreamer.dream.report.registry import METRICS

ABOUT = {"env": "x", "run": "x", "agent_steps": 1, "num_starts": 9, "seed": 0, "device": "cpu", "protocol": "1"}


def quantity(title: str, model: float, *, ideal: float | None = None) -> dict:
    values = {MODEL: Estimate(model, model - 1, model + 1, 8)._asdict(), TRUTH: None}
    return {"title": title, "unit": "share", "at": "", "higher_is_better": True, "ideal": ideal, "values": values}


def row(agent_steps: int, updates: int, **quantities: dict) -> str:
    named = {name.replace("__", "/"): one for name, one in quantities.items()}
    return json.dumps({"agent_steps": agent_steps, "env_frames": 0, "updates": updates, "quantities": named})


@pytest.fixture
def history(tmp_path: Path) -> History:
    path = tmp_path / "history.jsonl"
    gap = quantity("Gap", -2.5, ideal=0.0)
    rows = [
        row(400, 10, causal__cda=quantity("CDA", 0.5)),
        row(800, 20, causal__cda=quantity("CDA", 0.75), useful__optimism_gap=gap),
        '{"agent_steps": 900, "quantities": [1]}',
        '{"agent_steps": 1200, "upd',
    ]
    path.write_text("\n".join(rows))
    return read_history(path)


def test_rows_become_curves_with_the_optimism_gap_first(history: History):
    assert list(history.curves) == ["useful/optimism_gap", "causal/cda"]
    gap, cda = history.curves.values()
    assert (cda.axis, cda.x) == ("agent steps", (400, 800))
    assert [one and one.mean for one in cda.values[MODEL]] == [0.5, 0.75]
    assert gap.values[MODEL] == [None, Estimate(-2.5, -3.5, -1.5, 8)]
    assert gap.ideal == 0.0


def test_the_page_and_the_json_hold_the_curves(history: History, tmp_path: Path):
    as_json, page = write(tmp_path / "report", ABOUT, [], history)
    found = json.loads(as_json.read_text())["through_training"]["quantities"]["useful/optimism_gap"]
    assert (found["x"], found["values"][MODEL][1]["mean"]) == ([400, 800], -2.5)
    text = page.read_text()
    assert "Gap" in text.partition("through training")[2]
    assert "share, 0 is best" in text
    assert "-2.5 [-3.5, -1.5] N=8" in text
    assert HOW not in text


def test_without_rows_it_is_said_how_to_get_them(tmp_path: Path):
    none = read_history(tmp_path / "history.jsonl")
    as_json, page = write(tmp_path, ABOUT, [(METRICS[0], [Quantity("a", "A", "b", {MODEL: [None]})])], none)
    assert json.loads(as_json.read_text())["through_training"]["note"] == HOW
    assert HOW in page.read_text()


def test_a_run_from_a_dataset_counts_updates(tmp_path: Path):
    path = tmp_path / "history.jsonl"
    path.write_text(row(0, 10, causal__cda=quantity("CDA", 0.5)) + "\n")
    assert (read_history(path).curves["causal/cda"].axis, read_history(path).curves["causal/cda"].x) == (
        "updates",
        (10,),
    )


def test_the_best_control_of_a_gap_is_the_one_nearest_to_its_ideal(tmp_path: Path):
    def exactly(mean: float) -> list[Estimate | None]:
        return [Estimate(mean, mean, mean, 8)]

    gap = Quantity("gap", "Gap", "share", {MODEL: exactly(0.1), BLIND: exactly(0.5), FROZEN: exactly(-7.0)}, ideal=0.0)
    _, page = write(tmp_path, ABOUT, [(METRICS[0], [gap])], History({}))
    assert "<td class='number'>0.5</td>" in page.read_text()
