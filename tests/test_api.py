"""The package's verbs, on a small checkpoint and on weights in the network's place."""

import dataclasses
import pathlib
import subprocess
import sys
import zipfile

import _reference as reference
import cv2
import jax
import numpy as np
import pytest
import safetensors.numpy

import cvjax
from cvjax.errors import ConfigError
from cvjax.models import Preprocessing
from cvjax.weights import hub, preprocess
from cvjax.weights.published import Published
from experiments import deeplab_voc


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(pathlib.Path(__file__).parent / "golden" / "v01" / "deeplab.zip") as archive:
        archive.extractall(folder)
    return next(path.parent for path in folder.rglob("config.json"))


def test_all_names_are_there_and_nothing_heavy_comes_first():
    code = (
        "import sys, cvjax; before = set(sys.modules); assert 'jax' not in before;"
        " print(*[name for name in cvjax.__all__ if getattr(cvjax, name, None) is None]);"
        " print(cvjax.__version__, cvjax.nn.Conv.__name__, set(cvjax.__all__) <= set(dir(cvjax)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "0.1.0 Conv True"]
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = cvjax.lod


def test_a_model_needs_no_number_of_classes():
    model = cvjax.create_model("resnet18")
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    assert jax.eval_shape(model.init_with_output, jax.random.key(0), images)[0].shape == (1, 1000)


@pytest.mark.slow
def test_a_checkpoint_gives_model_variables_and_preprocessing(checkpoint):
    loaded = cvjax.load(checkpoint)
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    seen = loaded.preprocess(image)
    np.testing.assert_allclose(seen, (image / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), atol=1e-5)
    logits = loaded.model.apply(loaded.variables, seen[None], train=False)
    assert logits.shape == (1, 40, 56, 15)
    assert cvjax.load(checkpoint, output_stride=8).model.output_stride == 8


@pytest.mark.slow
def test_prediction_takes_arrays_and_files(checkpoint, tmp_path):
    loaded = cvjax.load(checkpoint)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    labels = cvjax.predict(loaded, image)
    seen = loaded.preprocess(image)
    both = np.stack([seen, seen[:, ::-1]])  # this run's evaluation averages with the mirrored image
    likely = jax.nn.softmax(loaded.model.apply(loaded.variables, both, train=False))
    assert (labels == np.argmax(np.asarray(likely[0] + likely[1, :, ::-1]), -1)).mean() > 0.999
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    np.testing.assert_array_equal(cvjax.predict(loaded, tmp_path / "a.png"), labels)
    both = cvjax.predict(loaded, [image[:, ::-1], tmp_path / "a.png"])
    assert len(both) == 2
    np.testing.assert_array_equal(both[1], labels)
    with pytest.raises(ConfigError, match="--tile is 3"):
        cvjax.predict(loaded, image, tile=3)


@pytest.mark.slow
def test_evaluation_is_the_commands(checkpoint):
    report = cvjax.evaluate(checkpoint, batch_size=8)
    assert report["examples"] == 300
    assert 0 < report["miou"] < 1


def test_published_weights_come_with_their_model(tmp_path, monkeypatch):
    state, outputs = reference.load(reference.GOLDEN, "resnet18")
    folder = tmp_path / "weights"
    folder.mkdir()
    safetensors.numpy.save_file(state, folder / "resnet18.safetensors")
    fetched = hub.Fetched("resnet18", folder / "resnet18.safetensors", Preprocessing(224, 232))
    monkeypatch.setattr(hub, "fetch_pretrained", lambda name, **options: fetched)
    monkeypatch.setattr(hub, "PUBLISHED", {"resnet18.test": Published("resnet18", "", Preprocessing(224, 232))})
    model, variables, preprocessing = loaded = cvjax.load_pretrained("resnet18")
    logits = jax.jit(model.apply)(variables, reference.images((2, 224, 224, 3)))
    assert reference.relative_error(logits, outputs["logits"]) < 1e-4
    photo = np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)
    np.testing.assert_array_equal(loaded.preprocess(photo), preprocess(photo, preprocessing))
    changed = cvjax.load_pretrained("resnet18", num_classes=4, key=jax.random.key(0), dtype="bfloat16")
    assert (changed.model.num_classes, changed.variables["params"]["head"]["kernel"].shape) == (4, (512, 4))
    assert changed.model.dtype == "bfloat16"


def test_a_run_without_a_folder_is_refused():
    with pytest.raises(ConfigError, match="no folder to write into; give workdir"):
        cvjax.train(dataclasses.replace(deeplab_voc.PRESETS["quick"], steps=1))
