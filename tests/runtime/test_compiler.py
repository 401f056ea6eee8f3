"""Compiler options: where they apply, and that they keep the numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.runtime import compiler as compiling
from cvjax.runtime.compiler import compiler_options


def test_other_platforms_get_none():
    assert compiler_options("tpu") == compiler_options("cuda") == {}


def test_a_program_that_runs_once_draws_the_same_numbers():
    def draw(key):
        return jax.random.normal(key, (64, 3)), jax.random.uniform(key, (7,))

    quick = jax.jit(draw, compiler_options=compiler_options("cpu", once=True))(jax.random.key(5))
    for got, expected in zip(quick, jax.jit(draw)(jax.random.key(5))):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_options_that_jaxlib_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "_CPU", {"xla_cpu_of_another_year": "1"})
    assert compiler_options("cpu") == {}


def test_a_convolution_keeps_its_numbers():
    def program(x, kernel):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y, y.mean((0, 1, 2))

    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 8))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 8, 8))
    ours = jax.jit(program, compiler_options=compiler_options("cpu"))(x, kernel)
    for got, expected in zip(ours, jax.jit(program)(x, kernel)):
        np.testing.assert_allclose(got, expected, atol=1e-5 * float(jnp.abs(expected).max()))
