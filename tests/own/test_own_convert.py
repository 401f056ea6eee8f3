"""`cvjax data convert` writes every format as COCO JSON and YOLO text that are read to the same boxes and masks."""

import json
import pathlib

import numpy as np
import pytest
from own_sets import (
    CLASSES,
    WRITERS,
    Photo,
    Thing,
    coco_content,
    mask_of,
    photos,
    put,
    write_coco,
    write_labelme,
    write_voc,
    write_yolo,
)
from tiny_sets import encoded, mask_png, photo

from cvjax.cli.data.convert import main
from cvjax.data.decode import decode_example
from cvjax.datasets.own import open_own
from cvjax.datasets.own.annotated.outlines import pixels_runs, polygon_pixels, runs_pixels
from cvjax.datasets.own.written.polygons import around, clipped
from cvjax.errors import ConfigError, DataError

SPLITS = photos()


@pytest.mark.parametrize("to", ["coco", "yolo"])
@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_is_read_to_the_same(tmp_path, kind, to):
    WRITERS[kind](tmp_path / "own", SPLITS, kind != "voc")
    main([str(tmp_path / "own"), str(tmp_path / "out"), "--to", to])
    for split, shown in SPLITS.items():
        boxes = open_own(tmp_path / "out", split, "boxes", format=to)
        assert boxes.class_names == CLASSES
        assert len(boxes) == len(shown)
        for index, each in enumerate(shown):
            record = boxes[index]
            assert record["image"] == each.data
            assert [CLASSES[label] for label in record["labels"]] == [thing.name for thing in each.things]
            wanted = np.array([thing.box for thing in each.things]).reshape(-1, 4)
            np.testing.assert_allclose(record["boxes"], wanted, rtol=1e-6, atol=1e-5 if kind == "voc" else 1e-6)
        if kind != "voc":
            masks = open_own(tmp_path / "out", split, "mask")
            for index, each in enumerate(shown):
                np.testing.assert_array_equal(decode_example(masks[index], 4)["mask"], mask_of(each))


def test_boxes_at_the_border_stay_there(tmp_path):
    things = tuple(Thing("cat", box) for box in ((282, 0, 567, 106), (0, 401, 77, 479), (161, 0, 290, 70)))
    write_voc(tmp_path / "own", {"train": [Photo("a", encoded(photo(1, 479, 641), "PNG"), (479, 641), things)]})
    main([str(tmp_path / "own"), str(tmp_path / "out"), "--to", "yolo"])
    boxes = open_own(tmp_path / "out", "train", "boxes")[0]["boxes"]
    np.testing.assert_allclose(boxes, [thing.box for thing in things], rtol=1e-6, atol=0)


@pytest.mark.parametrize("to", ["coco", "yolo"])
@pytest.mark.parametrize("seed", range(4))
def test_pixels_with_holes_and_pieces_stay_as_they_are(tmp_path, to, seed):
    shown = SPLITS["train"][:1]
    pixels = np.random.default_rng(seed).random(shown[0].size) < (0.1, 0.4, 0.6, 0.9)[seed]
    content = coco_content(shown)
    counts = pixels_runs(pixels).counts.tolist()
    content["annotations"] = [
        {"id": 5, "image_id": 10, "category_id": 3, "segmentation": {"size": list(shown[0].size), "counts": counts}}
    ]
    put(tmp_path, "own/mine.json", json.dumps(content))
    put(tmp_path, "own/p0.png", shown[0].data)
    main([str(tmp_path / "own/mine.json"), str(tmp_path / "out"), "--to", to])
    mask = decode_example(open_own(tmp_path / "out", "train", "mask")[0], 4)["mask"]
    np.testing.assert_array_equal(mask, 2 * pixels)


def test_parts_that_overlap_make_no_hole(tmp_path):
    shown = SPLITS["train"][:1]
    content = coco_content(shown)
    parts = [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 18, 8, 18, 18, 8, 18], [20, 3, 24, 3, 24, 9]]
    content["annotations"] = [{"id": 5, "image_id": 10, "category_id": 3, "segmentation": parts}]
    put(tmp_path, "own/mine.json", json.dumps(content))
    put(tmp_path, "own/p0.png", shown[0].data)
    source = open_own(tmp_path / "own", "all", "mask")
    wanted = decode_example(source[0], 4)["mask"]
    assert (wanted[9:11, 9:11] == 2).all()
    main([str(tmp_path / "own"), str(tmp_path / "out"), "--to", "yolo"])
    np.testing.assert_array_equal(decode_example(open_own(tmp_path / "out", "all", "mask")[0], 4)["mask"], wanted)


