"""DeepLab v3+ with the options of its authors' code."""

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.models import create_model

SMALL_XCEPTION = {"width_coefficient": 1 / 32, "middle_blocks": 1}
SMALL_RESNET = {"stage_sizes": (1, 1, 1, 1), "width": 4}


def _drawn(model, images):
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(leaf):
        values = rng.standard_normal(leaf.shape, np.float32)
        return values / np.sqrt(np.prod(leaf.shape[:3])) if leaf.ndim == 4 else np.abs(values)

    return jax.tree.map(draw, shapes)


def test_aligned_corners_put_a_map_on_every_fourth_pixel():
    images = np.random.default_rng(1).standard_normal((1, 33, 33, 3), np.float32)
    errors = {}
    for aligned in (True, False):
        options = {"num_classes": 2, "aspp_features": 4, "align_corners": aligned, "backbone": SMALL_RESNET}
        model = create_model("deeplabv3plus_resnet18", **options)
        logits = np.asarray(jax.jit(model.apply)(_drawn(model, images), images))
        between = (logits[:, :-1:4] + logits[:, 4::4]) / 2
        errors[aligned] = np.abs(logits[:, 2::4] - between).max() / np.abs(logits).max()
    assert errors[True] < 1e-5 < 1e-4 < errors[False]


def test_maps_before_their_relu():
    images = np.random.default_rng(1).standard_normal((1, 33, 33, 3), np.float32)
    model = create_model("xception65", num_classes=0, **SMALL_XCEPTION)
    variables = _drawn(model, images)
    behind, before = (
        jax.jit(lambda v, x, net=net: net.apply(v, x, method="features"))(variables, images)
        for net in (model, create_model("xception65", num_classes=0, maps_before_relu=True, **SMALL_XCEPTION))
    )
    assert behind.keys() == before.keys()
    for name in ("stem", "stage1", "stage2", "stage3"):
        assert before[name].min() < 0
        np.testing.assert_allclose(jnp.maximum(before[name], 0), behind[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(before["stage4"], behind["stage4"], rtol=1e-5, atol=1e-6)
