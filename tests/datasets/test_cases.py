"""The small inputs that went wrong, of which no other test reads the files themselves."""

import numpy as np
import pytest

from cvjax.data.classes import match_classes
from cvjax.datasets.registry import open_dataset
from cvjax.errors import DataError


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("k2_wrongsize", r"a\.jpg \(image 1 of instances_train2017\.json\): .* stated as 128x160 .* a\.jpg has 64x80"),
        ("k9_dupimg", r"instances_train2017\.json: image 1 is there twice, that of a\.jpg and that of b\.jpg"),
        ("r2_eight", r"instances_train2017\.json: annotation 0 has the bbox \[.*\] and not \[x, y, width, height\]"),
    ],
)
def test_coco_files_are_refused(shared_dir, tmp_path, case, says):
    with pytest.raises(DataError, match=says):
        open_dataset("coco", "train", target="boxes", data_dir=tmp_path, manual_dir=shared_dir / "cases" / case)


def test_classes_of_folders_are_matched_by_name(shared_dir, tmp_path):
    def opened(case, split):
        return open_dataset(
            "image_folder_classification",
            split,
            target="label",
            data_dir=tmp_path,
            manual_dir=shared_dir / "cases" / case,
        )

    train, other = opened("cls3", "train"), opened("cls_other", "val")
    assert (train.class_names, other.class_names) == (("blue", "green", "red"), ("amber", "blue", "green"))
    with pytest.raises(DataError, match="amber is no class of the model, which knows blue, green, red"):
        match_classes(other, train.class_names)
    matched = match_classes(opened("cls3", "val"), ("red", "green", "blue"))
    numbers = {record["id"].split("/")[0]: record["label"] for record in (matched[i] for i in range(len(matched)))}
    assert {name: int(np.asarray(label)) for name, label in numbers.items()} == {"red": 0, "green": 1, "blue": 2}
