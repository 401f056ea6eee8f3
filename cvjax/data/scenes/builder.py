"""The TFDS builder of `scenes`. It prepares and reads without TensorFlow: images are handed over encoded."""

import contextlib
import io
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from cvjax.data.scenes import render
from cvjax.data.scenes.objects import CLASS_NAMES

_CHUNK = 8  # examples that a worker takes at once


def _one_thread() -> None:
    """A worker's set-up: the workers fill the cores, so OpenCV must not start threads of its own."""
    cv2.setNumThreads(1)


def encode_all(split: str, size: int, workers: int) -> Iterator[dict[str, Any]]:
    """Draw examples 0 .. size - 1 of a split in order, in `workers` processes (0: in this one).

    Processes are spawned, never forked: the caller may hold JAX's threads. As always with spawning, a script
    that gets here needs its `if __name__ == "__main__":`.
    """
    draw = partial(render.encode, split)
    if workers == 0:
        yield from map(draw, range(size))
        return
    with multiprocessing.get_context("spawn").Pool(workers, _one_thread) as pool:
        yield from pool.imap(draw, range(size), chunksize=_CHUNK)


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Drawn scenes for classification, segmentation and detection. `prepare_scenes` is the way to get it.

    Args:
        data_dir: where prepared sets lie.
        workers: processes that draw; 0 draws in this one. Never changes the result.
        sizes: examples per split; None for `render.SIZES`. Smaller sets are for tests.
        tick: called once after each example.
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
        workers: int = 0,
        sizes: Mapping[str, int] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self._workers = workers
        self._sizes = dict(render.SIZES if sizes is None else sizes)
        self._tick = tick or (lambda: None)
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=list(CLASS_NAMES))
        return self.dataset_info_from_configs(
            description=(
                "Drawn by cvjax itself: textured places, light, noise, occlusion and thin structures. Masks hold "
                "the class (0 background) or 255 on borders; `label` is the class of the largest object in sight."
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
        with contextlib.closing(encode_all(split, size, self._workers)) as examples:
            for index, example in enumerate(examples):
                example["image"] = io.BytesIO(example["image"])
                example["mask"] = io.BytesIO(example["mask"])
                example["objects"] = [
                    {**thing, "bbox": _bbox(thing["bbox"])} for thing in example["objects"]
                ]
                yield index, example
                self._tick()


def _bbox(box: tuple[float, float, float, float]) -> tfds.features.BBox:
    ymin, xmin, ymax, xmax = box
    return tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax)
