"""PyTorch's peer on CamVid: it reads, scores and builds what the preset does."""

import camvid_torch
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.tasks.scale_crop import resize_pair
from cvjax.tasks.segmentation.scores.regions import segmentation_report
from experiments.camvid import QUICK


def draw(folder, count: int = 3):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / split / "images" / f"{number}.png"), rng.integers(0, 256, (72, 96, 3), np.uint8))
            cv2.imwrite(str(folder / split / "masks" / f"{number}.png"), rng.integers(0, 12, (72, 96), np.uint8))
    return folder


def test_images_and_masks_are_resized_as_ours(tmp_path):
    folder = draw(tmp_path)
    pairs = camvid_torch.read_split(folder, "val", (36, 48))
    assert len(pairs) == 3
    for number, (image, mask) in enumerate(pairs):
        ours = cv2.imread(str(folder / "val" / "images" / f"{number}.png"))[..., ::-1]
        labels = cv2.imread(str(folder / "val" / "masks" / f"{number}.png"), cv2.IMREAD_UNCHANGED)
        expected, expected_mask = resize_pair(ours, labels, (36, 48))
        assert np.abs(image.astype(int) - expected).max() <= 1
        np.testing.assert_array_equal(mask, np.where(expected_mask == 11, 255, expected_mask))
    with pytest.raises(SystemExit, match="no images of split test"):
        camvid_torch.read_split(folder, "test", (36, 48))


def test_pieces_stay_in_register_and_inside():
    columns = np.tile(np.arange(240, dtype=np.uint8), (180, 1))
    pair = np.repeat(columns[..., None], 3, axis=2), columns
    mirrored = 0
    for seed in range(20):
        image, mask = camvid_torch.cut(pair, (160, 208), (0.9, 1.5), np.random.default_rng(seed))
        assert (image.shape, mask.shape) == ((160, 208, 3), (160, 208))
        assert np.abs(image[..., 0].astype(int) - mask).max() <= 1
        mirrored += bool(mask[0, 0] > mask[0, -1])
    assert 0 < mirrored < 20


def test_scores_are_ours():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 9, (4, 20, 20)), rng.integers(0, 10, (4, 20, 20))
    truth[0, :4] = 255
    confusion = camvid_torch.confusion_of(truth, guess)
    report = segmentation_report(confusion, tuple("abcdefghijk"))
    scores = camvid_torch.scores_of(confusion)
    assert scores["miou"] == pytest.approx(report["miou"])
    assert scores["pixel_accuracy"] == pytest.approx(report["pixel_accuracy"])
    np.testing.assert_allclose(scores["iou"], list(report["iou"].values()))
    assert confusion.sum() == (truth != 255).sum()


def test_the_schedule_climbs_and_ends_at_nothing():
    rates = [camvid_torch.rate_at(t, 0.02, 0.05) for t in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(0.02)
    assert rates[0] < 0.001
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_defaults_are_the_presets():
    arguments, optim, reading = camvid_torch.parse(["folder"]), QUICK.optim, QUICK.input
    assert (arguments.width, arguments.depth, arguments.batch_size) == (16, 4, QUICK.batch_size)
    assert (QUICK.model.get("width"), QUICK.model.get("depth")) == (16, 4)
    assert (arguments.crop, arguments.size) == (reading.crop, reading.resize)
    assert arguments.scales == (reading.min_scale, reading.max_scale)
    assert (arguments.optimizer, arguments.learning_rate) == (optim.name, optim.learning_rate)
    assert (arguments.weight_decay, arguments.warmup) == (optim.weight_decay, optim.warmup)
    assert arguments.jaccard_weight == QUICK.jaccard_weight


def test_the_net_is_as_large_as_ours():
    pytest.importorskip("torch")
    from torch_nets import unet

    ours = QUICK.model.replace(dtype="float32").build(num_classes=11)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    theirs = unet.UNet(11, 16, 4).parameters()
    assert sorted(sorted(p.shape) for p in theirs) == sorted(sorted(p.shape) for p in jax.tree.leaves(shapes))


def test_it_trains(tmp_path):
    pytest.importorskip("torch")
    flags = "--seconds 0.5 --eval-seconds 0.2 --width 2 --depth 2 --size 36 48 --crop 24 32 --batch-size 2".split()
    record = camvid_torch.train(camvid_torch.parse([str(draw(tmp_path)), *flags]))
    assert record["steps"] > 0
    assert len(record["curve"]) >= 1
    assert 0 <= record["miou"] < 1
