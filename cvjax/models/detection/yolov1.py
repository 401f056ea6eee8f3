"""YOLO (Redmon, Divvala, Girshick and Farhadi, 1506.02640): one pass from the image to boxes, without proposals.

A grid of cells lies over the image. Convolutions and two dense layers, which see the whole image, predict two boxes for
each cell, a confidence for each box, and the class that an object in the cell would have. `yolov1` has 24 convolutions.
`yolov1_tiny`, the paper's Fast YOLO, has 9, and a narrow linear layer before the dense ones, as its published
configuration does.

The first 20 (7) convolutions are `backbone`. They start from a classifier, `darknet_yolov1` (`darknet_yolov1_tiny`),
see `cvjax.weights.warm_start`. Training takes the streams `sample` and `dropout`.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.darknet_yolov1 import TINY, ConvLeaky, DarknetYOLO, Stage, leaky, scaled
from cvjax.models.classification.darknet_yolov1 import total_stride as stride_of
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.yolo_grid import Grid, Predictions, decode, encode, losses
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.nn import BatchNormOptions, Conv, Dropout, gaussian, he_normal, row_keys
from cvjax.ops.detection import boxes as box_ops
from cvjax.ops.detection.nms import nms
from cvjax.ops.geometry import pair


class YOLOv1(nn.Module):
    """Detects objects by convolutions and dense layers that fill a grid, and by suppression in each class.

    A cell is a pixel of the last map: 64 pixels of the image with the default stages. The dense layers fix the number
    of cells when parameters are made. So images must have sizes that give `grid`: 385 to 448 pixels a side for 7x7.
    Other sizes need another net. With `fully_convolutional` images may have any size, and each cell sees only the
    receptive field of the convolutions.

    Attributes:
      num_classes: Number of classes of objects, without background.
      backbone: Convolutions that a classifier was trained for, see `DarknetYOLO`.
      in_channels: Channels of the images.
      neck: Rows of (side of the kernel, features, stride): the convolutions behind the backbone.
      width: Factor on the features of all convolutions.
      grid: Rows and columns of cells. The sides of boxes are predicted as fractions of rows * 64 and columns * 64
        pixels (for a stride of 64), also where a fully convolutional net sees more cells.
      boxes_per_cell: Number of boxes of a cell, B.
      squeeze: Features of a linear layer before the dense ones; 0 has none.
      hidden: Features of the first dense layer (of a 3x3 convolution, if fully convolutional).
      fully_convolutional: Use convolutions in the place of the dense layers, for images of any size.
      batch_norm: Normalize after every convolution. The paper does not; it lets such a net train from scratch.
      dropout: Rate of dropout behind the first dense layer.
      coord_weight: Weight of the losses of coordinates and sizes.
      no_object_weight: Weight of the loss of confidences without an object.
      nms_threshold: IoU above which the worse of two boxes of a class is dropped.
      score_threshold: Score that a detection must exceed.
      max_detections: Largest number of detections of an image, K of `Detections`.
      dtype: Type of the computation, but for the last layer; parameters, boxes, scores and losses are float32.
      norm: Options of the BatchNorms.
    """

    display_threshold = 0.2  # A product of two regressed numbers is below either; this is darknet's choice.

    num_classes: int
    backbone: DarknetYOLO = default_module(DarknetYOLO(0))
    in_channels: int = 3
    neck: Stage = ((3, 1024, 1), (3, 1024, 2), (3, 1024, 1), (3, 1024, 1))
    width: float = 1.0
    grid: tuple[int, int] = (7, 7)
    boxes_per_cell: int = 2
    squeeze: int = 0
    hidden: int = 4096
    fully_convolutional: bool = False
    batch_norm: bool = False
    dropout: float = 0.5
    coord_weight: float = 5.0
    no_object_weight: float = 0.5
    nms_threshold: float = 0.5
    score_threshold: float = 0.001
    max_detections: int = 100
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(
            self,
            in_channels=self.in_channels,
            width=self.width,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
            norm=self.norm,
        )
        super().__post_init__()

    def setup(self) -> None:
        if min(self.num_classes, self.boxes_per_cell, self.max_detections, *self.grid) < 1:
            raise ConfigError("num_classes, boxes_per_cell, max_detections and both sides of the grid are 1 or more")
        if self.fully_convolutional and self.squeeze:
            raise ConfigError("squeeze is a dense layer, and a fully convolutional net has none; set it to 0")
        common = {"batch_norm": self.batch_norm, "dtype": self.dtype, "norm": self.norm}
        self.necks = [ConvLeaky(scaled(wide, self.width), side, step, **common) for side, wide, step in self.neck]
        self.drop = Dropout(self.dropout)
        of_cell = 5 * self.boxes_per_cell + self.num_classes
        self.fc1: Any  # of one kind or the other
        if self.fully_convolutional:
            self.fc1 = ConvLeaky(self.hidden, 3, **common)
            self.output = Conv(of_cell, (1, 1), kernel_init=gaussian(0.01))
            return
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=he_normal("fan_in"))
        if self.squeeze:
            self.fc0 = dense(self.squeeze)
        self.fc1 = dense(self.hidden)
        self.output = nn.Dense(self.grid[0] * self.grid[1] * of_cell, kernel_init=gaussian(0.01))

    @property
    def stride(self) -> int:
        """Returns the side of a cell in pixels."""
        return stride_of((*self.backbone.stages, self.neck)) // 2  # no pooling lies before the neck

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `DarknetYOLO.features`, and `neck`, the map of the last convolution.

        Each pixel of `neck` is a cell.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        maps = self.backbone.features(images, train)
        *_, x = maps.values()
        for conv in self.necks:
            x = conv(x, train)
        return maps | {"neck": x}

    def predict(self, images: jax.Array, train: bool = False) -> Predictions:
        """Predicts boxes [B, R, C, b, 4], confidence [B, R, C, b] and classes [B, R, C, K], float32.

        These are the linear outputs of the last layer. A dense layer has them in darknet's order: all classes, all
        confidences, all boxes.

        Raises:
          ConfigError: Images that the net cannot take. The message names the nearest sizes that it can take.
        """
        check_images(images, self.in_channels)
        cells = self._cells(pair(images.shape[1:3]))
        x = self.features(images, train)["neck"]
        if self.fully_convolutional:
            x = self.output(self.drop(self.fc1(x, train), train).astype(jnp.float32))
        else:
            x = x.reshape(x.shape[0], -1)
            x = leaky(self.fc1(self.fc0(x) if self.squeeze else x))
            x = self.output(self.drop(x, train).astype(jnp.float32))
        each, count = self.boxes_per_cell, 1 if self.fully_convolutional else cells[0] * cells[1]
        ends = count * self.num_classes, count * (self.num_classes + each)
        classes, confidence, boxes = jnp.split(x, ends, axis=-1)
        shape = x.shape[0], *cells
        return Predictions(
            boxes.reshape(*shape, each, 4), confidence.reshape(*shape, each), classes.reshape(*shape, -1)
        )

    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array | None = None,
        proposals: Proposals | None = None,
        truth: Truth | None = None,
        train: bool = False,
    ) -> Detections | dict[str, jax.Array]:
        """Detects objects, or with `truth` returns the losses.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          sizes: Height and width of the real part of each image, int [B, 2]; None means that there is no padding.
          proposals: Proposals for other systems; None here.
          truth: Objects of the images.
          train: Use dropout, and the batch's statistics where there is BatchNorm. Of several objects in a cell, take
            one at random instead of the first.

        Returns:
          `Detections`. The score is a class's probability times the confidence; values below 0 count as 0. With `truth`
          it is {"coordinates", "sizes", "objectness", "no_object", "classes"}, float32 [B], weighed, see
          `yolo_grid.losses`.

        Raises:
          ConfigError: Images that the net cannot take (see `predict`), proposals, or training without truth.
        """
        if proposals is not None:
            raise ConfigError("YOLO finds objects without proposals; leave them out")
        if train and truth is None:
            raise ConfigError("training needs the objects: pass truth")
        predictions = self.predict(images, train)
        cells = self._cells(pair(images.shape[1:3]))
        grid = Grid(*cells, self.stride, *(side * self.stride for side in self.grid))
        if sizes is None:
            sizes = jnp.broadcast_to(jnp.asarray(images.shape[1:3]), (images.shape[0], 2))
        if truth is None:
            return jax.vmap(partial(self._detect, grid=grid))(predictions, sizes)
        truth = self._shuffled(truth) if train else truth
        targets = jax.vmap(partial(encode, grid=grid))(truth, sizes)
        weights = {"coord_weight": self.coord_weight, "no_object_weight": self.no_object_weight}
        return jax.vmap(partial(losses, grid=grid, **weights))(predictions, targets)

    def _cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the rows and columns of cells over an image."""
        stride, sides = self.stride, tuple(self.grid)
        cells = pair(-(-side // stride) for side in size)
        if not self.fully_convolutional and cells != sides:
            least, most = (tuple(stride * s - d for s in sides) for d in (stride - 1, 0))
            nearest = "x".join(str(min(max(side, a), b)) for side, a, b in zip(size, least, most))
            raise ConfigError(
                f"dense layers for {sides[0]}x{sides[1]} cells of {stride} pixels take images of {least[0]}x{least[1]} "
                f"to {most[0]}x{most[1]} pixels, not {size[0]}x{size[1]}; the nearest size is {nearest}. Or build the "
                f"net with grid={cells}, or for any size with fully_convolutional=True"
            )
        return cells

    def _shuffled(self, truth: Truth) -> Truth:
        """Shuffles each image's objects; the order depends on the image's row in the global batch."""
        count, objects = truth.valid.shape
        keys = row_keys(self, "sample", count)
        order = jax.vmap(lambda key: jax.random.permutation(key, objects))(keys)
        return jax.tree.map(lambda array: jax.vmap(lambda a, o: a[o])(array, order), truth)

    def _detect(self, predictions: Predictions, size: jax.Array, grid: Grid) -> Detections:
        """Detects the objects of one image: suppression class by class, then the best of all classes."""
        boxes = box_ops.clip(decode(predictions.boxes, grid), (size[0], size[1])).reshape(-1, 4)
        scores = nn.relu(predictions.confidence)[..., None] * nn.relu(predictions.classes)[..., None, :]
        scores = jnp.where(box_ops.area(boxes) > 0, scores.reshape(-1, self.num_classes).T, -jnp.inf)
        of_class = partial(
            nms,
            boxes,
            iou_threshold=self.nms_threshold,
            max_output=min(self.max_detections, len(boxes)),
            score_threshold=self.score_threshold,
        )
        kept = jax.vmap(of_class)(scores)
        count = min(self.max_detections, kept.valid.size)
        best, places = jax.lax.top_k(jnp.where(kept.valid, kept.scores, -jnp.inf).reshape(-1), count)
        valid = best > -jnp.inf
        boxes = boxes[kept.indices.reshape(-1)[places]]
        classes = (places // kept.valid.shape[1]).astype(jnp.int32)
        found = Detections(
            jnp.where(valid[:, None], boxes, 0), jnp.where(valid, best, 0), jnp.where(valid, classes, 0), valid
        )
        rest = self.max_detections - count
        return jax.tree.map(lambda a: jnp.pad(a, ((0, rest), *((0, 0),) * (a.ndim - 1))), found)


def _variant(name: str, params: int, **settings: Any) -> Variant:
    info = ModelInfo(
        name=name,
        task="detection",
        paper="1506.02640",
        year=2015,
        image_size=448,
        params=params,
        gmacs=None,
        params_classes=20,
    )
    return Variant(info, YOLOv1, settings)


VARIANTS = (
    _variant("yolov1", 271_703_550),
    _variant("yolov1_tiny", 45_089_374, backbone=DarknetYOLO(0, stages=TINY), neck=((3, 1024, 1),) * 2, squeeze=256),
)
