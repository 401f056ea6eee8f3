"""VOC's average precision against the devkit's definition, written down once more, one detection at a time."""

from fractions import Fraction

import numpy as np
import pytest
from boxes_to_score import CLASSES, batch, random_images

from cvjax.tasks.detection.metrics import rows, voc


def inclusive(box):
    """The devkit's corners: counted from 1, both inside."""
    return box[0] + 1, box[1] + 1, box[2], box[3]


def devkit_overlap(a, b):
    a, b = inclusive(a), inclusive(b)
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return None
    both = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return Fraction(int(width * height), int(both - width * height))


def devkit(images, label):
    """(right, wrong) of each detection of a class in order, and the number of objects."""
    found = [(score, i, box) for i, image in enumerate(images) for box, score, c in image["found"] if c == label]
    found.sort(key=lambda item: -item[0])  # stable
    truth = [[(o[0], o[2] or o[3]) for o in image["truth"] if o[1] == label] for image in images]
    taken, outcome = set(), []
    for _, i, box in found:
        best, which = None, None
        for j, (other, _) in enumerate(truth[i]):
            value = devkit_overlap(box, other)
            if value is not None and (best is None or value > best):
                best, which = value, j
        if best is None or best < Fraction(1, 2):
            outcome.append((0, 1))
        elif truth[i][which][1]:
            outcome.append((0, 0))
        else:
            outcome.append((0, 1) if (i, which) in taken else (1, 0))
            taken.add((i, which))
    return outcome, sum(not ignored for objects in truth for _, ignored in objects)


def devkit_scores(images, label):
    """Average precision by 11 points and by area, as the devkit's two versions compute them."""
    outcome, objects = devkit(images, label)
    if not objects:
        return float("nan"), float("nan")
    right = wrong = 0
    recall, precision = [], []
    for r, w in outcome:
        right, wrong = right + r, wrong + w
        recall.append(Fraction(right, objects))
        precision.append(Fraction(right, right + wrong) if right + wrong else Fraction(0))
    points = sum(max((p for p, r in zip(precision, recall) if r >= Fraction(t, 10)), default=0) for t in range(11))
    mrec, mpre = [0, *recall, 1], [0, *precision, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    area = sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)))
    return float(points / 11), float(area)


def judged(images, **options):
    detections, truth, _ = rows.tables(rows.flatten(batch(images)))
    return voc.judge(detections, truth, len(CLASSES), **options)


def scores(images, label):
    curve = voc.curve(judged(images), label)
    return voc.eleven_points(curve), voc.area_under(curve)


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_devkit_on_random_detections_with_ties_and_difficult_objects(seed):
    images = random_images(seed, difficult=(0.0, 0.2, 0.6)[seed % 3], crowds=0.1 * (seed % 2))
    numbers = []
    for label in range(len(CLASSES)):
        ours = scores(images, label)
        np.testing.assert_allclose(ours, devkit_scores(images, label), rtol=0, atol=1e-9)
        numbers.append(ours)
    assert np.isnan(numbers[2]).all()  # no object
    assert 0 < numbers[0][0] < 1  # something to tell apart
    np.testing.assert_array_equal(numbers[3], 0)  # no detection


CAR = (0, 0, 10, 10)


def truth_of(*boxes, difficult=False, label=0):
    return [(box, label, difficult, False) for box in boxes]


def test_one_object_found_twice_and_one_missed():
    images = [{"found": [(CAR, 0.9, 0), ((0, 0, 10, 9), 0.8, 0)], "truth": truth_of(CAR, (30, 30, 40, 40))}]
    got = judged(images)
    assert got.verdict.tolist() == [voc.RIGHT, voc.WRONG]
    assert got.taken.tolist() == [True, False]
    curve = voc.curve(got, 0)
    np.testing.assert_array_equal(curve.precision, [1, 0.5])
    np.testing.assert_array_equal(curve.recall, [0.5, 0.5])
    assert curve.last_recall == 0.5
    assert voc.area_under(curve) == 0.5
    np.testing.assert_allclose(voc.eleven_points(curve), 6 / 11)


