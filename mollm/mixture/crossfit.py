"""Cross-fitting on the human labels: what a mixture says of an item whose label it was not given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mollm.mixture import Mixture
from mollm.records import FloatArray, IntArray, Signals, Targets

FOLDS = 5


def folds(
    signals: Signals, targets: Targets, groups: tuple[str, ...] | None, k: int, rng: np.random.Generator
) -> IntArray:
    """(H,) a fold number a label. Labels of one item, or of one text, share a fold; classes are spread evenly."""
    names = signals.items if groups is None else groups
    group = np.array([names[n] for n in targets.index], dtype=np.str_)
    unique, first, member = np.unique(group, return_index=True, return_inverse=True)
    shuffled = rng.permutation(len(unique))
    by_class = shuffled[np.argsort(targets.label[first][shuffled], kind="stable")]
    fold = np.empty(len(unique), dtype=np.int64)
    fold[by_class] = np.arange(len(unique)) % k
    return fold[member.reshape(-1)]


def out_of_fold(
    make: Callable[[], Mixture],
    signals: Signals,
    targets: Targets,
    *,
    rng: np.random.Generator,
    embeddings: FloatArray | None = None,
    groups: tuple[str, ...] | None = None,
    k: int = FOLDS,
) -> FloatArray:
    """(H, C) each labelled item's probabilities from a fit on the pool and the other folds' labels."""
    fold = folds(signals, targets, groups, k, rng)
    seed = int(rng.integers(2**31))
    out = np.empty((targets.H, signals.C))
    for f in np.unique(fold):
        held = fold == f
        fitted = make().fit(
            signals, targets.take(~held), rng=np.random.default_rng(seed), embeddings=embeddings, groups=groups
        )
        index = targets.index[held]
        out[held] = fitted.predict_proba(signals.take(index), None if embeddings is None else embeddings[index])
    return out


def losses(probs: FloatArray, targets: Targets) -> FloatArray:
    """(H,) each human label's negative log-probability (nats)."""
    return np.asarray(-np.log(np.maximum(probs[np.arange(targets.H), targets.label], 1e-12)))


def log_loss(probs: FloatArray, targets: Targets) -> float:
    """Mean negative log-probability (nats) of the human labels, by their weights."""
    return float(np.average(losses(probs, targets), weights=targets.weight))


def clearly_lower(one: FloatArray, other: FloatArray, targets: Targets, errors: float) -> bool:
    """Whether `one`'s (H, C) log-loss lies below that of `other` by more than so many standard errors, paired."""
    gain = losses(other, targets) - losses(one, targets)
    share = targets.weight / targets.weight.sum()
    mean = float((share * gain).sum())
    return mean > errors * float(np.sqrt((share**2 * (gain - mean) ** 2).sum()))
