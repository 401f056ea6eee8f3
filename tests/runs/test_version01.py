"""What version 0.1 wrote, read today: its presets, and a checkpoint that is loaded, scored and resumed."""

import dataclasses
import gzip
import hashlib
import importlib
import io
import json
import pathlib
import shutil
import zipfile

import jax
import pytest
from rich.console import Console
from tiny_run import command

from cvjax.cli import evaluate, predict
from cvjax.engine.config import config_from_json, resolve
from cvjax.engine.version01 import upgrade, upgrade_model
from cvjax.models import create_model
from cvjax.models.config import ModelConfig
from cvjax.tasks.load import load_for_inference

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "v01"
RECORDS = json.loads(gzip.decompress((GOLDEN / "presets.json.gz").read_bytes()))

# What presets changed since, so that the files that their papers started from fit.
WITH_OTHER_RECIPES = ("deeplab_voc voc_pod",)
"""Presets whose recipe is another one since; their nets have the same variables."""
TO_THE_AUTHORS_NETS = {
    "deeplab_voc v2_resnet101": ("backbone", "fuse_first"),
    "fast_rcnn_voc voc07": ("inclusive_boxes",),
    "fast_rcnn_voc voc0712": ("inclusive_boxes",),
    "sppnet_voc voc07": ("backbone", "map_start"),
}
NEW_DEFAULTS = {
    "deeplabv2_resnet101": (
        "fuse_first",
        "backbone.stride_in_1x1",
        "backbone.stem_pool",
        "backbone.dilate_first",
    ),
    "deeplabv3plus_xception65": ("align_corners", "backbone.maps_before_relu"),
}


def _preset(name: str):
    experiment, preset = name.split()
    return importlib.import_module(f"experiments.{experiment}").PRESETS[preset]


def _digest(config) -> str:
    """The digest of names and shapes of variables as tests/golden/make_v01.py writes it."""
    task = resolve(config.task)(config, tuple("abcde"))
    shapes = jax.eval_shape(lambda key: task.init(config.model.build(num_classes=5), key), jax.random.key(0))
    rows = sorted(
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {leaf.shape}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", RECORDS)
def test_its_presets_are_todays(name):
    today, record = _preset(name), RECORDS[name]
    before = config_from_json(type(today), upgrade(record)["run"])
    assert before.model.name == today.model.name
    net, before_net = (config.model.build(num_classes=5) for config in (today, before))
    if name in TO_THE_AUTHORS_NETS:
        assert net != before_net
        net = net.clone(**{field: getattr(before_net, field) for field in TO_THE_AUTHORS_NETS[name]})
    if name in WITH_OTHER_RECIPES:
        assert dataclasses.replace(before, workdir=today.workdir) != today
        return
    assert net == before_net
    same = {"model": today.model, "workdir": today.workdir}
    assert dataclasses.replace(before, **same) == today


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name.endswith(" quick") else [pytest.mark.slow]) for name in RECORDS],
)
def test_its_variables_are_todays(name):
    assert _digest(_preset(name)) == RECORDS[name]["variables"]


def test_options_of_a_backbone_find_their_place():
    old = {"encoder": "vgg16_bn", "encoder_options": {"hidden": 64}, "bn_momentum": 0.9, "regions": 4}
    assert upgrade_model("rcnn_vgg16", old) == {
        "name": "rcnn_vgg16",
        "options": {
            "rois_per_image": 4,
            "norm": {"momentum": 0.9},
            "backbone": {"hidden": 64, "stage_sizes": [2, 2, 3, 3, 3], "batch_norm": True},
        },
    }
    old = {"freeze_bn": True, "bn_epsilon": 1e-3, "width": 8, "aspp_features": 16, "dtype": "float32"}
    assert upgrade_model("deeplabv3_resnet18", old)["options"] == {
        "aspp_features": 16,
        "norm": {"frozen": True},
        "backbone": {"width": 8, "norm": {"epsilon": 1e-3}},
    }


def test_todays_records_stay_as_they_are():
    record = {"format": 3, "run": {"input": {"policy": 3}}}
    assert upgrade(record) == record


@pytest.mark.parametrize("name", NEW_DEFAULTS)
def test_a_net_whose_defaults_changed_keeps_those_of_its_record(name):
    """Since format 3 the defaults are those of the authors' nets."""
    model = {"name": name, "options": {"backbone": {"norm": {"epsilon": 0.5}}}}
    upgraded = upgrade({"format": 2, "model": model, "run": {"model": model}})
    assert upgraded["format"] == 3
    assert upgraded["run"]["model"] == upgraded["model"]
    net, today = ModelConfig.from_json(upgraded["model"]).build(num_classes=2), create_model(name, num_classes=2)
    assert net.backbone.norm.epsilon == 0.5
    for changed in NEW_DEFAULTS[name]:
        part, _, field = changed.rpartition(".")
        held, default = (getattr(x, part) if part else x for x in (net, today))
        assert getattr(default, field) != getattr(held, field) == type(held).__dataclass_fields__[field].default


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("v01")
    with zipfile.ZipFile(GOLDEN / "deeplab.zip") as archive:
        archive.extractall(folder)
    return next(path.parent for path in folder.rglob("config.json"))


def test_its_checkpoint_is_loaded(checkpoint):
    loaded = load_for_inference(checkpoint)
    assert loaded.metadata["model"]["name"] == "deeplabv3plus_resnet18"
    assert loaded.model.norm.momentum == 0.8
    assert loaded.model.backbone.width == 4
    assert loaded.task.config.optim.name == "sgd"
    assert loaded.task.class_names[0] == "background"


@pytest.mark.slow
def test_its_checkpoint_is_scored_as_then(checkpoint, tmp_path):
    then = json.loads((checkpoint / "report.json").read_text())
    report = evaluate.evaluate_checkpoint(
        evaluate.Arguments(str(checkpoint), batch_size=8), Console(file=io.StringIO())
    )
    for name in ("examples", "skipped"):
        assert report[name] == then[name]
    for name in ("miou", "pixel_accuracy"):
        assert report[name] == pytest.approx(then[name], rel=1e-4)
    image = next(iter((pathlib.Path(__file__).parents[2] / "docs").rglob("*.jpg")))
    written = predict.predict_files(predict.Arguments(str(checkpoint), (str(image),), out=str(tmp_path)))
    assert all(path.stat().st_size for path in written)


@pytest.mark.slow
def test_its_run_goes_on(checkpoint, tmp_path):
    workdir = shutil.copytree(checkpoint, tmp_path / "run")
    flags = ("--config", workdir / "config.json", "--workdir", workdir, "--resume", "--steps", 4)
    process = command("experiments.deeplab_voc", *flags)
    assert process.returncode == 0, process.err
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [3, 4]  # its first two steps' log is not kept here
