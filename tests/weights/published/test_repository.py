"""Repositories of Hugging Face's hub through its own client, with a local server in the hub's place."""

import json
import os
import re
import subprocess
import sys

import file_server
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from drawn_variables import drawn_variables
from huggingface_hub import constants  # a test without it would say nothing; '.[test]' brings it

import cvjax
from cvjax.errors import CheckpointError
from cvjax.models import Preprocessing, create_model
from cvjax.weights import load_pretrained, to_torch

CONFIG = {
    "architecture": "resnet20_cifar",
    "num_classes": 7,
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    },
}
REPOSITORY = "timm/resnet20.test"
CHILD = """
import sys
from cvjax.errors import CheckpointError
from cvjax.weights import load_pretrained
for name in sys.argv[1:]:
    try:
        print(load_pretrained(name).variables["params"]["head"]["bias"][0])
    except CheckpointError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def state():
    """A net of seven classes, in the layout of its publisher."""
    model = create_model("resnet20_cifar", num_classes=7)
    return to_torch("resnet20_cifar", drawn_variables(model, jnp.zeros((2, 32, 32, 3))))


def _files(state, shift=0.0, config=CONFIG):
    changed = {**state, "linear.bias": state["linear.bias"] + np.float32(shift)}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors.numpy.save(changed)}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub and its files; what is fetched lies in `tmp_path / "data"`."""
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "data"))
    with file_server.serving() as (address, files):
        # The client has read HF_ENDPOINT when it was imported; a child of the test below is given it as users do.
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield files


def _bias(name: str) -> np.ndarray:
    return np.asarray(load_pretrained(f"hf-hub:{name}").variables["params"]["head"]["bias"])


