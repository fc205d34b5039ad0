"""A frozen rest: the tasks that were open when an audit was made, and what a version said of them, as stored bytes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mollm.records import FloatArray, IntArray

COLUMNS = ("frozen", "frozen_texts", "frozen_confidence", "frozen_labels")


@dataclass(frozen=True)
class Frozen:
    """K tasks, part after part, each the most confident first. In a standing audit: the drawn tasks alone.

    `task_ids` (K,); `texts` (K,) the first 8 bytes of each text key; `confidence` (K,); `names` and `codes`: by the
    decision's key its labels, and (K,) which of them was predicted.
    """

    task_ids: IntArray
    texts: IntArray
    confidence: FloatArray
    names: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, IntArray]

    def labels_at(self, n: int) -> dict[str, str]:
        """The predicted label of one task, by the decision's key."""
        return {key: self.names[key][codes[n]] for key, codes in self.codes.items()}

    def take(self, places: IntArray) -> Frozen:
        """The tasks at `places`, in that order."""
        codes = {key: row[places] for key, row in self.codes.items()}
        return Frozen(self.task_ids[places], self.texts[places], self.confidence[places], self.names, codes)


def text_codes(text_keys: Iterable[str]) -> IntArray:
    """The first 8 bytes of each text key as a number: enough to see an edit."""
    return np.array([int(key[:16] or "0", 16) for key in text_keys], dtype=np.uint64).view(np.int64)


def packed(frozen: Frozen) -> dict[str, bytes]:
    """The values of `COLUMNS`."""
    words = {key: [list(frozen.names[key]), codes.tolist()] for key, codes in frozen.codes.items()}
    arrays = (frozen.task_ids.astype("<i8"), frozen.texts.astype("<i8"), frozen.confidence.astype("<f4"))
    blobs = (*(array.tobytes() for array in arrays), json.dumps(words).encode())
    return dict(zip(COLUMNS, map(zlib.compress, blobs), strict=True))


def unpacked(stored: Mapping[Any, bytes]) -> Frozen:
    """What `packed` made; confidences as 4-byte numbers hold them."""
    task_ids, texts, confidence, words = (zlib.decompress(stored[name]) for name in COLUMNS)
    known = json.loads(words)
    return Frozen(
        np.frombuffer(task_ids, "<i8"), np.frombuffer(texts, "<i8"), np.frombuffer(confidence, "<f4").astype(float),
        {key: tuple(names) for key, (names, _) in known.items()},
        {key: np.array(codes, dtype=np.int64) for key, (_, codes) in known.items()},
    )  # fmt: skip
