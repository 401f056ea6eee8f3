"""The loader: what decides an example, and what must not."""

import dataclasses
import itertools
import multiprocessing
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import train_transform

from cvjax.data.loader import BatchIterator, HostShard, eval_batches, prefetch_to_device, train_batches
from cvjax.data.order import batches_by_size, example_rng, shuffled_index
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.scale_crop import EvalTransform

# Classes at module level: worker processes unpickle them by importing this module.


@dataclasses.dataclass(frozen=True)
class ToyDataset:
    """Records whose image is drawn from their index; those in `bad` do not decode."""

    length: int = 23
    bad: tuple[int, ...] = ()
    name: str = "toy"
    split: str = "train"
    class_names: tuple[str, ...] = ("a", "b")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return {"image": b"", "mask": b"", "id": f"toy/{index:03}", "index": index, "bad": index in self.bad}


def decode(record: dict, delay: float = 0.0) -> dict[str, np.ndarray]:
    """A noise image whose height and width vary with the index; the mask's pixels all hold the index."""
    time.sleep(delay)
    if record["bad"]:
        raise DataError(f"{record['id']}.jpg: cut short; download it again.")
    index = record["index"]
    rng = np.random.default_rng(index)
    height, width = 20 + index % 7, 24 + index % 5
    return {
        "image": rng.integers(0, 256, (height, width, 3), np.uint8),
        "mask": np.full((height, width), index % 250, np.uint8),
    }


TRANSFORM = train_transform((16, 20))
PADDING = EvalTransform((32, 32))


def draw(batches: BatchIterator, count: int | None = None) -> list[dict[str, np.ndarray]]:
    with batches:
        return [{k: np.array(v) for k, v in batch.items()} for batch in itertools.islice(batches, count)]


def train(count: int, source: ToyDataset | None = None, **options) -> list[dict[str, np.ndarray]]:
    options = {"batch_size": 4, "seed": 7, "threads": 0} | options
    return draw(train_batches(source or ToyDataset(), decode, TRANSFORM, **options), count)


def evaluate(source: ToyDataset | None = None, **options) -> list[dict[str, np.ndarray]]:
    options = {"batch_size": 6, "threads": 0} | options
    return draw(eval_batches(source or ToyDataset(), decode, PADDING, **options))


