"""What training and testing on ImageNet agreed on, and published weights expect: colors, resizing, the middle."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue over the training images, where 1 is the brightest."""
MEAN_COLOR = (124, 116, 104)
"""The mean as a color of uint8, for what lies beside an image."""


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Height and width of an image once its shorter side is `shorter`; the longer is rounded down, as torchvision's."""
    least = min(height, width)
    return shorter * height // least, shorter * width // least


def middle(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the crop in the middle; halves of a pixel go to the even neighbor, as torchvision's."""
    top, left = (round((have - want) / 2) for have, want in zip(size, crop))
    return top, left
