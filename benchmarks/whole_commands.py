"""How fast whole commands are against PyTorch: `cvjax evaluate` and `cvjax predict`, from their start to their end.

    python benchmarks/whole_commands.py --photos VOCdevkit/VOC2012 --torch-python path/to/python-with-torch --threads 2

Timed are processes, with all that they import, compile, read and write. Ours are the commands as a person types them,
on `--images` photographs with masks (evaluate) and `--predicted` of them (predict). Those of PyTorch are
`benchmarks/whole_commands_torch.py`, which runs each photograph at its own size, so that it computes no padding.

Photographs are those of the folder `--photos`, which lies as VOC's devkit does (by default the one that the tests have,
CVJAX_TEST_DATA/data/VOCdevkit/VOC2012), again and again until there are enough. Every third of the repeated ones is
cropped, at its right or at its bottom by up to a third, so that sizes vary as they do in all of VOC. Both sides have
the same drawn weights. PyTorch does the same work once more, untimed, with photographs padded as ours are: mean IoUs
must agree to 1e-3, and 999 of 1000 predicted pixels.

torch is optional. Results go to benchmarks/results/whole_commands_cpu.md and .json, with --threads N to
whole_commands_cpu_threadsN.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from layer_sides import hello
from paired import Message, medians, ratio, use_threads
from PIL import Image
from reporting import Report, cell, describe, machine, stem_of, table

HERE = pathlib.Path(__file__).resolve().parent
NETS: dict[str, dict[str, Any]] = {"deeplabv3plus_resnet50": {}, "unet": {"width": 16, "depth": 4}}
"""Our models by name, with their options."""
COMMANDS = ("evaluate", "predict")
CLASSES, PADDED = 21, 64
_CROPPED = 3
"""One of so many repeated photographs is cropped."""


class Side(NamedTuple):
    """What a table says of a contestant."""

    name: str
    hello: Message


def make_photos(photos: pathlib.Path, count: int, out: pathlib.Path) -> list[str]:
    """Writes a devkit of `count` photographs with masks, all in the split `val`; returns their names in its order."""
    known = sorted(path.stem for path in (photos / "SegmentationClass").glob("*.png"))
    if not known:
        raise SystemExit(f"{photos} holds no SegmentationClass/*.png; name the folder of a VOC devkit")
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        again, name = number // len(known), known[number % len(known)]
        names.append(f"{name}_{again}")
        image = out / "JPEGImages" / f"{names[-1]}.jpg"
        mask = out / "SegmentationClass" / f"{names[-1]}.png"
        if again and number % _CROPPED == 0:
            _crop(photos, name, number, image, mask)
        else:
            image.write_bytes((photos / "JPEGImages" / f"{name}.jpg").read_bytes())
            mask.write_bytes((photos / "SegmentationClass" / f"{name}.png").read_bytes())
    (out / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names) + "\n")
    return names


def _crop(photos: pathlib.Path, name: str, number: int, image: pathlib.Path, mask: pathlib.Path) -> None:
    """Writes a photograph and its mask without a part at the right or at the bottom; the number decides which."""
    kept = 1 - (number * 37 % 100) / 300
    with (
        Image.open(photos / "JPEGImages" / f"{name}.jpg") as picture,
        Image.open(photos / "SegmentationClass" / f"{name}.png") as labels,
    ):
        width, height = picture.size
        box = (0, 0, round(width * kept), height) if number % 2 else (0, 0, width, round(height * kept))
        picture.crop(box).save(image, quality=92)
        labels.crop(box).save(mask)


def make_weights(net: str, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes drawn weights for either side, and returns the files: .safetensors of ours, .npz of PyTorch's names."""
    import jax
    import jax.numpy as jnp
    from model_sides import drawn, flax_variables
    from torch_names import LAYOUTS

    import cvjax
    from cvjax.weights import convert, write_state_dict
    from cvjax.weights.opened import describe as described
    from cvjax.weights.own import note, to_own

    model, layout = cvjax.create_model(net, num_classes=CLASSES, **NETS[net]), LAYOUTS[net]
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    ours, theirs = folder / f"{net}.safetensors", folder / f"{net}.npz"
    write_state_dict(ours, to_own(flax_variables(net, shapes)), note(described(net, NETS[net], CLASSES, None)))
    empty = {key: np.zeros(shape, np.float32) for key, shape in convert.leaf_shapes(shapes, layout).items()}
    np.savez(theirs, **{key: drawn(key, layout.to_torch(key, array).shape) for key, array in empty.items()})
    return ours, theirs


class Case(NamedTuple):
    """A command of both sides.

    Attributes:
      command: One of COMMANDS.
      net: One of NETS.
      devkit: Folder of the photographs.
      names: Names of the photographs.
      weights: Weights of ours and of PyTorch's.
      folder: Folder for what the commands write.
    """

    command: str
    net: str
    devkit: pathlib.Path
    names: Sequence[str]
    weights: tuple[pathlib.Path, pathlib.Path]
    folder: pathlib.Path

    def out(self, side: str) -> pathlib.Path:
        """The folder of a side's pictures."""
        return self.folder / f"{side}_{self.net}"

    def report(self, side: str) -> pathlib.Path:
        """The file of a side's report."""
        return self.folder / f"{side}_{self.command}_{self.net}.json"

    def words(self, side: str, torch_python: str | None, pad: int = 1) -> list[str]:
        """The command line of a side."""
        if side == "torch":
            program = str(HERE / "whole_commands_torch.py")
            places = [self.devkit, self.weights[1], self.report(side)]
            options = ["--net", self.net, "--out", self.out(side), "--pad", pad]
            return [str(word) for word in (torch_python, program, self.command, *places, *options)]
        start = [sys.executable, "-m", "cvjax", self.command, "--weights", str(self.weights[0])]
        if self.command == "evaluate":
            data = ["--data", "voc_segmentation", "--split", "val", "--manual-dir", str(self.devkit)]
            return [*start, *data, "--json", str(self.report(side))]
        listing = self.folder / "photographs.txt"
        listing.write_text("".join(f"{self.devkit}/JPEGImages/{name}.jpg\n" for name in self.names))
        return [
            *start,
            str(listing),
            *("--out", str(self.out(side)), "--json", str(self.report(side)), "--no-page"),
        ]


