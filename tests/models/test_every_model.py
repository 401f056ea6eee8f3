"""Every model of `list_models()`: shapes and dtypes of what goes in and comes out, and its published parameters.

All is traced, nothing is compiled. The smallest model of each class is among the fast tests.
"""

import collections
from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import pytest

import cvjax
from cvjax.models.detection.detector import Detections, Proposals, Truth

BATCH = 2
_DEEP = ("legacy_senet154",)  # alone of its class, and long to trace


def _small_first(*tasks: str) -> Iterator:
    seen = collections.Counter()
    names = [name for task in tasks for name in cvjax.list_models(task)]
    for name in sorted(names, key=lambda name: cvjax.model_info(name).params):
        kind = type(cvjax.create_model(name))
        seen[kind] += 1
        yield pytest.param(name, marks=[pytest.mark.slow] if seen[kind] > 1 or name in _DEEP else [])


def _images(*size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((BATCH, *size, 3), jnp.float32)


def _assert_published(variables, info) -> None:
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == info.params
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_these_are_all_models():
    tasks = "classification", "segmentation", "detection"
    assert sorted(name for task in tasks for name in cvjax.list_models(task)) == cvjax.list_models()
    assert len(cvjax.list_models()) > 120


@pytest.mark.parametrize("name", list(_small_first("classification")))
def test_classifiers_give_a_logit_a_class_and_maps_by_name(name):
    info = cvjax.model_info(name)
    model = cvjax.create_model(name)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), _images(96, 96))
    _assert_published(variables, info)
    oblong = jax.eval_shape(model.apply, variables, _images(97, 71))
    chex.assert_shape([logits, oblong], (BATCH, info.params_classes))
    chex.assert_type([logits, oblong], jnp.float32)
    # As a list, because what is traced sorts dictionaries by their keys.
    maps = jax.eval_shape(lambda v, x: list(model.apply(v, x, method="features").values()), variables, _images(96, 96))
    chex.assert_rank(maps, 4)
    sides = [leaf.shape[1] for leaf in maps]
    assert sides == sorted(sides, reverse=True)  # from shallow to deep


@pytest.mark.parametrize("name", list(_small_first("segmentation")))
def test_segmenters_give_logits_of_every_pixel(name):
    info = cvjax.model_info(name)
    model = cvjax.create_model(name)
    unpadded = hasattr(model, "margin")  # its logits are smaller than its images, which must fit
    sizes = [model.input_size(size) if unpadded else size for size in ((96, 96), (97, 71))]
    first, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), _images(*sizes[0]))
    _assert_published(variables, info)
    second = jax.eval_shape(model.apply, variables, _images(*sizes[1]))
    for size, logits in zip(sizes, (first, second)):
        chex.assert_shape(logits, (BATCH, *(model.output_size(size) if unpadded else size), info.params_classes))
        chex.assert_type(logits, jnp.float32)


@pytest.mark.parametrize("name", list(_small_first("detection")))
def test_detectors_give_boxes_and_a_loss_an_image(name):
    info = cvjax.model_info(name)
    model = cvjax.create_model(name)
    array, kinds = jax.ShapeDtypeStruct, (jnp.int32, bool, bool)
    truth = Truth(array((BATCH, 5, 4), jnp.float32), *(array((BATCH, 5), kind) for kind in kinds))
    rngs = {"sample": jax.random.key(1), "dropout": jax.random.key(2)}
    proposals = None
    if getattr(model, "needs_proposals", False):
        proposals = Proposals(array((BATCH, 9, 4), jnp.float32), array((BATCH, 9), bool))

    def losses(variables, images, sizes, proposals, truth):
        kept = {"mutable": ["batch_stats"], "rngs": rngs}
        return model.apply(variables, images, sizes, proposals, truth=truth, train=True, **kept)[0]

    for height, width in ((info.image_size,) * 2, (info.image_size - 16, info.image_size - 40)):
        given = _images(height, width), array((BATCH, 2), jnp.int32), proposals
        found, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), *given)
        _assert_published(variables, info)
        assert isinstance(found, Detections)
        most = found.valid.shape[1]
        chex.assert_shape(found.boxes, (BATCH, most, 4))
        chex.assert_shape([found.scores, found.classes, found.valid], (BATCH, most))
        chex.assert_type([found.boxes, found.scores, found.classes, found.valid], [float, float, int, bool])
        terms = jax.eval_shape(losses, variables, *given, truth)
        chex.assert_shape(list(terms.values()), (BATCH,))
        chex.assert_type(list(terms.values()), jnp.float32)
