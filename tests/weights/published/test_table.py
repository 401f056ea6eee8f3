"""The table of published weights: complete, about models and layouts that there are, with figures that others state."""

import json

import pytest

import cvjax
from cvjax.weights import list_pretrained
from cvjax.weights.hub import is_pretrained
from cvjax.weights.layouts.known import architectures
from cvjax.weights.published import DEFAULTS, PUBLISHED

# Entries of the reference whose files have no row: no name, or none that is a file of weights.
NOT_FILES = {"-", "made by tools/compress_net.py", "VGG_ILSVRC_16_layers_fc_reduced.caffemodel"}


def test_every_row_is_of_a_model_and_a_layout_that_there_are():
    rows = list_pretrained()
    for row in rows:
        if row.layout == "darknet":  # no state dict, and so no `Architecture`
            assert row.model in ("yolov1", "yolov1_tiny")
        else:
            assert row.layout in {architecture.layout for architecture in architectures(row.model)}
        assert row.figure is None or 10 < row.figure.value < 100
        assert row.name is None or (is_pretrained(row.name) and row.address is not None)
    assert len({(row.model, row.name or row.file) for row in rows}) == len(rows)
    assert {row.name for row in rows} >= set(PUBLISHED)
    assert {row.model: row.name for row in rows if row.default} == dict(DEFAULTS)


def test_a_pattern_takes_models_and_the_default_comes_first():
    rows = list_pretrained("resnet50")
    assert [row.name for row in rows] == ["resnet50.imagenet1k_v2", "resnet50.imagenet1k_v1", None]
    lines = str(rows).splitlines()
    assert len(lines) == 4
    assert (
        lines[1].split()
        == "* resnet50.imagenet1k_v2 resnet50 torchvision PyTorch 80.86 top-1, ImageNet (torchvision)".split()
    )
    assert lines[2].startswith("  resnet50.imagenet1k_v1 ")
    assert lines[3].split() == "ResNet-50-model.caffemodel resnet50 KaimingHe/deep-residual-networks Caffe".split()
    assert {row.model for row in list_pretrained("fcn*_vgg16")} == set(cvjax.list_models(pattern="fcn*_vgg16"))


def test_figures_are_those_of_the_public_implementations(shared_dir):
    index = json.loads((shared_dir / "reference" / "torch" / "index.json").read_text())
    rows = {(row.name or row.file).removeprefix("hf-hub:timm/"): row for row in list_pretrained()}
    rows |= {row.address.rpartition("/")[2]: row for row in list_pretrained() if row.address}
    compared = 0
    for entry in index.values():
        for told in entry["published"]:
            row = rows[told["file"].removeprefix("pretrained_models/").removeprefix("timm/")]
            metric = next(
                (key for key in ("mIoU", "mAP", "mDice", "box AP", "best_prec1 in the file") if told.get(key)), None
            )
            if metric is None:
                continue
            value = told[metric] * (100 if told[metric] < 1 else 1)
            assert row.figure is not None
            assert row.figure.value == pytest.approx(value), told["file"]
            compared += 1
    assert compared >= 40


def test_files_of_caffe_have_a_row(shared_dir):
    listed = {(row.model, row.file) for row in list_pretrained() if row.format == "Caffe"}
    files = {file for _, file in listed}
    for path in sorted((shared_dir / "reference" / "caffe" / "facts").glob("*.json")):
        if path.name == "INDEX.json":
            continue
        file = json.loads(path.read_text())["file"].removesuffix(" (a fork's V0)")
        assert file in files | NOT_FILES, path.name
