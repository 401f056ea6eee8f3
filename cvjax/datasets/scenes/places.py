"""This module draws the backgrounds of `scenes`: five kinds of place, each with clutter that is of no class."""

import cv2
import numpy as np

from cvjax.datasets.scenes import textures as tx
from cvjax.datasets.scenes.sketch import Paint, Sketch, oval, ragged, smooth

_GROUND = {
    "country": (tx.grass, tx.grass, tx.loose),
    "street": (tx.loose, tx.masonry, tx.loose),
    "shore": (tx.water,),
    "room": (tx.planks, tx.cloth, tx.masonry, tx.plaster),
}
_WALLS = {
    "street": (tx.masonry, tx.masonry, tx.plaster, tx.planks, tx.foliage),
    "room": (tx.plaster, tx.cloth, tx.cloth, tx.planks, tx.masonry),
}
_WHOLE = (tx.grass, tx.loose, tx.masonry, tx.planks, tx.cloth, tx.water, tx.plaster, tx.foliage, tx.sky)


def _recede(texture: np.ndarray, squeeze: float) -> np.ndarray:
    """Views a texture [h, w, 3] as a plane that goes away from the viewer: narrower and denser at the top."""
    h, w = texture.shape[:2]
    inset = 0.5 * squeeze * w
    source = np.array([[-inset, -0.2 * h], [w + inset, -0.2 * h], [w, h], [0, h]], np.float32)
    target = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    return cv2.warpPerspective(texture, matrix, (w, h), borderMode=cv2.BORDER_REFLECT)


def _pick(rng: np.random.Generator, makers: tuple, height: int, width: int) -> np.ndarray:
    return makers[int(rng.integers(len(makers)))](rng, height, width)


def background(rng: np.random.Generator, place: str, height: int, width: int) -> tuple[np.ndarray, int]:
    """Draws an empty place.

    Args:
      rng: Generator that decides it.
      place: One of `objects.PLACES`.
      height: Height in pixels.
      width: Width in pixels.

    Returns:
      float32 RGB [height, width, 3] in 0..255, and the row of the horizon (0 for a place without one).
    """
    if place == "plain":
        return _pick(rng, _WHOLE, height, width), 0
    horizon = int(height * rng.uniform(0.22, 0.62))
    out = np.empty((height, width, 3), np.float32)
    if place in _WALLS:
        out[:horizon] = _pick(rng, _WALLS[place], horizon, width)
    else:
        out[:horizon] = tx.sky(rng, horizon, width)
    ground = _pick(rng, _GROUND[place], height - horizon, width)
    out[horizon:] = _recede(ground, rng.uniform(0.3, 1.2))
    if place in ("country", "shore"):
        _hills(rng, out, horizon)
    elif place == "street" and rng.random() < 0.4:
        _skyline(rng, out, horizon)
    else:
        out[max(0, horizon - 3) : horizon] *= rng.uniform(0.4, 1.3)  # curb or baseboard
    return out, horizon


def _hills(rng: np.random.Generator, out: np.ndarray, horizon: int) -> None:
    """Draws far hills or woods in haze above the horizon, in place."""
    width = out.shape[1]
    for _ in range(int(rng.integers(0, 3))):
        tall = horizon * rng.uniform(0.05, 0.4)
        edge = tx.octaves(rng, 1, width, rng.uniform(10, 60), 4, 0.5, stretch=2)[0]
        top = np.clip(horizon - tall * (0.6 + 0.3 * edge), 0, horizon)
        cover = (np.arange(horizon)[:, None] > top[None, :])[..., None]
        haze = rng.uniform(0.15, 0.75)
        leaves = tx.foliage(rng, horizon, width) if rng.random() < 0.7 else tx.loose(rng, horizon, width)
        far = leaves * (1 - haze) + np.array([190, 200, 212], np.float32) * haze
        out[:horizon] = np.where(cover, far, out[:horizon])


def _skyline(rng: np.random.Generator, out: np.ndarray, horizon: int) -> None:
    """Draws open sky over the wall's upper part, in place."""
    edge = int(horizon * rng.uniform(0.2, 0.7))
    if edge > 4:
        out[:edge] = tx.sky(rng, edge, out.shape[1])


def clutter(rng: np.random.Generator, place: str) -> Sketch:
    """Draws one thing of no class: stone, crate, bush, post or ball.

    Such things keep parts from naming a class: leaves without a trunk are no tree, a pole without a head is no lamp, a
    disc is no wheel.
    """
    sketch = Sketch()
    kind = int(rng.integers(5))
    color = tx.pick(rng, (0, 360), (0.0, 0.6), (0.2, 0.9))
    if kind == 0:
        stone = Paint(tx.pick(rng, (15, 50), (0, 0.3), (0.25, 0.75)), "leaves", 0.15)
        sketch.fill(stone, smooth(ragged(rng, oval(0, 0.3, 0.5, 0.3, n=9), 0.1), 1))
    elif kind == 1:
        crate = Paint(color, "boards" if rng.random() < 0.6 else "plain", 0.3, 0.2, rng.choice((0.0, 1.57)))
        sketch.box(crate, -rng.uniform(0.3, 0.7), 0, rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.9))
    elif kind == 2 and place != "room":
        leaf = Paint(tx.pick(rng, (45, 135), (0.3, 0.8), (0.2, 0.65)), "leaves", rng.uniform(0.25, 0.5))
        for x in (-0.3, 0.3, 0.0):
            sketch.fill(leaf, ragged(rng, oval(x, 0.28, rng.uniform(0.25, 0.4), 0.28), 0.09))
    elif kind == 3:
        sketch.line(Paint(color, "fur", 0.15), [(0, 0), (rng.uniform(-0.05, 0.05), 0.9)], rng.uniform(0.03, 0.1))
    else:
        ball = Paint(color, str(rng.choice(["plain", "stripes", "checks"])), 0.25, 0.3, rng.uniform(0, 3))
        sketch.oval(ball, 0, 0.4, 0.4, 0.4)
    return sketch
