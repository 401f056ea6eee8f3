"""The same photographs in each format make the same batches, and so the same steps and scores."""

import json
import pathlib

import numpy as np
import pytest
import toy_detector
from commands import run
from own_sets import WRITERS, Photo, Thing, photos

from cvjax.data.loader import train_batches
from cvjax.datasets.voc.xml import parse_xml
from cvjax.experiment import ModelConfig, OptimizerConfig
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.load import load_for_inference, open_scored


def _config(folder: pathlib.Path, workdir: object = "none", side: int = 32, boxes: int = 4) -> DetectionConfig:
    return DetectionConfig(
        model=ModelConfig("toy_detector"),
        workdir=str(workdir),
        data=str(folder),
        steps=50,
        batch_size=8,
        log_every=10,
        eval_every=50,
        checkpoint_every=50,
        input=DetectionData(crop=(side, side), boxes=boxes, shift=0.1),
        optim=OptimizerConfig(name="adamw", learning_rate=0.01, warmup=0.0),
        eval=DetectionEval(batch_size=8, boxes=boxes, short_side=side, pad_multiple=16, max_detections=6),
    )


def _batches(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
    config = _config(folder)
    source = Detection.open(config, "train")
    task = Detection(config, tuple(source.class_names))
    stream = train_batches(
        source, task.decoder(), task.train_transform(), batch_size=8, seed=3, threads=0, target="boxes"
    )
    found = [next(stream) for _ in range(2)]
    stream.close()
    return found


def test_batches_are_the_same_in_every_format(tmp_path):
    for kind, write in WRITERS.items():
        write(tmp_path / kind, photos(), False)
    wanted = _batches(tmp_path / "coco")
    assert wanted[0]["box_valid"].any()
    for kind in WRITERS:
        for here, there in zip(wanted, _batches(tmp_path / kind), strict=True):
            assert here.keys() == there.keys()
            for key, array in here.items():
                np.testing.assert_allclose(array, there[key], atol=2e-5, err_msg=f"{kind} {key}")


def _cells(folder: pathlib.Path) -> dict[str, list[Photo]]:
    """Photographs of blood cells, whose boxes have whole corners, so that every format says them exactly."""
    splits: dict[str, list[Photo]] = {}
    stems = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    for split, chosen in (("train", stems[:16]), ("val", stems[16:24])):
        for stem in chosen:
            file = folder / "Annotations" / f"{stem}.xml"
            said = parse_xml(file.read_bytes(), str(file))
            assert said.size is not None
            things = tuple(Thing({"WBC": "cat", "RBC": "dog"}.get(t.name, "emu"), t.box) for t in said.objects)
            data = (folder / "JPEGImages" / f"{stem}.jpg").read_bytes()
            splits.setdefault(split, []).append(Photo(stem, data, said.size, things, ".jpg"))
    return splits


@pytest.mark.slow
def test_fifty_steps_and_their_scores_are_the_same_in_every_format(tmp_path, shared_dir):
    cells, seen = _cells(shared_dir / "data" / "bccd"), {}
    with pytest.MonkeyPatch.context() as patch:
        toy_detector.register(patch)
        for kind, write in WRITERS.items():
            write(tmp_path / kind, cells, False)
            config = _config(tmp_path / kind, tmp_path / f"run-{kind}", side=96, boxes=32)
            outcome = run(config)
            assert outcome.step == 50
            lines = (tmp_path / f"run-{kind}" / "metrics.jsonl").read_text().splitlines()
            losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
            task, source = open_scored(load_for_inference(tmp_path / f"run-{kind}").task, None)
            assert (len(source), task.class_names) == (8, ("cat", "dog", "emu"))
            seen[kind] = (losses, outcome.report["map"])
    for kind, (losses, score) in seen.items():
        np.testing.assert_allclose(losses, seen["coco"][0], rtol=1e-5, err_msg=kind)
        assert score == pytest.approx(seen["coco"][1], abs=1e-5), kind
