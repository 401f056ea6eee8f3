"""Objects: what a record's are, where a crop takes their boxes, and batches of them."""

import functools
import pickle

import numpy as np
import pytest
from made import object_crop, train_transform
from PIL import Image

from cvjax.data.box_rows import NO_CLASS
from cvjax.data.decode import encode_mask
from cvjax.data.loader import eval_batches, train_batches
from cvjax.data.objects import MaskedObjects, decode_objects, objects_of
from cvjax.data.order import example_rng
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.datasets.voc.segmentation import VOC_CLASSES
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.object_masks.transforms import ObjectEvalTransform
from cvjax.tasks.scale_crop import EvalTransform


def _numbered() -> tuple[np.ndarray, np.ndarray]:
    """A mask of objects 1, 2 and 9 with an unknown rim, and their classes; nobody knows what 9 is."""
    objects = np.zeros((20, 30), np.uint8)
    objects[3:9, 4:12], objects[5:15, 10:22], objects[0:2, 0:2] = 1, 2, 9
    objects[9, 4:12] = 255
    classes = np.asarray([0, 7, 15, 0, 0, 0, 0, 0, 0, 0] + [0] * 245 + [255])[objects].astype(np.uint8)
    classes[5:7, 12:22] = 3  # fewer pixels than class 15 has
    return objects, classes


def _devkit(folder, count: int = 3):
    """An unpacked devkit with masks of objects; returns what `manual_dir` is to be."""
    root = folder / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    objects, classes = _numbered()
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{number}.jpg")
        for name, mask in (("SegmentationObject", objects), ("SegmentationClass", classes)):
            (root / name / f"{number}.png").write_bytes(encode_mask(mask))
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("".join(f"{n}\n" for n in range(1, count)))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("0\n")
    return folder


def test_boxes_are_drawn_around_numbered_objects():
    found = objects_of(*_numbered())
    np.testing.assert_array_equal(found.numbers, [1, 2])
    np.testing.assert_array_equal(found.boxes, [[4, 3, 12, 9], [10, 5, 22, 15]])
    np.testing.assert_array_equal(found.labels, [7, 15])
    nothing = objects_of(np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8))
    assert (nothing.boxes.shape, nothing.labels.shape) == ((0, 4), (0,))


def test_an_unpacked_devkit_has_objects(tmp_path):
    manual = _devkit(tmp_path)
    sizes = {
        split: len(open_dataset("voc_segmentation", split, target="objects", manual_dir=manual))
        for split in ("train", "val", "trainval")
    }
    assert sizes == {"train": 2, "val": 1, "trainval": 3}
    source = open_dataset("voc_segmentation", "val", target="objects", manual_dir=manual)
    for opened in (source, pickle.loads(pickle.dumps(source))):
        example = decode_objects(opened[0], len(VOC_CLASSES))
        assert example["image"].shape == (20, 30, 3)
        np.testing.assert_array_equal(example["objects"].labels, [7, 15])
    with pytest.raises(DataError, match="no split 'trainaug'; choose one of train, val, trainval"):
        open_dataset("voc_segmentation", "trainaug", target="objects", manual_dir=manual)
    with pytest.raises(DataError, match=r"no VOC 2012 with a folder SegmentationObject is in .*; unpack"):
        open_dataset("voc_segmentation", "val", target="objects", data_dir=tmp_path / "none")
    with pytest.raises(ConfigError, match="camvid has masks, no objects; choose one of own, scenes, voc_segmentation"):
        open_dataset("camvid", "val", target="objects")
    assert list_datasets("objects") == ["own", "scenes", "voc_segmentation"]


def test_boxes_of_scenes_lie_around_their_class(tmp_path):
    from cvjax.datasets.registry import TfdsDataset
    from cvjax.datasets.scenes.prepare import prepare_scenes

    sizes = {"train": 1, "val": 6, "test": 1}
    builder = prepare_scenes(tmp_path, workers=0, progress=False, sizes=sizes)
    source = TfdsDataset(builder.data_dir, "val", class_names=builder.info.features["label"].names, target="objects")
    seen = 0
    for index in range(len(source)):
        objects = decode_objects(source[index], len(source.class_names))["objects"]
        for (x0, y0, x1, y1), label in zip(np.rint(objects.boxes).astype(int), objects.labels):
            inside = objects.mask[y0:y1, x0:x1] == label
            # A mask's pixels, with the unknown rim, reach all four sides of the box.
            rim = inside | (objects.mask[y0:y1, x0:x1] == 255)
            assert inside.any()
            assert all(side.any() for side in (rim[0], rim[-1], rim[:, 0], rim[:, -1]))
            seen += 1
    assert seen >= 6


def _square() -> tuple[np.ndarray, MaskedObjects]:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:22, 30:46] = 5
    image = np.repeat(mask[..., None] * np.uint8(40), 3, 2)
    box, number = np.asarray([[30, 10, 46, 22]], np.float32), np.asarray([5], np.int32)
    return image, MaskedObjects(mask, box, number, number)


