"""The predict command, with a small model in the place of a checkpoint's."""

import json
import pathlib
import types

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import segmentation
from PIL import Image

from cvjax.cli import predict
from cvjax.errors import ConfigError, DataError, UserError
from cvjax.tasks import load
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

    monkeypatch.setattr(load, "load_for_inference", load_for_inference)
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
    assert shapes == [(3, 64, 64, 3)]
    assert len(list((tmp_path / "out").iterdir())) == 6 + 1  # and index.html


def test_what_the_user_can_mend(calls, tmp_path):
    good = tmp_path / "good.png"
    Image.fromarray(stripes(8, 8)[0]).save(good)
    (tmp_path / "sub").mkdir()
    Image.fromarray(stripes(8, 8)[0]).save(tmp_path / "good_mask.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "file").write_text("")

    def fails(kind: type[UserError], match: str, *arguments) -> None:
        with pytest.raises(kind, match=match):
            command("run", *arguments)

    fails(DataError, r"no image .*missing\.png", tmp_path / "missing.png")
    fails(DataError, "sub is a folder without images or videos", tmp_path / "sub")
    fails(ConfigError, "--out", good, tmp_path / "good_mask.png", "--out", tmp_path)
    fails(ConfigError, "--tile is 1;", good, "--tile", 1)
    fails(ConfigError, "--pad-multiple is 0", good, "--pad-multiple", 0)
    assert calls == []  # all of these before the checkpoint is read
    fails(ConfigError, "--formats is of no use to a segmentation", good, "--formats", "coco")
    fails(ConfigError, "--every is 0", good, "--every", 0)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    fails(DataError, r"broken\.mp4: no frame of this video can be decoded; convert it", tmp_path / "broken.mp4")
    fails(DataError, r"broken\.png", tmp_path / "broken.png")
    fails(ConfigError, "scales", good, "--scales", 0)
    fails(ConfigError, "window", good, "--window", 0, 5)
    fails(ConfigError, "cannot write", good, "--out", tmp_path / "file")


def test_images_of_one_name_and_broken_ones_in_a_folder(calls, tmp_path, capsys):
    wide, tall = stripes(20, 80), stripes(90, 30)
    for place, (image, _) in (("a", wide), ("b", tall)):
        (tmp_path / place).mkdir()
        Image.fromarray(image).save(tmp_path / place / "1.png")
    (tmp_path / "a" / "0.png").write_bytes((tmp_path / "a" / "1.png").read_bytes()[:60])
    where = ("--out", tmp_path / "out", "--json", tmp_path / "report.json")
    command("run", tmp_path / "a", tmp_path / "b" / "1.png", *where, "--on-bad", "skip", "--probabilities", "uint8")
    for name, (_, labels) in (("a_1", wide), ("b_1", tall)):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}_mask.png")), labels)
        with np.load(tmp_path / "out" / f"{name}_probabilities.npz") as file:
            assert file["probabilities"].dtype == np.uint8
            np.testing.assert_array_equal(file["probabilities"].argmax(-1), labels)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"images": 2, "videos": 0, "frames": 0, "passed_over": 1}
    assert [pathlib.Path(one["path"]).name for one in report["passed_over"]] == ["0.png"]
    assert [one["name"] for one in report["images"]] == ["a_1", "b_1"]
    assert report["images"][0]["shares"] == dict.fromkeys(NAMES, 0.25)
    assert report["programs"] == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("passed over: ")
    assert "0.png" in lines[0]
    assert lines[1].startswith(f"{tmp_path / 'a' / '1.png'}: background 25.0%")
    assert "1 of 3 files passed over" in lines
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img ") == 2
    assert 'href="./b_1_overlay.png"' in page
    assert "Passed over" in page
    with pytest.raises(DataError, match=r"0\.png"):
        command("run", tmp_path / "a", "--out", tmp_path / "out")


def write_video(path: pathlib.Path, count: int, size: tuple[int, int]) -> None:
    """Frames of one class each, in turn, without loss."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10.0, size[::-1])
    assert writer.isOpened()
    colors = [(128, 128, 128), (10, 10, 250), (10, 250, 10), (250, 10, 10)]  # blue first
    for number in range(count):
        writer.write(np.full((*size, 3), colors[number % 4], np.uint8))
    writer.release()


@pytest.mark.parametrize("every", [1, 3])
def test_a_video_gives_one_of_the_same_length(calls, tmp_path, every):
    write_video(tmp_path / "clip.avi", 22, (46, 64))
    command("run", tmp_path / "clip.avi", "--out", tmp_path / "out", "--every", every, "--batch-size", 4)
    made = cv2.VideoCapture(str(tmp_path / "out" / "clip_overlay.mp4"))
    assert made.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / every, rel=1e-3)
    chosen, palette, gray = range(0, 22, every), voc_palette().astype(int), np.array([128, 128, 128])
    colors = np.array([[128] * 3, [250, 10, 10], [10, 250, 10], [10, 10, 250]])
    for number in chosen:
        there, frame = made.read()
        assert there
        assert frame.shape == (46, 64, 3)
        label = number % 4
        expected = gray if label == 0 else 0.55 * colors[label] + 0.45 * palette[label]
        np.testing.assert_allclose(frame[23, 32, ::-1], expected, atol=20)
        mask = np.asarray(Image.open(tmp_path / "out" / "clip_frames" / f"{number:06d}_mask.png"))
        assert mask.shape == (46, 64)
        assert (mask == label).all()
    assert not made.read()[0]
    assert len(list((tmp_path / "out" / "clip_frames").iterdir())) == len(chosen)
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"{len(chosen)} frames of 1 video." in page
    assert page.count("<img ") == 4


def test_a_killed_command_leaves_whole_files(calls, tmp_path, monkeypatch):
    """The second image's results end in the middle of their writing; the first's are whole, and no part is left."""
    for number in range(2):
        Image.fromarray(stripes(20, 80)[0]).save(tmp_path / f"{number}.png")
    written = []

    def interrupted(place: pathlib.Path, partial: pathlib.Path) -> pathlib.Path:
        written.append(partial)
        if pathlib.Path(partial).name == "1_mask.png":
            raise KeyboardInterrupt
        return original(place, partial)

    original = pathlib.Path.replace
    monkeypatch.setattr(pathlib.Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command("run", tmp_path / "0.png", tmp_path / "1.png", "--out", tmp_path / "out", "--batch-size", 1)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"0_overlay.png", "0_mask.png", "1_overlay.png"}
    for name in left:
        Image.open(tmp_path / "out" / name).load()


def test_no_image_is_an_error(calls):
    with pytest.raises(ConfigError, match="no image"):
        predict.predict_files(predict.Arguments("run", ()))
