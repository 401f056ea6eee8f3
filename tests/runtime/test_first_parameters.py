"""Drawing first parameters: the numbers of a program for the whole function, whatever the function draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.nn import initializers

import cvjax
from cvjax.runtime import drawing
from cvjax.runtime.compiler import compiler_options
from cvjax.runtime.drawing import draw, fill
from cvjax.runtime.formulas import constant_of, formula_of, values_of

WHOLE = functools.partial(jax.jit, compiler_options=compiler_options("cpu", once=True))


def assert_drawn_as_whole(function, key):
    got, expected = draw(function, key), WHOLE(function)(key)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def kinds_of(function):
    """How each result is made: "constant", "formula", or "rest"."""
    values = values_of(jax.make_jaxpr(function)(jax.random.key(0)))[1]
    return ["constant" if constant_of(x) is not None else "formula" if formula_of(x) else "rest" for x in values]


@pytest.mark.parametrize(
    "initializer",
    [
        initializers.lecun_normal(),
        initializers.variance_scaling(2.0, "fan_out", "normal"),
        initializers.glorot_uniform(),
        initializers.normal(0.01),
        initializers.truncated_normal(0.2, lower=-1.0),
        initializers.uniform(0.3),
    ],
)
# Below, at and above the length of a row, and one number.
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (256, 256), (3, 150, 160), (1, 1)])
def test_initializers_of_any_shape(initializer, shape):
    def function(key):
        return {"a": initializer(jax.random.fold_in(key, 7), shape), "b": initializer(key, shape[::-1])}

    assert kinds_of(function) == ["formula", "formula"]
    assert_drawn_as_whole(function, jax.random.key(3))


def test_what_is_no_formula_of_bits():
    def function(key):
        first, second = jax.random.split(key)
        normal = jax.random.normal(first, (3, 5))
        return {
            "orthogonal": initializers.orthogonal()(second, (6, 6)),
            "half": normal.astype(jnp.bfloat16),
            "of_two": normal + jax.random.uniform(second, (3, 5)),
            "of_the_sum": normal / jnp.sum(jnp.square(normal)),
            "numbers": jax.random.randint(first, (9,), 0, 5),
            "zeros": jnp.zeros((2, 3)),
            "negative_zero": jnp.full((2,), -0.0),
            "table": jnp.asarray(np.arange(6.0, dtype=np.float32)),
            "computed": jnp.arange(4) * 2,
            "transposed": normal.T,
        }

    assert set(kinds_of(function)) == {"constant", "formula", "rest"}
    assert_drawn_as_whole(function, jax.random.key(11))


def test_what_the_parameters_do_not_need_is_not_compiled():
    def function(key):
        drawn = jax.random.normal(key, (4, 4))
        jax.pure_callback(lambda x: pytest.fail("this was run"), drawn, drawn)
        return drawn, jnp.zeros(3)

    assert kinds_of(function) == ["formula", "constant"]
    draw(function, jax.random.key(0))


@pytest.mark.parametrize("name", ["resnet20_cifar", "efficientnet_b0"])
def test_a_net(name):
    model = cvjax.create_model(name, num_classes=3)

    def init(key):
        return model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)

    assert "rest" not in kinds_of(init)
    assert_drawn_as_whole(init, jax.random.key(1))


def test_keys_of_another_kind_are_drawn_by_one_program():
    key = jax.random.key(2, impl="rbg")
    assert_drawn_as_whole(lambda key: jax.random.normal(key, (40,)), key)


def test_other_platforms_compile_the_whole(monkeypatch):
    monkeypatch.setattr(drawing, "compiler_options", lambda platform, once: {})

    def function(key):
        return jax.random.normal(key, (40,))

    np.testing.assert_array_equal(draw(function, jax.random.key(2)), jax.jit(function)(jax.random.key(2)))


def test_a_mistake_is_raised_as_it_is():
    with pytest.raises(TypeError, match="contracting dimensions"):
        draw(lambda key: jax.random.normal(key, (3,)) @ jnp.zeros((4, 4)), jax.random.key(0))


def test_what_is_drawn_may_be_given_away():
    """The training step consumes its state: no array may be a part of another one, nor of a constant."""
    table = np.arange(6.0, dtype=np.float32)

    def function(key):
        return [jax.random.normal(jax.random.fold_in(key, n), (64,)) for n in range(3)] + [jnp.asarray(table)]

    drawn = draw(function, jax.random.key(0))
    kept = [np.array(x) for x in drawn]
    jax.jit(lambda x: x * 0 + 1, donate_argnums=0)(drawn[1]).block_until_ready()
    jax.jit(lambda x: x * 0 + 1, donate_argnums=0)(drawn[3]).block_until_ready()
    for number in (0, 2):
        np.testing.assert_array_equal(drawn[number], kept[number])
    np.testing.assert_array_equal(table, kept[3])


def test_an_optimizers_memory_is_filled_without_programs():
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16), "n": np.float32(2)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1), optax.scale_by_rms(initial_scale=0.5))

    def start(params):
        return {"step": jnp.zeros((), jnp.int32), "params": params, "memory": optimizer.init(params)}

    filled, expected = fill(start, params), start(params)
    assert jax.tree.structure(filled) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(filled), jax.tree.leaves(expected)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert filled["params"]["w"] is params["w"]
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(filled["memory"]))


def test_what_is_neither_a_constant_nor_an_argument_is_computed():
    weights = jnp.arange(4.0)
    filled = fill(lambda w: {"copy": jnp.copy(w), "twice": w * 2, "same": w}, weights)
    np.testing.assert_array_equal(filled["twice"], [0, 2, 4, 6])
    np.testing.assert_array_equal(filled["copy"], weights)
    assert filled["same"] is weights
    assert filled["copy"].unsafe_buffer_pointer() != weights.unsafe_buffer_pointer()
