"""Published weights by name, with local files in the network's place."""

import hashlib
import re

import _reference as reference
import file_server
import jax
import numpy as np
import pytest
import safetensors.numpy

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import Preprocessing
from cvjax.weights import hub, load_pretrained, read_weights
from cvjax.weights.published import DEFAULTS, PUBLISHED, Published


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """ResNet-18's weights under a name that ends with their digest, as torchvision publishes them."""
    path = tmp_path_factory.mktemp("server") / "weights.safetensors"
    safetensors.numpy.save_file(reference.load(reference.GOLDEN, "resnet18")[0], path)
    return path.rename(path.with_name(f"resnet18-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.safetensors"))


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Lets a URL stand for resnet18.test, and data lie under `tmp_path / "data"`."""
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "data"))

    def publish(url):
        rows = {"resnet18.test": Published("resnet18", url, Preprocessing(224, 232))}
        monkeypatch.setattr(hub, "PUBLISHED", rows)
        monkeypatch.setattr(hub, "DEFAULTS", {"resnet18": "resnet18.test"})

    return publish


def test_weights_are_fetched_once_and_bring_their_preprocessing(publish, file, tmp_path):
    publish(file.as_uri())
    variables, preprocessing = load_pretrained("resnet18", progress=False)
    assert preprocessing == Preprocessing(224, 232)
    stem = np.asarray(variables["params"]["stem_conv_0"]["kernel"])
    expected = safetensors.numpy.load_file(file)["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(stem, expected)
    assert (tmp_path / "data" / "weights" / file.name).is_file()
    publish(f"http://nowhere.invalid/{file.name}")
    again = load_pretrained("resnet18.test", num_classes=4, in_channels=1, key=jax.random.key(0), progress=False)
    assert again.variables["params"]["head"]["bias"].shape == (4,)
    assert again.variables["params"]["stem_conv_0"]["kernel"].shape == (7, 7, 1, 64)
    assert "conv1.weight" in read_weights("resnet18.test")
    assert "conv1.weight" in read_weights(str(file))


def test_without_network_one_sentence_says_what_to_fetch_and_where_to_put_it(publish, tmp_path):
    url = (tmp_path / "gone-0123abcd.safetensors").as_uri()
    publish(url)
    place = tmp_path / "data" / "weights" / "gone-0123abcd.safetensors"
    with pytest.raises(CheckpointError) as error:
        load_pretrained("resnet18", progress=False)
    assert str(error.value).startswith(f"{place}: is not there and could not be fetched from {url} (")
    assert str(error.value).endswith("fetch it elsewhere and put it there")
    assert list(place.parent.iterdir()) == []


def test_another_file_than_the_published_is_refused(publish, file, tmp_path):
    wrong = tmp_path / "resnet18-01234567.safetensors"
    wrong.write_bytes(b"damaged")
    publish(wrong.as_uri())
    with pytest.raises(CheckpointError, match=r"sha256 begins with .* and not with 01234567"):
        load_pretrained("resnet18", progress=False)
    assert list((tmp_path / "data" / "weights").iterdir()) == []
    by_hand = tmp_path / "data" / "weights" / wrong.name
    by_hand.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=re.escape(f"{by_hand}: its sha256")):
        load_pretrained("resnet18", progress=False)


def test_a_server_that_breaks_off_or_sends_another_file_leaves_nothing(publish, file, tmp_path):
    place = tmp_path / "data" / "weights"
    with file_server.serving() as (address, files):
        url = f"{address}/models/{file.name}"
        files.plain[f"models/{file.name}"] = content = file.read_bytes()
        publish(url)
        files.broken[file.name] = 2
        for reason in ("broke off after", "Internal Server Error"):  # half of it, then an error
            message = rf"^{re.escape(f'{place / file.name}')}: .* from {url} \(.*{reason}.*\); fetch it elsewhere"
            with pytest.raises(CheckpointError, match=message):
                load_pretrained("resnet18", progress=False)
            assert list(place.iterdir()) == []
        files.lies[file.name] = bytes(len(content))
        with pytest.raises(CheckpointError, match=rf"sha256 begins with \w+ and not with .* fetch it again from {url}"):
            load_pretrained("resnet18", progress=False)
        assert list(place.iterdir()) == []
        files.lies.clear()
        fetched = load_pretrained("resnet18", progress=False)
        asked = len(files.asked)
    again = load_pretrained("resnet18", progress=False)  # the server is gone
    assert asked == len(files.asked)
    jax.tree.map(np.testing.assert_array_equal, fetched.variables, again.variables)


def test_a_file_that_nothing_here_reads_is_not_fetched(publish):
    publish("http://nowhere.invalid/resnet18-01234567.h5")
    with pytest.raises(CheckpointError, match=r"weights come as \.safetensors.*not as \.h5"):
        load_pretrained("resnet18", progress=False)


def test_unknown_names_are_told_the_known(publish):
    with pytest.raises(ConfigError, match=r"'resnet19'.*list_pretrained\(\).*hf-hub:timm/"):
        load_pretrained("resnet19")
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        load_pretrained("hf-hub:../../etc")


def test_table_of_published_weights():
    assert DEFAULTS["resnet50"] == "resnet50.imagenet1k_v2"
    assert DEFAULTS["efficientnet_b0"] == "efficientnet_b0.imagenet1k_v1"
    for name, published in PUBLISHED.items():
        assert name.startswith(f"{published.model}.")
        on_hub = published.source.startswith("hf-hub:timm/")
        assert on_hub == (published.preprocessing is None)
        assert on_hub or re.fullmatch(r"https://\S+-[0-9a-f]{8}\.pth", published.source)
