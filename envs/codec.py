"""Any gymnasium space to the few kinds of `envs.spaces` and back.

Nested `Dict` and `Tuple` spaces become flat keys such as `arm/0/joint`; a bare observation space has the key `image`,
`state` or `symbol` after its kind, a bare action space the key `action`. Both codecs take arrays with any leading
dimensions: none for one environment, `[N]` for a vector environment.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from envs.declared import Declaration
from envs.environment import EnvironmentFault
from envs.image import ImageLayout, image_layout, resize_bilinear, to_uint8
from envs.spaces import (
    ActionSpec,
    DiscreteSpec,
    ImageSpec,
    ObservationSpec,
    VectorSpec,
    action_width,
)

Path = tuple[str | int, ...]
Leaf = Any
"""A `Box`, `Discrete`, `MultiDiscrete` or `MultiBinary` space; gymnasium's own annotations leave shapes optional."""
HUGE = float(np.finfo(np.float32).max)  # some environments write this for "no bound"


def leaves(space: spaces.Space, *, what: str, path: Path = ()) -> dict[Path, Leaf]:
    """The simple spaces inside a nested one, by their path.

    Raises:
        EnvironmentFault: for a kind of space that is not supported.
    """
    if isinstance(space, spaces.Dict):
        children: list[tuple[str | int, spaces.Space]] = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        children = list(enumerate(space.spaces))
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return {path: space}
    else:
        raise EnvironmentFault(
            f"{what} {'/'.join(map(str, path)) or 'space'!r} is a {type(space).__name__} space, which is unsupported; "
            "use Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
        )
    found: dict[Path, Leaf] = {}
    for name, child in children:
        found |= leaves(child, what=what, path=(*path, name))
    return found


