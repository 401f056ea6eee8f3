"""Models inside NNX: the same outputs as in Linen for one net of each family, and a training step (docs/nnx.md)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn_variables import drawn_variables
from flax import nnx, traverse_util
from flax.nnx import bridge

import cvjax
from cvjax.models.detection.detector import Proposals

_QUICK = {"resnet20_cifar", "unet_resnet18"}
_IMAGES = {
    "alexnet": 224,
    "deeplabv1_largefov_vgg16": 33,
    "deeplabv2_resnet18": 33,
    "deeplabv3_resnet18": 33,
    "deeplabv3plus_resnet18": 33,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "fcn32s_vgg16": 64,
    "googlenet": 64,
    "hypercolumn_vgg16": 64,
    "nin_cifar": 32,
    "resnet20_cifar": 32,
    "seresnet18": 64,
    "unet_resnet18": 64,
    "vgg11_bn": 64,
    "xception41": 64,
    "zfnet_spp": 224,
}
_DETECTORS = ("fast_rcnn_alexnet", "faster_rcnn_zf", "fasterrcnn_resnet18_fpn", "rcnn_alexnet", "sppnet_zf5")


def _in_nnx(model, variables, *inputs):
    """A model as docs/nnx.md puts it into NNX, with given variables."""
    net = nnx.eval_shape(lambda: bridge.ToNNX(model, rngs=nnx.Rngs(0)).lazy_init(*inputs))
    net.to_nnx__rngs = None  # a count of keys that are drawn, which has no value here and no use
    values = {path[1:]: leaf for path, leaf in traverse_util.flatten_dict(variables).items()}
    state = nnx.to_flat_state(nnx.state(net, (nnx.Param, nnx.BatchStat)))
    assert {path for path, _ in state} == set(values)
    nnx.update(net, nnx.from_flat_state([(path, variable.replace(values[path])) for path, variable in state]))
    return net


def _assert_same(model, *inputs):
    variables = drawn_variables(model, *inputs)
    graph, state, rest = nnx.split(_in_nnx(model, variables, *inputs), (nnx.Param, nnx.BatchStat), ...)

    @jax.jit
    def both(variables, state, inputs):
        return model.apply(variables, *inputs), nnx.merge(graph, state, rest)(*inputs)

    linen, ours = both(variables, state, inputs)
    for right, got in zip(jax.tree.leaves(linen), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in _QUICK else [pytest.mark.slow]) for name in _IMAGES]
)
def test_outputs_are_those_of_linen(name):
    images = jax.random.normal(jax.random.key(1), (1, _IMAGES[name], _IMAGES[name], 3))
    _assert_same(cvjax.create_model(name, num_classes=4), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", _DETECTORS)
def test_detections_are_those_of_linen(name):
    model = cvjax.create_model(name, num_classes=4)
    images = jax.random.normal(jax.random.key(1), (1, 96, 96, 3))
    proposals = Proposals(jnp.asarray([[[8.0, 8.0, 60.0, 70.0], [20.0, 4.0, 90.0, 50.0]]]), jnp.ones((1, 2), bool))
    given = (proposals,) if getattr(model, "needs_proposals", False) else ()
    _assert_same(model, images, jnp.asarray([[96, 96]]), *given)


@pytest.mark.slow
def test_yolos_detections_are_those_of_linen():
    model = cvjax.create_model("yolov1_tiny", num_classes=4)
    images = jax.random.normal(jax.random.key(1), (1, 448, 448, 3))
    _assert_same(model, images, jnp.asarray([[448, 448]]))


@pytest.mark.slow
def test_a_training_step_is_linens():
    """Loss, gradients (through one step of SGD) and BatchNorm's statistics.

    In float64, as the two programs sum in different orders: where that turns a ReLU, gradients differ at once.
    """
    with jax.enable_x64(True):
        _compare_training_steps()


def _compare_training_steps():
    model = cvjax.create_model("resnet20_cifar", num_classes=4, dtype=jnp.float64)
    images, labels = jax.random.normal(jax.random.key(1), (4, 32, 32, 3), jnp.float64), jnp.asarray([0, 1, 2, 3])
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), drawn_variables(model, images))
    net = _in_nnx(model, variables, images)
    optimizer = nnx.Optimizer(net, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        def loss(net):
            logits = net(images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradients = nnx.value_and_grad(loss)(net)
        optimizer.update(net, gradients)
        return value

    @jax.jit
    def in_linen(variables):
        def loss(params):
            given = {**variables, "params": params}
            logits, updates = model.apply(given, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates

        (value, updates), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradients), updates["batch_stats"]

    value, params, statistics = in_linen(variables)
    np.testing.assert_allclose(step(net, optimizer), value, rtol=1e-12)
    after = dict(nnx.to_flat_state(nnx.state(net, (nnx.Param, nnx.BatchStat))))
    expected = traverse_util.flatten_dict(params) | traverse_util.flatten_dict(statistics)
    assert set(after) == set(expected)
    for path, right in expected.items():
        np.testing.assert_allclose(after[path][...], right, rtol=1e-9, atol=1e-9, err_msg=str(path))
