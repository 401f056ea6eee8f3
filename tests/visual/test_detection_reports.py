"""Precision over recall as a picture, and a detector's report as tables."""

import io

import numpy as np
import pytest
import rich.console
from PIL import Image

from cvjax.visual.detection_plots import plot_precision_recall
from cvjax.visual.detection_tables import detection_markdown, detection_tables

NAN = float("nan")
BLUE = (0x1F, 0x77, 0xB4)  # of the best class
BLACK = (0x16, 0x18, 0x1C)  # of the mean


def drawn(tmp_path, precision, ap):
    plot_precision_recall(np.asarray(precision), ap, tmp_path / "pr.png")
    with Image.open(tmp_path / "pr.png") as picture:
        return np.asarray(picture)


def has(picture, color) -> bool:
    return bool((picture == color).all(-1).any())


def test_a_better_class_has_the_higher_line(tmp_path):
    flat = np.ones(101)
    one = drawn(tmp_path, [flat * 0.5, flat * NAN], {"a": 0.5, "never": NAN})
    assert has(one, BLUE)
    assert not has(one, BLACK)  # the mean of one class is that class
    heights = []
    for level in (0.2, 0.5, 0.9):
        picture = drawn(tmp_path, [flat * level, flat * 0.1], {"a": level, "b": 0.1})
        rows, _ = np.nonzero((picture[:, :700] == BLUE).all(-1))
        heights.append(rows.min())
        assert has(picture, BLACK)
    assert heights[0] > heights[1] > heights[2]


@pytest.mark.parametrize("count", [0, 20, 21, 80])
def test_any_number_of_classes(tmp_path, count):
    precision = np.linspace(1, 0, 101) ** (1 + np.arange(count)[:, None])
    picture = drawn(tmp_path, precision, {f"class {i}": float(p.mean()) for i, p in enumerate(precision)})
    assert has(picture, BLUE) == (count == 20)
    assert has(picture, BLACK) == (count > 0)


def test_beyond_the_last_recall_there_is_no_line(tmp_path):
    precision = np.where(np.arange(101) <= 30, 0.8, 0.0)
    picture = drawn(tmp_path, [precision], {"a": 0.25})
    _, columns = np.nonzero((picture[:, :700] == BLUE).all(-1))
    assert columns.max() < 400
    with pytest.raises(ValueError, match="as many rows"):
        plot_precision_recall(np.zeros((2, 101)), {"a": 0.1}, tmp_path / "x.png")


REPORT = {
    "map": 0.4, "map_voc07": 0.45, "map_small": NAN, "map_large": 0.5,
    "ap": {"cat": 0.4, "do|g": NAN}, "ap_11": {"cat": 0.45, "do|g": NAN},
    "objects": {"cat": 4, "do|g": 0},
    "ap_by_size": {"small": {"cat": NAN, "do|g": NAN}, "large": {"cat": 0.5, "do|g": NAN}},
    "errors": {
        "cat": {"correct": 2, "localization": 1, "similar": 0, "other": 0, "background": 1},
        "do|g": dict.fromkeys(("correct", "localization", "similar", "other", "background"), 0),
    },
}  # fmt: skip


def test_tables_in_the_terminal_and_in_markdown():
    console = rich.console.Console(file=io.StringIO(), width=120)
    for table in detection_tables(REPORT, "a run"):
        console.print(table)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[0] == ["a", "run"]
    assert ["cat", "40.00", "45.00", "-", "50.00", "4"] in lines
    assert ["mean", "40.00", "45.00", "-", "50.00", "4"] in lines
    assert ["cat", "50.00", "25.00", "0.00", "0.00", "25.00", "4"] in lines
    assert ["do|g", *"-----", "0"] in lines
    assert ["all", "50.00", "25.00", "0.00", "0.00", "25.00", "4"] in lines
    text = detection_markdown(REPORT)
    assert "| do\\|g | - | - | - | - | 0 |" in text
    assert "| **mean** | **40.00** | **45.00** | **-** | **50.00** | **4** |" in text
    assert "COCO" not in text
    assert "| COCO AP | 12.50 |" in detection_markdown(REPORT | {"coco_ap": 0.125})
