"""The paper's query strategies as its pseudo-code reads, item by item: what `mollm bench select` compares against.

Each gives the same picks as the file of the same name in `mollm/strategies` and is only here to be measured and to
test it. Nothing else imports this file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from mollm.records import FloatArray, IntArray
from mollm.strategies import Candidates
from mollm.strategies.bemps import REFERENCE, ROUNDS, SHORTLIST

Embeddings = NDArray[np.floating]


def coreset(pool: Candidates, batch: int, rng: np.random.Generator) -> IntArray:  # noqa: ARG001
    """For each pick, for each open item: its distance to every centre; take the item whose nearest is farthest."""
    x = pool.embeddings()
    centres = [x[n] for n in pool.labelled]
    return farthest(x, pool.open, centres, batch)


def farthest(x: Embeddings, rows: IntArray, centres: list[Embeddings], batch: int) -> IntArray:
    """arg max over open items of min over centres of the distance, computed anew for each pick."""
    chosen: list[int] = []
    for _ in range(min(batch, len(rows))):
        best, best_distance = -1, -1.0
        known = np.stack(centres)
        for n in rows:
            if int(n) in chosen:
                continue
            distance = float(((known - x[n]) ** 2).sum(axis=1).min())
            if distance > best_distance:
                best, best_distance = int(n), distance
        chosen.append(best)
        centres.append(x[best])
    return np.array(chosen, dtype=np.int64)


def noise_stability(pool: Candidates, batch: int, rng: np.random.Generator) -> IntArray:
    """Concatenated deviations of each item under noise, then the same greedy from the point of no deviation."""
    members = pool.sampled(rng)
    mean = members.mean(axis=0)
    deviation = np.stack([np.concatenate([member[n] - mean[n] for member in members]) for n in range(pool.N)])
    return farthest(deviation, pool.open, [np.zeros(deviation.shape[1])], batch)


def bemps(pool: Candidates, batch: int, rng: np.random.Generator) -> IntArray:
    """For each open item and each label: reweigh the models, predict every reference item anew, compare."""
    members = pool.sampled(rng)
    reference = members[:, rng.permutation(pool.open)[:REFERENCE]]
    before = (reference.mean(axis=0) ** 2).sum(axis=1)
    vectors = np.empty((len(pool.open), reference.shape[1]))
    for row, n in enumerate(pool.open):
        after = np.zeros(reference.shape[1])
        for y in range(members.shape[2]):
            weight = members[:, n, y] / members[:, n, y].sum()
            moved = np.tensordot(weight, reference, axes=1)
            after += members[:, n, y].mean() * (moved**2).sum(axis=1)
        vectors[row] = after - before
    score = vectors.mean(axis=1)
    order = rng.permutation(len(score))  # ties in the order that the fast one shuffles them into
    short = order[np.argsort(-score[order], kind="stable")][: batch * SHORTLIST]
    return pool.open[short[one_a_cluster(vectors[short], score[short], batch, rng)]]


def one_a_cluster(vectors: FloatArray, score: FloatArray, batch: int, rng: np.random.Generator) -> IntArray:
    """k-means, then the member nearest to each centre; the best of the rest fill up."""
    batch = min(batch, len(vectors))
    start = vectors[rng.permutation(len(vectors))[:batch]]
    centres, cluster = kmeans2(vectors, start, iter=ROUNDS, minit="matrix", missing="warn")
    chosen: list[int] = []
    for k in range(batch):
        members = [i for i in range(len(vectors)) if cluster[i] == k]
        if members:
            chosen.append(min(members, key=lambda i: float(((vectors[i] - centres[cluster[i]]) ** 2).sum())))
    chosen += [int(i) for i in np.argsort(-score, kind="stable") if i not in chosen]
    kept = chosen[:batch]
    return np.array(sorted(kept, key=lambda i: -float(score[i])), dtype=np.int64)


def badge(pool: Candidates, batch: int, rng: np.random.Generator) -> IntArray:
    """Every gradient written out, then k-means++: each item's distance to every pick, computed anew for each pick."""
    x = pool.embeddings()
    gradients = []
    for n in pool.open:
        error = pool.probs[n].astype(np.float64)
        error[error.argmax()] -= 1
        gradients.append(np.outer(error, x[n]).ravel())
    chosen = [int(np.argmax([gradient @ gradient for gradient in gradients]))]
    while len(chosen) < min(batch, len(gradients)):
        centres = np.stack([gradients[i] for i in chosen])
        weight = np.array([float(((centres - gradient) ** 2).sum(axis=1).min()) for gradient in gradients])
        total = np.cumsum(weight)
        chosen.append(int(min(np.searchsorted(total, rng.random() * total[-1], side="right"), len(total) - 1)))
    return pool.open[chosen]


PLAIN = {"coreset": coreset, "noise_stability": noise_stability, "bemps": bemps, "badge": badge}
