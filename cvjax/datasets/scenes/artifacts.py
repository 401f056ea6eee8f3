"""This module draws made things: car, bus, bicycle, boat, house, lamp, fence, bottle. See `creatures` for the rules."""

import itertools

import numpy as np

from cvjax.datasets.scenes.sketch import Paint, Sketch, fabric, oval, smooth
from cvjax.datasets.scenes.textures import pick, pick_of, scaled

_TYRE = Paint((32, 32, 34))


# Colors as the street has them: they make a class likely and never certain.
_CAR_PAINTS = (
    (4, (190, 240), (0.0, 0.08), (0.1, 0.95)),  # white, silver, gray, black
    (2, (200, 240), (0.4, 0.8), (0.25, 0.7)),
    (2, (-8, 8), (0.6, 0.9), (0.4, 0.8)),
    (1, (0, 360), (0.2, 0.7), (0.2, 0.8)),
)
_BUS_PAINTS = (
    (3, (38, 55), (0.65, 0.95), (0.75, 1.0)),
    (2, (-6, 10), (0.65, 0.9), (0.55, 0.85)),
    (1, (0, 360), (0.2, 0.8), (0.4, 0.95)),
)
_HULLS = (
    (3, (190, 230), (0.0, 0.1), (0.75, 1.0)),
    (2, (18, 35), (0.4, 0.7), (0.3, 0.65)),
    (1, (200, 230), (0.4, 0.8), (0.25, 0.7)),
    (1, (0, 360), (0.3, 0.8), (0.3, 0.9)),
)
_IRON = ((3, (150, 220), (0.0, 0.25), (0.1, 0.35)), (1, (0, 360), (0.0, 0.3), (0.3, 0.75)))
_FENCES = (
    (2, (20, 50), (0.0, 0.12), (0.8, 1.0)),
    (2, (18, 35), (0.35, 0.6), (0.25, 0.6)),
    (1, (0, 60), (0, 0.3), (0.1, 0.4)),
)
_GLASSES = (
    (3, (95, 150), (0.5, 0.85), (0.2, 0.5)),
    (2, (20, 38), (0.6, 0.9), (0.2, 0.5)),
    (2, (170, 215), (0.1, 0.5), (0.6, 0.95)),
)
_ROOFS = (
    (3, (5, 22), (0.45, 0.75), (0.35, 0.65)),
    (2, (200, 240), (0.05, 0.25), (0.25, 0.5)),
    (1, (80, 140), (0.1, 0.4), (0.2, 0.5)),
)


def _paintwork(rng: np.random.Generator, paints: tuple = _CAR_PAINTS) -> Paint:
    return Paint(pick_of(rng, *paints))


def _pane(rng: np.random.Generator) -> Paint:
    return Paint(pick(rng, (180, 230), (0.05, 0.35), (0.15, 0.7)), "glass", 0.2, rng.uniform(0.3, 0.8), 0.6)


def _wheel(sketch: Sketch, x: float, radius: float, hub: Paint) -> None:
    sketch.oval(_TYRE, x, radius, radius, radius)
    sketch.oval(hub, x, radius, radius * 0.55, radius * 0.55)


def _front(
    sketch: Sketch, rng: np.random.Generator, paints: tuple, height: float, width: float, glass_from: float
) -> None:
    """Draws a car or a bus from the front or the rear: glass, two lights, wheels below."""
    body, pane = _paintwork(rng, paints), _pane(rng)
    lamp = Paint((240, 235, 205) if rng.random() < 0.5 else (200, 40, 35))
    w = width / 2
    for side in (-1, 1):
        sketch.box(_TYRE, side * w * 0.9 - 0.09, 0.0, side * w * 0.9 + 0.09, 0.28)
    top = w * rng.uniform(0.72, 0.95)
    waist = glass_from
    sketch.fill(body, smooth([(-w, 0.12), (w, 0.12), (w, waist), (top, height), (-top, height), (-w, waist)], 1))
    glass = [(-w * 0.82, waist), (w * 0.82, waist), (top * 0.85, height - 0.08), (-top * 0.85, height - 0.08)]
    sketch.fill(pane, glass)
    for side in (-1, 1):
        sketch.oval(lamp, side * w * 0.72, waist * 0.66, 0.09, 0.06)
    sketch.box(Paint((45, 45, 48)), -w * 0.4, waist * 0.42, w * 0.4, waist * 0.6)


