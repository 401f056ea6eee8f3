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
from tiny_sets import box_xml

import cvjax
from cvjax.cli import convert, crf, crf_search, evaluate, predict, prepare, propose
from cvjax.datasets.proposals.boxes import ProposalConfig, grid_boxes
from cvjax.datasets.proposals.files import open_proposals
from cvjax.datasets.registry import open_dataset
from cvjax.engine.run import initial_variables
from cvjax.errors import ConfigError, DataError
from cvjax.storage import as_path
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.weights import read_state_dict, write_state_dict
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_crf_is_searched_and_weights_are_scored(runs, tmp_path):
    config, folder, url = runs
    grid = ["--rounds", "1", "--appearance-sigma", "9", "--appearance-weight", "2", "--color-sigma", "3", "9"]
    said = ["--images", "2", "--start", "1,2,4,9,3,1", "--json", f"{url}/search/all.json"]
    crf_search.main([str(url), *grid, *said])
    found = json.loads((url / "search" / "all.json").read_text())
    assert (len(found["trials"]), found["images"]) == (2, 2)
    convert.main([str(folder / "run"), str(tmp_path / "net.safetensors")])
    (url / "nets" / "scored.safetensors").write_bytes((tmp_path / "net.safetensors").read_bytes())
    reports = []
    for place in (tmp_path / "net.safetensors", url / "nets" / "scored.safetensors"):
        data = ["--data", config.data, "--manual-dir", str(folder / "own")]
        evaluate.main(["--weights", str(place), *data, "--json", f"{place}.json"])
        reports.append(json.loads(as_path(f"{place}.json").read_text()))
    assert [report.pop("checkpoint") for report in reports]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("kind", ["npz", "pth"])
def test_weights_of_other_kinds_go_and_come(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
    place = f"memory://{uuid.uuid4().hex}/nets/net.{kind}"
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32)}
    write_state_dict(place, arrays)
    found = read_state_dict(place)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[key], arrays[key]) for key in arrays)


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path, monkeypatch):
    """A folder at a URL, empty."""
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
    return f"memory://{uuid.uuid4().hex}/all" if request.param == "memory" else f"file://{tmp_path}/all"


def test_probabilities_are_refined(place, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 16, 3), np.uint8)
    probabilities = rng.dirichlet(np.ones(3), (12, 16)).astype(np.float32)
    (tmp_path / "here").mkdir()
    cv2.imwrite(str(tmp_path / "here/a.png"), image)
    np.save(tmp_path / "here/a.npy", probabilities)
    put = as_path(place)
    put.mkdir(parents=True)
    for name in ("a.png", "a.npy"):
        (put / name).write_bytes((tmp_path / "here" / name).read_bytes())
    for root in (str(tmp_path / "here"), place):
        crf.main([f"{root}/a.png", f"{root}/a.npy", "--out", f"{root}/out", "--crf", "off", "--marginals"])
    names = [f"a_{kind}" for kind in ("overlay.png", "before_after.png", "mask.png", "marginals.npy")]
    assert sorted(path.name for path in (put / "out").iterdir()) == sorted(names)
    for name in names:
        assert (put / "out" / name).read_bytes() == (tmp_path / "here/out" / name).read_bytes()
    with pytest.raises(DataError, match=r"there is no file .*/b\.npy; check the path"):
        crf.main([f"{place}/a.png", f"{place}/b.npy"])
    with pytest.raises(ConfigError, match=r"the result would replace .*/a_marginals\.npy"):
        crf.main([f"{place}/a.png", f"{place}/a_marginals.npy", "--out", place])


def test_a_set_and_its_proposals_are_made_and_found_by_another_machine(place, tmp_path, monkeypatch, capsys):
    files = {}
    for number, size in enumerate([(40, 60), (60, 40), (50, 50)]):
        files[f"train/{number}.png"] = cv2.imencode(".png", np.full((*size, 3), 40, np.uint8))[1].tobytes()
        files[f"train/{number}.xml"] = box_xml([("cat", 1, 1, 9, 9)], size=size)
    own = as_path(f"{place}/own")
    for name, content in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    given = ["xml_folder_detection", "--data-dir", f"{place}/data", "--no-progress"]
    prepare.main([*given, "--manual-dir", str(own)])
    asked = [*given, "--mode", "grid", "--limit", "40", "--workers", "0"]
    propose.main(asked)
    sets = as_path(f"{place}/data") / "proposals" / "xml_folder_detection" / "train"
    (name,) = [path.name for path in sets.iterdir() if not path.name.startswith(".")]
    assert {path.name for path in (sets / name).iterdir()} == {"boxes.npy", "config.json", "ends.npy", "ids.json"}
    capsys.readouterr()
    propose.main(asked)
    assert "copying" not in capsys.readouterr().err, "what went up does not come down again"

    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "other"))
    source = open_dataset("xml_folder_detection", "train", target="boxes", data_dir=f"{place}/data")
    found = open_proposals(source, ProposalConfig(mode="grid", limit=40), f"{place}/data")
    assert found.folder.name == name
    for index, size in enumerate([(40, 60), (60, 40), (50, 50)]):
        np.testing.assert_array_equal(found[index], grid_boxes(size, ProposalConfig(mode="grid", limit=40)))
    with pytest.raises(DataError, match="there is no folder memory://nowhere/at/all; check the address"):
        prepare.main([*given, "--manual-dir", "memory://nowhere/at/all"])
    with pytest.raises(DataError, match="memory://nowhere/at/all is a URL, where prepared sets alone are read"):
        propose.main([*asked, "--manual-dir", "memory://nowhere/at/all"])
