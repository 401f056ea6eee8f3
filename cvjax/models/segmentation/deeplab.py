"""What DeepLab v3 and v3+ share: fields, the dilated backbone, the auxiliary head, full-size logits."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.resnet import ResNet
from cvjax.models.segmentation.aspp import ASPP, PAPER_RATES, aspp_rates
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


class DeepLab(nn.Module):
    """A ResNet with dilated late stages, and ASPP on top; subclasses add `decode`.

    What may come from ImageNet lies under `backbone` in `params` and `batch_stats`; the rest is head.
    With `train=True` the image-pooling branch needs at least two images in the (global) batch.

    Attributes:
      num_classes: channels of the logits.
      stage_sizes, bottleneck, width, multi_grid, deep_stem, zero_gamma: of the backbone, see `ResNet`.
      output_stride: pixels of the input per pixel of the deepest map: 8, 16 or 32. The ASPP rates follow it,
        and parameters do not depend on it, so a model may train at 16 and be evaluated at 8.
      aux: an auxiliary FCN head on stage3; its logits come with `train=True`, evaluation never computes it.
      aspp_features: channels of ASPP and of the layers after it.
      aspp_rates: dilations of ASPP's atrous branches at output stride 16. The paper's suit crops of about 513 pixels;
        on a map that a rate does not fit, its branch is a 1x1 convolution.
      separable_aspp: atrous separable convolutions in ASPP (v3+ with Xception).
      dropout: rate after ASPP.
      aux_dropout: rate in the auxiliary head.
      dtype: of the computation; parameters, statistics, resizing and logits are float32.
      axis_name: the device axis under pmap: global BatchNorm statistics, and the same dropout masks.
      bn_momentum: decay of BatchNorm's running averages (DeepLab: 0.9997).
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 1, 1)
    deep_stem: bool = False
    zero_gamma: bool = False
    aux: bool = True
    aspp_features: int = 256
    aspp_rates: tuple[int, ...] = PAPER_RATES
    separable_aspp: bool = False
    dropout: float = 0.5
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        self.backbone = ResNet(
            num_classes=0,
            stage_sizes=self.stage_sizes,
            bottleneck=self.bottleneck,
            width=self.width,
            output_stride=self.output_stride,
            multi_grid=self.multi_grid,
            deep_stem=self.deep_stem,
            zero_gamma=self.zero_gamma,
            **self.layer_options(),
        )
        self.aspp = ASPP(
            self.aspp_features,
            aspp_rates(self.output_stride, self.aspp_rates),
            self.separable_aspp,
            self.dropout,
            **self.layer_options(),
        )
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **self.layer_options())
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))

    def layer_options(self) -> dict[str, Any]:
        """The fields that every block of layers takes."""
        return {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "bn_momentum": self.bn_momentum,
            "freeze_bn": self.freeze_bn,
        }

    def decode(self, maps: dict[str, jax.Array], pyramid: jax.Array, train: bool) -> jax.Array:
        """The backbone's maps and ASPP's output -> [B, h, w, C], the input of the classifier."""
        raise NotImplementedError

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The backbone's maps, see `ResNet.features`."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: [B, H, W, C], floating point, normalised.
          train: the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          float32 logits [B, H, W, num_classes]; with `train` and `aux`: (logits, {"aux": logits}).

        Raises:
          ConfigError: images of another rank, type or without pixels; a training batch of one image.
        """
        maps = self.backbone.features(images, train)
        head = self.classifier(self.decode(maps, self.aspp(maps["stage4"], train), train))
        size = images.shape[1:3]
        logits = resize(head.astype(jnp.float32), size)
        # While initialising the head runs whatever `train` is, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits
