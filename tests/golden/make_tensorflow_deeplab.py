"""Writes what TensorFlow computes as DeepLab v3+ on Xception-65: `python tests/golden/make_tensorflow_deeplab.py FILE`.

Needs tensorflow (2.21 made the file). The net is written here from the layers that research/deeplab calls. FILE is
a JSON file {"variables": {NAME: {"shape": [...]}}} with the names that the authors' scopes give; weights and images are
drawn (`tests/helpers/_reference.py`). Every fourth pixel of the logits is kept.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))
import _reference as reference  # noqa: E402  (it lies beside the tests that use it)

SIZE = (1, 65, 97, 3)


class Net:
    def __init__(self, variables: dict[str, np.ndarray]) -> None:
        self.variables = variables
        self.low_level = None

    def norm(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        gamma, beta, mean, variance = (
            self.variables[f"{scope}/BatchNorm/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        epsilon = 1e-3 if scope.startswith("xception_65") else 1e-5
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)

    def conv(self, x: tf.Tensor, scope: str, stride: int = 1, relu: bool = True) -> tf.Tensor:
        kernel = self.variables[f"{scope}/weights"]
        padding = "SAME" if stride == 1 else "VALID"
        x = tf.nn.conv2d(_padded(x) if stride > 1 and len(kernel) == 3 else x, kernel, stride, padding)
        return tf.nn.relu(self.norm(x, scope)) if relu else self.norm(x, scope)

    def separable(self, x: tf.Tensor, scope: str, stride: int = 1, rate: int = 1, relu: bool = True) -> tf.Tensor:
        kernel = self.variables[f"{scope}_depthwise/depthwise_weights"]
        x, padding = (x, "SAME") if stride == 1 else (_padded(x), "VALID")
        x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], padding, dilations=[rate, rate])
        x = self.norm(x, f"{scope}_depthwise")
        return self.conv(tf.nn.relu(x) if relu else x, f"{scope}_pointwise", relu=relu)

    def block(self, x: tf.Tensor, place: str, stride: int = 1, rate: int = 1, shortcut: str = "conv") -> tf.Tensor:
        scope, y = f"xception_65/{place}/xception_module", x
        last = shortcut == "none"  # its ReLUs come behind the BatchNorms
        for number in (1, 2, 3):
            y = y if last else tf.nn.relu(y)
            y = self.separable(y, f"{scope}/separable_conv{number}", stride if number == 3 else 1, rate, relu=last)
            if (place, number) == ("entry_flow/block2/unit_1", 2):
                self.low_level = y
        if shortcut == "conv":
            x = self.conv(x, f"{scope}/shortcut", stride, relu=False)
        return y if last else x + y

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        x = self.conv(images, "xception_65/entry_flow/conv1_1", 2)
        x = self.conv(x, "xception_65/entry_flow/conv1_2")
        for number in (1, 2, 3):
            x = self.block(x, f"entry_flow/block{number}/unit_1", 2)
        for number in range(1, 17):
            x = self.block(x, f"middle_flow/block1/unit_{number}", shortcut="sum")
        x = self.block(x, "exit_flow/block1/unit_1")
        x = self.block(x, "exit_flow/block2/unit_1", rate=2, shortcut="none")
        pooled = self.conv(tf.reduce_mean(x, [1, 2], keepdims=True), "image_pooling")
        branches = [_enlarged(pooled, x.shape), self.conv(x, "aspp0")]
        branches += [self.separable(x, f"aspp{number}", rate=6 * number) for number in (1, 2, 3)]
        x = self.conv(tf.concat(branches, -1), "concat_projection")
        low = self.conv(self.low_level, "decoder/feature_projection0")
        x = tf.concat([_enlarged(x, low.shape), low], -1)
        for number in (0, 1):
            x = self.separable(x, f"decoder/decoder_conv{number}")
        x = tf.nn.conv2d(x, self.variables["logits/semantic/weights"], 1, "SAME")
        return _enlarged(x + self.variables["logits/semantic/biases"], images.shape)


def _padded(x: tf.Tensor) -> tf.Tensor:
    return tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])


def _enlarged(x: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    return tf.compat.v1.image.resize_bilinear(x, shape[1:3], align_corners=True)


def main() -> None:
    listing = json.loads(pathlib.Path(sys.argv[1]).read_text())["variables"]
    variables = reference.tensorflow_variables({name: tuple(row["shape"]) for name, row in listing.items()})
    logits = Net(variables)(tf.constant(reference.images(SIZE))).numpy()
    np.savez_compressed(HERE / "tensorflow" / "deeplabv3plus_xception65.npz", logits=logits[:, ::8, ::8])


if __name__ == "__main__":
    main()
