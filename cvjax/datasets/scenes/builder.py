"""This module has the TFDS builder of `scenes`.

It prepares and reads without TensorFlow: images are handed over encoded.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cvjax.datasets.scenes import render
from cvjax.datasets.scenes.objects import CLASS_NAMES

Encode = Callable[[str, int], Iterable[dict[str, Any]]]
"""Function from (split, size) to the examples 0 .. size - 1 in order, each as `render.encode` gives it."""


def serial(split: str, size: int) -> Iterator[dict[str, Any]]:
    """Draws a split in this process."""
    return (render.encode(split, index) for index in range(size))


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Builds drawn scenes for classification, segmentation and detection. Call `prepare_scenes` to get it.

    Args:
      data_dir: Folder of prepared datasets.
      sizes: Number of examples of each split; None for `render.SIZES`. Smaller datasets are for tests.
      encode: Function that draws a split; `serial`, or the same spread over processes.
      tick: Function to call once after each example.
    """

    name = "scenes"
    VERSION = tfds.core.Version(render.VERSION)
    RELEASE_NOTES = {"1.0.0": "First release: 14 classes, 2400 / 300 / 300 examples."}  # noqa: RUF012

    # Nothing is downloaded, so there are no checksums. TFDS would look for their file by way of
    # importlib_resources, which it imports without requiring it.
    url_infos = None

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str],
        sizes: Mapping[str, int] | None = None,
        encode: Encode = serial,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self._encode = encode
        self._sizes = dict(render.SIZES if sizes is None else sizes)
        self._tick = tick or (lambda: None)
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=list(CLASS_NAMES))
        return self.dataset_info_from_configs(
            description=(
                "Drawn by cvjax itself: textured places, light, noise, occlusion and thin structures. Masks "
                "hold the class (0 background) or 255 on borders; `label` is the class of the largest object "
                "in sight."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "objects": tfds.features.Sequence(
                        {"bbox": tfds.features.BBoxFeature(), "label": label, "is_difficult": np.bool_}
                    ),
                    "label": label,
                    "id": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,  # record i of a split is example i
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split, size) for split, size in self._sizes.items()}

    def _generate_examples(self, split: str, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, example in enumerate(self._encode(split, size)):
            example["image"] = io.BytesIO(example["image"])
            example["mask"] = io.BytesIO(example["mask"])
            example["objects"] = [{**thing, "bbox": _bbox(thing["bbox"])} for thing in example["objects"]]
            yield index, example
            self._tick()


def _bbox(box: tuple[float, float, float, float]) -> tfds.features.BBox:
    ymin, xmin, ymax, xmax = box
    return tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax)
