"""Crops of labeled images: what is cut, from where, and that labels and seeds stay what they are."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import random_crop
from PIL import Image
from tiny_sets import encoded, photo

from cvjax.data.decode import decode_labeled
from cvjax.data.loader import HostShard, eval_batches, train_batches
from cvjax.datasets.registry import open_dataset
from cvjax.errors import ConfigError
from cvjax.tasks.classification.transforms import CenterCrop, resize
from cvjax.tasks.random_piece import draw_piece

LABEL = np.asarray(7, np.int32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def positions(height: int, width: int) -> np.ndarray:
    """A pixel's row in its red, its column in its green."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], -1)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 2**32),
    cut=st.sampled_from(["resized", "padded"]),
    policy=st.sampled_from([None, "rand", "trivial"]),
)
def test_any_image_becomes_a_crop_of_the_size_by_its_seed_alone(height, width, seed, cut, policy):
    image = rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    transform = random_crop((17, 23), crop_mode=cut, auto_augment=policy, random_erasing=0.5, interpolation="bicubic")
    (crop, label), (again, _) = (transform(image, LABEL, rng(seed)) for _ in range(2))
    assert (crop.shape, crop.dtype, int(label)) == ((17, 23, 3), np.uint8, 7)
    np.testing.assert_array_equal(crop, again)


def test_pieces_lie_inside_and_are_spread_over_areas_and_aspects():
    generator = rng()
    pieces = np.array([draw_piece((200, 300), 0.08, 1.0, 4 / 3, generator) for _ in range(4000)])
    top, left, height, width = pieces.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 200).all()
    assert (left + width <= 300).all()
    area, aspect = height * width / 60_000, width / height
    assert 0.07 < area.min() < 0.1
    assert area.max() > 0.85
    assert 0.73 < aspect.min() < 0.78
    assert 1.3 < aspect.max() < 1.36
    assert abs(np.log(aspect)[area < 0.5].mean()) < 0.02
    # Uniform as long as every shape fits.
    small = area[area < 0.5]
    assert abs(np.histogram(small, 6, (0.08, 0.5))[0] / len(small) - 1 / 6).max() < 0.03


def test_an_image_too_long_for_any_piece_gives_its_middle():
    assert draw_piece((10, 1000), 0.9, 1.0, 4 / 3, rng()) == (0, 493, 10, 13)


def test_padded_crops_are_windows_of_the_image_with_a_border_flipped_or_not():
    image, seen = positions(32, 32), set()
    transform = random_crop((32, 32), crop_mode="padded", padding=4, flip=0.5, fill=(99, 99, 99))
    framed = np.pad(image.astype(int) - 99, ((4, 4), (4, 4), (0, 0))) + 99
    windows = {framed[t : t + 32, s : s + 32].astype(np.uint8).tobytes(): (t, s) for t in range(9) for s in range(9)}
    mirrored = 0
    for seed in range(400):
        crop, _ = transform(image, LABEL, rng(seed))
        flipped = crop.tobytes() not in windows
        mirrored += flipped
        seen.add(windows[(crop[:, ::-1] if flipped else crop).tobytes()])
    assert 150 < mirrored < 250
    assert len(seen) > 75  # of 81


def test_erasing_fills_one_rectangle_with_the_mean():
    image = np.zeros((40, 40, 3), np.uint8)
    areas = []
    for seed in range(200):
        crop, _ = random_crop((40, 40), min_area=1.0, max_aspect=1.0, random_erasing=1.0, fill=(1, 2, 3))(
            image, LABEL, rng(seed)
        )
        rows, columns = np.nonzero(crop[..., 0])
        box = crop[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == (1, 2, 3)).all()
        areas.append(len(rows) / 1600)
    assert 0.015 < min(areas) < 0.06
    assert 0.25 < max(areas) < 0.35
    assert not image.any()


