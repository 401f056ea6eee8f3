"""How fast one process makes segmentation training examples: a bare loop, our loader and a torch DataLoader.

Each example is a 500x375 JPEG and its PNG mask: decode, random scale 0.5 to 2, random 513 crop, random
mirroring. All three make the same OpenCV calls on the same bytes, take turns within one run, and are reported
as medians over the rounds. The bare loop, and torch with it, scale the whole image before cutting; ours only
scales the window that is kept; "bare loop, our transform" shows what the loader itself costs. "One thread"
holds OpenCV, torch and the loader to one; otherwise each has its own default.

    python benchmarks/loader.py
    python benchmarks/loader.py --torch-python path/to/python-with-torch-and-opencv --folder path/to/jpegs

torch is optional: without --torch-python it is taken from this environment, or left out. Results go to
benchmarks/results/loader.md and loader.json.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

CROP = (513, 513)
FILL = (124, 116, 104)
SCALES = np.arange(0.5, 2.01, 0.25)
TARGET_RATE = 8000  # Images a second that an H200 is to be fed with.


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A source of encoded records, held in memory; as the Dataset contract asks."""

    records: tuple[dict, ...]
    name: str = "benchmark"
    split: str = "train"
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        return self.records[index]


def draw_example(seed: int, height: int = 375, width: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """A photo-like picture u8[H,W,3], whose detail falls off with frequency, and a mask of blobs u8[H,W]."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 9):
        cells = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        picture += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) / 1.6**octave
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(20, 120)), int(rng.integers(20, 120)))
        cv2.ellipse(mask, center, axes, int(rng.integers(180)), 0, 360, int(rng.integers(1, 21)), -1)
        cv2.ellipse(mask, center, axes, int(rng.integers(180)), 0, 360, 255, 4)
    return np.clip(128 + 70 * picture, 0, 255).astype(np.uint8), mask


def make_records(count: int, folder: pathlib.Path | None) -> tuple[dict, ...]:
    """Encoded records: drawn, or the JPEG files of `folder` with drawn masks."""
    files = sorted(folder.glob("*.jpg"))[:count] if folder else []
    if folder and not files:
        raise SystemExit(f"{folder} holds no .jpg file: name a folder of JPEG images, or leave --folder out.")
    records = []
    for number in range(len(files) or count):
        image, mask = draw_example(number)
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        if files:
            data = files[number].read_bytes()
            height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        records.append({"image": data, "mask": cv2.imencode(".png", mask)[1].tobytes(), "id": str(number)})
    return tuple(records)


def decode(record: dict) -> dict[str, np.ndarray]:
    """The decoding that all contestants share."""
    return {
        "image": cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_COLOR_RGB),
        "mask": cv2.imdecode(np.frombuffer(record["mask"], np.uint8), cv2.IMREAD_GRAYSCALE),
    }


def plain_transform(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scale the whole, pad, cut, mirror: what one writes without thinking further."""
    scale = float(rng.choice(SCALES))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    below, right = (max(0, want - have) for want, have in zip(CROP, mask.shape))
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=FILL)
        mask = cv2.copyMakeBorder(mask, 0, below, 0, right, cv2.BORDER_CONSTANT, value=255)
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(mask.shape, CROP))
    image = image[top : top + CROP[0], left : left + CROP[1]]
    mask = mask[top : top + CROP[0], left : left + CROP[1]]
    if rng.random() < 0.5:
        image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
    return image, mask


def bare_loop(records: tuple[dict, ...], count: int, turn: int, transform: Callable) -> None:
    """Make `count` examples and drop them; nothing is batched or copied."""
    rng = np.random.default_rng(turn)
    for number in rng.integers(len(records), size=count):
        example = decode(records[number])
        transform(example["image"], example["mask"], rng)


