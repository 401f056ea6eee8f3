"""Predicts all photographs and videos that were found, and writes what a task makes of them."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from cvjax.errors import ConfigError, DataError
from cvjax.storage import AnyPath
from cvjax.tasks.prediction.inputs import Input, Photo
from cvjax.tasks.prediction.results import Item, Results
from cvjax.tasks.prediction.sheet import Thumb, make_thumb, write_sheet
from cvjax.tasks.prediction.stream import Images, Stream
from cvjax.tasks.prediction.videos import Frame, Video, written_video
from cvjax.visual.canvas import save_png

_WRITERS = 4
_WAITING = 32
"""Results that wait to be written, at most, so that their images do not fill the memory."""
_SHOWN = 4
"""Frames of a video that the sheet shows, one of each quarter."""
_OVERLAY = "_overlay.png"


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Holds what a prediction has written and found.

    Attributes:
      files: Files of each input in turn.
      common: Files about all inputs, such as tables and the sheet.
      report: What was found, as JSON holds it.
    """

    files: list[AnyPath]
    common: list[AnyPath]
    report: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Done:
    """Holds what is left of a photograph or a video when its files are written."""

    files: list[AnyPath]
    line: str
    entry: dict[str, Any]
    kept: list[tuple[Item, Any]] = dataclasses.field(default_factory=list)
    thumbs: list[Thumb] = dataclasses.field(default_factory=list)


