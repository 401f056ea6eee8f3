"""Many images in batches give what each gives alone, whatever their sizes."""

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import classification, segmentation

from cvjax.errors import ConfigError, DataError
from cvjax.tasks.classification.predict import ClassPredictor
from cvjax.tasks.prediction.pieces import Views, check_image, predict_one, tiles
from cvjax.tasks.prediction.stream import Images, Stream
from cvjax.tasks.prediction.videos import Frame
from cvjax.tasks.segmentation.predict import MapPredictor

SIZES = [(40, 60), (64, 64), (70, 30), (33, 64), (128, 192), (1, 1), (64, 50)]


class Small(nn.Module):
    """Two convolutions, so that a logit sees 5x5 pixels."""

    pool: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 3))(images))
        x = nn.Conv(3, (3, 3))(x)
        return x.mean((1, 2)) if self.pool else x


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def images(arrays: list[np.ndarray]) -> Images:
    return Images([Frame(number, array, f"image {number}") for number, array in enumerate(arrays)])


@pytest.fixture(scope="module")
def net():
    model = Small()
    return model, model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.fixture(scope="module")
def maps(net):
    return MapPredictor(segmentation(("a", "b", "c")), *net, kept="float16")


def test_batches_of_label_maps_equal_single_images(maps):
    arrays, stream = pictures(), Stream(maps, batch_size=3)
    done = {one.number: one for one in stream.over(images(arrays))}
    assert sorted(done) == list(range(len(SIZES)))
    for number, array in enumerate(arrays):
        alone = predict_one(maps, array)
        np.testing.assert_array_equal(done[number].result.labels, alone.labels)
        np.testing.assert_allclose(done[number].result.probabilities, alone.probabilities, atol=1e-3)
        assert done[number].size == alone.labels.shape == array.shape[:2]
    # Five images in batches of 3 and 2 (a row of which is padding), and one of each other shape.
    assert stream.programs == {(3, (64, 64)), (1, (128, 64)), (1, (128, 192))}


def test_probabilities_are_those_of_the_net(net, maps):
    model, variables = net
    array = pictures()[4]  # whole multiples of 64, so nothing is padded
    expected = jax.nn.softmax(model.apply(variables, segmentation(("a", "b", "c")).normalize(array[None])))[0]
    found = predict_one(maps, array).probabilities
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=1e-3)
    bytes_ = predict_one(MapPredictor(segmentation(("a", "b", "c")), *net, kept="uint8"), array).probabilities
    assert bytes_.dtype == np.uint8
    np.testing.assert_allclose(bytes_, expected * 255, atol=0.51)


def test_tiles_equal_the_whole_where_the_field_fits(net, maps):
    array = pictures()[4]
    tiled = MapPredictor(segmentation(("a", "b", "c")), *net, Views(tile=64, overlap=8), kept="float16")
    assert len(tiled.pieces((128, 192))) == 12
    whole, parts = predict_one(maps, array), predict_one(tiled, array)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-3)


def test_classes_are_means_over_scales_and_mirror_images():
    model = Small(pool=True)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    task = classification(("a", "b", "c"), crop=(32, 32), resize=40)
    arrays, views = pictures(), Views(scales=(1.0, 1.5), flip=True)
    plain, larger = ClassPredictor(task, model, variables), classification(("a", "b", "c"), crop=(32, 32), resize=60)
    larger = ClassPredictor(larger, model, variables)
    stream = Stream(ClassPredictor(task, model, variables, views), batch_size=4)
    for one in stream.over(images(arrays)):
        views = [array[:, ::step] for array in [arrays[one.number]] for step in (1, -1)]
        alone = [predict_one(of, np.ascontiguousarray(view)) for of in (plain, larger) for view in views]
        np.testing.assert_allclose(one.result, np.mean(alone, axis=0), atol=1e-5)
    assert stream.programs == {(4, (32, 32))}
    with pytest.raises(ConfigError, match="--tile"):
        ClassPredictor(task, model, variables, Views(tile=64))


class _Broken(Frame):
    """An image whose header is well, and whose pixels are not."""

    def read(self):
        raise DataError(f"{self.name} breaks off")


class _Liar(Frame):
    def size(self):
        return 5, 5


def test_a_broken_image_is_a_sentence_or_passed_over(maps):
    arrays = pictures()
    sources = [Frame(number, array, f"image {number}") for number, array in enumerate(arrays)]
    sources[1], sources[4] = _Broken(1, arrays[1], "image 1"), _Liar(4, arrays[4], "image 4")
    done = {one.number: one for one in Stream(maps, 3, "skip").over(Images(sources))}
    assert {number for number, one in done.items() if one.error} == {1, 4}
    assert "holds 128x192 pixels and its header says 5x5" in str(done[4].error)
    for number in set(range(len(SIZES))) - {1, 4}:
        np.testing.assert_array_equal(done[number].result.labels, predict_one(maps, arrays[number]).labels)
    with pytest.raises(DataError, match="image 1 breaks off"):
        list(Stream(maps, 3).over(Images(sources[:3])))
    with pytest.raises(ConfigError, match="--batch-size is 0"):
        Stream(maps, 0)


def test_decoded_images_are_kept_while_there_is_room():
    reads = []

    class Counted(Frame):
        def read(self):
            reads.append(self.number)
            return self.image

    kept = Images([Counted(number, np.zeros((10, 10, 3), np.uint8), "") for number in range(3)], room=700)
    for number in (0, 0, 1, 0, 2, 0, 1):
        kept.read(number)
    assert reads == [0, 1, 2, 1]  # two have room: the third takes the place of the one that was used longest ago


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 31))
def test_tiles_keep_each_pixel_once(height, width, shared):
    seen = np.zeros((height, width), int)
    for window, kept in tiles((height, width), 32, shared):
        assert window[2] - window[0] <= 32
        assert window[3] - window[1] <= 32
        assert all(inner >= outer for inner, outer in zip(kept[:2], window[:2]))
        assert all(inner <= outer for inner, outer in zip(kept[2:], window[2:]))
        seen[kept[0] : kept[2], kept[1] : kept[3]] += 1
    assert (seen == 1).all()


def test_tiles_give_each_pixel_half_of_what_they_share_as_context():
    for (top, _, bottom, _), (up, _, down, _) in tiles((1000, 1), 300, 100):
        assert top == 0 or up - top >= 50
        assert bottom == 1000 or bottom - down >= 50


def test_images_are_padded_with_the_mean():
    task = segmentation(("a", "b", "c"), mean=(1.4, 2.6, 300.0))
    predictor = MapPredictor(task, Small(), {}, multiple=8)
    (piece,) = predictor.pieces((3, 5))
    rows = predictor.prepare(np.zeros((3, 5, 3), np.uint8), piece)
    assert rows["image"].shape == (8, 8, 3)
    np.testing.assert_array_equal(rows["image"][3, 0], [1, 3, 255])
    np.testing.assert_array_equal(rows["image"][0, 5], [1, 3, 255])
    assert not rows["image"][:3, :5].any()
    np.testing.assert_array_equal(rows["size"], [3, 5])


def test_other_arrays_are_no_images():
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            check_image(bad)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"scales": (0.0,)}, "scales"), ({"tile": 8}, "--tile is 8"), ({"overlap": 5}, "--overlap"),
     ({"tile": 64, "overlap": 64}, "--overlap is 64")],
)  # fmt: skip
def test_views_outside_their_range(settings, words):
    with pytest.raises(ConfigError, match=words):
        Views(**settings)
