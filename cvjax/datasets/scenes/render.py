"""This module draws one example of `scenes`, from (split, index) to image, mask, boxes and label.

`(VERSION, split, index)` decides everything about an example. The process that draws it and the time make no
difference.
"""

import dataclasses

import cv2
import numpy as np

from cvjax.datasets.scenes.objects import KINDS, PLACES
from cvjax.datasets.scenes.places import background, clutter
from cvjax.datasets.scenes.sketch import Light, Patch, Sketch

VERSION = "1.0.0"
"""Version of the pictures: it decides them together with split and index. Any change to the drawing needs a new one."""

SIZES = {"train": 2400, "val": 300, "test": 300}
"""Number of examples in each split."""

VOID = 255
_SUPER = 2  # drawn at twice the size, then averaged: smooth edges, and masks that agree with them
_SPLIT_NUMBER = {"train": 0, "val": 1, "test": 2}
_MIN_PIXELS = 16  # an object that shows fewer becomes void: nobody could name it
_CLUTTER = -1


@dataclasses.dataclass(frozen=True)
class Thing:
    """Describes an object in sight.

    Attributes:
      label: Class of the object.
      box: Corners y0, x0, y1, x1 around all of it that can be seen, in pixels, ends excluded.
      is_difficult: Whether little of it can be seen, as VOC marks it: less than 0.3, or tiny.
      pixels: Number of pixels of the mask, border excluded, that are this object.
    """

    label: int
    box: tuple[int, int, int, int]
    is_difficult: bool
    pixels: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """Holds a drawn example.

    Attributes:
      image: Picture, uint8 RGB [h, w, 3].
      mask: Classes, or 255, uint8 [h, w].
      things: Objects in sight, far to near.
    """

    image: np.ndarray
    mask: np.ndarray
    things: tuple[Thing, ...]

    @property
    def label(self) -> int:
        """Returns the class of the thing with the most pixels in sight."""
        return max(self.things, key=lambda thing: thing.pixels).label


def generator(split: str, index: int) -> np.random.Generator:
    """Returns the generator that decides example `index` of `split`.

    Raises:
      ValueError: Unknown split, or a negative index.
    """
    if split not in _SPLIT_NUMBER or index < 0:
        raise ValueError(f"no example {index} of split {split!r}; splits are {list(_SPLIT_NUMBER)}")
    return np.random.default_rng((*map(int, VERSION.split(".")), _SPLIT_NUMBER[split], index))


def render(split: str, index: int) -> Scene:
    """Draws example `index` of `split`: the same pixels in every process. See the module's docstring."""
    rng = generator(split, index)
    while True:  # about one draw in a thousand shows no object at all
        scene = _compose(rng)
        if scene.things:
            return scene


def _compose(rng: np.random.Generator) -> Scene:
    side = np.exp(rng.uniform(np.log(112), np.log(192), size=2))
    height, width = (round(float(s)) for s in side)
    h, w = height * _SUPER, width * _SUPER
    place = str(rng.choice(PLACES, p=(0.27, 0.25, 0.16, 0.2, 0.12)))
    # Backgrounds have no masks, so they are drawn at the final size: a quarter of the work.
    canvas, horizon = background(rng, place, height, width)
    if rng.random() < 0.45:  # shallow depth of field
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 3.0))
    canvas, horizon = cv2.resize(canvas, (w, h), interpolation=cv2.INTER_LINEAR), horizon * _SUPER
    light = Light.random(rng, 416)  # larger than any canvas, whose sides are at most 384
    owner = np.zeros((h, w), np.uint8)  # 0 the background, k the k-th drawn
    drawn: list[tuple[int, float, int]] = []  # class or _CLUTTER, share on the canvas, pixels before occlusion
    for kind, target in _cast(rng, place, min(h, w)):
        patch = _place(rng, kind, place, target, horizon, light, canvas, owner)
        if patch is None:
            continue
        ph, pw = patch.mask.shape
        window = np.s_[patch.y : patch.y + ph, patch.x : patch.x + pw]
        np.copyto(canvas[window], patch.rgb, where=patch.mask[..., None])
        drawn.append((kind, patch.inside, int(patch.mask.sum())))
        owner[window][patch.mask] = len(drawn)
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    mask, things = _annotate(_downsample(owner), drawn)
    return Scene(_photograph(rng, image), mask, things)


