"""Weights, inputs and outputs of the reference nets of Caffe, rebuilt by the rule of their README."""

import json
import pathlib
import zlib
from typing import Any

import numpy as np

SALT = "dev-"


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32((SALT + key).encode()))


def _bilinear(shape: tuple[int, ...]) -> np.ndarray:
    """The fixed kernel of an FCN's upsampling, [in, out, h, w], diagonal over the channels."""
    side = shape[2]
    center = (side - 1) / 2
    line = 1 - np.abs(np.arange(side) - center) / ((side + 1) // 2)
    return np.eye(shape[0])[:, :, None, None] * np.outer(line, line)


def blobs(layer: dict[str, Any]) -> list[np.ndarray]:
    """The blobs of a layer of `facts`, float32, in Caffe's order."""
    drawn = []
    for place, shape in enumerate(layer["blobs"]):
        rng, kind = _rng(f"{layer['name']}/{place}"), layer["type"]
        if kind == "BatchNorm":
            # The engine drew both kinds from each stream, and took the one that it wanted.
            mean, variance = 0.05 * rng.standard_normal(shape), rng.uniform(0.8, 1.2, shape)
            value = (mean, variance, np.ones(shape))[place]
        elif kind == "Deconvolution" and place == 0 and len(layer["blobs"]) == 1:
            value = _bilinear(tuple(shape))
        elif kind == "Scale" and len(layer["blobs"]) == 1:
            value = np.full(shape, layer["filler"])  # FCN's factors, for good
        elif place == 1:
            value = 0.05 * rng.standard_normal(shape)
        elif kind == "Scale":
            value = rng.uniform(0.5, 0.9, shape)
        else:
            fan_in = np.prod(shape[1:])
            if kind == "Deconvolution":
                stride = layer["stride"]
                fan_in = shape[0] * shape[2] * shape[3] / stride**2
            value = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        drawn.append(value.astype(np.float32))
    return drawn


def images(shape: list[int], scale: float) -> np.ndarray:
    """The input of a net, NHWC; `shape` is Caffe's."""
    return (scale * _rng("input").standard_normal(shape)).astype(np.float32).transpose(0, 2, 3, 1)


def reference(folder: pathlib.Path, net: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(images, outputs) of a net; outputs of four axes are NHWC."""
    told = json.loads((folder / "outputs" / f"{net}.json").read_text())
    with np.load(folder / "outputs" / f"{net}.npz") as archive:
        found = {name: value.transpose(0, 2, 3, 1) if value.ndim == 4 else value for name, value in archive.items()}
    return images(told["input"], told["input_scale"]), found


def layers(folder: pathlib.Path, net: str) -> list[tuple[str, str, list[np.ndarray]]]:
    """Name, kind and drawn blobs of the layers of a net, also of those without blobs."""
    facts = json.loads((folder / "facts" / f"{net}.json").read_text())
    held = {layer["name"]: layer for layer in facts["weights"]}
    found = []
    for layer in facts["layers"]:
        attrs = layer["attrs"]
        told = {**held.get(layer["name"], {**layer, "blobs": []})}
        told |= {"stride": attrs.get("stride", [1])[0], "filler": attrs.get("filler")}
        found.append((layer["name"], layer["type"], blobs(told)))
    return found


def state_dict(folder: pathlib.Path, net: str) -> dict[str, np.ndarray]:
    """What `cvjax.weights.caffe.read_caffemodel` returns of a net's file."""
    return named(layers(folder, net))


def named(layers: list[tuple[str, str, list[np.ndarray]]]) -> dict[str, np.ndarray]:
    """The arrays of layers by their keys, without BatchNorm's factor, which is 1."""
    state = {}
    for layer, kind, arrays in layers:
        names = ("running_mean", "running_var") if kind == "BatchNorm" else ("weight", "bias")
        state |= {f"{layer}.{name}": value for name, value in zip(names, arrays)}
    return state
