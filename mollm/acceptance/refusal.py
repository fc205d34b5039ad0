"""What would have sufficed after a refusal. Plans for the next audit, no promises: they look at the answers."""

from __future__ import annotations

import numpy as np

from mollm.acceptance.audit import Design
from mollm.acceptance.certificate import certify, share_of
from mollm.acceptance.tails import simple_tail
from mollm.records import BoolArray, IntArray

FACTORS = np.arange(1.0, 20.01, 0.1)  # a larger audit than 20 of the last one is no plan
TARGETS = np.arange(0.995, 0.495, -0.005)  # below one half no team accepts anything


def more(design: Design, places: IntArray, wrong: BoolArray, target: float, alpha: float) -> int | None:
    """How many audits would certify something, were their errors as frequent as in this one; None: no number would.

    The test must pass at its first step, the `design.start` most confident tasks.
    """
    first = int(design.ends[0])
    audits, errors = int((places < first).sum()), int(wrong[places < first].sum())
    n, e = np.ceil(audits * FACTORS).astype(np.int64), np.ceil(errors * FACTORS).astype(np.int64)
    possible = n < first
    n, e = n[possible], e[possible]
    tail = simple_tail(e, n, np.full_like(n, first), share_of(target)(first - n) + 1 + e)
    enough = np.flatnonzero(tail <= alpha)
    return int(np.ceil(design.labels * FACTORS[possible][enough[0]])) if len(enough) else None


def reachable(design: Design, places: IntArray, wrong: BoolArray, alpha: float) -> float | None:
    """The largest target at which these answers would have certified something; None: none from one half on."""
    for target in TARGETS:
        if certify(design, places, wrong, share_of(float(target)), alpha).tasks:
            return round(float(target), 3)
    return None
