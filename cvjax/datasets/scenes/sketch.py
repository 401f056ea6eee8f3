"""This module has sketches: shapes in an object's own units that become lit, textured pixels with a mask."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from cvjax.datasets.scenes.textures import Color, octaves, pick

_SHIFT = 4  # OpenCV's fixed-point coordinates: 1/16 pixel
MAX_SHAPES = 250  # their numbers must fit into the uint8 of a map of parts

Points = Sequence[tuple[float, float]] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Paint:
    """Describes a surface.

    Attributes:
      color: Base color.
      grain: Kind of grain.
      amount: Strength of the grain, 0..1.
      period: Period of the grain in object units.
      angle: Direction across the stripes of the grain, in radians.
    """

    color: Color
    grain: str = "plain"
    amount: float = 0.1
    period: float = 0.1
    angle: float = 0.0


def fabric(rng: np.random.Generator) -> Paint:
    """Picks cloth of any color, plain or patterned."""
    return Paint(
        pick(rng, (0, 360), (0.05, 0.9), (0.15, 0.95)),
        str(rng.choice(("plain", "plain", "stripes", "checks", "spots"))),
        rng.uniform(0.1, 0.4),
        rng.uniform(0.04, 0.1),
        rng.uniform(0, np.pi),
    )


@dataclasses.dataclass(frozen=True)
class Light:
    """Describes the scene's light.

    Attributes:
      direction: Direction to the light on the picture, a unit vector with y down.
      strength: Strength of the relief.
      fine: Noise from pixel to pixel, to cut from.
      coarse: Noise of blotches, to cut from.
      streaks: Noise of streaks, to cut from.
    """

    direction: tuple[float, float]
    strength: float
    fine: np.ndarray
    coarse: np.ndarray
    streaks: np.ndarray

    @classmethod
    def random(cls, rng: np.random.Generator, side: int) -> "Light":
        """Draws a light from above, left or right, with noise fields float32 [side, side]."""
        angle = rng.uniform(-1.2, 1.2)
        small = side // 3

        def bank(field: np.ndarray) -> np.ndarray:
            # Mirrored to full size: noise costs more than everything else that is drawn.
            return cv2.copyMakeBorder(field, 0, side - small, 0, side - small, cv2.BORDER_REFLECT)

        return cls(
            direction=(float(np.sin(angle)), float(-np.cos(angle))),
            strength=float(rng.uniform(0.12, 0.5)),
            fine=bank(rng.standard_normal((small, small), dtype=np.float32)),
            coarse=bank(octaves(rng, small, small, 8, 3, 0.8)),
            streaks=bank(octaves(rng, small, small, 3, 2, stretch=6)),
        )


@dataclasses.dataclass(frozen=True)
class Patch:
    """Holds a drawn object.

    Attributes:
      rgb: Colors, float32 [h, w, 3].
      mask: Shape of the object, bool [h, w].
      x: Column of its corner on the canvas.
      y: Row of its corner on the canvas.
      inside: Share of its bounding box that lies on the canvas.
    """

    rgb: np.ndarray
    mask: np.ndarray
    x: int
    y: int
    inside: float


def oval(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0, n: int = 22) -> np.ndarray:
    """Returns the outline of an ellipse turned by `turn` radians, [n, 2]."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = rx * np.cos(t), ry * np.sin(t)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], -1)


def smooth(points: Points, rounds: int = 2, closed: bool = True) -> np.ndarray:
    """Cuts the corners of an outline or a line (Chaikin, 1974), `rounds` times; ends of a line stay."""
    p = np.asarray(points, np.float64)
    for _ in range(rounds):
        nxt = np.roll(p, -1, 0) if closed else p[1:]
        cur = p if closed else p[:-1]
        cut = np.stack([0.75 * cur + 0.25 * nxt, 0.25 * cur + 0.75 * nxt], 1).reshape(-1, 2)
        p = cut if closed else np.concatenate([p[:1], cut[1:-1], p[-1:]])
    return p


def ragged(rng: np.random.Generator, outline: np.ndarray, amount: float) -> np.ndarray:
    """Pushes each point of an outline away from or towards the middle by up to about `amount` of its radius."""
    middle = outline.mean(0)
    return middle + (outline - middle) * (1 + amount * rng.standard_normal((len(outline), 1)))


class Sketch:
    """Collects shapes in painter's order, x to the right, y up, the object standing on y = 0.

    Later shapes cover earlier ones. Holes cut through to whatever is behind the object.
    """

    def __init__(self) -> None:
        self._shapes: list[tuple[np.ndarray, float, bool, Paint | None]] = []

    def _add(self, points: Points, width: float, closed: bool, paint: Paint | None) -> None:
        if len(self._shapes) >= MAX_SHAPES:
            raise ValueError(f"a sketch holds at most {MAX_SHAPES} shapes")
        self._shapes.append((np.asarray(points, np.float64), width, closed, paint))

    def fill(self, paint: Paint, points: Points) -> None:
        """Adds a filled polygon."""
        self._add(points, 0.0, True, paint)

    def box(self, paint: Paint, x0: float, y0: float, x1: float, y1: float) -> None:
        """Adds a filled upright rectangle."""
        self.fill(paint, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def oval(self, paint: Paint, cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> None:
        """Adds a filled ellipse."""
        self.fill(paint, oval(cx, cy, rx, ry, turn))

    def line(self, paint: Paint, points: Points, width: float, closed: bool = False) -> None:
        """Adds a line with round ends, `width` in object units; never thinner than about 1.5 pixels."""
        self._add(points, width, closed, paint)

    def hole(self, points: Points) -> None:
        """Cuts a polygon out of the shapes so far."""
        self._add(points, 0.0, True, None)

    def bounds(self) -> tuple[float, float, float, float]:
        """Returns x0, y0, x1, y1 in object units, line widths included."""
        low = np.min([p.min(0) - w / 2 for p, w, _, _ in self._shapes], 0)
        high = np.max([p.max(0) + w / 2 for p, w, _, _ in self._shapes], 0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def draw(
        self,
        canvas: tuple[int, int],
        foot: tuple[float, float],
        scale: float,
        turn: float,
        flip: bool,
        light: Light,
        rng: np.random.Generator,
    ) -> Patch | None:
        """Rasterizes the sketch on a canvas of (height, width) pixels.

        Args:
          canvas: Size of the canvas; parts outside are cut off.
          foot: Canvas position of the object's origin.
          scale: Pixels per object unit.
          turn: Rotation in radians.
          flip: Whether to mirror left and right.
          light: Light of the scene.
          rng: Generator that decides where grain is cut from.

        Returns:
          The patch, or None where nothing falls on the canvas.
        """
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        side = -1.0 if flip else 1.0
        to_canvas = np.array([[side * c, s], [side * s, -c]])
        placed = [p @ to_canvas.T + np.asarray(foot) for p, _, _, _ in self._shapes]
        every = np.concatenate(placed)
        low, high = np.floor(every.min(0)) - 3, np.ceil(every.max(0)) + 4
        x0, y0 = np.maximum(low, 0).astype(int)
        x1, y1 = np.minimum(high, (canvas[1], canvas[0])).astype(int)
        if x1 - x0 < 4 or y1 - y0 < 4:
            return None
        parts = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for number, (points, (_, width, closed, paint)) in enumerate(zip(placed, self._shapes), 1):
            fixed = np.round((points - (x0, y0)) * 2**_SHIFT).astype(np.int32)
            value = number if paint is not None else 0
            if width:
                thick = max(3, round(width * scale))
                cv2.polylines(parts, [fixed], closed, value, thick, cv2.LINE_8, _SHIFT)
            else:
                cv2.fillPoly(parts, [fixed], value, cv2.LINE_8, _SHIFT)
        if not parts.any():
            return None
        span = (high - low).prod()
        origin = np.array([foot[0] - x0, foot[1] - y0])
        rgb = self._surface(parts, np.linalg.inv(to_canvas), origin, scale, light, rng)
        return Patch(rgb, parts > 0, int(x0), int(y0), float((x1 - x0) * (y1 - y0) / span))

    def _surface(
        self,
        parts: np.ndarray,
        to_object: np.ndarray,
        origin: np.ndarray,
        scale: float,
        light: Light,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Returns the color [h, w, 3] of every pixel: paint, times grain, times relief."""
        paints: list[Paint] = list(dict.fromkeys(p for _, _, _, p in self._shapes if p is not None))
        lookup = np.zeros(256, np.uint8)
        for number, (_, _, _, paint) in enumerate(self._shapes, 1):
            if paint is not None:
                lookup[number] = paints.index(paint) + 1
        surface = cv2.LUT(parts, lookup)
        gain = _relief(parts, scale, light)
        h, w = parts.shape
        side = light.fine.shape[0]
        oy, ox = int(rng.integers(0, max(1, side - h))), int(rng.integers(0, max(1, side - w)))
        window = np.s_[oy : oy + h, ox : ox + w]
        to_object = to_object.astype(np.float32)
        x = (np.arange(w) - origin[0]).astype(np.float32)[None, :]
        y = (np.arange(h) - origin[1]).astype(np.float32)[:, None]
        u = to_object[0, 0] * x + to_object[0, 1] * y
        v = to_object[1, 0] * x + to_object[1, 1] * y
        gain += 0.03 * light.fine[window]
        for number, paint in enumerate(paints, 1):
            if paint.grain != "plain":
                here = surface == number
                gain[here] += paint.amount * _grain(paint, u, v, light, window)[here]
        colors = np.zeros((3, 256), np.float32)
        colors[:, 1 : len(paints) + 1] = np.transpose([p.color for p in paints])
        gain = np.clip(gain, 0.1, 1.9)
        return cv2.merge([cv2.LUT(surface, channel) * gain for channel in colors])


def _relief(parts: np.ndarray, scale: float, light: Light) -> np.ndarray:
    """Returns the brightness, about 1. Every part bulges towards the viewer, so one side is lit, the other dark."""
    kernel = np.ones((3, 3), np.uint8)
    flat = (cv2.dilate(parts, kernel) == cv2.erode(parts, kernel)).astype(np.uint8)
    radius = np.float32(max(3.0, 0.12 * scale))
    height = np.sqrt(np.minimum(cv2.distanceTransform(flat, cv2.DIST_L2, 3), radius) / radius)
    height = cv2.GaussianBlur(height, (0, 0), max(1.0, 0.25 * float(radius)))
    dx, dy = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    # Height rises away from an edge, so the side that faces the light slopes down towards it.
    facing = -(light.direction[0] * dx + light.direction[1] * dy) * np.float32(radius / 8)
    edge = np.float32(0.88) + np.float32(0.16) * height
    return edge + np.float32(light.strength) * np.clip(2.0 * facing, -1.2, 1.2)


def _grain(paint: Paint, u: np.ndarray, v: np.ndarray, light: Light, window: tuple[slice, slice]) -> np.ndarray:
    """Returns the grain of a paint at object coordinates (u, v), about -1..1, float32 [h, w]."""
    kind = paint.grain
    if kind == "leaves":
        return light.coarse[window]
    if kind == "fur":
        return light.streaks[window]
    along, across = (
        np.float32(np.cos(paint.angle) / paint.period),
        np.float32(np.sin(paint.angle) / paint.period),
    )
    t = along * u + across * v
    if kind == "stripes":
        return np.where(t % 1.0 < 0.5, 1.0, -1.0).astype(np.float32)
    if kind == "tabby":
        return np.where(np.sin(2 * np.pi * t + 1.2 * light.streaks[window]) > 0.2, -1.0, 0.5).astype(np.float32)
    if kind == "checks":
        return np.where((u / paint.period % 1 < 0.5) ^ (v / paint.period % 1 < 0.5), 1.0, -1.0).astype(np.float32)
    if kind == "bricks":
        row = v / paint.period
        joint = (row % 1 < 0.18) | ((u / (2.2 * paint.period) + np.floor(row) % 2 * 0.5) % 1 < 0.08)
        return np.where(joint, -1.0, 0.3 * light.coarse[window]).astype(np.float32)
    if kind == "boards":
        return np.where(t % 1.0 < 0.15, -1.0, 0.3 * light.streaks[window]).astype(np.float32)
    if kind == "spots":
        return np.where(light.coarse[window] > 0.7, -1.0, 0.15).astype(np.float32)
    if kind == "glass":
        return (np.sin(2 * np.pi * t) * 0.8 + 0.2 * light.coarse[window]).astype(np.float32)
    raise ValueError(f"unknown grain {kind!r}")
