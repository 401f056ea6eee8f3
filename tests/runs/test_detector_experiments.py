"""The experiments with detectors: every preset is whole, and the runs of several stages are what they say."""

import dataclasses
import importlib
import json
import pathlib
import uuid

import jax
import numpy as np
import pytest
from commands import run
from rich.console import Console
from test_detection_run import draw_boxes_folder

from cvjax.cli import evaluate, predict
from cvjax.datasets.proposals.files import ProposalSet
from cvjax.engine.checkpoint import read_stored_variables
from cvjax.engine.optim import OptimizerConfig, freeze
from cvjax.errors import ConfigError
from cvjax.models.config import ModelConfig
from cvjax.storage import as_path, data_folder, put_folder
from cvjax.tasks.detection import alternating
from cvjax.tasks.detection.config import DetectionEval
from cvjax.tasks.detection.staged.run import NET
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.detection.transforms import DetectionData
from cvjax.tasks.load import load_for_inference
from cvjax.weights import write_darknet
from experiments import faster_rcnn_voc, rcnn_voc, yolo_voc

NAMES = ("yolo_voc", "faster_rcnn_voc", "fast_rcnn_voc", "rcnn_voc", "sppnet_voc")
PRESETS = [(name, preset) for name in NAMES for preset in importlib.import_module(f"experiments.{name}").PRESETS]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_has_a_model_that_takes_its_images(name, preset):
    module = importlib.import_module(f"experiments.{name}")
    config = module.PRESETS[preset]
    task = Detection(config, tuple("abc"))
    task.train_transform()
    task.eval_transform()
    model = config.model.build(num_classes=3)
    assert bool(getattr(model, "needs_proposals", False)) == bool(config.input.proposals)
    made = jax.eval_shape(lambda key: task.init(model, key), jax.random.key(0))
    freeze(config.optim.frozen).init(made["params"])  # says so where a pattern fits nothing


