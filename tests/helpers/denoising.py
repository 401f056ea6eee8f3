"""A task that cvjax does not have, written as a user would write one: a net that takes noise out of pictures."""

import dataclasses
import functools
from typing import ClassVar

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.data.decode import decode_example
from cvjax.engine.config import RunConfig
from cvjax.nn import BatchNorm, TorchConv
from cvjax.tasks.images import ImageTask
from cvjax.tasks.scale_crop import EvalTransform, ScaleAndCropData, TrainTransform


class Denoiser(nn.Module):
    """Two convolutions that guess the noise [B, H, W, 3]."""

    width: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = TorchConv(self.width, 5, padding=2)(images)
        x = nn.relu(BatchNorm(momentum=0.8)(x, not train))
        return TorchConv(3, 5, padding=2, kernel_init=nn.initializers.zeros)(x)


@dataclasses.dataclass(frozen=True)
class Net:
    """The architecture in a configuration."""

    name: str = "denoiser"
    width: int = 8

    def build(self, num_classes: int) -> Denoiser:
        return Denoiser(self.width)


@dataclasses.dataclass(frozen=True)
class DenoisingConfig(RunConfig):
    """A run; `noise` is the standard deviation, in units of 0..255."""

    task: ClassVar[str] = "denoising:Denoising"
    model: Net = Net()
    noise: float = 40.0
    input: ScaleAndCropData = ScaleAndCropData(crop=(48, 48))


@dataclasses.dataclass(frozen=True)
class Denoising(ImageTask):
    """Learns by the mean squared error; scored by the peak signal-to-noise ratio (PSNR), in dB."""

    name, target, metric, config_class = "denoising", "mask", "psnr", DenoisingConfig

    def decoder(self):
        return functools.partial(decode_example, num_classes=self.num_classes)

    def train_transform(self):
        return TrainTransform(self.config.input, self.fill)

    def eval_buckets(self, dataset):
        return EvalTransform((96, 96), self.fill, resize=(96, 96)), None

    def prepare(self, batch, key):
        images = self.images(batch, key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0) if key is None else key, batch["index"])
        draw = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:]) * self.config.noise)
        noise = draw(keys) / jnp.asarray([[[self.std]]])
        return images + noise, {**batch, "noise": noise}

    def loss(self, outputs, targets):
        errors = jnp.square(outputs - targets["noise"]).mean((1, 2, 3))
        return jnp.where(targets["valid"], errors, 0).sum(), {}

    def predict(self, model, variables, inputs):
        return inputs - model.apply(variables, inputs)

    def update(self, predictions, batch):
        errors = ((predictions - self.normalize(batch["image"])) * jnp.asarray([[[self.std]]]) / 255) ** 2
        errors = jnp.where(batch["valid"], errors.mean((1, 2, 3)), 0)
        return {"error": errors.sum(), "examples": batch["valid"].sum(dtype=jnp.int32)}

    def compute(self, totals):
        return {
            "psnr": float(-10 * np.log10(totals["error"] / totals["examples"])),
            "examples": int(totals["examples"]),
        }

    def draw_examples(self, folder, model, variables, dataset):
        image = self.decoder()(dataset[0])["image"][None]
        noisy, _ = self.prepare({"image": image, "index": np.zeros(1, np.int32)}, None)
        clean = self.predict(model, variables, noisy)
        row = np.concatenate([np.asarray(x[0]) * self.std + self.mean for x in (noisy, clean)], axis=1)
        cv2.imwrite(str(folder / "predictions.png"), row[..., ::-1].clip(0, 255).astype(np.uint8))
        return ["predictions.png"]
