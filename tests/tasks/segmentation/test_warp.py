"""Augmentation for microscopy: image and mask move together, deformations are smooth, surroundings are mirrored."""

import pickle

import cv2
import numpy as np
import pytest
from made import warp_transform

from cvjax.data.loader import train_batches
from cvjax.errors import ConfigError
from cvjax.tasks.segmentation.warp import WarpTransform, cubic_matrix
from cvjax.tasks.segmentation.weight_maps import loss_weights


def still(crop, **options) -> WarpTransform:
    """Nothing but a crop; `options` add to it."""
    return warp_transform(crop, **({"min_scale": 1.0, "max_scale": 1.0, "flip": 0.0} | options))


def noise(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 21, (height, width), np.uint8)


def ramps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Channels hold a pixel's row, its column and their mean; so does the mask hold its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, (rows + columns) // 2], -1).astype(np.uint8), columns.astype(np.uint8)


def displacements(transform: WarpTransform, size: tuple[int, int], seeds: range) -> np.ndarray:
    """How far pixels are drawn from where they lie in the crop, [seeds, 2, *crop]; for crops as large as images."""
    grid = np.mgrid[: size[0], : size[1]]
    return np.stack([np.stack(transform._draw_map(size, np.random.default_rng(seed))) - grid for seed in seeds])


def test_without_any_change_it_is_the_identity():
    image, mask = noise(23, 31)
    seen, labels, more = still((23, 31))(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, image)
    np.testing.assert_array_equal(labels, mask)
    assert more == {}


def test_a_crop_is_a_piece_of_the_image():
    image, mask = noise(40, 50)
    corners = set()
    for seed in range(30):
        seen, labels, _ = still((32, 44))(image, mask, np.random.default_rng(seed))
        found = [
            (top, left)
            for top in range(9)
            for left in range(7)
            if (image[top : top + 32, left : left + 44] == seen).all()
        ]
        assert len(found) == 1
        ((top, left),) = found
        np.testing.assert_array_equal(labels, mask[top : top + 32, left : left + 44])
        corners |= set(found)
    assert len({top for top, _ in corners}) == 9  # the last row and the first are drawn, too
    assert len({left for _, left in corners}) == 7


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"flip": 1.0}, lambda x: x[:, ::-1]),
        ({"flip_vertical": 1.0}, lambda x: x[::-1]),
        ({"flip": 1.0, "flip_vertical": 1.0}, lambda x: x[::-1, ::-1]),
    ],
)
def test_mirroring_moves_both(options, expected):
    image, mask = noise(17, 24)
    seen, labels, _ = still((17, 24), **options)(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, expected(image))
    np.testing.assert_array_equal(labels, expected(mask))


def test_all_quarter_turns_are_drawn_and_turn_both():
    image, mask = noise(16, 16)
    drawn = set()
    for seed in range(40):
        seen, labels, _ = still((16, 16), rotate=True)(image, mask, np.random.default_rng(seed))
        turns = [k for k in range(4) if (np.rot90(image, k) == seen).all()]
        assert len(turns) == 1
        np.testing.assert_array_equal(labels, np.rot90(mask, turns[0]))
        drawn |= set(turns)
    assert drawn == {0, 1, 2, 3}


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.75])
@pytest.mark.parametrize("margin", [0, 6])
def test_image_and_mask_stay_in_register(scale, margin):
    image, mask = ramps(120, 120)
    options = {"min_scale": scale, "max_scale": scale, "flip": 0.5, "flip_vertical": 0.5, "rotate": True}
    transform = warp_transform((64, 64), elastic=4.0, margin=margin, **options)
    for seed in range(12):
        seen, labels, _ = transform(image, mask, np.random.default_rng(seed))
        side = 64 - 2 * margin
        columns = seen[margin : margin + side, margin : margin + side, 1].astype(int)
        inside = labels != 255
        assert labels.shape == (side, side)
        assert inside.mean() > 0.3
        # The nearest pixel lies up to half a pixel from where the image is sampled; and levels are whole.
        assert np.abs(columns - labels)[inside].max() <= 1


def test_displacements_are_those_of_the_paper():
    """At the nodes, normal with the deviation that was asked for and independent; in between smooth."""
    transform = still((41, 61), elastic=10.0)
    moved = displacements(transform, (41, 61), range(400))
    nodes = moved[:, :, ::20, ::30].reshape(400, 18)
    np.testing.assert_allclose(nodes.std(0), 10.0, rtol=0.15)
    np.testing.assert_allclose(nodes.mean(0), 0.0, atol=2.0)
    between = np.corrcoef(nodes.T) - np.eye(18)
    assert np.abs(between).max() < 0.25
    # No kinks: neighbors' differences change slowly, also across the middle nodes.
    for axis in (2, 3):
        assert np.abs(np.diff(moved, 2, axis=axis)).max() < 1.0


def test_displacements_are_pixels_of_the_crop():
    """Enlarged twice, ten pixels of the crop are five of the source."""
    drawn = []
    for scale in (1.0, 2.0):
        size = int(60 / scale)
        transform = still((60, 60), min_scale=scale, max_scale=scale, elastic=10.0)
        plain = still((60, 60), min_scale=scale, max_scale=scale)
        maps = [t._draw_map((size, size), np.random.default_rng(3)) for t in (transform, plain)]
        drawn.append(np.stack(maps[0]) - np.stack(maps[1]))
    assert np.abs(drawn[0]).max() > 5
    np.testing.assert_allclose(drawn[1], drawn[0] / 2, atol=1e-4)


