"""This module makes procedural textures: band-limited noise, and the grounds and walls of `scenes`.

Every texture is float32 RGB [height, width, 3] in 0..255 and is decided by the generator that it is given.
"""

import cv2
import numpy as np

Color = tuple[float, float, float]


def noise(rng: np.random.Generator, height: int, width: int, cell: float, stretch: float = 1.0) -> np.ndarray:
    """Draws smooth noise of about unit variance, float32 [height, width].

    Args:
      rng: Generator that decides the noise.
      height: Height in pixels.
      width: Width in pixels.
      cell: Distance in pixels, along y, over which the noise changes.
      stretch: Factor on that distance along x.
    """
    rows = max(2, round(height / cell) + 1)
    columns = max(2, round(width / (cell * stretch)) + 1)
    # Coarser than one pixel costs nothing; finer than one pixel would be averaged away by the resize.
    grid = rng.standard_normal((min(rows, height), min(columns, width)), dtype=np.float32) * 1.2
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def octaves(
    rng: np.random.Generator,
    height: int,
    width: int,
    cell: float,
    levels: int = 3,
    gain: float = 0.6,
    stretch: float = 1.0,
) -> np.ndarray:
    """Draws a sum of `levels` of `noise`, each half the cell and `gain` times the height of the one before."""
    total = np.zeros((height, width), np.float32)
    norm = 0.0
    for level in range(levels):
        amplitude = gain**level
        total += amplitude * noise(rng, height, width, max(cell / 2**level, 1.0), stretch)
        norm += amplitude**2
    return total / np.float32(np.sqrt(norm))


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Returns the RGB color 0..255 of hue in degrees (taken modulo 360), saturation and value in 0..1 (clipped)."""
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)

    def channel(offset: float) -> float:
        k = (offset + hue / 60.0) % 6.0
        return 255.0 * value * (1.0 - saturation * max(0.0, min(k, 4.0 - k, 1.0)))

    return channel(5.0), channel(3.0), channel(1.0)


def scaled(color: Color, factor: float) -> Color:
    """Returns a color made darker, or lighter as far as 255 goes."""
    red, green, blue = (min(255.0, factor * c) for c in color)
    return red, green, blue


def pick(
    rng: np.random.Generator,
    hue: Color | tuple[float, float],
    sat: tuple[float, float],
    val: tuple[float, float],
) -> Color:
    """Draws a color uniformly from ranges of hue (degrees), saturation and value."""
    return hsv(rng.uniform(hue[0], hue[1]), rng.uniform(*sat), rng.uniform(*val))


def pick_of(rng: np.random.Generator, *ranges: tuple[float, tuple, tuple, tuple]) -> Color:
    """Draws a color from one of several ranges (weight, hue, saturation, value): those of paint shops and nature."""
    weights = np.array([r[0] for r in ranges])
    _, hue, sat, val = ranges[int(rng.choice(len(ranges), p=weights / weights.sum()))]
    return pick(rng, hue, sat, val)


def ramp(field: np.ndarray, dark: Color, light: Color) -> np.ndarray:
    """Colors a field: -2 becomes `dark`, +2 becomes `light`, beyond is clipped. [h, w] -> [h, w, 3]."""
    position = np.clip(field * 0.25 + 0.5, 0.0, 1.0)[..., None]
    low, high = np.array(dark, np.float32), np.array(light, np.float32)
    return position * (high - low) + low


def _joints(height: int, width: int, row: float, column: float, gap: float, bond: float) -> np.ndarray:
    """Returns True on the mortar lines of a wall of bricks `row` by `column` pixels; odd rows shift by `bond`."""
    y = np.arange(height, dtype=np.float32)[:, None] / row
    x = np.arange(width, dtype=np.float32)[None, :] / column + (np.floor(y) % 2) * bond
    return ((y % 1.0) * row < gap) | ((x % 1.0) * column < gap)


def _blocks(rng: np.random.Generator, height: int, width: int, row: float, column: float, bond: float) -> np.ndarray:
    """Draws a random level for each brick of the same wall, float32 [height, width]."""
    levels = rng.standard_normal((64, 64), dtype=np.float32)
    y = (np.arange(height)[:, None] / row).astype(np.int32)
    x = (np.arange(width)[None, :] / column + (y % 2) * bond).astype(np.int32)
    return levels[y % 64, x % 64]


def grass(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws blades over patches of lush and dry grass."""
    field = 0.9 * noise(rng, height, width, 3, 0.4) + 0.8 * octaves(rng, height, width, height / 3)
    hue = rng.uniform(55, 125)
    return ramp(
        field,
        hsv(hue + 10, rng.uniform(0.35, 0.7), rng.uniform(0.15, 0.35)),
        hsv(hue - 15, rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.8)),
    )


