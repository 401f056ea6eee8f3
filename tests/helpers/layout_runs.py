"""A small U-Net's run under each layout, one after another, as one host of several.

`python layout_runs.py DATA OUT HOSTS ID PORT LAYOUT ...` writes a run's folder for each layout into OUT. This host adds
a line to OUT/sizes-ID.txt whenever it reads the size of an image.
"""

import dataclasses
import pathlib
import sys

from cvjax.data.dataset import FolderDataset
from cvjax.engine.distributed import ClusterConfig, initialize
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.run import train
from cvjax.models.config import ModelConfig
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationEval
from cvjax.tasks.segmentation.transforms import SegmentationData

LAYOUTS = {
    "jit": {"parallel": "jit"},
    "pmap": {"parallel": "pmap"},
    "fsdp": {"parallel": "fsdp"},
    "spatial": {"parallel": "spatial", "spatial": 2},
}
STEPS = 10

# Momentum and a low learning rate, because others amplify rounding.
CONFIG = SegmentationConfig(
    model=ModelConfig("unet", width=16, depth=1),
    data="image_folder_segmentation",
    steps=STEPS,
    batch_size=8,
    log_every=5,
    eval_every=STEPS,
    checkpoint_every=STEPS,
    input=SegmentationData(crop=(32, 32)),
    eval=SegmentationEval(batch_size=8, pad_multiple=64),
    optim=OptimizerConfig(name="nesterov", learning_rate=0.002, warmup=0.0, clip_norm=5.0, ema_decay=0.99),
)


def main(data: str, out: str, hosts: int, number: int, port: int, layouts: list[str]) -> None:
    if hosts > 1:
        initialize(ClusterConfig(coordinator=f"127.0.0.1:{port}", num_processes=hosts, process_id=number))
    read_size = FolderDataset.header_size

    def header_size(source: FolderDataset, index: int) -> tuple[int, int]:
        with open(pathlib.Path(out) / f"sizes-{number}.txt", "a") as file:
            file.write(f"{source.split} {index}\n")
        return read_size(source, index)

    FolderDataset.header_size = header_size
    shared = dataclasses.replace(CONFIG, input=dataclasses.replace(CONFIG.input, manual_dir=data))
    for name in layouts:
        train(dataclasses.replace(shared, workdir=str(pathlib.Path(out) / name), **LAYOUTS[name]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6:])