def num_classes(space: Leaf) -> tuple[int, ...]:
    """Classes of every component of a symbolic space, flattened."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(n) for n in space.nvec.ravel())
    return (2,) * math.prod(space.shape)


def first_class(space: Leaf) -> np.ndarray:
    """The value of class 0 of every component: int64, the shape of the space."""
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape, np.int64)
    return np.asarray(space.start, np.int64)


class _Source(NamedTuple):
    """Where an observation key comes from: the path in the space, the leaf, and its layout if it is an image."""

    path: Path
    space: Leaf
    layout: ImageLayout | None
    declaration: Declaration


class ObservationCodec:
    """Turns observations of a space into flat dicts of images, vectors and symbols, and back.

    Args:
        space: of one environment's observations.
        image_size: height and width of the images; None: as they come.
        image_layout: `auto`, `channels_first` or `channels_last`, see `envs.image`.
        zero_nonfinite: take pixels that are NaN or infinite as 0 instead of refusing them.

    Attributes:
        spec: the kinds by key.
    """

    def __init__(
        self,
        space: spaces.Space,
        *,
        image_size: tuple[int, int] | None = None,
        image_layout: str = "auto",
        zero_nonfinite: bool = False,
    ) -> None:
        self._space, self._zero_nonfinite = space, zero_nonfinite
        self.spec: ObservationSpec = {}
        self._sources: dict[str, _Source] = {}
        for path, leaf in leaves(space, what="observation").items():
            name = "/".join(map(str, path))
            layout = _layout(leaf, name or "image", image_layout)
            part = _observation_part(leaf, layout, image_size)
            key = name or {ImageSpec: "image", VectorSpec: "state", DiscreteSpec: "symbol"}[type(part)]
            if key in self.spec:
                raise EnvironmentFault(f"two observations are called {key!r} once flattened; rename one")
            self.spec[key] = part
            self._sources[key] = _Source(path, leaf, layout, Declaration(leaf, key=key))
        if not self.spec:
            raise EnvironmentFault("the observation space is empty; give it at least one Box or Discrete space")

    def describe_layouts(self) -> str | None:
        """How the images come, in words; None where all come as they are stored."""
        layouts = {key: source.layout for key, source in self._sources.items() if source.layout is not None}
        unusual = {key: layout for key, layout in layouts.items() if layout.channel_first or layout.high != 255.0}
        return "; ".join(f"{key}: {layout}" for key, layout in unusual.items()) or None

    def encode(self, observation: Any, *, lead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
        """Convert observations with leading dimensions `lead`; every array is a fresh copy.

        Raises:
            NonFinite: for a pixel that is NaN or infinite.
            EnvironmentFault: if a shape, an image's values or a symbol differ from what the space declares.
        """
        return {key: self._encode_leaf(observation, key, lead) for key in self.spec}

    def _encode_leaf(self, observation: Any, key: str, lead: tuple[int, ...]) -> np.ndarray:
        path, space, layout, declaration = self._sources[key]
        for name in path:
            observation = observation[name]
        array, part = np.asarray(observation), self.spec[key]
        if array.shape != (*lead, *space.shape):
            raise EnvironmentFault(
                f"observation {key!r} has shape {array.shape}, its space declares {(*lead, *space.shape)}"
            )
        if isinstance(part, ImageSpec) and layout is not None:
            if self._zero_nonfinite and np.issubdtype(array.dtype, np.floating):
                array = np.where(np.isfinite(array), array, 0)
            return resize_bilinear(to_uint8(array, layout, lead=lead, key=key), part)
        declaration.compare(array)
        if isinstance(part, VectorSpec):
            return np.array(array, np.float32).reshape((*lead, part.size))
        return (array - first_class(space)).astype(np.int32).reshape((*lead, len(num_classes(space))))

    @property
    def decoded_space(self) -> spaces.Space:
        """What `decode` gives: the space of the environment, its images at the size to which they are resized."""
        decoded = {source.path: self._decoded_leaf(key) for key, source in self._sources.items()}
        return _rebuild(self._space, decoded, ())

    def decode(self, observation: dict[str, np.ndarray], *, clip: bool = False) -> Any:
        """Observations as the environment gives them, from arrays `[*lead, ...]`; `encode` of it changes no bit.

        With `clip` vectors are brought into the bounds of their space, which a prediction may leave.
        """
        values: dict[Path, Any] = {}
        for key, (path, space, layout, _) in self._sources.items():
            array, part = observation[key], self.spec[key]
            if layout is not None:
                if layout.channel_first:
                    array = np.moveaxis(array, -1, -3)
                array = array if layout.high == 255.0 else array / 255.0
            lead = array.shape[: array.ndim - (1 if layout is None else 3)]
            if isinstance(part, DiscreteSpec):
                array = array.reshape((*lead, *space.shape)) + first_class(space)
            elif layout is None:
                array = np.rint(array) if np.issubdtype(space.dtype, np.integer) else array
                array = np.clip(array.reshape((*lead, *space.shape)), space.low, space.high) if clip else array
            values[path] = array.reshape((*lead, *self._decoded_leaf(key).shape)).astype(space.dtype)
        return _nest(self._space, values, ())

    def _decoded_leaf(self, key: str) -> Leaf:
        _, space, layout, _ = self._sources[key]
        part = self.spec[key]
        if layout is None or not isinstance(part, ImageSpec) or (part.height, part.width) == layout[:2]:
            return space
        sides = (part.height, part.width)
        colored = (part.channels, *sides) if layout.channel_first else part
        shape = sides if len(space.shape) == 2 else tuple(colored)
        return spaces.Box(0, layout.high, shape, space.dtype)


def _layout(space: Leaf, key: str, order: str) -> ImageLayout | None:
    return image_layout(space, key=key, order=order) if isinstance(space, spaces.Box) else None


def _observation_part(
    space: Leaf, layout: ImageLayout | None, image_size: tuple[int, int] | None
) -> ImageSpec | VectorSpec | DiscreteSpec:
    if layout is not None:
        height, width = image_size or (layout.height, layout.width)
        return ImageSpec(height, width, layout.channels)
    if isinstance(space, spaces.Box):
        return VectorSpec(math.prod(space.shape))
    return DiscreteSpec(num_classes(space))


class ActionCodec:
    """Turns flat action vectors into actions of a space, and back.

    Attributes:
        spec: the kinds by key.
        width: `A`, size of the flat vector.
        limits: lowest and highest values of every `Box`, float64 `[size]`, by key.
    """

    def __init__(self, space: spaces.Space, *, bound: float | None = None) -> None:
        """Prepare the codec; `bound` replaces infinite bounds of `Box` actions by -bound and bound."""
        self._space = space
        self._leaves: dict[str, tuple[Path, Leaf]] = {}
        for path, leaf in leaves(space, what="action").items():
            key = "/".join(map(str, path)) or "action"
            if key in self._leaves:
                raise EnvironmentFault(f"two actions are called {key!r} once flattened; rename one")
            self._leaves[key] = path, leaf
        self.spec: ActionSpec = {key: _action_part(leaf) for key, (_, leaf) in self._leaves.items()}
        self.width = action_width(self.spec)
        if not self.width:
            raise EnvironmentFault("the action space is empty; give it at least one Box or Discrete space")
        self.limits = {
            key: _limits(leaf, bound=bound, key=key)
            for key, (_, leaf) in self._leaves.items()
            if isinstance(leaf, spaces.Box)
        }

    @property
    def simple_spaces(self) -> dict[str, Leaf]:
        """The spaces of the keys."""
        return {key: leaf for key, (_, leaf) in self._leaves.items()}

    def decode(self, action: np.ndarray) -> Any:
        """Actions of the space, batched as gymnasium does, from `[..., A]`."""
        lead = action.shape[:-1]
        values: dict[Path, Any] = {}
        start = 0
        for key in sorted(self.spec):
            path, space = self._leaves[key]
            width = action_width({key: self.spec[key]})
            block = action[..., start : start + width]
            start += width
            values[path] = self._continuous(key, space, block) if key in self.limits else _symbols(space, block)
            values[path] = values[path].reshape((*lead, *space.shape))[()]  # [()]: a scalar for a bare Discrete
        return _nest(self._space, values, ())

    def encode(self, action: Any, *, lead: tuple[int, ...] = ()) -> np.ndarray:
        """Flat vectors float32 `[*lead, A]` that `decode` to these actions, which somebody else chose.

        Raises:
            EnvironmentFault: a part is missing, of another shape, not finite, or none of the choices.
        """
        blocks = []
        for key in sorted(self.spec):
            (path, space), chosen = self._leaves[key], action
            try:
                for name in path:
                    chosen = chosen[name]
            except (KeyError, IndexError, TypeError) as error:
                raise EnvironmentFault(f"action {key!r} is missing from {action!r}") from error
            array = np.asarray(chosen)
            if array.shape != (*lead, *space.shape) or array.dtype.kind not in "biuf":
                raise EnvironmentFault(f"action {key!r} is {chosen!r}; give numbers of shape {(*lead, *space.shape)}")
            flat = array.reshape((*lead, math.prod(space.shape)))
            blocks.append(self._fractions(key, flat) if key in self.limits else _one_hot(key, space, flat))
        return np.concatenate(blocks, axis=-1).astype(np.float32)

    def _fractions(self, key: str, values: np.ndarray) -> np.ndarray:
        """Where values lie between their limits, in [-1, 1]."""
        low, high = self.limits[key]
        if not np.isfinite(values).all():
            raise EnvironmentFault(f"action {key!r} is NaN or infinite")
        span = np.where(high > low, high - low, 1.0)
        return np.clip((values.astype(np.float64) - low) / span * 2.0 - 1.0, -1.0, 1.0)

    def _continuous(self, key: str, space: Leaf, block: np.ndarray) -> np.ndarray:
        low, high = self.limits[key]
        scaled = low + (np.clip(block.astype(np.float64), -1.0, 1.0) + 1.0) / 2.0 * (high - low)
        if np.issubdtype(space.dtype, np.integer):
            scaled = np.rint(scaled)
        return np.clip(scaled, low, high).astype(space.dtype)


def _action_part(space: Leaf) -> VectorSpec | DiscreteSpec:
    return VectorSpec(math.prod(space.shape)) if isinstance(space, spaces.Box) else DiscreteSpec(num_classes(space))


def _limits(space: spaces.Box, *, bound: float | None, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest values of a `Box` action, float64 `[size]`."""
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    unbounded = (low <= -HUGE) | (high >= HUGE)
    if unbounded.any() and bound is None:
        raise EnvironmentFault(
            f"action {key!r} has no bounds; give the range to explore, such as --environment.action-bound 1.0"
        )
    if bound is not None:
        low, high = np.where(low <= -HUGE, -bound, low), np.where(high >= HUGE, bound, high)
    if (low > high).any():
        raise EnvironmentFault(f"action {key!r}: --environment.action-bound {bound} contradicts its one finite bound")
    return low, high


