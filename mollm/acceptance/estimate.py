"""How right is the open rest? An estimate from an audit drawn at random from all of it, at every stage of a project.

Before any audit nothing is known: the labelled tasks were chosen because they are hard, and the mixture's own
confidence is a guess. With an audit, prediction-powered inference (Angelopoulos et al. 2023): the mean confidence of
all open tasks, corrected by how far it was off on the audited ones. Where few errors are to be expected, the plain
share of the audit: its exact interval is then the narrower one. The rule looks at the confidence alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mollm.errors import InputError
from mollm.metrics import Estimate, Figure, Z, clopper_pearson
from mollm.records import BoolArray, FloatArray

FEW = 10.0  # expected errors in the audit below which the plain share is used: their spread cannot be measured yet
GAIN = 3.0  # an audit counts as at most so many of its size (chosen by hand: more would rest on the confidence alone)


def accuracy(right: BoolArray, audited: FloatArray, rest: FloatArray) -> Figure:
    """The share of the open tasks of which the prediction is what people say, with its 95 % interval.

    `right` (n,) on the audited tasks and `audited` (n,) their confidence; `rest` (K,) the confidence of all tasks that
    the audit was drawn from, at random. Raises InputError for unequal lengths.
    """
    n = len(right)
    if n != len(audited) or n > len(rest):
        raise InputError(f"{n} audited answers, {len(audited)} confidences and {len(rest)} tasks do not fit together.")
    if not n:
        return Figure(0, None, f"not known yet: answer {needed(rest)} audits to know it to +- 5 points")
    if not powered(rest, n):
        return Figure(n, clopper_pearson(float(right.mean()), n))
    off = right - audited
    share = float(np.clip(rest.mean() + off.mean(), 0.0, 1.0))
    spread = max(float(off.var(ddof=1)), float((audited * (1 - audited)).mean()))
    worth = float(np.clip(share * (1 - share) / spread, 1.0, GAIN))
    return Figure(n, clopper_pearson(share, n * worth))


def pooled(right: Sequence[BoolArray]) -> Figure:
    """The mean accuracy on the tasks that several audits were drawn from, each audit weighted by its answers.

    `right` of each audit, (n,), drawn at random from what was open then. The open tasks changed between the audits, so
    the answers are trials of unequal shares; their sum varies less than trials of one share (Hoeffding 1956), and
    Clopper and Pearson's interval covers the mean share.
    """
    together = np.concatenate([np.zeros(0, dtype=np.bool_), *right])
    if not len(together):
        return Figure(0, None, "none of them is answered yet")
    return Figure(len(together), clopper_pearson(float(together.mean()), len(together)))


def powered(rest: FloatArray, n: int) -> bool:
    """Whether an audit of n is read by prediction-powered inference; fixed before any answer is seen."""
    return n * float(1 - rest.mean()) >= FEW


def needed(rest: FloatArray, half: float = 0.05) -> int:
    """How many audits make the interval of the accuracy about `half` wide to each side (if the confidence is right).

    At least what shows an accuracy of almost 1 so closely, at most all K tasks.
    """
    share = float(rest.mean())
    spread = float((rest * (1 - rest)).mean())
    for n in range(10, len(rest)):
        worth = float(np.clip(share * (1 - share) / max(spread, 1e-12), 1.0, GAIN)) if powered(rest, n) else 1.0
        found: Estimate = clopper_pearson(share, n * worth)
        if max(share - found.low, found.high - share) <= half:
            return n
        if n > (Z / half) ** 2:  # wider than any share's interval at this n: no share needs more
            return n
    return len(rest)


def left_to_people(accuracy: float, target: float) -> float:
    """The share of the open tasks that any rule must leave to people where so many are right: (mu - a) / (1 - a).

    mu is the error of the rest, a the error that the target allows: even a rule that accepts every right task can
    add only so many wrong ones.
    """
    error, bearable = 1 - accuracy, 1 - target
    return max(0.0, (error - bearable) / (1 - bearable)) if bearable < 1 else 0.0
