"""The crf command: a photograph and an array of probabilities in, pictures and marginals out."""

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cvjax.cli import crf
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.segmentation.crf_config import CRFS, parse_crf

_ONE_STEP = parse_crf("2,2,6,6,20,1")


@pytest.fixture
def photo(tmp_path):
    """A photograph of two colors, probabilities of three classes that know its right half badly, and its labels."""
    rng = np.random.default_rng(0)
    labels = np.broadcast_to(np.arange(20) // 10, (14, 20))
    image = np.clip(np.asarray([[40, 60, 200], [220, 180, 30]])[labels] + rng.normal(0, 8, (14, 20, 3)), 0, 255)
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "photo.png")
    probabilities = (0.4 * np.eye(3)[labels] + 0.6 * rng.dirichlet(np.ones(3), labels.shape)).astype(np.float32)
    np.save(tmp_path / "probs.npy", probabilities)
    return image.astype(np.uint8), probabilities, labels


def _arguments(folder, **more):
    return crf.Arguments(folder / "photo.png", folder / "probs.npy", **{"out": folder / "out", "crf": _ONE_STEP} | more)


def test_the_crf_mends_the_labels_and_writes_what_it_did(photo, tmp_path):
    _, probabilities, labels = photo
    console = Console(record=True, width=300)
    marginals = crf.crf_file(_arguments(tmp_path, marginals=True), console)
    np.testing.assert_allclose(marginals.sum(-1), 1.0, rtol=1e-4)
    after = np.asarray(Image.open(tmp_path / "out" / "photo_mask.png"))
    assert (after == labels).mean() > 0.95 > (probabilities.argmax(-1) == labels).mean()
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "photo_marginals.npy"), marginals)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"photo_{kind}" for kind in ("overlay.png", "before_after.png", "mask.png", "marginals.npy")}
    share = f"{(after != probabilities.argmax(-1)).mean():.1%} of the pixels changed their class"
    assert share in console.export_text()


def test_flags_are_read_and_no_crf_changes_nothing(photo, tmp_path, capsys):
    _, probabilities, _ = photo
    folder = str(tmp_path / "plain")
    files = [str(tmp_path / "photo.png"), str(tmp_path / "probs.npy")]
    crf.main([*files, "--crf", "off", "--out", folder, "--names", "left", "right", "none"])
    assert "0.0% of the pixels changed" in capsys.readouterr().out
    kept = np.asarray(Image.open(tmp_path / "plain" / "photo_mask.png"))
    np.testing.assert_array_equal(kept, probabilities.argmax(-1))
    with pytest.raises(ConfigError, match=r"--names has 2 names and .*probs\.npy 3 classes"):
        crf.main([*files, "--names", "left", "right"])


@pytest.mark.parametrize("form", ["npz", "channels first", "logits", "float16"])
def test_probabilities_come_in_several_forms(photo, tmp_path, form):
    _, probabilities, _ = photo
    path = tmp_path / "other.npy"
    if form == "npz":
        path = tmp_path / "other.npz"
        np.savez(path, probabilities)
    else:
        given = {
            "channels first": probabilities.transpose(2, 0, 1),
            "logits": np.log(probabilities) + 3,
            "float16": probabilities.astype(np.float16),
        }
        np.save(path, given[form])
    read = crf.read_probabilities(path, (14, 20), logits=form == "logits")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, probabilities, atol=1e-3)


@pytest.mark.parametrize("form", ["upright", "as stored", "as stored, channels first", "as stored, float16"])
def test_a_photograph_that_exif_turns(photo, tmp_path, form):
    """The probabilities are those of the upright image, or of the stored pixels, which their size tells."""
    image, probabilities, _ = photo
    exif = Image.Exif()
    exif[0x0112] = 6  # A viewer turns the stored pixels by 90 degrees clockwise.
    Image.fromarray(np.rot90(image)).save(tmp_path / "photo.png", exif=exif)
    if form != "upright":
        probabilities = np.rot90(probabilities)
    if "first" in form:
        probabilities = probabilities.transpose(2, 0, 1)
    np.save(tmp_path / "probs.npy", probabilities.astype(np.float16 if "16" in form else np.float32))
    marginals = crf.crf_file(_arguments(tmp_path, crf=None), Console(quiet=True))
    np.testing.assert_allclose(marginals, photo[1], atol=1e-3)


def test_what_is_wrong_with_an_array_is_said(tmp_path):
    def told(array, message, **options):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(DataError, match=message):
            crf.read_probabilities(tmp_path / "a.npy", (4, 5), **options)

    told(np.ones((4, 6, 3)), r"is \[4, 6, 3\] for an image of \[4, 5\]; save \[H, W, C\]")
    told(np.ones((4, 5)), r"is \[4, 5\] for an image")
    told(np.ones((4, 5, 1)), "has 1 classes; a mask holds 2 to 255")
    told(np.full((4, 5, 3), np.nan), "some numbers are not finite")
    told(np.full((4, 5, 3), 0.5), "no probabilities, which sum to 1 at each pixel; add --logits")
    np.savez(tmp_path / "two.npz", a=np.ones(1), b=np.ones(1))
    with pytest.raises(DataError, match="holds the arrays a, b; keep one"):
        crf.read_probabilities(tmp_path / "two.npz", (4, 5))
    (tmp_path / "no.npz").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"no\.npz: cannot be read as \.npy or \.npz"):
        crf.read_probabilities(tmp_path / "no.npz", (4, 5))
    with pytest.raises(DataError, match=r"there is no file .*none\.npy; check the path"):
        crf.read_probabilities(tmp_path / "none.npy", (4, 5))


def test_nothing_that_was_given_is_written_over(photo, tmp_path):
    np.save(tmp_path / "photo_marginals.npy", photo[1])
    arguments = crf.Arguments(tmp_path / "photo.png", tmp_path / "photo_marginals.npy", CRFS["off"], out=tmp_path)
    with pytest.raises(ConfigError, match=r"would replace .*photo_marginals\.npy; choose another folder with --out"):
        crf.crf_file(arguments, Console(quiet=True))
