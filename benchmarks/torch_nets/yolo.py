"""YOLO v1 in plain PyTorch: the counterpart of `yolov1`, with its loss on targets that are coded beforehand."""

import numpy as np
import torch
from torch import nn

# Rows of (side of the kernel, features, stride); stages with pooling between them.
_STAGES = (
    ((7, 64, 2),),
    ((3, 192, 1),),
    ((1, 128, 1), (3, 256, 1), (1, 256, 1), (3, 512, 1)),
    (*((1, 256, 1), (3, 512, 1)) * 4, (1, 512, 1), (3, 1024, 1)),
    ((1, 512, 1), (3, 1024, 1)) * 2,
)
_NECK = ((3, 1024, 1), (3, 1024, 2), (3, 1024, 1), (3, 1024, 1))
GRID, EACH = 7, 2  # Cells along a side, boxes of a cell.


class YOLOv1(nn.Module):
    """[B, 3, 448, 448] to [B, 7, 7, 10 + K]: two rows of (x, y, w, h, confidence), and K classes."""

    def __init__(self, num_classes: int, hidden: int = 4096, dropout: float = 0.5):
        super().__init__()
        layers, before = [], 3
        for number, stage in enumerate((*_STAGES, _NECK)):
            if 0 < number < len(_STAGES):
                layers.append(nn.MaxPool2d(2, 2))
            for size, features, stride in stage:
                layers += [nn.Conv2d(before, features, size, stride, size // 2), nn.LeakyReLU(0.1, inplace=True)]
                before = features
        self.layers = nn.Sequential(*layers)
        self.fc1, self.dropout = nn.Linear(GRID * GRID * before, hidden), nn.Dropout(dropout)
        self.output = nn.Linear(hidden, GRID * GRID * (5 * EACH + num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.fc1(self.layers(images).flatten(1))
        x = self.output(self.dropout(nn.functional.leaky_relu(x, 0.1)))
        return x.view(len(images), GRID, GRID, -1)


def coded(boxes: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each cell is to learn of boxes [B, N, 4] on images of `side`: (x, y, w, h) in cells, label, whether any."""
    count, cell = len(boxes), side / GRID
    places = np.zeros((count, GRID, GRID, 4), np.float32)
    kinds, occupied = np.zeros((count, GRID, GRID), np.int64), np.zeros((count, GRID, GRID), bool)
    for image in range(count):
        for (left, top, right, bottom), label in zip(boxes[image][::-1] / cell, labels[image][::-1]):
            x, y = (left + right) / 2, (top + bottom) / 2
            place = image, min(int(y), GRID - 1), min(int(x), GRID - 1)  # The first of the list is written last.
            places[place] = x - place[2], y - place[1], (right - left) / GRID, (bottom - top) / GRID
            kinds[place], occupied[place] = label, True
    return places, kinds, occupied


def loss_of(predicted: torch.Tensor, places: torch.Tensor, kinds: torch.Tensor, occupied: torch.Tensor) -> torch.Tensor:
    """The sums of squares of the paper's equation 3, a mean over images; arguments are those of `coded`."""
    rows = predicted[..., : 5 * EACH].unflatten(-1, (EACH, 5))
    classes, wanted = predicted[..., 5 * EACH :], places[..., None, :]
    with torch.no_grad():
        overlaps = _iou(rows[..., :4], wanted)
        mine = torch.nn.functional.one_hot(overlaps.argmax(-1), EACH).bool() & occupied[..., None]
    roots = torch.cat([wanted[..., :2], wanted[..., 2:].sqrt()], -1)  # The net writes roots of sides.
    place = ((rows[..., :4] - roots).square().sum(-1) * mine).sum()
    sure = ((rows[..., 4] - overlaps).square() * mine).sum()
    unsure = (rows[..., 4].square() * ~mine).sum()
    truth = torch.nn.functional.one_hot(kinds, classes.shape[-1])
    kind = ((classes - truth).square().sum(-1) * occupied).sum()
    return (5.0 * place + sure + 0.5 * unsure + kind) / len(predicted)


def _iou(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    sides, theirs = rows[..., 2:].square() * GRID, wanted[..., 2:] * GRID
    low = torch.maximum(rows[..., :2] - sides / 2, wanted[..., :2] - theirs / 2)
    high = torch.minimum(rows[..., :2] + sides / 2, wanted[..., :2] + theirs / 2)
    both = (high - low).clamp(min=0).prod(-1)
    return both / (sides.prod(-1) + theirs.prod(-1) - both).clamp(min=1e-9)
