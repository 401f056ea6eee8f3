"""Own data in runs: the part that is held out is what a resumed run and every later look at the run's data take."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from commands import configure
from own_pictures import COLORS, colored, write_labels, write_masks, write_parquet
from saved_run import drawn_run
from tiny_sets import encoded, photo, write_tree

from cvjax.data.loader import train_batches
from cvjax.data.part import ids_of
from cvjax.datasets.own.splits import traits_of
from cvjax.engine.config import resolve
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.load import load_for_inference, open_scored, with_settings
from experiments import deeplab_voc, resnet_imagenet


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twenty images of two classes in a CSV without a header."""
    folder = tmp_path_factory.mktemp("table")
    write_tree(folder, {f"{number:02d}.png": encoded(photo(number, 24, 24), "PNG") for number in range(20)})
    (folder / "labels.csv").write_text("".join(f"{number:02d}.png,{'ab'[number % 2]}\n" for number in range(20)))
    return folder


def labeled(workdir, folder, *flags):
    words = f"quick --data {folder} --model.width 4 --input.crop 24 24 --eval.resize 24 --steps 1".split()
    return configure(resnet_imagenet, [*words, "--workdir", workdir, *flags])


def open_split(config, split):
    return resolve(config.task).open(config, split)


def test_a_part_that_is_held_out_is_the_same_for_the_run_and_for_all_who_load_it(table, tmp_path):
    folder = shutil.copytree(table, tmp_path / "data")
    with pytest.raises(DataError, match="has no splits, and 'val' is asked for; hold out a part of it with --input"):
        open_split(labeled(tmp_path / "none", folder), "val")
    config = labeled(tmp_path / "run", folder, "--input.hold-out", "0.2")
    drawn_run(config, tmp_path / "run")
    kept = ids_of(open_split(config, "val"))
    assert len(kept) == 4
    assert sorted(int(key) % 2 for key in kept) == [0, 0, 1, 1]
    with (folder / "labels.csv").open("a") as file:
        file.write("new.png,b\n")  # which is no part of this run
    (folder / "new.png").write_bytes(encoded(photo(99, 24, 24), "PNG"))
    assert ids_of(open_split(config, "val")) == kept
    assert len(open_split(config, "train")) == 16
    moved = shutil.move(tmp_path / "run", tmp_path / "moved")
    loaded = load_for_inference(moved)
    task, scored = open_scored(loaded.task, None)
    assert ids_of(scored) == kept
    assert len(open_scored(task, "train")[1]) == 16
    assert not (tmp_path / "run").exists()
    other = labeled(tmp_path / "other", folder, "--input.split-file", tmp_path / "moved" / "split.json")
    assert ids_of(open_split(other, "val")) == kept
    assert set(
        ids_of(open_split(labeled(tmp_path / "seed", folder, "--input.hold-out", "0.2", "--seed", "1"), "val"))
    ) != set(kept)


def test_a_part_of_parquet_is_held_out(tmp_path):
    rows = [
        {"image": {"bytes": encoded(photo(number), "PNG"), "path": None}, "label": "ab"[number % 2]}
        for number in range(12)
    ]
    write_parquet(tmp_path / "data", "train", rows, {})
    config = labeled(tmp_path / "run", tmp_path / "data", "--input.hold-out", "0.34")
    train, val = (open_split(config, split) for split in ("train", "val"))
    assert (len(train), len(val), val.class_names) == (8, 4, ("a", "b"))
    assert sorted(val[index]["label"] for index in range(4)) == [0, 0, 1, 1]
    images = {part[index]["image"] for part in (train, val) for index in range(len(part))}
    assert images == {row["image"]["bytes"] for row in rows}


def test_other_data_are_scored_whole(table, tmp_path):
    drawn_run(labeled(tmp_path / "run", table, "--input.hold-out", "0.2"), tmp_path / "run")
    task = load_for_inference(tmp_path / "run").task
    write_tree(tmp_path / "other", {f"val/{name}/1.png": encoded(photo(1, 24, 24), "PNG") for name in "ab"})

    class Given:
        data, data_dir, manual_dir = "image_folder_classification", None, str(tmp_path / "other")

    assert len(open_scored(with_settings(task, Given, data_fields=("manual_dir",)), "val")[1]) == 2


