"""SPPnet (He, Zhang, Ren and Sun, 1406.4729): one pass of the convolutions, and a pyramid of bins over each window.

The image is brought to several scales. Each window is read from the scale where its area comes nearest to the 224x224
pixels that the net was trained with. A window of the image becomes a window of the last map by the paper's rule
(appendix): its first row and column there are floor(x / 16) + 1, and its last ones ceil(x / 16) - 1. These are the
pixels whose receptive fields are centered within the window. The maximum over the bins of grids of 1, 2, 3 and 6 a side
turns it into a vector of 50 bins.

Fine-tuning stops at that vector, as in the paper: convolutions stay as they are.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.classification import zfnet
from cvjax.models.detection.region_classifier import STRIDE, cut_of
from cvjax.models.detection.staged import Description, StagedDetector
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.ops.detection.boxes import area
from cvjax.ops.detection.roi import roi_pool
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize

_ZFNET_SPP = next(row.module(0, **row.settings) for row in zfnet.VARIANTS if row.info.name == "zfnet_spp")
PAPER_SCALES = (480, 576, 688, 864, 1200)


class SPPNet(StagedDetector):
    """Detects objects by a classifier of windows of maps.

    Its other attributes are those of `StagedDetector`.

    Attributes:
      scales: Lengths in pixels that the shorter side of the images, with their padding, is brought to.
      canonical_size: Side of the square that a window's area should come near to, in pixels.
      train_convolutions: Let gradients into the convolutions; the paper does not.
      map_start: Pixel of the image that the first pixel of the map is centered on, at every scale. It is 20 with the
        paddings of SPP_net's own nets.
    """

    backbone: nn.Module = default_module(_ZFNET_SPP)
    bg_iou_low: float = 0.1
    scales: tuple[int, ...] = PAPER_SCALES
    canonical_size: float = 224.0
    train_convolutions: bool = False
    map_start: float = 0.0

    def setup(self) -> None:
        super().setup()
        if not getattr(self.backbone, "pyramid", ()):
            raise ConfigError(
                f"the backbone {type(self.backbone).__name__} has no spatial pyramid pooling; zfnet_spp has"
            )
        if not self.scales or min(self.scales) < 1:
            raise ConfigError(f"scales are lengths of the shorter side in pixels, one or more, not {self.scales}")

    def describe(self, images: jax.Array, sizes: jax.Array, boxes: jax.Array, train: bool = False) -> Description:
        """Describes regions, see `StagedDetector.describe`; `pooled` is the pyramid's vector."""
        check_images(images, self.in_channels)
        frame = images.shape[1:3]
        name = cut_of(self.backbone).level
        targets = [pair(round(side * scale / min(frame)) for side in frame) for scale in self.scales]
        maps = [self.backbone.features(resize(images, target), train)[name] for target in targets]
        if not self.train_convolutions:
            maps = jax.lax.stop_gradient(maps)

        # Each image's maps of all scales in one array, padded at the end where no window reaches.
        most = [max(m.shape[axis] for m in maps) for axis in (1, 2)]
        padded = [jnp.pad(m, ((0, 0), *((0, n - s) for n, s in zip(most, m.shape[1:3])), (0, 0))) for m in maps]
        factors = jnp.asarray([[t[1] / frame[1], t[0] / frame[0]] * 2 for t in targets], jnp.float32)
        chosen = nearest_scale(boxes, factors, self.canonical_size)
        limits = jnp.asarray([m.shape[1:3] for m in maps], jnp.int32)
        windows = project_windows(boxes * factors[chosen] - self.map_start, STRIDE, limits[chosen])
        pool = partial(pyramid_pool, levels=self.backbone.pyramid)
        pooled = jax.vmap(pool)(jnp.stack(padded, axis=1), windows, chosen)
        hidden = self.backbone.head(pooled.reshape(-1, 1, 1, pooled.shape[-1]), train)
        shape = (*boxes.shape[:2], -1)
        return Description(*(x.reshape(shape).astype(jnp.float32) for x in (pooled, hidden)))


