"""The label-free pool on every panel of two members and more that a recording's LLMs can form.

    python -m tests.lab.panels RECORDING [--encoder DIRECTORY] [--items 160]

prints how right the pool is before any label, the pool with equal weights, and the best member alone, and what is won
over equal weights: on every second panel, on which the rule was chosen, and on the others, which were seen with earlier
versions of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from mollm import recording
from mollm.classifier.encoder import Encoder
from mollm.metrics import log_losses
from mollm.mixture.logpool import LogPool
from mollm.records import FloatArray, IntArray, Pool, Signals
from mollm.round.reading import flat


@dataclass(frozen=True)
class Row:
    """One panel: its members, and (accuracy, log-loss in nats) of the pool, of equal weights, of the best member."""

    members: tuple[str, ...]
    pool: tuple[float, float]
    equal: tuple[float, float]
    best: tuple[float, float]


def members(signals: Signals, chosen: Sequence[int]) -> Signals:
    """The signals of some annotators alone."""
    at = list(chosen)
    names = tuple(signals.annotators[m] for m in at)
    return replace(signals, annotators=names, label_probs=signals.label_probs[:, at], votes=signals.votes[:, at])


def pooled(pool: Pool, gold: IntArray, given: FloatArray | None) -> tuple[float, float]:
    """Accuracy and log-loss of the pool; `given` shares, or those that it finds."""
    probs = LogPool(None, given).fit(pool, rng=np.random.default_rng(0)).predict_proba(pool.signals)
    return float((probs.argmax(axis=1) == gold).mean()), float(log_losses(probs, gold).mean())


def rows(signals: Signals, gold: IntArray, embeddings: FloatArray | None) -> list[Row]:
    """Every panel, smaller ones first."""
    M = range(signals.M)
    alone = [pooled(Pool(members(signals, [m])), gold, None) for m in M]
    found = []
    for chosen in (at for size in M[2:] for at in combinations(M, size)):
        panel = members(signals, chosen)
        pool = Pool(panel, embeddings=embeddings)
        equal = pooled(pool, gold, np.ones(panel.M))
        found.append(Row(panel.annotators, pooled(pool, gold, None), equal, max(alone[m] for m in chosen)))
    whole = Pool(signals, embeddings=embeddings)
    return [
        *found,
        Row(signals.annotators, pooled(whole, gold, None), pooled(whole, gold, np.ones(len(M))), max(alone)),
    ]


def summary(name: str, some: Sequence[Row]) -> str:
    """What is won over equal weights, and how far the best member is ahead where it is by .01 over equal weights."""
    gain = np.array([row.pool[0] - row.equal[0] for row in some])
    nats = np.array([row.pool[1] - row.equal[1] for row in some])
    behind = [row.best[0] - row.pool[0] for row in some if row.best[0] > row.equal[0] + 0.01]
    far = (
        f"; best member ahead {np.mean(behind):+.4f} (worst {max(behind):+.4f}, {len(behind)} panels)" if behind else ""
    )
    return (
        f"{name}: {len(some)} panels, gain {gain.mean():+.4f} (worst {gain.min():+.4f}), "
        f"log-loss {nats.mean():+.3f} (worst {nats.max():+.3f}){far}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recording", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--items", type=int, default=0)
    given = parser.parse_args()
    whole = recording.load(given.recording)
    kept = np.random.default_rng(0).permutation(whole.signals.N)[: given.items or whole.signals.N]
    texts = [whole.items[n].text or "" for n in kept]
    embeddings = None if given.encoder is None else flat(Encoder(given.encoder).embed(texts))
    found = rows(whole.signals.take(kept), whole.gold[kept], embeddings)
    for row in found:
        told = "  ".join(f"{right:.4f} ({nats:.3f})" for right, nats in (row.pool, row.equal, row.best))
        print(f"{' '.join(row.members):40s} {told}")
    print("accuracy (log-loss) of the pool, of equal weights, of the best member alone")
    print(summary("chosen on", found[::2]))
    print(summary("the others", found[1::2]))


if __name__ == "__main__":
    main()
