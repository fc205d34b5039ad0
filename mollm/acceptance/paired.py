"""Whether something new is better than what is there, judged on the same items: exact and paired.

Only items on which the two differ say anything: `gained` are right only with the new, `lost` only with the old. If
neither were better, each of these would be a fair coin, so that the one-sided exact p-value (McNemar 1947) is

    p = P(Binomial(gained + lost, 1/2) >= gained)

Whoever tries often finds something by chance: the k-th try may be wrong with alpha / (k (k + 1)), which sums to alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from mollm.errors import InputError
from mollm.records import BoolArray

ALPHA = 0.05  # the chance that any of all tries is taken although none is better
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Paired:
    """On `n` items the accuracies `before` and `after`; `low` and `high` hold their difference with 95 %.

    `alpha`: what p had to be at most. The interval is Wald's with one item more in each cell of disagreement (Bonett
    and Price 2012, doi 10.3102/1076998611411915).
    """

    n: int
    before: float
    after: float
    gained: int
    lost: int
    p: float
    alpha: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        return self.p <= self.alpha

    def lines(self) -> list[str]:
        """For people."""
        verdict = "better" if self.better else "not shown to be better: nothing is changed"
        return [
            f"right before {self.before:.3f}, after {self.after:.3f}, on the same {self.n} labels of people that the "
            "proposal did not see",
            f"difference {self.after - self.before:+.3f} ({self.low:+.3f} to {self.high:+.3f}); {self.gained} gained, "
            f"{self.lost} lost; exact paired p {self.p:.3f}, asked for at most {self.alpha:.3f}: {verdict}",
        ]


def judged(before: BoolArray, after: BoolArray, attempt: int = 1) -> Paired:
    """Compare which of n items are right `before` (n,) and `after` (n,), at the `attempt`-th try (from 1).

    Raises InputError where the two are not of the same items, or there are none.
    """
    if before.shape != after.shape or not len(before):
        raise InputError("The comparison needs the same items before and after, and at least one.")
    n, gained, lost = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    p = float(binom.sf(gained - 1, gained + lost, 0.5)) if gained + lost else 1.0
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt(max(up + down - (up - down) ** 2, 0.0) / (n + 2))
    low, high = max(up - down - half, -1.0), min(up - down + half, 1.0)
    right = float(np.mean(before)), float(np.mean(after))
    return Paired(n, *right, gained, lost, p, ALPHA / (attempt * (attempt + 1)), low, high)
