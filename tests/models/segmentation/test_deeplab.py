"""DeepLab v3 and v3+: options, heads, any size, and equal steps whatever the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.segmentation.aspp import aspp_rates
from cvjax.nn import DATA_AXIS

NAMES = ["deeplabv3_resnet18", "deeplabv3plus_resnet18"]
# Where XLA compiles for long.
ONE_AT_ONCE = [pytest.param(NAMES[0], marks=pytest.mark.slow), NAMES[1]]
TINY = {"num_classes": 3, "backbone": {"width": 8, "stage_sizes": (1, 1, 1, 1)}, "aspp_features": 16}


def _tiny(name, **options):
    return create_model(name, **{**TINY, **options})


def test_rates_follow_the_output_stride():
    assert [aspp_rates(stride) for stride in (8, 16, 32)] == [(12, 24, 36), (6, 12, 18), (3, 6, 9)]
    assert [aspp_rates(stride, (1, 2, 4)) for stride in (8, 16, 32)] == [(2, 4, 8), (1, 2, 4), (1, 1, 2)]
    with pytest.raises(ConfigError, match="8, 16 or 32"):
        aspp_rates(4)
    with pytest.raises(ConfigError, match="at least 1"):
        aspp_rates(16, (0, 1, 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (33, 50), (64, 64)])
def test_logits_have_the_inputs_size_at_every_output_stride(name, size):
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    shapes = []
    for stride in (8, 16, 32):
        model = _tiny(name, output_stride=stride, aux=True)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        shapes.append(jax.tree.map(lambda a: a.shape, variables))
        assert jax.eval_shape(model.apply, variables, images).shape == (2, *size, 3)
        (logits, extra), _ = jax.eval_shape(
            lambda v, x, m=model: m.apply(
                v, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
            ),
            variables,
            images,
        )
        assert logits.shape == extra["aux"].shape == (2, *size, 3)
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("name", NAMES)
def test_backbone_is_a_subtree_of_its_own(name):
    model = _tiny(name, aux=False)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 33, 33, 3)))
    backbone = create_model("resnet18", num_classes=0, width=8, stage_sizes=(1, 1, 1, 1))
    expected = jax.eval_shape(backbone.init, jax.random.key(0), jnp.zeros((2, 33, 33, 3)))
    for collection in ("params", "batch_stats"):
        assert jax.tree.map(lambda a: a.shape, variables[collection]["backbone"]) == jax.tree.map(
            lambda a: a.shape, expected[collection]
        )
    assert "aux_head" not in variables["params"]


def test_v3plus_decoder_options():
    images = jnp.zeros((2, 33, 33, 3))
    sizes = {}
    for separable in (False, True):
        model = _tiny("deeplabv3plus_resnet18", separable_decoder=separable, separable_aspp=separable)
        params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        assert params["low_level"]["conv"]["kernel"].shape[-1] == 48
        sizes[separable] = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes[True] < sizes[False]


@pytest.mark.parametrize("name", ONE_AT_ONCE)
def test_one_training_image_is_refused_unless_frozen(name):
    images = jnp.zeros((1, 33, 33, 3))
    variables = jax.jit(_tiny(name).init)(jax.random.key(0), images)

    def train(model):
        return jax.eval_shape(
            lambda v: model.apply(v, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}),
            variables,
        )

    with pytest.raises(ConfigError, match="at least 2 images"):
        train(_tiny(name))
    train(_tiny(name, norm={"frozen": True}))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_pmap_equals_jit(name):
    """Loss, statistics and gradients of one step, on one device and on two."""
    images = jax.random.normal(jax.random.key(0), (4, 33, 41, 3))
    variables = jax.jit(_tiny(name).init)(jax.random.key(1), images)
    key = jax.random.key(2)

    def step(model, params, images, axis_name=None):
        def loss(params):
            outputs, new = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return sum((leaf**2).mean() for leaf in jax.tree.leaves(outputs)), new

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        results = (value, new["batch_stats"], gradients)
        return results if axis_name is None else jax.lax.pmean(results, axis_name)

    alone = jax.jit(lambda p, x: step(_tiny(name), p, x))(variables["params"], images)
    spread = jax.pmap(
        lambda p, x: step(_tiny(name), p, x, DATA_AXIS),
        axis_name=DATA_AXIS,
        in_axes=(None, 0),
        devices=jax.devices()[:2],
    )(variables["params"], images.reshape(2, 2, *images.shape[1:]))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(spread)):
        scale = max(1e-2, float(np.abs(a).max()))
        np.testing.assert_allclose(b[0], a, atol=1e-3 * scale)
