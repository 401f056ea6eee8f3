"""NIN: one map a class, and its mean as the logit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model


def test_logits_are_the_means_of_one_map_a_class():
    model = create_model("nin_cifar", num_classes=7)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    logits, variables = jax.jit(model.init_with_output)(jax.random.key(1), images)
    maps = jax.jit(lambda x: model.apply(variables, x, method="features"))(images)
    assert [maps[f"mlpconv{i}"].shape[1:] for i in (1, 2, 3)] == [(32, 32, 96), (16, 16, 192), (8, 8, 7)]
    np.testing.assert_allclose(logits, maps["mlpconv3"].mean((1, 2)), atol=1e-6)
    assert not any("Dense" in name or "head" in name for name in variables["params"])


def test_imagenet_maps_have_the_published_sizes():
    model = create_model("nin", num_classes=1000)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert [maps[f"mlpconv{i}"].shape[1] for i in (1, 2, 3, 4)] == [54, 27, 13, 6]


def test_pixels_are_dropped_in_training_alone():
    model = create_model("nin_cifar", num_classes=3)
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    keys = {"dropout": jax.random.key(2)}
    plain, dropped = (jax.jit(lambda v, t=t: model.apply(v, images, t, rngs=keys))(variables) for t in (False, True))
    assert jnp.abs(plain - dropped).max() > 0


def test_too_small_images():
    with pytest.raises(ConfigError, match="67x67"):
        create_model("nin", num_classes=2).init(jax.random.key(0), jnp.zeros((1, 50, 50, 3)))
