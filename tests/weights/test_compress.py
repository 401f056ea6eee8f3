"""Thin dense layers: all of the rank is the same net, and less of it errs more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import Proposals
from cvjax.weights.compress import compress, thin_layers

OPTIONS = {"num_classes": 2, "backbone": {"channels": (4, 4, 4, 4, 5), "hidden": 12}}


def test_full_rank_is_the_same_net_and_the_error_falls_with_the_rank():
    model = create_model("fast_rcnn_alexnet", **OPTIONS)
    images, sizes = jnp.zeros((1, 70, 80, 3)), jnp.asarray([[70, 80]])
    boxes = jnp.asarray([[[0.0, 0, 50, 60], [20, 10, 80, 70], [30, 30, 45, 50]]])
    inputs = images, sizes, Proposals(boxes, jnp.ones((1, 3), bool))
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32) / len(x) ** 0.5, shapes)
    maps = jnp.abs(jax.random.normal(jax.random.key(1), (1, 5, 5, 5)))

    def classify(net, variables):
        return jax.jit(lambda v: net.apply(v, maps, boxes, method="classify")[0])(variables)

    expected = classify(model, variables)
    errors = []
    for ranks in ((2, 2), (8, 8), (12, 12)):
        thin = create_model("fast_rcnn_alexnet", svd_ranks=ranks, **OPTIONS)
        less = compress(variables, ranks)
        fresh = jax.eval_shape(thin.init, jax.random.key(0), *inputs)
        assert jax.tree.map(jnp.shape, less) == jax.tree.map(jnp.shape, fresh)
        errors.append(float(jnp.abs(classify(thin, less) - expected).max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5 * float(jnp.abs(expected).max()) + 1e-7


def test_layers_are_the_nearest_of_their_rank():
    kernel = np.random.default_rng(0).normal(size=(20, 9)).astype(np.float32)
    values = np.linalg.svd(kernel, compute_uv=False)
    for rank in (1, 4, 9):
        left, right = thin_layers(kernel, rank)
        assert left.shape == (20, rank)
        error = np.linalg.norm(kernel - left @ right)
        np.testing.assert_allclose(error, np.sqrt((values[rank:] ** 2).sum()), atol=1e-4)


def test_errors_name_the_fix():
    with pytest.raises(ConfigError, match="give a rank of 1 to 9, not 10"):
        thin_layers(np.zeros((20, 9)), 10, "fc6")
    with pytest.raises(ConfigError, match="no dense layers"):
        compress({"params": {"backbone": {}}}, (2, 2))
