"""A public learner that never sees the real environment: Stable-Baselines3's PPO inside a run's world model.

    python -m experiments.dream_ppo RUN --env CartPole-v1 --out experiments/results/dream_ppo

PPO learns in `dreamer/Dream-v0` as it would in any gymnasium environment, from contexts of the run's replay. Every
`--every` dreamt steps its policy is scored twice, actions being its modes: in the real environment, and in a dream from
as many real resets, which is what the model predicts of that score. Neither teaches it anything, nor is the best policy
picked: the last one counts. Needs the extra `sb3`. Writes OUT/results.json and OUT/curve.csv after every seed; seeds
that are there already are not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

import dreamer
from dreamer.agent import Agent
from dreamer.dream.env import DreamEnv, DreamVectorEnv
from dreamer.dream.simulation import SimulationError
from dreamer.dream.starts import History, join
from dreamer.evaluation import EvaluationError, make_environment
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.run_folder import RunFolderError
from envs.environment import EnvironmentFault

NUM_ENVS, TIME_LIMIT = 8, 500
CURVE = "curve.csv"
PPO_SETTINGS: dict[str, Any] = {"n_steps": 256}  # the library's usual 2,048 steps of a rollout; the rest is its default


class Row(NamedTuple):
    """How good a policy is after so many dreamt steps: mean scores, and standard deviations over episodes."""

    seed: int
    dreamt_steps: int
    real_score: float
    real_std: float
    dreamt_score: float
    dreamt_std: float
    seconds: float


def main() -> int:
    """Runs the command line."""
    arguments = parse()
    rows = read(arguments.out / CURVE)
    try:
        agent = dreamer.load(arguments.run)
        import stable_baselines3
        import torch

        torch.set_num_threads(1)
        learner = f"stable-baselines3 {stable_baselines3.__version__} PPO, torch {torch.__version__}"
        for seed in arguments.seeds:
            if seed not in {row.seed for row in rows}:
                rows += train(agent, arguments, seed=seed)
            write(rows, agent, arguments, learner=learner)
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: pip install 'dreamer-jax[sb3]'", file=sys.stderr)
        return 1
    except (CheckpointError, EnvironmentFault, EvaluationError, RunFolderError, SimulationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for row in last_of_each_seed(rows):
        print(f"seed {row.seed}: real {row.real_score:.1f}, dreamt {row.dreamt_score:.1f}, {row.dreamt_steps:,} steps")
    return 0


def write(rows: list[Row], agent: Agent, arguments: argparse.Namespace, *, learner: str) -> None:
    """All rows as CSV, and what defines them, with the last row of each seed, as JSON."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / CURVE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "run": Path(arguments.run).name,
        "agent_steps_of_the_world_model": agent.counters.agent_steps,
        "size": agent.config.size,
        "env": arguments.env,
        "real_steps_of_ppo": 0,
        "episodes": arguments.episodes,
        "horizon": arguments.horizon,
        "learner": learner,
        "settings": PPO_SETTINGS | {"n_envs": NUM_ENVS},
        "final": [row._asdict() for row in last_of_each_seed(rows)],
    }
    (arguments.out / "results.json").write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> list[Row]:
    """The rows that an earlier call left."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        kinds = {"seed": int, "dreamt_steps": int}
        return [
            Row(**{name: kinds.get(name, float)(text) for name, text in row.items()}) for row in csv.DictReader(file)
        ]


def last_of_each_seed(rows: list[Row]) -> list[Row]:
    """How good the policies are in the end."""
    return list({row.seed: row for row in rows}.values())


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.dream_ppo", description=__doc__)
    parser.add_argument("run", help="folder of a run with its replay")
    parser.add_argument("--env", default="CartPole-v1", help="the real environment [%(default)s]")
    parser.add_argument("--steps", type=int, default=80_000, help="dreamt steps of each seed [%(default)s]")
    parser.add_argument("--every", type=int, default=20_480, help="dreamt steps between two scores [%(default)s]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--horizon", type=int, default=TIME_LIMIT, help="dreamt steps of an episode [%(default)s]")
    parser.add_argument("--episodes", type=int, default=50, help="for each score [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("dream_ppo"), help="folder of the results [%(default)s]")
    return parser.parse_args()


def train(agent: Agent, arguments: argparse.Namespace, *, seed: int) -> list[Row]:
    """One seed: dreams, and scores on the way."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make() -> gymnasium.Env:
        return gymnasium.wrappers.RecordEpisodeStatistics(DreamEnv(agent, horizon=arguments.horizon))

    learner = PPO(
        "MlpPolicy",
        DummyVecEnv([make] * NUM_ENVS),
        seed=seed,
        device="cpu",
        **PPO_SETTINGS,
    )
    real = gymnasium.make_vec(arguments.env, num_envs=arguments.episodes, vectorization_mode="sync")
    resets = join([reset(agent, arguments.env, seed=seed * arguments.episodes + i) for i in range(arguments.episodes)])
    dreamt = DreamVectorEnv(agent, num_envs=arguments.episodes, starts=resets, horizon=TIME_LIMIT)
    rows: list[Row] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        if learner.num_timesteps >= arguments.every * len(rows):
            rows.append(measure())
        return True

    def measure() -> Row:
        scores = [score(learner, env, seed=1000 + seed) for env in (real, dreamt)]
        numbers = [round(float(function(score)), 1) for score in scores for function in (np.mean, np.std)]
        row = Row(seed, learner.num_timesteps, *numbers, seconds=round(time.monotonic() - began))
        print(" ".join(f"{name} {value}" for name, value in row._asdict().items()), flush=True)
        return row

    began = time.monotonic()
    learner.learn(arguments.steps, callback=note)
    return [*rows, measure()]


def reset(agent: Agent, env: str, *, seed: int) -> Any:
    """What a real episode begins with, as a start."""
    environment = make_environment(agent, env, seed=seed)
    history = History(environment.action_spec, length=1)
    history.add(environment.reset(), None)
    environment.close()
    return history.start()


def score(learner: Any, env: gymnasium.vector.VectorEnv, *, seed: int) -> np.ndarray:
    """Returns of the first episode in each of the environments."""
    observation, _ = env.reset(seed=seed)
    total, is_open = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while is_open.any():
        action, _ = learner.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += reward * is_open
        is_open &= ~(terminated | truncated)
    return total


if __name__ == "__main__":
    sys.exit(main())
