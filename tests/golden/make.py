"""Cuts the reference outputs down to what the tests keep: `python tests/golden/make.py FOLDER`.

FOLDER holds the reference outputs (torchvision 0.14 and timm 1.0 under weights rebuilt from their keys, see
tests/helpers/_reference.py). Classifiers are kept whole; of DeepLab v3's and FCN's logits every eighth pixel; of the
operators' cases every second channel for regions of interest, and the first image for deformable convolution.
`make_googlenet.py` adds to GoogLeNet's file.
"""

import pathlib
import shutil
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SPARSE = {
    **dict.fromkeys(("alexnet", "vgg11", "googlenet", "resnet18", "densenet121", "efficientnet_b0", "xception65"), 1),
    "deeplabv3_resnet50": 8,
    "fcn_resnet50": 8,
}


def main(source: pathlib.Path) -> None:
    for name, step in SPARSE.items():
        shutil.copyfile(source / f"{name}.keys.json", HERE / f"{name}.keys.json")
        with np.load(source / f"{name}.npz") as archive:
            kept = {key: value[:, ::step, ::step] if key in ("out", "aux") else value for key, value in archive.items()}
        np.savez_compressed(HERE / f"{name}.npz", **kept)
    cut_operators(source)


def cut_operators(source: pathlib.Path) -> None:
    with np.load(source / "ops.npz") as archive:
        kept = dict(archive)
    for key, value in kept.items():
        if key.startswith("roi_"):
            kept[key] = value[..., ::2]
        elif key.startswith("deform_") and not key.endswith("oihw"):
            kept[key] = value[:1]
    np.savez_compressed(HERE / "ops.npz", **kept)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
