"""Files of nets from Caffe and PyTorch, in their real formats, are scored and predict with --weights."""

import json
import types

import caffe_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables
from PIL import Image
from tiny_sets import photo, voc_tree, write_tree

from cvjax.cli import evaluate, predict
from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model, registry
from cvjax.models.info import Preprocessing, Variant
from cvjax.tasks import foreign
from cvjax.tasks.load import load_for_inference
from cvjax.weights import to_torch
from cvjax.weights.hub import Fetched
from cvjax.weights.layouts.caffe import FCN


def _narrow(monkeypatch, name: str, **settings) -> None:
    """Makes a model narrow by default, as a file does not tell its widths."""
    table = dict(registry._table())
    variant = table[name]
    table[name] = Variant(variant.info, variant.module, {**variant.settings, **settings})
    monkeypatch.setattr(registry, "_table", lambda: types.MappingProxyType(table))


def _caffemodel(path, state_dict, deconvolutions=()):
    """Writes a net's file as Caffe writes it."""
    path.write_bytes(caffe_files.of_state(state_dict, deconvolutions))
    return path


def _mean_iou(predicted: list[np.ndarray], truth: list[np.ndarray]) -> float:
    joint = np.zeros((21, 21))
    for one, other in zip(predicted, truth):
        kept = other != 255
        np.add.at(joint, (other[kept], one[kept]), 1)
    hits, either = np.diag(joint), joint.sum(0) + joint.sum(1) - np.diag(joint)
    return float(np.mean(hits[either > 0] / either[either > 0]))


@pytest.fixture
def fcn(tmp_path, monkeypatch):
    """A narrow FCN-8s in a file of Caffe's, and the function from a photograph to its classes."""
    backbone = create_model("fcn8s_vgg16").backbone.clone(widths=(4, 4, 4, 4, 4), hidden=8)
    _narrow(monkeypatch, "fcn8s_vgg16", backbone=backbone)
    model = create_model("fcn8s_vgg16")
    variables = drawn_variables(model, jnp.zeros((1, 32, 32, 3)))
    state = to_torch("fcn8s_vgg16", variables, layout="caffe")
    path = _caffemodel(tmp_path / "fcn8s-heavy-pascal.caffemodel", state, ("upscore2", "upscore_pool4", "upscore8"))
    run = jax.jit(model.apply)

    def classes(image: np.ndarray) -> np.ndarray:
        # As the authors do: blue first, 0 to 255, less a mean.
        blue_first = image[:, :, ::-1].astype(np.float32) - np.array([104.00699, 116.66877, 122.67892], np.float32)
        return np.asarray(run(variables, blue_first[None])[0]).argmax(-1)

    return path, classes


