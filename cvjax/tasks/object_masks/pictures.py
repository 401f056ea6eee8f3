"""Draws the results of a run that learned masks inside boxes: a table, and the masks in their boxes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset
from cvjax.data.objects import MaskedObjects
from cvjax.engine.task import Report
from cvjax.ops.geometry import pair
from cvjax.runtime.compiler import compiled
from cvjax.tasks.examples import ROWS, decoded_examples
from cvjax.tasks.object_masks.paste import paste_masks
from cvjax.tasks.object_masks.transforms import pad_objects
from cvjax.tasks.scale_crop import resize_pair
from cvjax.visual.canvas import outline_boxes
from cvjax.visual.grid import Example, save_grid
from cvjax.visual.tables import report_markdown

if TYPE_CHECKING:
    from cvjax.tasks.object_masks.task import ObjectMasks


def headline(report: Report) -> str:
    """Returns the scores as one line."""
    return (
        f"mean IoU of a mask {report['mask_iou']:.4f}, above 0.5 {report['found_50']:.4f}, above 0.7"
        f" {report['found_70']:.4f} of {report['objects']} objects"
    )


def draw_report(folder: Path, report: Report) -> list[str]:
    """Writes report.md, the table of each class's IoU; returns its name."""
    (folder / "report.md").write_text(report_markdown(report))
    return ["report.md"]


def draw_examples(
    task: "ObjectMasks", folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset
) -> list[str]:
    """Writes predictions.png: images with their boxes, true and predicted masks; returns its name."""
    config = task.config
    variables, most, multiple = jax.device_put(variables), config.eval.boxes, config.eval.pad_multiple

    @compiled
    def masks(variables: dict[str, Any], images: jax.Array, boxes: jax.Array) -> jax.Array:
        predicted = task.predict(model, variables, (task.normalize(images), boxes))
        return paste_masks(predicted, boxes, pair(images.shape[1:3]))[0] > 0.5

    examples = []
    for record, example in decoded_examples(task, dataset, ROWS):
        image, objects = example["image"], example["objects"]
        if config.input.resize is not None:
            image, mask = resize_pair(image, objects.mask, config.input.resize)
            factors = np.divide(mask.shape, objects.mask.shape).astype(np.float32)
            objects = MaskedObjects(mask, objects.boxes * np.tile(factors[::-1], 2), objects.numbers, objects.labels)
        rows = pad_objects(objects.boxes[:most], objects.numbers[:most], objects.labels[:most], most)
        height, width = objects.mask.shape
        padding = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
        padded = np.pad(image, padding, mode="edge")
        found = np.asarray(masks(variables, padded[None], rows["boxes"][None]))[0, :, :height, :width]
        # Where masks overlap, the smaller box lies in front.
        count = min(most, len(objects.boxes))
        sides = rows["boxes"][:count, 2:] - rows["boxes"][:count, :2]
        prediction, truth = np.zeros((2, height, width), np.uint8)
        for box in np.argsort(-sides.prod(1), kind="stable"):
            label, (x0, y0, x1, y1) = rows["labels"][box], np.rint(rows["boxes"][box]).astype(int)
            prediction[found[box]] = label
            here = np.s_[y0:y1, x0:x1]
            truth[here][objects.mask[here] == rows["numbers"][box]] = label
        truth[objects.mask == task.ignore] = task.ignore
        picture = outline_boxes(image, rows["boxes"][:count], rows["labels"][:count].tolist())
        examples.append(Example(picture, truth, prediction, f"{record['id']}   {count} boxes"))
    titles = ("image and boxes", "ground truth", "masks inside the boxes")
    save_grid(folder / "predictions.png", examples, task.class_names, titles=titles)
    return ["predictions.png"]
