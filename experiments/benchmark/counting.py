"""Operations and bytes of one update, counted for the plain formulation of the algorithm.

Plain: every layer as the paper states it (5x5 convolutions at full size, no shared products), the backward pass twice
the forward pass. A rewrite that needs fewer operations is then seen as what it is: faster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax

from dreamer.training.state import Definition
from dreamer.world.images import group_images

TRAINED = 3  # forward, and backward to inputs and to weights
_FLOAT = 4  # bytes; the floor is stated for float32 activations, also where bfloat16 halves them
_OPTIMIZER_PASSES = 9  # read parameter, gradient, two moments; write gradient, parameter, two moments, slow copy


class Cost(NamedTuple):
    """Operations (two for a multiplication with addition) and bytes to and from memory."""

    operations: float
    bytes: float

    def floor_seconds(self, *, operations_per_second: float, bytes_per_second: float) -> float:
        """The time that neither arithmetic nor memory can go below."""
        return max(self.operations / operations_per_second, self.bytes / bytes_per_second)


def update_cost(definition: Definition) -> Cost:
    """What one update needs: world model on the batch, the dream, actor and critic on both."""
    config = definition.config
    states = config.replay.batch_size * config.replay.batch_length
    horizon = config.behavior.horizon
    layers = list(_layers(definition))
    imagination = r"world/rssm/(deter_in|stoch_in|action_in|gru_|prior_)"
    applications = [
        (r"world/", TRAINED * states),
        (imagination, states * horizon),
        (r"world/(reward|continue)_head", states * (horizon + 1)),
        (r"behavior/actor", states * horizon + TRAINED * states * (horizon + 1)),
        (r"behavior/critic", (TRAINED + 1) * states * (horizon + 2)),  # with the slow critic; dream and replay
        # No gradient is sent back into observations, nor into the dream.
        (r"world/encoder/(mlp/layer0|cnn_[^/]+/conv0)/", -states),
        (r"behavior/(actor|critic)/mlp/layer0/", -states * (horizon + 1)),
    ]
    operations = moved = 0.0
    for pattern, count in applications:
        for path, products, width in layers:
            if re.match(pattern, path):
                operations += 2.0 * products * count
                moved += float(_FLOAT) * width * count
    parameters = sum(leaf.size for leaf in jax.tree.leaves(definition.abstract().params))
    return Cost(operations, moved + _FLOAT * _OPTIMIZER_PASSES * parameters)


def _layers(definition: Definition) -> Iterator[tuple[str, int, int]]:
    """Path, multiplications for one state, and numbers read and written for one state, of every layer."""
    decoder = definition.config.world.decoder
    groups = group_images(definition.observation_spec, depth=decoder.depth, multipliers=decoder.multipliers)
    for keys, leaf in jax.tree_util.tree_leaves_with_path(definition.abstract().params):
        path = "/".join(str(key.key) for key in keys)
        if not path.endswith("kernel"):
            continue
        positions = 1
        convolution = re.search(r"cnn_(\d+x\d+)/(?:conv(\d+)|output)/kernel", path)
        if convolution:
            height, width = groups[convolution[1]].padded_size
            positions = height * width // 4 ** int(convolution[2] or 0)
        *_, inputs, outputs = leaf.shape
        blocks = leaf.shape[0] if len(leaf.shape) == 3 else 1
        yield path, math.prod(leaf.shape) * positions, (inputs + outputs) * blocks * positions