@pytest.mark.parametrize("seed", range(6))
def test_polygons_are_cut_off_at_the_border(seed):
    size = (18, 25)
    corners = np.random.default_rng(seed).uniform(-15, 40, (7, 2))
    cut = clipped(corners, size)
    assert cut is not None
    assert cut.min() >= 0
    assert (cut.max(axis=0) <= (25, 18)).all()
    np.testing.assert_array_equal(polygon_pixels(cut, size), polygon_pixels(corners, size))
    assert clipped(corners - 100, size) is None


@pytest.mark.parametrize("fill", [0.0, 0.02, 0.5, 1.0])
def test_runs_and_borders_undo_pixels(fill):
    pixels = np.random.default_rng(7).random((13, 17)) < fill
    np.testing.assert_array_equal(runs_pixels(pixels_runs(pixels)), pixels)
    border = around(pixels)
    if fill == 0:
        assert border is None
    else:
        assert border is not None
        np.testing.assert_array_equal(polygon_pixels(border, (13, 17)), pixels)


def test_camvids_masks_come_back_from_both(tmp_path, shared_dir):
    """Masks of photographs, whose classes have holes and pieces, as run lengths and then as polygons."""
    folder = shared_dir / "data" / "camvid" / "val"
    stems = sorted(path.stem for path in (folder / "masks").iterdir())[:2]
    masks = [_read(folder / "masks" / f"{stem}.png") for stem in stems]
    names = (shared_dir / "data" / "camvid" / "classes.txt").read_text().split()
    height, width = masks[0].shape
    things = [
        {
            "id": 100 * n + label,
            "image_id": n,
            "category_id": label,
            "segmentation": {"size": [height, width], "counts": pixels_runs(mask == label).counts.tolist()},
        }
        for n, mask in enumerate(masks)
        for label in range(11)
        if (mask == label).any()
    ]
    images = [{"id": n, "file_name": f"{stem}.jpg", "height": height, "width": width} for n, stem in enumerate(stems)]
    categories = [{"id": label, "name": name} for label, name in enumerate(names)]
    put(tmp_path, "own/a.json", json.dumps({"images": images, "categories": categories, "annotations": things}))
    for stem in stems:
        put(tmp_path, f"own/{stem}.jpg", (folder / "images" / f"{stem}.jpg").read_bytes())
    main([str(tmp_path / "own"), str(tmp_path / "coco"), "--to", "coco"])
    main([str(tmp_path / "coco"), str(tmp_path / "yolo"), "--to", "yolo"])
    for place in ("own", "coco", "yolo"):
        source = open_own(tmp_path / place, "train", "mask")
        assert source.class_names == ("background", *names)
        for index, mask in enumerate(masks):
            wanted = np.where(mask < 11, mask + 1, 0)
            np.testing.assert_array_equal(decode_example(source[index], 12)["mask"], wanted)


def test_masks_of_pictures_are_converted(tmp_path, capsys):
    """All pixels of a class are one object; a class called background is none, and ignored pixels become it."""
    masks = [np.random.default_rng(seed).choice([0, 1, 2, 255], (12, 16)).astype(np.uint8) for seed in range(3)]
    put(tmp_path, "own/classes.txt", "background\nroad\ncar\n")
    for number, mask in enumerate(masks):
        split = "train" if number else "val"
        put(tmp_path, f"own/{split}/images/{number}.png", encoded(photo(number, 12, 16), "PNG"))
        put(tmp_path, f"own/{split}/masks/{number}.png", mask_png(mask))
    for to in ("coco", "yolo"):
        main([str(tmp_path / "own"), str(tmp_path / to), "--to", to])
        source = open_own(tmp_path / to, "all", "mask")
        assert source.class_names == ("background", "road", "car")
        for index, path in enumerate(source.image_files()):
            mask = masks[int(pathlib.Path(path).stem)]
            np.testing.assert_array_equal(decode_example(source[index], 3)["mask"], np.where(mask == 255, 0, mask))
    ignored = sum(int((mask == 255).sum()) for mask in masks)
    assert f"{ignored} ignored pixels are background in it" in capsys.readouterr().out


