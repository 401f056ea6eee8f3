"""Runs that must not start, or not go on: their folder, their numbers, their checkpoints and configurations."""

import fcntl
import functools
import json
import os
import pathlib
import shutil

import numpy as np
from bad_inputs import BadInput
from tiny_run import TINY, draw_folder
from torch_files import files

from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.guards.lock import FILE
from cvjax.engine.state import TrainState

_TRAIN = f"experiments.deeplab_voc quick {' '.join(TINY)} --input.manual-dir DATA/images --workdir DATA/run"


def _images(folder: pathlib.Path) -> None:
    draw_folder(folder / "images", train=2, val=1)


def _run(folder: pathlib.Path, *, name: str = "deeplabv3plus_resnet18", steps: tuple[int, ...] = (5,)) -> None:
    """A run with checkpoints that hold nothing of value."""
    _images(folder)
    weights = {"kernel": np.ones((2, 2), np.float32)}
    checkpoints = Checkpoints(folder / "run" / "checkpoints")
    for step in steps:
        model = {"name": name, "options": {}}
        metadata = {"format": 2, "model": model, "task": {"kind": "segmentation"}, "run": {"model": model}, "data": {}}
        checkpoints.save(TrainState(np.int32(step), weights, {}, {}, None), metadata, None, wait=True)
    checkpoints.close()


def _damaged_run(folder: pathlib.Path) -> None:
    _run(folder)
    (folder / "run" / "checkpoints" / "5" / "variables" / "manifest.ocdbt").unlink()


def _run_without_metadata(folder: pathlib.Path) -> None:
    _run(folder)
    shutil.rmtree(folder / "run" / "checkpoints" / "5" / "info")


def _run_in_use(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "run").mkdir()
    held = os.open(folder / "run" / FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)  # until this process ends, as the other run would
    os.write(held, b"process 4242 on gpu7 since 2026-01-31 12:00:00\n")


def _file(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "run").write_text("notes\n")


def _config(folder: pathlib.Path, **changed: object) -> None:
    (folder / "config.json").write_text(json.dumps({"format": 2, "run": changed}))


def _broken_config(folder: pathlib.Path) -> None:
    (folder / "config.json").write_text('{"format": 2,\n "run": {"steps" 5}}\n')


def _weights_of_noise(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "weights.npz").write_bytes(b"\x00\x01" * 50)


def _two_state_dicts(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "weights.pth").write_bytes(files()["several.pth"])


def _optimizer_alone(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "weights.pth").write_bytes(files()["optimizer.pth"])


