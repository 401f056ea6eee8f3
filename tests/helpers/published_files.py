"""Writes the drawn weights of the reference's entries into files such as their publishers' are, and opens them.

`reference/torch/index.json` and its README.md say how a publisher's files nest, `reference/caffe/facts` the version of
a .caffemodel. Files of before PyTorch 1.6 (July 2020) are legacy ones, and so are mmsegmentation's, which publishes in
that form.
"""

import gc
import json
import pathlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import caffe_files
import caffe_reference as caffe
import numpy as np
import public_reference as public
import torch_writer
from safetensors.numpy import save_file

from cvjax.weights import OpenedWeights, open_weights

State = dict[str, np.ndarray]


class File(NamedTuple):
    """Says how a publisher's file is: its name, the key of the state dict, what precedes its keys, and its form.

    `beside` returns what else is in the file.
    """

    name: str
    key: str | None = None
    prefix: str = ""
    legacy: bool = False
    beside: Callable[[State], dict[str, Any]] = lambda state: {}


def _sgd(state: State) -> dict[str, Any]:
    """An optimizer in whose state are tensors, some with the shapes of weights."""
    first = {0: {"momentum_buffer": next(iter(state.values())) + 1}, 1: {"momentum_buffer": None}}
    return {"state": first, "param_groups": [{"lr": 0.01, "momentum": 0.9, "nesterov": False, "params": [0, 1]}]}


def _vainf(name: str) -> File:
    def beside(state: State) -> dict[str, Any]:
        schedule = {"power": 0.9, "max_iters": 30000, "base_lrs": [0.001, 0.01], "last_epoch": 30000}
        return {
            "cur_itrs": 30000,
            "optimizer_state": _sgd(state),
            "scheduler_state": schedule,
            "best_score": 0.772,
        }

    return File(f"best_{name}_voc_os16.pth", "model_state", beside=beside)


def _mmsegmentation(name: str) -> File:
    meta = {"env_info": "sys.platform: linux", "mmseg_version": "0.5.0", "epoch": 40, "iter": 20000}
    meta |= {"CLASSES": ("background", "aeroplane"), "PALETTE": [[0, 0, 0], [128, 0, 0]]}
    return File(f"{name}.pth", "state_dict", legacy=True, beside=lambda state: {"meta": meta})


def _wkentaro_trained(state: State) -> dict[str, Any]:
    return {
        "epoch": 11,
        "iteration": 95999,
        "arch": "FCN32s",
        "optim_state_dict": _sgd(state),
        "best_mean_iu": 0.628,
    }


def _lightning(state: State) -> dict[str, Any]:
    loops = {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3, "completed": 2}}}}
    return {
        "epoch": 2,
        "global_step": 300,
        "pytorch-lightning_version": "2.5.0",
        "loops": loops,
        "callbacks": {"ModelCheckpoint": {"best_model_score": np.array(0.5, np.float32), "best_model_path": "x.ckpt"}},
        "optimizer_states": [_sgd(state)],
        "lr_schedulers": [],
        "hyper_parameters": {"arch": "unet", "encoder_name": "resnet34", "lr": 0.1},
    }


