"""How well PyTorch learns CamVid in a given time: the peer of `cvjax train camvid quick`.

    path/to/python-with-torch benchmarks/camvid_torch.py CAMVID --seconds 1200

The same U-Net (width, depth, BatchNorm), crops, scales, mirroring, loss, optimizer and schedule as that preset, on as
many threads, in channels_last; `--optimizer adamw --learning-rate 0.002` is PyTorch's usual choice. Images are decoded
once and kept, and the clock runs while it trains alone: reading and scoring are PyTorch's for free. The cosine schedule
ends with the time. Imports neither JAX nor cvjax, needs torch, numpy and Pillow. Scores `val` at 180x240 as
`cvjax.tasks.segmentation.scores.regions` defines them: a class in neither truth nor prediction has no IoU.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import time

import numpy as np
from PIL import Image

MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
CLASSES, VOID = 11, 11
Pair = tuple[np.ndarray, np.ndarray]
"""Image uint8 [H, W, 3] and mask uint8 [H, W], 255 ignored."""


def read_split(folder: pathlib.Path, split: str, size: tuple[int, int]) -> list[Pair]:
    """All pairs of a split, `SPLIT/images` and `SPLIT/masks` or `SPLIT` and `SPLITannot`, brought to a size.

    Raises:
      SystemExit: there are none.
    """
    images, masks = folder / split / "images", folder / split / "masks"
    if (folder / f"{split}annot").is_dir():
        images, masks = folder / split, folder / f"{split}annot"
    files = sorted(path for suffix in ("png", "jpg") for path in images.glob(f"*.{suffix}"))
    if not files:
        raise SystemExit(f"{folder} holds no images of split {split}; name CamVid's own folder")
    pairs = []
    for file in files:
        with Image.open(file) as opened:
            image = np.asarray(_resized(opened.convert("RGB"), size))
        with Image.open(masks / f"{file.stem}.png") as opened:
            mask = np.array(opened.resize(size[::-1], Image.Resampling.NEAREST), np.uint8)
        mask[mask >= VOID] = 255
        pairs.append((image, mask))
    return pairs


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    # At half the size the mean of four pixels is what OpenCV's bilinear resizing gives.
    halved = (image.height, image.width) == (2 * size[0], 2 * size[1])
    return image.resize(size[::-1], Image.Resampling.BOX if halved else Image.Resampling.BILINEAR)


def cut(pair: Pair, crop: tuple[int, int], scales: tuple[float, float], rng: np.random.Generator) -> Pair:
    """A random piece at a random scale, mirrored half of the time; the scaled image must be as large as the crop."""
    image, mask = (Image.fromarray(array) for array in pair)
    scale = max(rng.uniform(*scales), crop[0] / image.height, crop[1] / image.width)
    height, width = crop[0] / scale, crop[1] / scale
    top, left = rng.uniform(0, image.height - height), rng.uniform(0, image.width - width)
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    image = np.asarray(image.resize(crop[::-1], Image.Resampling.BILINEAR, box=box))
    mask = np.asarray(mask.resize(crop[::-1], Image.Resampling.NEAREST, box=box))
    return (image[:, ::-1], mask[:, ::-1]) if rng.random() < 0.5 else (image, mask)


def batch_of(pairs: list[Pair]) -> Pair:
    """Normalized images float32 [B, H, W, 3], and masks int64 [B, H, W]."""
    return (np.stack([image for image, _ in pairs]) - MEAN) / STD, np.stack([mask for _, mask in pairs]).astype(
        np.int64
    )


def confusion_of(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """int64 [C, C]: rows are the truth, columns the prediction, of pixels whose truth is no 255."""
    counted = truth != 255
    pairs = truth[counted].astype(np.int64) * CLASSES + guess[counted]
    return np.bincount(pairs.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def scores_of(confusion: np.ndarray) -> dict[str, object]:
    """`miou`, `pixel_accuracy` and `iou` of each class; nan where a class is nowhere."""
    hits, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.divide(hits, union, out=np.full(CLASSES, np.nan), where=union > 0)
    return {"miou": float(np.nanmean(iou)), "pixel_accuracy": float(hits.sum() / confusion.sum()), "iou": iou.tolist()}


def rate_at(elapsed: float, peak: float, warmup: float) -> float:
    """The learning rate after a fraction of the time: a climb, then half a cosine to 0."""
    if elapsed < warmup:
        return peak * max(elapsed / warmup, 1e-3)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (elapsed - warmup) / (1 - warmup))))


def train(arguments: argparse.Namespace) -> dict[str, object]:
    """Trains for the given time; the record of the run."""
    import torch
    from torch_nets.unet import UNet, loss_of, make_optimizer

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    size, crop = tuple(arguments.size), tuple(arguments.crop)
    training, held_out = (read_split(arguments.folder, split, size) for split in ("train", arguments.split))
    net = UNet(CLASSES, arguments.width, arguments.depth).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(net, arguments.optimizer, arguments.learning_rate, arguments.weight_decay)
    order: list[int] = []

    def draw() -> Pair:
        chosen = []
        while len(chosen) < arguments.batch_size:
            if not order:
                order.extend(rng.permutation(len(training)).tolist())
            chosen.append(cut(training[order.pop()], crop, tuple(arguments.scales), rng))
        return batch_of(chosen)

    def tensor(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2)  # NHWC in memory, which is channels_last

    def score() -> dict[str, object]:
        net.eval()
        confusion = np.zeros((CLASSES, CLASSES), np.int64)
        with torch.inference_mode():
            for start in range(0, len(held_out), 8):
                images, masks = batch_of(held_out[start : start + 8])
                confusion += confusion_of(masks, net(tensor(images)).argmax(1).numpy())
        net.train()
        return scores_of(confusion)

    net.train()
    curve, losses, steps, spent = [], [], 0, 0.0
    next_score = arguments.eval_seconds
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(draw)
        while spent < arguments.seconds:
            started = time.perf_counter()
            images, masks = waiting.result()
            waiting = pool.submit(draw)
            for group in optimizer.param_groups:
                group["lr"] = rate_at(spent / arguments.seconds, arguments.learning_rate, arguments.warmup)
            net.zero_grad(set_to_none=True)
            loss = loss_of(net(tensor(images)), torch.from_numpy(masks), arguments.jaccard_weight)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            steps += 1
            spent += time.perf_counter() - started
            if spent >= min(next_score, arguments.seconds):
                report = score()
                curve.append({"seconds": spent, "step": steps, "loss": float(np.mean(losses)), "miou": report["miou"]})
                print(
                    f"{spent:7.0f} s, step {steps}: loss {np.mean(losses):.3f}, mIoU {report['miou']:.4f}, pixel "
                    f"accuracy {report['pixel_accuracy']:.4f}",
                    flush=True,
                )
                losses, next_score = [], spent + arguments.eval_seconds
    settings = {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in vars(arguments).items()}
    return {
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": steps,
        "images_per_second": steps * arguments.batch_size / spent,
        "settings": settings,
        "curve": curve,
        **report,
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults are those of the preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="CamVid's folder")
    parser.add_argument("--seconds", type=float, default=1200, help="of training")
    parser.add_argument("--eval-seconds", type=float, default=300, help="of training between two scores")
    parser.add_argument("--split", default="val", help="that is scored")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), help="height and width of images")
    parser.add_argument("--crop", type=int, nargs=2, default=(160, 208))
    parser.add_argument("--scales", type=float, nargs=2, default=(0.9, 1.5))
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--warmup", type=float, default=0.05, help="fraction of the time")
    parser.add_argument("--jaccard-weight", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, help="write the record to this file")
    return parser.parse_args(argv)


def main() -> None:
    """Train, print, write."""
    arguments = parse()
    record = train(arguments)
    print(
        f"{record['parameters']} parameters, {record['steps']} steps, {record['images_per_second']:.1f} images/s: "
        f"mIoU {record['miou']:.4f}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
