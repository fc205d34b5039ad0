"""Random streams by name: each purpose draws from a stream of its own, so that no draw moves another."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import numpy as np


def stream(seed: int, purpose: str, place: Iterable[int] = ()) -> np.random.Generator:
    """The stream of one `purpose` under a seed (at one `place`, for example a set of folds): the same each time."""
    return np.random.default_rng([seed, crc32(purpose.encode()), *place])
