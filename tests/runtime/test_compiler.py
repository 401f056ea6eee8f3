"""Compiler options: where they apply, and that they keep the numbers."""

import math
import threading

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.ops.conv import conv2d
from cvjax.runtime import compiler as compiling
from cvjax.runtime.compiler import Programs, compiled, compiler_options, expected_runs, runs


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


def test_a_program_that_was_compiled_ahead_is_the_one_that_runs():
    traced = []

    def program(x):
        traced.append(x.shape)
        return 2 * x

    programs = Programs(compiled(program))
    thread = threading.Thread(target=programs.ahead, args=(np.zeros((3, 2), np.float32),), kwargs={"runs": 4})
    thread.start()
    thread.join()
    programs.ahead(np.zeros((3, 2), np.float32))
    np.testing.assert_array_equal(programs(np.ones((3, 2), np.float32)), np.full((3, 2), 2))
    assert traced == [(3, 2)]
    np.testing.assert_array_equal(programs(np.ones(5, np.float32)), np.full(5, 2))
    assert traced == [(3, 2), (5,)]


def test_programs_of_a_few_runs_are_made_of_what_compiles_soon():
    """Convolutions from tiles take XLA long; their numbers are those of the others."""
    x = jax.random.normal(jax.random.key(0), (2, 48, 48, 64))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 64, 64))

    def lowered(count):
        with compiling.unstored(), expected_runs(count):
            assert runs() == count
            return jax.jit(lambda x, kernel: conv2d(x, kernel, padding=((1, 1), (1, 1)))).lower(x, kernel)

    assert runs() == math.inf
    often, seldom = lowered(math.inf), lowered(3)
    assert runs() == math.inf
    assert len(often.as_text()) > 3 * len(seldom.as_text())
    ours, theirs = (program.compile()(x, kernel) for program in (seldom, often))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * float(jnp.abs(ours).max()))