def nearest_scale(boxes: jax.Array, factors: jax.Array, canonical_size: float = 224.0) -> jax.Array:
    """Returns the scale at which the area of each box is nearest to that of a square.

    Args:
      boxes: Boxes [..., 4].
      factors: Factors [S, 4] on the coordinates at each scale.
      canonical_size: Side of the square in pixels.

    Returns:
      Numbers of scales, int32 [...]; the first one where several are equally near.
    """
    areas = area(boxes[..., None, :] * jnp.expand_dims(factors, range(boxes.ndim - 1)))
    return jnp.argmin(jnp.abs(areas - canonical_size**2), axis=-1).astype(jnp.int32)


def project_windows(boxes: jax.Array, stride: int, limits: jax.Array) -> jax.Array:
    """Turns windows of an image into windows of a map whose pixel j is centered on pixel stride * j of the image.

    Along each axis the first pixel is floor(first / stride) + 1 and the last is ceil(last / stride) - 1, where `first`
    and `last` are the box's first and last pixel. A box in which no pixel of the map is centered gets the pixel nearest
    to its middle.

    Args:
      boxes: Boxes [..., 4], half-open, in pixels of the image at its scale.
      stride: Pixels of the image per pixel of the map.
      limits: Height and width of the map, int [..., 2].

    Returns:
      Windows, int32 [..., 4]: (left, top, right, bottom), the columns and rows of the corners, which belong to the
      window.
    """
    first, last = boxes[..., :2], boxes[..., 2:] - 1
    near, far = jnp.floor(first / stride) + 1, jnp.ceil(last / stride) - 1
    middle = jnp.round((first + last) / (2 * stride))
    empty = far < near
    corners = jnp.concatenate([jnp.where(empty, middle, near), jnp.where(empty, middle, far)], axis=-1)
    most = (limits[..., ::-1] - 1).astype(corners.dtype)
    return jnp.clip(corners, 0, jnp.concatenate([most, most], axis=-1)).astype(jnp.int32)


def pyramid_pool(maps: jax.Array, windows: jax.Array, index: jax.Array, *, levels: tuple[int, ...]) -> jax.Array:
    """Pools windows of maps over a spatial pyramid; `cvjax.nn.SpatialPyramidPool` pools whole maps.

    Bin i of n along a side of m pixels holds the pixels from floor(i * m / n) to ceil((i + 1) * m / n). So a bin of a
    coarse grid is a union of bins of any grid that divides it. The coarse grids of the paper's pyramid are read from
    the finest.

    Args:
      maps: Maps [S, H, W, D].
      windows: Windows, int32 [R, 4], see `project_windows`.
      index: Number of the map that each window is on, int [R].
      levels: Number of bins along each side, one for each grid.

    Returns:
      Vectors [R, sum of squared levels * D]: grid by grid, bins in rows from the top, then channels.
    """
    finest = max(levels)
    grids = {n: _grid(maps, windows, index, n) for n in {n for n in levels if finest % n} | {finest}}
    for level in set(levels) - set(grids):
        step = finest // level
        blocks = grids[finest].reshape(-1, level, step, level, step, maps.shape[-1])
        grids[level] = blocks.max((2, 4))
    return jnp.concatenate([grids[level].reshape(len(windows), -1) for level in levels], axis=-1)


def _grid(maps: jax.Array, windows: jax.Array, index: jax.Array, bins: int) -> jax.Array:
    return roi_pool(maps, windows.astype(jnp.float32), index, (bins, bins))


VARIANTS = (
    Variant(
        ModelInfo(
            name="sppnet_zf5",
            task="detection",
            paper="1406.4729",
            year=2014,
            image_size=688,
            params=74_132_729,
            gmacs=None,
            params_classes=20,
        ),
        SPPNet,
        {},
    ),
)
