"""Gradients of weights that a loop uses, taken after the loop and not in each of its steps.

The gradient of a product `x @ kernel` for its kernel is `x.T @ dy`. In a loop over time JAX computes and adds up one
for every step: products of a few rows, and as often a pass over memory as large as the weights. Here the loop keeps
`x`, its transposed loop gives `dy`, and one product over all steps does the rest: the same sum, in another order.

`scan` does it for every product inside the step that was made by `deferrable` (`nets/layers.py`): such a product adds a
*tap*, a zero with the shape of its result, whose gradient is `dy`, and hides its kernel from the loop's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import stop_gradient
from jaxtyping import Array

Multiply = Callable[[Array, Array], Array]
Nets = TypeVar("Nets", bound=nnx.Module)


class Product(NamedTuple):
    """One product of a step.

    Attributes:
        kernel: as it is multiplied: cut and cast.
        shape: of the result, an array without content.
        kernel_gradient: `(x, dy)` of all steps, time in front, to the gradient for the kernel.
    """

    kernel: Array
    shape: jax.ShapeDtypeStruct
    kernel_gradient: Multiply


class Recorder:
    """Sees the products of a step while it is traced; without taps it only lists them."""

    def __init__(self, taps: Sequence[Array] | None = None) -> None:
        self.products: list[Product] = []
        self.inputs: list[Array] = []
        self._taps = taps

    def __call__(self, multiply: Multiply, kernel_gradient: Multiply, x: Array, kernel: Array) -> Array:
        """The product; its input is kept."""
        y = multiply(x, kernel if self._taps is None else stop_gradient(kernel))
        self.inputs.append(x)
        self.products.append(Product(kernel, jax.ShapeDtypeStruct(y.shape, y.dtype), kernel_gradient))
        return y if self._taps is None else _tapped(y, self._taps[len(self.inputs) - 1])


_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def deferrable(multiply: Multiply, kernel_gradient: Multiply, x: Array, kernel: Array) -> Array:
    """`multiply(x, kernel)`, whose kernel's gradient is taken after the loop where `scan` traces it."""
    recorder = _RECORDER.get()
    return multiply(x, kernel) if recorder is None else recorder(multiply, kernel_gradient, x, kernel)


def scan(step: Callable[[Nets, Any, Any], tuple[Any, Any]], nets: Nets, carry: Any, inputs: Any) -> tuple[Any, Any]:
    """`jax.lax.scan` of `step(nets, carry, input)`, for reverse differentiation.

    All parameters that the step uses must be those of `nets`; what else depends on parameters goes into the inputs.
    """
    graph, params = nnx.split(nets)

    def one(params: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
        return step(nnx.merge(graph, params), carry, inputs)

    @jax.custom_vjp
    def loop(params: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda carry, x: one(params, carry, x), carry, inputs)

    def products(params: Any, carry: Any, inputs: Any) -> list[Product]:
        with _recording() as recorder:
            one(params, carry, jax.tree.map(lambda x: x[0], inputs))
        return recorder.products

    def forward(params: Any, carry: Any, inputs: Any) -> tuple[tuple[Any, Any], Any]:
        length = len(jax.tree.leaves(inputs)[0])
        taps = [jnp.zeros((length, *p.shape.shape), p.shape.dtype) for p in products(params, carry, inputs)]

        def tapped(params: Any, carry: Any, inputs: Any, taps: list[Array]) -> tuple[tuple[Any, Any], list[Array]]:
            def body(carry: Any, x: tuple[Any, list[Array]]) -> tuple[Any, tuple[Any, list[Array]]]:
                with _recording(x[1]) as recorder:
                    carry, output = one(params, carry, x[0])
                return carry, (output, recorder.inputs)

            carry, (outputs, factors) = jax.lax.scan(body, carry, (inputs, taps))
            return (carry, outputs), factors

        result, pull, factors = jax.vjp(tapped, params, carry, inputs, taps, has_aux=True)
        return result, (pull, factors, params, carry, inputs)

    def backward(saved: Any, gradient: tuple[Any, Any]) -> tuple[Any, Any, Any]:
        pull, factors, params, carry, inputs = saved
        rest, of_carry, of_inputs, of_taps = pull(gradient)
        found = products(params, carry, inputs)
        of_kernels = [p.kernel_gradient(x, dy) for p, x, dy in zip(found, factors, of_taps, strict=True)]
        _, to_params = jax.vjp(lambda params: [p.kernel for p in products(params, carry, inputs)], params)
        (of_params,) = to_params(of_kernels)
        return jax.tree.map(jnp.add, rest, of_params), of_carry, of_inputs

    loop.defvjp(forward, backward)
    return loop(params, carry, inputs)


@contextmanager
def _recording(taps: Sequence[Array] | None = None) -> Iterator[Recorder]:
    recorder = Recorder(taps)
    token = _RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        _RECORDER.reset(token)


@jax.custom_vjp
def _tapped(y: Array, tap: Array) -> Array:
    """`y + tap`, where the tap is known to be zero and not even read."""
    return y


_tapped.defvjp(lambda y, tap: (y, None), lambda _, gradient: (gradient, gradient))
