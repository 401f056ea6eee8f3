"""This module draws living things: person, dog, cat, bird.

A drawer takes an empty sketch and a generator. It draws one object on y = 0, about one unit high. Colors are those of
the world: they make a class likely, and overlap between classes. The rest is left to form and grain.
"""

import numpy as np

from cvjax.datasets.scenes.sketch import Paint, Sketch, fabric, smooth
from cvjax.datasets.scenes.textures import Color, pick, pick_of, scaled

_PLUMAGE = (
    (2, (195, 225), (0.35, 0.75), (0.35, 0.9)),
    (1, (0, 25), (0.5, 0.85), (0.5, 0.85)),
    (1, (200, 240), (0.0, 0.1), (0.1, 0.95)),
    (1, (20, 45), (0.2, 0.6), (0.25, 0.7)),
)


def _coat(rng: np.random.Generator) -> Color:
    """Picks a color of fur that cats and dogs share: black, white, gray, brown, ginger."""
    return pick(rng, (16, 36), (0.05, 0.65), (0.12, 0.92))


def _limb(rng: np.random.Generator, x: float, y: float, angle: float, bend: float, upper: float, lower: float):
    """Returns three points: joint, knee or elbow, end. Angles are from straight down, in radians."""
    knee = (x + upper * np.sin(angle), y - upper * np.cos(angle))
    end = (knee[0] + lower * np.sin(angle + bend), knee[1] - lower * np.cos(angle + bend))
    return [(x, y), knee, end]


