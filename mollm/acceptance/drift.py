"""Does a certificate still fit what comes in? Evidence from random tasks that people label after it was given.

A likelihood ratio that grows with each wrong answer: errors `TIMES` as frequent as the target bears, against as
frequent as it just bears. While no more are wrong than that, its mean never grows, so that the chance that it ever
reaches `ALARM`, however often one looks, is at most 1 / `ALARM` (Ville 1939).
"""

from __future__ import annotations

import numpy as np

from mollm.records import BoolArray

ALARM = 100.0  # evidence at which a certificate is withdrawn: a false alarm at most once in a hundred certificates
TIMES = 3.0  # chosen by hand: 5 % of errors borne, 15 % found within some 60 answers; fewer are found later


def evidence(right: BoolArray, target: float) -> float:
    """The evidence that more than 1 - `target` are wrong, from `right` (n,) in any order; 1 of no answer."""
    borne = 1 - target
    more = min(TIMES * borne, (1 + borne) / 2)
    step = np.where(right, np.log((1 - more) / (1 - borne)), np.log(more / borne))
    return float(np.exp(step.sum()))
