"""Weights, inputs and outputs of the public PyTorch implementations, rebuilt by the rule of their README."""

import json
import pathlib
import zlib

import numpy as np
from _reference import SALT, rebuild


class Reference:
    """One net of the folder.

    Attributes:
      told: What the index says of it.
      state: Its state dict.
      outputs: Its outputs by name, NHWC.
    """

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.told = json.loads((folder / "index.json").read_text())[name]
        with np.load(folder / f"{name}.npz") as archive:
            self.outputs = dict(archive)
        self.state = rebuild(json.loads((folder / f"{name}.keys.json").read_text()), self.outputs)

    def images(self, name: str) -> np.ndarray:
        """One of its inputs, NHWC: "input" or "input_2"."""
        rng = np.random.default_rng(zlib.crc32((SALT + name).encode()))
        return rng.standard_normal(self.told["inputs"][name]).astype(np.float32)

    def error(self, name: str, found: np.ndarray) -> float:
        """The largest relative error of what is stored of an output.

        Of a large output the first channels are stored, and all channels of every fourth pixel.
        """
        whole = self.outputs[name]
        errors = [_relative(found[..., : whole.shape[-1]], whole)]
        if f"{name}_every4" in self.outputs:
            errors.append(_relative(found[:, ::4, ::4], self.outputs[f"{name}_every4"]))
        return max(errors)

    def allowed(self, name: str) -> float:
        """The relative error that is asked for: ten times that of the implementation's own float32, or 1e-4."""
        return max(1e-4, 10 * self.told["float32_error"][name])


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
