"""Whole models on our layers and on stock ones: same weights, same numbers."""

import json
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import model_sides
import model_tables
import models
import numpy as np
import pytest
import step_memory

import cvjax

CASE = {"task": "classification", "model": "resnet18", "options": {}, "classes": 1000}
CASE |= {"batch": 2, "size": [32, 32], "dtype": "float32"}


def write(record):
    return model_tables.write(record, "Classifiers", "models.py")


def test_weights_are_drawn_under_torchs_names():
    model = cvjax.create_model("resnext50_32x4d", num_classes=1000)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables = model_sides.flax_variables("resnext50_32x4d", shapes)
    kernel = variables["params"]["stage1_0"]["conv2"]["kernel"]
    np.testing.assert_array_equal(
        kernel, model_sides.drawn("layer1.0.conv2.weight", (128, 4, 3, 3)).transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], model_sides.drawn("fc.weight", (1000, 2048)).T)
    assert not variables["batch_stats"]["stem_bn_0"]["mean"].any()
    assert (variables["batch_stats"]["stem_bn_0"]["var"] == 1).all()
    assert 0.9 < kernel.std() / np.sqrt(2 / 36) < 1.1


def test_inference_is_the_same_on_stock_layers():
    works = [model_sides.prepare_jax({**CASE, "mode": "inference"}, side) for side in ("cvjax-plain", "flax")]
    ours, theirs = (work.values["logits"] for work in works)
    assert ours.shape == (2, 1000)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.slow
def test_training_step_is_the_same_on_stock_layers():
    # At 32 pixels the last stage has one pixel an image, and BatchNorm over two values is ill-conditioned.
    case = {**CASE, "batch": 4, "size": [96, 96], "mode": "training"}
    works = [model_sides.prepare_jax(case, side) for side in ("cvjax", "flax")]
    ours, theirs = (work.values for work in works)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    np.testing.assert_allclose(ours["gradient"], theirs["gradient"], rtol=1e-3)
    # Repeated steps train on.
    losses = [float(works[0].wait(works[0].step())[1]) for _ in range(8)]
    assert losses[-1] < losses[0] < float(ours["loss"])


def test_write_gives_images_a_second():
    hello = {"versions": {"jax": "1"}, "device": "cpu"}
    machine = {"processor": "P", "cores": 2, "threads": 2, "contestants": {"cvjax": hello, "torch": hello}}
    settings = {"size": [224, 224], "dtype": "float32", "rounds": 1}
    row = {"case": "resnet50", "mode": "training", "batch": 8, "absent": {}}
    row |= {"times": {"cvjax": [2.0], "torch": [3.0]}, "seconds": {"cvjax": 2.0, "torch": 3.0}}
    text = write({"machine": machine, "settings": settings, "rows": [row]})
    assert "| resnet50 | training | 8 | 4.00 | 2.67 | 1.50 |" in text
    another = row | {"case": "vgg11", "times": {"cvjax": [1.0], "torch": [6.0]}}
    text = write({"machine": machine, "settings": settings, "rows": [row, another]})
    assert "| geometric mean of 2 | training | 8 |  |  | 3.00 |" in text
    another["times"] = {"cvjax": [1.0]}
    text = write({"machine": machine, "settings": settings, "rows": [row, another]})
    assert "geometric mean of 2" in text
    assert "3.00 |" not in text.splitlines()[-3]


def test_memory_of_a_step():
    got = step_memory.peak_above(lambda: np.ones(25_000_000).sum())
    assert got is None or 180e6 < got < 260e6
    nothing = step_memory.peak_above(lambda: None)
    assert nothing is None or nothing < 4e6


def test_what_is_freed_a_moment_later_hides_nothing():
    held = [np.ones(40_000_000)]
    thread = threading.Timer(0.1, held.clear)
    thread.start()
    got = step_memory.peak_above(lambda: np.ones(25_000_000).sum())
    thread.join()
    assert got is None or 180e6 < got < 260e6


def test_write_gives_memory_where_it_was_measured():
    hello = {"versions": {"jax": "1"}, "device": "cpu"}
    machine = {"processor": "P", "cores": 2, "threads": 2, "contestants": {"cvjax": hello, "torch": hello}}
    settings = {"size": [224, 224], "dtype": "float32", "rounds": 1}
    row = {
        "case": "vgg11",
        "mode": "training",
        "batch": 8,
        "absent": {},
        "memory": {"cvjax": 1_500_000_000, "torch": 2e9},
    }
    row |= {"times": {"cvjax": [2.0], "torch": [2.0]}, "seconds": {"cvjax": 2.0, "torch": 2.0}}
    inference = {key: value for key, value in row.items() if key != "memory"} | {"mode": "inference"}
    text = write({"machine": machine, "settings": settings, "rows": [row, row, inference]})
    assert "| vgg11 | training | 8 | 4.00 | 4.00 | 1.00 | 1500 | 2000 |" in text
    assert "| vgg11 | inference | 8 | 4.00 | 4.00 | 1.00 | - | - |" in text
    assert "| geometric mean of 2 | training | 8 |  |  | 1.00 | - | - |" in text


@pytest.mark.slow
def test_a_training_step_says_what_it_needs():
    work = model_sides.prepare_jax({**CASE, "mode": "training"}, "cvjax")
    facts = work.facts()
    # Parameters and momentum of ResNet-18, and more.
    assert 2 * 4 * 11.6e6 < facts["state"] < 1.05 * 2 * 4 * 11.7e6
    assert facts["peak"] is None or facts["peak"] > 1e6


@pytest.mark.slow
def test_inference_and_training_have_tables_of_their_own(tmp_path, stem_here):
    """The program and its child: rows of several batch sizes stay side by side, and a second run replaces its own."""

    def run(*flags):
        command = [sys.executable, models.__file__, "--contestants", "cvjax", "--models", "resnet18", "--size", "32"]
        command += ["--rounds", "1", "--burst-ms", "0.001", "--out", str(tmp_path), *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout

    first = run("--modes", "inference", "--batch", "1", "3")
    assert "resnet18 (inference, batch 3): cvjax" in first
    run("--modes", "inference", "--batch", "3")
    run("--modes", "training", "--batch", "2")
    inference, training = (
        json.loads((tmp_path / f"{stem_here('models')}{ending}.json").read_text()) for ending in ("_inference", "")
    )
    assert [(row["mode"], row["batch"]) for row in inference["rows"]] == [("inference", 1), ("inference", 3)]
    assert [(row["mode"], row["batch"]) for row in training["rows"]] == [("training", 2)]
    assert (tmp_path / f"{stem_here('models')}_inference.md").read_text().startswith("# Classifiers, inference\n")
