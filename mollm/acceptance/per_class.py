"""Precision, recall and F1 of each class in a pool, from a random sample that people labelled.

The predicted label of every pool task is known; its true label is known in the sample. So the pool falls into two parts
of known size: the K tasks that are predicted as class c, and the N - K others. A share is estimated in each:

    TP = K x (share of truth c among the predicted)          precision = TP / K
    FN = (N - K) x (share of truth c among the others)       recall = TP / (TP + FN) = 1 / (1 + FN / TP)
                                                             F1 = 2 F / (1 + F) with F = TP / (K + FN)

Weights are first scaled so that each predicted label has its known size in the pool (post-stratification, Holt and
Smith 1979). The shares have Clopper and Pearson's intervals at the effective n (Korn and Graubard 1998). Recall and F1
each follow one ratio of two independent figures, and their intervals that ratio's (Donner and Zou 2012). A plain share
of the sampled tasks of class c would not do for recall in a stratified sample: where it sees no miss, it does not know
that an unseen one may stand for many tasks (Webber 2013). A small pool makes no interval narrower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mollm.errors import InputError
from mollm.metrics import Estimate, Figure, weighted_share
from mollm.records import BoolArray, FloatArray, IntArray

NO_TRUTH = "no sampled task has this true label"
NO_PREDICTED = "no sampled task has this predicted label"
NO_OTHER = "no sampled task has another predicted label"


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class. n counts sampled tasks: those predicted as it (precision), those that are it (recall), either (F1)."""

    precision: Figure
    recall: Figure
    f1: Figure

    def line(self) -> str:
        return f"precision {self.precision.line()}, recall {self.recall.line()}, F1 {self.f1.line()}"


@dataclass(frozen=True)
class PerClass:
    """`classes`: C figures. Rows are true and columns predicted labels in `counts` (C, C), the sampled tasks, and in
    `estimated` (C, C), the pool's tasks; a predicted label that has no sampled task has a column of NaN."""

    classes: tuple[ClassFigures, ...]
    counts: IntArray
    estimated: FloatArray

    def lines(self, names: Sequence[str]) -> list[str]:
        """One line a class for people; `names` (C,) are the labels."""
        return [f"{name}: {found.line()}" for name, found in zip(names, self.classes, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """`classes`, `counts`, `estimated` (None for NaN)."""
        classes = [
            {"precision": found.precision.as_json(), "recall": found.recall.as_json(), "f1": found.f1.as_json()}
            for found in self.classes
        ]
        estimated = [[None if np.isnan(x) else float(x) for x in row] for row in self.estimated]
        return {"classes": classes, "counts": self.counts.tolist(), "estimated": estimated}


def per_class(truth: IntArray, predicted: IntArray, weight: FloatArray, pool: IntArray) -> PerClass:
    """The figures of C classes from n sampled tasks: `truth` (n,) and `predicted` (n,) in 0..C-1.

    `weight` (n,) is how many pool tasks each stands for (its inverse inclusion probability, up to a factor); `pool`
    (C,) how many tasks of the pool have each predicted label. Raises InputError for arrays that do not fit together.
    """
    _check(truth, predicted, weight, pool)
    C = len(pool)
    cell = truth * C + predicted
    counts = np.bincount(cell, minlength=C * C).reshape(C, C)
    seen = np.bincount(predicted, weight, minlength=C)
    scale = np.divide(pool, seen, out=np.full(C, np.nan), where=seen > 0)
    weight = weight * scale[predicted]
    estimated: FloatArray = np.bincount(cell, weight, minlength=C * C).reshape(C, C).astype(np.float64)
    estimated[:, (seen == 0) & (pool > 0)] = np.nan
    classes = tuple(_figures(truth == c, predicted == c, weight, int(pool[c]), int(pool.sum())) for c in range(C))
    return PerClass(classes, counts, estimated)


def _check(truth: IntArray, predicted: IntArray, weight: FloatArray, pool: IntArray) -> None:
    if not len(truth) == len(predicted) == len(weight):
        raise InputError("A sample needs one true label, predicted label and weight for each task.")
    if len(truth) and not (min(truth.min(), predicted.min()) >= 0 and max(truth.max(), predicted.max()) < len(pool)):
        raise InputError(f"A label of the sample is not in 0..{len(pool) - 1}: give `pool` one count for each class.")
    if not np.all(np.isfinite(weight) & (weight > 0)):
        raise InputError("A weight of the sample is not above 0: give each task its inverse inclusion probability.")
    if np.any(np.bincount(predicted, minlength=len(pool)) > pool):
        raise InputError("The sample has more tasks of a predicted label than `pool`: count all tasks of the pool.")


def _figures(true: BoolArray, said: BoolArray, weight: FloatArray, K: int, N: int) -> ClassFigures:
    """One class. `true`, `said` (n,): a sampled task is it, is predicted as it; K of the N pool tasks are predicted."""
    n_true, n_said, n_either = int(true.sum()), int(said.sum()), int((true | said).sum())
    found, lost = _size(true[said], weight[said], K), _size(true[~said], weight[~said], N - K)
    precision = Figure(n_said, _times(found, 1 / K)) if n_said and found else Figure(0, None, NO_PREDICTED)
    if found is None or lost is None:
        reason = NO_PREDICTED if found is None else NO_OTHER
        return ClassFigures(precision, Figure(n_true, None, reason), Figure(n_either, None, reason))
    recall = Figure(n_true, _recall(found, lost)) if n_true else Figure(0, None, NO_TRUTH)
    f1 = Figure(n_either, _f1(found, lost, K)) if n_either else Figure(0, None, NO_TRUTH)
    return ClassFigures(precision, recall, f1)


def _size(true: BoolArray, weight: FloatArray, size: int) -> Estimate | None:
    """How many of `size` pool tasks are of the class, from those of them that were sampled; None if none was."""
    if not size:
        return Estimate(0.0, 0.0, 0.0)
    return _times(weighted_share(true.astype(np.float64), weight), size) if len(true) else None


def _times(figure: Estimate, factor: float) -> Estimate:
    return Estimate(figure.value * factor, figure.low * factor, figure.high * factor)


def _recall(found: Estimate, lost: Estimate) -> Estimate:
    low, high = _ratio(lost, found)
    return Estimate(found.value / (found.value + lost.value), 1 / (1 + high), 1 / (1 + low))


def _f1(found: Estimate, lost: Estimate, K: int) -> Estimate:
    involved = Estimate(K + lost.value, K + lost.low, K + lost.high)
    low, high = _ratio(found, involved)
    value, low, high = (2 * f / (1 + f) for f in (found.value / involved.value, low, min(high, 1.0)))
    return Estimate(value, low, high)


def _ratio(top: Estimate, bottom: Estimate) -> tuple[float, float]:
    """95 % limits of top / bottom, two independent figures of at least 0 (MOVER-R: Donner and Zou 2012).

    Written so that no difference is a divisor. A limit is infinite where `bottom` may be 0.
    """
    product = top.value * bottom.value
    least, most = top.low * (2 * top.value - top.low), top.high * (2 * top.value - top.high)
    below, above = bottom.low * (2 * bottom.value - bottom.low), bottom.high * (2 * bottom.value - bottom.high)
    divisor = product + max(product**2 - least * above, 0.0) ** 0.5
    low = least / divisor if divisor > 0 else (math.inf if least > 0 else 0.0)
    high = (product + max(product**2 - most * below, 0.0) ** 0.5) / below if below > 0 else math.inf
    return low, high
