"""Makes `preprocess.npz` with torchvision: `python tests/golden/make_preprocess.py`."""

import pathlib

import numpy as np
from PIL import Image
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

# Height and width, crop, shorter side, interpolation: odd rests on both sides, enlarging, shrinking much and little.
CASES = (
    (61, 97, 12, 17, "bilinear"),
    (97, 61, 13, 17, "bicubic"),
    (9, 12, 11, 14, "bicubic"),
    (23, 23, 15, 23, "bilinear"),
    (20, 75, 12, 18, "bilinear"),
)


def main() -> None:
    results = {}
    for number, (height, width, crop, resize, interpolation) in enumerate(CASES):
        image = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        transform = ImageClassification(
            crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation)
        )
        results[str(number)] = transform(Image.fromarray(image)).permute(1, 2, 0).numpy()
    np.savez_compressed(pathlib.Path(__file__).with_name("preprocess.npz"), cases=np.array(CASES), **results)


if __name__ == "__main__":
    main()
