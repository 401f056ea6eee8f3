"""This module draws plants: flower and tree. See `creatures` for the rules."""

import numpy as np

from cvjax.datasets.scenes.sketch import Paint, Sketch, oval, ragged, smooth
from cvjax.datasets.scenes.textures import pick, pick_of

_PETALS = (
    (3, (310, 355), (0.45, 0.9), (0.7, 1.0)),
    (2, (42, 58), (0.7, 1.0), (0.85, 1.0)),
    (1, (0, 12), (0.7, 0.95), (0.65, 0.95)),
    (1, (40, 60), (0.0, 0.1), (0.9, 1.0)),
    (1, (255, 290), (0.4, 0.8), (0.5, 0.9)),
)


def flower(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws one to three blossoms of radial petals on thin stems with leaves, sometimes in a pot."""
    green = Paint(pick(rng, (70, 130), (0.3, 0.8), (0.2, 0.6)), "fur", 0.15)
    petal = Paint(pick_of(rng, *_PETALS), "fur", 0.12)
    heart = Paint(pick(rng, (25, 60), (0.3, 0.95), (0.2, 0.95)))
    potted = rng.random() < 0.4
    base = 0.22 if potted else 0.0
    count = int(rng.integers(1, 4))
    for k in range(count):
        x, y = (k - (count - 1) / 2) * 0.3 + rng.uniform(-0.06, 0.06), rng.uniform(0.7, 1.0)
        bend = rng.uniform(-0.12, 0.12)
        sketch.line(green, smooth([(0.05 * k - 0.03, base), (x * 0.5 + bend, 0.5), (x, y)], 2, False), 0.035)
        side = rng.choice((-1, 1))
        sketch.oval(green, x * 0.5 + side * 0.12, base + rng.uniform(0.1, 0.3), 0.14, 0.05, side * 0.6)
        petals, r = int(rng.integers(5, 10)), rng.uniform(0.1, 0.17)
        for angle in np.arange(petals) * 2 * np.pi / petals + rng.uniform(0, 1):
            sketch.oval(petal, x + r * np.cos(angle), y + r * np.sin(angle), r * 0.75, r * 0.38, angle)
        sketch.oval(heart, x, y, r * 0.42, r * 0.42)
    if potted:
        pot = Paint(pick_of(rng, (3, (8, 24), (0.45, 0.75), (0.4, 0.8)), (1, (0, 360), (0.1, 0.6), (0.3, 0.9))))
        sketch.fill(pot, [(-0.17, 0.26), (0.17, 0.26), (0.11, 0.0), (-0.11, 0.0)])
        sketch.box(pot, -0.2, 0.22, 0.2, 0.29)


def tree(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a tree: a broadleaf with gaps in its crown, a conifer, or bare winter branches."""
    bark = Paint(pick(rng, (15, 40), (0.1, 0.5), (0.15, 0.6)), "fur", 0.25)
    leaf_hue = (75, 130) if rng.random() < 0.85 else (20, 50)
    leaf = Paint(pick(rng, leaf_hue, (0.3, 0.8), (0.2, 0.65)), "leaves", rng.uniform(0.25, 0.5))
    kind = rng.random()
    girth = rng.uniform(0.05, 0.11)
    if kind < 0.6:
        sketch.line(bark, [(0, 0), (rng.uniform(-0.05, 0.05), 0.5)], girth)
        wide = rng.uniform(0.2, 0.38)
        low = rng.uniform(0.35, 0.55)
        for _ in range(int(rng.integers(4, 8))):
            x, y = rng.uniform(-wide, wide), rng.uniform(low, 0.85)
            sketch.fill(leaf, ragged(rng, oval(x, y, rng.uniform(0.14, 0.24), rng.uniform(0.12, 0.2)), 0.09))
        sketch.fill(leaf, ragged(rng, oval(0, (low + 0.85) / 2, wide, 0.22), 0.09))
        for _ in range(int(rng.integers(0, 4))):
            hole = oval(rng.uniform(-wide, wide), rng.uniform(low, 0.8), 0.04, 0.03)
            sketch.hole(ragged(rng, hole, 0.25))
    elif kind < 0.85:
        sketch.line(bark, [(0, 0), (0, 0.3)], girth)
        tiers, wide = int(rng.integers(3, 6)), rng.uniform(0.22, 0.36)
        for k in range(tiers):
            y0, y1 = 0.16 + 0.7 * k / tiers, 0.16 + 0.7 * (k + 1.7) / tiers
            w = wide * (1 - 0.75 * k / tiers)
            edge = [
                (-w, y0),
                (-w * 0.4, y0 + 0.04),
                (0, y0 - 0.01),
                (w * 0.5, y0 + 0.04),
                (w, y0),
                (0, min(y1, 1.0)),
            ]
            sketch.fill(leaf, edge)
    else:
        _branch(sketch, rng, bark, 0.0, 0.0, rng.uniform(-0.1, 0.1), 0.42, girth, 4)


def _branch(
    sketch: Sketch,
    rng: np.random.Generator,
    bark: Paint,
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    depth: int,
) -> None:
    """Draws a bough and the boughs that leave it."""
    ex, ey = x + length * np.sin(angle), y + length * np.cos(angle)
    sketch.line(bark, [(x, y), (ex, ey)], width)
    if depth > 1:
        for side in (-1, 1) if rng.random() < 0.6 else (-1, 0, 1):
            turn = side * rng.uniform(0.35, 0.8)
            _branch(
                sketch,
                rng,
                bark,
                ex,
                ey,
                angle + turn,
                length * rng.uniform(0.55, 0.75),
                width * 0.6,
                depth - 1,
            )
