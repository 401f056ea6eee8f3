"""The command compare, on folders as runs leave them, with small models in the place of checkpoints'."""

import dataclasses
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import segmentation
from PIL import Image
from tiny_run import draw_folder

from cvjax.cli import compare
from cvjax.engine.config import as_json
from cvjax.errors import UserError
from cvjax.tasks import load
from cvjax.tasks.comparing import judging
from cvjax.tasks.comparing.judging import Judgment, count_boxes, image_iou, paired_statistics
from cvjax.tasks.loaded import Loaded
from cvjax.visual.boxes import Boxes

NAMES = ("background", "disc", "square")


class Threshold(nn.Module):
    """Says disc where the image is brighter than a level."""

    level: float = 150.0

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        bright = images.mean(-1, keepdims=True) - self.level
        return jnp.concatenate([-bright, bright, jnp.full_like(bright, -1e9)], axis=-1)


def leave_run(place, seed, miou, ious, steps=20, report=True):
    """Writes what a run leaves, by hand."""
    place.mkdir(parents=True)
    config = {"model": {"name": "unet", "options": {"width": 8}}, "input": {}, "optim": {"learning_rate": 0.1}}
    run = {**config, "data": "camvid", "seed": seed, "workdir": str(place), "eval": {"flip": False}}
    task = {"kind": "segmentation", "class_names": NAMES}
    (place / "config.json").write_text(json.dumps({"format": 3, "task": task, "run": run}))
    lines = [{"step": step, "loss": 1 / step, "learning_rate": 0.1} for step in range(1, steps + 1)]
    lines.append({"step": steps, "val/miou": miou})
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if report:
        (place / "report.json").write_text(
            json.dumps({"miou": miou, "iou": dict(zip(NAMES, ious)), "examples": 13, "skipped": 0})
        )
    return place


@pytest.fixture
def runs(tmp_path):
    return (
        leave_run(tmp_path / "first" / "quick", 0, 0.5, (0.9, 0.4, 0.2)),
        leave_run(tmp_path / "second" / "quick", 7, 0.6, (0.9, 0.3, None)),
    )


def figures(tmp_path, *arguments):
    compare.main([str(word) for word in (*arguments, "--json", tmp_path / "figures.json")])
    return json.loads((tmp_path / "figures.json").read_text())


def test_scores_classes_and_settings_stand_side_by_side(runs, tmp_path, capsys):
    found = figures(tmp_path, *runs)
    assert [run["name"] for run in found["runs"]] == ["first/quick", "second/quick"]
    assert found["scores"]["miou"] == {"first/quick": 0.5, "second/quick": 0.6}
    assert found["scores"]["steps"] == {"first/quick": 20, "second/quick": 20}
    assert found["classes"]["iou"]["square"] == {"first/quick": 0.2, "second/quick": None}
    assert found["settings"] == {"seed": {"first/quick": 0, "second/quick": 7}}
    assert found["notes"] == []
    shown = capsys.readouterr().out
    assert "first/quick" in shown
    assert "0.6" in shown


def test_what_makes_scores_less_comparable_is_said(runs, tmp_path):
    third = leave_run(tmp_path / "third", 0, 0.7, (), report=False)
    config = json.loads((third / "config.json").read_text())
    config["run"] |= {"data": "voc_segmentation", "eval": {"flip": True}}
    config["task"]["class_names"] = ["background", "cat"]
    (third / "config.json").write_text(json.dumps(config))
    found = figures(tmp_path, runs[0], third)
    assert found["scores"]["miou"]["third"] == 0.7  # of the log
    assert [note.split(" ")[0:4] for note in found["notes"]] == [
        ["The", "runs", "differ", "in"],
        ["They", "were", "scored", "otherwise"],
        ["third", "has", "no", "report,"],
        ["Their", "classes", "differ,", "so"],
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda first, second: [first], "at least two runs"),
        (lambda first, second: [first, first], "is named twice"),
        (lambda first, second: [first, first.parent], "holds no config.json"),
        (lambda first, second: [first, _other_task(second)], "runs of one task are compared"),
        (lambda first, second: [first, _garbled(second, "config.json")], "describes no run"),
        (lambda first, second: [first, _garbled(second, "report.json")], "report.json is no JSON"),
        (lambda first, second: [first, second, "--images", "-1"], "--images is a number of images"),
    ],
)
def test_a_mistake_is_one_sentence(runs, damage, said):
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        compare.main([str(word) for word in damage(*runs)])
    assert "\n" not in str(raised.value)


def _other_task(place):
    text = (place / "config.json").read_text()
    (place / "config.json").write_text(text.replace('"segmentation"', '"detection"'))
    return place


def _garbled(place, name):
    (place / name).write_text("{")
    return place


