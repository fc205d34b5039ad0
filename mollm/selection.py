"""`select`: which items people should label next, from arrays, by any query strategy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mollm import arrays
from mollm.errors import InputError
from mollm.records import IntArray
from mollm.strategies import Pool
from mollm.strategies import strategy as strategy_of


def select(
    probs: ArrayLike, size: int, *, strategy: str = "discrepancy", label_probs: ArrayLike | None = None,
    open: ArrayLike | None = None, labelled: ArrayLike | None = None, embeddings: ArrayLike | None = None,
    classifier: ArrayLike | None = None, random_state: int = 0,
) -> IntArray:  # fmt: skip
    """At most `size` items in the order in which they should be labelled, as int64 indices.

    `probs` (N, C): the current prediction. `strategy`: a name in `mollm.strategies.strategies()`. `label_probs`
    (N, M, C) and `classifier` (N, C): what the LLMs and a classifier say, for strategies that weigh their
    disagreement. `labelled`: indices or a mask (N,) of what people have labelled; they are never chosen. `open`
    (indices or a mask): the only items that may be chosen. `embeddings` (N, D): where items lie, for strategies that
    spread a batch (without it, the probabilities tell). Raises InputError, ConfigError for an unknown strategy.

    >>> select([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]], 2, strategy="margin").tolist()
    [1, 2]
    """
    rows = arrays.distributions(probs, "probs")
    N, C = rows.shape
    if not isinstance(size, int | np.integer) or size < 0:
        raise InputError(f"`size` is {size!r}: it must be a number of items, 0 or more.")
    known = arrays.indices([] if labelled is None else labelled, "labelled", N)
    free = np.setdiff1d(np.arange(N) if open is None else arrays.indices(open, "open", N), known)
    panel = None if label_probs is None else arrays.signals(label_probs, None, None, None, (N, None, C)).label_probs
    own = None if classifier is None else arrays.distributions(classifier, "classifier", N, C)
    x = None if embeddings is None else arrays.floats(embeddings, "embeddings", {"N": N, "D": None}, finite=True)
    pool = Pool(rows, free, known, None if x is None else lambda: x, classifier=own, panel=panel)
    return strategy_of(strategy)(pool, int(size), np.random.default_rng(random_state)).index.astype(np.int64)
