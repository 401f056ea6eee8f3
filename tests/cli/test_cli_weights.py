"""Somebody's weights are scored and predict without a run, with the preprocessing that they expect."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables
from PIL import Image
from tiny_run import draw_folder
from tiny_sets import class_tree, photo, write_tree

from cvjax.cli import evaluate, predict
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.weights import open_weights, preprocess, to_torch, write_state_dict


def _file(folder, name, layout, size, num_classes, **options):
    model = create_model(name, num_classes=num_classes, **options)
    variables = drawn_variables(model, jnp.zeros((2, size, size, 3)))
    write_state_dict(folder / f"{name}.npz", to_torch(name, variables, layout=layout))
    return folder / f"{name}.npz", model, variables


def test_a_first_convolution_that_reads_blue_first_is_turned_and_computes_the_same(tmp_path):
    path, model, _ = _file(tmp_path, "nin", "caffe", 224, 5)
    image = photo(3, 260, 300)
    run = jax.jit(model.apply)
    as_they_are, turned = (open_weights(path, red_first=red_first) for red_first in (False, True))
    assert (as_they_are.preprocessing.bgr, turned.preprocessing.bgr) == (True, False)
    results = [run(opened.variables, preprocess(image, opened.preprocessing)[None]) for opened in (as_they_are, turned)]
    np.testing.assert_allclose(*results, rtol=1e-4)
    kernels = [np.asarray(opened.variables["params"]["mlpconv_0_0"]["kernel"]) for opened in (as_they_are, turned)]
    np.testing.assert_array_equal(kernels[0][:, :, ::-1], kernels[1])


@pytest.mark.slow
def test_a_classifier_is_scored_on_data_of_as_many_classes(tmp_path, capsys):
    _, model, variables = _file(tmp_path, "resnet20_cifar", "akamaster", 32, 3)
    state = to_torch("resnet20_cifar", variables, layout="akamaster")
    path = tmp_path / "resnet20-12fca82f.th"  # PyTorch's, under DataParallel's names, as his are
    write_state_dict(path.with_suffix(".pth"), {f"module.{key}": value for key, value in state.items()})
    path.with_suffix(".pth").rename(path)
    data = write_tree(tmp_path / "animals", class_tree("train/", 2) | class_tree("val/", 3))
    words = ["--data", "image_folder_classification", "--manual-dir", str(data), "--batch-size", "8"]
    words = ["--weights", str(path), *words]
    evaluate.main([*words, "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    # By hand: images of 12x10 pixels, whose shorter side becomes 32, and the middle of that.
    right, run = 0, jax.jit(model.apply)
    for label, name in enumerate(("ant", "bird", "cat")):
        for number in range(3):
            image = np.asarray(Image.open(data / "val" / name / f"{number:02d}.png"))
            opened = open_weights(path)
            prepared = preprocess(image, opened.preprocessing.__class__(32, 32))
            right += int(np.argmax(run(variables, prepared[None]))) == label
    assert report["examples"] == 9
    assert "resnet20_cifar (num_classes=3), in the layout of akamaster" in capsys.readouterr().out
    assert report["top1"] == pytest.approx(right / 9, abs=0.12)  # resizing differs by a level or two
    write_tree(data, {"train/dog/00.png": b"", "val/dog/00.png": b""})
    with pytest.raises(ConfigError, match="have 3 classes, and image_folder_classification has 4"):
        evaluate.main(words)
    with pytest.raises(ConfigError, match="name the data to score them on with --data"):
        evaluate.main([str(path)])


@pytest.mark.slow
def test_a_segmentation_is_scored_and_predicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _, _ = _file(tmp_path, "deeplabv3_resnet18", "torchvision", 64, 3, aux=False)
    data = draw_folder(tmp_path / "drawings", train=2, val=2)
    words = ["--data", "image_folder_segmentation", "--manual-dir", str(data), "--batch-size", "8"]
    evaluate.main([str(path), *words, "--json", "report.json"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["examples"] == 2
    assert report["checkpoint"] == str(path)
    predict.main([str(path), str(data / "val" / "images" / "000.jpg")])
    assert (tmp_path / "predictions" / "000_mask.png").exists()
