"""Parts that are held out: shares of the classes, equal images on one side, order and seed, files of splits."""

import json
import pickle
import types

import numpy as np
import pytest
from tiny_sets import encoded, photo, write_tree

from cvjax.data.part import PartDataset, ids_of, part_of
from cvjax.datasets.labeled_folder import open_labeled_folder
from cvjax.datasets.own.splits import Traits, choose_held_out, traits_of
from cvjax.engine.config import RunConfig
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.splits import FILE, open_part, read_split


def examples(classes) -> list[Traits]:
    return [Traits(f"{number:04d}", frozenset(own), f"image {number}") for number, own in enumerate(classes)]


def counts(chosen, known) -> dict[int, int]:
    found: dict[int, int] = {}
    for example in known:
        for label in example.classes if example.key in chosen else ():
            found[label] = found.get(label, 0) + 1
    return found


def test_labels_keep_their_shares_exactly():
    known = examples([{0}] * 50 + [{1}] * 20 + [{2}] * 10)
    held = choose_held_out(known, 0.2, seed=0)
    assert counts(held, known) == {0: 10, 1: 4, 2: 2}
    assert held != choose_held_out(known, 0.2, seed=1)


@pytest.mark.parametrize(("each", "fraction", "held"), [(2, 0.2, 40), (3, 0.2, 60), (3, 0.9, 200)])
def test_many_small_classes_still_give_the_share_and_leave_none_without_training(each, fraction, held):
    known = examples([{number % 100} for number in range(each * 100)])
    chosen = choose_held_out(known, fraction, seed=3)
    assert len(chosen) == held
    assert max(counts(chosen, known).values()) < each


def test_sets_of_classes_keep_their_shares_within_one_example_where_they_are_rare():
    rng = np.random.default_rng(0)
    known = examples([np.flatnonzero(rng.random(12) < np.linspace(0.02, 0.5, 12)).tolist() for _ in range(300)])
    held = choose_held_out(known, 0.25, seed=0)
    assert len(held) == 75
    total, found = counts({example.key for example in known}, known), counts(held, known)
    for label, all_of_it in total.items():
        assert abs(found[label] - all_of_it / 4) <= max(1.0, 0.05 * all_of_it)


def test_neither_the_order_nor_the_ids_of_the_examples_play_a_part():
    known = examples([{number % 3, number % 5} for number in range(40)])
    held = choose_held_out(known, 0.3, 5)
    assert choose_held_out(known[::-1], 0.3, 5) == held
    numbered = [example._replace(key=str(100 - number)) for number, example in enumerate(known)]  # as COCO does
    assert choose_held_out(numbered, 0.3, 5) == {str(100 - int(key)) for key in held}


def test_equal_images_lie_on_one_side():
    known = [Traits(f"{number:04d}", frozenset({number % 2}), f"image {number // 4}") for number in range(80)]
    held = choose_held_out(known, 0.25, seed=0)
    sides = [{example.key in held for example in known[start : start + 4]} for start in range(0, 80, 4)]
    assert all(len(side) == 1 for side in sides)
    assert len(held) == 20


def test_the_only_examples_of_their_classes_cannot_be_split():
    with pytest.raises(DataError, match="none of 3 examples can be held out"):
        choose_held_out(examples([{0}, {1}, {2}]), 0.5, 0)


