"""Predicts many images in batches of one shape each, with threads that read and prepare the next ones meanwhile."""

import math
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from cvjax.errors import ConfigError, DataError
from cvjax.ops.geometry import pair
from cvjax.tasks.prediction.choices import OnBad
from cvjax.tasks.prediction.pieces import BatchPredictor, CompilesAhead, Piece, Rows

Pieces = Mapping[int, Sequence[Piece]]
"""Pieces of each image by its number."""
Places = tuple[int, Sequence[tuple[int, int]]]
"""Number of rows of a batch, and image and piece of those that are not padding."""
_PIXELS = 640 * 640
"""Pixels of an input up to which a batch has its full size; larger inputs make smaller batches of as many pixels."""
_ROOM = 512 << 20
_AHEAD = 3
"""Number of batches that are read ahead of the device."""
_THREADS = 4


class Source(Protocol):
    """An image that is read when it is needed."""

    @property
    def name(self) -> str:
        """Returns what it is called in messages."""
        ...

    def size(self) -> tuple[int, int]:
        """Returns its height and width, without decoding it where that can be done."""
        ...

    def read(self) -> np.ndarray:
        """Returns it as uint8 [H, W, 3]."""
        ...


class Predicted(NamedTuple):
    """Holds what became of one image.

    Attributes:
      number: Its place among the sources.
      size: Its height and width; (0, 0) if that could not be read.
      result: What the predictor's `join` returned; None if the image cannot be read.
      error: What is wrong with the image, or None.
    """

    number: int
    size: tuple[int, int]
    result: Any
    error: DataError | None = None


class Images:
    """Reads images, and keeps the last ones decoded: their pieces, and those who draw on them, come soon after.

    Args:
      sources: Where the images come from.
      room: Number of bytes that are kept.
    """

    def __init__(self, sources: Sequence[Source], room: int = _ROOM) -> None:
        self._sources, self._room = sources, room
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._sizes: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sources)

    def size(self, index: int) -> tuple[int, int]:
        """Returns height and width of an image."""
        if index not in self._sizes:
            self._sizes[index] = self._sources[index].size()
        return self._sizes[index]

    def name(self, index: int) -> str:
        """Returns what an image is called in messages."""
        return self._sources[index].name

    def read(self, index: int) -> np.ndarray:
        """Returns an image, uint8 [H, W, 3]; any thread may call this."""
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        image = self._sources[index].read()
        with self._lock:
            self._kept[index] = image
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._room:
                self._kept.popitem(last=False)
        return image


