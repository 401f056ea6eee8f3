"""Holds the conventions of training on ImageNet that published weights expect: colors, resizing, the middle crop."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue over the training images, where 1 is the brightest."""
MEAN_COLOR = (124, 116, 104)
"""The mean as a color of uint8, for the area beside an image."""


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Returns height and width of an image once its shorter side is `shorter`.

    The longer side is rounded down, as torchvision does.
    """
    least = min(height, width)
    return shorter * height // least, shorter * width // least


def middle(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Returns top and left of the crop in the middle.

    Halves of a pixel go to the even neighbor, as torchvision does.
    """
    top, left = (round((have - want) / 2) for have, want in zip(size, crop))
    return top, left