def test_one_image_cannot_be_split():
    with pytest.raises(DataError, match="1 different images cannot be split"):
        choose_held_out([Traits("a", frozenset({0}), "x"), Traits("b", frozenset({0}), "x")], 0.5, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of 10 images, of which two are the same."""
    seeds = [0, *range(19)]
    tree = {
        f"train/{'ab'[number % 2]}/{number:02d}.png": encoded(photo(seed, 8, 8), "PNG")
        for number, seed in enumerate(seeds)
    }
    return write_tree(tmp_path_factory.mktemp("labels"), tree)


def run_of(folder, **given) -> types.SimpleNamespace:
    fields = {"train_split": "train", "eval_split": "val", "hold_out": None, "hold_out_seed": None, "split_file": None}
    data = types.SimpleNamespace(**{**fields, "on_bad_record": "error", "manual_dir": None, **given})
    return types.SimpleNamespace(workdir=str(folder), seed=7, resume=False, input=data)


def opened(config, split, folder):
    return open_part(config, split, lambda name: open_labeled_folder(name, folder, folder))


def test_a_run_writes_its_split_and_takes_it_again(folder, tmp_path):
    config = run_of(tmp_path, hold_out=0.2)
    train, val = (opened(config, split, folder) for split in ("train", "val"))
    assert (len(train), len(val), train.split, val.split) == (16, 4, "train", "val")
    assert sorted(ids_of(train) + ids_of(val)) == sorted(ids_of(open_labeled_folder("train", folder, folder)))
    assert sorted(val[index]["label"] for index in range(4)) == [0, 0, 1, 1]
    assert len({"a/00", "b/01"} & set(ids_of(val))) != 1  # the two that are one image
    written = json.loads((tmp_path / FILE).read_text())
    assert (written["hold_out"], written["seed"], written["splits"]["val"]) == (0.2, 7, ids_of(val))
    again = opened(run_of(tmp_path / "other", split_file=str(tmp_path / FILE)), "val", folder)
    assert ids_of(again) == ids_of(val)
    assert again.fingerprint() == val.fingerprint()
    assert pickle.loads(pickle.dumps(val))[0] == val[0]


def test_a_run_that_has_begun_keeps_its_split_when_files_are_added(folder, tmp_path):
    copy = write_tree(
        tmp_path / "data", {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    )
    config = run_of(tmp_path / "run", hold_out=0.2)
    before = opened(config, "train", copy)
    place = tmp_path / "run" / "checkpoints" / "5"
    place.mkdir(parents=True)
    (place / "_CHECKPOINT_METADATA").write_text("{}")
    write_tree(copy, {"train/a/new.png": encoded(photo(99, 8, 8), "PNG")})
    after = opened(config, "train", copy)
    assert ids_of(after) == ids_of(before)
    assert after.fingerprint() == before.fingerprint()
    with pytest.raises(ConfigError, match=r"this run held out 0\.2 by seed 7; give the same"):
        opened(run_of(tmp_path / "run", hold_out=0.3), "train", copy)
    (copy / "train/a/00.png").unlink()
    side = "train" if "a/00" in ids_of(before) else "val"
    with pytest.raises(DataError, match=r"split\.json: 1 of the \d+ examples of .* are not in .* \(a/00\)"):
        opened(config, side, copy)
    fresh = run_of(tmp_path / "fresh", hold_out=0.2)
    assert len(opened(fresh, "train", copy)) + len(opened(fresh, "val", copy)) == 20


def test_a_split_that_cannot_be_read_is_one_sentence(tmp_path):
    for content, said in (
        ("[", "cannot be read"),
        ('["a"]', "holds no splits"),
        ('{"train": ["a"], "val": ["a"]}', "'a' is there more than once"),
    ):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(ConfigError, match=said):
            read_split(tmp_path / FILE)


def test_parts_of_any_dataset(folder):
    source = open_labeled_folder("train", folder, folder)
    part, wrapped = part_of(source, [3, 1], "val"), PartDataset(source, [3, 1], "val")
    assert part.ids() == wrapped.ids() == [source.ids()[3], source.ids()[1]]
    assert wrapped[1] == part[1] == source[1]
    assert part.image_files() == wrapped.image_files()
    assert wrapped.header_size(0) == (8, 8)
    assert len({part.fingerprint(), wrapped.fingerprint(), source.fingerprint()}) == 3
    assert [traits.classes for traits in traits_of(part)] == [frozenset({part[index]["label"]}) for index in (0, 1)]
    assert RunConfig().input.hold_out is None