def _pointer(folder: pathlib.Path) -> None:
    _images(folder)
    (folder / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


ROWS = [
    BadInput("a file as the work folder", _TRAIN, _file, ("DATA/run", "is a file", "--workdir")),
    BadInput(
        "a URL of an unknown kind as the work folder",
        _TRAIN.replace("DATA/run", "gss://bucket/run"),
        _images,
        ("gss://bucket/run", "gs://?"),
    ),
    BadInput(
        "a URL of photographs that are not prepared",
        f"{_TRAIN} --input.manual-dir memory://bucket/photos",
        _images,
        ("memory://bucket/photos", "--data-dir"),
    ),
    BadInput(
        "a URL of weights that are not there",
        f"{_TRAIN} --init memory://bucket/net.safetensors",
        _images,
        ("memory://bucket/net.safetensors", "check the path"),
    ),
    BadInput(
        "a URL where there is no run",
        "cvjax.cli.evaluate memory://bucket/run",
        _images,
        ("memory://bucket/run", "--workdir"),
    ),
    BadInput("a work folder that holds a run", _TRAIN, _run, ("DATA/run", "step 5", "--resume", "--workdir")),
    BadInput(
        "a work folder that another run is in",
        f"{_TRAIN} --resume",
        _run_in_use,
        ("DATA/run is in use by process 4242 on gpu7", "--workdir"),
    ),
    BadInput(
        "the only checkpoint damaged, and the run to be resumed",
        f"{_TRAIN} --resume",
        _damaged_run,
        ("DATA/run/checkpoints/5", "variables/manifest.ocdbt is missing", "--workdir"),
    ),
    BadInput(
        "the only checkpoint damaged, and the run to be evaluated",
        "cvjax.cli.evaluate DATA/run",
        _damaged_run,
        ("DATA/run/checkpoints/5", "variables/manifest.ocdbt"),
    ),
    BadInput(
        "a checkpoint without its metadata",
        "cvjax.cli.evaluate DATA/run/checkpoints/5",
        _run_without_metadata,
        ("DATA/run/checkpoints/5", "info/metadata is missing"),
    ),
    BadInput(
        "a checkpoint of another model, to be resumed",
        f"{_TRAIN} --resume",
        functools.partial(_run, name="unet"),
        ("DATA/run/checkpoints/5", "of unet with other variables"),
    ),
    BadInput(
        "a folder that is not there as the run to evaluate",
        "cvjax.cli.evaluate DATA/missing",
        lambda folder: None,
        ("there is no folder DATA/missing",),
    ),
    BadInput("no steps at all", f"{_TRAIN} --steps 0", _images, ("--steps is 0", "from 1 on")),
    BadInput("a batch of no examples", f"{_TRAIN} --batch-size 0", _images, ("--batch-size is 0",)),
    BadInput("a learning rate that is no number", f"{_TRAIN} --optim.learning-rate nan", _images, ("is nan",)),
    BadInput("a momentum of 1", f"{_TRAIN} --optim.momentum 1", _images, ("--optim.momentum is 1.0", "below 1")),
    BadInput("fewer evaluations than none", f"{_TRAIN} --eval-every -1", _images, ("--eval-every is -1", "where 0")),
    BadInput("no checkpoint to keep", f"{_TRAIN} --keep 0", _images, ("--keep is 0",)),
    BadInput(
        "steps to profile that end before they begin",
        f"{_TRAIN} --profile-steps 15:10",
        _images,
        ("--profile-steps is 15:10", "such as 10:15"),
    ),
    BadInput("minutes before a stall below none", f"{_TRAIN} --stall-minutes -1", _images, ("--stall-minutes is -1",)),
    BadInput(
        "one of the three flags of a cluster",
        f"{_TRAIN} --cluster.process-id 1",
        _images,
        ("--cluster.coordinator", "--cluster.distributed"),
    ),
    BadInput("a dropout of 2", f"{_TRAIN} --model.dropout 2", _images, ("--model.dropout is 2.0", "below 1")),
    BadInput(
        "a model's name with a slip",
        f"{_TRAIN} --model.name deeplabv3plus_resnet81",
        _images,
        ("'deeplabv3plus_resnet81'", "did you mean deeplabv3plus_resnet18"),
    ),
    BadInput(
        "weights that are not there",
        f"{_TRAIN} --init DATA/missing.safetensors",
        _images,
        ("DATA/missing.safetensors", "there is no such file"),
    ),
    BadInput(
        "weights that are noise",
        f"{_TRAIN} --init DATA/weights.npz",
        _weights_of_noise,
        ("DATA/weights.npz", "no arrays"),
    ),
    BadInput(
        "a PyTorch file with two state dicts",
        f"{_TRAIN} --init DATA/weights.pth",
        _two_state_dicts,
        ("DATA/weights.pth", "model (6 tensors)", "weights.pth::model"),
    ),
    BadInput(
        "a part of a PyTorch file that is not there",
        f"{_TRAIN} --init DATA/weights.pth::ema",
        _two_state_dicts,
        ("DATA/weights.pth", "nothing under ema", "model_ema (6 tensors)"),
    ),
    BadInput(
        "a PyTorch file without weights",
        f"{_TRAIN} --init DATA/weights.pth",
        _optimizer_alone,
        ("DATA/weights.pth", "nothing in it looks like weights", "optimizer"),
    ),
    BadInput(
        "weights that are a Git LFS pointer",
        f"{_TRAIN} --init DATA/weights.bin",
        _pointer,
        ("DATA/weights.bin", "git lfs pull"),
    ),
    BadInput(
        "a configuration with a colon missing",
        "experiments.deeplab_voc --config DATA/config.json",
        _broken_config,
        ("DATA/config.json", "line 2"),
    ),
    BadInput(
        "a configuration with words for numbers",
        "experiments.deeplab_voc --config DATA/config.json",
        functools.partial(_config, steps="many"),
        ("DATA/config.json", "steps is 'many'"),
    ),
    BadInput(
        "a configuration with a field of another program",
        "experiments.deeplab_voc --config DATA/config.json",
        functools.partial(_config, lr=0.1),
        ("DATA/config.json", "lr"),
    ),
    BadInput(
        "an image to predict that is not there",
        "cvjax.cli.predict DATA/run DATA/missing.jpg",
        _run,
        ("missing.jpg",),
    ),
    BadInput(
        "a folder without images to predict",
        "cvjax.cli.predict DATA/run DATA/run",
        _run,
        ("DATA/run is a folder without images or videos",),
    ),
    BadInput(
        "a file in the place of the folder for results",
        "cvjax.cli.prepare image_folder_segmentation --manual-dir DATA/images --data-dir DATA/run/below",
        _file,
        ("DATA/run",),
    ),
    BadInput(
        "files to prepare at a URL where there are none",
        "cvjax.cli.prepare image_folder_segmentation --manual-dir memory://bucket/mine --data-dir DATA/run",
        _images,
        ("memory://bucket/mine", "check the address"),
    ),
]
