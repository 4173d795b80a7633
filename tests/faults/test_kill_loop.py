from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kill_loop import kill_loop


@pytest.mark.slow
def test_fifty_kills_of_a_run_that_trains_saves_and_resumes(tmp_path: Path):
    result = kill_loop(tmp_path, kills=50, seed=0)
    assert result["kills"] == 50
    assert set(result["while"]) >= {"training", "starting or resuming"}
    assert result["resumed"] > 10