def _symbols(space: Leaf, block: np.ndarray) -> np.ndarray:
    """Largest entry of each one-hot block, as values of the space `[..., *space.shape]`."""
    ends = np.cumsum(num_classes(space))
    indices = [part.argmax(-1) for part in np.split(block, ends[:-1], axis=-1)]
    index = np.stack(indices, axis=-1).reshape((*block.shape[:-1], *space.shape))
    return (index + first_class(space)).astype(space.dtype)


def _one_hot(key: str, space: Leaf, values: np.ndarray) -> np.ndarray:
    """Values of the space `[..., size]` as one-hot blocks side by side."""
    index = values - first_class(space).ravel()
    blocks = [index[..., [i]] == np.arange(count) for i, count in enumerate(num_classes(space))]
    if not all(block.any(axis=-1).all() for block in blocks):
        raise EnvironmentFault(
            f"action {key!r} has values {values.min()} to {values.max()}, which {space} does not have"
        )
    return np.concatenate(blocks, axis=-1)


def _rebuild(space: spaces.Space, simple: dict[Path, spaces.Space], path: Path) -> spaces.Space:
    """A nested space with other simple spaces in it, by their path."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(name, _rebuild(child, simple, (*path, name))) for name, child in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_rebuild(child, simple, (*path, i)) for i, child in enumerate(space.spaces)])
    return simple[path]


def _nest(space: spaces.Space, values: dict[Path, Any], path: Path) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _nest(child, values, (*path, name)) for name, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nest(child, values, (*path, i)) for i, child in enumerate(space.spaces))
    return values[path]


def observation_space(spec: ObservationSpec) -> spaces.Dict:
    """The gymnasium space of observations that are already encoded."""
    return spaces.Dict({key: _encoded_space(part) for key, part in spec.items()})


def _encoded_space(part: ImageSpec | VectorSpec | DiscreteSpec) -> spaces.Space:
    if isinstance(part, ImageSpec):
        return spaces.Box(0, 255, part, np.uint8)
    if isinstance(part, VectorSpec):
        return spaces.Box(-np.inf, np.inf, (part.size,), np.float32)
    return spaces.MultiDiscrete(list(part.num_classes), dtype=np.int32)
