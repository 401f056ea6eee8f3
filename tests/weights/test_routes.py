"""Every model has a way in and a way out; the table of docs/weights.md is what the code says."""

import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import recorded
from drawn_variables import drawn_variables

import cvjax
from cvjax.errors import ConfigError
from cvjax.models import create_model, model_options
from cvjax.models.info import Figure
from cvjax.weights import PublishedFile, list_pretrained, open_weights, read_state_dict, write_state_dict
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


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _families() -> list[tuple[str, list[str]]]:
    """Layouts, each with models whose names differ in numbers alone, or in the encoder of a U-Net."""
    families: dict[tuple[str, str], list[str]] = {}
    for model, layouts in _layouts().items():
        for layout in layouts:
            family = "unet_" if layout.startswith("smp") and model.startswith("unet_") else re.sub(r"\d+", "#", model)
            families.setdefault((layout, family), []).append(model)
    tasks = ("classification", "segmentation", "detection")

    def place(found: tuple[str, list[str]]) -> tuple[int, list[tuple[int, str]], str]:
        layout, models = found
        return tasks.index(cvjax.model_info(models[0]).task), _natural(models[-1]), layout

    return sorted(((layout, sorted(models, key=_natural)) for (layout, _), models in families.items()), key=place)


def _published(rows: list[PublishedFile], models: list[str]) -> str:
    """The figure of each model: that of its default weights, or the best on the data that is named first."""
    told: dict[str, Figure] = {}
    for row in rows:
        known = told.get(row.model)
        if row.figure is not None and (known is None or (known[1:3] == row.figure[1:3] and known < row.figure)):
            told[row.model] = row.figure
    told |= {row.model: row.figure for row in rows if row.default and row.figure is not None}
    shown = []
    for metric, data in dict.fromkeys((figure.metric, figure.data) for figure in told.values()):
        alike = {model: figure for model, figure in told.items() if (figure.metric, figure.data) == (metric, data)}
        values = (f"{alike[model].value:.2f}" if model in alike else "–" for model in models)
        shown.append(f"{', '.join(values)} {metric}, {data}")
    return "; ".join(shown)


def _agreement(layout: str, models: list[str]) -> str:
    """The largest error that is recorded, and of which models where not all were compared."""
    found = [told for told in recorded().values() if told["layout"] == layout and told["model"] in models]
    if not found:
        return ""
    compared = sorted({told["model"] for told in found}, key=_natural)
    worst = f"{max(told['error'] for told in found):.0e}".replace("e-0", "e-")
    return worst if len(compared) == len(models) else f"{worst} ({', '.join(f'`{model}`' for model in compared)})"


def _table() -> str:
    published = list_pretrained()
    lines = ["| models | layout, and whose files | published | agreement |", "| --- | --- | --- | --- |"]
    for layout, models in _families():
        rows = [row for row in published if row.layout == layout and row.model in models]
        whose = ", ".join(dict.fromkeys(row.whose for row in rows if row.whose != layout))
        formats = ", ".join(dict.fromkeys(row.format for row in rows))
        owner = f"`{layout}`" + (f", {whose}" if whose else "") + (f" ({formats})" if formats else "")
        names = ", ".join(f"`{name}`" for name in models)
        lines.append(f"| {names} | {owner} | {_published(rows, models)} | {_agreement(layout, models)} |")
    # These are not named, so that a new model changes nothing here until it takes somebody's weights.
    lines.append("| all others | our own names alone | | |")
    return "\n".join(lines) + "\n"


def test_the_table_is_what_the_code_says():
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    if os.environ.get("CVJAX_WRITE_WEIGHTS"):
        PAGE.write_text(before + BEGIN + _table() + END + after)
    assert PAGE.read_text() == before + BEGIN + _table() + END + after


def test_agreement_is_recorded_of_models_and_layouts_that_there_are():
    """What is recorded is measured by the slow tests that compare; the worst of it is what those ask for."""
    layouts = _layouts()
    for entry, told in recorded().items():
        assert told["layout"] in layouts[told["model"]], entry
        assert told["error"] <= 3e-4


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
