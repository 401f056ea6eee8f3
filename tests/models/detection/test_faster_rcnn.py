"""Faster R-CNN with narrow nets: losses, gradients, the four steps, detections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import Truth
from cvjax.runtime.compiler import compiler_options
from cvjax.weights import backbone_name

# XLA compiles for longer than these programs run.
compiled = functools.partial(jax.jit, compiler_options=compiler_options("cpu", once=True))
SMALL = {
    "num_classes": 3,
    "rpn_channels": 8,
    "rpn_pre_nms_top_n": (40, 40),
    "rpn_post_nms_top_n": (20, 10),
    "rpn_min_size": 2.0,
    "rpn_batch_size_per_image": 32,
    "rois_per_image": 16,
    "max_detections": 10,
    "score_threshold": 0.0,
}
ONE_MAP = {"anchor_sizes": (16.0, 32.0), "rpn_border": None}
NETS = {
    "faster_rcnn_vgg16": {
        **ONE_MAP,
        "backbone": {"stage_sizes": (1,) * 5, "widths": (4, 4, 8, 8, 8), "hidden": 16},
    },
    "faster_rcnn_zf": {**ONE_MAP, "backbone": {"channels": (4, 4, 8, 8, 8), "hidden": 16}},
    "fasterrcnn_resnet18_fpn": {
        "backbone": {"stage_sizes": (1, 1, 1, 1), "width": 8},
        "box_head": {"hidden": 16},
        "anchor_sizes": (8, 16, 32, 64, 128),
    },
}
VGG = "faster_rcnn_vgg16"
NORMALIZED = (("batch_norm", True),)
IMAGES = jax.random.normal(jax.random.key(5), (2, 64, 64, 3))
BOXES = [[[4, 6, 30, 28], [30, 30, 60, 62], [0, 40, 20, 60]], [[10, 10, 50, 50], [2, 2, 18, 20], [0, 0, 0, 0]]]
GOOD = Truth(
    boxes=jnp.array(BOXES, jnp.float32),
    labels=jnp.array([[0, 1, 2], [2, 0, 0]]),
    ignore=jnp.zeros((2, 3), bool),
    valid=jnp.array([[True, True, True], [True, True, False]]),
)
ODD = {
    "without objects": GOOD._replace(valid=jnp.zeros((2, 3), bool)),
    "crowds alone": GOOD._replace(ignore=jnp.ones((2, 3), bool)),
    "degenerate": GOOD._replace(
        boxes=jnp.array(
            [
                [[5, 5, 5, 40], [30, 30, 20, 10], [-50, -50, -10, -10]],
                [[10, 10, 10, 10], [900, 900, 950, 950], [0, 0, 64, 64]],
            ],
            jnp.float32,
        ),
        valid=jnp.ones((2, 3), bool),
    ),
}


def _net(name, backbone=(), **options):
    net = NETS[name]
    return create_model(name, **{**SMALL, **net, **options, "backbone": {**net["backbone"], **dict(backbone)}})


@functools.cache
def _variables(name, **options):
    return compiled(_net(name, **options).init)(jax.random.key(0), IMAGES)


def _propose(model, variables, sizes=None):
    return compiled(lambda v: model.apply(v, IMAGES, sizes, method="propose"))(variables)


def _step(model):
    """A compiled function of (variables, truth, proposals): losses, gradients, statistics after the step."""

    def total(params, rest, truth, proposals):
        losses, state = model.apply(
            {"params": params, **rest},
            IMAGES,
            truth=truth,
            proposals=proposals,
            train=True,
            mutable=["batch_stats"],
            rngs={"sample": jax.random.key(1), "dropout": jax.random.key(2)},
        )
        return sum(loss.sum() for loss in losses.values()), (losses, state)

    @compiled
    def step(variables, truth, proposals):
        rest = {key: tree for key, tree in variables.items() if key != "params"}
        (_, (losses, state)), gradients = jax.value_and_grad(total, has_aux=True)(
            variables["params"], rest, truth, proposals
        )
        return losses, gradients, state

    return lambda variables, truth, proposals=None: step(variables, truth, proposals)


def _moved(tree):
    """Names of the parts of a tree of gradients that are not all zero."""
    return {name for name, part in tree.items() if any(np.any(leaf) for leaf in jax.tree.leaves(part))}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == VGG else [pytest.mark.slow]) for name in NETS])
def test_every_parameter_learns_and_odd_objects_do_no_harm(name):
    step, variables = _step(_net(name)), _variables(name)
    losses, gradients, _ = step(variables, GOOD)
    assert {key: loss.shape for key, loss in losses.items()} == dict.fromkeys(
        ("rpn_object", "rpn_box", "class", "box"), (2,)
    )
    assert all((np.asarray(loss) > 0).all() for loss in losses.values())
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not (np.isfinite(leaf).all() and np.any(leaf))
    ]
    assert not still
    for kind, truth in ODD.items():
        losses, gradients, _ = step(variables, truth)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((losses, gradients))), kind
    assert not np.any(step(variables, ODD["without objects"])[0]["rpn_box"])
    assert not np.any(step(variables, ODD["crowds alone"])[0]["box"])


@pytest.mark.slow
def test_the_four_steps_leave_alone_what_they_should():
    variables = _variables(VGG, backbone=NORMALIZED)
    proposals = _propose(_net(VGG, backbone=NORMALIZED), variables)
    steps = (
        ({"train_detector": False}, None, {"backbone", "rpn"}),
        ({"train_rpn": False}, proposals, {"backbone", "predictor"}),
        ({"train_detector": False, "freeze_backbone": True}, None, {"rpn"}),
        ({"train_rpn": False, "freeze_backbone": True}, None, {"backbone", "predictor"}),
    )
    for options, given, expected in steps:
        losses, gradients, state = _step(_net(VGG, backbone=NORMALIZED, **options))(variables, GOOD, given)
        assert _moved(gradients) == expected, options
        assert ("rpn_box" in losses, "box" in losses) == (
            options.get("train_rpn", True),
            options.get("train_detector", True),
        )
        if options.get("freeze_backbone"):
            assert _moved(gradients["backbone"]) <= {"head"}  # the dense layers, which are the second stage's
            assert jax.tree.all(jax.tree.map(np.array_equal, dict(state["batch_stats"]), variables["batch_stats"]))


@pytest.mark.slow
def test_the_pyramid_is_frozen_with_its_backbone():
    name = "fasterrcnn_resnet18_fpn"
    model = _net(name, freeze_backbone=True)
    gradients = _step(model)(_variables(name), GOOD)[1]
    assert _moved(gradients) == {"rpn", "box_head", "predictor"}


def test_given_proposals_take_the_place_of_its_own():
    model, variables = _net(VGG), _variables(VGG)
    sizes = jnp.array([[64, 64], [40, 50]])
    proposals = _propose(model, variables, sizes)
    assert proposals.boxes.shape == (2, 10, 4)
    assert proposals.boxes[1].max(axis=0).tolist() <= [50, 40, 50, 40]
    run = compiled(model.apply)
    own, given = run(variables, IMAGES, sizes), run(variables, IMAGES, sizes, proposals)
    assert own.valid.any(axis=1).all()
    for ours, theirs in zip(own, given):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (own.boxes[1].max(axis=0) <= jnp.array([50.0, 40, 50, 40])).all()


def test_published_size_has_losses_and_torchvisions_parameters():
    model = create_model("fasterrcnn_resnet50_fpn", num_classes=90, norm={"frozen": True})
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    losses = jax.eval_shape(
        lambda v, x, t: model.apply(v, x, truth=t, train=True, rngs={"sample": jax.random.key(0)}),
        variables,
        jax.ShapeDtypeStruct((2, 800, 1088, 3), jnp.float32),
        GOOD,
    )
    assert all(loss.shape == (2,) for loss in losses.values())
    # torchvision does not count the scale and bias of BatchNorms that it froze.
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    learnt = [leaf.size for path, leaf in leaves if "bn" not in jax.tree_util.keystr(path)]
    assert sum(learnt) == 41_755_286


def test_deformable_stages_are_an_option():
    model = _net("fasterrcnn_resnet18_fpn", backbone={"deformable": (3, 4), "modulated": True})
    params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]["backbone"]
    deformable = {name for name, block in params.items() if any("offset" in str(path) for path in _paths(block))}
    assert deformable == {"stage3_0", "stage4_0"}


def _paths(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (VGG, {"num_classes": 0}, "at least one class"),
        (VGG, {"rois_per_image": 0}, "at least 1"),
        (VGG, {"bbox_reg_weights": (10.0, 10.0, 0.0, 5.0)}, "above 0"),
        (VGG, {"positive_fraction": 1.5}, "part of the regions"),
        ("fasterrcnn_resnet18_fpn", {"anchor_sizes": (8, 16)}, "5 levels"),
    ],
)
def test_options_that_cannot_be(name, options, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(_net(name, **options).init, jax.random.key(0), IMAGES)


def test_training_needs_the_objects():
    variables = jax.eval_shape(_net(VGG).init, jax.random.key(0), IMAGES)
    with pytest.raises(ConfigError, match="pass truth"):
        jax.eval_shape(lambda v: _net(VGG).apply(v, IMAGES, train=True), variables)


def test_backbones_have_weights_of_classifiers():
    assert backbone_name("fasterrcnn_resnet50_fpn") == "resnet50"
    assert backbone_name("faster_rcnn_vgg16") == "vgg16"
