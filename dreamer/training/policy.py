"""The part of the parameters that acting needs: encoder, RSSM and actor, without decoder, heads and critic."""

from __future__ import annotations

from typing import Any

import jax
from typing_extensions import override

from dreamer.training.state import Definition, Model, Params

POLICY = {"world": ("encoder", "rssm"), "behavior": ("actor",)}  # modules of a policy, by the half they belong to


def policy_params(params: Any) -> Params:
    """Those of the policy, out of those of everything (or of their shapes)."""
    return {half: {module: params[half][module] for module in modules} for half, modules in POLICY.items()}


class PolicyDefinition(Definition):
    """Networks of which only the policy has parameters. The others are shapes: whoever asks them gets a TypeError."""

    @override
    def bind(self, params: Params) -> Model:
        whole = self.abstract().params
        return super().bind({half: {**whole[half], **params[half]} for half in whole})


def by_path(params: Any) -> dict[str, Any]:
    """Parameters by their paths, such as `world/rssm/posterior_out/bias`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
