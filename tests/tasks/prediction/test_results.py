"""What is written of boxes and classes, and videos."""

import csv
import json
import pathlib

import numpy as np
import pytest

from cvjax.errors import DataError
from cvjax.tasks.prediction.box_results import BoxResults, yolo_text
from cvjax.tasks.prediction.class_results import ClassResults
from cvjax.tasks.prediction.coco_ids import CocoIds
from cvjax.tasks.prediction.results import Item
from cvjax.tasks.prediction.sheet import make_thumb, write_sheet
from cvjax.tasks.prediction.videos import Video, written_video
from cvjax.visual.boxes import Boxes

FOUND = Boxes(
    np.array([[10, 20, 60, 100], [0, 0, 200, 100], [5, 5, 6, 7]], np.float32),
    np.array([1, 0, 1]),
    np.array([0.9, 0.6, 0.125], np.float32),
)
SIZE = (100, 200)


def items(*names: str) -> list[Item]:
    return [Item(pathlib.Path(name), pathlib.Path(name).stem, SIZE) for name in names]


def test_yolos_text_read_back_gives_the_boxes():
    rows = np.array([[float(word) for word in line.split()] for line in yolo_text(FOUND, SIZE).splitlines()])
    np.testing.assert_array_equal(rows[:, 0], FOUND.labels)
    x, y, width, height = rows[:, 1:5].T * np.array([[200], [100], [200], [100]])
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    np.testing.assert_allclose(corners, FOUND.boxes, atol=1e-4)
    np.testing.assert_allclose(rows[:, 5], FOUND.scores, atol=1e-6)


def test_boxes_are_written_in_all_formats(tmp_path):
    results = BoxResults(("cat", "dog"), 0.5, ("json", "coco", "yolo"))
    (item,) = items("photos/000000000139.jpg")
    shown = results.shown(FOUND)
    written = results.write(tmp_path, item, shown)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "000000000139_boxes.json",
        "labels/000000000139.txt",
    ]
    assert len(json.loads(written[0].read_text())["boxes"]) == len(written[1].read_text().splitlines()) == 2
    results.finish(tmp_path, [(item, results.kept(shown))])
    rows = json.loads((tmp_path / "coco_results.json").read_text())
    assert rows[0] == {"image_id": 139, "category_id": 2, "bbox": [10, 20, 50, 80], "score": pytest.approx(0.9)}
    assert len(rows) == 3  # COCO's scores need also those with a low score
    about = json.loads((tmp_path / "coco_images.json").read_text())
    assert about["images"] == [{"id": 139, "file_name": "000000000139.jpg", "height": 100, "width": 200}]
    assert about["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert results.line(shown) == "cat 1, dog 1"


def test_ids_are_those_of_a_file_or_of_the_names(tmp_path):
    names = CocoIds.of_classes(("cat",))
    assert [one["id"] for one in names.images(items("a_7.jpg", "b_12.jpg"))] == [7, 12]
    assert [one["id"] for one in names.images(items("a_7.jpg", "b.jpg"))] == [1, 2]
    assert [one["id"] for one in names.images(items("a_7.jpg", "b_07.jpg"))] == [1, 2]
    file = tmp_path / "val.json"
    images = [{"id": 40, "file_name": "val/1.jpg"}, {"id": 41, "file_name": "train/1.jpg"}]
    file.write_text(json.dumps({"images": images, "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]}))
    ids = CocoIds.of_file(str(file), ("cat", "dog"))
    assert [one["id"] for one in ids.categories] == [3, 18]
    assert [one["id"] for one in ids.images(items("/data/train/1.jpg", "/data/val/1.jpg"))] == [41, 40]
    with pytest.raises(DataError, match=r"val\.json: does not list the image other/1\.jpg"):
        ids.images(items("other/1.jpg"))
    with pytest.raises(DataError, match="has no category cow"):
        CocoIds.of_file(str(file), ("cow",))
    file.write_text("[]")
    with pytest.raises(DataError, match="is not in COCO's format"):
        CocoIds.of_file(str(file), ("cat",))
    with pytest.raises(DataError, match="cannot be read"):
        CocoIds.of_file(str(tmp_path / "none.json"), ("cat",))


def test_classes_are_a_table(tmp_path):
    results = ClassResults(("a", "b", "c"), top=2)
    chances = np.array([0.25, 0.125, 0.625], np.float32)
    (item,) = items("photos/x, y.jpg")
    results.finish(tmp_path, [(item, results.kept(chances))])
    with open(tmp_path / "classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["rank"], row["class"], row["probability"]) for row in rows] == [
        ("photos/x, y.jpg", "1", "c", "0.625"),
        ("photos/x, y.jpg", "2", "a", "0.25"),
    ]
    assert results.line(chances) == "c 62.5%, a 25.0%"
    assert results.frame(np.zeros((30, 200, 3), np.uint8), chances).shape[0] > 30


def test_a_video_of_odd_pictures_is_read_back(tmp_path):
    pictures = [np.full((47, 65, 3), (number * 20, 0, 200), np.uint8) for number in range(9)]
    with written_video(tmp_path / "deep" / "a.mp4", 12.5) as writer:
        for picture in pictures:
            writer.add(picture)
    video = Video(tmp_path / "deep" / "a.mp4")
    assert (video.fps, video.count) == (12.5, 9)
    frames = list(video.frames())
    assert [frame.number for frame in frames] == list(range(9))
    for frame, picture in zip(frames, pictures):
        assert frame.image.shape == (48, 66, 3)
        np.testing.assert_allclose(frame.image[20, 30].astype(int), picture[20, 30], atol=12)
    assert [frame.number for frame in Video(tmp_path / "deep" / "a.mp4").frames(4)] == [0, 4, 8]


def test_what_is_no_video_is_a_sentence(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 200)
    for name in ("a.mp4", "none.mp4"):
        with pytest.raises(DataError, match=f"{name}: no frame of this video can be decoded; convert it"):
            Video(tmp_path / name)


def test_a_sheet_of_many_pictures_has_several_pages(tmp_path):
    thumb = make_thumb(np.zeros((8, 8, 3), np.uint8), "a", ["b"], "sub/a b.png")
    written = write_sheet(tmp_path, "Title", "Lead.", {"Images": [thumb] * 501, "Videos": [thumb]}, legend={})
    assert [path.name for path in written] == ["index.html", "index_2.html"]
    first, second = (path.read_text() for path in written)
    assert first.count("<img ") == 500
    assert second.count("<img ") == 2
    assert 'href="./index_2.html"' in first
    assert 'href="./sub/a%20b.png"' in second