class Run:
    """Predicts inputs and writes their results.

    Args:
      stream: Batches of a predictor.
      results: What the task writes.
      out: Folder of the results.
      skips: Whether inputs that cannot be read are passed over.
      every: Number of frames of a video of which one is predicted.
      tell: Function that is given a line about each input, in their order.

    Raises:
      ConfigError: `every` is below 1.
    """

    def __init__(
        self,
        stream: Stream,
        results: Results,
        out: AnyPath,
        *,
        skips: bool = False,
        every: int = 1,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        if every < 1:
            raise ConfigError(f"--every is {every}; give 1 for each frame of a video, or a larger number")
        self._stream, self._results, self._out = stream, results, out
        self._skips, self._every, self._tell = skips, every, tell

    def over(self, inputs: Sequence[Input], *, title: str, page: bool = True) -> Outputs:
        """Predicts the photographs, then the videos.

        Args:
          inputs: Photographs and videos.
          title: Title of the contact sheet.
          page: Whether to write the sheet.

        Raises:
          UserError: An input cannot be read, and such ones are not passed over, or a result cannot be written.
        """
        done: dict[int, _Done] = {}
        wrong: dict[int, DataError] = {}
        order = sorted(range(len(inputs)), key=lambda number: inputs[number].is_video)
        waiting = iter(order)
        following = next(waiting, None)
        for number, outcome in self._outcomes(inputs):
            (wrong if isinstance(outcome, DataError) else done)[number] = outcome  # pyright: ignore[reportArgumentType]
            while following is not None and (following in done or following in wrong):
                if following in wrong:
                    self._tell(f"passed over: {wrong[following]}")
                else:
                    self._tell(done[following].line)
                following = next(waiting, None)
        whole = [done[number] for number in range(len(inputs)) if number in done]
        common = self._results.finish(self._out, [pair for one in whole for pair in one.kept])
        lost = [(str(inputs[number].path), str(wrong[number])) for number in sorted(wrong)]
        frames = sum(len(one.entry["frames"]) for one in whole if "frames" in one.entry)
        counts = {
            "images": sum("image" in one.entry for one in whole),
            "videos": sum("video" in one.entry for one in whole),
            "frames": frames,
            "passed_over": len(lost),
        }
        report = {
            "images": [one.entry for one in whole if "image" in one.entry],
            "videos": [one.entry for one in whole if "video" in one.entry],
            "passed_over": [{"path": path, "error": error} for path, error in lost],
            "counts": counts,
            "programs": len(self._stream.programs),
        }
        if page:
            parts = {
                heading: [thumb for one in whole if kind in one.entry for thumb in one.thumbs]
                for heading, kind in (("Images", "image"), ("Videos", "video"))
            }
            parts = {heading: thumbs for heading, thumbs in parts.items() if thumbs}
            legend = self._results.legend()
            common += write_sheet(self._out, title, _counted(counts), parts, legend=legend, passed_over=lost)
        return Outputs([file for one in whole for file in one.files], common, report)

    def _outcomes(self, inputs: Sequence[Input]) -> Iterator[tuple[int, _Done | DataError]]:
        """Yields the number of each input, and what became of it."""
        photos = [number for number, found in enumerate(inputs) if not found.is_video]
        with ThreadPoolExecutor(_WRITERS, "cvjax-write") as pool:
            yield from self._photos([(number, inputs[number]) for number in photos], pool)
            for number, found in enumerate(inputs):
                if found.is_video:
                    try:
                        yield number, self._video(found, pool)
                    except DataError as error:
                        if not self._skips:
                            raise
                        yield number, error

    def _photos(
        self, photos: Sequence[tuple[int, Input]], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, _Done | DataError]]:
        images = Images([Photo(found.path) for _, found in photos])
        writing: deque[tuple[int, Future[_Done]]] = deque()
        for predicted in self._stream.over(images):
            number, found = photos[predicted.number]
            if predicted.error is not None:
                yield number, predicted.error
                continue
            item = Item(found.path, found.name, predicted.size)
            shown = self._results.shown(predicted.result)
            writing.append((number, pool.submit(self._write_photo, images, predicted.number, item, shown)))
            while len(writing) > _WAITING or (writing and writing[0][1].done()):
                number, future = writing.popleft()
                yield number, future.result()
        for number, future in writing:
            yield number, future.result()

    def _write_photo(self, images: Images, index: int, item: Item, shown: Any) -> _Done:
        picture, files, link = self._results.picture(images.read(index), shown), [], ""
        if self._results.draws:
            link = item.name + _OVERLAY
            files.append(self._out / link)
            save_png(files[0], picture)
        files += self._results.write(self._out, item, shown)
        found = self._results.line(shown)
        height, width = item.size
        entry = {
            "image": str(item.path),
            "name": item.name,
            "height": height,
            "width": width,
            "files": [str(file) for file in files],
            **self._results.entry(shown),
        }
        line = f"{item.path}: {found}" + (f" -> {files[0]}" if link else "")
        if self._results.legend():  # one for all on the sheet
            picture = self._results.thumb(images.read(index), shown)
        thumb = make_thumb(picture, item.name, found.split(", "), link)
        return _Done(files, line, entry, [(item, self._results.kept(shown))], [thumb])

    def _video(self, found: Input, pool: ThreadPoolExecutor) -> _Done:
        video = Video(found.path)
        target = self._out / f"{found.name}_overlay.mp4"
        done: list[_Done] = []
        with written_video(target, video.fps / self._every) as writer:
            for picture, frame in self._frames(found, video, pool):
                writer.add(picture)
                done.append(frame)
        if not done:
            raise DataError(f"{found.path}: no frame of this video can be decoded; convert it to another format")
        thumbs = [done[len(done) * quarter // _SHOWN].thumbs[0] for quarter in range(min(_SHOWN, len(done)))]
        entry = {
            "video": str(found.path),
            "name": found.name,
            "frames_per_second": video.fps,
            "every": self._every,
            "files": [str(target)],
            "frames": [frame.entry for frame in done],
        }
        line = f"{found.path}: {len(done)} frames -> {target}"
        stated = -(-video.count // self._every)
        if len(done) < stated - 1:
            line += f"; the file says that it has {stated}, and the rest cannot be decoded"
        files = [target, *(file for frame in done for file in frame.files)]
        return _Done(files, line, entry, [pair for frame in done for pair in frame.kept], thumbs)

    def _frames(self, found: Input, video: Video, pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, _Done]]:
        """Yields the picture of each frame and what is left of it, in order."""
        frames = video.frames(self._every)
        size = 2 * self._stream.batch_size
        with ThreadPoolExecutor(1, "cvjax-video") as reader:
            ahead = reader.submit(lambda: list(itertools.islice(frames, size)))
            drawing: deque[Future[tuple[np.ndarray, _Done]]] = deque()
            while chunk := ahead.result():
                ahead = reader.submit(lambda: list(itertools.islice(frames, size)))
                predicted = sorted(self._stream.over(Images(chunk), full=True), key=lambda one: one.number)
                for one in predicted:
                    shown = self._results.shown(one.result)
                    drawing.append(pool.submit(self._write_frame, found, chunk[one.number], shown))
                while len(drawing) > size:
                    yield drawing.popleft().result()
            for future in drawing:
                yield future.result()

    def _write_frame(self, found: Input, frame: Frame, shown: Any) -> tuple[np.ndarray, _Done]:
        item = Item(found.path, f"{found.name}_frames/{frame.number:06d}", frame.size(), frame.number)
        picture, files = self._results.frame(frame.image, shown), self._results.write(self._out, item, shown)
        line = self._results.line(shown)
        entry = {"frame": frame.number, "files": [str(file) for file in files], **self._results.entry(shown)}
        title = f"{found.name}, frame {frame.number}"
        thumb = make_thumb(picture, title, line.split(", "), f"{found.name}_overlay.mp4")
        return picture, _Done(files, line, entry, [(item, self._results.kept(shown))], [thumb])


def _counted(counts: dict[str, int]) -> str:
    """Returns the counts in words."""
    words = [f"{counts['images']} image{'' if counts['images'] == 1 else 's'}"] if counts["images"] else []
    if counts["videos"]:
        words.append(f"{counts['frames']} frames of {counts['videos']} video{'' if counts['videos'] == 1 else 's'}")
    if counts["passed_over"]:
        words.append(f"{counts['passed_over']} passed over")
    return ", ".join(words or ["nothing"]) + "."
