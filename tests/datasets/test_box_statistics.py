"""Figures of sets of boxes, and the command that prints them."""

import math

import pytest
from tiny_sets import box_xml, encoded, photo, write_tree

from cvjax.cli import boxes
from cvjax.datasets.box_statistics import count_boxes
from cvjax.datasets.registry import open_dataset
from cvjax.errors import DataError

THINGS = [
    [("cat", 1, 1, 10, 10), ("cat", 1, 1, 20, 5), ("dog", 5, 5, 8, 8)],
    [],
    [("cat", 11, 11, 12, 28), ("cat", 9, 9, 9, 9)],
]


@pytest.fixture
def folder(tmp_path):
    tree = {f"{n}.jpg": encoded(photo(n), "JPEG") for n in range(3)}
    tree |= {f"{n}.xml": box_xml(things, difficult=(1,)) for n, things in enumerate(THINGS)}
    return write_tree(tmp_path, tree | {"classes.txt": b"dog\ncat\ncow\n"})


def test_figures(folder):
    source = open_dataset("xml_folder_detection", "all", target="boxes", manual_dir=folder, on_bad_boxes="drop")
    counts = count_boxes(source)
    assert (counts.images, counts.empty, counts.largest, counts.dropped_boxes) == (3, 1, 3, 1)
    dog, cat, cow = counts.classes
    assert [row.name for row in counts.classes] == ["dog", "cat", "cow"]
    assert (dog.images, dog.boxes, dog.difficult, dog.sides[1], dog.aspect) == (1, 1, 0, 4.0, 1.0)
    assert (cat.images, cat.boxes, cat.difficult, cat.crowd) == (2, 3, 1, 0)
    assert cat.sides[1] == 10.0  # of 100, 100 and 36 pixels
    assert math.isclose(cat.share, 10 / math.sqrt(30 * 40), rel_tol=1e-6)
    assert (cow.images, cow.boxes, math.isnan(cow.share)) == (0, 0, True)
    assert (counts.total.images, counts.total.boxes) == (2, 4)


def test_the_command_prints_them(folder, capsys):
    args = ["xml_folder_detection", "--split", "all", "--manual-dir", str(folder), "--no-progress"]
    with pytest.raises(DataError, match=r"2\.xml: box 2 of 2, cat at \(9, 9, 9, 9\)"):
        boxes.main(args)
    boxes.main([*args, "--on-bad-boxes", "drop"])
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.split()}
    assert lines["dog"] == ["1", "1", "0", "0", "4", "4", "4", "12", "1.00"]
    assert lines["cow"] == ["0", "0", "0", "0", *5 * "-"]
    assert "3 images, 1 of them without a box, at most 3 boxes in one; 1 bad boxes dropped\n" in printed