def loose(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws gravel, sand, earth, asphalt or snow, all by one recipe with many grains."""
    field = noise(rng, height, width, rng.uniform(1.0, 3.5)) + 0.7 * octaves(rng, height, width, height / 2)
    hue, sat, val = rng.uniform(15, 50), rng.uniform(0, 0.45), rng.uniform(0.3, 0.95)
    spread = rng.uniform(0.08, 0.35)
    return ramp(field, hsv(hue, sat, val - spread), hsv(hue, sat * 0.8, val + spread * 0.5))


def masonry(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws brick, paving or tiles with mortar between."""
    row = rng.uniform(5, 20)
    column = row * rng.uniform(1.0, 2.8)
    bond = float(rng.choice([0.0, 0.5]))
    hue, sat, val = rng.uniform(0, 50), rng.uniform(0.02, 0.6), rng.uniform(0.4, 0.9)
    field = 0.9 * _blocks(rng, height, width, row, column, bond) + 0.6 * octaves(rng, height, width, 6)
    wall = ramp(field, hsv(hue, sat, val * 0.65), hsv(hue + 8, sat * 0.8, min(1.0, val * 1.15)))
    joint = _joints(height, width, row, column, max(1.0, row * 0.1), bond)
    wall[joint] *= rng.uniform(0.55, 1.25)
    return wall


def planks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws wooden boards with grain along them; half of the time they stand upright."""
    upright = rng.random() < 0.5
    h, w = (width, height) if upright else (height, width)
    row, column = rng.uniform(7, 24), rng.uniform(60, 200)
    field = 0.9 * _blocks(rng, h, w, row, column, 0.37) + 0.8 * octaves(rng, h, w, 2.5, stretch=14)
    hue, sat, val = rng.uniform(15, 40), rng.uniform(0.2, 0.65), rng.uniform(0.35, 0.85)
    wood = ramp(field, hsv(hue - 5, sat, val * 0.6), hsv(hue + 5, sat * 0.8, val * 1.15))
    wood[_joints(h, w, row, column, 1.0, 0.37)] *= 0.55
    return np.ascontiguousarray(wood.transpose(1, 0, 2)) if upright else wood


def cloth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws carpet, wallpaper or a table cloth: a weave, often with stripes or spots of a second color."""
    base = pick(rng, (0, 360), (0.05, 0.6), (0.3, 0.9))
    other = pick(rng, (0, 360), (0.05, 0.6), (0.3, 0.9))
    weave = noise(rng, height, width, 1) * 0.5 + octaves(rng, height, width, 30) * 0.5
    out = ramp(weave, scaled(base, 0.75), scaled(base, 1.15))
    period, kind = rng.uniform(5, 25), rng.integers(4)
    y = np.arange(height, dtype=np.float32)[:, None] * (2 * np.pi / period)
    x = np.arange(width, dtype=np.float32)[None, :] * (2 * np.pi / period)
    if kind == 0:
        pattern = np.sin(x) + 0 * y > rng.uniform(-0.3, 0.8)
    elif kind == 1:
        pattern = np.sin(x) * np.sin(y) > rng.uniform(0.2, 0.7)
    elif kind == 2:
        pattern = octaves(rng, height, width, period) > 0.6
    else:
        return out
    blend = rng.uniform(0.2, 0.7)
    out[pattern] = out[pattern] * (1 - blend) + np.array(other, np.float32) * blend
    return out


def water(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws ripples, longer across than along, with glitter."""
    field = octaves(rng, height, width, rng.uniform(2.5, 7), stretch=rng.uniform(3, 7)) + 0.4 * octaves(
        rng, height, width, height / 2
    )
    hue, sat, val = rng.uniform(165, 225), rng.uniform(0.15, 0.65), rng.uniform(0.3, 0.7)
    sea = ramp(field, hsv(hue, sat, val * 0.55), hsv(hue - 10, sat * 0.6, val * 1.3))
    sea[field > rng.uniform(1.6, 2.6)] = 235.0
    return sea


def plaster(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws a painted wall or a studio backdrop, unevenly lit."""
    field = octaves(rng, height, width, height / 1.5) + 0.3 * noise(rng, height, width, 1)
    color = pick(rng, (0, 360), (0.0, 0.4), (0.35, 0.95))
    return ramp(field, scaled(color, 0.75), scaled(color, 1.15))


def foliage(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws a hedge or a far wood: leaves without a trunk, so that leaves alone do not mean `tree`."""
    field = octaves(rng, height, width, rng.uniform(4, 13), 4, 0.8)
    hue = rng.uniform(45, 140)
    return ramp(
        field,
        hsv(hue, rng.uniform(0.3, 0.7), rng.uniform(0.08, 0.2)),
        hsv(hue - 20, rng.uniform(0.3, 0.7), rng.uniform(0.45, 0.75)),
    )


def sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws a gradient from zenith to horizon, with clouds, from clear to overcast to dusk."""
    hue = rng.uniform(195, 230) if rng.random() < 0.8 else rng.uniform(0, 50)
    top = np.array(hsv(hue, rng.uniform(0.1, 0.65), rng.uniform(0.45, 0.95)), np.float32)
    low = np.array(hsv(hue - 20, rng.uniform(0.02, 0.3), rng.uniform(0.7, 1.0)), np.float32)
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    out = np.broadcast_to(top + t * (low - top), (height, width, 3))
    cloud = octaves(rng, height, width, height / rng.uniform(1.5, 5), 4, stretch=rng.uniform(1.2, 3))
    cover = np.clip((cloud - rng.uniform(-0.8, 1.6)) * 0.6, 0, 0.9)[..., None]
    return out + cover * (np.float32(rng.uniform(185, 250)) - out)
