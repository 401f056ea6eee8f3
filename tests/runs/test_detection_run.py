"""A detection run from a folder of XML to pictures, and the commands on its checkpoint."""

import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import toy_detector
from commands import run
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from cvjax.cli import evaluate, predict
from cvjax.engine.optim import OptimizerConfig
from cvjax.errors import ConfigError, DataError
from cvjax.models.config import ModelConfig
from cvjax.tasks.detection.config import DetectionConfig, DetectionEval
from cvjax.tasks.detection.transforms import DetectionData

_XML = (
    "<annotation><size><width>{}</width><height>{}</height><depth>3</depth></size>{}</annotation>",
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>",
)


def draw_boxes_folder(folder: pathlib.Path, train: int = 24, val: int = 11) -> pathlib.Path:
    """Bright discs and dark squares on noise, 0 to 2 an image, with VOC's XML beside; some are difficult."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        (folder / split).mkdir(parents=True)
        for number in range(count):
            height, width = (int(s) for s in rng.integers(48, 65, 2))
            image, things = rng.integers(80, 160, (height, width, 3), np.uint8), ""
            for thing in range(number % 3):
                half = int(rng.integers(7, 11))
                x, y = 12 + 22 * thing + int(rng.integers(0, 6)), int(rng.integers(12, height - 12))
                corners = (x - half, y - half, x + half - 1, y + half - 1)
                if (number + thing) % 2:
                    cv2.ellipse(image, (x, y), (half - 1, half - 1), 0, 0, 360, (250, 240, 60), -1)
                else:
                    cv2.rectangle(image, corners[:2], corners[2:], (10, 20, 60), -1)
                name = ("square", "disc")[(number + thing) % 2]
                things += _XML[1].format(name, int(number % 5 == 4), *(side + 1 for side in corners))
            cv2.imwrite(str(folder / split / f"{number:02d}.png"), image)
            (folder / split / f"{number:02d}.xml").write_text(_XML[0].format(width, height, things))
    (folder / "classes.txt").write_text("disc\nsquare\n")
    return folder


@pytest.fixture(scope="module")
def toy():
    with pytest.MonkeyPatch.context() as patch:
        toy_detector.register(patch)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_boxes_folder(tmp_path_factory.mktemp("shapes"))


def _config(folder, workdir, **changes) -> DetectionConfig:
    """Two sizes of training images, and evaluation at a third, so that images are scaled and padded."""
    config = DetectionConfig(
        model=ModelConfig("toy_detector"),
        workdir=str(workdir),
        data="xml_folder_detection",
        steps=100,
        batch_size=8,
        log_every=10,
        eval_every=100,
        checkpoint_every=50,
        input=DetectionData(crop=(64, 64), sizes=((64, 64), (72, 72)), boxes=4, shift=0.1, manual_dir=str(folder)),
        optim=OptimizerConfig(name="adamw", learning_rate=0.01, warmup=0.0),
        eval=DetectionEval(
            batch_size=8, boxes=4, short_side=64, pad_multiple=16, score_threshold=0.1, max_detections=6
        ),
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def trained(toy, folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    run(_config(folder, workdir))
    return workdir


def _report(workdir) -> dict:
    return json.loads((workdir / "report.json").read_text())


def _losses(workdir) -> dict[int, float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["classes"], line["boxes"]) for line in lines if "loss" in line}


@pytest.mark.slow
def test_a_run_is_trained_scored_and_pictured(trained):
    report = _report(trained)
    assert (report["examples"], report["skipped"], report["dropped_boxes"]) == (11, 0, 0)
    assert report["map"] > 0.3
    for name in ("report.md", "predictions.png", "precision_recall.png", "curves.png"):
        assert (trained / name).stat().st_size > 100
    assert len(_losses(trained)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_evaluate_gives_the_figures_of_the_loop(trained, tmp_path, parallel):
    arguments = evaluate.Arguments(str(trained), parallel=parallel, pictures=str(tmp_path))
    report = evaluate.evaluate_checkpoint(arguments, Console(quiet=True))
    looped = _report(trained)
    assert (report["examples"], report["objects"]) == (looped["examples"], looped["objects"])
    # Under pmap sums are rounded otherwise, which may swap detections of nearly the same score.
    tolerance = {"jit": 0, "pmap": 0.02}[parallel]
    for name in ("map", "map_voc07", "recall"):
        assert report[name] == pytest.approx(looped[name], rel=0, abs=tolerance)
    assert (tmp_path / "precision_recall.png").exists()
    changed = dataclasses.replace(arguments, pictures=None, score_threshold=0.99, max_detections=1, coco=True)
    strict = evaluate.evaluate_checkpoint(changed, Console(quiet=True))
    assert strict["recall"] < report["recall"]
    assert "coco_ap" in strict
    with pytest.raises(ConfigError, match="--scales is of no use"):
        evaluate.evaluate_checkpoint(dataclasses.replace(arguments, scales=(1.0, 2.0)), Console(quiet=True))


@pytest.mark.slow
def test_predict_draws_boxes_and_writes_them(trained, folder, tmp_path):
    images = sorted((folder / "val").glob("*.png"))[:3]
    written = predict.predict_files(
        predict.Arguments(str(trained), tuple(map(str, images)), out=str(tmp_path), score=0.1)
    )
    assert [path.name for path in written[:2]] == ["00_overlay.png", "00_boxes.json"]
    kept = json.loads((tmp_path / "02_boxes.json").read_text())
    size = cv2.imread(str(images[2])).shape[:2]
    assert (kept["height"], kept["width"]) == size
    assert kept["boxes"]
    scores = [box["score"] for box in kept["boxes"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.1
    for box in kept["boxes"]:
        x1, y1, x2, y2 = box["box"]
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]
        assert box["class"] == ("disc", "square")[box["label"]]
    with pytest.raises(ConfigError, match="--score is nan"):
        predict.predict_files(predict.Arguments(str(trained), (str(images[0]),), out=str(tmp_path), score=float("nan")))


@pytest.mark.slow
def test_cocos_results_score_as_evaluate_does(trained, folder, tmp_path):
    """By pycocotools itself, on annotations read from the XML by other code; no object is difficult, as in COCO."""
    shutil.copytree(folder, tmp_path / "shapes")
    images, annotations = [], []
    for number, path in enumerate(sorted((tmp_path / "shapes" / "val").glob("*.xml"))):
        path.write_text(path.read_text().replace("<difficult>1<", "<difficult>0<"))
        root = ElementTree.parse(path).getroot()
        images.append({"id": 100 + number, "file_name": f"{path.stem}.png"})
        for thing in root.iter("object"):
            x1, y1, x2, y2 = (int(thing.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax"))
            box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
            category = {"disc": 7, "square": 4}[thing.findtext("name")]
            row = {"id": len(annotations) + 1, "image_id": 100 + number, "category_id": category, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": 4, "name": "square"}, {"id": 7, "name": "disc"}]
    truth = {"images": images, "categories": categories, "annotations": annotations}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    arguments = predict.Arguments(
        str(trained), (str(tmp_path / "shapes" / "val"),), out=str(tmp_path / "out"), formats=("coco",),
        coco_file=str(tmp_path / "truth.json"), batch_size=3,
    )  # fmt: skip
    predict.predict_files(arguments)
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(tmp_path / "truth.json"))
        scoring = COCOeval(known, known.loadRes(str(tmp_path / "out" / "coco_results.json")), "bbox")
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    report = evaluate.evaluate_checkpoint(
        evaluate.Arguments(str(trained), manual_dir=str(tmp_path / "shapes"), coco=True), Console(quiet=True)
    )
    assert report["coco_ap"] > 0.1
    assert scoring.stats[0] == pytest.approx(report["coco_ap"], abs=1e-6)
    assert scoring.stats[1] == pytest.approx(report["coco_ap50"], abs=1e-6)


@pytest.mark.slow
def test_a_resumed_run_is_the_run_never_stopped(trained, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    checkpoints = sorted((copy / "checkpoints").iterdir(), key=lambda path: path.name)
    for path in checkpoints:
        if "50" not in path.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (copy / "report.json").unlink()
    run(_config(folder, copy, resume=True))
    assert _report(copy) == _report(trained)
    assert _losses(copy)[100] == _losses(trained)[100]


@pytest.mark.slow
def test_boxes_that_are_none_stop_a_run_or_are_counted(toy, tmp_path):
    folder = draw_boxes_folder(tmp_path / "data", train=8, val=8)
    bad = _XML[0].format(0, 0, _XML[1].format("disc", 0, 30, 30, 20, 40))
    (folder / "val" / "02.xml").write_text(bad)
    config = _config(folder, tmp_path / "run", steps=1, parallel="jit")
    with pytest.raises(DataError, match=r"02\.xml: box 1 of 1, disc at .* is empty or inverted"):
        run(config)
    reading = dataclasses.replace(config.input, on_bad_boxes="drop", sizes=())
    run(dataclasses.replace(config, input=reading))
    assert _report(tmp_path / "run")["dropped_boxes"] == 1