def assert_same(left: list[dict[str, np.ndarray]], right: list[dict[str, np.ndarray]]) -> None:
    assert len(left) == len(right)
    for ours, theirs in zip(left, right):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key].dtype == theirs[key].dtype
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def joined(shards: list[list[dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    """The global batches, from every host's."""
    return [{key: np.concatenate([part[key] for part in row]) for key in row[0]} for row in zip(*shards)]


def test_batch_contract():
    batch = train(1)[0]
    assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
        "image": (np.uint8, (4, 16, 20, 3)),
        "mask": (np.uint8, (4, 16, 20)),
        "index": (np.int32, (4,)),
        "valid": (np.bool_, (4,)),
        "skipped": (np.int32, (4,)),
    }
    assert batch["valid"].all()
    assert not batch["skipped"].any()
    for row, index in enumerate(batch["index"]):
        assert set(np.unique(batch["mask"][row])) <= {index, 255}


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeated_augmentation(repeats):
    source = ToyDataset()
    epoch = train(len(source), source, batch_size=1, repeats=repeats)
    index = [int(batch["index"][0]) for batch in epoch]
    once = [int(batch["index"][0]) for batch in train(len(source), source, batch_size=1)]
    # The first examples of an ordinary epoch, each so often, one after the other.
    assert index == [once[position // repeats] for position in range(len(source))]
    copies = [batch["image"][0] for batch in epoch[:repeats]]
    assert len({copy.tobytes() for copy in copies}) == repeats
    batches = train(3, source, batch_size=6, repeats=repeats)
    assert_same(
        batches, joined([train(3, source, batch_size=6, repeats=repeats, shard=HostShard(i, 2)) for i in (0, 1)])
    )


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 8}, {}, {"threads": None}])
def test_threads_change_nothing(options):
    assert_same(train(14), train(14, **options))


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_workers_change_nothing(workers):
    assert_same(train(14, start=3), train(14, start=3, workers=workers))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_workers_change_nothing_in_evaluation():
    assert_same(evaluate(), evaluate(workers=3))  # Four batches: one worker makes two, the others one.


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_change_nothing(hosts):
    shards = [train(14, batch_size=8, shard=HostShard(h, hosts)) for h in range(hosts)]
    assert shards[0][0]["image"].shape[0] == 8 // hosts
    assert_same(train(14, batch_size=8), joined(shards))


@given(start=st.integers(0, 40), batch_size=st.integers(1, 9), threads=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_restart_continues(start, batch_size, threads):
    whole = train(start + 2, batch_size=batch_size)
    assert_same(whole[start:], train(2, batch_size=batch_size, start=start, threads=threads))


def test_a_far_restart_is_immediate():
    begin = time.monotonic()
    batch = train(1, start=10**12)[0]
    assert time.monotonic() - begin < 5
    assert batch["valid"].all()


def test_every_epoch_holds_every_index_once_in_its_own_order():
    stream = np.concatenate([batch["index"] for batch in train(23)])  # 23 batches of 4: four epochs of 23.
    epochs = stream.reshape(4, 23)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(23), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert not np.array_equal(stream, np.concatenate([batch["index"] for batch in train(23, seed=8)]))


@given(length=st.integers(1, 300), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 2**20))
@settings(max_examples=40, deadline=None)
def test_shuffle_is_a_permutation(length, seed, epoch):
    drawn = [shuffled_index(position, length, seed, epoch) for position in range(length)]
    assert sorted(drawn) == list(range(length))


def test_shuffle_sends_every_position_everywhere_and_parts_neighbors():
    orders = np.array([[shuffled_index(n, 16, 0, epoch) for n in range(16)] for epoch in range(2000)])
    for counted in (orders, (orders - np.roll(orders, 1, axis=1)) % 16):
        for position in range(16):
            counts = np.bincount(counted[:, position], minlength=16)
            expected = 2000 / 16 if counted is orders else 2000 / 15
            assert np.abs(counts[counts > 0] - expected).max() < 5.5 * np.sqrt(expected)
            assert (counts > 0).sum() == (16 if counted is orders else 15)


def test_shuffle_is_the_same_on_every_machine_and_version():
    drawn = [shuffled_index(position, 10, seed=3, epoch=1) for position in range(10)]
    assert drawn == [5, 6, 3, 4, 8, 2, 7, 1, 0, 9]


def test_neighboring_seeds_do_not_share_epochs():
    def order(seed, epoch):
        return [shuffled_index(position, 50, seed, epoch) for position in range(50)]

    assert order(1, 1) != order(2, 0)


def test_seed_epoch_and_index_decide_the_augmentation():
    rows = {}
    for batch_size in (4, 5):
        count = -(-23 * 2 // batch_size)
        for number, batch in enumerate(train(count, batch_size=batch_size)):
            for row, index in enumerate(batch["index"]):
                epoch = (number * batch_size + row) // 23
                rows.setdefault((epoch, int(index)), []).append(batch["image"][row])
    for (epoch, index), images in rows.items():
        example = decode(ToyDataset()[index])
        expected, _ = TRANSFORM(example["image"], example["mask"], example_rng(7, epoch, index))
        for image in images:
            np.testing.assert_array_equal(image, expected)
    assert any(not np.array_equal(rows[0, index][0], rows[1, index][0]) for index in range(23))


@pytest.mark.parametrize("hosts", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 6, 7, 23])
def test_evaluation_holds_every_example_once(hosts, length):
    source = ToyDataset(length)
    shards = [evaluate(source, shard=HostShard(h, hosts)) for h in range(hosts)]
    assert len({len(shard) for shard in shards}) == 1
    batches = joined(shards)
    rows = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    np.testing.assert_array_equal(rows["index"][rows["valid"]], np.arange(length))
    padding = ~rows["valid"]
    assert len({len(batch["index"]) for batch in batches}) == 1  # so one program computes them
    assert sum(padding) < len(batches) * hosts  # no more than evenness over batches and hosts asks for
    assert (rows["index"][padding] == -1).all()
    assert (rows["mask"][padding] == 255).all()
    assert (rows["image"][padding] == PADDING.fill).all()
    assert (rows["size"][padding] == 0).all()
    assert not rows["skipped"].any()
    for index, row in enumerate(np.flatnonzero(rows["valid"])):
        image = decode(source[index])["image"]
        assert tuple(rows["size"][row]) == image.shape[:2]
        np.testing.assert_array_equal(rows["image"][row, : image.shape[0], : image.shape[1]], image)


@pytest.mark.parametrize(("workers", "threads"), [(0, None), (0, 0), (2, None)])
def test_a_bad_record_is_reported_as_itself(workers, threads):
    source = ToyDataset(bad=(14,))
    batches = eval_batches(source, decode, PADDING, batch_size=6, workers=workers, threads=threads)
    assert next(batches)["valid"].all()
    with pytest.raises(DataError, match=r"^toy/014\.jpg: cut short; download it again\.$"):
        list(batches)
    assert list(batches) == []
    assert multiprocessing.active_children() == []


def test_training_skips_to_the_next_good_record():
    source = ToyDataset(bad=(3, 4, 22))
    batches = train(23, source, on_bad_record="skip")
    index = np.concatenate([batch["index"] for batch in batches])
    skipped = np.concatenate([batch["skipped"] for batch in batches])
    expected = np.concatenate([batch["index"] for batch in train(23)])
    for bad, instead, passed in [(3, 5, 2), (4, 5, 1), (22, 0, 1)]:
        np.testing.assert_array_equal(index[expected == bad], instead)
        np.testing.assert_array_equal(skipped[expected == bad], passed)
    kept = ~np.isin(expected, source.bad)
    np.testing.assert_array_equal(index[kept], expected[kept])
    assert not skipped[kept].any()
    assert all(batch["valid"].all() for batch in batches)


def test_evaluation_marks_skipped_records():
    rows = evaluate(ToyDataset(6, bad=(2,)), on_bad_record="skip")[0]
    np.testing.assert_array_equal(rows["valid"], [True, True, False, True, True, True])
    np.testing.assert_array_equal(rows["skipped"], [0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(rows["index"], np.arange(6))
    assert (rows["mask"][2] == 255).all()


def test_a_source_without_a_good_record_is_an_error():
    with pytest.raises(DataError, match=r"toy: none of its 3 records is readable.*toy/00"):
        train(1, ToyDataset(3, bad=(0, 1, 2)), on_bad_record="skip")


def test_an_oversized_image_names_the_record_even_when_skipping():
    small = EvalTransform((21, 64))
    with pytest.raises(DataError, match=r"toy/002 is 22x26"):
        list(eval_batches(ToyDataset(), decode, small, batch_size=4, on_bad_record="skip"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"start": -1}, "start"),
        ({"repeats": 0}, "repeats"),
        ({"workers": -1}, "workers"),
        ({"threads": -1}, "threads"),
        ({"batch_size": 0}, "batch_size"),
        ({"shard": HostShard(0, 3)}, "batch_size is 4 on 3 host"),
        ({"on_bad_record": "ignore"}, "on_bad_record"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        train_batches(ToyDataset(), decode, TRANSFORM, **{"batch_size": 4, "seed": 0} | options)


def test_an_empty_source_is_an_error():
    with pytest.raises(DataError, match="toy has no records"):
        eval_batches(ToyDataset(0), decode, PADDING, batch_size=4)


def test_host_shard_is_checked():
    with pytest.raises(ConfigError, match="host 2 of 2"):
        HostShard(2, 2)


@pytest.mark.slow
def test_close_ends_every_worker_also_those_not_yet_read():
    batches = train_batches(ToyDataset(), decode, TRANSFORM, batch_size=4, seed=0, workers=2)
    next(batches)
    batches.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.slow
def test_interpreter_exits_with_everything_left_open():
    code = """
import functools, sys, jax
sys.path.insert(0, "tests/helpers")
from tests.data.test_loader import *
if __name__ == "__main__":
    slow = functools.partial(decode, delay=0.02)
    left = []
    for workers in (0, 2):
        batches = train_batches(ToyDataset(), slow, TRANSFORM, batch_size=4, seed=0, workers=workers)
        left.append(prefetch_to_device(batches, jax.device_put))
        next(left[-1])
    print("drawn")
"""
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, "drawn\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "leaked" not in done.stderr


# Prefetch.


def test_prefetch_keeps_order_and_loses_nothing():
    assert list(prefetch_to_device(iter(range(50)), lambda n: 2 * n, size=3)) == list(range(0, 100, 2))


def test_prefetch_stays_size_ahead():
    drawn = []
    batches = prefetch_to_device(iter(range(100)), drawn.append, size=2)
    next(batches)
    deadline = time.monotonic() + 5
    while len(drawn) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(drawn) == 3  # The one in use and two ahead.
    batches.close()


def test_prefetch_raises_what_the_loader_raised_in_its_place():
    source = ToyDataset(bad=(14,))
    batches = prefetch_to_device(eval_batches(source, decode, PADDING, batch_size=6), lambda batch: batch)
    assert [next(batches)["index"][0] for _ in range(2)] == [0, 6]
    with pytest.raises(DataError, match="toy/014"):
        next(batches)


def test_prefetch_raises_what_place_raised():
    def place(number):
        if number == 2:
            raise KeyError("device")
        return number

    batches = prefetch_to_device(iter(range(5)), place)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(KeyError, match="device"):
        next(batches)


def test_prefetch_close_stops_the_thread_and_the_loader():
    before = set(threading.enumerate())
    host = train_batches(ToyDataset(), decode, TRANSFORM, batch_size=4, seed=0, threads=0)
    batches = prefetch_to_device(host, lambda batch: batch)
    assert next(batches)["valid"].all()
    batches.close()
    assert set(threading.enumerate()) <= before  # one of another test's may have ended meanwhile
    assert list(host) == []


def test_prefetch_size_is_checked():
    with pytest.raises(ConfigError, match="size is 0"):
        prefetch_to_device(iter(()), lambda batch: batch, size=0)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.none(), st.tuples(st.integers(1, 200), st.integers(1, 200))), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
    multiple=st.sampled_from([None, 1, 16, 64]),
)
def test_planned_batches_hold_every_image_once_in_a_shape_that_fits(sizes, batch_size, multiple):
    plan = batches_by_size(sizes, batch_size, multiple)
    assert sorted(i for _, indices in plan for i in indices) == list(range(len(sizes)))
    counts = [len([i for other, indices in plan if other == shape for i in indices]) for shape, _ in plan]
    assert counts == sorted(counts, reverse=True)
    for shape, count in zip((shape for shape, _ in plan), counts):
        parts = [len(indices) for other, indices in plan if other == shape]
        assert len(parts) == -(-count // batch_size)
        assert sum(max(parts) - part for part in parts) < len(parts)
    for (height, width), indices in plan:
        assert 1 <= len(indices) <= batch_size
        assert height % (multiple or 16) == width % (multiple or 16) == 0
        for size in (sizes[i] for i in indices):
            if size is not None:
                assert size[0] <= height
                assert size[1] <= width
                if multiple is not None:
                    assert height - size[0] < multiple
                    assert width - size[1] < multiple
    if multiple is None:
        assert len({shape for shape, _ in plan}) == 1
