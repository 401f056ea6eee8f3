"""Objects: what is cut off, what is bad, and how prepared sets hold them."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tiny_sets import encoded, photo

from cvjax.data.annotations import Objects, check_objects, decode_boxes_example, make_objects
from cvjax.data.dataset import image_sizes
from cvjax.datasets.registry import open_dataset
from cvjax.datasets.scenes.objects import CLASS_NAMES
from cvjax.datasets.scenes.render import render
from cvjax.datasets.voc.detection import CLASS_NAMES as VOC_NAMES
from cvjax.errors import ConfigError, DataError


def checked(boxes, on_bad_boxes="drop", least_side=0.0, size=(20, 30)):
    objects = make_objects(boxes, np.arange(len(boxes)), [True] + [False] * (len(boxes) - 1))
    return check_objects(objects, size, "a.xml", tuple("abcdef"), on_bad_boxes, least_side)


def test_boxes_are_cut_off_at_the_border():
    objects = checked([(-5, 3, 31, 20.5), (0, 0, 30, 20), (2.5, 1, 4.25, 2)], "error")
    np.testing.assert_array_equal(objects.boxes, [(0, 3, 30, 20), (0, 0, 30, 20), (2.5, 1, 4.25, 2)])
    assert (objects.boxes.dtype, objects.labels.dtype) == (np.float32, np.int32)
    assert (objects.difficult.tolist(), objects.dropped_boxes) == ([True, False, False], 0)


@pytest.mark.parametrize(
    ("box", "what"),
    [
        ((3, 3, 3, 8), r"\(3, 3, 3, 8\), is empty or inverted"),
        ((3, 9, 8, 3), "is empty or inverted"),
        ((np.nan, 3, 8, 9), "is empty or inverted"),
        ((30, 3, 35, 9), r"is outside its image of 20x30 \(height x width\)"),
        ((3, -9, 8, 0), r"is outside its image of 20x30 \(height x width\)"),
    ],
)
def test_bad_boxes_are_errors_or_dropped_and_counted(box, what):
    boxes = [(0, 0, 5, 5), (1, 1, 2, 2), box, (4, 4, 9, 9)]
    with pytest.raises(DataError, match=rf"^a\.xml: box 3 of 4, c at .*{what}; mend .* --on-bad-boxes drop"):
        checked(boxes, "error")
    objects = checked(boxes)
    assert (objects.labels.tolist(), objects.difficult.tolist()) == ([0, 1, 3], [True, False, False])
    np.testing.assert_array_equal(objects.boxes, np.array(boxes, np.float32)[[0, 1, 3]])
    assert objects.dropped_boxes == 1


def test_a_box_between_equal_corners_is_bad_where_these_are_pixels():
    boxes = [(4, 4, 6, 6), (4, 4, 5, 9)]  # VOC's (5, 5) to (6, 6), and (5, 5) to (5, 9)
    assert len(checked(boxes).boxes) == 2
    assert checked(boxes, least_side=1.0).labels.tolist() == [0]
    with pytest.raises(DataError, match=r"at \(5, 5, 5, 9\), is empty"):  # as the file states it
        checked(boxes, "error", least_side=1.0)


def test_images_without_objects_and_wrong_words():
    assert checked(np.zeros((0, 4))).boxes.shape == (0, 4)
    with pytest.raises(ConfigError, match='on_bad_boxes is \'skip\': give "error" or "drop"'):
        checked([(0, 0, 5, 5)], "skip")


def test_decoding_checks_labels():
    record = {"image": encoded(photo(0), "PNG"), "id": "7", **make_objects([(0, 0, 3, 4)], [2])._asdict()}
    example = decode_boxes_example(record, 3)
    np.testing.assert_array_equal(example["image"], photo(0))
    assert example["boxes"].labels.tolist() == [2]
    with pytest.raises(DataError, match=r"^7: label 2 is outside \[0, 2\)"):
        decode_boxes_example(record, 2)


def test_scenes_have_the_boxes_that_were_drawn(tmp_path):
    options = {"sizes": {"train": 4}, "workers": 0, "progress": False}  # a small set
    source = open_dataset("scenes", "train", target="boxes", data_dir=tmp_path, on_bad_boxes="drop", **options)
    assert source.class_names == tuple(CLASS_NAMES[1:])
    for index in range(4):
        record, things = source[index], render("train", index).things
        assert {*record} == {"image", "id", *Objects._fields}
        drawn = np.array([thing.box for thing in things])[:, [1, 0, 3, 2]]
        np.testing.assert_array_equal(record["boxes"], drawn)  # whole pixels, exactly
        assert record["labels"].tolist() == [thing.label - 1 for thing in things]
        assert record["difficult"].tolist() == [thing.is_difficult for thing in things]
        assert not record["crowd"].any()
    assert image_sizes(source)[0] == render("train", 0).mask.shape


class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set with the features of TFDS's `voc` or `coco`."""

    name, VERSION, code_path, url_infos = "foreign", tfds.core.Version("5.0.0"), None, None

    def __init__(self, examples, thing, **kwargs):
        self.examples, self.thing = examples, thing
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), **self.thing}),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: enumerate(examples) for split, examples in self.examples.items()}

    def _generate_examples(self, examples):
        return examples


