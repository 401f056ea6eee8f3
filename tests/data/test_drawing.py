"""Which examples train: a fraction that stays the same, and rare classes more often."""

import itertools

import numpy as np
import pytest
from test_loader import TRANSFORM, decode, draw

from cvjax.data.decode import encode_mask
from cvjax.data.drawing.balance import balanced_shares, classes_shown
from cvjax.data.drawing.draws import Draws
from cvjax.data.drawing.fraction import take_fraction
from cvjax.data.loader import HostShard, train_batches
from cvjax.errors import ConfigError, DataError


class Labeled:
    """Images with labels that it tells without being read; files of their own, if it is given names."""

    name, split, void = "labeled", "train", ()

    def __init__(self, labels, names=None, tells=True):
        self._labels, self.names = np.asarray(labels), names
        self.class_names = tuple(f"class {label}" for label in range(max(labels) + 1))
        if tells:
            self.labels = lambda: self._labels

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        return {"image": b"", "label": int(self._labels[index]), "id": str(index)}

    def image_files(self):
        return None if self.names is None else [f"/somewhere/{name}" for name in self.names]

    def fingerprint(self):
        return "0"


LABELS = [0] * 60 + [1] * 30 + [2] * 10


@pytest.mark.parametrize("names", [None, [f"{i:03}.jpg" for i in range(100)]])
def test_fractions_lie_within_one_another_and_keep_the_classes_shares(names):
    source = Labeled(LABELS, names)
    before: set[int] = set()
    for fraction in (0.01, 0.1, 0.2, 0.35, 0.7):
        part = take_fraction(source, fraction)
        rows = set(part.indices)
        assert before < rows
        expected = [-(-round(fraction * count * 100) // 100) for count in (60, 30, 10)]  # rounded up
        assert np.bincount([part[i]["label"] for i in range(len(part))], minlength=3).tolist() == expected
        assert [part[i]["id"] for i in range(len(part))] == [str(row) for row in sorted(rows)]
        before = rows
    assert take_fraction(source, 1.0) is source
    assert part.fingerprint() != take_fraction(source, 0.5).fingerprint() != source.fingerprint()


def test_a_fraction_follows_files_and_not_their_order_or_place():
    names = [f"{number:03}.jpg" for number in range(200)]
    part = take_fraction(Labeled([0] * 200, names), 0.3)
    chosen = {names[row] for row in part.indices}
    turned = names[::-1]
    assert {turned[row] for row in take_fraction(Labeled([0] * 200, turned), 0.3).indices} == chosen
    more = [*names, "new.jpg"]
    with_one_more = {more[row] for row in take_fraction(Labeled([0] * 201, more), 0.3).indices}
    assert len(with_one_more ^ chosen) <= 2  # one file more may take the place of another
    assert part.image_files() == [f"/somewhere/{names[row]}" for row in part.indices]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"--input\.fraction is"):
        take_fraction(Labeled(LABELS), fraction)


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_labels_are_drawn_by_the_inverse_of_their_frequency(power, tells):
    shares = balanced_shares(Labeled(LABELS, tells=tells), power)
    wanted = np.array([60.0, 30.0, 10.0]) ** (1 - power)  # n examples of (1/n)^power each
    by_class = [shares[np.array(LABELS) == label].sum() for label in range(3)]
    np.testing.assert_allclose(by_class, wanted / wanted.sum(), rtol=1e-12)


class Masks:
    """Masks of three classes and a void number: a sky in all, a car in a quarter, a rider in one of 16."""

    name, split, class_names, void = "masks", "train", ("sky", "car", "rider"), (9,)

    def __len__(self):
        return 16

    def __getitem__(self, index):
        if index >= 16:
            raise IndexError(index)
        mask = np.zeros((4, 4), np.uint8)
        mask[0] = 9
        mask[1, : index % 4 == 0] = 1
        mask[2, : index == 5] = 2
        return {"image": b"", "mask": encode_mask(mask), "id": str(index)}

    def fingerprint(self):
        return "1"


def test_masks_are_drawn_by_lviss_repeat_factor():
    shown = classes_shown(Masks())
    assert [found.tolist() for found in shown[:6]] == [[0, 1], [0], [0], [0], [0, 1], [0, 2]]
    for threshold, sky, car, rider in ((1.0, 1.0, 2.0, 4.0), (0.125, 1.0, 1.0, 2**0.5), (0.001, 1.0, 1.0, 1.0)):
        factors = np.array([rider if i == 5 else car if i % 4 == 0 else sky for i in range(16)])
        np.testing.assert_allclose(balanced_shares(Masks(), 1.0, threshold), factors / factors.sum(), rtol=1e-12)


class Boxes(Masks):
    def __getitem__(self, index):
        if index == 3:
            raise DataError("3.xml: cut short; restore it.")
        return {"image": b"", "labels": np.array([0, 0, 1][: index % 4]), "id": str(index)}


def test_boxes_are_drawn_by_the_classes_in_them_and_damaged_records_stop_the_run():
    with pytest.raises(DataError, match=r"3\.xml"):
        balanced_shares(Boxes(), 1.0)
    # 0 in 11 of 16 images, 1 in 3, and an image without boxes is not rare
    factor = np.array(
        [(16 / 3) ** 0.5 if i % 4 == 3 and i != 3 else (16 / 11) ** 0.5 if i % 4 else 1.0 for i in range(16)]
    )
    factor[3] = 1.0
    np.testing.assert_allclose(balanced_shares(Boxes(), 1.0, skip=True), factor / factor.sum(), rtol=1e-12)


def test_an_epoch_draws_each_example_as_often_as_its_probability_says():
    shares = np.random.default_rng(0).dirichlet(np.full(50, 0.3))
    draws, total = Draws(shares), np.zeros(50)
    for epoch in range(200):
        drawn = [draws.at(position, 3, epoch) for position in range(50)]
        counts = np.bincount([index for index, _ in drawn], minlength=50)
        assert (np.abs(counts - 50 * shares) < 1 + 1e-9).all()  # rounded up or down
        assert len(set(drawn)) == 50  # each draw of an example has a number of its own
        for index in range(50):
            assert sorted(copy for i, copy in drawn if i == index) == list(range(counts[index]))
        total += counts
    # 200 systematic samples with random starts: each count varies by at most a half around its mean.
    np.testing.assert_allclose(total / 200, 50 * shares, atol=4 * 0.5 / 200**0.5)
    orders = [[draws.at(position, 3, epoch)[0] for position in range(50)] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


class Numbered(Labeled):
    def __getitem__(self, index):
        return super().__getitem__(index) | {"index": index, "bad": False, "mask": b""}


def batches(count, **options):
    shares = balanced_shares(Numbered(LABELS), 1.0)
    settings = {"batch_size": 8, "seed": 5, "threads": 0, "shares": shares} | options
    return draw(train_batches(Numbered(LABELS), decode, TRANSFORM, **settings), count)


def test_hosts_and_restarts_change_nothing():
    whole = batches(8)
    shares = [batches(8, shard=HostShard(host, 2)) for host in range(2)]
    later = batches(3, start=5)
    for number, batch in enumerate(whole):
        for name in ("image", "mask", "index"):
            np.testing.assert_array_equal(batch[name], np.concatenate([share[number][name] for share in shares]))
            if number >= 5:
                np.testing.assert_array_equal(batch[name], later[number - 5][name])
    index = np.concatenate([batch["index"] for batch in batches(13)])[:100]  # an epoch
    assert sorted(np.bincount(np.array(LABELS)[index])) == pytest.approx([33, 33, 34], abs=1)


def test_an_example_that_is_drawn_again_is_varied_anew():
    found = list(itertools.chain(*(zip(batch["index"], batch["image"]) for batch in batches(12))))
    again = [image for index, image in found if index == 95]  # of ten, which an epoch draws 33 times
    assert len(again) >= 3
    assert not any((a == b).all() for a, b in itertools.combinations(again, 2))
