"""The command and its page: two files that agree, the same numbers for the same seed, one sentence for bad input."""

from __future__ import annotations

import importlib.util
import json
import threading
from html.parser import HTMLParser
from pathlib import Path

import gymnasium
import pytest

from dreamer import report
from dreamer.agent import load
from dreamer.dream.report import realtime
from dreamer.dream.report.bench import NEEDS_FORKS, NotPlayedError
from dreamer.dream.report.card import chosen
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, SHUFFLED, TRUTH, Estimate, Quantity
from dreamer.dream.report.history import History
from dreamer.dream.report.page import in_a_sentence, render
from dreamer.dream.report.registry import METRICS
from dreamer.dream.report.svg import number
from tests.dream.agents import untrained
from tests.dream.report.benches import make_cartpole

VOID = {"meta", "br", "line", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Asserts that every element is closed, and keeps what can be read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert not {"src", "href"} & {name for name, _ in attrs}  # nothing comes from elsewhere
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained("CartPole-v1").save(tmp_path_factory.mktemp("agents") / "stranger")


@pytest.fixture(scope="module")
def written(run: Path) -> Path:
    assert report.main([str(run), "--only", "causal,persistent", "--starts", "8"]) == 0
    return run / "report"


def test_both_files_hold_every_number(written: Path):
    found = json.loads((written / "report.json").read_text())
    cda = found["properties"]["causal"]["quantities"]["cda"]
    assert cda["values"].keys() == {MODEL, BLIND, FROZEN, SHUFFLED, TRUTH}
    assert cda["values"][BLIND][0]["mean"] == 0.5
    assert cda["values"][TRUTH][0].keys() == {"mean", "low", "high", "num"}
    assert (found["run"], found["env"], found["seed"], found["num_starts"]) == ("stranger", "CartPole-v1", 0, 8)
    assert found["properties"]["persistent"]["quantities"] == {}
    text = (written / "report.html").read_text()
    page = Page(text)
    assert "Is it a world model? CartPole-v1" in page.words
    assert "train on --env dreamer/Needle-v0" in page.words
    assert cda["title"] in page.words
    for one in cda["values"][MODEL]:
        assert one is None or number(one["mean"]) in page.words
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text


class Unforkable(gymnasium.Wrapper):
    """CartPole that holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.lock = threading.Lock()


def test_of_an_environment_without_forks_the_report_says_what_needs_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(realtime, "LATE", 100)
    arguments = [str(run), "--env", f"{__name__}:Unforkable", "--only", "causal,realtime,useful", "--starts", "8"]
    assert report.main([*arguments, "--out", str(tmp_path)]) == 0
    said, told = capsys.readouterr()
    assert told.count("no latency in the browser: ") == 1  # the player forks, and there may be no Chromium
    found = json.loads((tmp_path / "report.json").read_text())["properties"]
    for name in ("causal", "useful"):
        assert found[name]["quantities"] == {}
        assert found[name]["needs"] == NEEDS_FORKS
        assert f"{name}: {NEEDS_FORKS}" in said
    quantities = found["realtime"]["quantities"]
    assert quantities["latency"]["values"].keys() == {MODEL, TRUTH}
    assert quantities["browser_latency"]["note"].startswith("Not measured: ")
    assert quantities["browser_latency"]["values"] == {MODEL: [None] * 3}
    assert NEEDS_FORKS in Page((tmp_path / "report.html").read_text()).words


def test_without_a_browser_one_line_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPlayedError, match="apt-get install chromium"):
        report.in_browser(load(run), make_cartpole, seed=0, say=print)
    assert capsys.readouterr().out.startswith("no latency in the browser: no Chromium is installed here")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotPlayedError, match=r"pip install 'dreamer-jax\[play\]'"):
        report.in_browser(load(run), make_cartpole, seed=0, say=print)


def test_the_same_seed_gives_the_same_numbers(run: Path, written: Path, tmp_path: Path):
    arguments = [str(run), "--only", "causal", "--starts", "8", "--out", str(tmp_path)]
    assert report.main(arguments) == 0
    one, two = (json.loads((folder / "report.json").read_text()) for folder in (written, tmp_path))
    assert one["properties"]["causal"] == two["properties"]["causal"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "casual"], "no property is called 'casual'; there are causal, "),
        (["--starts", "3"], "3 starts give no interval; take at least 8"),
        (["--env", "Acrobot-v1"], "the agent's observation space is"),
        (["--env", "CartPole-v7"], "CartPole-v7"),
    ],
)
def test_bad_input_is_one_sentence(run: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    assert report.main([str(run), *arguments]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_missing_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert report.main([str(tmp_path)]) == 1
    assert "holds neither a run nor a saved agent" in capsys.readouterr().err


def test_an_interrupted_report_leaves_the_last_one(
    run: Path, written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(arguments: object) -> None:
        raise KeyboardInterrupt

    before = (written / "report.json").read_text()
    monkeypatch.setattr(report, "run", interrupt)
    assert report.main([str(run)]) == 130
    assert "no report was written" in capsys.readouterr().err
    assert (written / "report.json").read_text() == before


def quantity(title: str, model: float, *, level: float | None) -> Quantity:
    def around(mean: float) -> list[Estimate | None]:
        return [Estimate(mean, mean - 0.01, mean + 0.01, 9)]

    values = {MODEL: around(model), BLIND: around(0.5), TRUTH: around(1.0)}
    return Quantity(title, f"<{title}>", "share", values, level=level)


def test_the_sentence_names_the_weakest_first():
    measured = [(METRICS[0], [quantity("good", 0.95, level=0.9), quantity("bad", 0.8, level=0.9)])]
    said = in_a_sentence(measured)
    assert said.index("Below the level asked for: <bad>") < said.index("Passed: <good>")
    about = {"env": "<b>", "run": "x", "agent_steps": 1, "num_starts": 9, "seed": 0, "device": "cpu", "protocol": "1"}
    assert "<bad>" in Page(render(about, measured, History({}))).words  # escaped in the page


def test_every_property_can_be_asked_for():
    assert [metric.name for metric in chosen([])] == [metric.name for metric in METRICS]
    assert [metric.name for metric in chosen(["realtime", "causal"])] == ["causal", "realtime"]
