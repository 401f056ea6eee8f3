"""Says before a training what its settings leave out of the boxes of one's own data."""

from cvjax.data.dataset import Dataset
from cvjax.datasets.listing import listed
from cvjax.datasets.own.annotated.dataset import OwnDataset
from cvjax.datasets.own.parquet.dataset import ParquetDataset
from cvjax.errors import DataError
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.transforms import too_many_boxes


def training_warnings(config: DetectionConfig, dataset: Dataset) -> list[str]:
    """Returns what cannot be learned: classes without a box, and boxes beyond the number that an image may have.

    Args:
      config: Configuration of the run.
      dataset: Split that trains. Of data sets that do not tell their boxes without reading images nothing is said.
    """
    if not isinstance(dataset, OwnDataset | ParquetDataset):
        return []
    where, said = f"{config.input.manual_dir}, split {dataset.split}", []
    absent, counts = dataset.absent_classes(), dataset.box_counts()
    if absent:
        are = "is" if len(absent) == 1 else "are"
        said.append(
            f"{where}: {listed(absent)} {are} in none of the {len(dataset)} images and cannot be learned; mend the"
            " names if they are spelled otherwise there."
        )
    larger = sum(count > config.input.boxes for count in counts)
    if larger:
        said.append(
            f"{where}: in {larger} of the {len(dataset)} images are more boxes than --input.boxes {config.input.boxes},"
            f" and training leaves out the rest at random; --input.boxes {max(counts)} keeps all."
        )
    return said


def check_scored(limit: int, dataset: Dataset) -> None:
    """Checks that an evaluation has room for all boxes of each image.

    Raises:
      DataError: An image has more boxes than `limit`.
    """
    if not isinstance(dataset, OwnDataset):  # of others it is said when the image is read
        return
    counts = dataset.box_counts()
    if max(counts, default=0) > limit:
        raise DataError(too_many_boxes(dataset.ids()[counts.index(max(counts))], max(counts), limit))
