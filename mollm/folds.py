"""Folds for cross-fitting: no row is ever scored by a fit that saw it, or a duplicate of it (method.md 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mollm.records import IntArray


def folds(groups: Sequence[str], K: int, rng: np.random.Generator, label: IntArray | None = None) -> IntArray:
    """(N,) fold 0..K-1 of each item; a group is never split.

    `label` (N,) with -1 for "not labelled": the labelled groups of each class are dealt out evenly, so that the other
    folds miss a class only where it has too few groups.
    """
    names, place = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    order = rng.permutation(len(names))
    if label is not None:
        of_group = np.full(len(names), -1, dtype=np.int64)
        labelled = label >= 0
        of_group[place[labelled]] = label[labelled]
        order = order[np.argsort(-of_group[order], kind="stable")]
    fold = np.empty(len(names), dtype=np.int64)
    fold[order] = np.arange(len(names)) % max(K, 1)
    return np.asarray(fold[place], dtype=np.int64)
