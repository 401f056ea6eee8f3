"""Tiles of nets without padding fit together to what the net says of the whole image."""

import dataclasses
import itertools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import segmentation

from cvjax.models import create_model
from cvjax.tasks.segmentation.inference import segment
from cvjax.tasks.segmentation.predict import make_map_predictor
from cvjax.tasks.segmentation.tiles import _starts, overlap_tile_logits


@dataclasses.dataclass(frozen=True)
class Cropping:
    """A net whose logits are the middle of its image; it takes sizes `step` apart, as a U-Net does."""

    margin: int
    step: int

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return tuple(self.step * -(-(side + 2 * self.margin) // self.step) for side in size)

    def __call__(self, images: jax.Array) -> jax.Array:
        assert all(side % self.step == 0 for side in images.shape[1:3])
        inner = slice(self.margin, -self.margin or None)
        return images[:, inner, inner]


@pytest.mark.parametrize(
    ("size", "tile", "margin", "step"),
    [((1, 1), None, 9, 4), ((40, 1), (1, 1), 9, 4), ((23, 37), (8, 40), 3, 4), ((12, 30), (7, 11), 0, 1)],
)
def test_every_pixel_stands_where_it_stood(size, tile, margin, step):
    images = np.random.default_rng(0).normal(size=(1, *size, 2)).astype(np.float32)
    net = Cropping(margin, step)
    logits = jax.jit(lambda x: overlap_tile_logits(net, x, net, tile))(images)
    np.testing.assert_array_equal(logits, images)


@hypothesis.given(st.integers(1, 900), st.integers(0, 400), st.sampled_from([1, 2, 16]))
def test_tiles_cover_every_pixel_and_lie_whole_steps_apart(side, more, step):
    size = step + more
    starts = _starts(side, size, step)
    assert starts[0] == 0
    assert all(start % step == 0 for start in starts)
    assert all(0 < after - before <= size for before, after in itertools.pairwise(starts))
    assert starts[-1] < side <= starts[-1] + size or starts == [0]


@pytest.fixture(scope="module")
def net():
    """A small U-Net of the paper with its weights, as a function of images."""
    model = create_model("unet_original", num_classes=3, width=2, depth=2)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *model.input_size((1, 1)), 3)))
    return model, variables, lambda images: model.apply(variables, images)


def pictures(*size: int, batch: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (batch, *size, 3))


@pytest.mark.parametrize("tile", [(12, 20), (1, 70)])
def test_tiles_equal_the_whole(net, tile):
    model, _, apply = net
    images = pictures(37, 46)
    whole, tiled = (
        jax.jit(lambda x, tile=tile: overlap_tile_logits(apply, x, model, tile))(images) for tile in (None, tile)
    )
    chex.assert_shape(whole, (2, 37, 46, 3))
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_the_whole_is_the_net_on_the_mirrored_image(net):
    model, _, apply = net
    images = pictures(9, 30)
    height, width = model.input_size((9, 30))
    beyond = [(model.margin, side - model.margin - have) for side, have in ((height, 9), (width, 30))]
    mirrored = np.pad(images, ((0, 0), *beyond, (0, 0)), mode="reflect")
    expected = jax.jit(apply)(mirrored)[:, :9, :30]
    got = jax.jit(lambda x: overlap_tile_logits(apply, x, model))(images)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_tiles_hold_one_copy_of_the_net(net):
    model, _, apply = net
    seen = set()

    def spy(images: jax.Array) -> jax.Array:
        seen.add(images.shape)
        return apply(images)

    images = jnp.zeros((1, 200, 300, 3))
    jaxpr = jax.make_jaxpr(lambda x: overlap_tile_logits(spy, x, model, (20, 20)))(images)
    assert seen == {(1, *model.input_size((20, 20)), 3)}
    assert [equation.primitive.name for equation in jaxpr.eqns].count("scan") == 1


@pytest.mark.parametrize("size", [(1, 1), (17, 33)])
def test_segment_gives_probabilities_of_any_size(net, size):
    model, _, apply = net
    options = {"scales": (0.5, 1.0), "flip": True, "window": (16, 16), "unpadded": model}
    images = pictures(*size, batch=1)
    run = jax.jit(lambda x: segment(apply, x, **options))
    probabilities = run(images)
    chex.assert_shape(probabilities, (1, *size, 3))
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(run(images[:, :, ::-1])[:, :, ::-1], probabilities, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 70)])
def test_pictures_are_predicted_as_the_evaluation_sees_them(net, size):
    """At their own size: an unpadded net mirrors them at their border, so nothing is put around them."""
    model, variables, apply = net
    task = segmentation(("a", "b", "c"), margin=model.margin)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    labels = make_map_predictor(task, model, variables, multiple=64)(image)
    whole = jax.jit(lambda x: overlap_tile_logits(apply, task.normalize(x), model))(image[None])
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, whole[0].argmax(-1))
