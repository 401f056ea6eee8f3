"""This module reads the metadata that earlier versions recorded of their runs, and gives them today's names.

No other code knows the old names. Version 0.1 wrote no `format`; format 2 has today's names, and two nets had other
defaults. Its nets had the options of their backbones and of
BatchNorm among their own, and some other names; see CHANGELOG.md.
"""

from collections.abc import Mapping
from typing import Any

FORMAT = 3
"""Number of the form in which runs are recorded today."""

_DATA = {"policy": "auto_augment", "erase": "random_erasing", "cut": "crop_mode", "repeats": "repeated_aug"}
_RUN = {"hard_fraction": "ohem_fraction", "hard_threshold": "ohem_threshold", "hard_minimum": "ohem_minimum"}
_OPTIM = {"head_multiplier": "head_lr_mult", "bias_multiplier": "bias_lr_mult", "multipliers": "lr_mults"}
_VALUES = {"hard_pixels": "ohem", "map_11": "map_voc07", "centre": "center"}
_TASK = ("kind", "class_names", "mean", "std", "ignore", "class_weights", "margin")

_NORM = {"bn_momentum": "momentum", "freeze_bn": "frozen", "bn_epsilon": "epsilon"}
_OPTIONS = {
    "taps": "levels",
    "regions": "rois_per_image",
    "positive_share": "positive_fraction",
    "threshold": "fg_iou",
    "floor": "bg_iou_low",
    "box_weights": "bbox_reg_weights",
    "rpn_before": "rpn_pre_nms_top_n",
    "rpn_after": "rpn_post_nms_top_n",
    "rpn_least_side": "rpn_min_size",
    "rpn_samples": "rpn_batch_size_per_image",
}
_RESNET = ("stage_sizes", "bottleneck", "width", "deep_stem", "zero_gamma", "deformable", "modulated")
_XCEPTION = ("entry", "middle_blocks", "width_coefficient")
_VGG = ("stage_sizes", "widths", "batch_norm", "hidden")
_ATROUS_VGG = ("stage_sizes", "widths", "batch_norm")  # hidden layers are the net's own

# Which of a net's old options are its backbone's, by how its name begins; the longest beginning counts.
_OF_BACKBONE = {
    "deeplab": _RESNET,
    "deeplabv3plus_xception": _XCEPTION,
    "deeplabv1_": _ATROUS_VGG,
    "deeplabv2_vgg": _ATROUS_VGG,
    "fcn_resnet": _RESNET,
    "fcn32s_": _VGG,
    "fcn16s_": _VGG,
    "fcn8s_": _VGG,
    "hypercolumn_": _VGG,
    "unet_": (),
    "rcnn_": (),
    "sppnet_": (),
    "fast_rcnn_": (),
    "faster_rcnn_": (*_VGG, "channels"),
    "fasterrcnn_": _RESNET,
    "yolov1": ("stages",),
}


# Defaults up to format 2, of nets that have their authors' since.
_DEFAULTS = {
    "deeplabv2_resnet101": {
        "backbone": {"stride_in_1x1": False, "stem_pool": "padded", "dilate_first": False},
        "fuse_first": False,
    },
    "deeplabv3plus_xception65": {"backbone": {"maps_before_relu": False}, "align_corners": False},
}