def _cast(rng: np.random.Generator, place: str, side: int) -> list[tuple[int, float]]:
    """Chooses the cast of a scene: (class or clutter, size in canvas pixels), far and small to near and large."""
    odds = np.array([kind.odds[PLACES.index(place)] for kind in KINDS])
    count = 1 + int(rng.binomial(5, 0.4))
    chosen = rng.choice(len(KINDS), size=count, p=odds / odds.sum())
    sizes = side * np.exp(rng.uniform(np.log(0.2), np.log(1.2), size=count))
    if count <= 2:
        sizes = np.maximum(sizes, side * rng.uniform(0.4, 0.95))
    cast = [(int(k) + 1, float(s) * KINDS[k].size) for k, s in zip(chosen, sizes)]
    clutters = int(rng.integers(0, 4))
    cast += [(_CLUTTER, float(side * np.exp(rng.uniform(np.log(0.06), np.log(0.35))))) for _ in range(clutters)]
    return sorted(cast, key=lambda item: item[1])


def _place(
    rng: np.random.Generator,
    kind: int,
    place: str,
    target: float,
    horizon: int,
    light: Light,
    canvas: np.ndarray,
    owner: np.ndarray,
) -> Patch | None:
    """Draws one thing at its place, and its shadow on the canvas."""
    h, w = owner.shape
    if kind == _CLUTTER:
        sketch = clutter(rng, place)
    else:
        sketch = Sketch()
        KINDS[kind - 1].draw(sketch, rng)
    x0, y0, x1, y1 = sketch.bounds()
    # `target` is the side of the square with the box's area, so that the tall and the wide get their share.
    scale = target / np.sqrt((x1 - x0) * (y1 - y0))
    scale = min(scale, 1.15 * h / (y1 - y0), 1.4 * w / (x1 - x0))
    name = "" if kind == _CLUTTER else KINDS[kind - 1].name
    aloft = (name == "bird" and rng.random() < 0.5) or place == "plain"
    tall = scale * (y1 - y0)
    if aloft:
        foot_y = rng.uniform(0.45 * tall, h + 0.25 * tall)
    else:
        depth = np.clip(target / (0.85 * min(h, w)), 0, 1) ** 0.6 + rng.normal(0, 0.1)
        foot_y = horizon + (h * 1.04 - horizon) * np.clip(depth, 0.03, 1.0)
    half = 0.5 * scale * (x1 - x0)
    columns = rng.uniform(-0.02, 1.02, size=2) * w
    foot = (min(columns.tolist(), key=lambda x: _crowd(owner, x, half, foot_y - tall, foot_y)), float(foot_y))
    turn = rng.normal(0, 0.35) if place == "plain" or aloft else rng.normal(0, 0.05)
    patch = sketch.draw((h, w), foot, scale, float(turn), bool(rng.random() < 0.5), light, rng)
    if patch is not None and not (aloft and place != "plain"):
        _shadow(rng, canvas, patch, foot[1], light, place == "plain")
    return patch


def _crowd(owner: np.ndarray, x: float, half: float, top: float, bottom: float) -> int:
    """Counts roughly the drawn pixels that a thing at column `x` would hide."""
    rows = slice(max(0, int(top)), max(0, int(bottom)), 4)
    return int(np.count_nonzero(owner[rows, max(0, int(x - half)) : max(0, int(x + half)) : 4]))


def _shadow(
    rng: np.random.Generator, canvas: np.ndarray, patch: Patch, foot_y: float, light: Light, flat: bool
) -> None:
    """Darkens the canvas where the patch keeps the light away, in place.

    On a flat place the shadow is behind the patch. Elsewhere it is on the ground, like the patch laid down away from
    the light.
    """
    h, w = canvas.shape[:2]
    ph, pw = patch.mask.shape
    lean = -light.direction[0] * rng.uniform(0.4, 1.2)
    low = rng.uniform(0.12, 0.35)
    if flat:
        matrix = np.array([[1, 0, patch.x + lean * 8], [0, 1, patch.y + 6]], np.float32)
    else:
        # A point at height a above the foot falls at a * lean to the side and a * low further up the picture.
        matrix = np.array(
            [[1, -lean, patch.x + lean * (foot_y - patch.y)], [0, low, foot_y - low * (foot_y - patch.y)]], np.float32
        )
    corners = np.array([[0, 0], [pw, 0], [0, ph], [pw, ph]], np.float32) @ matrix[:, :2].T + matrix[:, 2]
    pad = 8
    x0, y0 = np.maximum(np.floor(corners.min(0)) - pad, 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(0)) + pad, (w, h)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    matrix[:, 2] -= (x0, y0)
    dark = cv2.warpAffine(patch.mask.astype(np.float32), matrix, (int(x1 - x0), int(y1 - y0)))
    dark = cv2.GaussianBlur(dark, (0, 0), rng.uniform(1.5, 5.0)) * np.float32(
        rng.uniform(0.1, 0.35) + light.strength * 0.5
    )
    canvas[y0:y1, x0:x1] *= 1 - dark[..., None]


