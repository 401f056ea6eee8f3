"""Batches of made detections, as an evaluation keeps them, and the same as plain lists."""

import numpy as np

CLASSES = ("car", "bus", "cat", "chair")


def batch(images: list[dict], detections: int = 12, objects: int = 6, first: int = 0) -> dict[str, np.ndarray]:
    """Padded arrays of images, each {"found": [(box, score, label)], "truth": [(box, label, difficult, crowd)]}."""
    count = len(images)
    kept = {
        "index": np.arange(first, first + count, dtype=np.int32),
        "valid": np.ones(count, bool),
        "boxes": np.full((count, detections, 4), 7, np.float32),
        "scores": np.full((count, detections), 0.99, np.float32),  # padding that would count, if it were looked at
        "classes": np.zeros((count, detections), np.int32),
        "box_valid": np.zeros((count, detections), bool),
        "truth_boxes": np.full((count, objects, 4), 7, np.float32),
        "truth_labels": np.zeros((count, objects), np.int32),
        "truth_difficult": np.ones((count, objects), bool),
        "truth_crowd": np.zeros((count, objects), bool),
        "truth_valid": np.zeros((count, objects), bool),
    }
    for i, image in enumerate(images):
        for k, (box, score, label) in enumerate(image["found"]):
            kept["boxes"][i, k], kept["scores"][i, k], kept["classes"][i, k] = box, score, label
            kept["box_valid"][i, k] = True
        for n, (box, label, difficult, crowd) in enumerate(image["truth"]):
            kept["truth_boxes"][i, n], kept["truth_labels"][i, n] = box, label
            kept["truth_difficult"][i, n], kept["truth_crowd"][i, n] = difficult, crowd
            kept["truth_valid"][i, n] = True
    return kept


def random_images(
    seed: int, *, count: int = 30, crowds: float = 0.0, difficult: float = 0.2, side: int = 60
) -> list[dict]:
    """Images with up to 6 objects and 12 detections: objects shaken, now and then mistaken, and boxes anywhere.

    Corners are whole numbers and scores of one decimal, so that overlaps are equal, and scores tied, often; the last
    class but one has no objects, the last no detections, and some images neither.
    """
    rng, classes = np.random.default_rng(seed), len(CLASSES)

    def box() -> np.ndarray:
        low = rng.integers(0, side, 2)
        return np.concatenate([low, low + rng.integers(1, max(2, side // 2), 2)])

    images = []
    for _ in range(count):
        truth = []
        for _ in range(rng.integers(0, 7)):
            label = rng.choice([c for c in range(classes) if c != classes - 2])
            truth.append((box(), label, rng.random() < difficult, rng.random() < crowds))
        found = []
        for _ in range(rng.integers(0, 13)):
            where, label = box(), rng.integers(0, classes - 1)
            if truth and rng.random() < 0.7:
                near = truth[rng.integers(len(truth))]
                where, label = near[0] + rng.integers(-3, 4, 4), near[1] if rng.random() < 0.8 else label
                where[2:] = np.maximum(where[:2], where[2:])  # small ones may come to be empty
            found.append((where, round(float(rng.random()), 1), min(int(label), classes - 2)))
        images.append({"found": found, "truth": truth})
    return images
