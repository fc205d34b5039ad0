"""Several people on one task: how often each is right, and the weights of their labels.

Dawid and Skene (1979) with one figure a person (the one-coin model), on the tasks that several people labelled:

    P(person j says k | truth t) = r[j] if k = t, else (1 - r[j]) / (C - 1)

fitted by EM. r[j] is shrunk to the mean of all people by `STRENGTH` pseudo-labels, and that mean to `PRIOR`, so that a
few shared tasks change r[j] little. The truth is inferred from the people's labels alone. If the mixture had a vote,
people who follow it would get higher weights. The `evidence` of a label (its provenance weight) is the exponent of
its factor in the likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mollm.errors import InputError
from mollm.metrics import Estimate, beta, wilson
from mollm.records import BoolArray, FloatArray, IntArray

PRIOR = 0.9  # reliability of a person without data (chosen by hand: higher makes a majority decide more clearly)
STRENGTH = 10.0  # pseudo-labels (chosen by hand: more judges people later, fewer judges them by chance agreement)
LEAST = 0.05  # least weight, 1 being an ordinary one (chosen by hand): a label that others contradict may be right
_ROUNDS = 100  # EM steps at most: it ends earlier, when no reliability changes by 1e-6


@dataclass(frozen=True)
class Person:
    """One of P people. `shared` of their `labels` are on tasks that others labelled too. If there are none,
    `agreement` (with the others) and `reliability` (r) are None: nothing is known."""

    labels: int
    shared: int
    agreement: Estimate | None = None
    reliability: Estimate | None = None


@dataclass(frozen=True)
class Combined:
    """`weight` (H,) of each label, 1 for an ordinary one; `people` (P,) in the order of their numbers."""

    weight: FloatArray
    people: tuple[Person, ...]


def combine(item: IntArray, person: IntArray, label: IntArray, evidence: FloatArray, C: int) -> Combined:
    """Weigh H labels, one a person and item: `item` (H,) any whole numbers, `person` (H,) in 0..P-1, `label` (H,).

    `evidence` (H,) in 0..1 is each label's provenance weight; `weight` does not include it. If no task has two people,
    all weights are 1. Else a weight is how far the label's posterior probability lies above chance, divided by the same
    for a single label of an average person; equal labels of one task share it. Raises InputError for unequal lengths.
    """
    if not len(item) == len(person) == len(label) == len(evidence):
        raise InputError("Labels need one item, person, label and evidence each.")
    H, P = len(item), int(person.max()) + 1 if len(person) else 0
    _, task = np.unique(item, return_inverse=True)
    shared = _shared(task, person)
    if C < 2 or not shared.any():
        counts = np.bincount(person, minlength=P)
        return Combined(np.ones(H), tuple(Person(int(n), 0) for n in counts))
    right, counted, mean = _fit(task, person, label, evidence, shared, C, P)
    reliable = (right + STRENGTH * mean) / (counted + STRENGTH)
    overlaps = np.bincount(person, shared, minlength=P) > 0
    posterior = _posterior(task, person, label, evidence, reliable, C)[task, label]
    same = np.bincount(task * C + label)[task * C + label]
    ordinary = max((C * mean - 1) / (C - 1), 0.1)
    weight = np.maximum((C * posterior - 1) / (C - 1) / ordinary, LEAST) / same
    weight[~shared & ~overlaps[person]] = 1.0
    return Combined(weight, tuple(_people(task, person, same, shared, right, counted, mean)))


def _shared(task: IntArray, person: IntArray) -> BoolArray:
    """(H,) True where another person has labelled the same task."""
    pairs = np.unique(np.stack([task, person]), axis=1)
    return np.asarray(np.bincount(pairs[0])[task] > 1)


def _fit(
    task: IntArray, person: IntArray, label: IntArray, evidence: FloatArray, shared: BoolArray, C: int, P: int
) -> tuple[FloatArray, FloatArray, float]:
    """EM: (expected right labels (P,), all labels (P,), mean reliability). Labels are counted by `evidence`."""
    counts = _sums(person, evidence * shared, P)
    right: FloatArray = np.zeros(P)
    reliable: FloatArray = np.full(P, PRIOR)
    mean = PRIOR
    for _round in range(_ROUNDS):
        posterior = _posterior(task, person, label, evidence, reliable, C)[task, label]
        right = _sums(person, evidence * shared * posterior, P)
        mean = float((right.sum() + STRENGTH * PRIOR) / (counts.sum() + STRENGTH))
        before, reliable = reliable, (right + STRENGTH * mean) / (counts + STRENGTH)
        if np.abs(reliable - before).max() < 1e-6:
            break
    return right, counts, mean


def _sums(person: IntArray, amount: FloatArray, P: int) -> FloatArray:
    return np.asarray(np.bincount(person, amount, minlength=P), dtype=np.float64)


def _posterior(
    task: IntArray, person: IntArray, label: IntArray, evidence: FloatArray, reliable: FloatArray, C: int
) -> FloatArray:
    """(tasks, C): the posterior of the true class from the people's labels, from a uniform prior."""
    r = np.clip(reliable, 1e-3, 1 - 1e-3)[person]
    gain = evidence * (np.log(r) - np.log((1 - r) / (C - 1)))
    logits = np.zeros((int(task.max()) + 1, C))
    np.add.at(logits, (task, label), gain)
    rows = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def _people(
    task: IntArray, person: IntArray, same: IntArray, shared: BoolArray, right: FloatArray, counted: FloatArray,
    mean: float,
) -> list[Person]:  # fmt: skip
    """One Person for each of P people. `same` (H,): how many labels of the same task are equal, itself included."""
    agreed = (same - 1) / np.maximum(np.bincount(task)[task] - 1, 1)
    found = []
    for j in range(len(right)):
        mine = person == j
        rows = mine & shared
        if not rows.any():
            found.append(Person(int(mine.sum()), 0))
            continue
        success = right[j] + STRENGTH * mean
        failure = counted[j] - right[j] + STRENGTH * (1 - mean)
        agreement = wilson(float(agreed[rows].mean()), int(rows.sum()))
        found.append(Person(int(mine.sum()), int(rows.sum()), agreement, beta(success, max(failure, 1e-6))))
    return found
