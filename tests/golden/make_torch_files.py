"""Writes torch_files.tar.xz: small files by PyTorch itself in every form, and the arrays that it reads from them.

Run in an environment with PyTorch: python tests/golden/make_torch_files.py
"""

import argparse
import collections
import io
import pathlib
import tarfile

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

TARGET = pathlib.Path(__file__).parent / "torch_files.tar.xz"


def save(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(3, 4, 3, bias=False), bn=nn.BatchNorm2d(4)))


def prefixed(prefix: str, state: dict) -> dict:
    return collections.OrderedDict((prefix + key, value) for key, value in state.items())


def contents() -> dict[str, tuple[bytes, dict]]:
    """Returns the bytes of each file, and the state dict that is to be found in it."""
    state = net().state_dict()
    whole = torch.arange(24.0).reshape(4, 6)
    views = {
        "transposed.weight": whole.T,
        "sliced.weight": whole[1:3, ::2],
        "whole.weight": whole,
        "tied.weight": whole,
        "empty.weight": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
    }
    kinds = {
        f"{str(dtype).removeprefix('torch.')}.weight": torch.tensor([[0, 1, 2], [3, 5, 7]]).to(dtype)
        for dtype in (torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    }
    kinds["uint16.weight"] = torch.tensor([1, 65535], dtype=torch.uint16)
    low = torch.tensor([[1.5, -2.25, 0.0], [448.0, 0.015625, -0.3]])
    lows = {
        f"{str(dtype).removeprefix('torch.')}.weight": low.to(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    }
    parameters = {"weight": nn.Parameter(torch.arange(6.0).reshape(2, 3)), "bias": nn.Parameter(torch.ones(2))}
    parameters["bias"].note = "with an attribute"
    optimizer = torch.optim.Adam((model := net()).parameters())
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    trained = {key: value.clone() for key, value in model.state_dict().items()}
    args = argparse.Namespace(lr=0.1, milestones=[1, 2], decay=np.float64(0.5), path=pathlib.PurePosixPath("x"))
    beside = {
        "epoch": 3,
        "best": np.float32(0.75),
        "best_tensor": torch.tensor(0.5),
        "args": args,
        "scores": np.arange(3.0),
        "counts": collections.defaultdict(int, a=1),
        "names": {"b", "a"},
        "rng_state": torch.get_rng_state()[:16].clone(),
    }
    lightning = {
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**prefixed("model.", state), "criterion.weight": torch.ones(3)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
    }
    averaged = AveragedModel(net())
    averaged.update_parameters(net(1))
    several = {"model": state, "model_ema": net(1).state_dict(), "optimizer": optimizer.state_dict()}
    legacy = {"_use_new_zipfile_serialization": False}
    plain = {key: value.detach().clone() for key, value in averaged.module.state_dict().items()}
    return {
        "zip.pth": (save(state), state),
        "legacy.pth": (save(state, **legacy), state),
        "protocol4.pth": (save(state, pickle_protocol=4), state),
        "views.pt": (save(views), views),
        "views_legacy.pt": (save(views, **legacy), views),
        "kinds.pth": (save(kinds), kinds),
        "low.bin": (save(lows), lows),
        "low_legacy.bin": (save(lows, **legacy), lows),
        "parameters.th": (save(parameters), parameters),
        "parameters_legacy.th": (save(parameters, **legacy), parameters),
        "beside.tar": (save({**beside, "network_weights": trained, "optimizer": optimizer.state_dict()}), trained),
        "beside_legacy.tar": (save({**beside, "model_state": trained, "o": optimizer.state_dict()}, **legacy), trained),
        "lightning.ckpt": (save(lightning), state),
        "parallel.pth": (save({"model_state_dict": nn.DataParallel(net()).state_dict()}), state),
        "averaged.pth": (save(averaged.state_dict()), plain),
        "compiled.pth": (save(torch.compile(net()).state_dict()), state),
        "several.pth": (save(several), net(1).state_dict()),
        "module.pt": (save(net()), state),
        "module_legacy.pt": (save(net(), **legacy), state),
        "array.pth": (save({"state_dict": {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}}), {}),
        "quantized.pth": (save({"fc.weight": torch.quantize_per_tensor(whole, 0.1, 0, torch.qint8)}), {}),
        "complex.pth": (save({"fc.weight": torch.ones(2, dtype=torch.complex64)}), {}),
        "sparse.pth": (save({"fc.weight": whole.to_sparse()}), {}),
        "optimizer.pth": (save({"optimizer": optimizer.state_dict(), "epoch": 1}), {}),
    }


def script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(net().eval(), torch.ones(1, 3, 8, 8)), file)
    return file.getvalue()


def as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    low = tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4
    return (tensor.float() if low else tensor).numpy()


def no_source(cls: type) -> None:
    """Takes the place of what finds the source of modules, which legacy files hold if it is found."""
    raise OSError


def main() -> None:
    """Writes the archive, whose members have one date."""
    torch.serialization.get_source_lines_and_file = no_source
    expected: dict[str, np.ndarray] = {}
    with tarfile.open(TARGET, "w:xz") as archive:

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

        for name, (data, state) in contents().items():
            add(name, data)
            expected |= {f"{name}/{key}": as_array(value) for key, value in state.items()}
        add("script.pt", script())
        torch.serialization.set_crc32_options(False)
        add("unchecked.pth", save(net().state_dict()))
        expected |= {f"unchecked.pth/{key}": as_array(value) for key, value in net().state_dict().items()}
        file = io.BytesIO()
        np.savez(file, **expected)
        add("expected.npz", file.getvalue())


if __name__ == "__main__":
    main()
