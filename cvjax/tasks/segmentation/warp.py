"""Augments microscopy images on the host: elastic deformation, quarter turns, mirror images, mirrored surroundings.

All changes of geometry are one map from the crop's pixels to the source's. Image and mask are sampled once by it: the
image with bilinear interpolation, the mask at the nearest pixel. Images are mirrored beyond their border; that part
does not train.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction

import cv2
import numpy as np

from cvjax.errors import ConfigError
from cvjax.tasks.scale_crop import ScaleAndCrop, resize_pair, scaled_size
from cvjax.tasks.segmentation.transforms import SegmentationData
from cvjax.tasks.segmentation.weight_maps import loss_weights

_NODES = 3
"""Nodes of the coarse grid of displacements, along each axis."""
_BORDER = cv2.BORDER_REFLECT_101


@dataclasses.dataclass(frozen=True)
class WarpTransform(ScaleAndCrop):
    """Applies random scale, position, mirroring, quarter turn and elastic deformation; computes loss weights.

    The displacements of the deformation lie on a grid of 3x3 nodes over the crop. They are interpolated bicubically
    between the nodes (U-Net, 1505.04597). With a border weight an example has a `weight`, float32 of the mask's shape,
    see `cvjax.tasks.segmentation.weight_maps`. The cells are then the connected components of the transformed crop.

    Attributes: those of `ScaleAndCrop` (`fill` is not used, since the surroundings are mirrored), and
      data: Size, scale, turns and deformation.
      margin: Number of pixels on every side of the image that the mask lacks, for nets without padding. The image has
        the size of `crop`, and the mask is two margins smaller. The mask's position is random within the source if it
        fits.
      class_weights: Weight of each class's pixels in the loss; None gives all the weight 1.

    Raises:
      ConfigError: A value is outside its range.
    """

    data: SegmentationData
    margin: int = 0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = self.data.crop
        if self.margin < 0 or min(height, width) <= 2 * self.margin:
            raise ConfigError(
                f"the net loses {self.margin} pixels on every side and the crop is {height}x{width}: give "
                f"a crop above {2 * self.margin}."
            )

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
        """Transforms `image`, uint8 [H, W, 3], and `mask`, uint8 [H, W].

        Returns:
          The image, uint8 [*crop, 3]; the mask, uint8, two margins smaller; and `weight` if there is a border weight.
        """
        if self.data.resize is not None:
            image, mask = resize_pair(image, mask, self.data.resize)
        rows, columns = self._draw_map(mask.shape, rng)
        seen = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=_BORDER)
        inner = tuple(slice(self.margin, side - self.margin) for side in self.data.crop)
        # Half up, as nearest centers go elsewhere; cvRound's half to even would favor every other pixel at scale 2.
        y, x = (np.floor(where[inner] + 0.5).astype(np.int64) for where in (rows, columns))
        outside = (y < 0) | (y >= mask.shape[0]) | (x < 0) | (x >= mask.shape[1])
        labels = mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
        labels = np.where(outside, np.uint8(self.ignore), labels)
        if not self.data.border_weight:
            return seen, labels, {}
        data = self.data
        weight = loss_weights(labels, data.cells, data.border_weight, data.border_sigma, self.class_weights)
        return seen, labels, {"weight": weight}

    def _draw_map(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws the source's row and column, float32 [*crop] each, at which every pixel of the crop is sampled."""
        # As many draws whatever their outcome, so that the example's random stream does not depend on its size.
        scale = self._draw_scale(rng)
        corner = [
            int(rng.integers(0, max(have - want + 2 * self.margin, 0) + 1)) - self.margin
            for have, want in zip(scaled_size(size, scale), self.data.crop)
        ]
        mirrored, flipped = rng.random() < self.data.flip, rng.random() < self.data.flip_vertical
        turns = int(rng.integers(4)) if self.data.rotate else 0
        rows, columns = np.meshgrid(*(np.arange(side, dtype=np.float64) for side in self.data.crop), indexing="ij")
        if self.data.elastic:
            nodes = rng.normal(0.0, self.data.elastic, (2, _NODES, _NODES))
            down, right = (cubic_matrix(_NODES, side) for side in self.data.crop)
            rows, columns = rows + down @ nodes[0] @ right.T, columns + down @ nodes[1] @ right.T
        rows, columns = self._to_source(rows, corner[0], scale), self._to_source(columns, corner[1], scale)
        for where in (rows, columns):
            where[:] = where[::-1] if flipped else where
            where[:] = where[:, ::-1] if mirrored else where
            where[:] = np.rot90(where, turns)
        return rows.astype(np.float32), columns.astype(np.float32)

    @staticmethod
    def _to_source(where: np.ndarray, corner: int, scale: Fraction) -> np.ndarray:
        return (where + corner + 0.5) / float(scale) - 0.5


def cubic_matrix(nodes: int, size: int) -> np.ndarray:
    """Computes the weights of cubic convolution (Keys, 1981, a = -1/2) along an axis, float64 [size, nodes].

    The first and the last node lie on the first and the last pixel. Beyond them the curve is extended by a straight
    line, so a straight line through the nodes stays one.
    """
    points = np.linspace(0, nodes - 1, size)[:, None] - np.arange(-1, nodes + 1)
    near, t = np.abs(points) <= 1, np.abs(points)
    weights = np.where(near, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2) * (t < 2)
    inside = weights[:, 1:-1].copy()
    inside[:, [0, 1]] += weights[:, :1] * (2, -1)
    inside[:, [-1, -2]] += weights[:, -1:] * (2, -1)
    return inside