def _read(path: pathlib.Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path)).astype(np.int64)


def test_images_are_links_or_copies(tmp_path, capsys):
    write_coco(tmp_path / "own", SPLITS)
    main([str(tmp_path / "own"), str(tmp_path / "links"), "--to", "yolo", "--json", str(tmp_path / "said.json")])
    main([str(tmp_path / "own"), str(tmp_path / "copies"), "--to", "yolo", "--copy"])
    first = tmp_path / "own/images/train/p0.png"
    assert (tmp_path / "links/images/train/p0.png").samefile(first)
    copied = tmp_path / "copies/images/train/p0.png"
    assert not copied.samefile(first)
    assert copied.read_bytes() == first.read_bytes()
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["images"] == {"train": 3, "val": 2}
    assert said["objects"] == {"train": 3, "val": 3}
    assert said["linked"] == 5
    assert "COCO JSON as yolo, 3 classes; images: 3 of train with 3 objects" in capsys.readouterr().out


def test_ids_of_coco_stay_and_others_count_from_one(tmp_path):
    write_coco(tmp_path / "own", SPLITS)
    write_yolo(tmp_path / "text", SPLITS)
    for source in ("own", "text"):
        main([str(tmp_path / source), str(tmp_path / f"{source}_out"), "--to", "coco"])
    first, second = (
        json.loads((tmp_path / f"{name}_out/annotations/instances_train.json").read_text()) for name in ("own", "text")
    )
    assert [image["id"] for image in first["images"]] == [10, 11, 12]
    assert [image["id"] for image in second["images"]] == [1, 2, 3]
    assert [entry["name"] for entry in first["categories"]] == list(CLASSES)
    main([str(tmp_path / "own"), str(tmp_path / "again"), "--to", "coco"])
    for name in ("train", "val"):
        path = f"annotations/instances_{name}.json"
        assert (tmp_path / "again" / path).read_text() == (tmp_path / "own_out" / path).read_text()


def test_marks_are_kept_where_the_format_has_them_and_counted_where_not(tmp_path, capsys):
    content = coco_content(SPLITS["train"])
    content["annotations"][0]["iscrowd"] = 1
    put(tmp_path, "own/annotations/instances_default.json", json.dumps(content))
    for each in SPLITS["train"]:
        put(tmp_path, f"own/images/{each.stem}.png", each.data)
    main([str(tmp_path / "own"), str(tmp_path / "coco"), "--to", "coco"])
    assert open_own(tmp_path / "coco", "all", "boxes")[0]["crowd"].tolist() == [True]
    assert "crowd" not in capsys.readouterr().out
    main([str(tmp_path / "own"), str(tmp_path / "yolo"), "--to", "yolo"])
    assert "1 boxes around crowds left out" in capsys.readouterr().out
    assert not len(open_own(tmp_path / "yolo", "all", "boxes")[0]["boxes"])


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(tmp_path):
    write_coco(tmp_path / "own", SPLITS)
    put(tmp_path, "full/a.txt", "mine")
    with pytest.raises(ConfigError, match="full: is there already"):
        main([str(tmp_path / "own"), str(tmp_path / "full"), "--to", "yolo"])
    (tmp_path / "own/images/val/p4.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"p4.png"):
        main([str(tmp_path / "own"), str(tmp_path / "out"), "--to", "yolo"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "own"]


def test_names_that_two_images_share_become_two(tmp_path):
    write_labelme(tmp_path / "own", {"train": SPLITS["train"][:1], "val": SPLITS["val"][:1]})
    for split, stem in (("train", "p0"), ("val", "p3")):  # an image in each split is called the same
        for suffix in ("json", "png"):
            (tmp_path / f"own/{split}/{stem}.{suffix}").rename(tmp_path / f"own/{split}/same.{suffix}")
    main([str(tmp_path / "own"), str(tmp_path / "out"), "--to", "coco"])
    assert (tmp_path / "out/images/train/same.png").is_file()
    assert (tmp_path / "out/images/val/same.png").is_file()
