"""Batches of boxes: the same on any workers, hosts and restarts; evaluation sees every example once."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest
from made import box_transform

from cvjax.data.annotations import decode_boxes_example, make_objects
from cvjax.data.loader import HostShard, eval_batches, train_batches
from cvjax.errors import DataError
from cvjax.tasks.detection.transforms import BoxEvalTransform, MultiScale, box_buckets

LENGTH = 11
ENTRIES = {"image", "boxes", "labels", "difficult", "crowd", "box_valid", "dropped_boxes", "index", "valid", "skipped"}


@dataclasses.dataclass
class ToyBoxes:
    """Image i has i % 4 boxes, and is a PNG of its own size."""

    bad: tuple[int, ...] = ()
    name: str = "toy"
    split: str = "train"
    class_names: tuple[str, ...] = ("a", "b", "c")

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> dict:
        if index in self.bad:
            raise DataError(f"toy/{index}: box 1 of 1 is empty.")
        height, width = self.header_size(index)
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        boxes = [(n, 2 * n, n + 10 + index, n + 12) for n in range(index % 4)]
        objects = make_objects(
            boxes, range(index % 4), crowd=[n == 2 for n in range(index % 4)], dropped_boxes=index % 2
        )
        return {"image": cv2.imencode(".png", image)[1].tobytes(), "id": f"toy/{index}", **objects._asdict()}

    def header_size(self, index: int) -> tuple[int, int]:
        return 24 + index % 3, 30 + index % 5


DECODE = functools.partial(decode_boxes_example, num_classes=3)
TRAIN = MultiScale(box_transform((16, 16), boxes=2, shift=0.2, random_crop=0.5, sizes=((16, 16), (24, 20))))
EVAL = BoxEvalTransform((48, 64), max_boxes=3, short_side=32)


def train(count: int, source: ToyBoxes | None = None, transform=TRAIN, **options) -> list[dict]:
    options = {"batch_size": 4, "seed": 7, "threads": 0, "target": "boxes"} | options
    with train_batches(source or ToyBoxes(), DECODE, transform, **options) as batches:
        return [next(batches) for _ in range(count)]


def evaluate(plan=None, **options) -> list[dict]:
    options = {"batch_size": 4, "threads": 0, "target": "boxes"} | options
    return list(eval_batches(ToyBoxes(), DECODE, EVAL, buckets=plan, **options))


def joined(shards: list[list[dict]]) -> list[dict]:
    return [{key: np.concatenate([part[key] for part in parts]) for key in parts[0]} for parts in zip(*shards)]


def assert_same(left: list[dict], right: list[dict]) -> None:
    assert len(left) == len(right) > 0
    for one, other in zip(left, right):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_a_training_batch():
    batches = train(12)
    shapes = [batch["image"].shape for batch in batches]
    assert set(shapes) == {(4, 16, 16, 3), (4, 24, 20, 3)}  # several scales, each batch of one
    for number, batch in enumerate(batches):
        assert batch.keys() == ENTRIES | {"size"}
        assert shapes[number][1:3] == TRAIN.for_batch(7, number).data.crop
        kinds = {key: (batch[key].dtype.name, batch[key].shape[1:]) for key in ENTRIES - {"image"}}
        assert kinds == {
            "boxes": ("float32", (2, 4)),
            "labels": ("int32", (2,)),
            **dict.fromkeys(("difficult", "crowd", "box_valid"), ("bool", (2,))),
            **dict.fromkeys(("dropped_boxes", "index", "skipped"), ("int32", ())),
            "valid": ("bool", ()),
        }
        np.testing.assert_array_equal(batch["labels"] >= 0, batch["box_valid"])
        assert (batch["dropped_boxes"] >= batch["index"] % 2).all()


@pytest.mark.parametrize("options", [{"workers": 2, "threads": None}, {"threads": 3}])
def test_workers_and_threads_change_nothing(options):
    assert_same(train(8, start=2), train(8, start=2, **options))


def test_hosts_and_restarts_change_nothing():
    whole = train(6)
    assert_same(whole, joined([train(6, shard=HostShard(host, 2)) for host in range(2)]))
    assert_same(whole[3:], train(3, start=3))


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("planned", [False, True])
def test_evaluation_sees_every_example_once(hosts, planned):
    plan = box_buckets(ToyBoxes(), EVAL, 4, multiple=4) if planned else None
    batches = joined([evaluate(plan, shard=HostShard(host, hosts)) for host in range(hosts)])
    assert len({batch["image"].shape for batch in batches}) > planned
    seen = []
    for batch in batches:
        assert batch.keys() == ENTRIES | {"areas", "size", "scale", "original_size"}
        for row, index in enumerate(batch["index"]):
            count = batch["box_valid"][row].sum()
            if not batch["valid"][row]:
                assert (index, count, batch["size"][row].tolist()) == (-1, 0, [0, 0])
                continue
            seen.append(int(index))
            record = ToyBoxes()[index]
            assert batch["original_size"][row].tolist() == list(ToyBoxes().header_size(index))
            np.testing.assert_allclose(batch["scale"][row], batch["size"][row] / batch["original_size"][row], rtol=1e-6)
            np.testing.assert_allclose(
                batch["boxes"][row, :count], record["boxes"] * batch["scale"][row][[1, 0, 1, 0]], rtol=1e-5
            )
            assert batch["labels"][row, :count].tolist() == record["labels"].tolist()
            assert batch["crowd"][row, :count].tolist() == record["crowd"].tolist()
            assert batch["areas"][row, :count].tolist() == [(10 + index) * (12 - n) for n in range(count)]
    assert sorted(seen) == list(range(LENGTH))


def test_bad_records_are_raised_or_skipped():
    with pytest.raises(DataError, match="toy/3: box 1 of 1 is empty"):
        train(3, ToyBoxes(bad=(3,)))
    batches = train(11, ToyBoxes(bad=(3,)), on_bad_record="skip")
    assert sum(batch["skipped"].sum() for batch in batches) == 4  # once in each of four passes
    assert not any((batch["index"] == 3).any() for batch in batches)