class Stream:
    """Predicts the images of any number of sources in turn.

    Args:
      predictor: Predictor of a task.
      batch_size: Number of pieces of up to 640x640 pixels in a batch.
      on_bad: Whether an image that cannot be read ends the prediction or is passed over.

    Attributes:
      batch_size: Number of pieces in a batch, as given.
      programs: Batch size and shape of each program that was compiled.

    Raises:
      ConfigError: The batch size is below 1.
    """

    def __init__(self, predictor: BatchPredictor, batch_size: int = 8, on_bad: OnBad = "error") -> None:
        if batch_size < 1:
            raise ConfigError(f"--batch-size is {batch_size}; give 1 or more images")
        self._predictor, self.batch_size, self._on_bad = predictor, batch_size, on_bad
        self.programs: set[tuple[int, tuple[int, int]]] = set()

    def over(self, images: Images, *, full: bool = False) -> Iterator[Predicted]:
        """Yields what became of each image, in the order in which they are done: by shape, then by number.

        The shape that most pieces have comes first, and a thread compiles the net for the others while it runs.

        Args:
          images: Images to predict.
          full: Whether batches always have the full size, for images that come in portions; otherwise each shape's
            batches are as even as they can be, so that little is computed for nothing.

        Raises:
          DataError: An image cannot be read, and such ones are not passed over.
        """
        with (
            ThreadPoolExecutor(_THREADS, "cvjax-predict") as pool,
            ThreadPoolExecutor(1, "cvjax-compile") as compiling,
        ):
            try:
                yield from self._over(images, full, pool, compiling)
            finally:
                for each in (compiling, pool):
                    each.shutdown(wait=True, cancel_futures=True)

    def _over(
        self, images: Images, full: bool, pool: ThreadPoolExecutor, compiling: ThreadPoolExecutor
    ) -> Iterator[Predicted]:
        pieces: dict[int, Sequence[Piece]] = {}
        sizes: dict[int, tuple[int, int]] = {}
        bad: set[int] = set()
        for index, size in enumerate(pool.map(lambda index: _tried(images.size, index), range(len(images)))):
            if isinstance(size, DataError):
                yield self._passed_over(index, (0, 0), size)
                continue
            sizes[index], pieces[index] = size, self._predictor.pieces(size)
        parts: dict[int, dict[int, Any]] = {index: {} for index in pieces}
        batches = list(self._batches(pieces, full))
        compiled = self._compile_ahead(batches, sizes, pieces, full, compiling)

        def deliver(started: "_Started") -> Iterator[Predicted]:
            outputs = jax.device_get(started.outputs)
            for row, (index, number, rows) in enumerate(started.rows):
                if index in bad:
                    continue
                output = jax.tree.map(lambda values, row=row: values[row], outputs)
                parts[index][number] = self._predictor.part(output, rows, pieces[index][number])
                if len(parts[index]) == len(pieces[index]):
                    done = parts.pop(index)
                    ordered = [done[place] for place in range(len(done))]
                    yield Predicted(index, sizes[index], self._predictor.join(sizes[index], pieces[index], ordered))

        running: _Started | None = None
        for count, found in self._read_ahead(images, pieces, batches, pool):
            rows = []
            for index, number, made in found:
                result = made.result()
                if isinstance(result, DataError):
                    if index not in bad:
                        yield self._passed_over(index, sizes[index], result)
                    bad.add(index)
                    parts.pop(index, None)
                elif index not in bad:
                    rows.append((index, number, result))
            if not rows:
                continue
            compiled[_shape(pieces, found)].result()
            # Started before the last batch is fetched, so that the device has it at hand.
            started = _Started(self._start([row for _, _, row in rows], count), rows)
            if running is not None:
                yield from deliver(running)
            running = started
        if running is not None:
            yield from deliver(running)

    def _start(self, rows: list[Rows], count: int) -> Any:
        padded = rows + [rows[-1]] * (count - len(rows))
        batch = {name: np.stack([np.asarray(row[name]) for row in padded]) for name in padded[0]}
        self.programs.add((count, pair(batch["image"].shape[1:3])))
        return self._predictor.start(batch)

    def _read_ahead(
        self, images: Images, pieces: Pieces, batches: list[Places], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, list[tuple[int, int, Future[Rows | DataError]]]]]:
        """Yields the number of rows of each batch, and image, piece and inputs of those that are not padding."""

        def prepared(index: int, piece: Piece) -> Rows | DataError:
            return _tried(lambda index: self._prepared(images, index, piece), index)

        ahead: deque[Any] = deque()
        for count, places in batches:
            found = [(index, number, pool.submit(prepared, index, pieces[index][number])) for index, number in places]
            ahead.append((count, found))
            if len(ahead) > _AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _prepared(self, images: Images, index: int, piece: Piece) -> Rows:
        image, size = images.read(index), images.size(index)
        if image.shape[:2] != size:
            raise DataError(
                f"{images.name(index)} holds {image.shape[0]}x{image.shape[1]} pixels and its header says"
                f" {size[0]}x{size[1]}; save it anew"
            )
        return self._predictor.prepare(image, piece)

    def _compile_ahead(
        self,
        batches: list[Places],
        sizes: dict[int, tuple[int, int]],
        pieces: Pieces,
        full: bool,
        compiling: ThreadPoolExecutor,
    ) -> dict[tuple[int, int], Future[None]]:
        """Has the net compiled for each shape in turn, and returns what says when that is done, by shape."""
        runs = Counter(_shape(pieces, places) for _, places in batches)
        predictor = self._predictor

        def make(count: int, index: int, number: int) -> None:
            if not isinstance(predictor, CompilesAhead):
                return
            piece = pieces[index][number]
            blank = predictor.prepare(np.zeros((*sizes[index], 3), np.uint8), piece)
            rows = {name: np.stack([np.asarray(value)] * count) for name, value in blank.items()}
            predictor.ahead(rows, math.inf if full else runs[piece.shape])

        made: dict[tuple[int, int], Future[None]] = {}
        for count, places in batches:
            shape = _shape(pieces, places)
            if shape not in made:
                made[shape] = compiling.submit(make, count, *places[0])
        return made

    def _batches(self, pieces: Pieces, full: bool) -> Iterator[Places]:
        """Yields the number of rows and (image, piece) of each batch, by shape; a shape has one number of rows."""
        shapes: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for index, of_image in pieces.items():
            for number, piece in enumerate(of_image):
                shapes.setdefault(piece.shape, []).append((index, number))
        for (height, width), places in sorted(shapes.items(), key=lambda item: (-len(item[1]), item[0])):
            most = max(1, min(self.batch_size, self.batch_size * _PIXELS // (height * width)))
            count = most if full else -(-len(places) // -(-len(places) // most))
            for start in range(0, len(places), count):
                yield count, places[start : start + count]

    def _passed_over(self, index: int, size: tuple[int, int], error: DataError) -> Predicted:
        if self._on_bad == "error":
            raise error
        return Predicted(index, size, None, error)


class _Started(NamedTuple):
    outputs: Any
    rows: list[tuple[int, int, Rows]]


def _shape(pieces: Pieces, places: Sequence[tuple[Any, ...]]) -> tuple[int, int]:
    index, number, *_ = places[0]
    return pieces[index][number].shape


def _tried(work: Any, index: int) -> Any:
    """Returns what the work returns, or the DataError that it raised."""
    try:
        return work(index)
    except DataError as error:
        return error