@pytest.mark.parametrize("resize", [None, (80, 60)])
def test_boxes_go_where_their_pixels_go(resize):
    image, objects = _square()
    scales = {"min_scale": 0.5, "max_scale": 2.0, "scale_step": 0.0}
    transform = object_crop((48, 48), visible=0.01, jitter=0.0, resize=resize, **scales)
    same = train_transform((48, 48), resize=resize, **scales)
    boxes = 0
    for seed in range(40):
        seen, mask, more = transform(image, objects, example_rng(0, 0, seed))
        expected, labels = same(image, objects.mask, example_rng(0, 0, seed))
        np.testing.assert_array_equal(seen, expected)
        np.testing.assert_array_equal(mask, labels)
        assert {name: array.shape for name, array in more.items()} == {"boxes": (8, 4), "numbers": (8,), "labels": (8,)}
        if more["labels"][0] == NO_CLASS:
            continue
        boxes += 1
        rows, columns = np.flatnonzero((mask == 5).any(1)), np.flatnonzero((mask == 5).any(0))
        tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(more["boxes"][0], tight, atol=1.01)
        assert (more["labels"][1:] == NO_CLASS).all()
    assert boxes > 20


def test_objects_that_are_hardly_there_are_left_out():
    image, objects = _square()
    for visible, expected in ((0.4, 1), (0.6, 0)):
        # The window ends at column 38, the middle of the object.
        transform = object_crop((40, 38), min_scale=1.0, max_scale=1.0, flip=0.0, jitter=0.0, visible=visible)
        draws = [transform(image, objects, example_rng(0, 0, seed)) for seed in range(60)]
        halves = [more for _, mask, more in draws if (mask == 5).sum() == 12 * 8]
        assert halves
        assert all((more["labels"] >= 0).sum() == expected for more in halves)


def test_jitter_moves_every_side_by_a_fraction_of_the_box():
    image, objects = _square()
    transform = object_crop((40, 60), min_scale=1.0, max_scale=1.0, flip=0.0, jitter=0.25)
    boxes = np.stack([transform(image, objects, example_rng(0, 0, seed))[2]["boxes"][0] for seed in range(200)])
    moved = np.abs(boxes - objects.boxes[0]) / (16, 12, 16, 12)
    assert moved.max() <= 0.25
    assert (moved.max(0) > 0.2).all()


def test_more_objects_than_a_row_has_room_for_are_drawn_from_and_never_evaluated():
    image, objects = _square()
    many = MaskedObjects(objects.mask, np.repeat(objects.boxes, 5, 0), np.arange(5, dtype=np.int32) + 1, np.full(5, 2))
    transform = object_crop((40, 60), min_scale=1.0, max_scale=1.0, jitter=0.0, boxes=3)
    drawn = {tuple(transform(image, many, example_rng(0, 0, seed))[2]["numbers"]) for seed in range(40)}
    assert len(drawn) > 20
    assert all(len(set(numbers)) == 3 for numbers in drawn)
    with pytest.raises(DataError, match=r"photo has 5 objects; give --eval\.boxes"):
        ObjectEvalTransform((64, 64), most=3)(image, many, "photo")
    with pytest.raises(ConfigError, match="boxes of an image are 0"):
        ObjectEvalTransform((64, 64), most=0)
    with pytest.raises(ConfigError, match=r"jitter is 0\.5"):
        object_crop((8, 8), jitter=0.5)


def test_batches_carry_boxes(tmp_path):
    source = open_dataset("voc_segmentation", "trainval", target="objects", manual_dir=_devkit(tmp_path))
    decode = functools.partial(decode_objects, num_classes=21)
    with train_batches(
        source, decode, object_crop((16, 16), boxes=4), batch_size=4, seed=0, target="objects"
    ) as stream:
        batch = next(stream)
    assert (batch["objects"].shape, batch["boxes"].shape, batch["labels"].shape) == ((4, 16, 16), (4, 4, 4), (4, 4))
    fit = ObjectEvalTransform((32, 32), most=4)
    with eval_batches(source, decode, fit, batch_size=2, target="objects") as stream:
        batches = list(stream)
    assert [batch["valid"].tolist() for batch in batches] == [[True, True], [True, False]]
    np.testing.assert_array_equal(batches[0]["boxes"][1, :2], [[4, 3, 12, 9], [10, 5, 22, 15]])
    np.testing.assert_array_equal(batches[1]["labels"], [[7, 15, NO_CLASS, NO_CLASS], [NO_CLASS] * 4])
    image, mask, _ = EvalTransform((32, 32))(decode(source[0])["image"], _numbered()[0])
    np.testing.assert_array_equal(batches[0]["objects"][0], mask)
    np.testing.assert_array_equal(batches[0]["image"][0], image)