def seconds_of(words: Sequence[str]) -> float:
    """Runs a process and returns how long it takes.

    Raises:
      SystemExit: It fails; what it printed is shown.
    """
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=HERE.parent, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def disagreement(case: Case) -> str | None:
    """What differs between the results of both sides, or None."""
    if case.command == "evaluate":
        ours, theirs = (json.loads(case.report(side).read_text())["miou"] for side in ("cvjax", "torch"))
        return None if abs(ours - theirs) <= 1e-3 else f"mean IoU {theirs:.4f} instead of {ours:.4f}"
    same = total = 0
    for name in case.names:
        masks = [_read(case.out(side) / f"{name}_mask.png") for side in ("cvjax", "torch")]
        same, total = same + int((masks[0] == masks[1]).sum()), total + masks[0].size
    return None if same >= 0.999 * total else f"{same / total:.2%} of the predicted pixels agree"


def _read(path: pathlib.Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array(opened)


def measure(case: Case, sides: Sequence[str], torch_python: str | None, rounds: int) -> Message:
    """Has the sides take turns, and returns the row of a table."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    absent: dict[str, str] = {}
    times["cvjax"].append(seconds_of(case.words("cvjax", None)))  # no process knows of one before it
    if "torch" in sides:
        seconds_of(case.words("torch", torch_python, PADDED))
        if fault := disagreement(case):
            absent["torch"] = fault
            del times["torch"]
    for turn in range(rounds):
        for side in times:
            if len(times[side]) == turn:
                times[side].append(seconds_of(case.words(side, torch_python)))
    row = {"case": case.net, "mode": case.command, "batch": len(case.names), "times": times, "absent": absent}
    return {**row, "seconds": medians(times)}


def write(record: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    names = list(record["machine"]["contestants"])
    pairs = [("torch", "cvjax")] if "torch" in names else []
    body = [
        [
            *(row["mode"], row["case"], str(row["batch"])),
            *(cell(row["seconds"].get(name)) for name in names),
            *(cell(ratio(row["times"], *pair)) for pair in pairs),
        ]
        for row in record["rows"]
    ]
    header = ["command", "net", "photographs", *(f"{name} s" for name in names), *(f"{a} / {b}" for a, b in pairs)]
    absent = [
        f"- Without {k}: {row['case']} ({row['mode']}): {v}."
        for row in record["rows"]
        for k, v in row["absent"].items()
    ]
    lines = [
        "# Whole commands",
        "",
        f"{describe(record['machine'])} Seconds from the start of a process to its end; medians of "
        f"{record['settings']['rounds']} rounds. `benchmarks/whole_commands.py` says what is measured. "
        "The last column is a ratio of times: at 2 cvjax is twice as fast as PyTorch.",
        "",
        table(header, body),
        "",
        *absent,
    ]
    return "\n".join(lines).rstrip() + "\n"


def torch_hello(torch_python: str) -> Message:
    """What PyTorch's interpreter says of itself."""
    code = "import json; from layer_sides import hello; print(json.dumps(hello('torch')))"
    done = subprocess.run([torch_python, "-c", code], capture_output=True, text=True, check=True, cwd=HERE)
    return json.loads(done.stdout)


def _photos() -> pathlib.Path:
    return pathlib.Path(os.environ.get("CVJAX_TEST_DATA", ""), "data", "VOCdevkit", "VOC2012")


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=pathlib.Path, default=_photos(), help="folder of a VOC devkit, as VOC2012")
    parser.add_argument("--torch-python", help="interpreter that has torch, NumPy and Pillow")
    parser.add_argument("--contestants", nargs="+", choices=["cvjax", "torch"], default=["cvjax", "torch"])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--images", type=int, default=300, help="photographs that are scored")
    parser.add_argument("--predicted", type=int, default=100, help="photographs that are predicted")
    parser.add_argument("--rounds", type=int, default=1, help="turns of either side")
    parser.add_argument("--threads", type=int, help="processors for each; default: all that this process has")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    arguments = parser.parse_args()
    if arguments.threads:
        use_threads(arguments.threads)
    torch_python = arguments.torch_python
    sides = ["cvjax", *(["torch"] if torch_python and "torch" in arguments.contestants else [])]
    where = machine([Side(side, torch_hello(torch_python) if side == "torch" else hello(side)) for side in sides])
    stem = stem_of("whole_commands", where, arguments.threads)
    report = Report(arguments.out / stem, where, {"rounds": arguments.rounds}, write)
    counts = {"evaluate": arguments.images, "predict": arguments.predicted}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        devkits = {command: folder / command / "VOC2012" for command in arguments.commands}
        names = {command: make_photos(arguments.photos, counts[command], kit) for command, kit in devkits.items()}
        for net in arguments.nets:
            weights = make_weights(net, folder)
            for command in arguments.commands:
                case = Case(command, net, devkits[command], names[command], weights, folder)
                row = measure(case, sides, torch_python, arguments.rounds)
                report.add(row)
                print(f"{command} {net}: {row['seconds']} {row['absent'] or ''}", flush=True)
    print(write(report.record))


if __name__ == "__main__":
    main()
