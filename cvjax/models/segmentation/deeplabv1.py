"""DeepLab v1 (Chen et al., 1412.7062): an atrous VGG-16 whose scores are enlarged to the image; then a dense CRF.

`deeplabv1_largefov_vgg16` is the paper's best: 3x3 taps with rate 12 and 1024 channels in the place of VGG's dense
layers. Its other nets are options:

    DeepLab (128 pixels of view)   kernel_size=4, aspp_rates=(4,), hidden=4096
    DeepLab-7x7                    kernel_size=7, aspp_rates=(4,), hidden=4096
    DeepLab-4x4                    kernel_size=4, aspp_rates=(8,), hidden=4096

The CRF is no part of the net: `--eval.crf v1`, or `cvjax.cli.crf`. `output_stride` 16 or 32 strides where the paper
dilates, which is the net to compare with.
"""

import jax

from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.atrous_vgg import OnVGG
from cvjax.ops.resize import enlarge_from_corner


class DeepLabV1(OnVGG):
    """Scores of an atrous VGG, bilinearly enlarged.

    Pixel (s * i, s * j) of the logits at output stride s is score (i, j) itself, so a loss on every eighth pixel
    (`loss_stride=8`) is the paper's, which trains against labels shrunk by 8.

    Attributes: those of `OnVGG`. The authors' net averages 3x3 pixels before fc6.
    """

    average: bool = True

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Segments images of any size.

        Args:
          images: [B, H, W, in_channels], floating point, normalised.
          train: dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          float32 logits [B, H, W, num_classes].

        Raises:
          ConfigError: images of another rank, type or number of channels, or without pixels.
        """
        stride = self.output_stride
        return enlarge_from_corner(self.score(images, train), images.shape[1:3], (stride, stride))


VARIANTS = (
    Variant(
        ModelInfo(
            name="deeplabv1_largefov_vgg16",
            task="segmentation",
            paper="1412.7062",
            year=2014,
            image_size=321,
            params=20_505_429,
            gmacs=None,
            params_classes=21,
        ),
        DeepLabV1,
        {},
    ),
)
