"""Names files that are taken for images and are not read, each with a way out."""

_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_STARTS = (
    (b"%PDF", "a PDF", "export its pages as PNG"),
    (b"\xff\x0a", "a JPEG XL", "convert it to PNG or JPEG"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL", "convert it to PNG or JPEG"),
    (b"\x93NUMPY", "an array of NumPy", "save it as PNG"),
    (b"\x89HDF", "an HDF5 file", "save its images as PNG"),
    (b"PK\x03\x04", "a zip", "unpack it"),
    (b"8BPS", "a Photoshop file", "export it as PNG"),
    (b"v/1\x01", "an OpenEXR file", "convert it to 8-bit PNG"),
    (b"#?RADIANCE", "a Radiance HDR file", "convert it to 8-bit PNG"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself with `git lfs pull`"),
)


def what_it_is(data: bytes) -> tuple[str, str] | None:
    """Returns the name of a format that is not read and the way out, by a file's first bytes; None if unknown."""
    for start, what, fix in _STARTS:
        if data.startswith(start):
            return what, fix
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return "a HEIC photograph, as phones write them", "convert it to JPEG, as `magick a.heic a.jpg` does"
    if data[4:12] == b"ftypavif":
        return "an AVIF, which the installed Pillow does not read", "convert it to JPEG or install pillow 11.3"
    if data[128:132] == b"DICM":
        return "a DICOM file", "export its pixels as 8-bit PNG"
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return "an SVG drawing, which has no pixels", "export it as PNG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, as a failed download leaves it", "fetch the image again"
    return None