def test_a_page_shows_the_images_that_one_run_is_better_at(runs, tmp_path, monkeypatch):
    folder = draw_folder(tmp_path / "drawings", train=2, val=6)
    levels = {str(runs[0]): 150.0, str(runs[1]): 60.0}  # the second takes noise for discs

    def load_for_inference(path):
        model = Threshold(levels[path])
        task = segmentation(NAMES, mean=(0.0,) * 3, std=(1.0,) * 3)
        config = dataclasses.replace(task.config, data="image_folder_segmentation")
        config = dataclasses.replace(config, input=dataclasses.replace(config.input, manual_dir=str(folder)))
        return Loaded(model, {}, dataclasses.replace(task, config=config), {}, tmp_path)

    monkeypatch.setattr(load, "load_for_inference", load_for_inference)
    found = figures(tmp_path, *runs, "--html", tmp_path / "page.html", "--images", "6")["images"]
    assert found["images"] == 6
    for each in found["each"]:
        image, mask = (
            np.asarray(Image.open(folder / "val" / kind / f"{each['id']}.{suffix}"))
            for kind, suffix in (("images", "jpg"), ("masks", "png"))
        )
        for which, level in (("first", 150.0), ("second", 60.0)):
            guess = (image.astype(float).mean(-1) > level).astype(np.uint8)
            counted, ious = mask != 255, []
            for label in range(3):
                either = ((guess == label) | (mask == label)) & counted
                if either.any():
                    ious.append(((guess == label) & (mask == label) & counted).sum() / either.sum())
            assert each[which]["score"] == pytest.approx(np.mean(ious), abs=0.02)  # the device decodes as PIL does
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:image/png") == 1  # the curves
    assert text.count("data:image/jpeg") == 6
    assert "first/quick is better" in text
    assert "IoU" in text


def test_image_iou_by_hand():
    mask = np.array([[0, 0, 1, 255]], np.uint8)
    assert image_iou(mask, np.array([[0, 1, 1, 2]], np.uint8), 3, 255) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert np.isnan(image_iou(np.full((1, 4), 255, np.uint8), np.zeros((1, 4), np.uint8), 3, 255))


def test_boxes_are_counted_by_hand():
    truth = Boxes(
        np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10.0]]),
        np.array([0, 0, 1, 0]),
        faint=np.array([False, False, False, True]),
    )
    found = Boxes(
        np.array([[0, 0, 10, 9], [0, 0, 10, 8], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10], [80, 0, 90, 9.0]]),
        np.array([0, 0, 1, 1, 0, 0]),
        np.linspace(0.9, 0.4, 6),
    )
    # Right: the first and the fourth. Wrong: the second again, the third's class, the last. Missed: the second object.
    assert count_boxes(found, truth) == (2, 3, 1)
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0, int))
    assert count_boxes(nothing, truth) == (0, 0, 3)
    assert count_boxes(found, nothing) == (0, 6, 0)


def test_statistics_of_pairs():
    def judged(flags):
        return [Judgment(float(flag), bool(flag), "") for flag in flags]

    found = paired_statistics(judged([1] * 10 + [0]), judged([0] * 8 + [1, 1, 0]))
    counts = [found[name] for name in ("both_right", "only_first", "only_second", "both_wrong")]
    assert counts == [2, 8, 0, 1]
    assert found["mcnemar_p"] == pytest.approx(2 / 2**8)  # all of 8 coins on one side
    assert found["mean_difference"] == pytest.approx(8 / 11)
    assert 0.36 <= found["low"] < found["mean_difference"] < found["high"] <= 1.0


def test_runs_of_other_data_are_not_compared_image_by_image():
    class Data(list):
        name, split = "set", "val"

    def of(*pairs):
        return Data([{"id": name, "image": image} for name, image in pairs])

    with pytest.raises(UserError, match="has 1 examples and"):
        list(judging.shared_examples(of(("a", b"a")), of(), 3))
    with pytest.raises(UserError, match="a of set val is no image of the second run's"):
        list(judging.shared_examples(of(("a", b"a")), of(("a", b"b")), 3))
    numbered = of(("1", b"b"), ("2", b"a"), ("3", b"c"))  # another format's ids, in another order
    found = list(judging.shared_examples(of(("a", b"a"), ("b", b"b"), ("c", b"c")), numbered, 3))
    assert found == [((0, 1), "a"), ((1, 0), "b"), ((2, 2), "c")]


def test_settings_are_named_as_flags(tmp_path, runs):
    config = json.loads((runs[1] / "config.json").read_text())
    config["run"]["optim"]["learning_rate"] = 0.2
    (runs[1] / "config.json").write_text(json.dumps(as_json(config)))
    assert list(figures(tmp_path, *runs)["settings"]) == ["optim.learning-rate", "seed"]
