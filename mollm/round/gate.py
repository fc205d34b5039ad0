"""The gate: a candidate version is refused only when it is significantly worse than the published one.

Both are compared on the human labels that both have scored, by cross-fitted log-loss (nats a label), paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

MIN_LABELS = 30  # common labels (chosen by hand): with fewer, chance would refuse good candidates
LEVEL = 0.025  # of the one-sided test (the usual 95 % interval): an equally good candidate is refused once in 40


@dataclass(frozen=True, slots=True)
class Verdict:
    """`difference` (nats a label): candidate minus published, above 0 is worse. `labels`: how many were compared."""

    accepted: bool
    labels: int
    difference: float
    p_worse: float

    @property
    def line(self) -> str:
        if self.labels < MIN_LABELS:
            return f"accepted ({self.labels or 'no'} labels to compare; from {MIN_LABELS} on a worse one is refused)"
        word = "accepted" if self.accepted else "refused: significantly worse"
        return (
            f"{word}: {self.difference:+.3f} nats a label against the published version "
            f"on {self.labels} labels (one-sided p = {self.p_worse:.3f})"
        )


def compare(candidate: Mapping[str, float], published: Mapping[str, float]) -> Verdict:
    """Paired one-sided t-test over the labels that both scored. Losses (nats) are cross-fitted, by the label's key.

    With fewer than MIN_LABELS common labels a candidate is always accepted.
    """
    common = sorted(candidate.keys() & published.keys())
    if not common:
        return Verdict(True, 0, 0.0, 1.0)
    differences = np.array([candidate[key] - published[key] for key in common])
    mean = float(differences.mean())
    if len(common) < MIN_LABELS or not differences.any():
        return Verdict(True, len(common), mean, 1.0)
    spread = float(differences.std(ddof=1))
    p = float(special.stdtr(len(common) - 1, -mean / (spread / len(common) ** 0.5))) if spread > 0 else float(mean <= 0)
    return Verdict(p >= LEVEL, len(common), mean, p)
