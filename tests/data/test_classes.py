"""Labels of a data set become those of a model by the classes' names."""

import pickle

import cv2
import numpy as np
import pytest

from cvjax.data.annotations import decode_boxes_example
from cvjax.data.classes import absent_classes, match_classes
from cvjax.data.dataset import image_sizes
from cvjax.data.decode import decode_example, decode_labeled
from cvjax.data.joined import JoinedDataset
from cvjax.data.objects import decode_objects
from cvjax.errors import DataError

IMAGE = cv2.imencode(".png", np.zeros((2, 3, 3), np.uint8))[1].tobytes()


def _png(numbers) -> bytes:
    return cv2.imencode(".png", np.asarray(numbers))[1].tobytes()


class Records:
    """Records at hand."""

    name, split = "mine", "val"

    def __init__(self, class_names, *records, void=()):
        self.class_names, self.void, self._records = tuple(class_names), void, records

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return {"image": IMAGE, "id": str(index), **self._records[index]}

    def fingerprint(self):
        return "records"


def test_the_same_names_in_the_same_order_are_the_data_set_itself():
    source = Records(("a", "b"), {"label": 0})
    assert match_classes(source, ("a", "b")) is source
    assert absent_classes(source, ("a", "b")) == ()


def test_masks_take_the_models_labels_and_void_stays():
    numbers = np.array([[0, 1, 2], [255, 6, 1]], np.uint8)
    found = match_classes(Records("cab", {"mask": _png(numbers)}), ("a", "b", "c"), void=(6,))
    assert found.class_names == ("a", "b", "c")
    mask = decode_example(found[0], 3, void=(6,))["mask"]
    np.testing.assert_array_equal(mask, [[2, 0, 1], [255, 255, 0]])
    assert image_sizes(found) == [(2, 3)]
    assert pickle.loads(pickle.dumps(found))[0] == found[0]


def test_a_void_number_that_is_a_class_there_is_that_class():
    """The run ignores its own label 1, b; in these data b is number 0, and number 1 is a."""
    found = match_classes(Records("ba", {"mask": _png(np.array([[0, 1, 7]], np.uint8))}), "ab", void=(1, 7))
    image = cv2.imencode(".png", np.zeros((1, 3, 3), np.uint8))[1].tobytes()
    np.testing.assert_array_equal(decode_example({**found[0], "image": image}, 2, void=(1, 7))["mask"], [[255, 0, 255]])


def test_void_labels_of_the_data_set_and_16_bits_are_known():
    numbers = np.array([[0, 1, 2], [300, 255, 1]], np.uint16)
    found = match_classes(Records("ba", {"mask": _png(numbers)}, void=(2, 300)), "abc")
    np.testing.assert_array_equal(decode_example(found[0], 3)["mask"], [[1, 0, 255], [255, 255, 0]])
    assert absent_classes(found, "abc") == ("c",)


@pytest.mark.parametrize("number", [2, 254])
def test_a_number_without_a_class_is_named_even_if_the_model_has_it(number):
    found = match_classes(Records("ba", {"mask": _png(np.full((2, 3), number, np.uint8))}), "abc")
    with pytest.raises(DataError, match=rf"0\.png: label {number} is no class of mine, which has b, a, and"):
        found[0]


def test_labels_and_boxes_follow():
    labeled = match_classes(Records("cb", {"label": 0}, {"label": 1}, {"label": 2}), "abc")
    assert [int(decode_labeled(labeled[index], 3)["label"]) for index in range(2)] == [2, 1]
    with pytest.raises(DataError, match="label 2 is no class of mine"):
        labeled[2]
    boxes = {
        "boxes": np.zeros((3, 4), np.float32),
        "labels": np.array([1, 0, 1], np.int32),
        "difficult": np.zeros(3, bool),
        "crowd": np.zeros(3, bool),
    }
    found = decode_boxes_example(match_classes(Records("cb", boxes), "abc")[0], 3)["boxes"]
    assert (found.labels.tolist(), found.labels.dtype) == ([1, 2, 1], np.int32)


def test_numbers_of_objects_stay_and_their_classes_follow():
    numbers, classes = np.array([[1, 2, 0], [1, 2, 0]], np.uint8), np.array([[2, 1, 0], [2, 1, 255]], np.uint8)
    record = {"mask": _png(numbers), "classes": _png(classes)}
    found = match_classes(Records(("ground", "dog", "cat"), record), ("ground", "cat", "dog"))
    objects = decode_objects(found[0], 3)["objects"]
    np.testing.assert_array_equal(objects.mask, numbers)
    assert (objects.numbers.tolist(), objects.labels.tolist()) == ([1, 2], [1, 2])


def test_objects_in_boxes_follow_in_both_their_parts():
    record = {
        "mask": _png(np.array([[1, 2, 0], [1, 2, 0]], np.uint8)),
        "boxes": np.array([[0, 0, 1, 2], [1, 0, 2, 2]], np.float32),
        "labels": np.array([1, 2], np.int32),
        "difficult": np.zeros(2, bool),
        "crowd": np.zeros(2, bool),
    }
    objects = decode_objects(match_classes(Records("gab", record), "gba")[0], 3)["objects"]
    np.testing.assert_array_equal(objects.mask, [[2, 1, 0], [2, 1, 0]])
    assert objects.labels.tolist() == objects.numbers.tolist() == [2, 1]


def test_unknown_names_are_refused_with_the_known():
    source = Records(("amber", "blue", "green"))
    message = "mine val: amber is no class of the model, which knows blue, green, red; give data with these names"
    with pytest.raises(DataError, match=message):
        match_classes(source, ("blue", "green", "red"))
    with pytest.raises(DataError, match="amber, green are no classes of the run, which knows blue;"):
        match_classes(source, ("blue",), whose="the run")


def test_a_name_for_two_classes_is_refused():
    with pytest.raises(DataError, match="mine val: b stands for more than one class"):
        match_classes(Records("abb"), "abb")


def test_joined_data_sets_take_the_names_of_the_first():
    first, second = Records("ab", {"label": 0}), Records("ba", {"label": 0}, {"label": 1})
    joined = JoinedDataset("both", "val", [first, second])
    assert [record["label"] for record in joined] == [0, 1, 0]