def upgrade(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's metadata with the names of version 0.1 replaced; today's metadata stays as it is."""
    if "run" not in metadata:
        return dict(metadata)
    if "format" in metadata:
        return dict(metadata) if metadata["format"] != 2 else _with_defaults(metadata)
    model, run = upgrade_model(metadata["model"]["name"], metadata["model"]["options"]), dict(metadata["run"])
    run = _renamed(run, _RUN)
    run |= {
        "model": model,
        "input": _renamed(run["input"], _DATA),
        "optim": _renamed(run["optim"], _OPTIM),
        "eval": _with_crf(_renamed(run["eval"], {})),
    }
    upgraded = dict(metadata) | {"format": 2, "model": model, "run": run}
    if "task" in metadata:
        upgraded["task"] = {name: value for name, value in metadata["task"].items() if name in _TASK}
    if "data" in metadata:
        upgraded["data"] = _with_colors(_renamed(metadata["data"], _DATA))
    if "metric" in metadata:
        upgraded["metric"] = _VALUES.get(metadata["metric"], metadata["metric"])
        scores = metadata.get("scores")
        upgraded["scores"] = None if scores is None else _renamed(scores, {"map_11": "map_voc07"})
    return _with_defaults(upgraded)


def _with_defaults(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata of format 2 in today's, whose nets say what was their default then."""

    def spelled(model: Mapping[str, Any]) -> dict[str, Any]:
        defaults, options = _DEFAULTS.get(model["name"], {}), dict(model["options"])
        for option, value in defaults.items():
            if isinstance(value, dict) and isinstance(options.get(option, {}), Mapping):
                options[option] = value | dict(options.get(option, {}))
            else:
                options.setdefault(option, value)
        return {**model, "options": options}

    run = dict(metadata["run"])
    run |= {"model": spelled(run["model"])} if "model" in run else {}
    more = {"model": spelled(metadata["model"])} if "model" in metadata else {}
    return {**metadata, "format": FORMAT, "run": run, **more}


def upgrade_model(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns today's {"name", "options"} for a net of version 0.1 and its options."""
    options = {option: value for option, value in options.items() if (option, value) != ("dtype", "float32")}
    kind = max((start for start in _OF_BACKBONE if name.startswith(start)), key=len, default=None)
    if name in ("unet", "unet_original"):
        kind = None
    name, backbone = _without_encoder(name, kind, options)
    norm = {new: options.pop(old) for old, new in _NORM.items() if old in options}
    if kind is not None:
        backbone |= {option: options.pop(option) for option in _OF_BACKBONE[kind] if option in options}
        if "epsilon" in norm:
            backbone["norm"] = {"epsilon": norm.pop("epsilon")}
    if kind == "fasterrcnn_":
        if "hidden" in options:
            options["box_head"] = {"hidden": options.pop("hidden")}
        if "anchor_sizes" in options and all(len(row) == 1 for row in options["anchor_sizes"]):
            options["anchor_sizes"] = [row[0] for row in options["anchor_sizes"]]
    options = _renamed(options, _OPTIONS)
    parts = {"norm": norm, "backbone": backbone}
    return {"name": name, "options": options | {part: fields for part, fields in parts.items() if fields}}


def _without_encoder(name: str, kind: str | None, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the net's name with its encoder as part of it, and the encoder's options."""
    encoder, backbone = options.pop("encoder", None), dict(options.pop("encoder_options", {}))
    if kind is None or encoder is None:
        return name, backbone
    if kind == "unet_":
        return f"unet_{encoder}", backbone
    if encoder.startswith("vgg") and kind in ("rcnn_", "fast_rcnn_"):
        # Any VGG, since its stages are among the options.
        backbone.setdefault("stage_sizes", _VGG_SIZES[encoder.removesuffix("_bn")])
        backbone.setdefault("batch_norm", encoder.endswith("_bn"))
        return f"{kind}vgg16", backbone
    return name, backbone


_VGG_SIZES = {
    "vgg11": [1, 1, 2, 2, 2],
    "vgg13": [2, 2, 2, 2, 2],
    "vgg16": [2, 2, 3, 3, 3],
    "vgg19": [2, 2, 4, 4, 4],
}


def _with_colors(data: dict[str, Any]) -> dict[str, Any]:
    """Adds the random colors that every task has today, turned off where a task of version 0.1 had none."""
    return {"pca_noise": 0.0, "exposure": 1.0, "hsv_saturation": 1.0} | data


def _with_crf(scoring: dict[str, Any]) -> dict[str, Any]:
    crf = scoring.get("crf")
    return scoring | {"crf": _renamed(crf, {"colour_sigma": "color_sigma"})} if isinstance(crf, Mapping) else scoring


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    def value_of(value: Any) -> Any:
        return _VALUES.get(value, value) if isinstance(value, str) else value

    return {names.get(name, name): value_of(value) for name, value in values.items()}
