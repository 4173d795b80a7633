"""TensorBoard's HPARAMS tab, as its own back end reads a folder of runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from dreamer.training.counters import Counters
from dreamer.training.hyperparameters import hyperparameters
from dreamer.training.metrics import MetricsLogger
from dreamer.validation import resolve


def log_run(runs: Path, name: str, *, score: float | None, resume_at: Counters | None = None, **settings) -> None:
    config = resolve({"env": "CartPole-v1", "logdir": str(runs / name), **settings})
    (runs / name).mkdir(parents=True, exist_ok=True)
    logger = MetricsLogger(
        runs / name, env=config.env, seed=config.seed, resume_at=resume_at, hyperparameters=hyperparameters(config)
    )
    logger.scalars(Counters(5, 5, 1), {"loss/reward": 1.0})
    if score is not None:
        for count in range(150):  # of which the last 100 count
            logger.episode(Counters(10 + count, 10 + count, 2), score=score if count >= 50 else -1000.0, length=9)
        logger.complete(Counters(200, 200, 3))
    logger.close()
    assert logger.failures == 0


def read_tab(runs: Path):
    """Columns by name, whether they differ, and rows: session name to values."""
    events = EventMultiplexer().AddRunsFromDirectory(str(runs)).Reload()
    provider = MultiplexerDataProvider(events, str(runs))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider, logdir=str(runs)))
    request = RequestContext()
    experiment = get_experiment.Handler(request, context, "", api_pb2.GetExperimentRequest()).run()
    everything = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=list(api_pb2.Status.values()), slice_size=10, start_index=0
    )
    groups = list_session_groups.Handler(request, context, "", everything).run().session_groups
    return experiment, {session.name: (group, session) for group in groups for session in group.sessions}


def test_a_sweep_shows_what_differs_and_the_scores(tmp_path):
    log_run(tmp_path, "a", score=20.0)
    log_run(tmp_path, "b", score=45.0, train_ratio=64, seed=1)
    log_run(tmp_path, "killed", score=None)
    log_run(tmp_path, "killed", score=7.0, resume_at=Counters(5, 5, 1))  # the same command goes on

    experiment, sessions = read_tab(tmp_path)
    assert {info.name for info in experiment.hparam_infos if info.differs} == {"train_ratio", "seed"}
    assert {"final/score", "episode/score"} <= {info.name.tag for info in experiment.metric_infos}
    found = {
        name: (
            group.hparams["env"].string_value,
            group.hparams["size"].string_value,
            group.hparams["seed"].number_value,
            group.hparams["train_ratio"].number_value,
            group.hparams["replay.online"].bool_value,
            {value.name.tag: value.value for value in session.metric_values}["final/score"],
        )
        for name, (group, session) in sessions.items()
    }
    default = resolve({"env": "CartPole-v1"})
    assert found == {
        "a": ("CartPole-v1", default.size, 0, default.train_ratio, True, 20.0),
        "b": ("CartPole-v1", default.size, 1, 64, True, 45.0),
        "killed": ("CartPole-v1", default.size, 0, default.train_ratio, True, 7.0),
    }
    assert "logdir" not in {info.name for info in experiment.hparam_infos}
    assert {session.status for _, session in sessions.values()} == {api_pb2.STATUS_SUCCESS}


def test_a_run_without_episodes_has_no_score(tmp_path):
    logger = MetricsLogger(tmp_path / ".", env="x", seed=0, resume_at=None, hyperparameters={"seed": 0})
    logger.complete(Counters(0, 0, 3))
    logger.close()
    assert logger.failures == 0
    experiment, _ = read_tab(tmp_path)
    assert "final/score" not in {info.name.tag for info in experiment.metric_infos}


@pytest.mark.parametrize(
    ("name", "value"), [("environment.image_size", "suite"), ("world.encoder.multipliers", "(2, 3")]
)
def test_what_is_no_number_is_told_in_words(name, value):
    assert str(hyperparameters(resolve({"env": "CartPole-v1"}))[name]).startswith(value)


def test_tensorflow_is_not_needed():
    program = "import sys; sys.modules['tensorflow'] = None; import dreamer.training.metrics as m; print(m.hparams)"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
