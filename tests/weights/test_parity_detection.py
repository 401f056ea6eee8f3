"""Faster R-CNN under torchvision's weights: the same maps, proposals, detections and losses."""

import functools
import json

import _reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Agreement

from cvjax.models import create_model
from cvjax.models.detection.detector import Truth
from cvjax.ops.detection.anchors import pyramid_anchors
from cvjax.runtime.compiler import compiler_options
from cvjax.weights import from_torch, to_torch

LEVELS = ("0", "1", "2", "3", "pool")
NAME = "fasterrcnn_resnet18_fpn"
# As tests/golden/make_faster_rcnn.py builds it.
NARROW = {
    "num_classes": 5,
    "backbone": {"stage_sizes": (1, 1, 1, 1)},
    "rpn_channels": 32,
    "box_head": {"hidden": 64},
    "anchor_sizes": (8, 16, 32, 64, 128),
    "rpn_pre_nms_top_n": (100, 100),
    "rpn_post_nms_top_n": (50, 50),
    "rpn_batch_size_per_image": 10_000,
    "rois_per_image": 128,
    "positive_fraction": 0.5,
    "max_detections": 40,
    "norm": {"frozen": True},
}
SCALED = (
    "rpn.head.cls_logits",
    "rpn.head.bbox_pred",
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
)
TRUTH = Truth(
    boxes=jnp.array(
        [[[10, 12, 42, 40], [50, 20, 90, 60], [5, 45, 20, 60]], [[30, 8, 70, 56], [0, 0, 14, 18], [0, 0, 0, 0]]],
        jnp.float32,
    ),
    labels=jnp.array([[0, 3, 1], [4, 2, 0]]),
    ignore=jnp.zeros((2, 3), bool),
    valid=jnp.array([[True, True, True], [True, True, False]]),
)


def _proposing(model, images):
    """The pyramid, and scores and deltas of each of its levels; as a method of the model."""
    maps = model._maps(images, False)
    return maps, [model.rpn(features) for features in maps]


@pytest.fixture(scope="module")
def narrow():
    """(state dict, outputs of torchvision, model, variables) of the narrow net."""
    state, outputs = _load_narrow()
    model = create_model(NAME, **NARROW)
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return state, outputs, model, from_torch(NAME, state, shapes)


def _load_narrow():
    keys = json.loads((reference.GOLDEN / "faster_rcnn.keys.json").read_text())
    with np.load(reference.GOLDEN / "faster_rcnn.npz") as archive:
        outputs = dict(archive)
    starts = {"running_mean": np.zeros, "running_var": np.ones}
    statistics = {
        key: make(shape, np.float32)
        for key, shape in keys.items()
        for ending, make in starts.items()
        if key.endswith(ending)
    }
    state = reference.rebuild(keys, statistics)
    for prefix, scale in zip(SCALED, outputs["scales"]):
        for key in (f"{prefix}.weight", f"{prefix}.bias"):
            state[key] = (state[key] * np.float32(scale)).astype(np.float32)
    return state, outputs


@pytest.mark.slow
def test_narrow_net_detects_and_loses_what_torchvisions_does(narrow):
    _, outputs, model, variables = narrow
    images = reference.images((2, 64, 96, 3))

    # XLA compiles for longer than this runs.
    @functools.partial(jax.jit, compiler_options=compiler_options("cpu", once=True))
    def run(variables, images):
        losses = model.apply(variables, images, truth=TRUTH, train=True, rngs={"sample": jax.random.key(0)})
        return model.apply(variables, images, method=_proposing), model.apply(variables, images), losses

    (maps, heads), found, losses = run(variables, images)
    for level, features, (scores, deltas) in zip(LEVELS, maps, heads):
        assert reference.relative_error(features[..., :2], outputs[f"fpn_{level}"]) < 1e-4
        expected = outputs[f"rpn_objectness_{level}"]
        assert reference.relative_error(scores[0].reshape(expected.shape), expected) < 1e-4
        expected = outputs[f"rpn_deltas_{level}"]
        assert reference.relative_error(deltas[0].reshape(expected.shape), expected) < 1e-4
    for i in range(2):
        count = len(outputs[f"scores_{i}"])
        assert int(found.valid[i].sum()) == count
        np.testing.assert_allclose(found.scores[i, :count], outputs[f"scores_{i}"], atol=1e-4)
        np.testing.assert_array_equal(found.classes[i, :count] + 1, outputs[f"labels_{i}"])
        np.testing.assert_allclose(found.boxes[i, :count], outputs[f"boxes_{i}"], atol=1e-2)
    ours = np.stack([losses[name] for name in ("rpn_object", "rpn_box", "class", "box")], axis=-1)
    np.testing.assert_allclose(ours, outputs["losses"], rtol=1e-3)


def test_state_dict_there_and_back(narrow):
    state, _, _, variables = narrow
    exported = to_torch(NAME, variables)
    assert exported.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(exported[key], array, err_msg=key)


def test_older_names_of_published_files_are_known(narrow):
    state, _, _, variables = narrow
    renames = (("inner_blocks.%d.0", "inner_blocks.%d"), ("layer_blocks.%d.0", "layer_blocks.%d"))
    older = {}
    for key, array in state.items():
        for new, old in renames:
            for i in range(4):
                key = key.replace(f"{new % i}.", f"{old % i}.")
        older[key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = array
    assert older.keys() != state.keys()
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), variables)
    read = from_torch(NAME, older, shapes)
    assert jax.tree.all(jax.tree.map(np.array_equal, read, variables))


def test_other_classes_replace_both_last_layers(narrow):
    state, _, _, variables = narrow
    model = create_model(NAME, **NARROW | {"num_classes": 2})
    fresh = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    adapted = from_torch(NAME, state, fresh, adapt=True)
    assert adapted["params"]["predictor"]["deltas"]["kernel"].shape == (64, 12)
    for part in ("classes", "deltas"):
        np.testing.assert_array_equal(
            adapted["params"]["predictor"][part]["kernel"], fresh["params"]["predictor"][part]["kernel"]
        )
    np.testing.assert_array_equal(
        adapted["params"]["box_head"]["fc6"]["kernel"], variables["params"]["box_head"]["fc6"]["kernel"]
    )


@pytest.mark.slow
def test_full_net_agrees_with_torchvision(shared_dir):
    state, outputs = reference.load(shared_dir / "reference", "fasterrcnn_resnet50_fpn")
    model = create_model("fasterrcnn_resnet50_fpn", num_classes=90)
    variables = from_torch("fasterrcnn_resnet50_fpn", state)
    images, boxes = reference.images((2, 128, 160, 3)), outputs["boxes"]

    def parts(model, images, boxes):
        maps, heads = _proposing(model, images)
        return maps, heads, model._second_stage(maps, boxes, False)

    run = jax.jit(lambda v, x, b: model.apply(v, x, b, method=parts))
    maps, heads, (logits, deltas) = run(variables, images, boxes)
    agrees = Agreement("reference/fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn", "torchvision")
    for level, features, (scores, moves) in zip(LEVELS, maps, heads):
        for ours, key in ((features[..., :8], "fpn"), (scores, "rpn_objectness"), (moves, "rpn_deltas")):
            expected = outputs[f"{key}_{level}"]
            agrees(ours.reshape(expected.shape), expected)
    anchors = pyramid_anchors((128, 160), [features.shape[1:3] for features in maps])
    np.testing.assert_array_equal(np.concatenate(anchors), outputs["anchors"])
    agrees(logits.reshape(32, 91), outputs["class_logits"])
    agrees(deltas.reshape(32, 364), outputs["box_deltas"])
