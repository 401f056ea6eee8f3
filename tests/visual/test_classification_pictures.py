"""Pictures of a classifier's evaluation: tiles, confusion matrix, reliability diagram, table."""

import io

import cv2
import numpy as np
import pytest
import rich.console

from cvjax.visual import tables
from cvjax.visual.gallery import Tile, draw_gallery
from cvjax.visual.plots import plot_confusion, plot_reliability

GREEN, RED = (28, 122, 62), (190, 48, 38)


def tile(level: int, truth: str | None, prediction: str, size=(40, 60)) -> Tile:
    return Tile(np.full((*size, 3), level, np.uint8), truth, prediction, 0.75)


def has(picture: np.ndarray, color) -> bool:
    return bool((picture == color).all(-1).any())


def test_gallery_shows_every_image_and_colors_its_verdict():
    picture = draw_gallery([tile(101, "cat", "cat"), tile(102, "cat", "dog"), tile(103, None, "cow")], columns=2)
    assert picture.dtype == np.uint8
    for level in (101, 102, 103):
        assert ((picture == level).all(-1)).sum() == 120 * 180  # fitted into a cell of 180
    assert has(draw_gallery([tile(100, "cat", "cat")]), GREEN)
    assert not has(draw_gallery([tile(100, "cat", "cat")]), RED)
    assert has(draw_gallery([tile(100, "cat", "dog")]), RED)
    with pytest.raises(ValueError, match="at least one"):
        draw_gallery([])


def test_thumbnails_are_enlarged_by_no_more_than_six():
    picture = draw_gallery([tile(100, "cat", "cat", size=(4, 4))])
    assert (picture == 100).all(-1).sum() == 24 * 24


@pytest.mark.parametrize("count", [3, 40, 100])
def test_confusion_is_darker_where_more_went(tmp_path, count):
    confusion = np.eye(count, dtype=np.int64)
    confusion[0] = 0  # a class that does not occur
    plot_confusion(confusion, [f"class {i}" for i in range(count)], tmp_path / "c.png")
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert min(picture.shape[:2]) > 400
    darkest = (picture.astype(int).sum(-1) < 250) & (picture[..., 0] > picture[..., 2] + 40)  # dark blue, BGR
    rows, columns = np.nonzero(darkest[:, : int(picture.shape[1] * 0.85)])  # without the color bar
    assert np.corrcoef(rows, columns)[0, 1] > 0.7


def test_reliability_is_drawn_with_few_bins(tmp_path):
    for bins in ([], [{"count": 3, "accuracy": 0.5, "confidence": 0.9}]):
        plot_reliability(bins, 0.4, tmp_path / "r.png")
        picture = cv2.imread(str(tmp_path / "r.png"))
        blue = (picture == (0xB5, 0x6D, 0x2F)).all(-1).sum()
        assert (blue > 500) == bool(bins)


def report(count: int) -> dict:
    accuracy = {f"class {i}": i / count for i in range(count)} | {"never": float("nan")}
    return {"accuracy": accuracy, "top1": 0.5, "top5": 0.9, "mean_accuracy": 0.4, "ece": 0.0123}


def printed(given: dict) -> str:
    console = rich.console.Console(file=io.StringIO(), width=100)
    console.print(tables.report_table(given))
    return console.file.getvalue()


def test_table_of_accuracies():
    text = printed(report(3))
    assert [line.split() for line in text.splitlines() if line.strip()][-4:] == [
        ["top-1", "50.00"],
        ["top-5", "90.00"],
        ["mean", "accuracy", "40.00"],
        ["calibration", "error", "1.23"],
    ]
    assert ["class", "2", "66.67", "█" * 13] in [line.split() for line in text.splitlines()]
    assert "| never | - |" in tables.report_markdown(report(3))


def test_of_many_classes_the_terminal_shows_the_hardest():
    text = printed(report(1000))
    assert "the 60 hardest of 1001 classes" in text
    assert "class 59 " in text
    assert "class 60 " not in text
    assert len(tables.report_markdown(report(1000)).splitlines()) == 2 + 1001 + 4
