"""Writes what version 0.1 recorded of its presets: run this in a checkout of commit 76b3a94.

    cd CHECKOUT && python .../tests/golden/make_v01.py OUT_FOLDER

`presets.json` has for each preset of each experiment its `config.json`, and a digest of the names and shapes of its
variables; the tests read these with today's code. Small checkpoints come from these commands, in the same checkout:

    python -m experiments.unet_isbi ... and so on, see COMMANDS
"""

import hashlib
import importlib
import json
import pathlib
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp

_SHORT = "--steps 2 --log-every 1 --eval-every 2 --checkpoint-every 2 --data scenes --batch-size 4 --keep 1"
COMMANDS = {
    "deeplab": f"experiments.deeplab_voc quick {_SHORT} --model.width 4 --model.stage-sizes 1 1 1 1"
    " --model.aspp-features 4 --model.low-level-features 2 --model.bn-momentum 0.8 --input.crop 48 48 --optim.name sgd",
}


def describe(config) -> dict:
    """Returns what a run of version 0.1 writes as config.json, but for its data set, and its variables' digest."""
    from cvjax.runs.config import as_json

    from cvjax.models import create_model
    from cvjax.models.detection.detector import beside_images

    options = config.model.options()
    model = create_model(config.model.name, num_classes=5, **options)
    images = jax.ShapeDtypeStruct((2, *config.input.crop, 3), jnp.float32)
    beside = beside_images(model, images.shape)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, **beside), jax.random.key(0), images)
    rows = sorted(
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {leaf.shape}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables))
    )
    return {
        "model": as_json({"name": config.model.name, "options": options}),
        "run": as_json(config),
        "variables": hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16],
    }


def main() -> None:
    """Writes the files."""
    sys.path.insert(0, str(pathlib.Path.cwd()))
    out = pathlib.Path(sys.argv[1])
    found = {}
    for path in sorted(pathlib.Path("experiments").glob("[a-z]*.py")):
        for preset, config in importlib.import_module(f"experiments.{path.stem}").PRESETS.items():
            found[f"{path.stem} {preset}"] = describe(config)
    (out / "presets.json").write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")
    for name, command in COMMANDS.items():
        subprocess.run([sys.executable, "-m", *shlex.split(command), "--workdir", str(out / name)], check=True)


if __name__ == "__main__":
    main()
