"""Reads the frames of videos, and writes videos of pictures, by the FFmpeg that OpenCV brings.

It reads H.264, HEVC, MPEG-2 and 4, VP8, VP9, ProRes, MJPEG and more in MP4, AVI, MOV, MKV and WebM, but not AV1. It
has no encoder for H.264. Videos are written as MP4 with VP9, which browsers play, or with MPEG-4 where OpenCV has no
VP9.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import cv2
import numpy as np

from cvjax.errors import ConfigError, DataError
from cvjax.storage import AnyPath, fetch_file, written_file

_CODECS = ("vp09", "mp4v")
_FPS = 25.0
"""Frames a second of a video that does not say how many it has."""


class Frame:
    """Holds a decoded frame as a source of `cvjax.tasks.prediction.stream`.

    Attributes:
      number: Number of the frame in the video, from 0 on.
      image: uint8 [H, W, 3].
      name: What it is called in messages.
    """

    def __init__(self, number: int, image: np.ndarray, name: str) -> None:
        self.number, self.image, self.name = number, image, name

    def size(self) -> tuple[int, int]:
        """Returns height and width."""
        return self.image.shape[0], self.image.shape[1]

    def read(self) -> np.ndarray:
        """Returns the frame."""
        return self.image


class Video:
    """Reads a video from its beginning.

    Args:
      path: File of the video.

    Attributes:
      fps: Frames a second.
      count: Number of frames that the file says it has; 0 if it does not say.

    Raises:
      DataError: No frame can be decoded.
    """

    def __init__(self, path: AnyPath) -> None:
        # Or FFmpeg writes its own lines about damaged files on stderr; it reads this when the first video is opened.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._path = path
        self._capture = cv2.VideoCapture(str(fetch_file(path)))
        self._held = self._capture.grab()
        if not self._held:
            raise DataError(
                f"{path}: no frame of this video can be decoded; convert it, as by ffmpeg -i {path.name} converted.mp4"
            )
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if 0 < fps < 1000 else _FPS
        self.count = max(0, int(count))

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Yields each `every`-th frame, from the first on."""
        number, size = 0, None
        while self._held:
            if number % every == 0:
                found, image = self._capture.retrieve()
                if not found:
                    break
                size = size or image.shape
                if image.shape != size:  # a stream may change its size; what is written cannot
                    image = cv2.resize(image, size[1::-1])
                yield Frame(number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), f"{self._path} frame {number}")
            number += 1
            self._held = self._capture.grab()
        self._capture.release()


class VideoWriter:
    """Writes pictures of one size into an MP4 file; odd sides get one more row or column, as codecs want even ones.

    Args:
      path: File to write to; only its suffix matters to the codec.
      fps: Frames a second.
    """

    def __init__(self, path: pathlib.Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: np.ndarray) -> None:
        """Writes uint8 [H, W, 3].

        Raises:
          ConfigError: This OpenCV has no encoder for MP4.
        """
        height, width = picture.shape[:2]
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            self._writer = self._open(picture.shape[1::-1])
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.release()

    def _open(self, size: tuple[int, ...]) -> cv2.VideoWriter:
        for codec in _CODECS:
            writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*codec), self._fps, size)
            if writer.isOpened():
                return writer
        raise ConfigError(
            f"this OpenCV ({cv2.__version__}) writes no MP4; install opencv-contrib-python-headless from its wheel"
        )


@contextlib.contextmanager
def written_video(path: AnyPath, fps: float) -> Iterator[VideoWriter]:
    """Yields a writer of a video, which is put in its place whole, at the end.

    Raises:
      ConfigError: The place cannot be written, or there is no encoder.
    """
    with tempfile.TemporaryDirectory(prefix="cvjax-") as folder:
        local = pathlib.Path(folder) / "video.mp4"
        writer = VideoWriter(local, fps)
        try:
            yield writer
        finally:
            writer.close()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_file(path) as partial:
                shutil.copyfile(local, partial)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
