"""This module has Muon, momentum that makes the update of every matrix orthogonal (Jordan, 2024)."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

# Jordan's quintic: five steps bring singular values of 0.001 and more to between 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_RMS = 0.2  # about the size of Adam's updates (2502.16982)
_ADAM_RATE = 0.1


def muon(momentum: float) -> optax.GradientTransformation:
    """Returns the direction of Muon for convolutional nets.

    A kernel [h, w, in, out] is one matrix of h * w * in rows. Its Nesterov momentum is replaced by an approximation of
    the nearest orthogonal matrix, so that all directions move alike. The result is scaled to a root mean square of 0.2,
    whatever its shape (2502.16982). Other parameters (norms, biases, depthwise kernels) move by Adam at a tenth of the
    learning rate.

    Args:
      momentum: Decay of the average of gradients.
    """
    matrices = optax.chain(optax.trace(momentum, nesterov=True), optax.stateless(_orthogonal_updates))
    others = optax.chain(scale_by_adam(nesterov=True), optax.scale(_ADAM_RATE))
    return optax.partition({"matrix": matrices, "other": others}, functools.partial(jax.tree.map, _label))


def scale_by_adam(momentum: float = 0.9, *, nesterov: bool = False) -> optax.GradientTransformation:
    """Returns Adam's direction, with the decay of its first moment."""
    adam = optax.scale_by_adam(b1=momentum, nesterov=nesterov)

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):  # Optax raises its decays, floats, to the integer count of steps
            return adam.update(updates, state, params)

    return optax.GradientTransformation(adam.init, update)


def orthogonalize(matrix: jax.Array) -> jax.Array:
    """Returns about U V^T of a matrix U S V^T. Newton-Schulz iteration brings its singular values near 1.

    The iteration X <- p(X X^T) X only multiplies X by polynomials of its Gram matrix. So the polynomials are formed on
    the Gram matrix of the shorter side, and X is multiplied once, at the end. A 3x3 kernel is nine times as long as
    wide. For such a matrix this takes 2.5 times fewer operations than iterating on X.

    Args:
      matrix: [m, n], floating point.

    Returns:
      [m, n] of the same dtype; a matrix of zeros stays one.
    """
    chex.assert_rank(matrix, 2)
    x = matrix.astype(jnp.float32)
    x = x / (jnp.linalg.norm(x) + 1e-7)
    tall = x.shape[0] > x.shape[1]
    gram = x.T @ x if tall else x @ x.T
    identity = jnp.eye(gram.shape[0], dtype=x.dtype)
    a, b, c = _COEFFICIENTS
    product = identity
    for step in range(_STEPS):
        polynomial = a * identity + b * gram + c * (gram @ gram)
        product = polynomial if step == 0 else polynomial @ product
        if step + 1 < _STEPS:
            gram = polynomial @ gram @ polynomial
    return (x @ product if tall else product @ x).astype(matrix.dtype)


def _orthogonal_updates(updates: Any, params: Any = None) -> Any:
    del params
    return jax.tree.map(_orthogonal_update, updates)


def _orthogonal_update(update: jax.Array) -> jax.Array:
    matrix = update.reshape(-1, update.shape[-1])
    # An orthogonal [m, n] has a root mean square of 1 / sqrt(max(m, n)).
    return orthogonalize(matrix).reshape(update.shape) * (_RMS * max(matrix.shape) ** 0.5)


def _label(p: jax.Array) -> str:
    return "matrix" if p.ndim > 1 and p.shape[-2] > 1 else "other"
