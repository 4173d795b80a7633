"""`python -m experiments.table`: what it prints and writes, and what it says to bad input."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from pathlib import Path

import pytest

from experiments import table
from experiments.scores import readme
from experiments.scores.run import ScoresError
from tests.experiments.result_files import write_results, write_run

REPOSITORY = Path(__file__).resolve().parents[2]


def test_published_scores_alone(capsys):
    assert table.main(["dreamerv3", "--suite", "atari100k"]) == 0
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.startswith("| dreamerv3 "))
    assert re.sub(r" \[.*?\]", "", re.sub(" +", " ", line)) == "| dreamerv3 | 26 | 122 | 124.7 | 49.4 | 46.3 | 51.3 |"
    assert re.search(r"\| up_n_down +\| +400,000 \| +46,910 \(1\) \|", text)
    widths = {len(line) for line in text.partition("\n\n")[2].partition("\n\n")[0].splitlines()}
    assert len(widths) == 1  # aligned


def test_runs_next_to_references_and_what_is_written(tmp_path: Path, capsys):
    draw = random.Random(0)
    for task, level in (("pong", -10.0), ("breakout", 10.0)):
        seeds = {seed: [(395_000, level + draw.random())] for seed in range(3)}
        write_results(tmp_path / "results" / "atari100k" / f"atari100k_{task}.csv", seeds, size="12m")
    out = tmp_path / "out"
    assert table.main([str(tmp_path / "results"), "--against", "dreamerv3,ppo", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert (out / "table.md").read_text() == text
    assert "## atari100k: ours, ppo against dreamerv3" in text
    assert "ours: no score for 24 of 26 tasks: alien," in text
    document = json.loads((out / "table.json").read_text())
    assert document["aggregated_tasks"] == ["breakout", "pong"]
    for method in ("ours", "dreamerv3", "ppo"):
        for part in document["aggregates"][method].values():
            assert part["low"] <= part["value"] <= part["high"]
    assert document["probability_of_improvement"]["ours"]["value"] == pytest.approx(0.3, abs=0.15)
    with (out / "table.csv").open() as file:
        rows = {(row["task"], row["method"]): row for row in csv.DictReader(file)}
    assert (rows["pong", "ours"]["seeds"], rows["pong", "ours"]["by_protocol"]) == ("3", "True")
    assert rows["pong", "dreamerv3"]["env_frames"] == "400000"
    with (out / "seeds.csv").open() as file:
        assert sum(row["method"] == "ours" for row in csv.DictReader(file)) == 6


def test_an_unfinished_run_is_marked(tmp_path: Path, capsys):
    run = write_run(tmp_path / "run", "atari100k_pong", 0, [(60_000, -21.0), (118_000, -20.0)])
    assert table.main([str(run), "--against", "dreamerv3"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"\| pong \| +110,000 \* \| +-21.0 \(1\) \|", text)
    assert "newest bin of 10,000 env frames" in text


def test_kinds_of_runs_have_names(tmp_path: Path, capsys):
    small = write_run(tmp_path / "a", "atari100k_pong", 0, [(395_000, -20.0)])
    large = write_run(tmp_path / "b", "atari100k_pong", 0, [(395_000, -4.0)])
    assert table.main([f"small={small}", f"large={large}"]) == 0
    heading, _, row = capsys.readouterr().out.splitlines()[2:5]
    assert [cell.strip() for cell in heading.split("|")[1:5]] == ["task", "env frames", "small", "large"]
    assert [cell.strip() for cell in row.split("|")[3:5]] == ["-20.0 (1)", "-4.0 (1)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], r"nowhere does not exist: give a run"),
        (["dreamer3"], r"did you mean the reference dreamerv3\?"),
        (["notes.txt"], r"notes.txt is neither a run nor a result file"),
        (["begun"], r"no score of atari100k yet: ours, pong, seed 0 has finished no episode"),
        (["broken"], r"broken/config.yaml cannot be read"),
        (["letters.csv"], r"letters.csv line 2: score is 'high', not a number"),
        (["done", "--against", "dreamer3"], r"unknown reference 'dreamer3'; did you mean dreamerv3\?"),
        (["done", "--against", "muzero"], r"muzero has no scores for atari100k, only for atari57"),
        (["cartpole", "--against", "dreamerv3"], r"dreamerv3 has no scores for gymnasium"),
        (["done", "cartpole"], r"several: atari100k \(1\), gymnasium \(1\). Choose one with --suite"),
        (["dreamerv3"], r"several: atari100k, atari57, dmc_vision, dmc_proprio. Choose one with --suite"),
        (["done", "--size", "1m"], r"no run has the size '1m'; there are 12m"),
        (["done", "--at", "800k"], r"no score of atari100k at 800,000 env frames yet"),
        (["empty"], r"empty holds no run"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(Path("done"), "atari100k_pong", 0, [(395_000, -20.0)])
    write_run(Path("begun"), "atari100k_pong", 0, [])
    write_run(Path("cartpole"), "CartPole-v1", 0, [(300, 20.0)])
    write_run(Path("broken"), "[", 0, [])
    Path("empty").mkdir()
    Path("notes.txt").write_text("a note\n")
    Path("letters.csv").write_text("seed,agent_steps,env_frames,updates,score,length\n0,1,4,1,high,1\n")
    assert table.main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(message, printed.err)
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_frames_that_are_none_are_a_wrong_command_line(capsys):
    with pytest.raises(SystemExit) as stop:
        table.main(["dreamerv3", "--at", "soon"])
    assert stop.value.code == 2
    assert "expected env frames, such as 100k" in capsys.readouterr().err


def test_the_readme_holds_the_results_as_they_are():
    """If this fails: `python -m experiments.table --readme`."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    inside = text.partition(readme.BEGIN)[2].partition(readme.END)[0]
    assert inside.strip() == readme.table(REPOSITORY / "experiments" / "results")


