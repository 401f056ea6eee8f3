"""Segmenters in both frameworks: the layout of weights, labels that do not count, and what a step computes."""

import jax
import jax.numpy as jnp
import model_sides
import numpy as np
import pytest
import segmenters
from torch_names import LAYOUTS

import cvjax
from cvjax.weights.convert import leaf_shapes

UNET = {"task": "segmentation", "model": "unet", "options": {"width": 4, "depth": 2, "norm": {"momentum": 0.95}}}
UNET |= {"classes": 5, "batch": 2, "size": [18, 24], "dtype": "float32"}


def shapes_of(name, options):
    model = cvjax.create_model(name, num_classes=11, **options)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 64, 64, 3)))


@pytest.mark.parametrize("net", segmenters.NETS)
def test_the_layout_names_every_parameter_of_torchs_net(net):
    name, options = segmenters.NETS[net]
    shapes = shapes_of(name, options)
    ours = leaf_shapes(shapes, LAYOUTS[name])
    assert len(ours) == len(jax.tree.leaves(shapes))  # none is nameless, no two share a name
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        theirs = model_sides.torch_net({"model": name, "options": options, "classes": 11}).state_dict()
    shared = {key: tuple(tensor.shape) for key, tensor in theirs.items() if not key.endswith("num_batches_tracked")}
    layout = LAYOUTS[name]
    assert {key: layout.to_torch(key, np.zeros(shape)).shape for key, shape in ours.items()} == shared


def test_weights_are_drawn_under_torchs_names():
    variables = model_sides.flax_variables("unet", shapes_of("unet", {"width": 4, "depth": 2}))
    params = variables["params"]
    second = model_sides.drawn("down.1.3.weight", (8, 8, 3, 3)).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["down_1_1"]["conv"]["kernel"], second)
    # A transposed convolution is [in, out, h, w] in PyTorch, and turned.
    up = model_sides.drawn("up.0.weight", (8, 4, 2, 2))[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(params["up_0"]["conv"]["kernel"], up)
    assert (variables["batch_stats"]["join_1_0"]["bn"]["var"] == 1).all()


def test_a_tenth_of_the_pixels_is_not_labeled():
    images, labels = model_sides.batch_of({**UNET, "size": [180, 240]})
    assert (images.shape, labels.shape) == ((2, 180, 240, 3), (2, 180, 240))
    assert 0.09 < (labels == model_sides.IGNORED).mean() < 0.11
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, model_sides.IGNORED}


def test_the_loss_is_that_of_labeled_pixels_and_the_step_learns_it():
    work = model_sides.prepare_jax({**UNET, "mode": "training"}, "cvjax")
    images, labels = model_sides.batch_of(UNET)
    model = cvjax.create_model("unet", num_classes=5, **UNET["options"])
    variables = model_sides.flax_variables("unet", jax.eval_shape(model.init, jax.random.key(0), images))
    logits = np.asarray(model.apply(variables, images, train=True, mutable=["batch_stats"])[0], np.float64)
    total = np.log(np.exp(logits).sum(-1))
    places = np.nonzero(labels != model_sides.IGNORED)
    expected = (total[places] - logits[(*places, labels[places])]).mean()
    np.testing.assert_allclose(work.values["loss"], expected, rtol=1e-5)
    losses = [float(work.wait(work.step())[1]) for _ in range(8)]
    assert losses[-1] < losses[0] < float(work.values["loss"])


def test_inference_is_the_same_on_stock_layers():
    works = [model_sides.prepare_jax({**UNET, "mode": "inference"}, side) for side in ("cvjax", "flax")]
    ours, theirs = (work.values["logits"] for work in works)
    assert ours.shape == (2, 18, 24, 5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_torch_computes_the_same(mode):
    pytest.importorskip("torch")
    case = {**UNET, "mode": mode}
    theirs, ours = model_sides.prepare_torch(case).values, model_sides.prepare_jax(case, "cvjax").values
    assert theirs.keys() == ours.keys()
    for key, expected in theirs.items():
        np.testing.assert_allclose(ours[key], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
