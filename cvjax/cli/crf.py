"""`cvjax crf IMAGE PROBS` refines any net's probabilities for one photograph with a dense CRF."""

import dataclasses
import io
import os
import zipfile
from collections.abc import Sequence
from typing import Annotated, BinaryIO, cast

import numpy as np
import tyro
from rich.console import Console

from cvjax.cli.shell.reading import read
from cvjax.data.photos import photo_orientation, read_photo
from cvjax.data.pixels.turning import turn
from cvjax.engine.command import run_command
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError, DataError
from cvjax.storage import AnyPath, as_path, write_result
from cvjax.tasks.segmentation.crf_config import CRFS, CRFFlag
from cvjax.visual.canvas import save_mask, save_png
from cvjax.visual.grid import Example, save_grid
from cvjax.visual.overlay import draw_overlay

_TOLERANCE = 0.01
"""Largest distance from 1 of the sum of a pixel's probabilities."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Refines a net's probabilities for a photograph with a dense CRF.

    Writes NAME_overlay.png and NAME_before_after.png, to be looked at, and NAME_mask.png, a palette PNG whose pixels
    are class numbers.

    Attributes:
      image: Photograph in any common format, a path or a URL.
      probs: File of the probabilities, .npy, or .npz with one array: numbers [H, W, C] or [C, H, W] for each pixel.
      crf: Parameters of the CRF, by DeepLab's names or as the numbers of its kernels.
      logits: The numbers are logits, not probabilities.
      out: Folder for the results.
      names: Name of each class, for the legend.
      marginals: Also write the probabilities after the CRF, as NAME_marginals.npy, float32 [H, W, C].
    """

    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    probs: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROBS")]
    crf: CRFFlag = CRFS["v2"]
    logits: bool = False
    out: str = "predictions"
    names: tuple[str, ...] = ()
    marginals: bool = False


def crf_file(arguments: Arguments, console: Console) -> np.ndarray:
    """Refines the probabilities, writes the pictures, and returns the marginals, float32 [H, W, C].

    Raises:
      UserError: A missing or damaged file, or numbers that fit neither the image nor their description.
    """
    targets = _targets(arguments)
    image = read_photo(arguments.image)
    orientation = photo_orientation(arguments.image)
    probabilities = read_probabilities(arguments.probs, image.shape[:2], orientation, logits=arguments.logits)
    classes = probabilities.shape[-1]
    if arguments.names and len(arguments.names) != classes:
        raise ConfigError(f"--names has {len(arguments.names)} names and {arguments.probs} {classes} classes")
    names = arguments.names or tuple(f"class {label}" for label in range(classes))
    crf = arguments.crf
    if crf is not None:
        # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
        import jax

        from cvjax.tasks.segmentation.crf import apply_crf

        program = jax.jit(lambda p, i: apply_crf(p, i, crf))
        marginals = np.asarray(program(probabilities[None], image[None]))[0]
    else:
        marginals = probabilities
    before, after = (maps.argmax(-1).astype(np.uint8) for maps in (probabilities, marginals))
    save_png(targets["overlay"], draw_overlay(image, after, names))
    pair = Example(image, before, after)
    save_grid(targets["before_after"], [pair], names, titles=("image", "before the CRF", "after it"))
    save_mask(targets["mask"], after)
    if arguments.marginals:
        content = io.BytesIO()
        np.save(content, marginals)
        write_result(targets["marginals"], content.getvalue())
    line = (
        f"{arguments.image}: {(before != after).mean():.1%} of the pixels changed their class -> {targets['overlay']}"
    )
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
    return marginals


def _targets(arguments: Arguments) -> dict[str, AnyPath]:
    """Returns the paths of the results by kind, and checks that no result replaces a file that was given."""
    image, out = as_path(arguments.image), as_path(arguments.out)
    given = {image.resolve(), as_path(arguments.probs).resolve()}
    kinds = {"overlay": "png", "before_after": "png", "mask": "png", "marginals": "npy"}
    targets = {kind: out / f"{image.stem}_{kind}.{suffix}" for kind, suffix in kinds.items()}
    for path in targets.values():
        if path.resolve() in given:
            raise ConfigError(f"the result would replace {path}; choose another folder with --out")
    return targets


def read_probabilities(
    path: str | os.PathLike[str], size: tuple[int, int], orientation: int = 1, *, logits: bool = False
) -> np.ndarray:
    """Reads the probabilities of an image's pixels from a file of numpy's.

    Args:
      path: File or URL, .npy, or .npz with one array; numbers [H, W, C], or [C, H, W].
      size: Height and width of the upright image; where both orders fit, [H, W, C] is meant.
      orientation: Turn that EXIF states for the image. Numbers that fit only its stored pixels are turned with it.
      logits: Whether the file holds logits.

    Returns:
      Probabilities, float32 [H, W, C].

    Raises:
      DataError: No such file, other shapes, numbers that are not finite, or no probabilities.
    """
    try:
        with as_path(path).open("rb") as file:
            loaded = np.load(cast(BinaryIO, file), allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                if len(loaded.files) != 1:
                    raise DataError(f"{path} holds the arrays {', '.join(loaded.files)}; keep one of them")
                loaded = loaded[loaded.files[0]]
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the path") from error
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        # numpy takes anything else for a pickle, and says how to load that unsafely.
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no array"
        raise DataError(f"{path}: cannot be read as .npy or .npz ({why}); save an array with numpy.save") from error
    shape = list(loaded.shape)
    fits = tuple(size) in (loaded.shape[:2], loaded.shape[1:])
    if loaded.ndim == 3 and orientation > 4 and not fits and size[::-1] in (loaded.shape[:2], loaded.shape[1:]):
        axis = 2 if loaded.shape[:2] == size[::-1] else 0
        channels = np.moveaxis(loaded, axis, 0).astype(np.float32, order="C")
        loaded = np.stack([turn(channel, orientation) for channel in channels], axis=-1)
    if loaded.ndim != 3 or tuple(size) not in (loaded.shape[:2], loaded.shape[1:]):
        raise DataError(f"{path}: is {shape} for an image of {list(size)}; save [H, W, C] or [C, H, W] of its size")
    values = loaded.astype(np.float32)
    if values.shape[:2] != tuple(size):
        values = np.ascontiguousarray(np.moveaxis(values, 0, -1))
    if not 2 <= values.shape[-1] <= 255:
        raise DataError(f"{path}: {shape} has {values.shape[-1]} classes; a mask holds 2 to 255")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: some numbers are not finite; save the net's output again")
    if logits:
        values = np.exp(values - values.max(-1, keepdims=True))
        return values / values.sum(-1, keepdims=True)
    if values.min() < 0 or np.abs(values.sum(-1) - 1).max() > _TOLERANCE:
        raise DataError(f"{path}: these are no probabilities, which sum to 1 at each pixel; add --logits if logits")
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    crf_file(read(Arguments, argv, "crf"), make_console())


if __name__ == "__main__":
    run_command(main)
