"""Reads the weights and mean images that Caffe wrote, without Caffe.

A `.caffemodel` is a net with its layers, of which only those with blobs (arrays) matter here. Its format changed twice:
V0 has the layer within the layer, V1 has enumerated kinds, V2 has kinds by name. V0 and V1 give every blob four axes.
Numbers are single or double, packed or not. A training net's snapshot holds gradients and layers of training too.

Layouts stay Caffe's: a convolution is [out, in / groups, height, width] and reads BGR from 0 to 255 less a mean, a
deconvolution is [in, out / groups, height, width], and a dense layer [out, in] reads maps channel by channel.
"""

import math
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cvjax.errors import CheckpointError
from cvjax.weights.readers.caffe_blob import take_apart
from cvjax.weights.readers.caffe_proto import message_class, parse, read_message

# What V2 calls the kinds of V0 and V1 that have blobs.
_V0_KINDS = {"conv": "Convolution", "innerproduct": "InnerProduct"}
_V1_KINDS = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
_CONVOLUTIONS = ("Convolution", "Deconvolution", "ConvolutionDepthwise", "DepthwiseConvolution")
_MATRICES = ("InnerProduct", "Embed")
_VECTORS = ("BatchNorm", "Scale", "Bias", "PReLU", "Normalize", "BN")
_AXES = 32  # Caffe's limit


class CaffeLayer(NamedTuple):
    """Holds the weights of one layer.

    Attributes:
      name: Name of the layer.
      kind: What V2 calls its kind, such as `Convolution`, whatever the file's version.
      blobs: Arrays in Caffe's order and layout, float32, in the shapes of V2. They may be read-only.
    """

    name: str
    kind: str
    blobs: tuple[np.ndarray, ...]


def read_layers(path: str | pathlib.Path) -> list[CaffeLayer]:
    """Reads the layers of a net that hold weights.

    A file that was cut off exactly between two layers cannot be told from a smaller net.

    Args:
      path: Path of a `.caffemodel` file.

    Returns:
      Layers in the file's order, also those that share a name or repeat the weights of another.

    Raises:
      CheckpointError: The file is missing, damaged or of another kind, or it holds no weights.
    """
    path = pathlib.Path(path)
    net = read_message(path, "Net")
    layers, count = [], 0
    for name, kind, blobs in _stored(net):
        count += 1
        wheres = [f"blob {i} of the layer {_shown(name)}" for i in range(len(blobs))]
        arrays = [_array(path, blob, where) for blob, where in zip(blobs, wheres)]
        if arrays:
            layers.append(CaffeLayer(name, kind, tuple(_in_v2_shape(kind, i, array) for i, array in enumerate(arrays))))
    if not count:
        raise CheckpointError(
            f"{path} holds no layers of a Caffe net; give a .caffemodel (read_binaryproto reads a mean image)"
        )
    if not layers:
        raise CheckpointError(
            f"{path} describes a net of {count} layers and holds no weights; give the .caffemodel that training wrote"
        )
    return layers


