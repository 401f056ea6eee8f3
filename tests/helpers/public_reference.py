"""Weights, inputs and outputs of the public PyTorch implementations, rebuilt by the rule of their README."""

import json
import pathlib

import _reference as reference
import numpy as np


def index(folder: pathlib.Path, name: str) -> dict:
    """What is told of an entry."""
    return json.loads((folder / "index.json").read_text())[name]


def state_dict(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    """The drawn state dict of an entry."""
    state, _ = reference.load(folder, name)
    for key, factor in index(folder, name)["scales"].items():
        state[key] = (state[key] * factor).astype(np.float32)
    return state


def inputs(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    """The images of an entry, NHWC, by their names `input` and `input_2`."""
    told = index(folder, name)["inputs"]
    return {key: reference._rng(key).standard_normal(shape).astype(np.float32) for key, shape in told.items()}


def tolerance(folder: pathlib.Path, name: str, output: str) -> float:
    """The largest relative error that an output may have."""
    return max(1e-4, 10 * index(folder, name)["float32_error"].get(output, 0.0))
