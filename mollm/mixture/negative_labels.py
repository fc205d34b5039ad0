"""Negative labels: classes that an item very likely does not have, for negative learning (method.md 1.3).

A class must be very unlikely under the mixture *and* under the panel. The threshold is the largest one that keeps
a target precision: by the calibrated probabilities themselves and by the human labels on cross-fitted probabilities.
No calibration from fifty labels sees how often the surest answers are wrong, so what the humans have not tested yet
is taken to be as wrong as labelled data commonly are. With two classes a negative is the positive label again, and
that alone is more than the target allows: there are none until enough labels say better. The paper's fixed threshold
of .001 on the mean of z is the other rule; it is right for .998 of pairs on TREC, but for .967 on PubMed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv

from mollm.records import BoolArray, FloatArray, Targets

TARGET = 0.995  # precision; the paper's rule reaches .967 to .998, by data set (method.md 3d)
PAPER_THRESHOLD = 0.001  # of its published code
CONFIDENCE = 0.95  # of the lower bound that people read
SLIP = 0.02
"""Share of items whose label is a slip, to any other class alike, before anything is tested (Northcutt et al. 2021,
arXiv 2103.14749: 1-4 % of the labels of well-known text data sets)."""
PRIOR_PAIRS = 100
"""Tested pairs that this supposition weighs as much as."""
WORST = 4.0
"""No single negative may be more than this many times less sure than the target asks of all on average."""
GRID = np.geomspace(1e-5, 1.0, 200)  # thresholds to try, as shares of the largest that is allowed


@dataclass(frozen=True)
class NegativeLabels:
    """`mask` (N, C); `count` pairs; `expected` precision by the probabilities; `precision` by the humans' labels.

    `precision` (and its one-sided 95 % `lower` bound) is None where no human-labelled item has a negative.
    """

    mask: BoolArray
    threshold: float
    count: int
    expected: float
    precision: float | None
    lower: float | None

    def explain(self) -> str:
        if not self.count:
            return "no negative labels: none is sure enough by the human labels so far"
        human = "no human label tests them yet"
        if self.precision is not None:
            human = f"right by human labels {self.precision:.4f} (95 % sure: at least {self.lower:.4f})"
        return f"{self.count} negative labels below {self.threshold:.2g}, expected right {self.expected:.4f}, {human}"


def negative_labels(
    probs: FloatArray,
    panel: FloatArray,
    targets: Targets,
    held_out: FloatArray | None = None,
    target: float = TARGET,
    *,
    rule: Literal["precision", "paper"] = "precision",
) -> NegativeLabels:
    """The negatives of N items from calibrated `probs` (N, C) and the panel's own `panel` (N, C).

    `targets` are the H human labels, `held_out` (H, C) the cross-fitted probabilities of their items (None:
    their rows of `probs`, which have seen them). `rule` "paper" takes the published code's threshold instead.
    """
    if rule == "paper":
        return paper_negatives(probs, panel, targets)
    score = _score(probs, panel)
    tested = _score(probs[targets.index] if held_out is None else held_out, panel[targets.index])
    threshold, supposed = 0.0, PRIOR_PAIRS * SLIP / max(probs.shape[1] - 1, 1)
    for candidate in GRID * WORST * (1.0 - target):
        errors, count = _human_errors(tested, targets, candidate)
        right = 1.0 - (errors + supposed) / (count + PRIOR_PAIRS) >= target
        if right and _expected(probs, score <= candidate) >= target:
            threshold = float(candidate)
    return _report(probs, score, tested, targets, threshold)


def paper_negatives(probs: FloatArray, mean_z: FloatArray, targets: Targets) -> NegativeLabels:
    """The published code's rule, for comparison: mean_i z_i[k] <= 0.001, whatever the mixture says."""
    score = _score(mean_z, mean_z)
    return _report(probs, score, score[targets.index], targets, PAPER_THRESHOLD)


def _score(probs: FloatArray, panel: FloatArray) -> FloatArray:
    """The larger of the two; an item's top class under either is never its negative."""
    score = np.maximum(probs, panel)
    rows = np.arange(len(score))
    score[rows, probs.argmax(axis=1)] = score[rows, panel.argmax(axis=1)] = np.inf
    return score


def _expected(probs: FloatArray, mask: BoolArray) -> float:
    return 1.0 - float(probs[mask].mean()) if mask.any() else 1.0


def _human_errors(tested: FloatArray, targets: Targets, threshold: float) -> tuple[int, int]:
    """Of the negatives on human-labelled items: how many are the true class, and how many there are."""
    mask = tested <= threshold
    return int(mask[np.arange(targets.H), targets.label].sum()), int(mask.sum())


def _report(
    probs: FloatArray, score: FloatArray, tested: FloatArray, targets: Targets, threshold: float
) -> NegativeLabels:
    mask = score <= threshold
    errors, count = _human_errors(tested, targets, threshold)
    precision = lower = None
    if count:
        precision = 1.0 - errors / count
        lower = 1.0 - float(betaincinv(errors + 1, count - errors, CONFIDENCE)) if errors < count else 0.0
    return NegativeLabels(mask, threshold, int(mask.sum()), _expected(probs, mask), precision, lower)
