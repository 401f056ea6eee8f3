"""Adds the auxiliary classifiers' logits to googlenet.npz: `python tests/golden/make_googlenet.py`.

Needs torch and torchvision (0.29 made the file), and the googlenet.npz that `make.py` copied. In evaluation torchvision
leaves these classifiers out, so the net alone is told that it trains, and its layers that they do not.
"""

import pathlib
import sys

import numpy as np
import torch
import torchvision

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))
import _reference as reference  # noqa: E402  (it lies beside the tests that use it)


def main() -> None:
    state, archive = reference.load(HERE, "googlenet")
    net = torchvision.models.googlenet(aux_logits=True, init_weights=False)
    net.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
    net.eval()
    net.training = True
    images = reference.images((2, 224, 224, 3)).transpose(0, 3, 1, 2).copy()
    with torch.no_grad():
        logits, aux2, aux1 = net(torch.from_numpy(images))
    assert reference.relative_error(logits.numpy(), archive["logits"]) < 1e-5
    np.savez_compressed(HERE / "googlenet.npz", **{**archive, "aux1": aux1.numpy(), "aux2": aux2.numpy()})


if __name__ == "__main__":
    main()
