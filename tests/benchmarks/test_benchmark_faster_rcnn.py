"""A training step of Faster R-CNN: what is drawn, what is trained, and what sides are compared by."""

import faster_rcnn_sides as sides
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paired
import pytest

import cvjax
from cvjax.models.detection.detector import Truth

TINY = {
    "backbone": {"stage_sizes": (1, 1, 1, 1), "width": 8},
    "fpn": {"features": 8},
    "rpn_channels": 8,
    "box_head": {"hidden": 16},
    "rpn_pre_nms_top_n": (40, 20),
    "rpn_post_nms_top_n": (20, 10),
    "rpn_batch_size_per_image": 16,
    "rois_per_image": 8,
}
CASE = {"model": "fasterrcnn_resnet50_fpn", "mode": "training", "classes": 3, "options": TINY}
CASE |= {"batch": 1, "size": [60, 90], "dtype": "float32"}


def test_the_batch_is_padded_by_what_is_zero_when_normalized():
    made, padded = sides.batch_of(CASE), sides.task_batch(CASE)
    assert padded["image"].shape == (1, 64, 96, 3)
    np.testing.assert_allclose(padded["image"][:, :60, :90], 255 * made["image"], rtol=1e-5, atol=1e-3)
    rest = padded["image"][:, 60:] - 255 * sides.MEAN
    np.testing.assert_allclose(rest, 0, atol=1e-4)
    assert padded["size"].tolist() == [[60, 90]]
    boxes = made["boxes"]
    assert boxes.min() >= 0
    assert (boxes[..., 2:] <= [90, 60]).all()
    assert (boxes[..., 2:] - boxes[..., :2] >= 0.0999 * np.asarray([90, 60])).all()


def test_drawn_weights_are_those_of_an_untrained_net():
    assert 0.009 < sides.drawn("rpn.head.conv.0.0.weight", (64, 64, 3, 3)).std() < 0.011
    assert (sides.drawn("backbone.body.layer1.0.bn3.weight", (256,)) == 0.25).all()
    assert (sides.drawn("backbone.body.layer1.0.bn2.weight", (64,)) == 1).all()


def test_draws_are_all_there_are():
    anchors, regions = sides.all_draws({"size": [800, 1066]})
    # Three of every place of maps of strides 4 to 64, of the padded image.
    there = 3 * sum(-(-800 // stride) * -(-1088 // stride) for stride in (4, 8, 16, 32, 64))
    assert anchors / 2 >= there
    assert regions / 2 == 2000 + 8


@pytest.mark.slow
def test_the_engines_step_trains_what_torchvision_trains():
    work = sides.prepare_jax(CASE)
    losses = [float(work.wait(work.step())[1]["loss"]) for _ in range(3)]
    assert np.isfinite(losses).all()
    facts = work.facts()
    assert facts["state"] > 0
    # The compared losses are those of a net that draws everything, whose draws a key does not change.
    model = cvjax.create_model(CASE["model"], num_classes=3, norm={"frozen": True}, **TINY)
    model = model.clone(rpn_batch_size_per_image=20_000, rois_per_image=200, positive_fraction=0.5)
    batch = jax.tree.map(jnp.asarray, sides.task_batch(CASE))
    images = (batch["image"] / 255 - sides.MEAN[None, None, None]) / sides.STD[None, None, None]
    truth = Truth(batch["boxes"], batch["labels"], batch["difficult"], batch["box_valid"])
    shapes = jax.eval_shape(lambda key: model.init(key, images), jax.random.key(0))
    variables = sides.model_sides.flax_variables(CASE["model"], shapes, sides.drawn)

    def total(params):
        found = model.apply(
            variables | {"params": params}, images, batch["size"], truth=truth, train=True,
            rngs={"sample": jax.random.key(7), "dropout": jax.random.key(8)},
        )  # fmt: skip
        return jnp.stack([loss.sum() for loss in found.values()]).sum(), found

    (_, found), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(variables["params"])
    for name in sides.LOSSES:
        np.testing.assert_allclose(work.values[name], float(found[name][0]), rtol=1e-4)
    body = gradients["backbone"]
    trained = {name: leaf for name, leaf in body.items() if not name.startswith(("stem", "stage1"))}
    trained = {name: {k: v for k, v in block.items() if "bn" not in k} for name, block in trained.items()}
    rest = {name: leaf for name, leaf in gradients.items() if name != "backbone"}
    np.testing.assert_allclose(work.values["gradient"], float(optax.tree.norm([trained, rest])), rtol=1e-4)


@pytest.mark.slow
def test_torchvision_computes_the_same():
    pytest.importorskip("torchvision")
    case = {**CASE, "size": [64, 96], "options": {}}
    theirs, ours = sides.prepare_torch(case).values, sides.prepare_jax(case).values
    assert paired.disagreement(ours, theirs, 1e-3) is None
