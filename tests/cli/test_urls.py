"""Commands on a run at a URL write what they write on a run on the disk."""

import dataclasses
import json
import uuid

import cv2
import jax
import numpy as np
import pytest
from commands import configure
from PIL import Image
from saved_run import drawn_run
from tiny_run import TINY, draw_folder

import cvjax
from cvjax.cli import convert, evaluate, predict
from cvjax.engine.run import initial_variables
from cvjax.storage import as_path
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.weights import read_state_dict
from experiments import deeplab_voc


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run on the disk and at a URL, and the folder that it is scored on."""
    folder = tmp_path_factory.mktemp("urls")
    draw_folder(folder / "own", train=8, val=3)
    small = "--model.backbone.width 4 --model.backbone.stage-sizes 1 1 1 1 --eval.no-flip --input.workers 0".split()
    config = configure(deeplab_voc, ["quick", *TINY, *small, "--input.manual-dir", folder / "own"])
    url = as_path(f"memory://{uuid.uuid4().hex}/run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVJAX_DATA_DIR", str(folder / "cache"))
        drawn_run(config, folder / "run")
        drawn_run(config, url)
        yield config, folder, url


def test_a_run_is_scored(runs, tmp_path):
    _, folder, url = runs
    evaluate.main([str(folder / "run"), "--json", str(tmp_path / "a.json")])
    evaluate.main([str(url), "--json", f"{url}/scores/a.json", "--pictures", f"{url}/pictures"])
    reports = [json.loads(place.read_text()) for place in (tmp_path / "a.json", url / "scores" / "a.json")]
    assert [report.pop("checkpoint") for report in reports]
    assert reports[0] == reports[1]
    assert (url / "pictures" / "report.md").read_text().startswith("|")


def test_photographs_are_predicted(runs, tmp_path):
    _, folder, url = runs
    photo = folder / "own/val/images/000.jpg"
    (url / "photos" / "a.jpg").write_bytes(photo.read_bytes())
    expected = cvjax.predict(str(folder / "run"), photo)
    written = predict.predict_files(predict.Arguments(str(url), (f"{url}/photos/a.jpg",), out=f"{url}/out"))
    assert [path.name for path in written] == ["a_overlay.png", "a_mask.png"]
    stored = np.frombuffer((url / "out" / "a_mask.png").read_bytes(), np.uint8)
    (tmp_path / "mask.png").write_bytes(stored.tobytes())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)
    assert cv2.imdecode(np.frombuffer((url / "out" / "a_overlay.png").read_bytes(), np.uint8), 1).ndim == 3


def test_weights_go_and_come(runs, tmp_path):
    config, folder, url = runs
    convert.main([str(folder / "run"), str(tmp_path / "net.safetensors")])
    convert.main([str(url), f"{url}/nets/net.safetensors"])
    here, there = (read_state_dict(place) for place in (tmp_path / "net.safetensors", f"{url}/nets/net.safetensors"))
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[key], there[key]) for key in here)
    for init in (str(url), f"{url}/nets/net.safetensors"):
        started = dataclasses.replace(config, init=init)
        dataset = Segmentation.open(started, "train")
        model = started.model.build(num_classes=3)
        found = initial_variables(Segmentation.create(started, dataset, model), model)
        expected = cvjax.load(str(folder / "run")).variables
        same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), found, expected)
        assert all(jax.tree.leaves(same)), init