def _kept(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_environment_names_the_hub_and_what_was_fetched_needs_none(state, tmp_path):
    def child(*names: str, **environment: str) -> list[str]:
        given = {
            **os.environ,
            "CVJAX_DATA_DIR": str(tmp_path / "data"),
            "HF_HOME": str(tmp_path / "home"),
            **environment,
        }
        run = subprocess.run(
            [sys.executable, "-c", CHILD, *names], env=given, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    name, expected = f"hf-hub:{REPOSITORY}", str(state["linear.bias"][0])
    with file_server.serving() as (address, files):
        files.commit(REPOSITORY, _files(state), "main")
        assert child(name, HF_ENDPOINT=address) == [expected]
        asked = len(files.asked)
        offline = child(name, f"{name}@v2", HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
        assert len(files.asked) == asked
    assert offline[0] == expected
    place = tmp_path / "data" / "weights" / "timm" / "resnet20.test"
    assert offline[1].startswith(f"{place}/v2/config.json: is not there and could not be fetched from {address}/")
    assert offline[1].endswith("offline mode is enabled); fetch it elsewhere and put it there")
    assert len(offline) == 2
    assert _kept(place) == ["config.json", "model.safetensors"]


def test_revisions_are_branches_tags_and_commits(hub, state, tmp_path):
    first = hub.commit(REPOSITORY, _files(state, 1), "v1")
    hub.commit(REPOSITORY, _files(state, 2), "v2", "main")
    for name, shift in (
        (REPOSITORY, 2),
        (f"{REPOSITORY}@v1", 1),
        (f"{REPOSITORY}@v2", 2),
        (f"{REPOSITORY}@{first}", 1),
    ):
        np.testing.assert_array_equal(_bias(name), state["linear.bias"] + np.float32(shift))
    hub.commits.clear()  # each lies in a folder of its own, and is not asked for again
    asked = len(hub.asked)
    np.testing.assert_array_equal(_bias(f"{REPOSITORY}@v1"), state["linear.bias"] + np.float32(1))
    assert len(hub.asked) == asked


def test_both_files_are_of_one_commit_though_the_branch_moves_between_them(hub, state):
    hub.commit(REPOSITORY, _files(state, 1), "main")

    class Moving(dict):
        def __getitem__(self, key):
            found = super().__getitem__(key)
            if key == (REPOSITORY, "main"):
                hub.commit(REPOSITORY, _files(state, 2), "main")
            return found

    hub.commits = Moving(hub.commits)
    np.testing.assert_array_equal(_bias(REPOSITORY), state["linear.bias"] + np.float32(1))


def test_a_repository_brings_its_model_classes_and_preprocessing(hub, state):
    hub.commit(REPOSITORY, _files(state), "main")
    model, variables, preprocessing = cvjax.load_pretrained(f"hf-hub:{REPOSITORY}")
    assert preprocessing == Preprocessing(32, 33, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    assert model.apply(variables, jnp.zeros((1, 32, 32, 3)), train=False).shape == (1, 7)
    other = cvjax.load_pretrained(f"hf-hub:{REPOSITORY}", num_classes=3, key=jax.random.key(0))
    assert other.model.num_classes == 3


@pytest.mark.parametrize("config", [{"encoder_name": "resnet20"}, {**CONFIG, "architecture": "cifar_resnet20"}])
def test_anothers_repository_is_recognized_by_its_weights(hub, state, config):
    hub.commit(REPOSITORY, _files(state, config=config), "main")
    model, variables, preprocessing = cvjax.load_pretrained(f"hf-hub:{REPOSITORY}")
    assert model.apply(variables, jnp.zeros((1, 32, 32, 3)), train=False).shape == (1, 7)
    # What the configuration says, else what the publisher of such weights scored them with.
    described = Preprocessing(32, 33, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    assert preprocessing == (described if "architecture" in config else Preprocessing(None, None))


def test_a_net_that_is_none_of_ours_is_named(hub, state):
    strange = {"stages.0.weight": np.zeros((3, 3), np.float32)}
    hub.commit(
        REPOSITORY,
        _files({**strange, "linear.bias": state["linear.bias"]}, config={**CONFIG, "architecture": "vit"}),
        "main",
    )
    with pytest.raises(CheckpointError, match=rf"^hf-hub:{REPOSITORY} holds vit that is none of ours: "):
        load_pretrained(f"hf-hub:{REPOSITORY}")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_transfer_that_breaks_off_leaves_nothing_and_the_next_call_fetches_it_whole(hub, state, tmp_path, file):
    hub.commit(REPOSITORY, _files(state), "main")
    hub.broken[file] = 2  # half of it, then an error to the client's second try
    place = tmp_path / "data" / "weights" / "timm" / "resnet20.test"
    with pytest.raises(
        CheckpointError, match=rf"^{re.escape(str(place / file))}: is not there and could not be fetched"
    ):
        load_pretrained(f"hf-hub:{REPOSITORY}")
    assert _kept(place) == []
    np.testing.assert_array_equal(_bias(REPOSITORY), state["linear.bias"])
    assert _kept(place) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_content_of_another_digest_is_not_kept(hub, state, tmp_path, file):
    files = _files(state)
    hub.commit(REPOSITORY, files, "main")
    hub.lies[file] = files[file][:-2] + bytes([files[file][-2] ^ 1]) + files[file][-1:]  # of the same length
    place = tmp_path / "data" / "weights" / "timm" / "resnet20.test"
    message = (
        rf"^{re.escape(str(place / file))}: what came from http\S+ has the digest \w+ and not \w+, as the hub says"
    )
    with pytest.raises(CheckpointError, match=message) as error:
        load_pretrained(f"hf-hub:{REPOSITORY}")
    assert "\n" not in str(error.value)
    assert _kept(place) == []
    hub.lies.clear()
    np.testing.assert_array_equal(_bias(REPOSITORY), state["linear.bias"])


def test_content_of_another_length_is_not_kept(hub, state, tmp_path):
    files = _files(state)
    hub.commit(REPOSITORY, files, "main")
    hub.grown["model.safetensors"] = files["model.safetensors"] + b"more"
    with pytest.raises(
        CheckpointError, match=r"could not be fetched from .*Consistency check failed: file should be of"
    ):
        load_pretrained(f"hf-hub:{REPOSITORY}")
    assert _kept(tmp_path / "data") == []


def test_what_the_hub_lacks_is_said_in_a_sentence(hub, state):
    hub.commit(REPOSITORY, _files(state), "main")
    hub.commit("timm/pickled", {"config.json": b"{}"}, "main")
    for name, reason in (
        (f"{REPOSITORY}@v9", "the repository has no revision v9"),
        ("timm/nothing", "there is no such repository, or it is not open to you"),
        (
            "timm/pickled",
            "the repository has no such file, and cvjax takes those with config.json and model.safetensors",
        ),
    ):
        with pytest.raises(CheckpointError, match=rf"\({reason}\); fetch it elsewhere and put it there$"):
            load_pretrained(f"hf-hub:{name}")


@pytest.mark.parametrize(
    "change", [{"crop_mode": "squash"}, {"input_size": [3, 224, 256]}, {"interpolation": "lanczos"}]
)
def test_a_preprocessing_that_we_lack_is_refused(hub, state, change):
    changed = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **change}}
    hub.commit(REPOSITORY, _files(state, config=changed), "main")
    with pytest.raises(
        CheckpointError, match=r"for its weights alone, give \S+model\.safetensors to cvjax\.load_pretrained"
    ):
        load_pretrained(f"hf-hub:{REPOSITORY}")


def test_without_the_client_files_put_there_by_hand_are_taken(state, tmp_path, monkeypatch):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    place = tmp_path / "weights" / "timm" / "resnet20.test"
    with pytest.raises(CheckpointError, match=rf"^{re.escape(str(place))}/config\.json: .*cvjax\[hub\].*put it there$"):
        load_pretrained(f"hf-hub:{REPOSITORY}")
    for file, content in _files(state).items():
        (place / file).write_bytes(content)
    np.testing.assert_array_equal(_bias(REPOSITORY), state["linear.bias"])
