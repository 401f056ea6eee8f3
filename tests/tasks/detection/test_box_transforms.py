"""Boxes that move with the image: painted rectangles found again, what is dropped, what fits where."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import box_transform

from cvjax.data.annotations import make_objects
from cvjax.data.box_rows import mirrored, restore_boxes
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.detection.transforms import BoxEvalTransform, MultiScale, box_buckets

GRAY = (60, 60, 60)


def painted(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A gray image with a white rectangle."""
    image = np.full((height, width, 3), GRAY, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def bounds(image: np.ndarray) -> np.ndarray:
    """The box of the white pixels, those that are at least half white."""
    rows, columns = (np.flatnonzero((image[..., 0] > 157).any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def pictures(draw):
    """Height, width and a box of at least 12 pixels a side."""
    height, width = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    x1, y1 = draw(st.integers(0, width - 12)), draw(st.integers(0, height - 12))
    return height, width, (x1, y1, draw(st.integers(x1 + 12, width)), draw(st.integers(y1 + 12, height)))


transforms = st.builds(
    box_transform,
    crop=st.sampled_from([(64, 64), (48, 96), (120, 70)]),
    boxes=st.just(3),
    keep_aspect=st.booleans(),
    fill=st.just(GRAY),
    random_crop=st.sampled_from([0.0, 1.0]),
    min_scale=st.sampled_from([0.5, 1.0]),
    max_scale=st.sampled_from([1.0, 1.7]),
    shift=st.sampled_from([0.0, 0.2, 0.5]),
    flip=st.sampled_from([0.0, 1.0]),
    keep_boxes=st.sampled_from([0.0, 0.25, 0.8]),
)


@given(picture=pictures(), transform=transforms, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_boxes_bound_what_they_bounded(picture, transform, seed):
    height, width, box = picture
    image, boxes, more = transform(painted(height, width, box), make_objects([box], [4], [True]), rng(seed))
    assert (image.shape, image.dtype, boxes.shape) == ((*transform.data.crop, 3), np.uint8, (3, 4))
    shown = more["size"]
    assert (image[shown[0] :] == GRAY).all()
    assert (image[:, shown[1] :] == GRAY).all()
    assert more["box_valid"].tolist() in ([True, False, False], [False] * 3)
    if more["box_valid"][0]:
        side = (boxes[0, 2:] - boxes[0, :2]).min()
        assert side > 0
        assert (boxes[0] >= 0).all()
        assert (boxes[0] <= np.array([shown[1], shown[0], shown[1], shown[0]])).all()
        if side > 4:  # a sliver may be less than half a pixel of white
            assert np.abs(bounds(image) - boxes[0]).max() <= 1
        assert (more["labels"].tolist(), more["difficult"].tolist()) == ([4, -1, -1], [True, False, False])
    else:
        assert (boxes == 0).all()
        assert (more["labels"] == -1).all()
    assert more["dropped_boxes"] == 0  # what has left the picture is not lost


def test_what_is_dropped_at_the_border():
    image = np.zeros((100, 100, 3), np.uint8)
    # At scale 2 the middle half is shown: columns and rows 25 to 75.
    boxes = [(30, 30, 70, 70), (0, 40, 40, 60), (15, 40, 37, 60), (60, 60, 89, 89), (76, 0, 90, 20)]
    objects = make_objects(boxes, range(5))

    def kept(keep):
        transform = box_transform((50, 50), min_scale=2.0, max_scale=2.0, flip=0.0, keep_boxes=keep)
        _, rows, more = transform(image, objects, rng())
        return more["labels"][more["box_valid"]].tolist(), rows[: more["box_valid"].sum()]

    labels, rows = kept(0.0)
    assert labels == [0, 2, 3]  # the center of the second lies at column 20, of the last at 83
    np.testing.assert_allclose(rows, [(5, 5, 45, 45), (0, 15, 12, 35), (35, 35, 50, 50)])
    assert kept(12 / 22)[0] == [0, 2]  # of the fourth, 225 of 841 pixels are left
    assert kept(0.6)[0] == [0]


@given(boxes=st.lists(st.tuples(*4 * [st.integers(0, 500)]), max_size=5), width=st.integers(500, 900))
def test_mirrored_twice_is_as_before(boxes, width):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    once = mirrored(boxes, width)
    np.testing.assert_array_equal(mirrored(once, width), boxes)
    np.testing.assert_array_equal(once[:, 2:] - once[:, :2], boxes[:, 2:] - boxes[:, :2])


def test_flip_mirrors_the_image_and_leaves_the_padding_at_the_right():
    image = rng().integers(0, 256, (40, 30, 3), np.uint8)
    transform = box_transform((40, 50), flip=1.0, fill=GRAY)
    result, boxes, more = transform(image, make_objects([(2, 5, 10, 20)], [0]), rng())
    np.testing.assert_array_equal(result[:, :30], image[:, ::-1])
    assert (result[:, 30:] == GRAY).all()
    np.testing.assert_array_equal(boxes[0], (20, 5, 28, 20))
    assert more["size"].tolist() == [40, 30]


def test_the_seed_decides_and_nothing_else():
    image = rng(5).integers(0, 256, (60, 80, 3), np.uint8)
    objects = make_objects([(10, 10, 70, 50), (20, 20, 40, 40)], [1, 2])
    transform = box_transform((48, 48), random_crop=0.5, min_scale=0.7, max_scale=1.4, shift=0.2)
    first = [transform(image, objects, rng(seed)) for seed in range(8)]
    again = [pickle.loads(pickle.dumps(transform))(image, objects, rng(seed)) for seed in range(8)]
    for (image_a, boxes_a, _), (image_b, boxes_b, _) in zip(first, again):
        np.testing.assert_array_equal(image_a, image_b)
        np.testing.assert_array_equal(boxes_a, boxes_b)
    assert len({boxes.tobytes() for _, boxes, _ in first}) == 8
    np.testing.assert_array_equal(objects.boxes, [(10, 10, 70, 50), (20, 20, 40, 40)])  # as it was


def test_scale_and_shift_reach_their_bounds_and_no_further():
    image, objects = np.zeros((100, 100, 3), np.uint8), make_objects([(40, 40, 60, 60)], [0])
    transform = box_transform((100, 100), min_scale=0.8, max_scale=1.25, shift=0.2, flip=0.0)
    boxes = np.array([transform(image, objects, rng(seed))[1][0] for seed in range(300)])
    scales = (boxes[:, 2] - boxes[:, 0]) / 20
    assert 0.78 < scales.min() < 0.82 < 1.2 < scales.max() < 1.28  # windows have whole pixels
    assert abs(np.log(scales).mean()) < 0.03
    moved = ((boxes[:, :2] + boxes[:, 2:]) / 2 - 50) / scales[:, None]
    assert 19 < np.abs(moved).max() < 21
    assert np.abs(moved.mean(axis=0)).max() < 2


def test_too_many_boxes():
    image, objects = np.zeros((40, 40, 3), np.uint8), make_objects([(n, n, n + 9, n + 9) for n in range(20)], range(20))
    transform = box_transform((40, 40), boxes=6, flip=0.0)
    seen = set()
    for seed in range(40):
        _, boxes, more = transform(image, objects._replace(dropped_boxes=1), rng(seed))
        assert more["box_valid"].all()
        assert more["dropped_boxes"] == 15
        np.testing.assert_array_equal(boxes[:, 0], more["labels"])
        seen |= set(more["labels"].tolist())
    assert seen == set(range(20))
    message = (
        r"^a\.jpg has 20 boxes and evaluation must see all; give --eval\.boxes .* at least that many, more than 6\."
    )
    with pytest.raises(DataError, match=message):
        BoxEvalTransform((40, 40), max_boxes=6)(image, objects, "a.jpg")


@pytest.mark.parametrize(
    ("options", "shape", "expected"),
    [
        ({"size": (448, 448), "keep_aspect": False}, (375, 500), (448, 448)),
        ({"size": (448, 448)}, (375, 500), (336, 448)),
        ({"size": (1000, 1000), "short_side": 600, "long_side": 1000}, (375, 500), (600, 800)),
        ({"size": (1000, 1000), "short_side": 600, "long_side": 1000}, (500, 333), (900, 600)),
        ({"size": (1000, 1000), "short_side": 600, "long_side": 1000}, (200, 500), (400, 1000)),
        ({"size": (1000, 1000), "short_side": 600, "long_side": 1000}, (1200, 1200), (600, 600)),
        ({"size": (20, 20), "short_side": 10}, (1, 2000), (10, 20000)),
    ],
)
def test_sizes_that_images_come_to(options, shape, expected):
    transform = BoxEvalTransform(**options)
    assert transform.fitted(shape, inside=False) == expected
    inside = transform.fitted(shape, inside=True)
    assert all(1 <= have <= want for have, want in zip(inside, transform.size))


@given(picture=pictures(), side=st.integers(20, 120), keep_aspect=st.booleans())
@settings(max_examples=60, deadline=None)
def test_evaluation_keeps_all_and_gives_it_back(picture, side, keep_aspect):
    height, width, box = picture
    transform = BoxEvalTransform((side, side), max_boxes=2, keep_aspect=keep_aspect, fill=GRAY)
    image, boxes, size, more = transform(painted(height, width, box), make_objects([box], [0]), "a")
    assert image.shape == (side, side, 3)
    if min(boxes[0, 2:] - boxes[0, :2]) > 4:
        assert np.abs(bounds(image) - boxes[0]).max() <= 1
    assert more["original_size"].tolist() == [height, width]
    np.testing.assert_allclose(more["scale"], np.divide(size, (height, width)), rtol=1e-6)
    restored = restore_boxes(boxes[None], more["scale"][None], more["original_size"][None])
    np.testing.assert_allclose(restored[0, 0], box, atol=1e-4)
    beyond = restore_boxes(np.full((1, 4), 1e6), more["scale"], more["original_size"])
    np.testing.assert_array_equal(beyond[0], (width, height, width, height))


def test_an_image_without_objects():
    image, none = np.zeros((30, 40, 3), np.uint8), make_objects([], [])
    _, boxes, more = box_transform((32, 32), random_crop=1.0, min_scale=0.5, shift=0.5)(image, none, rng())
    assert (boxes.shape, more["box_valid"].any(), more["dropped_boxes"]) == ((64, 4), False, 0)
    _, boxes, _, more = BoxEvalTransform((32, 40))(image, none)
    assert (boxes == 0).all()
    assert not more["box_valid"].any()


def test_an_image_that_does_not_fit():
    transform = BoxEvalTransform((600, 800), short_side=600)
    with pytest.raises(DataError, match=r"^b\.jpg comes to 800x600 and does not fit in 600x800: raise"):
        transform(np.zeros((400, 300, 3), np.uint8), make_objects([], []), "b.jpg")
    smaller = box_transform((600, 800), short_side=600, flip=0.0)
    image, _, more = smaller(np.zeros((400, 300, 3), np.uint8), make_objects([], []), rng())
    assert (image.shape, more["size"].tolist()) == ((600, 800, 3), [600, 450])


def test_multi_scale_draws_a_size_for_each_batch():
    sizes = ((32, 32), (48, 48), (64, 96))
    scales = MultiScale(box_transform((16, 16), shift=0.1, sizes=sizes))
    drawn = [scales.for_batch(3, number).data.crop for number in range(600)]
    assert all(150 < drawn.count(size) < 250 for size in sizes)
    assert drawn == [pickle.loads(pickle.dumps(scales)).for_batch(3, number).data.crop for number in range(600)]
    assert drawn != [scales.for_batch(4, number).data.crop for number in range(600)]
    assert scales.for_batch(3, 0) == box_transform(drawn[0], shift=0.1, sizes=sizes)


class Sizes:
    """A source of which the plan needs nothing but its images' sizes."""

    name, split, sizes = "toy", "val", [(300, 400), (400, 300), (303, 400), None]

    def __len__(self) -> int:
        return len(self.sizes)

    def header_size(self, index: int) -> tuple[int, int] | None:
        return self.sizes[index]


def test_images_of_about_one_shape_share_a_batch():
    plan = box_buckets(Sizes(), BoxEvalTransform((800, 800), short_side=600), 2)
    # The third comes to 600x792, and the one of unknown size counts as the largest.
    assert plan == (((608, 800), (0, 2)), ((800, 608), (1,)), ((800, 800), (3,)))
    fixed = box_buckets(Sizes(), BoxEvalTransform((448, 448), keep_aspect=False), 3)
    assert fixed == (((448, 448), (0, 1)), ((448, 448), (2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (0, 5)}, "size is"),
        ({"boxes": 0}, "boxes are 0"),
        ({"short_side": 0}, "short_side is 0"),
        ({"short_side": 9, "long_side": 8}, "short_side is 9 and long_side 8"),
        ({"keep_aspect": False, "short_side": 9}, "leave out short_side"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"keep_boxes": -1}, "keep_boxes is -1"),
        ({"min_scale": 0.1}, "min_scale is 0.1"),
        ({"min_scale": 2.0}, "min_scale is 2.0 and max_scale 1.0"),
        ({"shift": 0.6}, "shift 0.6"),
        ({"max_aspect": 0.5}, "max_aspect 0.5"),
    ],
)
def test_wrong_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        box_transform(**{"crop": (8, 8)} | options)


def test_wrong_sizes_of_multi_scale_are_refused():
    with pytest.raises(ConfigError, match="no sizes"):
        MultiScale(box_transform((8, 8)))
    with pytest.raises(ConfigError, match="short_side decides"):
        box_transform((8, 8), short_side=4, sizes=((8, 8),))


@pytest.mark.parametrize("options", [{"flip": 1.0}, {"random_crop": 1.0, "shift": 0.3}, {"short_side": 24}])
def test_proposals_go_where_boxes_go(options):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 50, 3), np.uint8)
    low = rng.uniform(0, 30, (9, 2))
    boxes = np.concatenate([low, low + rng.uniform(3, 20, (9, 2))], axis=1).astype(np.float32)
    objects = make_objects(boxes, range(9))._replace(proposals=boxes)
    for seed in range(10):
        transform = box_transform((32, 32), boxes=9, proposals=9, keep_boxes=0.0, **options)
        _, moved, more = transform(image, objects, np.random.default_rng(seed))
        proposals = more["proposals"][more["proposal_valid"]]
        assert not more["proposals"][~more["proposal_valid"]].any()
        # Boxes are dropped where their center is outside, proposals where they are wholly.
        where = [np.flatnonzero((proposals == box).all(axis=1)) for box in moved[more["box_valid"]]]
        assert [len(found) for found in where] == [1] * len(where)
        assert where == sorted(where)
        fewer = box_transform((32, 32), boxes=9, proposals=2, keep_boxes=0.0, **options)(
            image, objects, np.random.default_rng(seed)
        )[2]
        np.testing.assert_array_equal(fewer["proposals"], more["proposals"][:2])
    _, moved, _, more = BoxEvalTransform((20, 25), max_boxes=9, max_proposals=9)(image, objects)
    np.testing.assert_array_equal(more["proposals"], moved)
    blank = BoxEvalTransform((20, 25), max_boxes=9, max_proposals=9).blank()[2]
    assert not blank["proposal_valid"].any()
    with pytest.raises(ConfigError, match="9 proposals an image are asked for, and the data has none"):
        BoxEvalTransform((20, 25), max_proposals=9)(image, make_objects([], []))
