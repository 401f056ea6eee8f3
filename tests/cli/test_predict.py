"""The predict command, with a small model in the place of a checkpoint's."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import segmentation
from PIL import Image

from cvjax.cli import predict
from cvjax.errors import ConfigError, DataError, UserError
from cvjax.tasks.segmentation import predict as prediction
from cvjax.visual.palette import voc_palette

NAMES = ("background", "red", "green", "blue")


class Brightest(nn.Module):
    """Classifies a pixel by its strongest channel; gray is background."""

    output_stride: int = 16

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        weight = self.param("weight", nn.initializers.ones, (1, 1))
        middle = images.mean(-1, keepdims=True)
        return jnp.concatenate([jnp.full_like(middle, 0.05), images - middle], axis=-1) * 20 * weight[None, None]


@pytest.fixture
def calls(monkeypatch):
    """Puts the small model where checkpoints are loaded; returns what it was asked for."""
    asked = []

    def load_for_inference(path, **overrides):
        asked.append((path, overrides))
        model = Brightest(**overrides)
        variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
        task = segmentation(NAMES, mean=(0.0,) * 3, std=(255.0,) * 3)
        return types.SimpleNamespace(model=model, variables=variables, task=task, metadata={})

    monkeypatch.setattr(predict.load, "load_for_inference", load_for_inference)
    return asked


def stripes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of vertical stripes of the four classes, and its labels."""
    labels = np.broadcast_to(np.arange(width) * 4 // width, (height, width))
    colors = np.array([(128, 128, 128), (250, 10, 10), (10, 250, 10), (10, 10, 250)], np.uint8)
    return colors[labels], labels


def command(*arguments) -> None:
    predict.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (33, 70)])
def test_writes_an_overlay_and_a_palette_mask(calls, tmp_path, capsys, size):
    image, labels = stripes(*size)
    Image.fromarray(image).save(tmp_path / "photo.png")
    command("run", tmp_path / "photo.png", "--out", tmp_path / "deep" / "out")
    with Image.open(tmp_path / "deep" / "out" / "photo_mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), labels)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), voc_palette()[labels])
    with Image.open(tmp_path / "deep" / "out" / "photo_overlay.png") as overlay:
        assert overlay.mode == "RGB"
        assert overlay.width >= size[1]
        assert overlay.height > size[0]
    assert calls == [("run", {})]
    assert "photo_overlay.png" in capsys.readouterr().out


def test_tiles_a_large_image(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "_TILE", 512)
    image, labels = stripes(40, 1300)
    Image.fromarray(image).save(tmp_path / "wide.png")
    command("run", tmp_path / "wide.png", "--out", tmp_path)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "wide_mask.png")), labels)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_any_kind_of_image(calls, tmp_path, mode):
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.fromarray(stripes(20, 40)[0]).convert(mode).save(path)
    command("run", path, "--out", tmp_path / "out")
    mask = np.asarray(Image.open(tmp_path / "out" / "picture_mask.png"))
    assert mask.shape == (20, 40)
    if mode in ("L", "1"):
        assert not mask.any()  # no color in it


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_photograph_is_upright_before_the_model_sees_it(calls, tmp_path, kind):
    image, labels = stripes(64, 96)
    exif = Image.Exif()
    exif[0x0112] = 8  # A viewer turns the stored pixels by 90 degrees counterclockwise.
    path = tmp_path / f"phone.{kind}"
    Image.fromarray(np.ascontiguousarray(np.rot90(image, -1))).save(path, exif=exif, quality=98)
    command("run", path, "--out", tmp_path / "out")
    found = np.asarray(Image.open(tmp_path / "out" / "phone_mask.png"))
    assert found.shape == labels.shape
    assert (found == labels).mean() > 0.95


def test_options_reach_the_model(calls, tmp_path, monkeypatch):
    seen = {}
    original = prediction.segment

    def spy(logits_fn, images, **options):
        seen.update(options)
        return original(logits_fn, images, **options)

    monkeypatch.setattr(prediction, "segment", spy)
    image, labels = stripes(64, 64)
    Image.fromarray(image).save(tmp_path / "a.png")
    command(
        "run", tmp_path / "a.png", "--out", tmp_path, "--scales", 0.5, 1.0, "--flip", "--window", 48, 32,
        "--output-stride", 8,
    )  # fmt: skip
    assert seen == {"scales": (0.5, 1.0), "flip": True, "window": (48, 32), "overlap": 1 / 3, "unpadded": None}
    assert calls == [("run", {"output_stride": 8})]
    mask = np.asarray(Image.open(tmp_path / "a_mask.png"))
    assert (mask == labels).mean() > 0.9


def test_several_images_share_one_compilation(calls, tmp_path, monkeypatch):
    shapes = []
    original = prediction.segment

    def spy(logits_fn, images, **options):
        shapes.append(images.shape)
        return original(logits_fn, images, **options)

    monkeypatch.setattr(prediction, "segment", spy)
    for number, size in enumerate([(10, 20), (30, 40), (64, 64)]):
        Image.fromarray(stripes(*size)[0]).save(tmp_path / f"{number}.png")
    command("run", *sorted(tmp_path.glob("*.png")), "--out", tmp_path / "out")
    assert shapes == [(1, 64, 64, 3)]
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_what_the_user_can_mend(calls, tmp_path):
    good = tmp_path / "good.png"
    Image.fromarray(stripes(8, 8)[0]).save(good)
    (tmp_path / "sub").mkdir()
    Image.fromarray(stripes(8, 8)[0]).save(tmp_path / "sub" / "good.png")
    Image.fromarray(stripes(8, 8)[0]).save(tmp_path / "good_mask.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "file").write_text("")

    def fails(kind: type[UserError], match: str, *arguments) -> None:
        with pytest.raises(kind, match=match):
            command("run", *arguments)

    fails(DataError, r"no image .*missing\.png", tmp_path / "missing.png")
    fails(DataError, "is a folder", tmp_path)
    fails(ConfigError, "good_overlay.png", good, tmp_path / "sub" / "good.png")
    fails(ConfigError, "--out", good, tmp_path / "good_mask.png", "--out", tmp_path)
    assert calls == []  # all of these before the checkpoint is read
    fails(DataError, r"broken\.png", tmp_path / "broken.png")
    fails(ConfigError, "scales", good, "--scales", 0)
    fails(ConfigError, "window", good, "--window", 0, 5)
    fails(ConfigError, "cannot write", good, "--out", tmp_path / "file")


def test_no_image_is_an_error(calls):
    with pytest.raises(ConfigError, match="no image"):
        predict.predict_files(predict.Arguments("run", ()))