def test_masks_of_colors_are_all_read_before_the_first_step(tmp_path):
    rows = "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip("abc", COLORS, strict=False))
    tree = {"class_dict.csv": ("name,r,g,b\n" + rows).encode()}
    for number in range(8):
        mask = np.full((30, 40), number % 3, np.uint8)
        mask[:, 20:] = (number + 1) % 3
        tree |= {
            f"images/{number}.jpg": encoded(photo(number), "JPEG"),
            f"masks/{number}.png": encoded(colored(mask), "PNG"),
        }
    write_tree(tmp_path / "data", tree)
    words = f"quick --data {tmp_path / 'data'} --input.hold-out 0.25 --class-balance 1 --workdir {tmp_path / 'run'}"
    config = configure(deeplab_voc, words.split())
    train, val = (open_split(config, split) for split in ("train", "val"))
    assert (len(train), len(val), train.class_names) == (6, 2, ("a", "b", "c"))
    task = resolve(config.task).create(config, train, None)
    assert len(task.class_weights) == 3
    spoiled = colored(np.zeros((30, 40), np.uint8))
    spoiled[0, :5] = (1, 2, 250)
    bad = ids_of(val)[0]  # the split that is scored is read, too
    (tmp_path / "data" / "masks" / f"{bad}.png").write_bytes(encoded(spoiled, "PNG"))
    with pytest.raises(DataError, match=rf"{bad}\.png: the color \(1, 2, 250\) of 5 pixels is no class of class_dict"):
        resolve(config.task).create(config, train, None)


def test_records_that_are_passed_over_have_a_side_too(table, tmp_path):
    folder = shutil.copytree(table, tmp_path / "data")
    source = open_split(labeled(tmp_path, folder), "train")
    (folder / "03.png").unlink()
    with pytest.raises(DataError, match=r"03\.png"):
        traits_of(source)
    traits = traits_of(source, skip=True)
    assert [example.key for example in traits] == ids_of(source)
    assert traits[3].classes == frozenset()


def test_settings_that_contradict_each_other(table, tmp_path):
    config = labeled(tmp_path, table, "--input.hold-out", "0.2", "--input.train-split", "val")
    with pytest.raises(ConfigError, match=r"makes the split val; give another --input\.train-split"):
        open_split(config, "val")
    config = labeled(tmp_path, table, "--input.split-file", tmp_path / "no.json")
    with pytest.raises(ConfigError, match=r"no\.json: cannot be read \(No such file or directory\)"):
        open_split(config, "val")
    (tmp_path / "lists.json").write_text(json.dumps({"train": ["00", "77"], "val": ["01"]}))
    config = dataclasses.replace(
        config, input=dataclasses.replace(config.input, split_file=str(tmp_path / "lists.json"))
    )
    assert ids_of(open_split(config, "val")) == ["01"]
    with pytest.raises(DataError, match=r"1 of the 2 examples of train are not in own .*\(77\)"):
        open_split(config, "train")


def batches(config) -> list[dict[str, np.ndarray]]:
    task_class = resolve(config.task)
    source = task_class.open(config, "train")
    task = task_class(config, tuple(source.class_names))
    stream = train_batches(
        source, task.decoder(), task.train_transform(), batch_size=8, seed=3, threads=0, target=task.target
    )
    found = [next(stream) for _ in range(2)]
    stream.close()
    return found


@pytest.mark.parametrize(
    ("experiment", "write", "kinds"),
    [
        (deeplab_voc, write_masks, ("numbers", "voc", "cvat", "class_dict", "label_colors", "parquet")),
        (resnet_imagenet, write_labels, ("folders", "csv", "csv_of_split", "csv_of_numbers", "parquet")),
    ],
    ids=["masks", "labels"],
)
def test_each_format_makes_the_same_batches(experiment, write, kinds, tmp_path):
    rng = np.random.default_rng(0)
    masks = [np.repeat(np.repeat(rng.integers(0, 3, (3, 4)).astype(np.uint8), 10, 0), 10, 1) for _ in range(8)]
    if write is write_masks:
        images = [(f"{n}", encoded(photo(n), "JPEG"), mask) for n, mask in enumerate(masks)]
    else:
        images = [(f"{n}", encoded(photo(n), "PNG"), n // 3) for n in range(8)]  # class by class, as folders are read
    expected = None
    for kind in kinds:
        write(kind, tmp_path / kind, ("ant", "bee", "cat"), {"train": images})
        words = f"quick --data {tmp_path / kind} --input.crop 24 24 --workdir {tmp_path / 'run'}"
        found = batches(configure(experiment, words.split()))
        expected = expected or found
        for one, other in zip(expected, found, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name], err_msg=f"{kind}: {name}")
