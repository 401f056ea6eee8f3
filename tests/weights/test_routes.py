"""Every model has a way in and a way out; the table of docs/weights.md is what the code says."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables

import cvjax
from cvjax.errors import ConfigError
from cvjax.models import create_model, model_options
from cvjax.weights import open_weights, read_state_dict, write_state_dict
from cvjax.weights.layouts.known import architectures
from cvjax.weights.opened import describe
from cvjax.weights.own import note, to_own

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "weights.md"
BEGIN, END = "<!-- layouts: written by tests/weights/test_routes.py -->\n", "<!-- end of layouts -->\n"
# YOLO and its classifiers have darknet's .weights, which are no state dicts.
DARKNET = ("darknet_yolov1", "darknet_yolov1_tiny", "yolov1", "yolov1_tiny")


def _layouts() -> dict[str, list[str]]:
    found = {}
    for name in cvjax.list_models():
        try:
            found[name] = [architecture.layout for architecture in architectures(name)]
        except ConfigError:
            found[name] = ["darknet"] if name in DARKNET else []
    return found


def _table() -> str:
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, layouts in _layouts().items():
        rows.setdefault(tuple(layouts), []).append(name)
    lines = ["| layouts beside our own | models |", "| --- | --- |"]
    for layouts, names in sorted(rows.items(), key=lambda row: (not row[0], row[0])):
        shown = ", ".join(f"`{layout}`" for layout in layouts) or "none"
        lines.append(f"| {shown} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_what_the_code_says():
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    if os.environ.get("CVJAX_WRITE_WEIGHTS"):
        PAGE.write_text(before + BEGIN + _table() + END + after)
    assert PAGE.read_text() == before + BEGIN + _table() + END + after


def test_most_models_take_somebodys_weights():
    assert sum(map(bool, _layouts().values())) >= 100


@pytest.mark.parametrize("name", cvjax.list_models())
def test_layouts_differ_in_name_and_need_options_that_there_are(name):
    try:
        known = architectures(name)
    except ConfigError:
        return
    layouts = [architecture.layout for architecture in known]
    assert len(set(layouts)) == len(layouts)
    for architecture in known:
        assert set(architecture.options) <= set(model_options(name))


@pytest.mark.parametrize("name", ["hypercolumn_vgg16", "plain20_cifar", "deeplabv3_cascade_resnet50"])
def test_a_net_that_nobody_else_has_comes_back_from_its_own_file(name, tmp_path):
    narrow = {"backbone": {"widths": (4,) * 5, "hidden": 8} if "vgg" in name else {"width": 8}}
    options = {} if "cifar" in name else narrow
    model = create_model(name, num_classes=3, **options)
    images = jnp.zeros((2, 64, 64, 3))
    variables = drawn_variables(model, images)
    path = tmp_path / "own.safetensors"
    write_state_dict(path, to_own(variables), note(describe(name, options, 3, ("a", "b", "c"))))
    opened = open_weights(path)
    assert (opened.model, opened.num_classes, opened.class_names) == (name, 3, ("a", "b", "c"))
    assert read_state_dict(path).keys() == to_own(variables).keys()
    jax.tree.map(np.testing.assert_array_equal, opened.variables, dict(variables))
    pretrained = cvjax.load_pretrained(str(path))
    assert type(pretrained.model) is type(model)
    shapes = jax.eval_shape(pretrained.model.apply, pretrained.variables, images)
    assert shapes.shape == jax.eval_shape(model.apply, variables, images).shape