def test_the_readmes_table_is_renewed_and_nothing_around_it(tmp_path: Path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    results = tmp_path / "experiments" / "results"
    facts = {"device": "NVIDIA H200", "size": "12m", "wall_seconds": "5400", "commit": "abc1234", "config_hash": "77"}
    seeds = {0: [(95_000, -20.0), (118_000, 0.0)], 1: [(98_000, -18.0), (119_000, 0.0)]}
    write_results(results / "atari100k" / "atari100k_pong.csv", seeds, **facts)
    write_results(results / "classic" / "CartPole-v1.csv", {0: [(500, 500.0)]}, size="1m")
    write_results(results / "smoke" / "CartPole-v1.csv", {0: [(500, 9.0)]}, size="1m")
    (results / "classic" / "older.csv").write_text("env,seed,agent_steps,env_frames,updates,score,length\n")
    assert readme.renew(tmp_path) == "README.md has a new table of results"
    text = path.read_text()
    assert text.startswith(f"before\n{readme.BEGIN}\n| task ")
    assert text.endswith(f"\n{readme.END}\nafter\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    *cells, dreamerv3, device, hours, command = rows[2]
    assert cells == ["atari100k_pong", "110,000 *", "0, 1", "-19.0 ± 1.0"]
    assert dreamerv3.endswith("(5)")
    assert (device, hours) == ("NVIDIA H200; 12m; abc1234", "1.5")
    assert command == "`python -m dreamer.train --env atari100k_pong --size 12m --seed 0`"
    assert rows[3][:5] == ["CartPole-v1", "500", "0", "500.0", "-"]
    assert readme.renew(tmp_path) == "README.md is up to date"


def test_a_run_with_settings_of_its_own_is_repeated_by_its_suite(tmp_path: Path):
    """Such a suite lies in `examples`, under the name of the folder of results."""
    shutil.copytree(REPOSITORY / "experiments" / "results" / "dmc_proprio_1m", tmp_path / "results" / "dmc_proprio_1m")
    assert "python -m dreamer.train --env dmc_cartpole_swingup" in readme.table(tmp_path / "results")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "dmc_proprio_1m.yaml").touch()
    command = (
        "python -m experiments.sweep experiments/examples/dmc_proprio_1m.yaml --tasks dmc_cartpole_swingup --seeds 0,1"
    )
    assert f"`{command}`" in readme.table(tmp_path / "results")


def test_a_readme_without_a_place_for_results_is_left_alone(tmp_path: Path):
    (tmp_path / "README.md").write_text("nothing here\n")
    with pytest.raises(ScoresError, match="has no place for the results"):
        readme.renew(tmp_path)
    assert (tmp_path / "README.md").read_text() == "nothing here\n"
