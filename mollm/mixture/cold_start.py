"""Which items to ask about first: some at random, then by small margin with diversity, refitted in between.

Random first, because a mixture that has seen nothing is sure of the wrong things; then, each time, the items with
the smallest margin of the refitted mixture, spread over the signals by k-means so that ten near-copies of one
question are not asked. Equal shares by predicted class were no better than random (method.md 3b).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from mollm.config import COLD_FIRST, COLD_STEP, COLD_UNTIL
from mollm.mixture.evidence import Centring
from mollm.mixture.skills import shares
from mollm.mixture.stacked import Stacked
from mollm.mixture.text_view import Gram
from mollm.records import BoolArray, FloatArray, IntArray, Pool, Targets

Oracle = Callable[[IntArray], IntArray]
"""Asks humans: item indices in, their labels (0..C-1) out."""


@dataclass(frozen=True)
class Design:
    """`first` items at random, then steps of `step`, each from the `pool` times `step` smallest margins."""

    first: int = COLD_FIRST
    step: int = COLD_STEP
    pool: int = 5


def steps(human: int, design: Design = Design()) -> Iterator[int]:
    """How many items each step asks for, the first step first; they sum to `human`."""
    done = min(human, design.first)
    yield done
    while done < human:
        size = min(design.step, human - done)
        yield size
        done += size


def choose(pool: Pool, ask: Oracle, human: int, *, rng: np.random.Generator, design: Design = Design()) -> IntArray:
    """(human,) items in the order of asking; the pool has no labels yet, `ask` gives them as the design goes."""
    order: IntArray = rng.permutation(pool.signals.N)
    asked: IntArray = np.empty(0, dtype=np.int64)
    labels: IntArray = np.empty(0, dtype=np.int64)
    centring = Centring.of(pool.signals)
    known = centring, shares(pool, centring), None if pool.embeddings is None else Gram.of(pool.embeddings)
    for size in steps(human, design):
        if len(asked):
            fitted = Stacked(*known).fit(replace(pool, targets=Targets.of(asked, labels)), rng=rng)
            probs = fitted.predict_proba(pool.signals, pool.embeddings)
            new = next_step(pool, probs, asked, size, rng=rng, design=design)
        else:
            new = order[:size]
        asked, labels = np.concatenate([asked, new]), np.concatenate([labels, ask(new)])
    return asked


def ahead(
    pool: Pool, probs: FloatArray, open_items: BoolArray, *, rng: np.random.Generator, design: Design = Design()
) -> IntArray:
    """The open items that the design asks about next, given the pool's labels and their mixture's `probs` (N, C).

    The service's half of `choose`: it is called anew after each refit. None from `COLD_UNTIL` labelled items on.
    """
    human = len(np.unique(pool.targets.index))
    if human >= COLD_UNTIL:
        return np.empty(0, dtype=np.int64)
    if human < design.first:
        return rng.permutation(np.flatnonzero(open_items))[: design.first - human]
    size = min(design.step, COLD_UNTIL - human)
    return next_step(pool, probs, np.flatnonzero(~open_items), size, rng=rng, design=design)


def next_step(
    pool: Pool, probs: FloatArray, asked: IntArray, size: int, *, rng: np.random.Generator, design: Design = Design()
) -> IntArray:
    """(size,) the next items to ask, by the mixture's `probs` (N, C); one item a text, none like those `asked`."""
    signals = pool.signals
    top = np.partition(probs, -2, axis=1) if signals.C > 1 else np.ones((signals.N, 2))
    margin = top[:, -1] - top[:, -2]
    names = np.array(pool.group_names, dtype=np.str_)
    free = ~np.isin(names, names[asked])
    candidates: IntArray = np.flatnonzero(free)[np.argsort(margin[free], kind="stable")]
    _, first = np.unique(names[candidates], return_index=True)
    candidates = candidates[np.sort(first)][: size * design.pool]
    return spread(Centring.of(signals).log_odds(signals, candidates), candidates, margin, size, rng)


def spread(
    evidence: FloatArray, candidates: IntArray, margin: FloatArray, size: int, rng: np.random.Generator
) -> IntArray:
    """(size,) the smallest margin of each k-means cluster of the candidates' evidence (n, S, C)."""
    if len(candidates) <= size:
        return candidates
    flat = evidence.reshape(len(candidates), -1)
    clusters = MiniBatchKMeans(size, random_state=int(rng.integers(2**31)), n_init=3, batch_size=1024)
    member = clusters.fit_predict(flat)
    best = [candidates[member == k][margin[candidates[member == k]].argmin()] for k in np.unique(member)]
    rest = candidates[~np.isin(candidates, best)]
    return np.array([*best, *rest][:size], dtype=np.int64)
