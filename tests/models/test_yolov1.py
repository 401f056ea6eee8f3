"""YOLO: layers as published, detections, losses, image sizes, and weights of its classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import Truth
from cvjax.models.detection.yolo_grid import Grid, Predictions, decode, encode
from cvjax.nn import DATA_AXIS
from cvjax.ops.detection.boxes import pairwise_iou
from cvjax.weights import warm_start

LOSSES = {"coordinates", "sizes", "objectness", "no_object", "classes"}
# Cells of 4 pixels.
SMALL = {
    "backbone": {"stages": (((3, 4, 2),), ((3, 8, 1),))},
    "neck": ((3, 8, 1),),
    "grid": (3, 4),
    "hidden": 16,
    "max_detections": 9,
}
IMAGES = jax.random.normal(jax.random.key(0), (2, 12, 16, 3))
RNGS = {"sample": jax.random.key(2), "dropout": jax.random.key(3)}


def _small(**options):
    return create_model("yolov1", num_classes=3, **SMALL | options)


def _truth(images=2):
    boxes = jnp.array([[[1.0, 1, 7, 7], [2, 2, 6, 6.5], [9, 3, 15, 11], [0, 0, 0, 0]]] * images)
    labels = jnp.array([[0, 1, 2, 0]] * images)
    return Truth(boxes, labels, jnp.zeros((images, 4), bool), jnp.array([[True, True, True, False]] * images))


@pytest.fixture(scope="module")
def small():
    model = _small()
    return model, jax.jit(model.init)(jax.random.key(1), IMAGES)


def _count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "convolutions", "dense"),
    [("yolov1", 24, {"fc1": 4096, "output": 1470}), ("yolov1_tiny", 9, {"fc0": 256, "fc1": 4096, "output": 1470})],
)
def test_layers_are_the_published_ones(name, convolutions, dense):
    model = create_model(name, num_classes=20)
    images = jax.ShapeDtypeStruct((1, 448, 448, 3), jnp.float32)
    found, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    params = variables["params"]
    assert sum("conv" in layer for part in (params, params["backbone"]) for layer in part.values()) == convolutions
    assert {layer: params[layer]["bias"].size for layer in params if "bias" in params[layer]} == dense
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert maps["neck"].shape == (1, 7, 7, 1024)
    assert found.boxes.shape == (1, 100, 4)
    assert found.classes.dtype == jnp.int32
    # The classifier's convolutions, without its dense layer.
    classifier = create_model(f"darknet_{name}", num_classes=1000)
    whole = jax.eval_shape(classifier.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    assert _count(params["backbone"]) == _count(whole["params"]) - 1025 * 1000


def test_detections_are_the_truth_where_the_net_says_so(small):
    model, variables = small
    grid = Grid(3, 4, 4, 12, 16)
    truth = jax.tree.map(lambda a: a[0], _truth(1))
    size = jnp.array([12, 16])
    targets = encode(truth, size, grid)
    # Each cell's other box is almost the same with less confidence, so it is suppressed; empty cells say less than 0.
    boxes = jnp.stack([targets.boxes * 0.99, targets.boxes], axis=2)
    confidence = jnp.where(targets.occupied[..., None], jnp.array([[[0.4, 0.9]]]), -1.0)
    classes = jnp.where(targets.occupied[..., None], jax.nn.one_hot(targets.labels, 3), -1.0)
    said = Predictions(boxes, confidence, classes)
    found = jax.jit(lambda v, p: model.apply(v, p, size, grid, method=lambda m, *args: m._detect(*args)))(
        variables, said
    )
    # The second object shares its cell with the first.
    assert found.valid.tolist() == [True, True] + [False] * 7
    np.testing.assert_allclose(found.scores, [0.9, 0.9] + [0] * 7, rtol=1e-6)
    assert sorted(found.classes[:2].tolist()) == [0, 2]
    by_class = found.boxes[:2][jnp.argsort(found.classes[:2])]
    np.testing.assert_allclose(by_class, truth.boxes[jnp.array([0, 2])], atol=1e-4)
    assert not found.boxes[2:].any()
    assert not found.classes[2:].any()


def test_detections_of_a_net_are_sorted_clipped_and_suppressed(small):
    model, variables = small
    # Larger outputs, so that many boxes overlap.
    kernel = variables["params"]["output"]["kernel"] * 100
    params = variables["params"] | {"output": {"kernel": kernel, "bias": jnp.full(kernel.shape[1], 0.5)}}
    sizes = jnp.array([[12, 16], [7, 9]])
    found = jax.jit(model.apply)({"params": params}, IMAGES, sizes)
    said = jax.jit(lambda v, x: model.apply(v, x, method="predict"))({"params": params}, IMAGES)
    assert found.valid.any(axis=1).all()
    for image, (height, width) in enumerate(sizes.tolist()):
        boxes, scores, classes, valid = (np.asarray(array[image]) for array in found)
        assert (np.diff(scores) <= 0).all()
        assert (np.diff(valid.astype(int)) <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        same = (classes[:, None] == classes) & valid[:, None] & valid & ~np.eye(9, dtype=bool)
        assert not (same & (np.asarray(pairwise_iou(boxes, boxes)) > 0.5)).any()
        products = jax.nn.relu(said.confidence[image])[..., None] * jax.nn.relu(said.classes[image])[:, :, None]
        whole = np.asarray(decode(said.boxes[image], Grid(3, 4, 4, 12, 16)))
        inside = (whole[..., 0] < width) & (whole[..., 1] < height) & (whole[..., 2] > 0) & (whole[..., 3] > 0)
        np.testing.assert_allclose(scores[0], products[inside].max(), rtol=1e-5)


def test_losses_are_of_each_image_and_their_gradients_finite(small):
    model, variables = small

    @jax.jit
    def losses(variables, images, truth, key):
        return model.apply(variables, images, truth=truth, train=True, rngs=RNGS | {"sample": key})

    key = jax.random.key(4)
    both = losses(variables, IMAGES, _truth(), key)
    assert both.keys() == LOSSES
    assert all(value.shape == (2,) for value in both.values())
    other = losses(variables, IMAGES.at[1].set(0), _truth(), key)
    for name, value in both.items():
        assert value[0] == other[name][0]
        assert value[1] != other[name][1]

    def total(variables, truth):
        return sum(value.sum() for value in losses(variables, IMAGES, truth, key).values())

    nothing = _truth()._replace(valid=jnp.zeros((2, 4), bool))
    for truth in (_truth(), nothing, _truth()._replace(boxes=jnp.zeros((2, 4, 4)))):
        gradients = jax.tree.leaves(jax.jit(jax.grad(total))(variables, truth))
        assert all(np.isfinite(leaf).all() for leaf in gradients)
        assert any(leaf.any() for leaf in gradients)
    # Of the two objects in the cell (1, 1) now the one is learnt, now the other.
    drawn = {float(losses(variables, IMAGES, _truth(), jax.random.key(seed))["sizes"][0]) for seed in range(12)}
    assert len(drawn) == 2


def test_the_choice_of_objects_does_not_depend_on_the_devices(small):
    model, variables = small
    one = jax.jit(lambda v, x, t: model.apply(v, x, truth=t, train=True, rngs=RNGS))(variables, IMAGES, _truth())
    # Devices are stood for by a mapped axis, with an image each.
    each = jax.vmap(lambda x, t: model.apply(variables, x, truth=t, train=True, rngs=RNGS), axis_name=DATA_AXIS)
    split = jax.tree.map(lambda a: a[:, None], (IMAGES, _truth()))
    for name, value in jax.jit(each)(*split).items():
        np.testing.assert_allclose(value[:, 0], one[name], rtol=1e-5, err_msg=name)


def test_images_without_room_for_objects_have_losses(small):
    model, variables = small
    empty = Truth(jnp.zeros((2, 0, 4)), *(jnp.zeros((2, 0), kind) for kind in (int, bool, bool)))
    found = jax.jit(lambda v: model.apply(v, IMAGES, truth=empty, train=True, rngs=RNGS))(variables)
    assert all(value.shape == (2,) for value in found.values())
    assert float(found["classes"].sum()) == 0
    assert float(found["no_object"].sum()) > 0


def test_sizes_that_give_the_grid_and_errors_for_others(small):
    model, variables = small
    shapes = jax.eval_shape(model.apply, variables, jnp.zeros((1, 9, 13, 3)))
    assert shapes.boxes.shape == (1, 9, 4)
    with pytest.raises(ConfigError, match=r"9x13 to 12x16 pixels, not 12x20; the nearest size is 12x16.*grid=\(3, 5\)"):
        jax.eval_shape(model.apply, variables, jnp.zeros((1, 12, 20, 3)))
    with pytest.raises(ConfigError, match="385x385 to 448x448 pixels, not 224x500; the nearest size is 385x448"):
        jax.eval_shape(create_model("yolov1", num_classes=2).init, jax.random.key(0), jnp.zeros((1, 224, 500, 3)))


def test_a_fully_convolutional_net_takes_any_size_and_moves_with_the_image():
    model = _small(fully_convolutional=True, batch_norm=True)
    variables = jax.jit(model.init)(jax.random.key(1), IMAGES)
    predict = jax.jit(lambda x: model.apply(variables, x, method="predict"))
    image = jnp.zeros((1, 40, 36, 3)).at[:, 16:20, 12:16].set(1.0)
    here, there = predict(image), predict(jnp.roll(image, (8, 4), (1, 2)))
    assert here.boxes.shape == (1, 10, 9, 2, 4)
    for ours, theirs in zip(here, there):
        np.testing.assert_allclose(ours[:, 2:7, 2:6], theirs[:, 4:9, 3:7], atol=1e-5)
    grid = Grid(10, 9, 4, 12, 16)
    assert decode(here.boxes[0], grid).shape == (10, 9, 2, 4)
    assert jax.eval_shape(model.apply, variables, image).boxes.shape == (1, 9, 4)


def test_a_detector_starts_from_a_classifier():
    options = {**SMALL["backbone"], "batch_norm": True}
    classifier = create_model("darknet_yolov1", num_classes=5, **options)
    source = jax.jit(classifier.init)(jax.random.key(7), IMAGES)
    model = _small(batch_norm=True)
    fresh = jax.jit(model.init)(jax.random.key(1), IMAGES)
    started = warm_start(fresh, source)
    maps, expected = (
        jax.jit(lambda v, m=net: m.apply(v, IMAGES, method="features")["stage2"])(weights)
        for net, weights in ((model, started), (classifier, source))
    )
    np.testing.assert_array_equal(maps, expected)
    for layer in ("necks_0", "fc1", "output"):
        jax.tree.map(np.testing.assert_array_equal, started["params"][layer], fresh["params"][layer])
    with pytest.raises(CheckpointError, match="backbones differ"):
        warm_start(jax.eval_shape(_small(width=2.0).init, jax.random.key(1), IMAGES), source)


def test_the_tiny_classifier_halves_its_map_between_stages():
    model = create_model("darknet_yolov1_tiny", num_classes=4, width=0.25)
    images = jax.ShapeDtypeStruct((1, 97, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert [maps[f"stage{i}"].shape[1:] for i in (1, 2, 7)] == [(97, 64, 4), (49, 32, 8), (2, 1, 256)]


def test_wrong_calls_name_the_fix(small):
    model, variables = small
    with pytest.raises(ConfigError, match="truth"):
        model.apply(variables, IMAGES, train=True, rngs=RNGS)
    with pytest.raises(ConfigError, match="without proposals"):
        model.apply(variables, IMAGES, proposals=())
    with pytest.raises(ConfigError, match="squeeze"):
        _small(fully_convolutional=True, squeeze=8).init(jax.random.key(0), IMAGES)
