"""A folder of small labeled drawings, and the real commands run on it as processes of their own."""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A net and crops so small that a whole command is a test. Momentum and a low learning rate, because others amplify
# rounding: at 0.05, two orders of summation are 1% apart after ten steps; Muon makes small gradients large ones.
TINY = (
    "--data image_folder_segmentation --model.name deeplabv3plus_resnet18 --model.backbone.width 8"
    " --model.aspp-features 8 --model.low-level-features 4 --input.crop 48 48"
    " --batch-size 8 --eval.batch-size 8 --eval.pad-multiple 64"
    " --steps 10 --log-every 5 --eval-every 10 --checkpoint-every 5 --optim.name nesterov --optim.warmup 0"
    " --optim.learning-rate 0.002 --optim.clip-norm 5"
).split()


def draw_folder(folder: pathlib.Path, train: int = 24, val: int = 13) -> pathlib.Path:
    """Discs and squares on noise, with a void rim, of several sizes: `classes.txt` and a folder a split."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            height, width = (int(s) for s in rng.integers(40, 65, 2))
            image = rng.integers(0, 120, (height, width, 3), np.uint8)
            mask = np.zeros((height, width), np.uint8)
            label = 1 + number % 2
            center, size = (int(rng.integers(12, width - 12)), int(rng.integers(12, height - 12))), 9
            for canvas, color in ((image, (220, 200, 90)), (mask, label)):
                if label == 1:
                    cv2.circle(canvas, center, size, color, -1)
                else:
                    corner = (center[0] - size, center[1] - size)
                    cv2.rectangle(canvas, corner, (center[0] + size, center[1] + size), color, -1)
            edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
            mask[edge] = 255
            cv2.imwrite(str(folder / split / "images" / f"{number:03d}.jpg"), image)
            cv2.imwrite(str(folder / split / "masks" / f"{number:03d}.png"), mask)
    (folder / "classes.txt").write_text("background\ndisc\nsquare\n")
    return folder


def command(module: str, *arguments: object, devices: int = 1, wait: bool = True) -> subprocess.Popen:
    """`python -m module arguments` with so many CPU devices; waited for unless told not to."""
    environment = dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices), COLUMNS="300")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if wait:
        process.out, process.err = process.communicate(timeout=500)
    return process


def train(folder: pathlib.Path, workdir: pathlib.Path, *arguments: object, **options) -> subprocess.Popen:
    """The experiment's command, tiny, on a folder."""
    return command(
        "experiments.deeplab_voc",
        "quick",
        *TINY,
        "--input.manual-dir",
        folder,
        "--workdir",
        workdir,
        *arguments,
        **options,
    )