def prepare_foreign(folder, name, config, examples, thing):
    """Writes a set below a folder, as TFDS would its own."""
    builder = type(name, (Foreign,), {"name": name}, skip_registration=True)
    config = tfds.core.BuilderConfig(name=config, version="5.0.0", description="")
    builder(examples, thing, data_dir=folder, config=config).download_and_prepare()


def test_tfds_voc_and_coco_are_read(tmp_path):
    def example(number, things):
        return {
            "image": io.BytesIO(encoded(photo(number, 40, 60), "JPEG")),
            "image/filename": f"{number:06d}.jpg",
            "objects": things,
        }

    def fractions(xmin, ymin, xmax, ymax):
        return tfds.features.BBox(ymin / 40, xmin / 60, ymax / 40, xmax / 60)

    names = tfds.features.ClassLabel(names=list(VOC_NAMES))
    thing = {"bbox": fractions(7, 11, 60, 40), "label": "cat", "is_difficult": True}
    examples = [example(5, [thing, {**thing, "label": 0, "is_difficult": False}]), example(6, [])]
    prepare_foreign(tmp_path, "voc", "2007", {"validation": examples}, {"label": names, "is_difficult": np.bool_})
    source = open_dataset("voc_detection", "val2007", target="boxes", data_dir=tmp_path)
    assert (source.name, source.split, source.class_names, len(source)) == ("voc_detection", "val2007", VOC_NAMES, 2)
    record = source[0]
    np.testing.assert_array_equal(record["boxes"], 2 * [(6, 10, 60, 40)])  # TFDS keeps VOC's numbers
    assert (record["id"], record["labels"].tolist(), record["difficult"].tolist()) == ("000005", [7, 0], [True, False])
    assert source[1]["boxes"].shape == (0, 4)

    things = [{"bbox": fractions(7.25, 11.5, 8.01, 40), "label": 1, "is_crowd": True, "area": 17}]
    names = tfds.features.ClassLabel(names=["man", "dog"])
    kinds = {"label": names, "is_crowd": np.bool_, "area": np.int64}
    prepare_foreign(tmp_path, "coco", "2017", {"validation": [example(1, things)]}, kinds)
    source = open_dataset("coco", "val", target="boxes", data_dir=tmp_path)
    assert (source.name, source.split, source.class_names) == ("coco", "val", ("man", "dog"))
    np.testing.assert_array_equal(source[0]["boxes"], np.array([(7.25, 11.5, 8.01, 40)], np.float32))
    assert (source[0]["crowd"].tolist(), source[0]["difficult"].tolist()) == ([True], [False])
    assert source[0]["areas"].tolist() == [17]  # that of the outline