@pytest.mark.parametrize(("size", "resized"), [((300, 400), (256, 341)), ((400, 300), (341, 256)), ((256, 256), None)])
def test_center_crop_is_torchvisions(size, resized):
    """Resize(256) and CenterCrop(224) of Pillow images: the shorter side, antialiased, then the rounded middle."""
    image = rng().integers(0, 256, (*size, 3), np.uint8)
    crop, label, inside = CenterCrop((224, 224), 256)(image, LABEL)
    picture = Image.fromarray(image)
    if resized is not None:
        picture = picture.resize(resized[::-1], Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in picture.size)
    np.testing.assert_array_equal(crop, np.asarray(picture.crop((left, top, left + 224, top + 224))))
    assert (int(label), inside) == (7, (224, 224))


def test_center_crop_of_a_small_image_is_framed():
    crop, _, inside = CenterCrop((20, 30), 10, fill=(5, 6, 7))(positions(10, 10), LABEL)
    assert inside == (10, 10)
    np.testing.assert_array_equal(crop[5:15, 10:20], positions(10, 10))
    crop[5:15, 10:20] = (5, 6, 7)
    assert (crop == (5, 6, 7)).all()


def test_shrinking_averages():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.ptp(resize(stripes, (16, 16))) <= 1  # without averaging: 0 or 200


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"crop": (0, 4)}, "crop"),
        ({"flip": 1.5}, "flip"),
        ({"random_erasing": -1}, "random_erasing"),
        ({"min_area": 0}, "min_area"),
        ({"max_aspect": 0.5}, "max_aspect"),
        ({"padding": -1}, "padding"),
        ({"auto_augment": "best"}, "no policy 'best'; choose one of rand, trivial"),
        ({"auto_augment": "rand", "magnitude": 31}, "magnitude"),
    ],
)
def test_what_cannot_be_is_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        random_crop(**{"crop": (8, 8)} | options)


@pytest.fixture
def source(tmp_path):
    """11 images of 3 classes in a zip."""
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for number in range(11):
            buffer = io.BytesIO(encoded(photo(number, 20 + number, 24), "PNG"))
            archive.writestr(f"{'abc'[number % 3]}/{number:02d}.png", buffer.getvalue())
    return open_dataset("image_folder_classification", "train", target="label", manual_dir=tmp_path)


def decode(record):
    return decode_labeled(record, 3)


def test_batches_carry_labels_whatever_the_threads_and_hosts(source):
    transform = random_crop((12, 12), auto_augment="rand")

    def batches(**options):
        stream = train_batches(source, decode, transform, batch_size=4, seed=3, target="label", **options)
        with stream:
            return [next(stream) for _ in range(5)]

    whole = batches(threads=0)
    assert {key: (value.dtype, value.shape) for key, value in whole[0].items()} == {
        "image": (np.uint8, (4, 12, 12, 3)),
        "label": (np.int32, (4,)),
        "index": (np.int32, (4,)),
        "valid": (np.bool_, (4,)),
        "skipped": (np.int32, (4,)),
    }
    for batch in whole:
        assert [source[int(i)]["label"] for i in batch["index"]] == batch["label"].tolist()
    halves = zip(batches(shard=HostShard(0, 2)), batches(shard=HostShard(1, 2), threads=2))
    for batch, parts in zip(whole, halves):
        for key, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), value)


@pytest.mark.parametrize("hosts", [1, 2])
def test_evaluation_holds_every_example_once_and_fills_up_without_labels(source, hosts):
    rows: dict[str, list] = {"index": [], "label": [], "valid": []}
    for host in range(hosts):
        options = {"batch_size": 8, "shard": HostShard(host, hosts), "target": "label", "threads": 0}
        for batch in eval_batches(source, decode, CenterCrop((16, 16)), **options):
            for key, values in rows.items():
                values.extend(batch[key])
    index, label, valid = (np.array(rows[key]) for key in ("index", "label", "valid"))
    assert sorted(index[valid]) == list(range(11))
    assert [source[int(i)]["label"] for i in index[valid]] == label[valid].tolist()
    assert len(index) == 12  # two batches of six rows
    assert (label[~valid] == -1).all()
    assert (index[~valid] == -1).all()


def test_transforms_pickle():
    for transform in (random_crop((8, 8), auto_augment="rand"), CenterCrop((8, 8))):
        assert pickle.loads(pickle.dumps(transform)) == transform
