"""What keeps XLA from merging work: values stay, and the compiled programs show that it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.ops.cpu.apart import computed_apart
from cvjax.ops.recompute import recomputed
from cvjax.runtime.compiler import unstored


@pytest.mark.parametrize("first", [0.0, -0.0, 1.5, -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_computed_apart_gives_what_the_function_gives(first, dtype):
    x = jnp.asarray([[first, 2.0], [3.0, 4.0]], dtype)
    y = jnp.ones((2,), dtype)
    got = jax.jit(lambda x, y: computed_apart(lambda x, y: x * 2 + y[None], x, y))(x, y)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(jnp.float32), (x * 2 + 1).astype(jnp.float32))


def test_computed_apart_is_no_part_of_the_loops_that_read_it():
    def two_readers(x, apart):
        once = computed_apart(jnp.sin, x) if apart else jnp.sin(x)
        return once.sum(0) + 1, once * 2

    x = jnp.ones((64, 64))
    texts = [jax.jit(two_readers, static_argnums=1).lower(x, apart).compile().as_text() for apart in (False, True)]
    assert ["conditional(" in text for text in texts] == [False, True]
    assert texts[1].count("sine(") == 1


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize("first", [0.0, -3.0, np.inf, -np.inf])
def test_recomputed_is_the_same_array(first):
    x = jnp.asarray([0.0, -0.0, np.inf, 5.0])
    got = jax.jit(recomputed)(x, jnp.asarray([[first, np.nan]]))
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(jax.jit(recomputed)(x, jnp.zeros((0, 3))), x)


def test_what_is_recomputed_is_computed_twice():
    """In programs of this process; XLA for CPU merges it in others."""

    def twice(x, ct, again):
        return x @ x, (recomputed(x, ct) @ x if again else x @ x) + ct

    x = jnp.ones((32, 32))
    with unstored():
        texts = [jax.jit(twice, static_argnums=2).lower(x, x, again).compile().as_text() for again in (False, True)]
    assert [text.count(" dot(") for text in texts] == [1, 2]
