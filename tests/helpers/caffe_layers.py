"""Computes a Caffe net layer by layer from the facts of its definition, without a line of ours."""

from typing import Any

import numpy as np
from jax import lax


def run(
    layers: list[dict[str, Any]], state: dict[str, np.ndarray], given: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All blobs of a net by name, [B, C, H, W] or [B, C], from those that are given (`data`, `rois`)."""
    blobs = dict(given)
    for layer in layers:
        kind, attrs = layer["type"], layer["attrs"]
        if kind not in _KINDS:
            continue
        bottoms = [blobs[name] for name in layer["bottom"]]
        arrays = [state[key] for key in (f"{layer['name']}.weight", f"{layer['name']}.bias") if key in state]
        blobs[layer["top"][0]] = np.asarray(_KINDS[kind](*bottoms, *arrays, **attrs))
    return blobs


def _convolution(x, weight, bias_, *, stride, pad, group, **_):
    padding = [(side, side) for side in pad]
    return lax.conv_general_dilated(x, weight, stride, padding, feature_group_count=group) + bias_[None, :, None, None]


def _inner_product(x, weight, bias_=0.0, **_):
    return x.reshape(len(x), -1) @ weight.T + bias_


def _pooling(x, *, kernel, stride, pad, **_):
    """Maximum; a last window that sticks out counts unless it starts behind the padding."""
    for axis in (2, 3):
        size, step, edge, length = kernel[axis - 2], stride[axis - 2], pad[axis - 2], x.shape[axis]
        count = -(-(length + 2 * edge - size) // step) + 1
        count -= (count - 1) * step >= length + edge if edge else 0
        windows = [range(max(0, i * step - edge), min(length, i * step - edge + size)) for i in range(count)]
        x = np.stack([np.take(x, list(window), axis).max(axis) for window in windows], axis)
    return x


def _lrn(x, *, local_size, alpha, beta, k, norm_region):
    squares, reach = x.astype(np.float64) ** 2, local_size // 2
    axes = (2, 3) if norm_region == "WITHIN_CHANNEL" else (1,)
    for axis in axes:
        edges = [(reach, reach) if place == axis else (0, 0) for place in range(4)]
        padded = np.pad(squares, edges)
        squares = sum(np.take(padded, range(i, i + x.shape[axis]), axis) for i in range(local_size))
    return (x / (k + alpha * squares / local_size ** len(axes)) ** beta).astype(np.float32)


def _roi_pooling(x, rois, *, pooled, spatial_scale):
    """Regions (image, x1, y1, x2, y2), whose last corner belongs to them."""
    rows = []
    for image, *corners in rois:
        left, top, right, bottom = (int(np.floor(side * spatial_scale + 0.5)) for side in corners)
        bins = [_bins(top, bottom, pooled[0], x.shape[2]), _bins(left, right, pooled[1], x.shape[3])]
        picked = [[x[int(image), :, a:b, c:d].max((1, 2), initial=-np.inf) for c, d in bins[1]] for a, b in bins[0]]
        # A bin that the map ends before is zero.
        rows.append(np.nan_to_num(np.asarray(picked).transpose(2, 0, 1), neginf=0))
    return np.stack(rows)


def _bins(low, high, count, length):
    side = max(high - low + 1, 1)
    edges = [(low + i * side // count, low - (-(i + 1) * side // count)) for i in range(count)]
    return [(min(max(a, 0), length), min(max(b, 0), length)) for a, b in edges]


_KINDS = {
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "Pooling": _pooling,
    "ReLU": lambda x, **_: np.maximum(x, 0),
    "ROIPooling": _roi_pooling,
    "Dropout": lambda x, *, scale_train, **_: x if scale_train else x / 2,
}
