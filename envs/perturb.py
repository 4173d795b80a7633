"""Another world for the same body: gravity, mass and friction of the DeepMind Control suite, scaled.

| quantity | what is multiplied |
|---|---|
| gravity | the acceleration |
| mass | masses and inertias of all bodies; the inertia of motors (armature) stays |
| friction | all that resists motion: friction of contacts, damping and dry friction of joints and tendons |

Friction means both kinds, since some bodies touch nothing (cartpole) and others hardly have damped joints. Fluids stay
as they are. What a task itself writes into the model, as it does with the damping of `finger_spin`'s hinge, is scaled
until its next reset writes it anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.environment import Environment, EnvironmentFault

FACTORS = "factors"  # in the state of a simulator: scale the model by these once it is restored
MASS = ("body_mass", "body_inertia")
FRICTION = (
    "geom_friction", "pair_friction", "dof_damping", "dof_frictionloss", "tendon_damping", "tendon_frictionloss",
)  # fmt: skip


def can_perturb(protocol: dict[str, Any]) -> bool:
    """Whether an environment of this protocol is one of the DeepMind Control suite."""
    return "domain" in protocol


def perturb(environment: Environment, *, gravity: float = 1.0, mass: float = 1.0, friction: float = 1.0) -> None:
    """Scales an environment's physics from now on, in the middle of an episode and through resets.

    The body goes on from where it is. Factors multiply: twice a half is a quarter. States and forks hold the scaled
    world: one from before leads back to the world as it was, one from after goes on in the scaled world elsewhere.

    Args:
        environment: one or more of a task `dmc_...` or `dmc_vision_...`.
        gravity: factor of 0 or more.
        mass: factor above 0.
        friction: factor of 0 or more.

    Raises:
        EnvironmentFault: it is another environment, or a factor makes no world.
    """
    name = environment.protocol["env"]
    if not can_perturb(environment.protocol):
        raise EnvironmentFault(f"{name} has no physics that could be scaled; take a task of DeepMind Control (dmc_...)")
    factors = np.array([gravity, mass, friction], np.float64)
    if not np.isfinite(factors).all() or factors.min() < 0 or mass == 0:
        raise EnvironmentFault(
            f"{name} cannot have {gravity:g} times its gravity, {mass:g} times its mass and {friction:g} times its "
            "friction; give finite factors, of mass above 0, of the others 0 or more"
        )
    asked = {f"{index}/{FACTORS}": factors for index in range(environment.num_envs)}
    environment.set_state(environment.get_state() | asked)


def scale(model: Any, factors: np.ndarray) -> None:
    """Multiplies gravity, mass and friction of a MuJoCo model, in place, and what MuJoCo derives from mass.

    The scales of the solver's tolerance and of drawing (`model.stat`) stay as they are.
    """
    import mujoco

    module: Any = mujoco
    gravity, mass, friction = factors
    model.opt.gravity *= gravity
    for names, factor in ((MASS, mass), (FRICTION, friction)):
        for name in names:
            array = getattr(model, name)
            array *= factor
    kept = {name: np.array(getattr(model.stat, name)) for name in ("center", "extent", "meaninertia")}
    module.mj_setConst(model, module.MjData(model))  # it writes into a data of its own: the body stays where it is
    model.stat.center[:] = kept["center"]
    model.stat.extent, model.stat.meaninertia = float(kept["extent"]), float(kept["meaninertia"])
