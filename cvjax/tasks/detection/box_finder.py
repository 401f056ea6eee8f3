"""Finds boxes in images of any size, with tiles, scales and mirror images whose boxes are joined."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors as flax_errors
from flax import linen as nn

from cvjax.data.annotations import make_objects
from cvjax.data.box_rows import mirrored, restore_boxes
from cvjax.datasets.proposals.boxes import ProposalConfig, propose
from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Detections, Proposals
from cvjax.ops.geometry import pair
from cvjax.runtime.compiler import Programs, compiled
from cvjax.tasks.detection.joined_boxes import join_boxes
from cvjax.tasks.detection.predict import Inputs
from cvjax.tasks.detection.transforms import BoxEvalTransform
from cvjax.tasks.prediction.pieces import Piece, Rows, Views, predict_one, tiles
from cvjax.visual.boxes import Boxes

if TYPE_CHECKING:
    from cvjax.tasks.detection.task import Detection

_NEAR = 2.0
"""Pixels from a tile's border within which a box counts as cut by it."""


_PROPOSED = ("proposals", "proposal_valid")


class BoxPredictor:
    """Finds boxes in images of any size, see `cvjax.tasks.prediction.pieces.BatchPredictor`.

    Images are resized and padded as in the evaluation. With tiles, each tile is seen as an image, and so is the whole.
    How boxes of several pieces are joined says `cvjax.tasks.detection.joined_boxes`.

    Args:
      task: Task of the run or checkpoint.
      model: Module of the run or checkpoint.
      variables: Variables of the model.
      views: Tiles, scales and mirror images.
      multiple: Divisor of the sides of padded images, where images have a short side; None takes the evaluation's.

    Raises:
      ConfigError: The model takes images of one size alone, and other scales are asked for.
    """

    def __init__(
        self,
        task: "Detection",
        model: nn.Module,
        variables: dict[str, Any],
        views: Views | None = None,
        *,
        multiple: int | None = None,
    ) -> None:
        self._views, self._variables = views or Views(), jax.device_put(variables)
        self._transform, self._data = task.eval_transform(), task.config.input
        self._multiple = multiple or task.config.eval.pad_multiple or 32
        self._iou = task.config.eval.nms_threshold or getattr(model, "nms_threshold", 0.5)

        def detect(variables: dict[str, Any], inputs: Inputs) -> Detections:
            return task.predict(model, variables, inputs._replace(images=task.normalize(inputs.images)))

        self._detections = Programs(compiled(detect))
        for scale in self._views.scales:
            if scale != 1 and not self._transform.short_side:
                self._check_scale(detect, scale)

    def pieces(self, size: tuple[int, int]) -> list[Piece]:
        """Returns a piece for each tile, scale and mirror image."""
        views, whole = self._views, (0, 0, *size)
        windows = [whole]
        if views.tile is not None and max(size) > views.tile:
            windows = [window for window, _ in tiles(size, views.tile, views.shared)] + windows * views.whole
        flips = (False, True) if views.flip else (False,)
        return [
            Piece(pair(self._placing(_size(window), scale).size), window, window, scale, flip)
            for window in windows
            for scale in views.scales
            for flip in flips
        ]

    def prepare(self, image: np.ndarray, piece: Piece, proposals: np.ndarray | None = None) -> Rows:
        """Returns the net's inputs for a piece of an image.

        Args:
          image: Image, uint8 [H, W, 3].
          piece: One of its pieces.
          proposals: Proposals [P, 4] in pixels of the piece; made here if the net needs some and they are not given.
        """
        shown = piece.cut(image)
        if self._data.proposals and proposals is None:
            proposals = propose(shown, ProposalConfig(mode=self._data.proposal_mode, limit=self._data.proposals))
        objects = make_objects([], [])._replace(proposals=proposals)
        padded, _, size, more = self._placing(piece.size, piece.scale)(shown, objects)
        given = ("scale", "original_size", *(_PROPOSED if _PROPOSED[0] in more else ()))
        return {"image": padded, "size": np.array(size, np.int32), **{name: more[name] for name in given}}

    def ahead(self, rows: Rows, runs: float) -> None:
        """Compiles the detector for batches of these shapes."""
        self._detections.ahead(self._variables, _inputs(rows), runs=runs)

    def start(self, rows: Rows) -> Detections:
        """Starts the detector on a batch."""
        return self._detections(self._variables, _inputs(rows))

    def part(self, outputs: Any, rows: Rows, piece: Piece) -> Boxes:
        """Returns the boxes of a piece in pixels of the image."""
        here = outputs.valid
        boxes = restore_boxes(outputs.boxes, rows["scale"], rows["original_size"])[here]
        if piece.flip:
            boxes = mirrored(boxes, piece.size[1])
        top, left = piece.window[:2]
        return Boxes(boxes + np.array([left, top, left, top], np.float32), outputs.classes[here], outputs.scores[here])

    def join(self, size: tuple[int, int], pieces: Sequence[Piece], parts: Sequence[Boxes]) -> Boxes:
        """Returns the boxes of an image, best first."""
        if len(parts) == 1:
            return parts[0]
        cut = [_cut_by(piece.window, size, part.boxes) for piece, part in zip(pieces, parts)]
        return join_boxes(parts, cut, self._iou)

    def _placing(self, size: tuple[int, int], scale: float) -> BoxEvalTransform:
        """Returns the transform of an image of this height and width, which says the size of its canvas."""
        placing = self._transform
        if scale != 1:
            sides = (placing.short_side, placing.long_side)
            short, long = (side and max(1, round(side * scale)) for side in sides)
            canvas = tuple(max(1, round(side * scale / self._multiple)) * self._multiple for side in placing.size)
            placing = dataclasses.replace(placing, short_side=short, long_side=long, size=canvas)
        if not placing.short_side:
            return placing
        shown = placing.fitted(size, inside=False)
        return dataclasses.replace(placing, size=tuple(-(-side // self._multiple) * self._multiple for side in shown))

    def _check_scale(self, detect: Callable[..., Detections], scale: float) -> None:
        shape = self._placing(pair(self._transform.size), scale).size
        image = np.zeros((*self._transform.size, 3), np.uint8)
        window = (0, 0, *pair(self._transform.size))
        proposals = np.zeros((1, 4), np.float32) if self._data.proposals else None
        rows = self.prepare(image, Piece(pair(shape), window, window, scale), proposals)
        inputs = _inputs({name: np.asarray(row)[None] for name, row in rows.items()})
        try:
            jax.eval_shape(detect, self._variables, inputs)
        except (flax_errors.ScopeParamShapeError, ConfigError) as error:
            height, width = self._transform.size
            raise ConfigError(
                f"this detector takes images of {height}x{width} pixels alone, and --scales has {scale:g}; leave it out"
            ) from error


def _size(window: tuple[int, int, int, int]) -> tuple[int, int]:
    """Returns height and width of a window (top, left, bottom, right)."""
    return window[2] - window[0], window[3] - window[1]


def _inputs(rows: Rows) -> Inputs:
    placed = {name: jnp.asarray(rows[name]) for name in ("image", "size", *(_PROPOSED if _PROPOSED[0] in rows else ()))}
    given = Proposals(*(placed[name] for name in _PROPOSED)) if _PROPOSED[0] in rows else None
    return Inputs(placed["image"], placed["size"], given, None)


def _cut_by(window: tuple[int, int, int, int], size: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """Returns which boxes reach a border of a window that lies inside of the image, bool [N]."""
    top, left, bottom, right = window
    low = np.where(np.array([left, top]) > 0, [left, top], -np.inf) + _NEAR
    high = np.where(np.array([right, bottom]) < size[::-1], [right, bottom], np.inf) - _NEAR
    beyond = np.concatenate([boxes[:, :2] < low, boxes[:, 2:] > high], axis=1)
    return np.asarray(beyond.any(axis=1))


def make_box_finder(task: "Detection", model: nn.Module, variables: dict[str, Any]) -> Callable[..., Boxes]:
    """Returns a function from an image, uint8 [H, W, 3] of any size, to its detections, sorted by descending score.

    The function detects as the evaluation is configured, see `BoxPredictor`. If the configuration has proposals, its
    second argument may be the proposals [P, 4], in pixels of the image; otherwise they are made.
    """
    predictor = BoxPredictor(task, model, variables)

    def find(image: np.ndarray, proposals: np.ndarray | None = None) -> Boxes:
        return predict_one(predictor, image, proposals=proposals)

    return find