def our_loader(records: tuple[dict, ...], count: int, turn: int, batch_size: int, threads: int | None) -> None:
    """Draw `count` examples from `train_batches`, started anew."""
    from cvjax.data.loader import train_batches
    from cvjax.tasks.scale_crop import ScaleAndCropData, TrainTransform

    transform = TrainTransform(ScaleAndCropData(crop=CROP), fill=FILL)
    options = {"batch_size": batch_size, "seed": turn, "threads": threads}
    with train_batches(Encoded(records), decode, transform, **options) as batches:
        for _ in range(count // batch_size):
            next(batches)


def serve_torch(arguments: argparse.Namespace) -> None:
    """The torch side, in a process of its own: a line of OpenCV threads and turn in, a line of times out."""
    import torch

    class Examples(torch.utils.data.Dataset):
        def __init__(self, records: tuple[dict, ...]):
            self.records = records

        def __len__(self) -> int:
            return arguments.count

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            example = decode(self.records[index % len(self.records)])
            image, mask = plain_transform(example["image"], example["mask"], np.random.default_rng(index))
            return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    examples = Examples(make_records(arguments.images, arguments.folder))
    default_threads = torch.get_num_threads()
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        cv2_threads, turn = map(int, line.split())
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(1 if cv2_threads == 1 else default_threads)
        generator = torch.Generator().manual_seed(turn)
        loader = torch.utils.data.DataLoader(
            examples, arguments.batch_size, shuffle=True, num_workers=0, generator=generator
        )
        print(json.dumps(timed(lambda loader=loader: [None for _ in loader])), flush=True)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of this process."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def start_torch(arguments: argparse.Namespace) -> tuple[subprocess.Popen, str] | None:
    """The torch process and its version; None if there is no torch."""
    python = arguments.torch_python or (sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        return None
    command = [python, __file__, "--serve-torch", "--images", str(arguments.images)]
    command += ["--count", str(arguments.count), "--batch-size", str(arguments.batch_size)]
    command += ["--folder", str(arguments.folder)] if arguments.folder else []
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return child, child.stdout.readline().strip()


def measure(arguments: argparse.Namespace, child: subprocess.Popen | None) -> Iterator[dict]:
    """One row for each contestant, threading and round; contestants take turns inside a round."""
    records = make_records(arguments.images, arguments.folder)
    from cvjax.tasks.scale_crop import ScaleAndCropData, TrainTransform

    ours = TrainTransform(ScaleAndCropData(crop=CROP), fill=FILL)
    size, count = arguments.batch_size, arguments.count
    for turn in range(-1, arguments.rounds):  # The first turn warms up and is dropped.
        for threading, cv2_threads, threads in (("one thread", 1, 0), ("default threads", -1, None)):
            contestants = {
                "bare loop": functools.partial(bare_loop, records, count, turn + 1, plain_transform),
                "bare loop, our transform": functools.partial(bare_loop, records, count, turn + 1, ours),
                "our loader": functools.partial(our_loader, records, count, turn + 1, size, threads),
            }
            if child:
                contestants["torch DataLoader"] = None
            for name, work in contestants.items():
                cv2.setNumThreads(cv2_threads)
                if work is None:
                    child.stdin.write(f"{cv2_threads} {turn + 1}\n")
                    child.stdin.flush()
                    wall, processor = json.loads(child.stdout.readline())
                else:
                    wall, processor = timed(work)
                time.sleep(0.1)  # Lets the loader's threads end the batches they had begun.
                if turn >= 0:
                    yield {"threading": threading, "name": name, "wall": wall, "processor": processor}


def summarize(rows: list[dict], count: int) -> list[dict]:
    """Medians, and medians of the ratios within each round, to the plain bare loop."""
    summary = []
    keys = dict.fromkeys((row["threading"], row["name"]) for row in rows)
    for threading, name in keys:
        mine = [row for row in rows if (row["threading"], row["name"]) == (threading, name)]
        bare = [row for row in rows if (row["threading"], row["name"]) == (threading, "bare loop")]
        entry = {"threading": threading, "name": name}
        entry["images_per_second"] = count / statistics.median(row["wall"] for row in mine)
        entry["processor_ms_per_image"] = 1e3 * statistics.median(row["processor"] for row in mine) / count
        for kind in ("wall", "processor"):
            ratios = [a[kind] / b[kind] for a, b in zip(mine, bare)]
            entry[f"{kind}_to_bare"] = statistics.median(ratios)
        summary.append(entry)
    return summary


def machine(torch_version: str | None) -> dict:
    """Where the figures come from."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None)
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "torch": torch_version,
    }


def report(summary: list[dict], where: dict, arguments: argparse.Namespace) -> str:
    """The result as Markdown."""
    lines = [
        "# Loader, one process",
        "",
        f"{where['processor']}, {where['cores']} cores; Python {where['python']}, OpenCV {where['opencv']}, "
        f"torch {where['torch']}. {arguments.rounds} rounds of {arguments.count} examples, batches of "
        f"{arguments.batch_size}; `benchmarks/loader.py` says what is measured. Ratios are times relative to "
        "the bare loop of the same round; processor time is the steadier figure on a busy machine.",
        "",
        "| threads | contestant | images/s | processor ms/image | time / bare | processor time / bare |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['threading']} | {row['name']} | {row['images_per_second']:.0f} | "
        f"{row['processor_ms_per_image']:.2f} | {row['wall_to_bare']:.2f} | {row['processor_to_bare']:.2f} |"
        for row in summary
    ]
    cost = next(
        row["processor_ms_per_image"]
        for row in summary
        if (row["threading"], row["name"]) == ("one thread", "our loader")
    )
    rate = 1e3 / cost
    lines += [
        "",
        f"One core makes {rate:.0f} images/s, so 16 workers on 16 cores {16 * rate:.0f} images/s; feeding "
        f"{TARGET_RATE} images/s takes {TARGET_RATE / rate:.0f} cores. (Arithmetic, not a measurement: "
        "memory bandwidth and shared memory between processes are not in it.)",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=128, help="examples a round and contestant")
    parser.add_argument("--images", type=int, default=32, help="distinct images")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--folder", type=pathlib.Path, help="folder of .jpg files to use as images")
    parser.add_argument("--torch-python", help="interpreter that has torch, OpenCV and NumPy")
    results = pathlib.Path(__file__).parent / "results"
    parser.add_argument("--out", type=pathlib.Path, default=results)
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count % arguments.batch_size:
        parser.error("--count must be a multiple of --batch-size")
    if arguments.serve_torch:
        serve_torch(arguments)
        return
    child, torch_version = start_torch(arguments) or (None, None)
    rows = list(measure(arguments, child))
    if child:
        child.stdin.close()
        child.wait()
    summary, where = summarize(rows, arguments.count), machine(torch_version)
    text = report(summary, where, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "loader.md").write_text(text)
    record = {"machine": where, "count": arguments.count, "summary": summary, "rounds": rows}
    (arguments.out / "loader.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
