"""Scores against gold, and paired comparisons over seeds. Gold enters mollm here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from mollm.metrics import ece, log_losses
from mollm.mixture.best_annotator_picked import answers_of
from mollm.records import BoolArray, FloatArray, IntArray, Signals


@dataclass(frozen=True)
class Score:
    """`accuracy` (share), `ece` (top label, 15 equal-width bins), `log_loss` (nats), all on the scored items."""

    accuracy: float
    ece: float
    log_loss: float

    @classmethod
    def of(cls, probs: FloatArray, gold: IntArray, scored: BoolArray) -> Score:
        """Of probs (N, C) on the items that are `scored` (N,) and whose gold is known."""
        chosen = scored & (gold >= 0)
        p, truth = probs[chosen], gold[chosen]
        if not len(p):
            return cls(float("nan"), float("nan"), float("nan"))
        right = p.argmax(axis=1) == truth
        return cls(float(right.mean()), ece(p, truth), float(log_losses(p, truth).mean()))


def best_annotator(signals: Signals, gold: IntArray, scored: BoolArray) -> FloatArray:
    """(N, C) the answers of the one annotator that turns out best on the scored items: hindsight, never a method."""
    answers = answers_of(signals)
    chosen = scored & (gold >= 0)
    right = (answers[chosen].argmax(axis=2) == gold[chosen][:, None]).mean(axis=0)
    return answers[:, int(right.argmax())]


def paired_gain(ours: Sequence[float], theirs: Sequence[float]) -> list[float | None]:
    """Mean difference over paired seeds and its 95 % t interval [mean, low, high]; no interval for one seed."""
    gain = np.asarray(ours) - np.asarray(theirs)
    if len(gain) < 2:
        return [float(gain.mean()), None, None]
    half = float(student.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)))
    return [float(gain.mean()), float(gain.mean() - half), float(gain.mean() + half)]
