"""What is read from a disk comes down once, and what was written to one goes up whole."""

import uuid

import numpy as np
import pytest
from tiny_run import draw_folder

import cvjax
from cvjax.cli.prepare import Prepare, prepare
from cvjax.datasets.registry import open_dataset
from cvjax.errors import CheckpointError, DataError
from cvjax.storage import Mirror, as_path, data_folder, file_and_key
from cvjax.weights import read_state_dict, write_state_dict


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty place at a URL, and a cache of its own for the copies."""
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
    return as_path(f"memory://{uuid.uuid4().hex}")


def test_weights_are_written_and_read_at_a_url(store, capfd):
    weights = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    url = f"{store}/nets/w.safetensors"
    write_state_dict(url, weights)
    assert [*store.files_below()] == ["nets/w.safetensors"]
    np.testing.assert_array_equal(read_state_dict(url)["a.weight"], weights["a.weight"])
    read_state_dict(url)
    assert capfd.readouterr().err.count("copying") == 1, "an unchanged file is fetched once"
    write_state_dict(url, {"a.weight": 2 * weights["a.weight"]})
    np.testing.assert_array_equal(read_state_dict(f"{url}")["a.weight"], 2 * weights["a.weight"])
    with pytest.raises(CheckpointError, match=rf"{store}/nets/x.npz: there is no such file"):
        read_state_dict(f"{store}/nets/x.npz")


def test_a_part_of_a_file_at_a_url(store):
    (store / "several.pth").write_bytes(b"x")
    place, key = file_and_key(f"{store}/several.pth::model.ema")
    assert (place.read_bytes(), key) == (b"x", "model.ema")
    assert file_and_key(f"{store}/none") == (store / "none", None)


def test_a_set_is_prepared_into_a_url_and_read_from_it(store, tmp_path, capfd):
    folder = draw_folder(tmp_path / "drawn", train=3, val=2)
    local = prepare(Prepare("image_folder_segmentation", data_dir=str(tmp_path / "sets"), manual_dir=folder))
    prepare(Prepare("image_folder_segmentation", data_dir=f"{store}/sets", manual_dir=folder))
    names = {path.name for path in (store / "sets/image_folder_segmentation/drawn/1.0.0").iterdir()}
    assert {"dataset_info.json", "content.json"} < names
    here = open_dataset("image_folder_segmentation", "train", data_dir=tmp_path / "sets")
    copies = data_folder(f"{store}/sets")
    assert copies.is_relative_to(tmp_path / "cache")
    for again in range(2):  # another machine, which has no copies, and the same one once more
        if not again:
            copies.rename(tmp_path / "gone")
        there = open_dataset("image_folder_segmentation", "train", data_dir=f"{store}/sets")
        assert len(there) == len(here) == 3
        assert there[2] == here[2]
        assert there.fingerprint() == here.fingerprint()
    assert capfd.readouterr().err.count("copying") == 1
    assert local.info.splits["val"].num_examples == 2


def test_a_data_folder_from_the_environment_may_be_a_url(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CVJAX_DATA_DIR", f"{store}/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache/cvjax/remote/memory" / store.name / "sets"
    with pytest.raises(DataError, match="not prepared"):
        open_dataset("cifar10", "train", target="label")
    monkeypatch.setenv("CVJAX_DATA_DIR", f"file://{tmp_path}/a%20b")
    assert data_folder() == tmp_path / "a b"


def test_files_of_the_users_own_are_not_read_at_a_url(store):
    with pytest.raises(DataError, match="prepared sets alone are read; mount it"):
        open_dataset("image_folder_segmentation", "train", manual_dir=f"{store}/photos")


def test_a_mirror_sends_what_has_changed(store):
    (store / "log").write_bytes(b"1\n")
    mirror = Mirror(store, "log", "none")
    with (mirror.folder / "log").open("ab") as file:
        file.write(b"2\n")
    (mirror.folder / "events").mkdir()
    (mirror.folder / "events/a").write_bytes(b"x")
    mirror.send()
    assert ((store / "log").read_bytes(), (store / "events/a").read_bytes()) == (b"1\n2\n", b"x")
    before = store.files_below()
    mirror.send()
    mirror.close()
    assert store.files_below() == before
    assert not mirror.folder.exists()


def test_a_photograph_and_a_run_that_are_not_there(store):
    with pytest.raises(DataError, match=rf"there is no image {store}/x.png"):
        cvjax.predict(_model(), f"{store}/x.png")
    with pytest.raises(CheckpointError, match=rf"{store}/run is no folder with files in it; give a run's --workdir"):
        cvjax.load(f"{store}/run")


def _model():
    from cvjax.tasks.loaded import Loaded

    return Loaded(None, {}, None, {}, None)
