"""Labels in doubt: planted faults come first, by rules that are computed here once more in a plainer way."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import linen as nn
from tiny_sets import encoded, write_tree

from cvjax.cli.data import doubt as command
from cvjax.datasets.registry import open_dataset
from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Detections
from cvjax.tasks import load
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationEval
from cvjax.tasks.classification.doubt import confident_labels, normalized_margins
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.classification.transforms import ClassificationData
from cvjax.tasks.detection.config import DetectionConfig, DetectionEval
from cvjax.tasks.detection.doubt import Scene, judge
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.detection.transforms import DetectionData
from cvjax.tasks.loaded import Loaded
from cvjax.tasks.object_masks.task import ObjectMasks
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationEval
from cvjax.tasks.segmentation.doubt import regions
from cvjax.tasks.segmentation.task import Segmentation

COLORS = np.array([(230, 40, 40), (40, 230, 40), (40, 40, 230)], np.uint8)
"""The color of each class, by which `ByColor` recognizes it."""
RAW = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}


class ByColor(nn.Module):
    """Says of each pixel, or of the whole image, how much of the color of each class it has."""

    whole: bool = False

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        pixels = 6 * images
        return pixels.mean((1, 2)) if self.whole else pixels


def test_margins_and_thresholds():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(4), 200).astype(np.float32)
    label = rng.integers(0, 3, 200)  # nobody has the last class
    margins, rivals = normalized_margins(probability, label)
    own = confident_labels(probability, label)
    thresholds = [np.mean([p[c] for p, y in zip(probability, label) if y == c]) for c in range(3)]
    for row, (p, y) in enumerate(zip(probability.tolist(), label.tolist())):
        others = {c: p[c] for c in range(4) if c != y}
        assert rivals[row] == max(others, key=others.get)
        assert margins[row] == pytest.approx(p[y] - max(others.values()), abs=1e-6)
        reached = {c: p[c] for c in range(3) if p[c] >= thresholds[c]}
        assert own[row] == (max(reached, key=reached.get) if reached else -1)
    assert len(set(own.tolist())) == 4


def test_one_class_has_no_rival():
    margins, _ = normalized_margins(np.array([[1.0], [0.4]]), np.array([0, 0]))
    np.testing.assert_array_equal(margins, [1.0, 0.4])


def test_a_wrong_label_comes_first(tmp_path):
    rng = np.random.default_rng(0)
    tree, wrong = {}, {"val/blue/05", "val/red/09"}
    for number in range(12):
        # Those with a wrong label are clearer than the others of their class, so that they reach its threshold.
        color = (
            COLORS[number % 3].astype(int)
            - (0 if number in (4, 8) else rng.integers(5, 30)) * np.eye(3, dtype=int)[number % 3]
        )
        name = ("red", "green", "blue")[(number + 1) % 3 if number in (4, 8) else number % 3]
        tree[f"val/{name}/{number + 1:02d}.png"] = encoded(np.full((16, 16, 3), color.clip(0, 255), np.uint8), "PNG")
    tree |= {f"train/{name}/0.png": tree["val/red/01.png"] for name in ("red", "green", "blue")}
    folder = write_tree(tmp_path, tree)
    dataset = open_dataset("image_folder_classification", "val", target="label", manual_dir=folder)
    names = dataset.class_names
    config = ClassificationConfig(input=ClassificationData(crop=(16, 16)), eval=ClassificationEval(batch_size=8))
    order = [names.index(name) for name in ("red", "green", "blue")]
    task = Classification(config, names, **RAW)

    class Ordered(ByColor):
        def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
            return super().__call__(images)[:, np.argsort(order)]

    doubts = task.doubts(Ordered(whole=True), {}, dataset)
    assert len(doubts) == 12
    files = [f"val/{dataset[one.index]['id']}" for one in doubts]
    assert set(files[:2]) == wrong
    assert [one.flagged for one in doubts] == [True] * 2 + [False] * 10
    first = doubts[files.index("val/blue/05")]
    assert (first.given, first.suggested) == ("blue", "green")
    assert first.what.startswith("labeled blue ")
    assert [one.score for one in doubts] == sorted(one.score for one in doubts)


def test_regions_are_connected_components():
    rng = np.random.default_rng(1)
    mask = np.kron(rng.integers(0, 3, (6, 8)), np.ones((5, 5))).astype(np.uint8)
    mask[:5, :5] = 255
    guess = np.kron(rng.integers(0, 3, (5, 5)), np.ones((6, 8))).astype(np.uint8)
    given, likeliest = rng.random((2, 30, 40)).astype(np.float32)
    wanted = []
    for label in range(3):
        for other in range(3):
            if label == other:
                continue
            numbers, count = scipy.ndimage.label((mask == label) & (guess == other))
            for number in range(1, count + 1):
                here = numbers == number
                core = scipy.ndimage.binary_erosion(here, np.ones((3, 3)))
                if here.sum() >= 12 and core.any():
                    rows, columns = np.nonzero(here)
                    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    means = given[here].mean(), likeliest[here].mean()
                    wanted.append((label, other, int(here.sum()), *map(float, np.round(means, 4)), *box))
    found = [
        (one.label, one.guess, one.pixels, round(one.given, 4), round(one.likeliest, 4), *one.box.tolist())
        for one in regions(mask, guess, given, likeliest, 12)
    ]
    assert len(found) > 5
    np.testing.assert_allclose(sorted(found), sorted(wanted), atol=2e-4)


@pytest.fixture
def masks(tmp_path):
    """Six images of three stripes; in 3 a square is labeled as its neighbor, and 255 is around it."""
    tree = {"classes.txt": b"red\ngreen\nblue\n"}
    for number in range(6):
        mask = np.repeat(np.arange(3), 16)[:, None].repeat(40 + number, 1).astype(np.uint8)
        tree[f"val/images/{number}.png"] = encoded(COLORS[mask], "PNG")
        if number == 3:
            mask[0:12, 8:20] = 255
            mask[2:10, 10:18] = 2
        tree[f"val/masks/{number}.png"] = encoded(mask, "PNG")
    return write_tree(tmp_path, tree)


def segmentation(folder, resize=None) -> tuple[Segmentation, object]:
    dataset = open_dataset("image_folder_segmentation", "val", manual_dir=folder)
    data = dataclasses.replace(SegmentationConfig().input, manual_dir=str(folder), resize=resize)
    config = SegmentationConfig(input=data, eval=SegmentationEval(batch_size=2, pad_multiple=16))
    return Segmentation(config, dataset.class_names, **RAW), dataset


@pytest.mark.parametrize("resize", [None, (96, 80)])
def test_a_wrong_region_comes_first(masks, resize):
    task, dataset = segmentation(masks, resize)
    doubts = task.doubts(ByColor(), {}, dataset)
    kinds = [one.kind for one in doubts]
    assert kinds == ["region"] + ["mask"] * 6
    region, worst = doubts[0], doubts[1]
    assert (region.index, region.given, region.suggested, region.flagged) == (3, "blue", "red", True)
    np.testing.assert_allclose(region.box, (10, 2, 18, 10), atol=1.5 if resize else 0)
    assert resize or region.what.startswith(f"{64 / (48 * 43):.1%} of the image: labeled blue, predicted red")
    chances = np.exp(6.0 * COLORS[0] / 255)
    assert region.score == pytest.approx((chances[2] - chances[0]) / chances.sum(), abs=0.02)
    assert worst.index == 3
    # Elsewhere every label is as likely as its color says.
    right = np.exp(6.0 * COLORS / 255)
    assert doubts[-1].score == pytest.approx(np.diag(right / right.sum(1, keepdims=True)).mean(), abs=0.02)


def test_the_sheet_and_its_json(masks, tmp_path, monkeypatch, capsys):
    task, dataset = segmentation(masks)
    loaded = Loaded(ByColor(), {}, task, {}, tmp_path / "run")
    monkeypatch.setattr(load, "load_for_inference", lambda run, **told: loaded)
    monkeypatch.setattr(load, "open_scored", lambda task, split: (task, dataset))
    page, report = tmp_path / "doubt.html", tmp_path / "doubt.json"
    command.main(["run", "--html", str(page), "--json", str(report), "--count", "2"])
    text = page.read_text()
    assert text.count("<img ") == 3
    assert "Regions with another class than labeled: 1" in text
    assert "3.png" in text
    rows = json.loads(report.read_text())["doubts"]
    assert [row["kind"] for row in rows] == ["region", "mask", "mask"]
    assert rows[0]["file"] == str(masks / "val" / "images" / "3.png")
    assert rows[0]["box"] == [10, 2, 18, 10]
    assert "Masks that are least likely as a whole: 6, 0 called wrong" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--count is 0"):
        command.main(["run", "--count", "0"])


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_kinds_of_boxes_in_doubt():
    scene = Scene(
        boxes=boxes(
            (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10), (80, 0, 90, 10), (100, 0, 140, 40)
        ),
        labels=np.array([0, 0, 0, 1, 0, 0]),
        spared=np.array([False, False, False, False, True, True]),
        found=boxes(
            (1, 0, 10, 10),  # supports the first
            (20, 0, 30, 10),  # says that the second is a 1
            (44, 0, 54, 10),  # lies beside the third: IoU 6 / 14
            (60, 0, 70, 10),  # supports the fourth, but is not shown
            (110, 5, 120, 15),  # in a crowd
            (200, 0, 210, 10),  # where nothing is labeled
            (200, 50, 210, 60),  # likewise, but not shown
        ),
        classes=np.array([0, 1, 0, 1, 0, 1, 1]),
        scores=np.array([0.9, 0.8, 0.7, 0.3, 0.9, 0.6, 0.4]),
    )
    found = sorted(judge(scene, 0.5), key=str)
    assert [(kind, round(score, 6), box, detection) for kind, score, box, detection in found] == [
        ("badly located", -0.7, 2, 2),
        ("overlooked", -0.6, None, 5),
        ("swapped", -0.8, 1, 1),
        ("unsupported", 0.3, 3, None),
    ]
    nothing = Scene(boxes(), np.zeros(0, int), np.zeros(0, bool), boxes(), np.zeros(0, int), np.zeros(0))
    assert not list(judge(nothing, 0.5))


class Told(nn.Module):
    """Detects a box of 8 x 8 of class 1 at the brightest pixel of the image, which is enlarged, and nothing else."""

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 1

    def __call__(self, images: jax.Array, sizes: jax.Array, train: bool = False) -> Detections:
        bright = images.sum(-1).reshape(len(images), -1).argmax(-1)
        row, column = bright // images.shape[2], bright % images.shape[2]
        corner = jnp.stack([column, row], -1).astype(jnp.float32)
        shape = (len(images), 1)
        return Detections(
            boxes=jnp.concatenate([corner, corner + 8], -1)[:, None],
            scores=jnp.full(shape, 0.9, jnp.float32),
            classes=jnp.ones(shape, jnp.int32),
            valid=jnp.ones(shape, bool),
        )


def test_doubts_of_a_detector_are_in_pixels_of_the_original(tmp_path):
    from tiny_sets import box_xml

    things = {
        "right": [("b", 11, 7, 14, 10)],
        "swapped": [("a", 11, 7, 14, 10)],
        "nothing": [],
        "wide": [("b", 1, 1, 40, 30)],
    }
    image = np.zeros((30, 40, 3), np.uint8)
    image[6:10, 10:14] = 255  # 4 x 4, from the place that is found first
    tree = {f"val/{name}.xml": box_xml(rows) for name, rows in things.items()}
    tree |= {f"val/{name}.png": encoded(image, "PNG") for name in things}
    folder = write_tree(tmp_path, tree | {"classes.txt": b"a\nb\n"})
    dataset = open_dataset("xml_folder_detection", "val", target="boxes", manual_dir=folder)
    data = DetectionData(crop=(60, 80))  # twice as large as the images
    task = Detection(DetectionConfig(input=data, eval=DetectionEval(batch_size=2, boxes=3)), ("a", "b"), **RAW)
    doubts = task.doubts(Told(), {}, dataset)
    said = [(dataset[one.index]["id"], one.kind, one.given, one.suggested, one.box, one.found) for one in doubts]
    place = (10.0, 6.0, 14.0, 10.0)
    near = pytest.approx(place, abs=0.51)  # resizing blurs the edge
    assert said == [
        ("swapped", "swapped", "a", "b", place, near),
        ("wide", "unsupported", "b", None, (0.0, 0.0, 40.0, 30.0), None),
        ("nothing", "overlooked", None, "b", None, near),
        ("wide", "overlooked", None, "b", None, near),
    ]
    assert doubts[0].confidence == pytest.approx(0.9)


def test_masks_in_boxes_have_no_rule():
    task = ObjectMasks(None, ("background", "a"))
    with pytest.raises(ConfigError, match="no rule for labels in doubt of the task masks"):
        task.doubts(ByColor(), {}, None)