def test_a_deformation_is_seen():
    image, mask = ramps(64, 64)
    smooth = cv2.GaussianBlur(image, (0, 0), 1)
    _, labels, _ = still((64, 64), elastic=6.0)(smooth, mask, np.random.default_rng(0))
    inside = labels != 255
    assert np.abs(labels.astype(int) - mask)[inside].max() >= 4
    assert np.abs(np.diff(labels.astype(int), axis=1))[inside[:, 1:] & inside[:, :-1]].max() <= 3


@pytest.mark.parametrize("size", [3, 10, 61])
def test_cubic_weights_interpolate_and_keep_straight_lines(size):
    weights = cubic_matrix(3, size)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    np.testing.assert_allclose(weights @ np.arange(3), np.linspace(0, 2, size), atol=1e-12)
    np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-12)
    np.testing.assert_allclose(weights[[0, -1]], [[1, 0, 0], [0, 0, 1]], atol=1e-12)
    if size % 2:
        np.testing.assert_allclose(weights[size // 2], [0, 1, 0], atol=1e-12)
    # Inside a long row of nodes it is cubic convolution, which keeps parabolas.
    inner = cubic_matrix(9, 8 * size + 1)[2 * size : 6 * size]
    points = np.linspace(0, 8, 8 * size + 1)[2 * size : 6 * size]
    np.testing.assert_allclose(inner @ np.arange(9) ** 2, points**2, atol=1e-9)


def test_the_surroundings_are_mirrored_and_not_labeled():
    image, mask = noise(20, 26)
    seen, labels, _ = still((32, 38), margin=6)(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, np.pad(image, ((6, 6), (6, 6), (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(labels, mask)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (24, 3)])
def test_images_smaller_than_the_crop_are_mirrored_back_and_forth(size):
    image, mask = noise(*size)
    seen, labels, _ = still((32, 36), margin=4)(image, mask, np.random.default_rng(0))
    beyond = (24 - size[0], 28 - size[1])
    around = [(4, 4 + more) for more in beyond]
    np.testing.assert_array_equal(seen, np.pad(image, (*around, (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(labels, np.pad(mask, [(0, more) for more in beyond], constant_values=255))


def test_labeled_pixels_lie_in_the_image_where_they_fit():
    image, mask = noise(50, 60)
    rows = set()
    for seed in range(60):
        _, labels, _ = still((40, 44), margin=8)(image, mask, np.random.default_rng(seed))
        assert labels.shape == (24, 28)
        assert (labels != 255).all()
        rows |= {top for top in range(27) if (mask[top : top + 24, :] == labels[:, :1]).all(0).any()}
    assert {0, 26} <= rows


def test_the_same_seed_gives_the_same_bits():
    """Also of the weights, although OpenCV's distances vary in their last bits with the place in memory."""
    image, mask = noise(70, 80)
    transform = warp_transform(
        (48, 48), flip_vertical=0.5, rotate=True, elastic=3.0, margin=4, border_weight=10.0, cells=2
    )
    drawn, kept = set(), []
    for number in range(50):
        seen, labels, more = transform(image, mask, np.random.default_rng(1))
        drawn.add((seen.tobytes(), labels.tobytes(), more["weight"].tobytes()))
        kept.append(np.empty(37 * number, np.uint8))
    assert len(drawn) == 1
    assert (transform(image, mask, np.random.default_rng(2))[0] != seen).any()


def test_weights_are_those_of_the_mask_as_it_is_shown():
    mask = np.zeros((30, 30), np.uint8)
    mask[2:14, 2:28], mask[16:28, 2:28] = 1, 1
    image = np.repeat(mask[..., None] * 200, 3, axis=2)
    transform = still((30, 30), border_weight=10.0, border_sigma=3.0, class_weights=(2.0, 0.5), flip_vertical=0.5)
    _, labels, more = transform(image, mask, np.random.default_rng(0))
    expected = loss_weights(labels, 1, 10.0, 3.0, (2.0, 0.5))
    assert more["weight"].dtype == np.float32
    np.testing.assert_array_equal(more["weight"], expected)
    assert expected.max() > 5


class OneImage:
    """A source of one picture."""

    name, split, class_names, void = "one", "train", ("a", "b"), ()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict:
        return {"image": b"", "mask": b"", "id": "only"}


def decode(record: dict) -> dict[str, np.ndarray]:
    mask = np.zeros((40, 40), np.uint8)
    mask[:18], mask[20:] = 1, 1
    return {"image": np.repeat(mask[..., None] * 99, 3, axis=2), "mask": mask}


def test_the_loader_puts_weights_into_batches():
    transform = still((24, 24), margin=2, border_weight=10.0)
    with train_batches(OneImage(), decode, transform, batch_size=3, seed=0) as batches:
        batch = next(batches)
    assert (batch["image"].shape, batch["mask"].shape) == ((3, 24, 24, 3), (3, 20, 20))
    assert (batch["weight"].shape, batch["weight"].dtype) == ((3, 20, 20), np.float32)
    for labels, weight in zip(batch["mask"], batch["weight"]):
        np.testing.assert_array_equal(weight, loss_weights(labels, 1, 10.0, 5.0))


@pytest.mark.parametrize(
    ("crop", "options"),
    [
        ((8, 9), {"rotate": True}),
        ((8, 8), {"margin": 4}),
        ((8, 8), {"margin": -1}),
        ((8, 8), {"elastic": -1.0}),
        ((8, 8), {"border_sigma": 0.0}),
        ((8, 8), {"border_weight": -1.0}),
        ((8, 8), {"flip_vertical": 2.0}),
        ((8, 8), {"min_scale": 0.0}),
    ],
)
def test_options_are_checked(crop, options):
    with pytest.raises(ConfigError, match="give"):
        warp_transform(crop, **options)


def test_transforms_pickle():
    transform = warp_transform((8, 8), elastic=1.0, class_weights=(1.0, 2.0))
    assert pickle.loads(pickle.dumps(transform)) == transform