def test_the_best_object_decides_even_if_it_is_taken():
    """The devkit never looks for a second choice."""
    close, far = (0, 0, 10, 10), (3, 0, 13, 10)
    images = [{"found": [(close, 0.9, 0), ((1, 0, 11, 10), 0.8, 0)], "truth": truth_of(close, far)}]
    assert judged(images).verdict.tolist() == [voc.RIGHT, voc.WRONG]


def test_difficult_objects_count_neither_way_however_often_they_are_found():
    images = [
        {"found": [(CAR, 0.9, 0), (CAR, 0.8, 0), ((30, 30, 40, 40), 0.7, 0)], "truth": truth_of(CAR, difficult=True)},
        {"found": [(CAR, 0.6, 0)], "truth": truth_of(CAR)},
    ]
    got = judged(images)
    assert got.verdict.tolist() == [voc.NEITHER, voc.NEITHER, voc.WRONG, voc.RIGHT]
    assert got.objects.tolist() == [1, 0, 0, 0]
    assert voc.area_under(voc.curve(got, 0)) == 0.5


def test_of_equal_scores_the_earlier_image_and_row_comes_first():
    wrong, right = ((30, 30, 40, 40), 0.5, 0), (CAR, 0.5, 0)
    for order, expected in (([wrong, right], 0.5), ([right, wrong], 1.0)):
        assert scores([{"found": order, "truth": truth_of(CAR)}], 0)[1] == expected
        two = [{"found": [box], "truth": truth_of(CAR) if box is right else []} for box in order]
        assert scores(two, 0)[1] == expected


def test_an_overlap_of_exactly_a_half_is_enough():
    images = [{"found": [((0, 0, 10, 5), 0.9, 0)], "truth": truth_of(CAR)}]
    assert judged(images).verdict.tolist() == [voc.RIGHT]
    assert judged(images, iou=0.51).verdict.tolist() == [voc.WRONG]


def test_a_recall_of_three_tenths_is_three_tenths():
    """0.1 + 0.1 + 0.1 is more than 0.3 in floating point; whole numbers have no such trouble."""
    cars = [(20 * i, 0, 20 * i + 10, 10) for i in range(10)]
    found = [(box, 1 - 0.1 * i, 0) for i, box in enumerate(cars[:3])]
    detections, truth, _ = rows.tables(
        rows.flatten(batch([{"found": found, "truth": truth_of(*cars)}], detections=4, objects=10))
    )
    curve = voc.curve(voc.judge(detections, truth, 1), 0)
    np.testing.assert_allclose(voc.eleven_points(curve), 4 / 11, rtol=1e-12)
    np.testing.assert_array_equal(voc.sampled(curve), [1] * 31 + [0] * 70)


def test_boxes_of_no_area_find_nothing_and_are_never_found():
    flat = (5, 5, 5, 9)
    images = [{"found": [(flat, 0.9, 0), ((9, 9, 2, 2), 0.8, 0)], "truth": truth_of(flat, CAR)}]
    got = judged(images)
    assert got.verdict.tolist() == [voc.WRONG, voc.WRONG]
    assert voc.area_under(voc.curve(got, 0)) == 0


def test_other_sizes_count_neither_way():
    small, large = (0, 0, 10, 10), (20, 20, 80, 80)
    found = [(small, 0.9, 0), (large, 0.8, 0), ((90, 0, 95, 5), 0.7, 0), ((90, 0, 150, 60), 0.6, 0)]
    images = [{"found": found, "truth": truth_of(small, large)}]
    as_small = judged(images, area_range=(0, 32**2))
    assert as_small.verdict.tolist() == [voc.RIGHT, voc.NEITHER, voc.WRONG, voc.NEITHER]
    assert as_small.objects[0] == 1
    as_large = judged(images, area_range=(32**2, np.inf))
    assert as_large.verdict.tolist() == [voc.NEITHER, voc.RIGHT, voc.NEITHER, voc.WRONG]
    assert judged(images, area_range=(100, 3600)).objects[0] == 1  # from, and below


def test_many_pairs_are_compared_in_pieces(monkeypatch):
    images = random_images(5)
    whole = [scores(images, label) for label in range(2)]
    monkeypatch.setattr(rows, "_PAIRS", 3)
    assert [scores(images, label) for label in range(2)] == whole
