"""Random policies: each operation against what it stands for, ranges against torchvision's, AutoAugment's pairs."""

import numpy as np
import pytest
from PIL import Image

from cvjax.errors import ConfigError
from cvjax.tasks.classification.auto_augment import _NARROW as NARROW
from cvjax.tasks.classification.auto_augment import _WIDE as WIDE
from cvjax.tasks.classification.auto_augment import (
    BINS,
    IMAGENET_PAIRS,
    OPERATIONS,
    AutoAugment,
    RandAugment,
    TrivialAugment,
    _ranges,
    apply_operation,
)

FILL = (9, 8, 7)


def noise(seed: int = 0, size: tuple[int, int] = (24, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_fourteen_operations_of_which_the_first_does_nothing():
    assert len(OPERATIONS) == len(set(OPERATIONS)) == 14
    np.testing.assert_array_equal(apply_operation("identity", noise(), 3.0, FILL), noise())


def test_ranges_are_torchvisions():
    """`_augmentation_space` of RandAugment and TrivialAugmentWide in torchvision 0.2x, at 31 bins and 224x331."""
    narrow, wide = _ranges((224, 331), NARROW), _ranges((224, 331), WIDE)
    strongest = {name: (narrow[name][-1], wide[name][-1]) for name in OPERATIONS}
    assert strongest["shear_x"] == (0.3, 0.99)
    assert strongest["translate_x"] == (150.0, 32.0)
    assert strongest["translate_y"][0] == pytest.approx(150 / 331 * 224)
    assert strongest["rotate"] == (30.0, 135.0)
    assert strongest["brightness"] == strongest["sharpness"] == (0.9, 0.99)
    assert strongest["posterize"] == (4, 2)
    assert strongest["solarize"] == (0.0, 0.0)
    assert narrow["solarize"][0] == 255.0
    assert narrow["posterize"].tolist() == [8] * 4 + [7] * 8 + [6] * 7 + [5] * 8 + [4] * 4
    assert all(len(narrow[name]) == BINS for name in OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS[1:10])
def test_no_strength_changes_nothing(name):
    image = noise()
    unchanged = apply_operation(name, image, 0.0, FILL)
    np.testing.assert_array_equal(unchanged, image)


def test_translations_and_the_quarter_turn():
    image = noise(size=(20, 20))
    moved = apply_operation("translate_x", image, 3.7, FILL)
    np.testing.assert_array_equal(moved[:, 3:], image[:, :-3])
    assert (moved[:, :3] == FILL).all()
    moved = apply_operation("translate_y", image, -2, FILL)
    np.testing.assert_array_equal(moved[:-2], image[2:])
    np.testing.assert_array_equal(apply_operation("rotate", image, 90.0, FILL), np.rot90(image))


def test_shears_move_rows_in_proportion():
    image = np.zeros((21, 41, 3), np.uint8)
    image[:, 20] = 255
    sheared = apply_operation("shear_x", image, 0.5, FILL)
    for row in (0, 4, 10, 20):
        assert int(sheared[row, :, 0].argmax()) == 20 + row // 2
    turned = apply_operation("shear_y", image.transpose(1, 0, 2).copy(), 0.5, FILL)
    np.testing.assert_array_equal(turned, sheared.transpose(1, 0, 2))


def test_colors():
    image = noise()
    np.testing.assert_array_equal(apply_operation("brightness", image, -1.0, FILL), np.zeros_like(image))
    gray = np.asarray(Image.fromarray(image).convert("L"))
    for channel in range(3):
        np.testing.assert_array_equal(apply_operation("color", image, -1.0, FILL)[..., channel], gray)
    assert np.ptp(apply_operation("contrast", image, -1.0, FILL)) == 0
    np.testing.assert_array_equal(apply_operation("posterize", image, 3, FILL), image // 32 * 32)
    np.testing.assert_array_equal(apply_operation("posterize", image, 8, FILL), image)
    solarized = apply_operation("solarize", image, 128.0, FILL)
    np.testing.assert_array_equal(solarized, np.where(image < 128, image, 255 - image))
    dull = (image // 4 + 60).astype(np.uint8)
    assert np.ptp(apply_operation("auto_contrast", dull, 0.0, FILL)) == 255
    assert len(np.unique(apply_operation("equalize", dull, 0.0, FILL))) > 40


def test_policies_follow_their_generator_and_reach_every_operation(monkeypatch):
    from cvjax.tasks.classification import auto_augment as policies

    image, drawn = noise(), []
    real = policies.apply_operation

    def spy(name, picture, strength, fill):
        drawn.append((name, strength))
        return real(name, picture, strength, fill)

    monkeypatch.setattr(policies, "apply_operation", spy)
    for policy in (RandAugment(2, 9, FILL), TrivialAugment(fill=FILL)):
        drawn.clear()
        results = [policy(image, np.random.default_rng(seed)) for seed in (*range(150), *range(150))]
        assert {name for name, _ in drawn} == set(OPERATIONS)
        for first, second in zip(results[:150], results[150:]):
            np.testing.assert_array_equal(first, second)
        strengths = {strength for name, strength in drawn if name == "rotate"}
        if isinstance(policy, RandAugment):
            assert len(drawn) == 600
            assert strengths == {9.0, -9.0}
        else:
            assert len(drawn) == 300
            assert len(strengths) > 5


def test_autoaugment_draws_pairs_with_their_probabilities(monkeypatch):
    from cvjax.tasks.classification import auto_augment as policies

    image, drawn = noise(), []
    monkeypatch.setattr(policies, "apply_operation", lambda name, x, s, fill: drawn.append((name, float(s))) or x)
    policy = AutoAugment(fill=FILL)
    count = 5000
    for seed in range(count):
        policy(image, np.random.default_rng(seed))
    pairs = [pair for pairs in IMAGENET_PAIRS for pair in pairs]
    for name in {name for name, _, _ in pairs}:
        expected = sum(p for other, p, _ in pairs if other == name) / len(IMAGENET_PAIRS)
        assert sum(other == name for other, _ in drawn) / count == pytest.approx(expected, abs=0.04)
    # torchvision's ten magnitudes.
    ranges = _ranges((24, 30), NARROW, bins=10)
    assert ranges["posterize"].tolist() == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    assert {round(abs(s), 2) for name, s in drawn if name == "rotate"} == {10.0, 26.67, 30.0}
    assert {s for name, s in drawn if name == "posterize"} == {4.0, 5.0, 6.0}
    assert {round(s, 3) for name, s in drawn if name == "color"} == {0.0, 0.2, -0.2, 0.4, -0.4, 0.8, -0.8}


def test_autoaugment_changes_pictures_the_same_way_for_the_same_generator():
    image, policy = noise(), AutoAugment(fill=FILL)
    first, second = ([policy(image, np.random.default_rng(seed)) for seed in range(30)] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len({picture.tobytes() for picture in first}) > 15
    np.testing.assert_array_equal(apply_operation("invert", image, 0.0, FILL), 255 - image)


def test_numbers_outside_their_range_are_refused():
    for wrong in ((-1, 9), (2, 31), (2, -1)):
        with pytest.raises(ConfigError, match="magnitude"):
            RandAugment(*wrong)
