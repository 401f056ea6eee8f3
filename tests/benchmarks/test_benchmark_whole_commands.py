"""Whole commands beside PyTorch: the photographs, the command lines, and that ours agree with themselves."""

import json
import pathlib

import numpy as np
import pytest
import whole_commands
from PIL import Image
from whole_commands import Case, disagreement, make_photos


@pytest.fixture(name="photos")
def _photos(tmp_path) -> pathlib.Path:
    """Three photographs of two sizes, as a devkit has them."""
    kit = tmp_path / "kit"
    for folder in ("JPEGImages", "SegmentationClass"):
        (kit / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, size in enumerate([(40, 60), (60, 40), (40, 60)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(kit / "JPEGImages" / f"p{number}.jpg")
        Image.fromarray(rng.integers(0, 21, size, np.uint8)).save(kit / "SegmentationClass" / f"p{number}.png")
    return kit


def test_photographs_repeat_and_some_are_cropped_with_their_masks(photos, tmp_path):
    names = make_photos(photos, 7, tmp_path / "made")
    assert names == ["p0_0", "p1_0", "p2_0", "p0_1", "p1_1", "p2_1", "p0_2"]
    assert (tmp_path / "made" / "ImageSets" / "Segmentation" / "val.txt").read_text().split() == names
    sizes = {}
    for name in names:
        with Image.open(tmp_path / "made" / "JPEGImages" / f"{name}.jpg") as image:
            sizes[name] = image.size
        with Image.open(tmp_path / "made" / "SegmentationClass" / f"{name}.png") as mask:
            assert mask.size == sizes[name]
    assert sizes["p0_0"] == sizes["p2_1"] == (60, 40)
    assert sizes["p0_1"][1] == 40
    assert 40 <= sizes["p0_1"][0] < 60
    assert sizes["p0_2"][0] == 60
    assert 26 <= sizes["p0_2"][1] < 40


def test_both_sides_are_told_the_same(tmp_path):
    weights = (tmp_path / "a.safetensors", tmp_path / "a.npz")
    case = Case("predict", "unet", tmp_path / "kit", ["p0"], weights, tmp_path)
    ours, theirs = case.words("cvjax", None), case.words("torch", "python", 64)
    assert (tmp_path / "photographs.txt").read_text() == f"{tmp_path}/kit/JPEGImages/p0.jpg\n"
    assert ours[3:6] == ["predict", "--weights", str(weights[0])]
    assert theirs[2:5] == ["predict", str(tmp_path / "kit"), str(weights[1])]
    assert theirs[-2:] == ["--pad", "64"]
    for side, label in (("cvjax", 1), ("torch", 2)):
        case.out(side).mkdir()
        Image.fromarray(np.full((4, 4), label, np.uint8)).save(case.out(side) / "p0_mask.png")
    assert disagreement(case) == "0.00% of the predicted pixels agree"
    scored = case._replace(command="evaluate")
    for side in ("cvjax", "torch"):
        scored.report(side).write_text(json.dumps({"miou": 0.5}))
    assert disagreement(scored) is None


@pytest.mark.slow
def test_the_program_measures_both_commands(photos, tmp_path, monkeypatch, capsys, stem_here):
    counts = ["--images", "3", "--predicted", "2", "--nets", "unet", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["whole_commands.py", "--photos", str(photos), *counts])
    whole_commands.main()
    rows = json.loads((tmp_path / "out" / f"{stem_here('whole_commands')}.json").read_text())["rows"]
    assert [(row["mode"], row["batch"]) for row in rows] == [("evaluate", 3), ("predict", 2)]
    assert all(row["seconds"]["cvjax"] > 0 for row in rows)
    assert "| evaluate | unet | 3 |" in capsys.readouterr().out
