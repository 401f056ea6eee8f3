"""PyTorch's side of `benchmarks/whole_commands.py`: a whole process that scores photographs, or predicts them.

    path/to/python-with-torch benchmarks/whole_commands_torch.py evaluate VOC2012 weights.npz report.json
    path/to/python-with-torch benchmarks/whole_commands_torch.py predict VOC2012 weights.npz report.json --out FOLDER

Imports neither JAX nor cvjax; it needs torch, numpy and Pillow. Each photograph goes through the net at its own size,
eagerly, in channels_last, while threads decode the next ones and write the last ones. With --pad N photographs are
padded with the mean color to multiples of N pixels, as cvjax pads them; this is for comparing predictions, not times.
"""

import argparse
import collections
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch_nets.deeplab import DeepLabV3Plus
from torch_nets.unet import UNet

MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
CLASSES, IGNORED = 21, 255
NETS: dict[str, Callable[[], torch.nn.Module]] = {
    "deeplabv3plus_resnet50": lambda: DeepLabV3Plus(CLASSES, dropout=0.0),
    "unet": lambda: UNet(CLASSES, 16, 4),
}
_AHEAD, _THREADS = 4, 4


def load(net: str, weights: pathlib.Path) -> torch.nn.Module:
    """The net with the weights of a file whose keys are PyTorch's."""
    with torch.device("meta"):
        model = NETS[net]()
    with np.load(weights) as arrays:
        state = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=tensor.dtype)
    model.load_state_dict(state, assign=True)
    return model.to(memory_format=torch.channels_last).eval()


def ahead(pool: ThreadPoolExecutor, work: Callable[[str], Any], names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """What `work` makes of each name, in their order, a few ahead of what is asked for."""
    running: collections.deque[Any] = collections.deque()
    for name in names:
        running.append((name, pool.submit(work, name)))
        if len(running) > _AHEAD:
            done, made = running.popleft()
            yield done, made.result()
    while running:
        done, made = running.popleft()
        yield done, made.result()


def predict(model: torch.nn.Module, image: np.ndarray, multiple: int) -> torch.Tensor:
    """The class of each pixel, int64 [H, W], of a photograph uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    if multiple > 1:
        below, beside = -height % multiple, -width % multiple
        padded = np.empty((height + below, width + beside, 3), np.uint8)
        padded[:] = np.rint(MEAN)
        padded[:height, :width] = image
        image = padded
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    normalized = (pixels - torch.from_numpy(MEAN).view(3, 1, 1)) / torch.from_numpy(STD).view(3, 1, 1)
    logits = model(normalized.contiguous(memory_format=torch.channels_last))
    return logits[0, :, :height, :width].argmax(0)


def confusion(truth: np.ndarray, labels: torch.Tensor) -> torch.Tensor:
    """The confusion matrix, int64 [C, C], rows the truth, of the pixels that are not ignored."""
    wanted = torch.from_numpy(truth).long()
    counted = wanted != IGNORED
    pairs = CLASSES * wanted[counted] + labels[counted]
    return torch.bincount(pairs, minlength=CLASSES**2).view(CLASSES, CLASSES)


def mean_iou(matrix: np.ndarray) -> float:
    """The mean IoU of the classes that are in the truth or in the predictions."""
    right, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return float((right[union > 0] / union[union > 0]).mean())


def palette() -> np.ndarray:
    """VOC's colors by label, uint8 [256, 3]."""
    labels, colors = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def write(out: pathlib.Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    """Writes the overlay and the mask of a photograph, as `cvjax predict` has them, but without legend or contours."""
    colors = palette()
    mask = Image.fromarray(labels.astype(np.uint8))
    mask.putpalette(colors.tobytes())
    mask.save(out / f"{name}_mask.png")
    blended = np.where(labels[..., None] > 0, 0.55 * image + 0.45 * colors[labels], image)
    Image.fromarray(np.rint(blended).astype(np.uint8)).save(out / f"{name}_overlay.png")


def main() -> None:
    """Score or predict, and write what came out of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["evaluate", "predict"])
    parser.add_argument("devkit", type=pathlib.Path, help="folder with JPEGImages, SegmentationClass and ImageSets")
    parser.add_argument("weights", type=pathlib.Path, help="weights under PyTorch's names, .npz")
    parser.add_argument("report", type=pathlib.Path, help="file to write, JSON")
    parser.add_argument("--net", choices=NETS, default="deeplabv3plus_resnet50")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("predictions"), help="folder of pictures")
    parser.add_argument("--pad", type=int, default=1, help="divisor of the sides of padded photographs")
    arguments = parser.parse_args()
    scores = arguments.command == "evaluate"
    names = (arguments.devkit / "ImageSets" / "Segmentation" / "val.txt").read_text().split()

    def read(name: str) -> tuple[np.ndarray, np.ndarray | None]:
        with Image.open(arguments.devkit / "JPEGImages" / f"{name}.jpg") as opened:
            image = np.asarray(opened.convert("RGB"))
        if not scores:
            return image, None
        with Image.open(arguments.devkit / "SegmentationClass" / f"{name}.png") as opened:
            return image, np.array(opened)

    model, matrix = load(arguments.net, arguments.weights), torch.zeros(CLASSES, CLASSES, dtype=torch.long)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode(), ThreadPoolExecutor(_THREADS) as pool:
        writing = []
        for name, (image, truth) in ahead(pool, read, names):
            labels = predict(model, image, arguments.pad)
            if truth is None:
                writing.append(pool.submit(write, arguments.out, name, image, labels.numpy()))
            else:
                matrix += confusion(truth, labels)
        for written in writing:
            written.result()
    report = {"images": len(names), "torch": torch.__version__}
    report |= {"miou": mean_iou(matrix.numpy())} if scores else {}
    arguments.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
