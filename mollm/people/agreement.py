"""How far people agree with each other and with the LLMs: raw agreement, Cohen's kappa and Krippendorff's alpha.

All three are one minus a share of pairs that differ, in units of what is expected:

    1 - Do / De      Do: the share of pairs of labels of one task that differ
                     De = 1 for raw agreement
                     De = 1 - sum_c p[c] q[c] for kappa: the two raters' own shares of the classes (Cohen 1960)
                     De = 1 - sum_c n[c] (n[c] - 1) / (n (n - 1)) for alpha: all n labels pooled (Krippendorff 2011)

The interval is Clopper and Pearson's of Do at the effective number of tasks (Korn and Graubard 1998), divided by De.
That number is the lower of two: as if De were known, and with what each task moves in De (the linearised ratio). With
two raters the first decides, with many the second. In simulations of 30 tasks with good agreement, where this interval
covers 95 % or more, the normal approximation on a jackknife covers 70 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mollm.errors import InputError
from mollm.metrics import Estimate, Figure, clopper_pearson, effective, weighted_share
from mollm.records import FloatArray, IntArray

MISSING = -1
"""In an array of an LLM's labels: it abstained, or has not answered."""
NO_PAIRS = "no task has two labels"
CONSTANT = "one of the two always gave the same label"
MANY = "kappa is defined for two raters"
ONE_LABEL = "all labels are the same"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Figures from `n` tasks that have two labels or more."""

    n: int
    raw: Figure
    kappa: Figure
    alpha: Figure

    def lines(self) -> list[str]:
        """One line a figure, for people."""
        return [
            f"the same label: {self.raw.line()}",
            f"Cohen's kappa (0: as chance, 1: always): {self.kappa.line()}",
            f"Krippendorff's alpha (0: as chance, 1: always): {self.alpha.line()}",
        ]

    def as_json(self) -> dict[str, object]:
        """`n`, and `raw`, `kappa`, `alpha` as Figure.as_json gives them."""
        return {"n": self.n, "raw": self.raw.as_json(), "kappa": self.kappa.as_json(), "alpha": self.alpha.as_json()}


def between_people(item: IntArray, rater: IntArray, label: IntArray, C: int) -> Agreement:
    """The agreement of people on tasks that several labelled; kappa only where exactly two people did.

    H labels, at most one a person and task: `item` (H,), `rater` (H,) any whole numbers, `label` (H,) in 0..C-1. In raw
    agreement and alpha each label counts the same, so a task of more people weighs more. Raises InputError.
    """
    _check(item, label, C)
    if len(rater) != len(item) or np.unique(np.stack([item, rater]), axis=1).shape[1] < len(item):
        raise InputError("Agreement needs one label for each person and task: drop all but the last one.")
    _tasks, task, sizes = np.unique(item, return_inverse=True, return_counts=True)
    shared = sizes[task] > 1
    item, rater, label = item[shared], rater[shared], label[shared]
    labels, size = _table(item, label, C), sizes[sizes > 1]
    differ = 1 - (labels * (labels - 1)).sum(axis=1) / (size * (size - 1))
    people = np.unique(rater)
    tables = [_table(item[rater == r], label[rater == r], C) for r in people] if len(people) == 2 else []
    return _agreement(differ, labels, tables)


def with_llms(item: IntArray, label: IntArray, said: IntArray, C: int) -> tuple[Agreement, ...]:
    """The agreement of people, taken as one rater, with each of M LLMs.

    H human labels: `item` (H,) in 0..N-1, `label` (H,) in 0..C-1; `said` (N, M): each LLM's label, or MISSING. Each
    task counts once: several people share it. Raises InputError for a label or an item out of range.
    """
    _check(item, label, C, said)
    tasks = np.unique(item)
    counts = _table(item, label, C)
    people = counts / counts.sum(axis=1, keepdims=True)  # (tasks, C)
    return tuple(_with_llm(people, answers[tasks]) for answers in said.T)


def _with_llm(people: FloatArray, answer: IntArray) -> Agreement:
    """`people` (tasks, C): the share of people who gave each label; `answer` (tasks,): the LLM's, or MISSING."""
    people, answer = people[answer != MISSING], answer[answer != MISSING]
    llm = np.eye(people.shape[1])[answer]
    return _agreement(1 - (people * llm).sum(axis=1), people + llm, [people, llm])