def read_caffemodel(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the weights of a net under keys like those of a PyTorch state dict.

    A layer's first two blobs are `NAME.weight` and `NAME.bias`, and further ones `NAME.blob2` and so on. Of BatchNorm
    these two are `NAME.running_mean` and `NAME.running_var`, divided by the third, which says how often they
    were summed up; if it is 0, so are they. BatchNorm has no more than that: its scale and bias are the weight and the
    bias of the Scale layer behind it.

    Args:
      path: Path of a `.caffemodel` file.

    Returns:
      Arrays of float32 in Caffe's layouts. They may be read-only.

    Raises:
      CheckpointError: The file is missing, damaged or of another kind, it holds no weights, or two layers with
        different weights share a name.
    """
    path = pathlib.Path(path)
    seen: dict[str, CaffeLayer] = {}
    arrays: dict[str, np.ndarray] = {}
    for layer in read_layers(path):
        if not _same(seen.setdefault(layer.name, layer), layer):
            raise CheckpointError(
                f"{path}: two layers of the name {_shown(layer.name)} hold different weights; read_layers gives both"
            )
        names, blobs = ("weight", "bias"), layer.blobs
        if layer.kind == "BatchNorm":
            names, blobs = ("running_mean", "running_var"), _normalized(path, layer)
        for i, blob in enumerate(blobs):
            if blob is not None:
                arrays[f"{layer.name}.{names[i] if i < len(names) else f'blob{i}'}"] = blob
    return arrays


def read_binaryproto(path: str | pathlib.Path) -> np.ndarray:
    """Reads a mean image.

    Args:
      path: Path of a `.binaryproto` file.

    Returns:
      Mean of the training images, float32 [C, H, W], with BGR channels from 0 to 255. It may be read-only.

    Raises:
      CheckpointError: The file is missing, damaged or of another kind.
    """
    path = pathlib.Path(path)
    # A net can pass for a blob with a few damaged fields, and a blob for a net without layers.
    net = read_message(path, "Net")
    if net.layers or net.layer:
        raise CheckpointError(f"{path} holds a net and no mean image; give a .binaryproto (read_caffemodel reads nets)")
    read_message(path, "Blob")  # says what is wrong with it
    mean = _array(path, path.read_bytes(), "the mean image")
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise CheckpointError(
            f"{path} holds {_product(mean.shape)} numbers, not one image of three axes; give a mean image of Caffe's"
        )
    return mean


def _stored(net: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields name, kind and blobs of each layer of a net of any version."""
    for layer in net.layers:
        if layer.HasField("layer"):
            kind = _text(layer.layer.type)
            yield _text(layer.layer.name), _V0_KINDS.get(kind, kind), layer.layer.blobs
        else:
            yield _text(layer.name), _V1_KINDS.get(layer.type, f"V1 kind {layer.type}"), layer.blobs
    for layer in net.layer:
        yield _text(layer.name), _text(layer.type), layer.blobs


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _shown(name: str) -> str:
    """Returns a name for a message; a damaged file can have any, of any length."""
    return repr(name if len(name) <= 80 else f"{name[:80]}...")


def _product(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def _legacy(blob: Any) -> bool:
    return any(map(blob.HasField, ("num", "channels", "height", "width")))


def _array(path: pathlib.Path, content: bytes, where: str) -> np.ndarray:
    """Returns an encoded blob's numbers in its shape.

    Nothing is allocated by the shape that a file claims: the numbers come first.
    """
    parts = take_apart(content)
    blob = parse(path, "Blob", content if parts is None else parts.axes)
    numbers = _single(path, _forms(path, blob, where) if parts is None else parts.numbers, where)
    # Caffe too goes by the old fields if there are any.
    shape = (blob.num, blob.channels, blob.height, blob.width) if _legacy(blob) else tuple(blob.shape.dim)
    if len(shape) > _AXES:
        raise CheckpointError(
            f"{path}: {where} has {len(shape)} axes, and Caffe's have {_AXES} at most; fetch it again"
        )
    if math.prod(shape) != len(numbers) or min(shape, default=1) < 1:
        raise CheckpointError(
            f"{path}: {where} should have {_product(shape)} numbers and has {len(numbers)}; fetch the file again, or"
            " export it again if its source is the same"
        )
    return numbers.reshape(shape)


def _forms(path: pathlib.Path, blob: Any, where: str) -> list[np.ndarray]:
    """Returns the numbers of a blob in each form that it has them in."""
    packed = []
    for field, dtype in (("data", "<f4"), ("double_data", "<f8")):
        content = b"".join(getattr(blob, field))  # of one piece, as always, this is no copy
        if len(content) % np.dtype(dtype).itemsize:
            raise CheckpointError(f"{path}: {where} ends within a number, so the file is damaged; fetch it again")
        packed.append(np.frombuffer(content, dtype))
    # Without the fields that were read, the message has left what protobuf set aside: numbers that are not packed.
    for field in ("data", "diff", "double_data", "double_diff"):
        blob.ClearField(field)
    loose = message_class("Numbers").FromString(blob.SerializeToString())
    unpacked = np.array(loose.data, np.float32), np.array(loose.double_data, np.float64)
    return [form for form in (*packed, *unpacked) if len(form)]


def _single(path: pathlib.Path, forms: list[np.ndarray], where: str) -> np.ndarray:
    """Returns the numbers of a blob as a vector of float32."""
    if len(forms) > 1:
        raise CheckpointError(
            f"{path}: {where} has its numbers in {len(forms)} forms at once, so the file is damaged; fetch it again"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # a double may be infinite as a single
        # Within a file numbers begin anywhere, and some readers of memory want them aligned.
        return np.require(forms[0], np.float32, ["C", "A"]) if forms else np.zeros(0, np.float32)


def _in_v2_shape(kind: str, index: int, array: np.ndarray) -> np.ndarray:
    """Drops the axes that V0 and V1 put before those of a bias or a dense layer."""
    if array.ndim != 4 or (index == 0 and kind in _CONVOLUTIONS):
        return array
    if index == 0 and kind in _MATRICES:
        return array[0, 0] if array.shape[:2] == (1, 1) else array
    if (index > 0 or kind in _VECTORS) and array.shape[:3] == (1, 1, 1):
        return array[0, 0, 0]
    return array


def _same(one: CaffeLayer, other: CaffeLayer) -> bool:
    return one is other or (
        one.kind == other.kind
        and len(one.blobs) == len(other.blobs)
        and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one.blobs, other.blobs))
    )


def _normalized(path: pathlib.Path, layer: CaffeLayer) -> tuple[np.ndarray | None, ...]:
    """Returns the blobs of a BatchNorm with mean and variance divided by the factor, and None in the factor's place."""
    if len(layer.blobs) < 3:
        return layer.blobs  # a fork's, which keeps no factor
    mean, variance, factor, *others = layer.blobs
    if factor.size != 1:
        raise CheckpointError(
            f"{path}: the factor of the layer {_shown(layer.name)} has {_product(factor.shape)} numbers and not 1;"
            " this BatchNorm is not Caffe's, so take its blobs from read_layers"
        )
    number = factor.reshape(-1)[0]
    if number == 0:
        return np.zeros_like(mean), np.zeros_like(variance), None, *others
    with np.errstate(all="ignore"):  # a damaged factor gives what it gives
        return mean / number, variance / number, None, *others
