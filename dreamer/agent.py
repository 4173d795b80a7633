"""A trained agent: `agent = dreamer.load("runs/x")`, then `action, state = agent.predict(observation, state)`.

It needs a run's folder, or what `Agent.save` wrote, and neither environment nor replay.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import Array

from dreamer.config import Config
from dreamer.evaluation import Evaluation, evaluate
from dreamer.exchange.hub import is_hub_folder, read_hub
from dreamer.presets import from_yaml, to_yaml
from dreamer.training.checkpoint import MALFORMED, CheckpointError, Checkpoints, read_meta, restore
from dreamer.training.counters import Counters
from dreamer.training.manifest import MANIFEST, ManifestError, fsync_directory, verify_manifest, write_manifest
from dreamer.training.policy import PolicyDefinition, policy_params
from dreamer.training.run_folder import RunFolderError
from dreamer.training.state import Definition, Params
from dreamer.training.step import PolicyCarry, initial_carry, make_policy_step
from envs.codec import ActionCodec, ObservationCodec, leaves
from envs.space_json import FILE_NAME, Interface

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"  # in the folder of a run, and of a saved agent
ALONE = "policy_alone"  # in the checkpoint of a saved agent
SAMPLING_KEY = 0x61676E74  # sub-seed of an agent's randomness

EpisodeStart: TypeAlias = np.ndarray | bool | None
"""One bool for all, or bool `[N]`."""


class AgentState(NamedTuple):
    """What an agent remembers between two calls of `predict`; the next call wants it back.

    Attributes:
        carry: latent and last action of `N` environments.
        key: randomness of this rollout.
        count: calls so far; call n samples with `fold_in(key, n)`.
    """

    carry: PolicyCarry
    key: Array
    count: np.uint32


class Agent:
    """A policy, with its world model unless it was saved alone; made by `load`.

    Args:
        definition: its networks.
        interface: how it and its environment speak.
        params: of world model and behaviour.
        counters: how long it was trained.
        path: where it comes from.
        seed: root of its randomness.

    Attributes:
        config: the configuration it was trained with.
        observation_space: what `predict` takes, as the environment declares it.
        action_space: what `predict` gives.
        observation_spec: the kinds of arrays that the networks take.
        action_spec: and of those that they give.
        action_codec: from those to the environment's actions.
        definition: the networks.
        params: theirs.
        is_policy_alone: whether it can act, but neither dream nor judge.
    """

    def __init__(
        self, definition: Definition, *, interface: Interface, params: Params, counters: Counters, path: Path, seed: int
    ) -> None:
        self.config, self.interface, self.counters, self.path = definition.config, interface, counters, path
        self.observation_space, self.action_space = interface.observation_space, interface.action_space
        self._observation_codec, self.action_codec = codecs(interface)
        self.observation_spec, self.action_spec = self._observation_codec.spec, self.action_codec.spec
        self.definition, self.params = definition, params
        self.is_policy_alone = isinstance(definition, PolicyDefinition)
        self._policy_step = make_policy_step(definition)
        self._key = jax.random.fold_in(jax.random.key(seed), SAMPLING_KEY)
        self._num_rollouts = 0

    def predict(
        self,
        observation: Any,
        state: AgentState | None = None,
        episode_start: EpisodeStart = None,
        *,
        deterministic: bool = False,
    ) -> tuple[Any, AgentState]:
        """Chooses an action for one observation, or for a batch of `N` with a leading axis.

        Compiles once for every `N`.

        Args:
            observation: as `observation_space` says, or arrays `[N, ...]` in its structure.
            state: what the last call returned; None starts afresh.
            episode_start: which observations come from a reset, one bool for all or bool `[N]`. By default all where
                `state` is None, otherwise none.
            deterministic: take the modes of latents and actions instead of samples.

        Returns:
            The action, as `action_space` says, or arrays `[N, ...]` in its structure; and the state for the next call.

        Raises:
            ValueError: an argument does not fit; the message says which shape would.
        """
        lead = leading_axes(observation, self.observation_space)
        encoded = self._observation_codec.encode(observation, lead=lead)
        require_finite(encoded)
        if not lead:
            encoded = {key: array[None] for key, array in encoded.items()}
        num = lead[0] if lead else 1
        is_first = _starts(episode_start, num=num, default=state is None)
        flat, state = self.act(encoded, state=state, is_first=is_first, deterministic=deterministic)
        return self.action_codec.decode(flat if lead else flat[0]), state

    def act(
        self, observation: dict[str, np.ndarray], *, state: AgentState | None, is_first: np.ndarray, deterministic: bool
    ) -> tuple[np.ndarray, AgentState]:
        """`predict` for what `envs.Environment` gives and takes: flat dicts, flat actions `[N, A]`, bool `[N]`.

        Raises:
            ValueError: the state is of another number of environments.
        """
        state = self._fresh_state(len(is_first)) if state is None else state
        if len(state.carry.action) != len(is_first):
            raise ValueError(
                f"the state is of {len(state.carry.action)} environments and the observation of {len(is_first)}; "
                "pass the state that belongs to them, or state=None to start afresh"
            )
        key = None if deterministic else state.key
        carry, action, _ = self._policy_step(self.params, state.carry, observation, is_first, key, state.count)
        return np.asarray(action), AgentState(carry, state.key, np.uint32(state.count + 1))

    def evaluate(
        self,
        env: str | Callable[[], Any] | None = None,
        *,
        episodes: int = 20,
        deterministic: bool = False,
        seed: int = 1,
        video: str | Path | None = None,
    ) -> Evaluation:
        """Plays complete episodes; see `dreamer.evaluation.evaluate`. `env` is by default the one it was trained in."""
        return evaluate(self, env, episodes=episodes, deterministic=deterministic, seed=seed, video=video)

    def save(self, path: str | Path, *, policy_alone: bool = False) -> Path:
        """Writes what `load` needs and no more: parameters, configuration and spaces, with their checksums.

        Args:
            path: a folder that does not exist yet.
            policy_alone: without decoder, reward and continue heads, and critic: it can act, and not dream. For
                CartPole at size 1m 1.7 MB instead of 2.6.

        Raises:
            RunFolderError: it exists.
            CheckpointError: it cannot be written.
        """
        path = Path(path).absolute()
        if path.exists():
            raise RunFolderError(f"{path} exists already; choose another path, or remove it first.")
        partial = path.with_name(f"{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a save that was killed
        partial.mkdir(parents=True)
        (partial / CONFIG).write_text(to_yaml(self.config), encoding="utf-8")
        self.interface.write(partial / FILE_NAME)
        Checkpoints(partial / CHECKPOINTS, keep=1).save(
            self.counters.agent_steps,
            arrays={"params": policy_params(self.params) if policy_alone else self.params},
            host={},
            meta={"counters": self.counters._asdict(), ALONE: policy_alone or self.is_policy_alone},
        )
        write_manifest(partial)
        partial.rename(path)
        fsync_directory(path.parent)
        return path

    def _fresh_state(self, num: int) -> AgentState:
        """Every rollout draws random numbers of its own, the same ones in every process with this seed."""
        key = jax.random.fold_in(self._key, self._num_rollouts)
        self._num_rollouts += 1
        # Placed as the parameters are, since JAX compiles again for an input that has no device of its own.
        carry = jax.device_put(initial_carry(self.definition, num), jax.tree.leaves(self.params)[0].sharding)
        return AgentState(carry, key, np.uint32(0))


def load(path: str | Path, *, seed: int = 0) -> Agent:
    """Loads an agent from a run's folder, newest checkpoint that verifies, or from what `Agent.save` wrote.

    Also from a policy as Hugging Face holds it (`python -m dreamer.export RUN --hub FOLDER`, extra `hub`).

    Args:
        path: the folder. Nothing in it is executed, so that a stranger's is safe to load.
        seed: root of the agent's randomness.

    Raises:
        RunFolderError: there is neither a run nor a saved agent.
        CheckpointError: there is no checkpoint yet, or it is damaged.
    """
    path = Path(path).absolute()
    if is_hub_folder(path):
        return _load_hub(path, seed=seed)
    is_export = (path / MANIFEST).exists()
    if is_export:
        _verify(path)
    for name in (CONFIG, FILE_NAME):
        if not (path / name).is_file():
            raise RunFolderError(f"{path} holds neither a run nor a saved agent: {name} is missing.")
    config, interface = from_yaml(path / CONFIG), Interface.read(path / FILE_NAME)
    checkpoint = Checkpoints(path / CHECKPOINTS).latest()
    if checkpoint is None:
        raise CheckpointError(f"{path} has no checkpoint yet; wait for the first, or stop the run, which saves it.")
    kind = PolicyDefinition if is_export and read_meta(checkpoint).get(ALONE) else Definition
    definition = define(kind, config, interface, source=path)
    wanted = _arrays_of_saved_agent(definition) if is_export else _arrays_of_run(definition)
    restored = restore(checkpoint, abstract_arrays=wanted)
    params = restored.arrays["params"] if is_export else restored.arrays["train"].params
    try:
        counters = Counters(**{name: int(count) for name, count in restored.meta["counters"].items()})
    except MALFORMED as error:
        raise CheckpointError(f"{checkpoint} does not say how long the agent was trained: {error!r}.") from error
    return Agent(definition, interface=interface, params=params, counters=counters, path=path, seed=seed)


def define(kind: type[Definition], config: Config, interface: Interface, *, source: Path) -> Definition:
    """The networks of an agent whose description comes from a file.

    Raises:
        CheckpointError: it describes none.
    """
    try:
        observation_codec, action_codec = codecs(interface)
        return kind(config, observation_codec.spec, action_codec.spec)
    except MALFORMED as error:
        raise CheckpointError(f"The configuration and {FILE_NAME} in {source} describe no agent: {error}.") from error


def _load_hub(path: Path, *, seed: int) -> Agent:
    """A policy as Hugging Face holds it."""
    found = read_hub(path)
    definition = define(PolicyDefinition, found.config, found.interface, source=path)
    params = found.params(policy_params(definition.abstract().params))
    return Agent(definition, interface=found.interface, params=params, counters=found.counters, path=path, seed=seed)


def codecs(interface: Interface) -> tuple[ObservationCodec, ActionCodec]:
    """Between an environment's own observations and actions and the agent's."""
    return (
        ObservationCodec(
            interface.observation_space, image_size=interface.image_size, image_layout=interface.image_layout
        ),
        ActionCodec(interface.action_space, bound=interface.action_bound),
    )


def leading_axes(observation: Any, space: spaces.Space) -> tuple[int, ...]:
    """`()` for one observation of a space, `(N,)` for a batch.

    Raises:
        ValueError: it is neither.
    """
    lead: tuple[int, ...] | None = None
    for path, leaf in leaves(space, what="observation").items():
        name = f"observation {'/'.join(map(str, path))!r}" if path else "the observation"
        array = _pick(observation, path, name=name)
        if array.shape[array.ndim - len(leaf.shape) :] != leaf.shape or array.ndim > len(leaf.shape) + 1:
            batch = ", ".join(["N", *map(str, leaf.shape)])
            raise ValueError(
                f"{name} has shape {array.shape}; this agent takes {leaf.shape} from one environment or ({batch}) "
                "from N of them"
            )
        found = array.shape[: array.ndim - len(leaf.shape)]
        if lead is not None and found != lead:
            raise ValueError(f"{name} has leading axes {found} and those before it {lead}; give all the same batch")
        lead = found
    return lead or ()


def require_finite(encoded: dict[str, np.ndarray]) -> None:
    """Refuses what would poison the agent's memory for the rest of the episode.

    Raises:
        ValueError: naming the key with a NaN or an infinity.
    """
    for key, array in encoded.items():
        if not np.isfinite(array).all():
            raise ValueError(f"observation {key!r} is NaN or infinite; give finite numbers")


def _pick(observation: Any, path: tuple[str | int, ...], *, name: str) -> np.ndarray:
    """The array at a path, of numbers."""
    for step in path:
        try:
            observation = observation[step]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{name} is missing from what was given; see `agent.observation_space`") from error
    array = np.asarray(observation)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is a {type(observation).__name__}, not an array of numbers")
    return array


def _starts(episode_start: EpisodeStart, *, num: int, default: bool) -> np.ndarray:
    """`episode_start` as bool `[N]`."""
    starts = np.asarray(default if episode_start is None else episode_start, bool)
    if starts.shape not in ((), (1,), (num,)):
        raise ValueError(f"episode_start has shape {starts.shape}; give one bool, or {num}, one for each observation")
    return np.array(np.broadcast_to(starts, (num,)))


def _verify(path: Path) -> None:
    try:
        verify_manifest(path)
    except ManifestError as error:
        raise CheckpointError(f"{path} is damaged: {error}. Save the agent again, or copy it again.") from error


def _arrays_of_saved_agent(definition: Definition) -> dict[str, Any]:
    """The arrays of a saved agent."""
    params = definition.abstract().params
    return {"params": policy_params(params) if isinstance(definition, PolicyDefinition) else params}


def _arrays_of_run(definition: Definition) -> dict[str, Any]:
    """The arrays of a run's checkpoint, all but the parameters left out."""
    train = definition.abstract()
    left_out = jax.tree.map(lambda _: ..., train)
    return {
        "train": left_out._replace(params=train.params),
        "carry": jax.tree.map(lambda _: ..., initial_carry(definition, 1)),
    }