def confusion(item: IntArray, label: IntArray, said: IntArray, C: int) -> IntArray:
    """(M, C, C): how often people gave each label (rows) where an LLM, or the mixture, gave each (columns).

    Arguments as of `with_llms`; M = 1 for the mixture alone. Each human label counts once.
    """
    _check(item, label, C, said)
    found = np.zeros((said.shape[1], C, C), dtype=np.int64)
    row, m = np.nonzero(said[item] != MISSING)
    np.add.at(found, (m, label[row], said[item[row], m]), 1)
    return found


def labels_of(label_probs: FloatArray) -> IntArray:
    """(N, M): each LLM's most probable label from `label_probs` (N, M, C); MISSING where its row is NaN or all 0."""
    mass = np.nan_to_num(label_probs)
    return np.where(mass.any(axis=2), mass.argmax(axis=2), MISSING)


def _check(item: IntArray, label: IntArray, C: int, said: IntArray | None = None) -> None:
    if len(item) != len(label):
        raise InputError("Agreement needs one item for each label.")
    if len(label) and not (label.min() >= 0 and label.max() < C):
        raise InputError(f"A label is not in 0..{C - 1}: drop labels that are not in the label set.")
    if said is None:
        return
    if said.size and not (said.min() >= MISSING and said.max() < C):
        raise InputError(f"An LLM's label is not in 0..{C - 1}: give {MISSING} where it has none.")
    if len(item) and not (item.min() >= 0 and item.max() < len(said)):
        raise InputError("A labelled item has no row in the LLMs' labels.")


def _table(item: IntArray, label: IntArray, C: int) -> FloatArray:
    """(tasks, C): how many people gave each label, tasks in the order of their numbers."""
    tasks, task = np.unique(item, return_inverse=True)
    return np.bincount(task * C + label, minlength=len(tasks) * C).reshape(len(tasks), C).astype(np.float64)


def _agreement(differ: FloatArray, labels: FloatArray, raters: list[FloatArray]) -> Agreement:
    """`differ` (n,): the share of each task's pairs that differ; `labels` (n, C): how often each class was given.

    `raters`: of two raters each one's labels, (n, C) with rows that sum to 1; empty if there are more.
    """
    n, weight = len(differ), labels.sum(axis=1)
    if not n:
        nothing = Figure(0, None, NO_PAIRS)
        return Agreement(0, nothing, nothing, nothing)
    differing = weighted_share(differ, weight)
    raw = Estimate(1 - differing.value, 1 - differing.high, 1 - differing.low)
    if np.count_nonzero(labels.sum(axis=0)) < 2:
        alpha = Figure(n, None, ONE_LABEL)
    else:
        shares = labels / weight[:, None]
        alpha = Figure(n, _beyond_chance(differ, weight, shares, shares, weight.sum() / (weight.sum() - 1)))
    if not raters:
        kappa = Figure(n, None, MANY)
    elif min(np.count_nonzero(given.sum(axis=0)) for given in raters) < 2:
        kappa = Figure(n, None, CONSTANT)
    else:
        kappa = Figure(n, _beyond_chance(differ, weight, raters[0], raters[1]))
    return Agreement(n, Figure(n, raw), kappa, alpha)


def _beyond_chance(
    differ: FloatArray, weight: FloatArray, first: FloatArray, second: FloatArray, factor: float = 1.0
) -> Estimate:
    """1 - Do / De with De = factor (1 - sum_c p[c] q[c]); p and q are the means of `first` and `second` (n, C)."""
    weight = weight / weight.sum()
    p, q = weight @ first, weight @ second
    observed, expected = float(weight @ differ), factor * (1 - float(p @ q))
    moved = factor * (1 - first @ q - second @ p + p @ q) - expected  # (n,) what each task adds to De, from its mean
    n = min(effective(differ, weight), effective(differ, weight, observed / expected * moved))
    differing = clopper_pearson(min(observed, 1.0), n)
    value, low, high = (1 - share / expected for share in (differing.value, differing.high, differing.low))
    return Estimate(value, max(low, -1.0), high)
