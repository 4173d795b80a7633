"""What the scans of a traced program hand on, whatever the release of JAX names it."""

from __future__ import annotations

from collections.abc import Iterator

from jax.extend.core import ClosedJaxpr

Shape = tuple[int, ...]


def carried(program: ClosedJaxpr) -> set[Shape]:
    """Shapes of the carries: what a scan gives is what its body gives."""
    return {body for body, scan in _outputs(program) if scan == body}


def stacked(program: ClosedJaxpr) -> set[Shape]:
    """Shapes, of one step, of what is collected: a scan gives it for every step."""
    return {body for body, scan in _outputs(program) if scan != body}


def _outputs(program: ClosedJaxpr) -> Iterator[tuple[Shape, Shape]]:
    for equation in program.jaxpr.eqns:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]
            for inner, outer in zip(getattr(body, "jaxpr", body).outvars, equation.outvars, strict=True):
                yield inner.aval.shape, outer.aval.shape