TORCH: dict[str, File] = {
    **{f"vainf_{name}": _vainf(name) for name in ("deeplabv3plus_resnet101", "deeplabv3plus_resnet50")},
    "vainf_deeplabv3_resnet50": _vainf("deeplabv3_resnet50"),
    # Its own training's file; the others are those that it converted from Caffe's.
    "pytorch_fcn_fcn32s": File("model_best.pth.tar", "model_state_dict", legacy=True, beside=_wkentaro_trained),
    "pytorch_fcn_fcn16s": File("fcn16s_from_caffe.pth", legacy=True),
    "pytorch_fcn_fcn8s": File("fcn8s_from_caffe.pth", legacy=True),
    "pytorch_fcn_fcn8satonce": File("fcn8s-atonce_from_caffe.pth", legacy=True),
    "kazuto_deeplabv2_resnet101": File("deeplabv2_resnet101_voc.pth", legacy=True),
    "kazuto_deeplabv2_resnet101_msc": File("deeplabv2_resnet101_msc-vocaug-20000.pth", legacy=True),
    **{
        f"akamaster_resnet{depth}": File(
            f"resnet{depth}-12fca82f.th",
            "state_dict",
            "module.",
            legacy=True,
            beside=lambda state: {"best_prec1": 91.78},
        )
        for depth in (20, 32, 44, 56)
    },
    "milesial_unet": File("unet_carvana_scale0.5_epoch2.pth", beside=lambda state: {"mask_values": [0, 255]}),
    "milesial_unet_bilinear": File("checkpoint_epoch5.pth"),
    "smp_unet_resnet34": File("epoch=2-step=300.ckpt", "state_dict", "model.", beside=_lightning),
    "smp_unet_vgg16_bn": File("model.safetensors"),
    "smp_unet_densenet121": File("best_model.pth"),
    "smp_unet_efficientnet_b0": File("model.safetensors"),
    "smp_unet_timm_efficientnet_b0": File("last.ckpt", "state_dict", "model.", beside=_lightning),
    "smp_deeplabv3plus_resnet50": File("best_model.pth"),
    "smp_deeplabv3_resnet50": File("model.safetensors"),
    "mmseg_deeplabv3plus_r50_d8": _mmsegmentation("deeplabv3plus_r50-d8_512x512_20k_voc12aug"),
    "mmseg_deeplabv3_r50_d8": _mmsegmentation("deeplabv3_r50-d8_512x512_20k_voc12aug"),
    "mmseg_fcn_r50_d8": _mmsegmentation("fcn_r50-d8_512x512_20k_voc12aug"),
    "mmseg_fcn_unet_s5_d16": _mmsegmentation("fcn_unet_s5-d16_4x4_512x1024_160k_cityscapes"),
    "timm_resnetv2_50": File("model.safetensors"),
    "timm_legacy_seresnet50": File("se_resnet50-ce0d4300.pth", legacy=True),
    "timm_legacy_seresnext50_32x4d": File("pytorch_model.bin"),
    "chenyuntc_fasterrcnn_vgg16": File(
        "fasterrcnn_12211511_0.701052458187_torchvision_pretrain.pth",
        "model",
        legacy=True,
        beside=lambda state: {
            "config": {"env": "faster-rcnn", "lr": 0.001},
            "other_info": {},
            "vis_info": {"epoch": 1},
        },
    ),
    "jwyang_fasterrcnn_vgg16": File(
        "faster_rcnn_1_6_10021.pth",
        "model",
        legacy=True,
        beside=lambda state: {
            "session": 1,
            "epoch": 7,
            "optimizer": _sgd(state),
            "pooling_mode": "align",
            "class_agnostic": False,
        },
    ),
    "torchvision_fasterrcnn_resnet50_fpn_detections": File("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", legacy=True),
}


def write_torch(path: pathlib.Path, state: State, file: File) -> None:
    """Writes weights as a file of a publisher's that used PyTorch."""
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"format": "pt"})
        return
    keyed = OrderedDict((file.prefix + key, value) for key, value in state.items())
    vars(keyed)["_metadata"] = OrderedDict({"": {"version": 1}})  # as `Module.state_dict` leaves it
    beside = file.beside(state)
    keyed.update({} if file.key else beside)
    torch_writer.save(path, {**beside, file.key: keyed} if file.key else keyed, legacy=file.legacy)


def write_caffe(path: pathlib.Path, folder: pathlib.Path, net: str) -> State:
    """Writes and returns the drawn weights of a net, in its publisher's version, with all of its layers."""
    version = json.loads((folder / "facts" / f"{net}.json").read_text())["prototxt_version"]
    layers = caffe.layers(folder, net)
    form = caffe_files.PLAIN if version == "V2" else caffe_files.Form(axes="four")
    with open(path, "wb") as file:
        file.writelines(caffe_files.caffemodel_pieces(layers, int(version[1]), form))
    return caffe.named(layers)


def open_torch(
    folder: pathlib.Path, entry: str, place: pathlib.Path, *, name: str | None = None, layout: str | None = None
) -> OpenedWeights:
    """Writes an entry's file, opens it as a user would, and checks its arrays to the bit; the file is gone then.

    Args:
      folder: The reference's folder.
      entry: Name of the entry.
      place: Folder for the file.
      name, layout: What the user has to say, where the file leaves it open.
    """
    file, path = TORCH[entry], place / TORCH[entry].name
    # The specification's sentence has what this table has.
    nesting = public.index(folder, entry)["nesting"].replace("'", '"')
    assert file.key is None or f'["{file.key}"]' in nesting
    assert not file.prefix or f'"{file.prefix}"' in nesting
    state = public.state_dict(folder, entry)
    write_torch(path, state, file)
    return _opened(path, state, name, layout)


def open_caffe(
    folder: pathlib.Path, net: str, place: pathlib.Path, *, name: str | None = None, layout: str | None = None
) -> OpenedWeights:
    """As `open_torch`, for a net of Caffe's."""
    path = place / f"{net}.caffemodel"
    return _opened(path, write_caffe(path, folder, net), name, layout)


def _opened(path: pathlib.Path, state: State, name: str | None, layout: str | None) -> OpenedWeights:
    opened = open_weights(path, name=name, layout=layout)
    path.unlink()
    assert opened.state_dict.keys() == state.keys()
    for key, value in state.items():
        found = opened.state_dict[key]
        assert (found.dtype, found.shape) == (value.dtype, value.shape), key
        assert np.array_equal(found, value), key
    del state
    gc.collect()  # of half a gigabyte each
    return opened