@pytest.mark.slow
def test_an_fcn_of_caffe_is_scored_on_voc_as_its_authors_do(fcn, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, classes = fcn
    folder = write_tree(tmp_path / "VOC2012", voc_tree(1, 3))
    words = ["--data", "voc_segmentation", "--manual-dir", str(tmp_path), "--batch-size", "8", "--json", "report.json"]
    evaluate.main(["--weights", str(path), *words])
    report = json.loads((tmp_path / "report.json").read_text())
    keys = (folder / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    images = [np.asarray(Image.open(folder / "JPEGImages" / f"{key}.jpg")) for key in keys]
    truth = [np.asarray(Image.open(folder / "SegmentationClass" / f"{key}.png")) for key in keys]
    assert report["examples"] == 3
    # Images are padded with their mean, to the nearest level, so borders may differ in a pixel or two.
    assert report["miou"] == pytest.approx(_mean_iou([classes(image) for image in images], truth), abs=0.005)
    said = capsys.readouterr().out
    assert "fcn8s_vgg16 (num_classes=21), in the layout of caffe" in said
    assert "blue first, from 0 to 255, less 104.007, 116.669, 122.679\n" in said
    evaluate.main([str(path), *words])
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_an_fcn_of_caffe_predicts_what_it_did_there(fcn, tmp_path):
    path, classes = fcn
    image = photo(5, 64, 64)
    for name in ("a", "b"):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    out = tmp_path / "out"
    predict.main(["--weights", str(path), "--as", "fcn8s_vgg16", "--out", str(out), *map(str, tmp_path.glob("?.png"))])
    for name in ("a", "b"):
        mask = np.asarray(Image.open(out / f"{name}_mask.png"))
        assert (mask == classes(image)).mean() > 0.99
    assert len(np.unique(mask)) > 1


def test_a_mean_image_is_subtracted_pixel_by_pixel_from_images_of_its_size(tmp_path, monkeypatch, capsys):
    _narrow(monkeypatch, "nin", width=0.1)
    model = create_model("nin", num_classes=5)
    variables = drawn_variables(model, jnp.zeros((1, 224, 224, 3)))
    path = _caffemodel(tmp_path / "nin_imagenet.caffemodel", to_torch("nin", variables, layout="caffe"))
    mean = np.random.default_rng(0).uniform(80, 150, (3, 256, 256)).astype(np.float32)  # blue, green, red
    (tmp_path / "mean.binaryproto").write_bytes(caffe_files.blob(mean[None], caffe_files.Form(axes="four")))
    image = photo(3, 280, 300)
    Image.fromarray(image).save(tmp_path / "image.png")
    image_file, mean_file = str(tmp_path / "image.png"), str(tmp_path / "mean.binaryproto")
    predict.main(["--weights", str(path), "--mean", mean_file, "--out", str(tmp_path / "out"), image_file])
    assert f", but less each pixel's mean, from {tmp_path / 'mean.binaryproto'}\n" in capsys.readouterr().out
    scaled = np.asarray(Image.fromarray(image).resize((274, 256), Image.Resampling.BILINEAR), np.float32)
    seen = scaled[:, 9 : 9 + 256, ::-1] - mean.transpose(1, 2, 0)
    for given, inputs in (
        (tmp_path / "mean.binaryproto", seen[16:240, 16:240]),
        (None, scaled[16:240, 25:249, ::-1] - np.array([104, 117, 123], np.float32)),
    ):
        loaded = load_for_inference(path, mean=given and str(given))
        wanted = jax.nn.softmax(jax.jit(model.apply)(variables, inputs[None])[0])
        np.testing.assert_allclose(loaded.predict(image), wanted, rtol=1e-3)
    larger = load_for_inference(path, mean=str(tmp_path / "mean.binaryproto")).task
    assert "mean_image" not in larger.record()
    with pytest.raises(ConfigError, match="260x260 pixels are larger than their mean image of 256x256; lower --crop"):
        larger.normalize(jnp.zeros((1, 260, 260, 3)))
    (tmp_path / "gray.binaryproto").write_bytes(caffe_files.blob(mean[None, :1], caffe_files.Form(axes="four")))
    with pytest.raises(CheckpointError, match="a mean image of 1 channels, not of 3"):
        load_for_inference(path, mean=str(tmp_path / "gray.binaryproto"))


def test_of_a_mean_image_of_another_size_the_channels_means_are_subtracted(fcn, tmp_path):
    path, _ = fcn
    mean = np.random.default_rng(0).uniform(80, 150, (3, 8, 8)).astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(caffe_files.blob(mean))
    loaded = load_for_inference(path, mean=str(tmp_path / "mean.binaryproto"))
    np.testing.assert_allclose(loaded.task.mean, mean.mean((1, 2))[::-1], rtol=1e-6)
    assert f"{mean[2].mean():.3f} of red, {mean[1].mean():.3f} of green" in loaded.metadata["weights"]
    np.testing.assert_allclose(loaded.task.std, 1, rtol=1e-6)
    assert np.allclose(255 * np.array(FCN.mean), load_for_inference(path).task.mean)


def test_published_weights_are_taken_by_name_with_their_own_preprocessing(tmp_path, monkeypatch):
    _narrow(monkeypatch, "nin", width=0.1)
    variables = drawn_variables(create_model("nin", num_classes=5), jnp.zeros((1, 224, 224, 3)))
    path = _caffemodel(tmp_path / "nin.caffemodel", to_torch("nin", variables, layout="caffe"))
    expected = Preprocessing(224, 240, interpolation="bicubic")
    monkeypatch.setattr(foreign, "fetch_pretrained", {"resnet50": Fetched("nin", path, expected)}.__getitem__)
    loaded = load_for_inference("resnet50")
    scoring = loaded.task.config
    assert (scoring.eval.crop, scoring.eval.resize, scoring.input.interpolation) == ((224, 224), 240, "bicubic")
    assert "red first, from 0 to 1, less 0.485, 0.456, 0.406, divided by 0.229" in loaded.metadata["weights"]
    with pytest.raises(ConfigError, match="resnet50 is of nin, not of vgg16; leave --as out"):
        load_for_inference("resnet50", name="vgg16")


def test_what_names_the_model_is_said_once(tmp_path):
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"")
    Image.fromarray(photo(1)).save(tmp_path / "image.png")
    for words, message in (
        ([], "there is nothing to load; give a run's folder as CHECKPOINT, or a file with --weights"),
        ([str(tmp_path), "--weights", str(weights)], "name a model; give one of them"),
        (["--weights", str(tmp_path)], "is a folder, and --weights is for files"),
        (["--weights", "resnet-51"], "there are no weights resnet-51: neither a file nor a published name"),
        ([str(tmp_path), "--as", "resnet50", "--layout", "timm"], "--as, --layout is for files of weights, and"),
    ):
        with pytest.raises((ConfigError, CheckpointError), match=message):
            evaluate.main([*words, "--data", "scenes"])
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="name a model; give one of them"):
        predict.main([str(tmp_path / "run"), "--weights", str(weights), str(tmp_path / "image.png")])