def test_a_yolo_starts_from_a_file_of_darknet(tmp_path):
    config = yolo_voc.PRESETS["quick"]
    model = config.model.build(num_classes=3)
    images = np.zeros((1, 128, 128, 3), np.float32)
    shapes = jax.eval_shape(lambda key: model.init(key, images), jax.random.key(0))
    rng = np.random.default_rng(0)
    given = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    write_darknet(tmp_path / "yolo.weights", given)
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    config = dataclasses.replace(config, init=str(tmp_path / "yolo.weights"))
    filled = Detection(config, tuple("abc")).warm_start(blank)
    jax.tree.map(np.testing.assert_array_equal, filled, given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_boxes_folder(tmp_path_factory.mktemp("shapes"))


COMMON = {
    "data": "xml_folder_detection",
    "batch_size": 8,
    "log_every": 10,
    "eval_every": 1000,
    "checkpoint_every": 1000,
    "optim": OptimizerConfig(name="adamw", learning_rate=2e-3, warmup=0.0),
}


def _reading(folder, **more):
    return DetectionData(crop=(64, 64), boxes=4, manual_dir=str(folder), **more)


@pytest.fixture(scope="module")
def rcnn(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("rcnn") / "run"
    quick = rcnn_voc.PRESETS["quick"]
    config = dataclasses.replace(
        quick,
        **COMMON,
        steps=30,
        workdir=str(workdir),
        data_dir=str(workdir.parent / "data"),
        model=quick.model.replace(backbone={"widths": (8, 8, 16, 16, 16), "hidden": 32}, window_size=32, context=2),
        near=0.4,
        input=_reading(folder, proposals=120, proposal_mode="grid"),
        eval=DetectionEval(batch_size=8, boxes=4),
    )
    return config, run(config)


@pytest.mark.slow
def test_machines_and_regressions_end_a_run_of_rcnn(rcnn):
    config, outcome = rcnn
    stored = read_stored_variables(config.workdir)["params"]
    tuned = read_stored_variables(f"{config.workdir}/{NET}")["params"]
    np.testing.assert_array_equal(stored["classifier"]["kernel"], tuned["classifier"]["kernel"])
    assert not np.any(tuned["svm"]["kernel"])
    assert np.any(stored["svm"]["kernel"], axis=0).all()
    assert np.any(stored["regressor"]["kernel"])
    report = evaluate.evaluate_checkpoint(evaluate.Arguments(config.workdir), Console(quiet=True))
    assert report["map"] == outcome.report["map"] > 0.1
    of_net = evaluate.evaluate_checkpoint(evaluate.Arguments(f"{config.workdir}/{NET}"), Console(quiet=True))
    assert of_net["map"] != report["map"]


@pytest.mark.slow
def test_a_finished_run_is_finished_again_alike_in_a_store(rcnn, tmp_path, monkeypatch):
    config, outcome = rcnn
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
    url = as_path(f"memory://{uuid.uuid4().hex}/run")
    put_folder(pathlib.Path(config.workdir), url)
    again = run(dataclasses.replace(config, workdir=str(url), resume=True))
    assert again.report["map"] == outcome.report["map"]
    stored, expected = (read_stored_variables(place) for place in (url, config.workdir))
    jax.tree.map(np.testing.assert_array_equal, stored, expected)
    there = {name.partition("/")[0] for name in url.files_below()}
    assert there >= {"checkpoints", "config.json", "net", "report.json", "predictions.png"}
    assert "run.lock" not in there


@pytest.mark.slow
def test_photographs_get_proposals_of_their_own(rcnn, folder, tmp_path):
    config, _ = rcnn
    image = folder / "val" / "01.png"
    written = predict.predict_files(predict.Arguments(config.workdir, (str(image),), out=str(tmp_path), score=-1.0))
    assert json.loads(written[1].read_text())["boxes"]


@pytest.mark.slow
def test_the_softmax_alone_is_a_plain_run_and_several_processes_are_refused(rcnn, tmp_path):
    config, _ = rcnn
    alone = dataclasses.replace(
        config, workdir=str(tmp_path / "a"), model=config.model.replace(scorer="softmax"), steps=2
    )
    run(alone)
    assert load_for_inference(alone.workdir).model.scorer == "softmax"
    several = dataclasses.replace(config, cluster=dataclasses.replace(config.cluster, coordinator="a:1"))
    with pytest.raises(ConfigError, match="one process"):
        run(several)


@pytest.mark.slow
def test_four_steps_in_a_store_share_convolutions_and_leave_the_rest_to_itself(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
    workdir = as_path(f"memory://{uuid.uuid4().hex}/run")
    quick = faster_rcnn_voc.PRESETS["quick"]
    model = ModelConfig(
        "faster_rcnn_vgg16",
        backbone={"stage_sizes": (1, 1, 1, 1, 1), "widths": (8, 8, 16, 16, 16), "hidden": 16},
        anchor_sizes=(16.0, 24.0),
        rpn_channels=16,
        rpn_pre_nms_top_n=(60, 30),
        rpn_post_nms_top_n=(20, 10),
        rpn_batch_size_per_image=16,
        rois_per_image=16,
        dropout=0.0,
    )
    config = dataclasses.replace(
        quick,
        **COMMON,
        steps=4,
        workdir=str(workdir),
        model=model,
        input=_reading(folder),
        eval=DetectionEval(batch_size=8, boxes=4),
        four_steps=True,
    )
    outcome = run(config)
    assert outcome.step == 2
    first, second, third, fourth = (read_stored_variables(workdir / name)["params"] for name in alternating.STEPS)

    def same(a, b, part, layer):
        return np.array_equal(a[part][layer]["kernel"], b[part][layer]["kernel"])

    assert not same(first, second, "backbone", "conv1_1")
    for later in (third, fourth):
        assert same(second, later, "backbone", "conv1_1")
    assert not same(second, third, "rpn", "conv")
    assert same(third, fourth, "rpn", "conv")
    assert same(second, third, "predictor", "classes")
    assert not same(third, fourth, "predictor", "classes")
    below = "xml_folder_detection/train"
    kept = ProposalSet(data_folder(workdir / alternating.STEPS[0] / "proposals", below) / below)
    assert len(kept) == 24
    assert 0 < len(kept[0]) <= 20
    assert len(np.unique(kept[0], axis=0)) == len(kept[0])