def _downsample(owner: np.ndarray) -> np.ndarray:
    """Halves a map of owners: of each 2x2 the second largest, the nearest that fills half of it or more."""
    a, b, c, d = owner[::2, ::2], owner[::2, 1::2], owner[1::2, ::2], owner[1::2, 1::2]
    top, bottom = np.maximum(a, b), np.maximum(c, d)
    rest = np.maximum(np.minimum(a, b), np.minimum(c, d))
    return np.maximum(np.minimum(top, bottom), rest)


def border(owner: np.ndarray) -> np.ndarray:
    """Returns where a mask is void, bool [h, w], given owners uint8 [h, w]: 0 the background, larger is nearer.

    The border is one pixel around every object, taken from the pixels behind it. It also takes the object's own
    outermost pixel where the object is at least five pixels thick: thin bars keep their pixels.
    """
    three, five = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)
    around = cv2.dilate(owner, three) != owner
    inner = cv2.erode(owner, three) != owner
    solid = (cv2.dilate(owner, five) == cv2.erode(owner, five)).astype(np.uint8)
    return around | (inner & (cv2.dilate(solid, five) > 0))


def _annotate(owner: np.ndarray, drawn: list[tuple[int, float, int]]) -> tuple[np.ndarray, tuple[Thing, ...]]:
    """Makes mask and things from the map of owners. Clutter counts as background, also for the border."""
    order = np.array([0] + [0 if label == _CLUTTER else n for n, (label, _, _) in enumerate(drawn, 1)], np.uint8)
    void = border(order[owner])
    pixels = np.bincount(owner.ravel(), minlength=len(order))
    left = np.bincount(owner[~void], minlength=len(order))
    classes = np.zeros(len(order), np.uint8)
    things = []
    for number, (label, inside, full) in enumerate(drawn, 1):
        if label == _CLUTTER:
            continue
        if left[number] < _MIN_PIXELS:
            classes[number] = VOID
            continue
        classes[number] = label
        rows, columns = np.nonzero(owner == number)
        box = (int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
        shown = inside * pixels[number] * _SUPER**2 / full
        small = left[number] < 48 or min(box[2] - box[0], box[3] - box[1]) < 6
        things.append(Thing(label, box, bool(shown < 0.3 or small), int(left[number])))
    mask = classes[owner]
    mask[void] = VOID
    return mask, tuple(things)


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Changes a picture as cameras do: exposure, cast, vignette, defocus, noise. float32 RGB 0..255 in, uint8 out."""
    h, w = image.shape[:2]
    gain = np.float32(np.exp(rng.normal(0, 0.16)) * np.exp(rng.normal(0, 0.06, size=3)))
    image = (image / np.float32(255)) ** np.float32(np.exp(rng.normal(-0.12, 0.15))) * gain
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    image *= (1 - np.float32(rng.uniform(0, 0.25)) * (x * x + y * y) / 2)[..., None]
    if rng.random() < 0.2:
        haze = np.float32(rng.uniform(0.05, 0.3))
        image = image * (1 - haze) + haze * np.float32(0.85)
    sigma = rng.uniform(0.0, 0.7)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    read, shot = np.exp(rng.uniform(np.log(0.004), np.log(0.02))), rng.uniform(0, 0.02)
    image += noise * (np.float32(read) + np.float32(shot) * np.sqrt(np.clip(image, 0, 1)))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def encode(split: str, index: int) -> dict:
    """Returns example `index` of `split` as stored: JPEG and PNG bytes, boxes as fractions, label, id.

    Returns:
      `image` and `mask` bytes; `objects`, a list of {bbox: (y0, x0, y1, x1) in 0..1, label, is_difficult};
        `label` int; `id` such as "val-00012".
    """
    scene = render(split, index)
    quality = int(generator(split, index).integers(80, 96))
    _, jpeg = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    _, png = cv2.imencode(".png", scene.mask)
    h, w = scene.mask.shape
    objects = [
        {
            "bbox": (t.box[0] / h, t.box[1] / w, t.box[2] / h, t.box[3] / w),
            "label": t.label,
            "is_difficult": t.is_difficult,
        }
        for t in scene.things
    ]
    return {
        "image": jpeg.tobytes(),
        "mask": png.tobytes(),
        "objects": objects,
        "label": scene.label,
        "id": f"{split}-{index:05d}",
    }
