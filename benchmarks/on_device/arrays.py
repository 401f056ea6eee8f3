"""The batches of `benchmarks/accelerator.py`, the same for all frameworks."""

import numpy as np
from paired import Message

_OBJECTS = 8


def arrays(work: Message) -> dict[str, np.ndarray]:
    """A batch: `image` float32 [B, S, S, 3]; `label` int32 [B], of segmentation [B, S, S], of detection [B, N].

    Detection has `boxes` too, float32 [B, N, 4], (x1, y1, x2, y2) in pixels.
    """
    rng, batch, size = np.random.default_rng(0), work["batch"], work["size"]
    shape = {"classification": (batch,), "segmentation": (batch, size, size), "detection": (batch, _OBJECTS)}
    made = {
        "image": rng.standard_normal((batch, size, size, 3), np.float32),
        "label": rng.integers(work["classes"], size=shape[work["task"]], dtype=np.int32),
    }
    if work["task"] == "detection":
        low = rng.uniform(0, 0.6, (batch, _OBJECTS, 2))
        high = np.minimum(low + rng.uniform(0.1, 0.4, low.shape), 1)
        made["boxes"] = (np.concatenate([low, high], axis=-1) * size).astype(np.float32)
    return made
