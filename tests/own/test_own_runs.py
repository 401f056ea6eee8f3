"""Own data in runs: the part that is held out is what a resumed run and every later look at the run's data take."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from commands import configure
from own_pictures import COLORS, colored
from saved_run import drawn_run
from tiny_sets import encoded, photo, write_tree

from cvjax.data.part import ids_of
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
