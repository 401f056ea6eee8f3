"""Numbers of classes that are told without a data set's files."""

from typing import get_args

import pytest

from cvjax.data.dataset import Target
from cvjax.datasets.registry import list_datasets
from cvjax.datasets.sizes import class_count, example_count


def test_only_folders_of_the_user_do_not_tell():
    unknown = {name for target in get_args(Target) for name in list_datasets(target) if not class_count(name, target)}
    assert unknown == {"image_folder_segmentation", "image_folder_classification", "xml_folder_detection", "own"}


@pytest.mark.parametrize(
    ("name", "target", "classes"),
    [
        ("voc_segmentation", "mask", 21),  # with the background
        ("voc_segmentation", "objects", 21),
        ("voc_detection", "boxes", 20),
        ("coco", "boxes", 80),
        ("imagenet2012", "label", 1000),
        ("imagenette", "label", 10),
        ("cityscapes", "mask", 19),
        ("camvid", "mask", 11),
        ("isbi_membrane", "mask", 2),
    ],
)
def test_numbers_of_classes(name, target, classes):
    assert class_count(name, target) == classes


def test_numbers_of_examples():
    assert example_count("cifar10", "train") == 50_000
    assert example_count("imagenette", "train") is None