def person(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a person who stands, walks or waves, with trousers or a skirt, and with hair or a hat."""
    skin = Paint(pick(rng, (14, 28), (0.3, 0.6), (0.4, 0.95)))
    top = fabric(rng)
    bottom = Paint(pick(rng, (205, 235), (0.25, 0.65), (0.15, 0.6))) if rng.random() < 0.65 else fabric(rng)
    shoe = Paint(pick(rng, (0, 360), (0, 0.5), (0.1, 0.8)))
    build = rng.uniform(0.8, 1.3)
    stride = rng.uniform(0.0, 0.55) if rng.random() < 0.6 else 0.06
    hip, neck = 0.5, 0.84
    shirt_sleeves = rng.random() < 0.6
    for side in (-1, 1):
        leg = _limb(rng, side * 0.035 * build, hip, side * stride, -rng.uniform(0, 0.5) * stride, 0.25, 0.24)
        sketch.line(bottom, leg, 0.075 * build)
        sketch.line(shoe, [leg[2], (leg[2][0] + 0.05, leg[2][1])], 0.05)
        if side < 0:
            swing = -stride if rng.random() < 0.75 else rng.uniform(1.2, 2.8)
            far = _limb(rng, -0.08 * build, neck - 0.04, swing, rng.uniform(0, 0.9), 0.17, 0.16)
            sketch.line(top if shirt_sleeves else skin, far, 0.05 * build)
    w = 0.1 * build
    torso = [
        (-w, neck),
        (w, neck),
        (w * 0.95, 0.6),
        (w * 0.8, hip - 0.04),
        (-w * 0.8, hip - 0.04),
        (-w * 0.95, 0.6),
    ]
    sketch.fill(top, smooth(torso, 1))
    if rng.random() < 0.3:
        flare = rng.uniform(1.3, 2.2)
        sketch.fill(bottom, [(-w * 0.8, 0.56), (w * 0.8, 0.56), (w * flare, 0.27), (-w * flare, 0.27)])
    sketch.line(skin, [(0, neck - 0.01), (0, neck + 0.04)], 0.05)
    hair = Paint(pick(rng, (10, 45), (0.1, 0.7), (0.05, 0.8)), "fur", 0.2)
    long_hair = rng.random() < 0.4
    if long_hair:
        sketch.oval(hair, -0.01, 0.89, 0.075, 0.11)
    sketch.oval(skin, 0, 0.925, 0.06, 0.075)
    sketch.fill(hair, smooth([(-0.065, 0.92), (-0.06, 1.0), (0.03, 1.015), (0.065, 0.96), (0.0, 0.965)], 1))
    if rng.random() < 0.25:
        hat = fabric(rng)
        sketch.box(hat, -0.06, 0.965, 0.06, 1.04)
        sketch.line(hat, [(-0.1, 0.965), (0.1, 0.965)], 0.02)
    swing = stride if rng.random() < 0.75 else rng.uniform(0.9, 2.8)
    near = _limb(rng, 0.08 * build, neck - 0.04, swing, rng.uniform(0, 0.9), 0.17, 0.16)
    sketch.line(skin, near, 0.045 * build)
    if shirt_sleeves:
        sketch.line(top, near[:2], 0.06 * build)


def _walker(sketch: Sketch, rng: np.random.Generator, coat: Paint, legs: float, length: float, bulk: float) -> None:
    """Draws four legs and a body, with the head end at +length / 2."""
    dark = Paint(scaled(coat.color, 0.8), coat.grain, coat.amount, coat.period, coat.angle)
    back, thick = legs + bulk, rng.uniform(0.075, 0.11)
    gait = rng.uniform(0, 0.5)
    for x, paint, phase in ((-0.4, dark, 1), (0.38, dark, -1), (-0.46, coat, -1), (0.44, coat, 1)):
        foot = _limb(rng, x * length, legs + 0.06, phase * gait, -0.25 * gait, legs * 0.5, legs * 0.5)
        sketch.line(paint, foot, thick)
    x = length / 2
    body = [
        (-x, back),
        (0, back * 0.97),
        (x, back + 0.04),
        (x * 1.1, legs + 0.1),
        (x * 0.5, legs - 0.02),
        (-x * 0.5, legs + rng.uniform(0.0, 0.08)),
        (-x * 1.1, legs + 0.08),
    ]
    sketch.fill(coat, smooth(body))


def dog(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a dog that stands or sits, with a long snout, hanging or short ears and a straight strong tail."""
    coat = Paint(_coat(rng), "spots" if rng.random() < 0.35 else "fur", rng.uniform(0.15, 0.5))
    dark = Paint(scaled(coat.color, 0.55), "fur", 0.15)
    nose = Paint((25, 22, 22))
    if rng.random() < 0.7:
        legs, length, bulk = rng.uniform(0.22, 0.45), rng.uniform(0.65, 0.95), rng.uniform(0.25, 0.33)
        tail = rng.uniform(0.3, 2.4)
        root = (-length / 2, legs + bulk - 0.04)
        sketch.line(
            coat,
            smooth(
                [root, (root[0] - 0.1, root[1] + 0.05 * tail), (root[0] - 0.13, root[1] + 0.12 * tail)],
                2,
                False,
            ),
            0.06,
        )
        _walker(sketch, rng, coat, legs, length, bulk)
        hx, hy = length / 2 + 0.1, legs + bulk + rng.uniform(0.08, 0.2)
        sketch.line(coat, [(length / 2 - 0.06, legs + bulk - 0.06), (hx, hy)], 0.2)
    else:
        sketch.line(coat, smooth([(-0.2, 0.06), (-0.4, 0.08), (-0.5, 0.2)], 2, False), 0.06)
        sketch.fill(coat, smooth([(-0.3, 0), (-0.34, 0.25), (-0.02, 0.72), (0.2, 0.7), (0.22, 0.3), (0.05, 0)]))
        sketch.line(coat, [(0.14, 0.5), (0.17, 0.03)], 0.1)
        sketch.line(dark, [(0.05, 0.45), (0.06, 0.03)], 0.1)
        hx, hy = 0.16, 0.82
    sketch.oval(coat, hx, hy, 0.14, 0.125)
    snout = rng.uniform(0.14, 0.24)
    drop = rng.uniform(0.02, 0.07)
    sketch.line(coat, [(hx + 0.05, hy - 0.03), (hx + snout, hy - drop)], 0.12)
    sketch.oval(nose, hx + snout + 0.05, hy - drop + 0.02, 0.03, 0.026)
    sketch.oval(nose, hx + 0.07, hy + 0.035, 0.02, 0.02)
    if rng.random() < 0.75:
        sketch.oval(dark, hx - 0.07, hy - 0.04, 0.055, 0.14, rng.uniform(-0.4, 0.2))
    else:
        sketch.fill(dark, smooth([(hx - 0.13, hy + 0.06), (hx - 0.06, hy + 0.2), (hx, hy + 0.1)], 1))


def cat(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a cat that walks or sits, with a round face, two pointed ears and a long thin curved tail."""
    coat = Paint(
        _coat(rng),
        "tabby" if rng.random() < 0.5 else "fur",
        rng.uniform(0.15, 0.45),
        0.13,
        rng.uniform(-0.3, 0.3),
    )
    plain = Paint(coat.color, "fur", 0.15)
    eye = Paint(pick(rng, (50, 130), (0.5, 0.9), (0.5, 0.95)))
    curl = rng.uniform(-0.25, 0.35)
    if rng.random() < 0.5:
        legs, length, bulk = rng.uniform(0.2, 0.32), rng.uniform(0.65, 0.9), rng.uniform(0.22, 0.3)
        root = (-length / 2, legs + bulk - 0.05)
        tail = [
            root,
            (root[0] - 0.22, root[1] + 0.02),
            (root[0] - 0.28, root[1] + 0.3),
            (root[0] - 0.28 + curl, root[1] + 0.42),
        ]
        sketch.line(coat, smooth(tail, 3, False), 0.055)
        _walker(sketch, rng, coat, legs, length, bulk)
        hx, hy = length / 2 + 0.08, legs + bulk + rng.uniform(-0.02, 0.12)
    else:
        tail = [(-0.2, 0.04), (-0.5, 0.03), (-0.55, 0.25 + curl), (-0.4, 0.35 + curl)]
        sketch.line(coat, smooth(tail, 3, False), 0.055)
        sketch.fill(coat, smooth([(-0.28, 0), (-0.32, 0.25), (-0.08, 0.66), (0.14, 0.68), (0.2, 0.3), (0.16, 0)]))
        sketch.line(plain, [(0.1, 0.4), (0.12, 0.03)], 0.08)
        hx, hy = 0.06, 0.78
    for side in (-1, 1):
        sketch.fill(
            plain,
            [(hx + side * 0.14, hy + 0.04), (hx + side * 0.125, hy + 0.24), (hx + side * 0.02, hy + 0.11)],
        )
    sketch.oval(coat, hx, hy, 0.165, 0.14)
    for side in (-1, 1):
        sketch.oval(eye, hx + 0.02 + side * 0.06, hy + 0.025, 0.028, 0.026)
    sketch.oval(Paint((205, 130, 130)), hx + 0.02, hy - 0.035, 0.02, 0.015)


def bird(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a bird, perched on thin legs or in flight with spread wings."""
    body = Paint(pick_of(rng, *_PLUMAGE), "fur", 0.2)
    wing = Paint(pick_of(rng, *_PLUMAGE), "stripes", rng.uniform(0.1, 0.35), 0.1, rng.uniform(0, 3))
    beak = Paint(pick(rng, (15, 50), (0.4, 0.9), (0.5, 0.95)))
    if rng.random() < 0.55:
        for x in (-0.04, 0.07):
            sketch.line(beak, [(x, 0.3), (x + 0.02, 0.02), (x + 0.1, 0.0)], 0.03)
        sketch.fill(wing, [(-0.25, 0.42), (-0.72, rng.uniform(0.15, 0.6)), (-0.62, 0.3), (-0.2, 0.3)])
        sketch.fill(body, smooth([(-0.4, 0.38), (-0.1, 0.66), (0.2, 0.75), (0.38, 0.6), (0.2, 0.28), (-0.15, 0.25)]))
        hx, hy = 0.28, 0.78
        sketch.fill(wing, smooth([(-0.5, 0.32), (-0.1, 0.58), (0.14, 0.55), (0.02, 0.38)]))
    else:
        up = rng.uniform(0.15, 0.85)
        lift = rng.uniform(-0.35, 0.75)
        sketch.fill(wing, smooth([(-0.1, 0.5), (0.12, 0.52), (0.0, 0.5 + up), (-0.35, 0.62 + up)], 1))
        sketch.fill(wing, [(-0.4, 0.48), (-0.75, 0.56), (-0.72, 0.4), (-0.35, 0.42)])
        sketch.oval(body, -0.05, 0.47, 0.4, 0.13, 0.08)
        hx, hy = 0.36, 0.54
        sketch.fill(wing, smooth([(-0.15, 0.48), (0.16, 0.5), (0.0, 0.45 + lift), (-0.4, 0.45 + 1.3 * lift)], 1))
    sketch.fill(beak, [(hx + 0.06, hy + 0.05), (hx + 0.08, hy - 0.06), (hx + rng.uniform(0.22, 0.36), hy - 0.03)])
    sketch.oval(body, hx, hy, 0.13, 0.12)
    sketch.oval(Paint((20, 20, 20)), hx + 0.05, hy + 0.03, 0.025, 0.025)
