"""BEMPS with CoreMSE and diversity (Tan et al. 2021, 2023): the items whose label would change the predictions most.

E models have equal weights. A label y for x gives model e the weight w_e(x, y) = p_e(y|x) / sum_f p_f(y|x). CoreMSE is
the expected growth of the squared norm of the prediction at x', which equals the expected fall of its squared error:

    Q(x, x') = sum_y p(y|x) |sum_e w_e(x, y) p_e(.|x')|^2 - |p(.|x')|^2

Expanding the square gives <H(x), G(x')> - |p(.|x')|^2 with H(x) = sum_y p(y|x) w(x, y) w(x, y)^T and
G(x')_ef = p_e(.|x') . p_f(.|x'). So one small matrix for each item replaces a posterior for each (x, y, x').
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2

from mollm.records import FloatArray, IntArray
from mollm.strategies import Picks, Pool, best

REFERENCE = 300  # items x' on which the change is estimated (chosen by hand: more is less noisy and slower)
SHORTLIST = 20  # times the batch: items of highest mean score to cluster (chosen by hand: more is more diverse)
ROUNDS = 10  # of k-means (chosen by hand: only rough clusters are needed)


def bemps(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """One item from each of `batch` clusters: score vectors of the open items with the highest mean score."""
    if not len(pool.open) or batch <= 0:
        return Picks(np.empty(0, dtype=np.int64), np.empty(0))
    members = pool.sampled(rng)
    reference = rng.permutation(pool.open)[:REFERENCE]
    gram, base = reference_terms(members[:, reference])
    spread = reweighing(members[:, pool.open])
    score = spread @ gram.mean(axis=0) - base.mean()
    short = best(np.arange(len(pool.open)), score, batch * SHORTLIST, rng)
    vectors = spread[short.index] @ gram.T - base
    chosen = one_a_cluster(vectors, short.gain, batch, rng)
    return Picks(pool.open[short.index[chosen]], short.gain[chosen])


def reference_terms(members: FloatArray) -> tuple[FloatArray, FloatArray]:
    """G (X, E E) and |p(.|x')|^2 (X,) from `members` (E, X, C)."""
    E, X, _ = members.shape
    gram = np.einsum("exc,fxc->xef", members, members).reshape(X, E * E)
    return gram, (members.mean(axis=0) ** 2).sum(axis=1)


def reweighing(members: FloatArray) -> FloatArray:
    """H (K, E E) from `members` (E, K, C). A label to which all models give probability 0 adds 0."""
    E, K, _ = members.shape
    by_item = members.transpose(1, 0, 2)
    total = np.maximum(by_item.sum(axis=1, keepdims=True), 1e-300)
    scaled = by_item / np.sqrt(total * E)  # sqrt(p(y|x)) w(x, y)
    return np.asarray((scaled @ scaled.transpose(0, 2, 1)).reshape(K, E * E), dtype=np.float64)


def one_a_cluster(vectors: FloatArray, score: FloatArray, batch: int, rng: np.random.Generator) -> IntArray:
    """(B,) the vector nearest to each k-means centre, then the best others up to `batch`, by falling score."""
    batch = min(batch, len(vectors))
    start = vectors[rng.permutation(len(vectors))[:batch]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # equal vectors leave clusters empty; the best others fill up
        centres, cluster = kmeans2(vectors, start, iter=ROUNDS, minit="matrix", missing="warn", check_finite=False)
    distance = ((vectors - centres[cluster]) ** 2).sum(axis=1)
    order = np.lexsort((distance, cluster))
    first = order[np.r_[True, np.diff(cluster[order]) != 0]]
    rest = np.setdiff1d(np.argsort(-score, kind="stable"), first, assume_unique=True)
    chosen = np.concatenate([first, rest])[:batch]
    return np.asarray(chosen[np.argsort(-score[chosen], kind="stable")], dtype=np.int64)
