"""What DeepLab v3 and v3+ share: the auxiliary head, the pyramid, full-size logits."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.segmentation.aspp import ASPP, PAPER_RATES, aspp_rates
from cvjax.models.segmentation.dilated import DilatedNet
from cvjax.nn import ConvBNReLU, Dropout, TorchConv, gaussian
from cvjax.ops.resize import resize


class FCNHead(nn.Module):
    """torchvision's auxiliary head: a 3x3 convolution to a quarter of the channels, dropout, a classifier.

    Attributes:
      num_classes: channels of the logits.
      dropout: rate before the classifier.
      dtype, axis_name, bn_momentum, freeze_bn: as for `cvjax.nn.ConvBNReLU`.
    """

    num_classes: int
    dropout: float = 0.1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, num_classes]."""
        x = ConvBNReLU(
            x.shape[-1] // 4,
            3,
            dtype=self.dtype,
            axis_name=self.axis_name,
            bn_momentum=self.bn_momentum,
            freeze_bn=self.freeze_bn,
            name="conv",
        )(x, train)
        x = Dropout(self.dropout, self.axis_name, name="dropout")(x, train)
        return TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01), name="classifier")(x)


class DeepLab(DilatedNet):
    """A dilated backbone, a classifier at some resolution, and an auxiliary head; subclasses add `decode`.

    Attributes: those of `DilatedNet`, and
      aux: an auxiliary FCN head on stage3; its logits come with `train=True`, evaluation never computes it.
      aux_dropout: rate in the auxiliary head.
    """

    aux: bool = True
    aux_dropout: float = 0.1

    def setup(self) -> None:
        self.backbone = self.make_backbone()
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **self.layer_options())
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))

    def decode(self, maps: dict[str, jax.Array], train: bool) -> jax.Array:
        """The backbone's maps -> [B, h, w, C], the input of the classifier."""
        raise NotImplementedError

    def to_image(self, logits: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Logits at the resolution of `decode` -> [B, *size, num_classes]."""
        return resize(logits, size)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: [B, H, W, C], floating point, normalised.
          train: the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          float32 logits [B, H, W, num_classes]; with `train` and `aux`: (logits, {"aux": logits}).

        Raises:
          ConfigError: images of another rank, type or without pixels; with image pooling, a training batch of one
            image.
        """
        maps = self.backbone.features(images, train)
        head = self.classifier(self.decode(maps, train))
        size = images.shape[1:3]
        logits = self.to_image(head.astype(jnp.float32), size)
        # While initialising the head runs whatever `train` is, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits


class PyramidDeepLab(DeepLab):
    """With ASPP on the backbone's last map.

    With `train=True` the image-pooling branch needs at least two images in the (global) batch.

    Attributes: those of `DeepLab`, and
      aspp_features: channels of ASPP and of the layers after it.
      aspp_rates: dilations of ASPP's atrous branches at output stride 16. The paper's suit crops of about 513 pixels;
        on a map that a rate does not fit, its branch is a 1x1 convolution.
      separable_aspp: atrous separable convolutions in ASPP (v3+ with Xception).
      dropout: rate after ASPP.
    """

    aspp_features: int = 256
    aspp_rates: tuple[int, ...] = PAPER_RATES
    separable_aspp: bool = False
    dropout: float = 0.5

    def setup(self) -> None:
        super().setup()
        self.aspp = ASPP(
            self.aspp_features,
            aspp_rates(self.output_stride, self.aspp_rates),
            self.separable_aspp,
            self.dropout,
            **self.layer_options(),
        )