def car(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a sedan, hatchback, van or pick-up from the side, or a car from the front."""
    if rng.random() < 0.25:
        _front(sketch, rng, _CAR_PAINTS, rng.uniform(0.85, 1.0), rng.uniform(1.05, 1.3), rng.uniform(0.45, 0.55))
        return
    body, pane, hub = _paintwork(rng), _pane(rng), Paint(pick(rng, (0, 360), (0, 0.1), (0.4, 0.85)))
    r, half = rng.uniform(0.19, 0.24), rng.uniform(1.05, 1.4)
    waist, roof = rng.uniform(0.52, 0.62), rng.uniform(0.88, 1.0)
    a, b = -half * rng.uniform(0.55, 0.95), half * rng.uniform(0.12, 0.3)
    hood = half * rng.uniform(0.35, 0.6)
    kind = rng.random()
    if kind < 0.2:  # pick-up: the cabin ends half-way
        a = -half * 0.1
    shell = [
        (-half, 0.18),
        (half, 0.18),
        (half, waist * 0.9),
        (hood, waist),
        (b, roof),
        (a * 0.9, roof),
        (a, waist),
        (-half, waist),
    ]
    sketch.fill(body, smooth(shell, 1))
    glass = [(hood - 0.1, waist), (b - 0.02, roof - 0.07), (a * 0.88, roof - 0.07), (a * 0.92, waist)]
    sketch.fill(pane, glass)
    for x in np.linspace(a * 0.9, hood, int(rng.integers(3, 5)))[1:-1]:
        sketch.line(body, [(x, waist), (x, roof - 0.05)], 0.05)
    sketch.line(
        Paint(scaled(body.color, 0.6)),
        [(-half * 0.95, waist * 0.7), (half * 0.95, waist * 0.7)],
        0.02,
    )
    sketch.oval(Paint((245, 240, 205)), half - 0.06, waist * 0.72, 0.05, 0.06)
    sketch.oval(Paint((190, 30, 30)), -half + 0.05, waist * 0.8, 0.04, 0.07)
    for x in (-half * 0.62, half * 0.62):
        _wheel(sketch, x, r, hub)


def bus(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a bus from the side, a long box with a row of windows and a door, or from the front."""
    if rng.random() < 0.2:
        _front(sketch, rng, _BUS_PAINTS, rng.uniform(1.15, 1.35), rng.uniform(0.95, 1.1), rng.uniform(0.5, 0.6))
        return
    body, pane, band = _paintwork(rng, _BUS_PAINTS), _pane(rng), _paintwork(rng)
    half = rng.uniform(1.0, 1.6)
    sketch.fill(body, smooth([(-half, 0.12), (half, 0.12), (half, 0.95), (half - 0.08, 1.0), (-half, 1.0)], 1))
    if rng.random() < 0.7:
        sketch.box(band, -half * 0.98, 0.3, half * 0.98, rng.uniform(0.36, 0.5))
    low, high = rng.uniform(0.52, 0.6), rng.uniform(0.82, 0.9)
    edges = np.linspace(-half * 0.95, half * 0.97, int(rng.integers(5, 9)))
    for x0, x1 in itertools.pairwise(edges):
        sketch.box(pane, x0 + 0.03, low, x1 - 0.03, high)
    sketch.box(pane, edges[-2] + 0.04, 0.16, edges[-1] - 0.1, high)
    for x in (-half * 0.62, half * rng.uniform(0.4, 0.6)):
        _wheel(sketch, x, 0.15, Paint((150, 150, 150)))


def bicycle(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a bicycle with two open wheels and a thin frame. The background between the tubes is not part of it."""
    frame = _paintwork(rng)
    r, reach = rng.uniform(0.29, 0.34), rng.uniform(0.45, 0.55)
    tube = rng.uniform(0.035, 0.055)
    spoke = Paint((150, 150, 155))
    for x in (-reach, reach):
        if rng.random() < 0.5:
            for angle in np.arange(3) * np.pi / 3 + rng.uniform(0, 1):
                dx, dy = 0.95 * r * np.cos(angle), 0.95 * r * np.sin(angle)
                sketch.line(spoke, [(x - dx, r - dy), (x + dx, r + dy)], 0.012)
        sketch.line(_TYRE, oval(x, r, r, r), tube * 1.1, closed=True)
    crank, seat, head = (-0.05, r - 0.02), (-0.17, 0.72), (reach - 0.13, 0.74)
    for a, b in (
        ((-reach, r), crank),
        (crank, seat),
        (seat, (-reach, r)),
        (crank, head),
        (seat, head),
        (head, (reach, r)),
    ):
        sketch.line(frame, [a, b], tube)
    sketch.line(frame, [head, (head[0] - 0.03, 0.88)], tube)
    sketch.line(_TYRE, [(head[0] - 0.1, 0.9), (head[0] + 0.08, 0.88)], tube)
    sketch.line(_TYRE, [(seat[0] - 0.1, 0.79), (seat[0] + 0.1, 0.78)], 0.06)
    sketch.oval(spoke, crank[0], crank[1], 0.06, 0.06)


def boat(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a boat: a hull with sails on a mast, or with a cabin, or with rails only."""
    hull = Paint(
        pick_of(rng, *_HULLS),
        "boards" if rng.random() < 0.4 else "plain",
        0.2,
        0.09,
        np.pi / 2,
    )
    half, deck = rng.uniform(0.55, 0.9), rng.uniform(0.22, 0.34)
    mast = Paint(pick(rng, (15, 40), (0.0, 0.5), (0.3, 0.9)))
    kind = rng.random()
    if kind < 0.5:
        sail = Paint(
            pick_of(rng, (3, (30, 60), (0.0, 0.12), (0.85, 1.0)), (1, (0, 360), (0.3, 0.8), (0.6, 1.0))),
            str(rng.choice(["plain", "stripes"])),
            0.15,
            0.2,
            1.57,
        )
        top = rng.uniform(1.0, 1.5)
        sketch.line(mast, [(0, deck - 0.05), (0, top)], 0.03)
        sketch.fill(sail, smooth([(0.04, deck + 0.08), (0.04, top - 0.05), (half * 0.85, deck + 0.1)], 0))
        if rng.random() < 0.7:
            sketch.fill(sail, [(-0.04, deck + 0.12), (-0.04, top * 0.85), (-half * 0.8, deck + 0.12)])
    elif kind < 0.85:
        cabin, pane = _paintwork(rng), _pane(rng)
        x0, x1, y = -half * rng.uniform(0.3, 0.7), half * rng.uniform(0.1, 0.4), deck + rng.uniform(0.2, 0.35)
        sketch.box(cabin, x0, deck - 0.05, x1, y)
        sketch.box(pane, x0 + 0.05, y - 0.16, x1 - 0.05, y - 0.05)
        sketch.line(mast, [(x0 + 0.1, y), (x0 + 0.1, y + rng.uniform(0.1, 0.5))], 0.025)
    else:
        for x in np.linspace(-half * 0.8, half * 0.9, 6):
            sketch.line(mast, [(x, deck), (x, deck + 0.16)], 0.02)
        sketch.line(mast, [(-half * 0.8, deck + 0.16), (half * 0.9, deck + 0.18)], 0.02)
    shell = [(-half, deck), (half * 1.15, deck + 0.05), (half * 0.75, 0.0), (-half * 0.85, 0.0)]
    sketch.fill(hull, smooth(shell, 1))
    sketch.line(_paintwork(rng), [(-half * 0.93, deck - 0.03), (half * 1.05, deck)], 0.04)


def house(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a house: walls of plaster, brick or boards under a roof, with door, windows and at times a chimney."""
    wall = Paint(
        pick(rng, (0, 60), (0.02, 0.6), (0.35, 0.95)),
        str(rng.choice(["plain", "bricks", "boards"])),
        0.22,
        rng.uniform(0.05, 0.09),
        np.pi / 2,
    )
    roof = Paint(pick_of(rng, *_ROOFS), "bricks", 0.22, 0.06)
    trim, pane = Paint(pick(rng, (0, 360), (0, 0.5), (0.2, 0.95))), _pane(rng)
    half, eaves = rng.uniform(0.38, 0.75), rng.uniform(0.45, 0.68)
    if rng.random() < 0.6:
        x = rng.uniform(-0.6, 0.6) * half
        sketch.box(wall, x - 0.06, eaves, x + 0.06, rng.uniform(0.95, 1.08))
    sketch.box(wall, -half, 0, half, eaves)
    over = half * rng.uniform(1.05, 1.2)
    if rng.random() < 0.5:
        sketch.fill(roof, [(-over, eaves), (over, eaves), (0, 1.0)])
    else:
        ridge = half * rng.uniform(0.5, 0.95)
        sketch.fill(roof, [(-over, eaves), (over, eaves), (ridge, 0.95), (-ridge, 0.95)])
    slots = np.linspace(-half, half, int(rng.integers(3, 5)) + 1)
    door = int(rng.integers(len(slots) - 1))
    for k, x in enumerate((slots[:-1] + slots[1:]) / 2):
        w = (slots[1] - slots[0]) * 0.28
        if k == door:
            sketch.box(trim, x - w, 0, x + w, eaves * 0.62)
        else:
            sketch.box(trim, x - w - 0.02, eaves * 0.35, x + w + 0.02, eaves * 0.8)
            sketch.box(pane, x - w, eaves * 0.39, x + w, eaves * 0.77)
            sketch.line(trim, [(x, eaves * 0.39), (x, eaves * 0.77)], 0.015)


def lamp(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a lamp, a thin pole with a foot and a head.

    It is a street lamp with an arm, a lantern, a lamp with globes, or a shaded floor lamp.
    """
    pole = Paint(pick_of(rng, *_IRON))
    glow = Paint(pick(rng, (35, 55), (0.05, 0.4), (0.7, 1.0)))
    thick, kind = rng.uniform(0.022, 0.04), int(rng.integers(4))
    sketch.line(pole, [(0, 0), (0, 0.88)], thick)
    sketch.fill(pole, [(-0.06, 0), (0.06, 0), (0.02, 0.08), (-0.02, 0.08)])
    if kind == 0:
        arm = rng.uniform(0.18, 0.35)
        sides = (1,) if rng.random() < 0.6 else (-1, 1)
        for side in sides:
            sketch.line(pole, smooth([(0, 0.86), (0.02 * side, 0.98), (arm * side, 1.0)], 2, False), thick)
            sketch.oval(glow, arm * side, 0.97, 0.07, 0.02)
            sketch.line(pole, [(side * (arm - 0.06), 1.0), (side * (arm + 0.07), 1.0)], 0.035)
    elif kind == 1:
        sketch.fill(glow, [(-0.045, 0.86), (0.045, 0.86), (0.07, 0.99), (-0.07, 0.99)])
        sketch.fill(pole, [(-0.085, 0.99), (0.085, 0.99), (0, 1.06)])
    elif kind == 2:
        xs = (0.0,) if rng.random() < 0.5 else (-0.12, 0.12)
        if len(xs) > 1:
            sketch.line(pole, [(-0.12, 0.88), (0.12, 0.88)], thick)
        for x in xs:
            sketch.oval(glow, x, 0.94, 0.065, 0.065)
    else:
        shade = fabric(rng)
        top, low = rng.uniform(0.07, 0.13), rng.uniform(0.15, 0.24)
        sketch.fill(shade, [(-low, 0.76), (low, 0.76), (top, 1.0), (-top, 1.0)])


def fence(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws a fence: pickets, iron bars or a lattice on rails. The background shows through."""
    paint = Paint(pick_of(rng, *_FENCES), "fur", 0.2)
    half = rng.uniform(0.7, 1.9)
    pitch, kind = rng.uniform(0.17, 0.3), int(rng.integers(3))
    width = pitch * (rng.uniform(0.35, 0.6) if kind == 0 else rng.uniform(0.14, 0.25))
    for y in (0.22, rng.uniform(0.68, 0.8)):
        sketch.line(paint, [(-half, y), (half, y)], rng.uniform(0.05, 0.09))
    xs = np.arange(-half, half + 1e-6, pitch)
    if kind == 2:
        for x in np.arange(-half, half - 0.5, pitch * 1.3):
            sketch.line(paint, [(x, 0.12), (x + 0.55, 0.88)], width)
            sketch.line(paint, [(x + 0.55, 0.12), (x, 0.88)], width)
        xs = np.linspace(-half, half, 3)
        width = 0.09
    for x in xs:
        if kind == 0:
            w = width / 2
            sketch.fill(paint, [(x - w, 0), (x + w, 0), (x + w, 0.9), (x, 1.0), (x - w, 0.9)])
        else:
            sketch.line(paint, [(x, 0.02), (x, 0.97)], width)


def bottle(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draws the body, shoulder, neck and cap of a glass bottle in one outline, with or without a label."""
    glass = Paint(pick_of(rng, *_GLASSES), "glass", rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.3))
    w, neck = rng.uniform(0.13, 0.22), rng.uniform(0.04, 0.065)
    shoulder, rise = rng.uniform(0.45, 0.68), rng.uniform(0.08, 0.2)
    waist = w * rng.uniform(0.75, 1.0)
    right = [(w, 0), (w, 0.05), (waist, shoulder * 0.5), (w, shoulder), (neck, shoulder + rise), (neck, 0.95)]
    sketch.fill(glass, smooth(right + [(-x, y) for x, y in reversed(right)], 1))
    sketch.box(_paintwork(rng), -neck * 1.2, 0.92, neck * 1.2, 1.0)
    if rng.random() < 0.65:
        label = fabric(rng)
        sketch.box(label, -w * 0.97, shoulder * 0.25, w * 0.97, shoulder * rng.uniform(0.6, 0.85))
