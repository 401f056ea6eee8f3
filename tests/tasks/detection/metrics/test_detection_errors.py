"""Kinds of errors, on hand-made images."""

import numpy as np
from boxes_to_score import CLASSES, batch, random_images

from cvjax.tasks.detection.metrics import errors, rows, voc

CAR, BUS, CAT, CHAIR = range(4)


def kinds(images):
    detections, truth, _ = rows.tables(rows.flatten(batch(images)))
    verdicts = voc.judge(detections, truth, len(CLASSES))
    return errors.error_kinds(verdicts, truth, errors.similar_classes(CLASSES))


def test_each_kind():
    truth = [
        ((0, 0, 10, 10), CAR, False, False),
        ((20, 0, 30, 10), BUS, False, False),
        ((40, 0, 50, 10), CAT, False, False),
        *[((x, 60, x + 10, 70), CAR, False, False) for x in (0, 20, 40)],
    ]
    found = [
        ((0, 0, 10, 10), 0.9, CAR),  # correct
        ((0, 0, 10, 8), 0.8, CAR),  # found before: localization
        ((20, 0, 30, 9), 0.7, CAR),  # a bus is similar
        ((40, 0, 50, 2), 0.6, CAR),  # a cat is not
        ((0, 60, 10, 61), 0.1, CAR),  # a fifth: there are four cars
        ((20, 0, 30, 0.5), 0.9, BUS),  # too little of anything: background
        ((0, 0, 10, 4), 0.5, CAT),  # other
    ]
    table = kinds([{"found": found, "truth": truth}])
    assert dict(zip(errors.KINDS, table[CAR])) == {
        "correct": 1, "localization": 1, "similar": 1, "other": 1, "background": 0
    }  # fmt: skip
    np.testing.assert_array_equal(table[BUS], [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(table[CAT], [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(table[CHAIR], 0)


def test_the_own_class_goes_first_and_a_tenth_is_enough():
    truth = [((0, 0, 10, 10), CAR, False, False), ((0, 0, 10, 10), BUS, False, False)]
    table = kinds([{"found": [((0, 0, 10, 1), 0.9, CAR)], "truth": truth}])
    np.testing.assert_array_equal(table[CAR], [0, 1, 0, 0, 0])


def test_what_counts_neither_way_takes_no_place():
    truth = [((0, 0, 10, 10), CAR, True, False), ((40, 0, 50, 10), CAR, False, False)]
    found = [((0, 0, 10, 10), 0.9, CAR), ((40, 0, 50, 10), 0.8, CAR)]
    np.testing.assert_array_equal(kinds([{"found": found, "truth": truth}])[CAR], [1, 0, 0, 0, 0])


def test_as_many_as_there_are_objects_or_detections():
    images = random_images(3)
    objects = np.bincount([o[1] for i in images for o in i["truth"] if not o[2]], minlength=4)
    table = kinds(images)
    assert (table.sum(1) <= objects).all()
    assert table[CAR].sum() == objects[CAR]
    assert not table[[CAT, CHAIR]].any()


def test_groups():
    table = errors.similar_classes(("car", "bus", "bird", "aeroplane", "cell"))
    assert table[0].tolist() == [False, True, False, True, False]
    assert table[3].tolist() == [True, True, True, False, False]
    assert not table[4].any()
    assert (table == table.T).all()
    assert errors.similar_classes(("a", "b", "c"), (("a", "c"),)).sum() == 2
