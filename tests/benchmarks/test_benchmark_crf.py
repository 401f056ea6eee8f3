"""The benchmark of the dense CRF: what goes into it, and its table."""

import crf
import numpy as np


def test_cases_are_the_same_every_time_and_depend_on_the_image():
    case = {"image": "noise", "batch": 2, "classes": 5, "size": [70, 130]}
    images, unaries = crf.images_of(case)
    again, unaries_again = crf.images_of(case)
    assert images.shape == (2, 70, 130, 3)
    assert images.dtype == np.uint8
    assert unaries.shape == (2, 70, 130, 5)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(unaries, unaries_again)
    # Noise over blobs: the blob's label is the likeliest, but far from everywhere.
    best = unaries[0].argmin(-1)
    assert 0.4 < (best[:60, :60] == 0).mean() < 0.9


def test_ours_computes_marginals(tmp_path):
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8))
    work = crf.prepare_cvjax({"image": str(tmp_path / "pixels.npy"), "batch": 1, "classes": 3, "size": [1, 1]})
    assert work.values["marginals"].shape == (1, 12, 9, 3)
    np.testing.assert_allclose(work.values["marginals"].sum(-1), 1.0, rtol=1e-5)


def test_table_gives_seconds_an_image_and_the_ratio():
    hello = {"versions": {"jax": "1"}, "device": "cpu"}
    machine = {"processor": "P", "cores": 2, "threads": 2, "contestants": {"cvjax": hello, "pydensecrf": hello}}
    row = {"case": "photo", "mode": "inference", "absent": {}}
    row |= {"times": {"cvjax": [1.0], "pydensecrf": [3.0]}, "seconds": {"cvjax": 1.0, "pydensecrf": 3.0}}
    settings = {"batch": 2, "classes": 21, "rounds": 1}
    text = crf.write({"machine": machine, "settings": settings, "rows": [row]})
    assert "| photo | 0.500 | 1.50 | 3.00 |" in text
